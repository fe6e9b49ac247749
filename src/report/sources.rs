//! The state of Stripe webhooks: the last event and its signing secret, and the result of the last
//! reconciliation. Takes a source; returns times, counts, and the last reconciliation as stored.
//! Guarantees that each statement reads only the end of an index, however many events are stored.

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::store::{Store, from_row, sql};

/// The last event that was verified with a signing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// `sev_…`.
    pub(crate) id: String,
    pub(crate) at: Timestamp,
    pub(crate) kind: String,
    /// False in test mode.
    pub(crate) livemode: bool,
}

from_row!(Heard { id, at, kind, livemode });

/// The last event of a source, received after `since`, that was verified with the secret at
/// `position`.
pub(crate) async fn last_heard(
    store: &Store,
    source_id: &str,
    position: i64,
    since: Timestamp,
) -> Result<Option<Heard>> {
    sql("select id, received_at_ms as at, type as kind, livemode
           from stripe_events
          where source_id = :source_id and secret_position = :position and received_at_ms >= :since
          order by received_at_ms desc
          limit 1")
    .set("source_id", source_id)
    .set("position", position)
    .set("since", since)
    .optional(store.pool())
    .await
    .context("could not find a source's last event")
}

/// Whether a source's events allow us to find out which payment intents belong to invoices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct InvoiceEvents {
    /// True if all events have an API version in which invoices contain their payment intent.
    pub(crate) are_old: bool,
    /// True if `invoice_payment.paid` was received, which contains the payment intent in newer
    /// versions.
    pub(crate) name_payments: bool,
    /// True if `invoice.paid` was received.
    pub(crate) any: bool,
}

/// The first API version in which invoices no longer contain their payment intent.
const NO_PAYMENT_ON_INVOICES: &str = "2025-03-31";

/// Reads which events about invoices a source has received.
pub(crate) async fn invoice_events(store: &Store, source_id: &str) -> Result<InvoiceEvents> {
    let row = sql("select (select count(*) from (select id from stripe_events
                                        where source_id = :source_id and api_version >= :no_payment_on_invoices limit 1) a) as new_version,
                (select count(*) from (select id from stripe_events
                                        where source_id = :source_id and api_version < :no_payment_on_invoices limit 1) b) as old_version,
                (select count(*) from (select id from stripe_events
                                        where source_id = :source_id and type = 'invoice_payment.paid' limit 1) c) as named,
                (select count(*) from (select id from stripe_events
                                        where source_id = :source_id and type = 'invoice.paid' limit 1) d) as invoices")
    .set("source_id", source_id)
    .set("no_payment_on_invoices", NO_PAYMENT_ON_INVOICES)
    .fetch_one(store.pool())
    .await
    .context("could not read a source's invoice events")?;
    let is = |name: &str| row.get::<bool>(name);
    Ok(InvoiceEvents {
        are_old: is("old_version")? && !is("new_version")?,
        name_payments: is("named")?,
        any: is("invoices")?,
    })
}

/// The last reconciliation with Stripe's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) source_id: String,
    /// When it last succeeded.
    pub(crate) checked_at: Option<Timestamp>,
    /// The result, as `stripe::reconcile` wrote it.
    pub(crate) result: Option<String>,
    /// Why the last attempt failed.
    pub(crate) error: Option<String>,
}

from_row!(Comparison { source_id, checked_at, result, error });

/// The last reconciliation of each source, the latest first.
pub(crate) async fn comparisons(store: &Store) -> Result<Vec<Comparison>> {
    sql("select source_id, checked_at_ms as checked_at, result, error
           from stripe_reconciliations
          where checked_at_ms is not null or error is not null
          order by coalesce(checked_at_ms, 0) desc")
    .all(store.pool())
    .await
    .context("could not read the results of reconciliations")
}
