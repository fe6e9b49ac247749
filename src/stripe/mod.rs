//! Stripe: receives events, stores their raw bodies, and reads them.
//! Takes webhooks; stores events, each in exactly one visible state, and passes payments to the
//! ledger.
//! Guarantees that an event is committed before Stripe receives 200, and that an event that can't
//! be read is `failed` with its error, never a 500.

mod api;
mod apis;
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
pub(crate) use apis::Apis;
pub use held::{accept_held, judge_held};
pub(crate) use rejections::Rejections;

use crate::clock::Timestamp;
use crate::store::Store;

/// The types of events that an endpoint should send. Events of other types are stored and ignored.
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

/// Types left out of requests to Stripe's list of events, which accepts twenty types at most. Other
/// events of a dispute state the same.
const NOT_LISTED: [&str; 2] = ["charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"];

/// The types of events to request when missed ones are fetched.
fn listed_types() -> impl Iterator<Item = &'static str> {
    EVENT_TYPES.into_iter().filter(|kind| !NOT_LISTED.contains(kind))
}

/// Queues a failed or ignored event to be processed again; returns false if there is no such event.
pub async fn rerun(store: &Store, now: Timestamp, id: &str) -> Result<bool> {
    let mut tx = store.begin().await?;
    let found = table::put_back(&mut tx, now, id).await?;
    tx.commit().await?;
    Ok(found)
}

/// Makes events due that were received while the clock was ahead. Returns their number.
pub(crate) async fn bring_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let brought = table::bring_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

#[cfg(test)]
mod tests {
    #[test]
    fn stripe_accepts_as_many_types_as_are_listed() {
        assert!(super::listed_types().count() <= 20);
    }
}
