//! Stripe: what it told us, believed and kept raw, then read.
//! In: webhooks. Out: stored events, each in exactly one visible state, and payments handed down to the ledger.
//! Promise: an event is committed before Stripe gets its 200; an event we cannot read is `failed` with its error, never a 500.

mod api;
pub mod backfill;
pub(crate) mod endpoint;
mod event;
mod held;
pub(crate) mod lookup;
pub mod reconcile;
mod rejections;
pub mod replay;
pub(crate) mod signature;
mod table;
pub(crate) mod thin;
pub(crate) mod worker;

use anyhow::Result;

pub use api::ApiError;
pub(crate) use api::Apis;
pub use held::{accept_held, judge_held};
pub(crate) use rejections::Rejections;

use crate::clock::Timestamp;
use crate::store::Store;

/// The kinds of events that an endpoint should send; of all others we keep the bytes and nothing more.
/// `charge.refund.updated` is the old name of `refund.updated`.
pub const EVENT_TYPES: [&str; 22] = [
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
    "invoice.paid",
    "invoice_payment.paid",
    "payment_intent.succeeded",
    "payment_intent.amount_capturable_updated",
    "payment_intent.canceled",
    "charge.succeeded",
    "charge.captured",
    "charge.refunded",
    "refund.created",
    "refund.updated",
    "refund.failed",
    "charge.refund.updated",
    "charge.dispute.created",
    "charge.dispute.updated",
    "charge.dispute.closed",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.funds_reinstated",
    "customer.subscription.created",
];

/// Stripe's list of events takes at most twenty types at a time. These say nothing that the other events of a dispute do not.
const NOT_LISTED: [&str; 2] = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"];

/// The kinds of events that are asked for when missed ones are fetched.
fn listed_types() -> impl Iterator<Item = &'static str> {
    EVENT_TYPES.into_iter().filter(|kind| !NOT_LISTED.contains(kind))
}

/// Puts a failed or ignored event back to be processed again; false when there is none such.
///
/// # Errors
/// When the database cannot be written.
pub async fn rerun(store: &Store, now: Timestamp, id: &str) -> Result<bool> {
    let mut tx = store.begin().await?;
    let found = table::put_back(&mut tx, now, id).await?;
    tx.commit().await?;
    Ok(found)
}

/// Makes due what was received while the clock was ahead. Answers how many events.
pub(crate) async fn bring_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let brought = table::bring_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

#[cfg(test)]
mod tests {
    #[test]
    fn stripe_takes_as_many_types_as_are_listed() {
        assert!(super::listed_types().count() <= 20);
    }
}
