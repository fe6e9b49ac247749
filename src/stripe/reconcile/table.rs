//! SQL of the reconciliation: what the ledger has of Stripe's objects, and `stripe_reconciliations`.
//! Takes Stripe's IDs and a range; returns the ledger's side. Private to this module.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::comparison::{Adjustment, Arrived, Candidate, Comparison, Here};
use super::ledgered::{Ledgered, Totals};
use super::result::Part;
use crate::clock::Timestamp;
use crate::ids;
use crate::money::{Currency, Money};
use crate::store::{Row, Store, insert_into, sql};

/// Clocks differ; an event may seem to have been received before its object was made.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The conversion that an object of Stripe's names.
pub(super) async fn here(store: &Store, account: &str, object_id: &str) -> Result<Option<Here>> {
    let row =
        sql("select c.id, c.transaction_id, c.status, c.amount_minor, c.currency, c.paid_at_ms
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = :account and o.object_id = :object_id and o.role = 'identity'")
        .set("account", account)
        .set("object_id", object_id)
        .fetch_optional(store.pool())
        .await
        .context("could not look for a conversion")?;
    row.as_ref().map(read_here).transpose()
}

fn read_here(row: &Row) -> Result<Here> {
    Ok(Here {
        id: row.get("id")?,
        transaction_id: row.get("transaction_id")?,
        status: row.get("status")?,
        money: read_money(row)?,
        is_paid: row.get::<Option<i64>>("paid_at_ms")?.is_some(),
    })
}

/// The newest event about an object, and how it ended.
pub(super) async fn arrived(
    store: &Store,
    account: &str,
    object_id: &str,
) -> Result<Option<Arrived>> {
    let row = sql("select id, event_id, state, error
           from stripe_events
          where account = :account and object_id = :object_id
          order by id desc
          limit 1")
    .set("account", account)
    .set("object_id", object_id)
    .fetch_optional(store.pool())
    .await
    .context("could not look for an event")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Arrived {
        id: row.get("id")?,
        event_id: row.get("event_id")?,
        state: row.get("state")?,
        error: row.get("error")?,
    }))
}

