//! Our books against Stripe's: what it calls paid, and what we do.
//! In: a range. Out: counts and sums per day and currency, and every difference with both IDs and what to do about it.
//! Promise: it changes nothing unless told to repair; the two sides are compared payment by payment, so two mistakes cannot hide each other.
//! Source: docs.stripe.com/api/checkout/sessions/list, docs.stripe.com/api/invoices/list.

mod list;
mod nightly;
mod object;
mod sheet;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub(crate) use self::nightly::{daily, keep};

use self::list::paid_at_stripe;
use self::nightly::days_before;
use self::object::{Kind, Paid};
use self::sheet::Sheet;
use super::api::Api;
use super::backfill;
use super::table::Origin;
use crate::clock::{Clock, Timestamp};
use crate::money::Money;
use crate::settings::Source;
use crate::store::Store;

/// What is younger may still be on its way to us.
const TOO_YOUNG: Duration = Duration::from_secs(600);
/// From an object's creation to its last event of payment: a checkout lives a day, an invoice may be paid weeks later.
const PAID_WITHIN: Duration = Duration::from_secs(35 * 86_400);
/// What a comparison leaves out; stated wherever its result is shown.
pub const NOT_COMPARED: &str =
    "Not compared: refunds, disputes, and payments without a checkout or an invoice.";

/// What to compare.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Key of the source.
    pub source: String,
    /// A connected account; empty for the key's own.
    pub account: String,
    /// From here; seven days ago if nobody says.
    pub from: Option<Timestamp>,
    /// Until here, without it; ten minutes ago if nobody says.
    pub until: Option<Timestamp>,
    /// Fetch what is missing.
    pub repair: bool,
}

/// The books of both sides.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reconciled {
    /// False for Stripe's test mode, which a test key sees.
    pub livemode: bool,
    /// The first instant compared.
    pub from: Timestamp,
    /// The first instant after it.
    pub until: Timestamp,
    /// One per currency.
    pub totals: Vec<Sums>,
    /// One per day and currency.
    pub days: Vec<Sums>,
    /// How many payments differ.
    pub gap: usize,
    /// Each of them, the first hundred in a stored result.
    pub differences: Vec<Difference>,
    /// Missing payments that were fetched.
    #[serde(default)]
    pub repaired: u64,
}

/// Counts and sums of both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// `2026-09-21` in the site's time zone; empty for all of them.
    pub day: String,
    /// `USD`.
    pub currency: String,
    /// Payments in Stripe's books.
    pub stripe_count: u64,
    /// Their sum, as decimal text.
    pub stripe_amount: String,
    /// Payments in ours.
    pub here_count: u64,
    /// Their sum.
    pub here_amount: String,
    /// Payments of these that differ.
    pub gap: usize,
}

/// A payment that the two sides see differently.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// `2026-09-21`.
    pub day: String,
    /// Stripe's ID.
    pub stripe_id: String,
    /// Ours, if it is here.
    pub conversion_id: Option<String>,
    /// `102.60 USD`; `None` when Stripe's list has none.
    pub stripe: Option<String>,
    /// Likewise here; `None` when it is missing.
    pub here: Option<String>,
    /// What to do.
    pub fix: String,
}

/// Our side of a payment.
struct Here {
    id: String,
    transaction_id: String,
    status: String,
    money: Option<Money>,
    is_paid: bool,
}

/// An event about a payment.
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
    is_invoice: bool,
    here: Here,
}

/// Whose books are compared, and by what.
pub(crate) struct Books<'a> {
    pub(crate) api: Api,
    /// The sources whose payments this account's list should have.
    pub(crate) sources: BTreeSet<String>,
    /// What is missing is recorded under this one of them.
    pub(crate) source: &'a Source,
    pub(crate) clock: &'a Clock,
    /// Days are the site's.
    pub(crate) zone: TimeZone,
}

/// The ledger against Stripe for one source; what is missing is stored as events if wanted.
///
/// # Errors
/// An [`ApiError`] when Stripe gives no answer that helps; nothing was changed then.
pub(crate) async fn run(store: &Store, books: &Books<'_>, wanted: &Wanted) -> Result<Reconciled> {
    let Books { api, sources, source, clock, zone } = books;
    let latest = clock.now().minus(TOO_YOUNG);
    let until = wanted.until.unwrap_or(latest).min(latest);
    let from = wanted.from.unwrap_or_else(|| days_before(latest, zone));
    let account = wanted.account.as_str();
    let paid = paid_at_stripe(api, account, from, until).await?;
    let mut sheet = Sheet::of(zone);
    let mut missing = Vec::new();
    let of_sessions: BTreeSet<&String> =
        paid.iter().filter_map(|paid| paid.invoice.as_ref()).collect();
    for paid in &paid {
        let here = table::here(store, account, &paid.id).await?;
        let is_of_session = here.as_ref().is_some_and(|here| here.transaction_id != paid.id);
        if paid.kind == Kind::Invoice && (of_sessions.contains(&paid.id) || is_of_session) {
            continue; // It is its checkout's payment, and counted there.
        }
        if here.as_ref().is_some_and(|here| here.status == "duplicate") {
            continue; // Its owner said that it is the receipt of a payment that is counted.
        }
        let arrived = table::arrived(store, account, &paid.id).await?;
        if sheet.compare(paid, here.as_ref(), arrived.as_ref()) {
            missing.push(paid);
        }
    }
    let listed: BTreeSet<&String> = paid.iter().map(|paid| &paid.id).collect();
    let late = until.plus(PAID_WITHIN);
    for (id, candidate) in table::candidates(store, account, api.is_live(), from, late).await? {
        let is_of_session = candidate.is_invoice && candidate.here.transaction_id != id;
        let is_others = !sources.contains(&candidate.source_id);
        let is_nothing =
            candidate.here.money.is_none_or(|money| candidate.is_invoice && money.minor == 0);
        if listed.contains(&id) || is_of_session || is_others || is_nothing {
            continue;
        }
        let body = table::body(store, &candidate.event).await?;
        if let Some(created) = object::created_in(&body).filter(|at| *at >= from && *at < until) {
            sheet.surplus(&id, created, &candidate.here);
        }
    }
    let mut repaired = 0;
    if wanted.repair {
        for paid in missing {
            repaired += u64::from(repair(store, clock.now(), source, account, paid).await?);
        }
    }
    Ok(sheet.close(api.is_live(), from, until, repaired))
}

/// Stores a payment of Stripe's as the event that would have told it; one that failed before is put back.
async fn repair(
    store: &Store,
    now: Timestamp,
    source: &Source,
    account: &str,
    paid: &Paid,
) -> Result<bool> {
    let body = backfill::as_event(paid.kind.event(), account, &paid.raw);
    let mut tx = store.begin().await?;
    let body = body.as_bytes();
    let is_new =
        backfill::store_body(&mut tx, now, source, account, Origin::Backfill, body).await?;
    tx.commit().await?;
    Ok(is_new)
}
