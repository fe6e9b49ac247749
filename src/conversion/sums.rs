//! Rollups of past days, which reports read instead of conversions.
//! Takes the ledger and a site with its time zone; writes each day's conversions summed by one
//! dimension at a time.
//! Guarantees that no rollup is ever wrong: a transaction that changes a conversion removes its day
//! from the rolled-up days, and from then on reports read that day's conversions. A day is always
//! rolled up from the ledger, never corrected.

use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;

use super::record::Line;
use super::table::{self, Stretch};
use crate::clock::Timestamp;
use crate::settings::Site;
use crate::store::{AnyConnection, Store};

/// How long after its end a day is rolled up: late events about recent payments then cause no extra
/// work.
const OVER: Duration = Duration::from_secs(2 * 3600);
/// Anything younger than this is on no rolled-up day. It is an hour less than `OVER`, because
/// clocks of copies differ.
const JUST_NOW: Duration = Duration::from_secs(3600);
/// Pause between two transactions, so that other writers get their turn.
const PAUSE: Duration = Duration::from_millis(10);

/// Removes the days of these lines from the rolled-up days, in the transaction that changes them: a
/// conversion as it was, and as it is now.
pub(super) async fn unsum(
    tx: &mut AnyConnection,
    now: Timestamp,
    lines: [Option<&Line>; 2],
) -> Result<()> {
    let mut places: Vec<(&str, bool, i64)> = lines
        .into_iter()
        .flatten()
        .filter(|line| line.paid_at.is_some() && now.since(line.occurred_at) > JUST_NOW)
        .map(|line| (line.site_id.as_str(), line.livemode, line.occurred_at.as_ms()))
        .collect();
    // Sorted, so that two transactions that share the lock never wait for each other.
    places.sort_unstable();
    places.dedup();
    if places.is_empty() {
        return Ok(());
    }
    table::share_sums_turn(tx).await?;
    for (site_id, livemode, at_ms) in places {
        table::unsum(tx, site_id, livemode, at_ms).await?;
    }
    Ok(())
}

/// Removes all days from the rolled-up days, in a transaction that writes many conversions.
pub(crate) async fn unsum_all(tx: &mut AnyConnection) -> Result<()> {
    table::unsum_all(tx).await
}

/// Rolls up a site's past days that are not rolled up yet, one per transaction. Returns their
/// number.
///
/// # Errors
/// Fails if the database does not answer; what was rolled up so far is kept.
pub(crate) async fn sum_days(store: &Store, site: &Site, now: Timestamp) -> Result<usize> {
    let (zone, name) = zone_of(&site.timezone);
    let Some((until, _)) = day_of(now.minus(OVER).as_ms(), &zone) else { return Ok(0) };
    let mut days = 0;
    for livemode in [true, false] {
        let of = (site.number, livemode);
        let mut summed = table::summed(store, site.number, livemode).await?;
        let is_own = |((_, to), zone): &(Stretch, String)| *zone == name && *to <= until;
        if !summed.iter().all(is_own) {
            let mut tx = store.begin().await?;
            table::unsum_others(&mut tx, of, &name, until).await?;
            tx.commit().await?;
            summed.retain(is_own);
        }
        let summed: Vec<Stretch> = summed.into_iter().map(|(stretch, _)| stretch).collect();
        let rollup = Rollup { store, site, livemode, zone: &zone, name: &name };
        for (gap, is_first) in gaps(&summed, until) {
            let gap = if is_first { rollup.since_first(gap).await? } else { Some(gap) };
            if let Some(gap) = gap {
                days += rollup.fill(gap).await?;
            }
        }
    }
    Ok(days)
}

/// The rolled-up days of a site, live or test, in a time zone.
struct Rollup<'a> {
    store: &'a Store,
    site: &'a Site,
    livemode: bool,
    zone: &'a TimeZone,
    name: &'a str,
}

