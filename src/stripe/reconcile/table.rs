//! SQL of the reconciliation: what the ledger has of Stripe's objects, and `stripe_reconciliations`.
//! Takes Stripe's IDs and a range; returns the ledger's side. Private to this module.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::ledgered::{Ledgered, Totals};
use super::{Adjustment, Arrived, Candidate, Comparison, Here, Part};
use crate::clock::Timestamp;
use crate::ids;
use crate::money::{Currency, Money};
use crate::store::Store;

/// Clocks differ; an event may seem to have been received before its object was made.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// The conversion that an object of Stripe's names.
pub(super) async fn here(store: &Store, account: &str, object_id: &str) -> Result<Option<Here>> {
    let row = sqlx::query(
        "select c.id, c.transaction_id, c.status, c.amount_minor, c.currency, c.paid_at_ms
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = $1 and o.object_id = $2 and o.role = 'identity'",
    )
    .bind(account)
    .bind(object_id)
    .fetch_optional(store.pool())
    .await
    .context("could not look for a conversion")?;
    row.as_ref().map(read_here).transpose()
}

fn read_here(row: &AnyRow) -> Result<Here> {
    Ok(Here {
        id: row.try_get("id")?,
        transaction_id: row.try_get("transaction_id")?,
        status: row.try_get("status")?,
        money: read_money(row)?,
        is_paid: row.try_get::<Option<i64>, _>("paid_at_ms")?.is_some(),
    })
}

/// The newest event about an object, and how it ended.
pub(super) async fn arrived(
    store: &Store,
    account: &str,
    object_id: &str,
) -> Result<Option<Arrived>> {
    let row = sqlx::query(
        "select id, event_id, state, error
           from stripe_events
          where account = $1 and object_id = $2
          order by id desc
          limit 1",
    )
    .bind(account)
    .bind(object_id)
    .fetch_optional(store.pool())
    .await
    .context("could not look for an event")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Arrived {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        state: row.try_get("state")?,
        error: row.try_get("error")?,
    }))
}

/// The newest event about each payment that may have been created in the range, with its paid conversion.
pub(super) async fn candidates(
    comparison: &Comparison<'_>,
    until: Timestamp,
) -> Result<BTreeMap<String, Candidate>> {
    let range = comparison.range;
    let rows = sqlx::query(
        "select e.id as row_id, e.source_id, e.object_id, e.type, c.id, c.transaction_id, c.status, c.amount_minor, c.currency, c.paid_at_ms
           from stripe_events e
           join stripe_objects o on o.account = e.account and o.object_id = e.object_id and o.role = 'identity'
           join conversions c on c.id = o.conversion_id
          where e.id >= $1 and e.account = $2 and e.livemode = $3 and e.state = 'processed'
            and e.type in ('checkout.session.completed', 'checkout.session.async_payment_succeeded', 'invoice.paid',
                           'payment_intent.succeeded')
            and coalesce(e.created_at_ms, e.received_at_ms) >= $4 and coalesce(e.created_at_ms, e.received_at_ms) < $5
            and c.paid_at_ms is not null
          order by e.id",
    )
    .bind(ids::first_record_id("sev_", range.from.minus(CLOCK_SKEW)))
    .bind(comparison.account)
    .bind(i64::from(comparison.records.api.is_live()))
    .bind(range.from.as_ms())
    .bind(until.as_ms())
    .fetch_all(comparison.store.pool())
    .await
    .context("could not list what was paid here")?;
    rows.iter()
        .map(|row| {
            let kind: String = row.try_get("type")?;
            let candidate = Candidate {
                event: row.try_get("row_id")?,
                source_id: row.try_get("source_id")?,
                part: match kind.as_str() {
                    "invoice.paid" => Part::Invoices,
                    "payment_intent.succeeded" => Part::PaymentIntents,
                    _ => Part::Checkouts,
                },
                here: read_here(row)?,
            };
            Ok((row.try_get("object_id")?, candidate))
        })
        .collect()
}

/// The newest event about each refund and dispute that may have been created in the range.
pub(super) async fn adjustments(
    comparison: &Comparison<'_>,
    until: Timestamp,
) -> Result<BTreeMap<String, Adjustment>> {
    let range = comparison.range;
    let rows = sqlx::query(
        "select id, object_id, type
           from stripe_events
          where id >= $1 and account = $2 and livemode = $3 and state = 'processed'
            and type in ('refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated',
                         'charge.dispute.created', 'charge.dispute.updated', 'charge.dispute.closed',
                         'charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated')
            and coalesce(created_at_ms, received_at_ms) >= $4 and coalesce(created_at_ms, received_at_ms) < $5
          order by id",
    )
    .bind(ids::first_record_id("sev_", range.from.minus(CLOCK_SKEW)))
    .bind(comparison.account)
    .bind(i64::from(comparison.records.api.is_live()))
    .bind(range.from.as_ms())
    .bind(until.as_ms())
    .fetch_all(comparison.store.pool())
    .await
    .context("could not list refunds and disputes")?;
    rows.iter()
        .map(|row| {
            let kind: String = row.try_get("type")?;
            let is_dispute = kind.starts_with("charge.dispute.");
            let part = if is_dispute { Part::Disputes } else { Part::Refunds };
            Ok((row.try_get("object_id")?, Adjustment { event: row.try_get("id")?, part }))
        })
        .collect()
}

