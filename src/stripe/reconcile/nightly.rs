//! The nightly comparison and its stored result.
//! Takes the clock and the site's time zone; compares when it is due and stores the result, or why there is none.
//! One copy of the program does it; if Stripe does not answer, the last result stays.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::comparison::Comparing;
use super::result::{Reconciled, Wanted};
use super::{run, table};
use crate::clock::Timestamp;
use crate::store::Store;
use crate::stripe::api::ApiError;

/// How long a comparison may take; then another replica may take it over.
const LEASE: Duration = Duration::from_secs(60 * 60);
/// Until the next try when Stripe did not answer.
const TRY_AGAIN: Duration = Duration::from_secs(60 * 60);
/// The hour of the night, in the site's time zone, at which the daily comparison is due.
const DUE_HOUR: i8 = 4;
/// Differences kept with the stored result; there may be many, and they tend to have one cause.
const KEPT_DIFFERENCES: usize = 100;

/// The daily comparison, when it is due and no other replica does it. True when it was done.
pub(crate) async fn daily(store: &Store, comparing: &Comparing<'_>) -> Result<bool> {
    let source = comparing.source;
    if !table::claim(store, &source.id, "", comparing.clock.now(), LEASE).await? {
        return Ok(false);
    }
    let wanted = Wanted {
        source: source.key.clone(),
        account: String::new(),
        from: None,
        until: None,
        repair: false,
    };
    let outcome = run(store, comparing, &wanted).await;
    keep(store, comparing, outcome).await?;
    Ok(true)
}

/// Keeps the result of a comparison of the usual range, for the dashboard, and says when the next is due.
pub(crate) async fn keep(
    store: &Store,
    comparing: &Comparing<'_>,
    outcome: Result<Reconciled>,
) -> Result<()> {
    let Comparing { source, zone, .. } = comparing;
    let now = comparing.clock.now();
    let (kept, due) = match outcome {
        Ok(mut reconciled) => {
            if reconciled.gap > 0 {
                tracing::warn!(
                    source = source.key,
                    gap = reconciled.gap,
                    "the ledger differs from Stripe's records"
                );
            }
            reconciled.differences.truncate(KEPT_DIFFERENCES);
            let text = serde_json::to_string(&reconciled).context("a result is JSON")?;
            (Ok(text), next_night(now, zone))
        }
        Err(error) => match error.downcast::<ApiError>() {
            Ok(error @ ApiError::NoAnswer(_)) => (Err(error.to_string()), now.plus(TRY_AGAIN)),
            Ok(error) => (Err(error.to_string()), next_night(now, zone)),
            Err(error) => return Err(error),
        },
    };
    if let Err(error) = &kept {
        tracing::warn!(source = source.key, "could not compare with Stripe's records: {error}");
    }
    table::keep(store, &source.id, "", now, due, kept).await
}

/// The next time it is four in the morning there.
fn next_night(now: Timestamp, zone: &TimeZone) -> Timestamp {
    let today = now.in_zone(zone).date();
    let night_of = |day: Date| {
        let night = day.at(DUE_HOUR, 0, 0, 0).to_zoned_datetime(zone.clone()).ok()?;
        Some(Timestamp::from_ms(night.timestamp().as_millisecond()))
    };
    let next =
        night_of(today).filter(|night| *night > now).or_else(|| night_of(today.tomorrow().ok()?));
    next.unwrap_or(now.plus(Duration::from_secs(86_400)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_night_follows_the_sites_clock() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let rows = [
            ("2026-09-21T07:59:00Z", "2026-09-21T08:00:00Z"),
            ("2026-09-21T08:00:00Z", "2026-09-22T08:00:00Z"),
            ("2026-10-31T20:00:00Z", "2026-11-01T09:00:00Z"),
        ];
        for (now, expected) in rows {
            let next = next_night(Timestamp::parse(now).unwrap(), &zone);
            assert_eq!(next.to_rfc3339(), expected, "{now}");
        }
    }
}