impl Rollup<'_> {
    /// The day of the first conversion in a stretch.
    async fn first_day(&self, tx: &mut AnyConnection, gap: Stretch) -> Result<Option<Stretch>> {
        let first = table::first_conversion(tx, &self.site.id, self.livemode, gap).await?;
        Ok(first.and_then(|first| day_of(first, self.zone)))
    }

    /// The gap from its first conversion on. Before it there is nothing to roll up, so nothing is
    /// written every time.
    async fn since_first(&self, gap: Stretch) -> Result<Option<Stretch>> {
        let mut connection = self.store.connection().await?;
        let day = self.first_day(&mut connection, gap).await?;
        Ok(day.map(|(from, _)| (from, gap.1)))
    }

    /// Rolls up the days of a gap, one per transaction. Returns their number.
    async fn fill(&self, mut gap: Stretch) -> Result<usize> {
        let (of, mut days) = ((self.site.number, self.livemode), 0);
        while gap.0 < gap.1 {
            let mut tx = self.store.begin().await?;
            table::take_sums_turn(&mut tx).await?;
            if table::is_summed(&mut tx, of, gap).await? {
                break; // Another copy of the program does it. The next run finds what is left.
            }
            let stretch = next(gap, self.first_day(&mut tx, gap).await?);
            table::sum(&mut tx, of, stretch, self.name).await?;
            tx.commit().await?;
            (gap.0, days) = (stretch.1, days + 1);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(days)
    }
}

/// A stretch of time that is not rolled up; true for the one without a beginning.
type Gap = (Stretch, bool);

/// The stretches before `until` that are not rolled up.
fn gaps(summed: &[Stretch], until: i64) -> Vec<Gap> {
    let ends = summed.iter().map(|(from, _)| *from).chain([until]);
    let begins = [i64::MIN].into_iter().chain(summed.iter().map(|(_, to)| *to));
    let gaps = begins.zip(ends).enumerate().map(|(at, gap)| (gap, at == 0));
    gaps.filter(|((from, to), _)| from < to).collect()
}

/// The stretch to roll up first in a gap: everything before the day of its first conversion, or
/// that day if the gap begins with it.
fn next((from, to): Stretch, day: Option<Stretch>) -> Stretch {
    match day {
        None => (from, to),
        Some((begin, _)) if begin > from => (from, begin.min(to)),
        Some((_, end)) => (from, end.min(to)),
    }
}

/// The zone and its name as reports use it: the IANA name, or UTC if it is unknown.
fn zone_of(name: &str) -> (TimeZone, String) {
    let zone = TimeZone::get(name).unwrap_or(TimeZone::UTC);
    let name = zone.iana_name().filter(|name| *name != "Etc/UTC").unwrap_or("UTC").to_owned();
    (zone, name)
}

/// The day in this zone that contains a time; `None` at the end of the calendar.
fn day_of(ms: i64, zone: &TimeZone) -> Option<Stretch> {
    let day = Timestamp::from_ms(ms).in_zone(zone).date();
    let start = |day| Timestamp::start_of(day, zone).map(Timestamp::as_ms);
    Some((start(day)?, start(day.tomorrow().ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_is_not_rolled_up_and_the_first_has_no_beginning() {
        let rows: [(&[Stretch], i64, &[Gap]); 4] = [
            (&[], 9, &[((i64::MIN, 9), true)]),
            (&[(2, 4)], 9, &[((i64::MIN, 2), true), ((4, 9), false)]),
            (&[(2, 4), (4, 9)], 9, &[((i64::MIN, 2), true)]),
            (&[(2, 4), (5, 9)], 9, &[((i64::MIN, 2), true), ((4, 5), false)]),
        ];
        for (summed, until, expected) in rows {
            assert_eq!(gaps(summed, until), expected, "{summed:?}");
        }
    }

    #[test]
    fn empty_time_is_rolled_up_as_one_stretch_and_days_one_by_one() {
        assert_eq!(next((0, 100), None), (0, 100));
        assert_eq!(next((0, 100), Some((20, 30))), (0, 20));
        assert_eq!(next((20, 100), Some((20, 30))), (20, 30));
        assert_eq!(
            next((25, 27), Some((20, 30))),
            (25, 27),
            "what is left of a day of another zone"
        );
    }

    #[test]
    fn days_follow_daylight_saving_and_zones_have_the_name_that_reports_use() {
        let (berlin, name) = zone_of("europe/berlin");
        assert_eq!(name, "Europe/Berlin");
        let noon = Timestamp::parse("2026-10-25T12:00:00Z").unwrap().as_ms();
        let (from, to) = day_of(noon, &berlin).unwrap();
        assert_eq!((to - from) / 3_600_000, 25);
        assert_eq!(day_of(from, &berlin), day_of(to - 1, &berlin));
        assert_eq!(zone_of("Etc/UTC").1, "UTC");
        assert_eq!(zone_of("Nowhere/Atlantis").1, "UTC");
        assert_eq!(day_of(i64::MAX, &berlin), None);
    }
}
