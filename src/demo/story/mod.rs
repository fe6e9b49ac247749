//! The sample story: eight weeks of a small shop that buys ads. Takes the time at which it ends and
//! the shop's time zone; returns visits, sales and the steps in which they happen. Guarantees the
//! same story for the same input, with an example of every way in which a payment can end. Pure.

mod cases;
mod dice;
mod parts;
mod teller;
mod ways;

use jiff::tz::TimeZone;

use self::dice::Dice;
pub(super) use self::parts::{ITEMS, LINK, LINK_ALIAS, Reference, Step, Story, What};
use self::teller::{SEED, Teller};
use self::ways::{DAYS, WEEKDAYS};
use crate::clock::Timestamp;

/// Builds the story that ends at `now`.
pub(super) fn tell(now: Timestamp, zone: &TimeZone) -> Story {
    let today = now.in_zone(zone).date();
    let begins = first_instant(today, zone, DAYS - 1).unwrap_or(now);
    let mut teller = Teller {
        dice: Dice(SEED),
        ends: now,
        story: Story { begins, visits: Vec::new(), sales: Vec::new(), steps: Vec::new() },
    };
    for day in 0..DAYS {
        let date = first_instant(today, zone, DAYS - 1 - day);
        let weekday = date.unwrap_or(now).in_zone(zone).date().weekday();
        let weekday = usize::try_from(weekday.to_monday_zero_offset()).unwrap_or(0);
        teller.tell_day(day, date.unwrap_or(now), WEEKDAYS[weekday % 7]);
    }
    teller.tell_special_cases();
    teller.tell_last_minutes();
    teller.tell_scanned_cards();
    teller.story.steps.sort_by_key(|step| step.at);
    teller.story
}

fn first_instant(today: jiff::civil::Date, zone: &TimeZone, days_ago: i64) -> Option<Timestamp> {
    let date = today.checked_sub(jiff::Span::new().try_days(days_ago).ok()?).ok()?;
    Timestamp::start_of(date, zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story_at(now: &str) -> Story {
        tell(Timestamp::parse(now).unwrap(), &TimeZone::UTC)
    }

    #[test]
    fn the_same_time_gives_the_same_story() {
        assert_eq!(story_at("2026-09-21T14:13:20Z"), story_at("2026-09-21T14:13:20Z"));
    }

    #[test]
    fn a_story_has_enough_visits_and_sales_and_nothing_after_its_end() {
        for now in ["2026-09-21T00:00:05Z", "2026-03-29T14:00:00Z", "2026-12-31T23:59:59Z"] {
            let story = story_at(now);
            let end = Timestamp::parse(now).unwrap();
            assert!(story.steps.iter().all(|step| step.at < end), "{now}");
            assert!(story.steps.iter().all(|step| step.at >= story.begins), "{now}");
            let webhooks =
                story.steps.iter().filter(|step| matches!(step.what, What::Webhook(..))).count();
            assert!((4000..7000).contains(&story.visits.len()), "{now}: {}", story.visits.len());
            assert!((150..=250).contains(&webhooks), "{now}: {webhooks}");
        }
    }
}
