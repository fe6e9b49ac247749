//! The days of a period in the site's time zone. Takes counts by quarter hour; returns a [`Day`]
//! for every date of the period, also empty ones. Guarantees that every quarter hour belongs to
//! exactly one day, also on days of 23 and 25 hours. This works because the offsets of all time
//! zones are multiples of a quarter hour.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::summed::{in_gaps, in_sums, summed_days};
use super::{Period, QUARTER_MS, Scope, add, within};
use crate::clock::Timestamp;
use crate::money::Totals;
use crate::store::{Store, from_row, sql};

/// One day of a period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Day {
    /// Its date in the requested time zone.
    pub(crate) date: Date,
    /// Visits without bots.
    pub(crate) visits: i64,
    /// Paid conversions, without events of pages.
    pub(crate) conversions: i64,
    /// Of them: purchases, trials and leads.
    pub(crate) firsts: i64,
    pub(crate) renewals: i64,
    pub(crate) gross: Totals,
    /// Net revenue: without refunds and lost disputes.
    pub(crate) net: Totals,
}

/// All days that the period overlaps, oldest first.
pub(crate) async fn days(
    store: &Store,
    scope: &Scope,
    period: Period,
    zone: &TimeZone,
) -> Result<Vec<Day>> {
    let (first_quarter, after_quarter) = period.quarters();
    let step = step(period, zone);
    let visits: Vec<VisitQuarter> = sql("select cast(min(quarter) as bigint) as quarter, cast(sum(visits) as bigint) as visits
           from (select quarter, visits
                   from visit_sums
                  where site = (select number from sites where id = :site_id)
                    and dimension = 0 and width = 1 and quarter >= :first_quarter and quarter < :after_quarter
                  union all
                 select quarter, visits
                   from visit_counts
                  where site_id = :site_id and quarter >= :first_quarter and quarter < :after_quarter and device <> 'bot') as counted
          group by (quarter - :first_quarter) / :step")
    .set("site_id", &scope.site_id)
    .set("first_quarter", first_quarter)
    .set("after_quarter", after_quarter)
    .set("step", step)
    .all(store.pool())
    .await
    .context("could not count visits by quarter hour")?;

    let conversions: Vec<ConversionQuarter> = within(
        summed_days("and zone = :zone")
            +
            "select min(quarter) as quarter, currency, cast(sum(conversions) as bigint) as conversions,
                    cast(sum(firsts) as bigint) as firsts, cast(sum(renewals) as bigint) as renewals,
                    cast(sum(gross) as bigint) as gross, cast(sum(refunded + lost) as bigint) as refunded
               from ("
            + in_sums("d.from_ms / 900000 as quarter", "0")
            + " union all "
            + in_gaps("c.occurred_at_ms / 900000 as quarter", "")
            + ") as counted
              group by (quarter - :first_quarter) / :step, currency",
        scope,
        period,
    )
    .set("first_quarter", first_quarter)
    .set("step", step)
    .set("zone", zone.iana_name().unwrap_or_default())
    .all(store.pool())
    .await
    .context("could not sum conversions by quarter hour")?;

    Ok(fold(period, zone, &visits, &conversions))
}

/// The largest number of quarter hours, counted from the start of the period, that SQL may sum at
/// once without mixing days. A day if all days have the same length, an hour if the clocks change.
fn step(period: Period, zone: &TimeZone) -> i64 {
    let (first, after) = period.quarters();
    let begins = |date: Date| {
        let begin = Timestamp::start_of(date, zone)?.as_ms();
        Some(begin.saturating_add(QUARTER_MS - 1).div_euclid(QUARTER_MS))
    };
    let begun = empty_days(period, zone).into_keys().filter_map(begins);
    let inside = begun.filter(|begin| (first..after).contains(begin));
    inside.fold(after.saturating_sub(first), |step, begin| divisor(step, begin - first)).max(1)
}

/// The greatest common divisor.
fn divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { divisor(b, a % b) }
}

struct VisitQuarter {
    quarter: i64,
    visits: i64,
}

from_row!(VisitQuarter { quarter, visits });

struct ConversionQuarter {
    quarter: i64,
    /// Empty if the conversions have no amount.
    currency: String,
    conversions: i64,
    firsts: i64,
    renewals: i64,
    gross: i64,
    refunded: i64,
}

from_row!(ConversionQuarter { quarter, currency, conversions, firsts, renewals, gross, refunded });

fn fold(
    period: Period,
    zone: &TimeZone,
    visits: &[VisitQuarter],
    conversions: &[ConversionQuarter],
) -> Vec<Day> {
    let mut days = empty_days(period, zone);
    // If the period starts within a quarter hour, that quarter hour counts for the first day, as in
    // the overview.
    let mut day_of = |quarter: i64, take: &mut dyn FnMut(&mut Day)| {
        let date = date_of(quarter.saturating_mul(QUARTER_MS), zone);
        let key = date.max(*days.keys().next()?).min(*days.keys().next_back()?);
        days.get_mut(&key).map(take)
    };
    for row in visits {
        day_of(row.quarter, &mut |day| day.visits += row.visits);
    }
    for row in conversions {
        day_of(row.quarter, &mut |day| {
            day.conversions += row.conversions;
            day.firsts += row.firsts;
            day.renewals += row.renewals;
            add(&mut day.gross, row.gross, Some(&row.currency));
            add(&mut day.net, row.gross.saturating_sub(row.refunded), Some(&row.currency));
        });
    }
    days.into_values().collect()
}

fn empty_days(period: Period, zone: &TimeZone) -> BTreeMap<Date, Day> {
    let mut days = BTreeMap::new();
    if period.from >= period.to {
        return days;
    }
    let last = date_of(period.to.as_ms() - 1, zone);
    let mut date = date_of(period.from.as_ms(), zone);
    loop {
        let (gross, net) = (Totals::default(), Totals::default());
        days.insert(
            date,
            Day { date, visits: 0, conversions: 0, firsts: 0, renewals: 0, gross, net },
        );
        match date.tomorrow() {
            Ok(next) if next <= last => date = next,
            Ok(_) | Err(_) => return days,
        }
    }
}

fn date_of(ms: i64, zone: &TimeZone) -> Date {
    Timestamp::from_ms(ms).in_zone(zone).date()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::money::{Currency, Money};
    use jiff::civil::date;

    fn quarters_of(zone: &TimeZone, first: Date, last: Date) -> (Period, Vec<VisitQuarter>) {
        let period = Period::of_days(first, last, zone).unwrap();
        let (from, to) = period.quarters();
        (period, (from..to).map(|quarter| VisitQuarter { quarter, visits: 1 }).collect())
    }

    #[test]
    fn days_of_23_and_25_hours_include_all_their_quarter_hours() {
        let zones = [
            ("Europe/Berlin", date(2026, 3, 28), [96, 92, 96]),
            ("Europe/Berlin", date(2026, 10, 24), [96, 100, 96]),
            ("America/New_York", date(2026, 3, 7), [96, 92, 96]),
            ("Australia/Lord_Howe", date(2026, 4, 4), [96, 98, 96]), // Half an hour of daylight saving.
            ("Asia/Kathmandu", date(2026, 5, 1), [96, 96, 96]),      // 5:45 ahead.
            ("America/Santiago", date(2026, 9, 5), [96, 92, 96]), // Midnight itself is leapt over.
            ("UTC", date(2026, 12, 30), [96, 96, 96]),
        ];
        for (name, first, expected) in zones {
            let zone = TimeZone::get(name).unwrap();
            let last = first.tomorrow().unwrap().tomorrow().unwrap();
            let (period, visits) = quarters_of(&zone, first, last);
            let days = fold(period, &zone, &visits, &[]);
            assert_eq!(days.iter().map(|day| day.visits).collect::<Vec<_>>(), expected, "{name}");
            assert_eq!(days[0].date, first, "{name}");
        }
    }

    #[test]
    fn no_day_begins_within_a_step() {
        let rows = [
            ("UTC", date(2026, 5, 1), 96),
            ("Europe/Berlin", date(2026, 5, 1), 96),
            ("Europe/Berlin", date(2026, 3, 28), 4),
            ("Australia/Lord_Howe", date(2026, 4, 4), 2),
            ("Asia/Kathmandu", date(2026, 5, 1), 96),
            ("America/Santiago", date(2026, 9, 5), 4),
        ];
        for (name, first, expected) in rows {
            let zone = TimeZone::get(name).unwrap();
            let last = first.tomorrow().unwrap().tomorrow().unwrap();
            let (period, visits) = quarters_of(&zone, first, last);
            let step = step(period, &zone);
            assert_eq!(step, expected, "{name}");
            let apart = fold(period, &zone, &visits, &[]);
            let summed: Vec<_> = visits
                .chunks(usize::try_from(step).unwrap())
                .map(|quarters| VisitQuarter {
                    quarter: quarters[0].quarter,
                    visits: quarters.iter().map(|quarter| quarter.visits).sum(),
                })
                .collect();
            assert_eq!(fold(period, &zone, &summed, &[]), apart, "{name}");
        }
    }

    #[test]
    fn empty_days_are_included_and_the_last_day_ends_the_period() {
        let utc = TimeZone::UTC;
        let at = |text| Timestamp::parse(text).unwrap();
        let period = Period { from: at("2026-09-21T10:07:00Z"), to: at("2026-09-24T00:00:00Z") };
        let dates: Vec<_> =
            fold(period, &utc, &[], &[]).iter().map(|day| day.date.to_string()).collect();
        assert_eq!(dates, ["2026-09-21", "2026-09-22", "2026-09-23"]);
        let nothing = Period { from: period.to, to: period.to };
        assert!(fold(nothing, &utc, &[], &[]).is_empty());
    }

    #[test]
    fn money_is_summed_by_day_and_currency() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let period = Period::of_days(date(2026, 9, 20), date(2026, 9, 21), &zone).unwrap();
        // 03:45 UTC is still the evening before in New York.
        let quarter = Timestamp::parse("2026-09-21T03:45:00Z").unwrap().as_ms() / QUARTER_MS;
        let row = |code: &str, gross, refunded| ConversionQuarter {
            quarter,
            currency: code.to_owned(),
            conversions: 1,
            firsts: 1,
            renewals: 0,
            gross,
            refunded,
        };
        let days = fold(period, &zone, &[], &[row("usd", 500, 200), row("jpy", 70, 0)]);
        let nets: Vec<_> = days[0].net.iter().map(Money::decimal).collect();
        assert_eq!(nets, ["70", "3.00"]);
        assert_eq!((days[0].conversions, days[1].conversions), (2, 0));
        assert_eq!(days[0].gross.of(Currency::parse("usd").unwrap()).minor, 500);
    }
}