/// The payment that an object of Stripe's belongs to.
pub(super) async fn ledgered(
    comparison: &Comparison<'_>,
    object_id: &str,
) -> Result<Option<Ledgered>> {
    let row = sqlx::query(
        "select p.facts, c.id, c.source_id, c.status, c.amount_minor, c.currency, c.refunded_minor, c.disputed_minor,
                c.lost_minor, c.paid_at_ms
           from stripe_objects o
           join payments p on p.id = o.conversion_id
           left join conversions c on c.id = p.id
          where o.account = $1 and o.object_id = $2 and o.role = 'identity'",
    )
    .bind(comparison.account)
    .bind(object_id)
    .fetch_optional(comparison.store.pool())
    .await
    .context("could not look for a payment")?;
    let Some(row) = row else { return Ok(None) };
    let facts: String = row.try_get("facts")?;
    let id: Option<String> = row.try_get("id")?;
    Ok(Some(Ledgered {
        facts: serde_json::from_str(&facts).context("a stored payment cannot be read")?,
        conversion: id.map(|id| read_totals(id, &row)).transpose()?,
    }))
}

fn read_totals(id: String, row: &AnyRow) -> Result<Totals> {
    Ok(Totals {
        id,
        source_id: row.try_get("source_id")?,
        is_paid: row.try_get::<Option<i64>, _>("paid_at_ms")?.is_some(),
        is_duplicate: row.try_get::<String, _>("status")? == "duplicate",
        money: read_money(row)?,
        refunded: row.try_get("refunded_minor")?,
        disputed: row.try_get("disputed_minor")?,
        lost: row.try_get("lost_minor")?,
    })
}

fn read_money(row: &AnyRow) -> Result<Option<Money>> {
    let minor: Option<i64> = row.try_get("amount_minor")?;
    let currency: Option<String> = row.try_get("currency")?;
    let currency = currency.as_deref().and_then(Currency::parse);
    Ok(minor.zip(currency).map(|(minor, currency)| Money { minor, currency }))
}

/// The bytes of an event.
pub(super) async fn body(store: &Store, id: &str) -> Result<Vec<u8>> {
    let row = sqlx::query("select body from stripe_events where id = $1")
        .bind(id)
        .fetch_one(store.pool())
        .await
        .context("could not read an event")?;
    Ok(row.try_get(0)?)
}

/// Claims the comparison of a source when it is due; one replica does it.
pub(super) async fn claim(
    store: &Store,
    source_id: &str,
    account: &str,
    now: Timestamp,
    lease: Duration,
) -> Result<bool> {
    let waiting = sqlx::query(
        "select due_at_ms
           from stripe_reconciliations
          where source_id = $1 and account = $2 and (due_at_ms > $3 or coalesce(claimed_until_ms, 0) > $3)",
    )
    .bind(source_id)
    .bind(account)
    .bind(now.as_ms())
    .fetch_optional(store.pool())
    .await?;
    if waiting.is_some() {
        return Ok(false); // Asked often, so it must not cost a transaction.
    }
    let mut tx = store.begin().await?;
    sqlx::query(
        "insert into stripe_reconciliations (source_id, account, due_at_ms) values ($1, $2, $3)
             on conflict (source_id, account) do nothing",
    )
    .bind(source_id)
    .bind(account)
    .bind(now.as_ms())
    .execute(&mut *tx)
    .await?;
    let claimed = sqlx::query(
        "update stripe_reconciliations
            set claimed_until_ms = $4
          where source_id = $1 and account = $2 and due_at_ms <= $3 and coalesce(claimed_until_ms, 0) <= $3",
    )
    .bind(source_id)
    .bind(account)
    .bind(now.as_ms())
    .bind(now.plus(lease).as_ms())
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
    sqlx::query(
        "insert into stripe_reconciliations (source_id, account, due_at_ms, checked_at_ms, result, error)
         values ($1, $2, $3, $4, $5, $6)
             on conflict (source_id, account) do update
            set due_at_ms = excluded.due_at_ms, claimed_until_ms = null,
                checked_at_ms = coalesce(excluded.checked_at_ms, stripe_reconciliations.checked_at_ms),
                result = coalesce(excluded.result, stripe_reconciliations.result), error = excluded.error",
    )
    .bind(source_id)
    .bind(account)
    .bind(due.as_ms())
    .bind(result.is_some().then_some(now.as_ms()))
    .bind(result)
    .bind(error)
    .execute(&mut *tx)
    .await
    .context("could not keep the reconciliation")?;
    tx.commit().await
}
