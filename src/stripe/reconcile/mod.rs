//! Compares the ledger with Stripe's records.
//! Takes a range; returns counts and sums per day, kind and currency, every difference with both IDs and what to do about it, and what was not compared.
//! Changes nothing unless a repair is wanted. Payments, refunds and disputes are compared one by one, so two mistakes cannot hide each other.
//! Source: docs.stripe.com/api/checkout/sessions/list, /api/invoices/list, /api/payment_intents/list, /api/refunds/list, /api/disputes/list.

mod adjustment;
mod comparison;
mod fix;
mod ledgered;
mod list;
mod nightly;
mod object;
mod payment;
mod result;
mod sheet;
mod table;

use std::time::Duration;

use anyhow::Result;

pub(crate) use self::comparison::Comparing;
pub(crate) use self::nightly::{daily, keep};
pub use self::result::{Difference, Kind, NotCompared, Part, Reconciled, Sums, Wanted};

use self::comparison::{Comparison, Outcome, Range, week_before};
use self::list::Records;
use self::sheet::Sheet;
use super::backfill::{self, Fetched};
use crate::domain::EventOrigin;
use crate::store::Store;

/// What is younger may still be on its way to us.
const TOO_YOUNG: Duration = Duration::from_secs(600);

/// Compares the ledger with the records of one Stripe account. Stores what is missing as events if `wanted` says so.
///
/// # Errors
/// An [`super::ApiError`] if Stripe gives no answer that helps; nothing was changed then.
pub(crate) async fn run(
    store: &Store,
    comparing: &Comparing<'_>,
    wanted: &Wanted,
) -> Result<Reconciled> {
    let latest = comparing.clock.now().minus(TOO_YOUNG);
    let range = Range {
        from: wanted.from.unwrap_or_else(|| week_before(latest, &comparing.zone)),
        until: wanted.until.unwrap_or(latest).min(latest),
    };
    let comparison = Comparison { store, records: comparing, account: &wanted.account, range };
    let mut records = Records::fetch(&comparison).await?;
    let mut outcome = Outcome {
        sheet: Sheet::of(&comparing.zone),
        missing: Vec::new(),
        not_compared: std::mem::take(&mut records.not_compared),
    };
    payment::add_bare_intents(&comparison, &mut records, &mut outcome).await?;
    payment::compare(&comparison, &records, &mut outcome).await?;
    adjustment::compare(&comparison, &records, &mut outcome).await?;
    let mut repaired = 0;
    if wanted.repair {
        for event in &outcome.missing {
            repaired += u64::from(repair(&comparison, event).await?);
        }
    }
    let Outcome { sheet, mut not_compared, .. } = outcome;
    not_compared.sort_by_key(|left_out| left_out.what);
    let (totals, days) = (sheet.totals(), sheet.days());
    let differences = sheet.differences();
    Ok(Reconciled {
        livemode: comparing.api.is_live(),
        from: range.from,
        until: range.until,
        totals,
        days,
        gap: differences.len(),
        differences,
        not_compared,
        repaired,
    })
}

/// Stores an event that never arrived; one that failed before is put back. False if it was stored before.
async fn repair(comparison: &Comparison<'_>, event: &str) -> Result<bool> {
    let Comparing { clock, source, .. } = comparison.records;
    let (now, account, body) = (clock.now(), comparison.account, event.as_bytes());
    let mut tx = comparison.store.begin().await?;
    let fetched = Fetched { source, account, origin: EventOrigin::Backfill, body };
    let is_new = backfill::store_body(&mut tx, now, &fetched).await?;
    tx.commit().await?;
    Ok(is_new)
}
