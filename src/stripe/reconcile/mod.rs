//! Compares the ledger with Stripe's records.
//! Takes a range; returns counts and sums per day, kind and currency, every difference with both IDs and what to do about it, and what was not compared.
//! Changes nothing unless a repair is wanted. Payments, refunds and disputes are compared one by one, so two mistakes cannot hide each other.
//! Source: docs.stripe.com/api/checkout/sessions/list, /api/invoices/list, /api/payment_intents/list, /api/refunds/list, /api/disputes/list.

mod adjustment;
mod fix;
mod ledgered;
mod list;
mod nightly;
mod object;
mod payment;
mod result;
mod sheet;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;

pub(crate) use self::nightly::{daily, keep};
pub use self::result::{Difference, Kind, NotCompared, Part, Reconciled, Sums, Wanted};

use self::list::Records;
use self::nightly::days_before;
use self::sheet::Sheet;
use super::api::Api;
use super::backfill;
use crate::clock::{Clock, Timestamp};
use crate::domain::EventOrigin;
use crate::money::Money;
use crate::settings::Source;
use crate::store::Store;

/// What is younger may still be on its way to us.
const TOO_YOUNG: Duration = Duration::from_secs(600);
/// From an object's creation to its last event: a checkout lives a day, an invoice may be paid weeks later.
const PAID_WITHIN: Duration = Duration::from_secs(35 * 86_400);

/// A payment's conversion.
struct Here {
    id: String,
    transaction_id: String,
    status: String,
    money: Option<Money>,
    is_paid: bool,
}

/// The last event about an object.
struct Arrived {
    id: String,
    event_id: String,
    state: String,
    error: Option<String>,
}

/// A payment here that Stripe's list may lack.
struct Candidate {
    event: String,
    source_id: String,
    part: Part,
    here: Here,
}

/// A refund or dispute here that Stripe's list may lack.
struct Adjustment {
    event: String,
    part: Part,
}

/// Whose records are compared, and how.
pub(crate) struct Comparing<'a> {
    pub(crate) api: Api,
    /// The sources whose payments this account's list should have.
    pub(crate) sources: BTreeSet<String>,
    /// What is missing is recorded under this one of them.
    pub(crate) source: &'a Source,
    pub(crate) clock: &'a Clock,
    /// Days are the site's.
    pub(crate) zone: TimeZone,
}

/// From an instant until another, exclusive.
#[derive(Clone, Copy)]
struct Range {
    from: Timestamp,
    until: Timestamp,
}

impl Range {
    fn contains(self, at: Timestamp) -> bool {
        at >= self.from && at < self.until
    }
}

/// One comparison.
struct Comparison<'a> {
    store: &'a Store,
    records: &'a Comparing<'a>,
    /// The connected account; empty for the key's own.
    account: &'a str,
    range: Range,
}

/// What a comparison found so far.
struct Outcome<'a> {
    sheet: Sheet<'a>,
    /// Events that would have reported what is missing here.
    missing: Vec<String>,
    not_compared: Vec<NotCompared>,
}

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
        from: wanted.from.unwrap_or_else(|| days_before(latest, &comparing.zone)),
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
    let is_new =
        backfill::store_body(&mut tx, now, source, account, EventOrigin::Backfill, body).await?;
    tx.commit().await?;
    Ok(is_new)
}