/// The newest event about each payment that may have been created in the range, with its paid conversion.
pub(super) async fn candidates(
    comparison: &Comparison<'_>,
    until: Timestamp,
) -> Result<BTreeMap<String, Candidate>> {
    let range = comparison.range;
    let rows = sql("select e.id as row_id, e.source_id, e.object_id, e.type, c.id, c.transaction_id, c.status, c.amount_minor, c.currency, c.paid_at_ms
           from stripe_events e
           join stripe_objects o on o.account = e.account and o.object_id = e.object_id and o.role = 'identity'
           join conversions c on c.id = o.conversion_id
          where e.id >= :id and e.account = :account and e.livemode = :is_live and e.state = 'processed'
            and e.type in ('checkout.session.completed', 'checkout.session.async_payment_succeeded', 'invoice.paid',
                           'payment_intent.succeeded')
            and coalesce(e.created_at_ms, e.received_at_ms) >= :from and coalesce(e.created_at_ms, e.received_at_ms) < :until
            and c.paid_at_ms is not null
          order by e.id")
    .set("id", ids::first_record_id("sev_", range.from.minus(CLOCK_SKEW)))
    .set("account", comparison.account)
    .set("is_live", comparison.records.api.is_live())
    .set("from", range.from)
    .set("until", until)
    .fetch_all(comparison.store.pool())
    .await
    .context("could not list what was paid here")?;
    rows.iter()
        .map(|row| {
            let kind: String = row.get("type")?;
            let candidate = Candidate {
                event: row.get("row_id")?,
                source_id: row.get("source_id")?,
                part: match kind.as_str() {
                    "invoice.paid" => Part::Invoices,
                    "payment_intent.succeeded" => Part::PaymentIntents,
                    _ => Part::Checkouts,
                },
                here: read_here(row)?,
            };
            Ok((row.get("object_id")?, candidate))
        })
        .collect()
}

/// The newest event about each refund and dispute that may have been created in the range.
pub(super) async fn adjustments(
    comparison: &Comparison<'_>,
    until: Timestamp,
) -> Result<BTreeMap<String, Adjustment>> {
    let range = comparison.range;
    let rows = sql("select id, object_id, type
           from stripe_events
          where id >= :id and account = :account and livemode = :is_live and state = 'processed'
            and type in ('refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated',
                         'charge.dispute.created', 'charge.dispute.updated', 'charge.dispute.closed',
                         'charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated')
            and coalesce(created_at_ms, received_at_ms) >= :from and coalesce(created_at_ms, received_at_ms) < :until
          order by id")
    .set("id", ids::first_record_id("sev_", range.from.minus(CLOCK_SKEW)))
    .set("account", comparison.account)
    .set("is_live", comparison.records.api.is_live())
    .set("from", range.from)
    .set("until", until)
    .fetch_all(comparison.store.pool())
    .await
    .context("could not list refunds and disputes")?;
    rows.iter()
        .map(|row| {
            let kind: String = row.get("type")?;
            let is_dispute = kind.starts_with("charge.dispute.");
            let part = if is_dispute { Part::Disputes } else { Part::Refunds };
            Ok((row.get("object_id")?, Adjustment { event: row.get("id")?, part }))
        })
        .collect()
}

/// The payment that an object of Stripe's belongs to.
pub(super) async fn ledgered(
    comparison: &Comparison<'_>,
    object_id: &str,
) -> Result<Option<Ledgered>> {
    let row = sql("select p.facts, c.id, c.source_id, c.status, c.amount_minor, c.currency, c.refunded_minor, c.disputed_minor,
                c.lost_minor, c.paid_at_ms
           from stripe_objects o
           join payments p on p.id = o.conversion_id
           left join conversions c on c.id = p.id
          where o.account = :account and o.object_id = :object_id and o.role = 'identity'")
    .set("account", comparison.account)
    .set("object_id", object_id)
    .fetch_optional(comparison.store.pool())
    .await
    .context("could not look for a payment")?;
    let Some(row) = row else { return Ok(None) };
    let facts: String = row.get("facts")?;
    let id: Option<String> = row.get("id")?;
    Ok(Some(Ledgered {
        facts: serde_json::from_str(&facts).context("a stored payment cannot be read")?,
        conversion: id.map(|id| read_totals(id, &row)).transpose()?,
    }))
}

fn read_totals(id: String, row: &Row) -> Result<Totals> {
    Ok(Totals {
        id,
        source_id: row.get("source_id")?,
        is_paid: row.get::<Option<i64>>("paid_at_ms")?.is_some(),
        is_duplicate: row.get::<String>("status")? == "duplicate",
        money: read_money(row)?,
        refunded: row.get("refunded_minor")?,
        disputed: row.get("disputed_minor")?,
        lost: row.get("lost_minor")?,
    })
}

fn read_money(row: &Row) -> Result<Option<Money>> {
    let minor: Option<i64> = row.get("amount_minor")?;
    let currency: Option<String> = row.get("currency")?;
    let currency = currency.as_deref().and_then(Currency::parse);
    Ok(minor.zip(currency).map(|(minor, currency)| Money { minor, currency }))
}

/// The bytes of an event.
pub(super) async fn body(store: &Store, id: &str) -> Result<Vec<u8>> {
    let row = sql("select body from stripe_events where id = :id")
        .set("id", id)
        .fetch_one(store.pool())
        .await
        .context("could not read an event")?;
    Ok(row.get(0)?)
}

/// Claims the comparison of a source when it is due; one replica does it.
pub(super) async fn claim(
    store: &Store,
    source_id: &str,
    account: &str,
    now: Timestamp,
    lease: Duration,
) -> Result<bool> {
    let waiting = sql("select due_at_ms
           from stripe_reconciliations
          where source_id = :source_id and account = :account and (due_at_ms > :now or coalesce(claimed_until_ms, 0) > :now)")
    .set("source_id", source_id)
    .set("account", account)
    .set("now", now)
    .fetch_optional(store.pool())
    .await?;
    if waiting.is_some() {
        return Ok(false); // Asked often, so it must not cost a transaction.
    }
    let mut tx = store.begin().await?;
    insert_into("stripe_reconciliations")
        .set("source_id", source_id)
        .set("account", account)
        .set("due_at_ms", now)
        .or_ignore()
        .execute(&mut *tx)
        .await?;
    let claimed = sql("update stripe_reconciliations
            set claimed_until_ms = :claimed_until_ms
          where source_id = :source_id and account = :account and due_at_ms <= :now and coalesce(claimed_until_ms, 0) <= :now")
    .set("source_id", source_id)
    .set("account", account)
    .set("now", now)
    .set("claimed_until_ms", now.plus(lease))
    .execute(&mut *tx)
    .await
    .context("could not claim the reconciliation")?;
    tx.commit().await?;
    Ok(claimed.rows_affected() == 1)
}

/// Keeps a result, or why there is none, and when the next is due.
pub(super) async fn keep(
    store: &Store,
    source_id: &str,
    account: &str,
    now: Timestamp,
    due: Timestamp,
    outcome: Result<String, String>,
) -> Result<()> {
    let (result, error) = (outcome.as_ref().ok(), outcome.as_ref().err());
    let mut tx = store.begin().await?;
    insert_into("stripe_reconciliations")
        .set("source_id", source_id)
        .set("account", account)
        .set("due_at_ms", due)
        .set("checked_at_ms", result.is_some().then_some(now.as_ms()))
        .set("result", result)
        .set("error", error)
        .then(
            "on conflict (source_id, account)
             do update set due_at_ms = excluded.due_at_ms,
                           claimed_until_ms = null,
                           checked_at_ms = coalesce(excluded.checked_at_ms,
                                                    stripe_reconciliations.checked_at_ms),
                           result = coalesce(excluded.result, stripe_reconciliations.result),
                           error = excluded.error",
        )
        .execute(&mut *tx)
        .await
        .context("could not keep the reconciliation")?;
    tx.commit().await
}
