//! SQL of `deliveries` and `attempts`.
//! Takes messages, claims and outcomes; writes and reads their rows. Private to this module.

pub(super) mod breakers;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::make::Unmade;
use super::{Chosen, Existing, NewDelivery, PAID, Subject};
use crate::clock::{AHEAD, Timestamp};
use crate::destination::{Content, Draft, Made, Message};
use crate::domain::{AttemptOutcome, DeliveryReason, DeliveryState, FailureReason, SkipReason};
use crate::ids;
use crate::settings::Destination;
use crate::store::{Store, sql};

pub(super) async fn find(
    tx: &mut AnyConnection,
    destination_id: &str,
    conversion_id: &str,
    event_key: &str,
) -> Result<Option<Existing>> {
    let row = sql("select id, state, reason, request, facts, attempts, due_at_ms
           from deliveries
          where destination_id = :destination_id and conversion_id = :conversion_id and event_key = :event_key")
    .set("destination_id", destination_id)
    .set("conversion_id", conversion_id)
    .set("event_key", event_key)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Existing {
        id: row.get("id")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        request: row.get("request")?,
        facts: row.get("facts")?,
        attempts: row.get("attempts")?,
        due: row.get("due_at_ms")?,
    }))
}

/// The state of a queued message: `held` while its destination is disabled.
fn waiting(destination: &Destination) -> DeliveryState {
    if destination.enabled { DeliveryState::Pending } else { DeliveryState::Held }
}

pub(super) async fn insert(
    tx: &mut AnyConnection,
    now: Timestamp,
    due: Timestamp,
    event_key: &str,
    new: &NewDelivery<'_>,
    draft: &Result<Draft, SkipReason>,
) -> Result<()> {
    let (state, reason) = match draft {
        Ok(_) => (waiting(new.destination), None),
        Err(skip) => (DeliveryState::Skipped, Some(DeliveryReason::Skipped(*skip))),
    };
    let draft = draft.as_ref().ok();
    let (made, facts) = content(draft);
    sql("insert into deliveries (id, destination_id, conversion_id, event_key, event_name, transaction_id, state, reason,
                                 request, content_type, revision, attempts, schedule_from, due_at_ms, created_at_ms,
                                 settled_at_ms, facts, expires_at_ms)
         values (:id, :destination_id, :conversion_id, :event_key, :event_name, :transaction_id, :state, :reason, :request, :content_type, :revision, 0, 0, :due_at_ms, :created_at_ms, :settled_at_ms, :facts, :expires_at_ms)
             on conflict (destination_id, conversion_id, event_key) do nothing")
    .set("id", ids::new_record_id("dlv_", now))
    .set("destination_id", &new.destination.id)
    .set("conversion_id", new.conversion_id)
    .set("event_key", event_key)
    .set("event_name", draft.map_or("", |draft| &draft.event_name))
    .set("transaction_id", &new.outgoing.transaction_id)
    .set("state", state)
    .set("reason", reason)
    .set("request", made.map_or("", |made| &made.body))
    .set("content_type", made.map_or("", |made| made.content_type))
    .set("revision", new.destination.revision)
    .set("due_at_ms", due)
    .set("created_at_ms", now)
    .set("settled_at_ms", (state == DeliveryState::Skipped).then_some(now.as_ms()))
    .set("facts", facts)
    .set("expires_at_ms", new.expires_at())
    .execute(tx)
    .await
    .context("could not queue a message")?;
    Ok(())
}

/// The bytes of a draft, or the facts that they are built from later.
fn content(draft: Option<&Draft>) -> (Option<&Made>, Option<&str>) {
    match draft.map(|draft| &draft.content) {
        Some(Content::Made(made)) => (Some(made), None),
        Some(Content::Facts(facts)) => (None, Some(facts)),
        None => (None, None),
    }
}

/// Replaces a queued message, as long as it was never attempted.
pub(super) async fn write_draft(
    tx: &mut AnyConnection,
    id: &str,
    due: Timestamp,
    new: &NewDelivery<'_>,
    draft: &Draft,
) -> Result<()> {
    let destination = new.destination;
    let (made, facts) = content(Some(draft));
    sql("update deliveries
            set state = :state, reason = null, request = :request, content_type = :content_type, event_name = :event_name, revision = :revision, due_at_ms = :due,
                transaction_id = :transaction_id, settled_at_ms = null, expires_at_ms = :expires_at, facts = :facts
          where id = :id and attempts = 0")
    .set("state", waiting(destination))
    .set("request", made.map_or("", |made| &made.body))
    .set("content_type", made.map_or("", |made| made.content_type))
    .set("event_name", &draft.event_name)
    .set("revision", destination.revision)
    .set("due", due)
    .set("transaction_id", &draft.transaction_id)
    .set("expires_at", new.expires_at())
    .set("facts", facts)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not replace a message")?;
    Ok(())
}

pub(super) const UNMADE: &str =
    "select id, destination_id, facts from deliveries
      where request = '' and settled_at_ms is null and state in ('pending', 'held') and facts is not null
      order by created_at_ms
      limit :limit";

/// Queued messages without bytes, oldest first.
pub(super) async fn unmade(store: &Store, limit: i64) -> Result<Vec<Unmade>> {
    let rows = sql(UNMADE).set("limit", limit).fetch_all(store.pool()).await;
    let rows = rows.context("could not read which messages to build")?;
    rows.iter()
        .map(|row| {
            Ok(Unmade {
                id: row.get("id")?,
                destination_id: row.get("destination_id")?,
                facts: row.get("facts")?,
            })
        })
        .collect()
}

/// Stores the bytes that a mapping built, unless another process was faster or the facts have
/// changed.
pub(super) async fn freeze(
    tx: &mut AnyConnection,
    unmade: &Unmade,
    revision: i64,
    made: &Made,
) -> Result<()> {
    sql("update deliveries
            set request = :body, content_type = :content_type, revision = :revision
          where id = :id and request = '' and settled_at_ms is null and facts = :facts")
    .set("body", &made.body)
    .set("content_type", made.content_type)
    .set("revision", revision)
    .set("id", &unmade.id)
    .set("facts", &unmade.facts)
    .execute(tx)
    .await
    .context("could not freeze a message")?;
    Ok(())
}

/// Marks a delivery as failed because its mapping fails, on the same conditions.
pub(super) async fn give_up_unmade(
    tx: &mut AnyConnection,
    now: Timestamp,
    unmade: &Unmade,
    error: &str,
) -> Result<()> {
    sql("update deliveries
            set state = 'given_up', reason = 'mapping_error', last_error = :error, settled_at_ms = :now
          where id = :id and request = '' and settled_at_ms is null and facts = :facts")
    .set("error", error)
    .set("now", now)
    .set("id", &unmade.id)
    .set("facts", &unmade.facts)
    .execute(tx)
    .await
    .context("could not mark a delivery as failed whose mapping fails")?;
    Ok(())
}

/// Removes the bytes of a message, so that they are built again. Returns false while it is being
/// sent.
pub(super) async fn unmake(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    destination: &Destination,
) -> Result<bool> {
    let changed = sql("update deliveries
            set state = :state, reason = null, request = '',
                earlier_request = case when request = '' then earlier_request else request end,
                due_at_ms = :now, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null
          where id = :id and facts is not null and coalesce(claimed_until_ms, 0) <= :now")
    .set("state", waiting(destination))
    .set("now", now)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not remove the bytes of a message")?;
    Ok(changed.rows_affected() == 1)
}

/// The transaction ID of the message with this key; `None` if there is none, or it was skipped.
pub(super) async fn transaction_sent(
    tx: &mut AnyConnection,
    destination_id: &str,
    conversion_id: &str,
    event_key: &str,
) -> Result<Option<String>> {
    let row = sql("select transaction_id from deliveries
          where destination_id = :destination_id and conversion_id = :conversion_id and event_key = :event_key and state <> 'skipped'")
    .set("destination_id", destination_id)
    .set("conversion_id", conversion_id)
    .set("event_key", event_key)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// The highest refunded total that any message stated, in minor units; it is part of the message's
/// key.
pub(super) async fn highest_refund(
    tx: &mut AnyConnection,
    destination_id: &str,
    conversion_id: &str,
) -> Result<i64> {
    sql("select coalesce(max(cast(substr(event_key, 8) as bigint)), 0) as highest
           from deliveries
          where destination_id = :destination_id and conversion_id = :conversion_id and substr(event_key, 1, 7) = 'refund:'
            and substr(event_key, 8) not like '%:%'  -- one of a merged conversion")
    .set("destination_id", destination_id)
    .set("conversion_id", conversion_id)
    .value(tx)
    .await
    .context("could not read the refunds sent to a destination")
}

/// The number of messages of a conversion, and of their attempts.
pub(super) async fn count_of(tx: &mut AnyConnection, conversion_id: &str) -> Result<(i64, i64)> {
    let row =
        sql("select count(*) as messages, cast(coalesce(sum(attempts), 0) as bigint) as attempts
           from deliveries where conversion_id = :conversion_id")
        .set("conversion_id", conversion_id)
        .fetch_one(tx)
        .await?;
    Ok((row.get(0)?, row.get(1)?))
}

pub(super) async fn adopt(tx: &mut AnyConnection, from: &str, into: &str) -> Result<()> {
    for text in [
        "update deliveries set conversion_id = :into
          where conversion_id = :from
            and not exists (select 1 from deliveries o
                             where o.conversion_id = :into and o.destination_id = deliveries.destination_id
                               and o.event_key = deliveries.event_key)",
        "delete from deliveries where conversion_id = :from and conversion_id <> :into and attempts = 0",
        "update deliveries set conversion_id = :into, event_key = event_key || ':' || :from where conversion_id = :from",
    ] {
        sql(text)
            .set("from", from)
            .set("into", into)
            .execute(&mut *tx)
            .await
            .context("could not move the messages of a merged payment")?;
    }
    Ok(())
}

pub(super) async fn requeue(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let changed = sql("update deliveries
            set state = 'pending', reason = null, due_at_ms = :now, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null
          where id = :id and state in ('given_up', 'pending') and (request <> '' or facts is not null)")
    .set("now", now)
    .set("id", id)
    .execute(tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn requeue_all(
    tx: &mut AnyConnection,
    now: Timestamp,
    chosen: &Chosen,
) -> Result<u64> {
    let changed = sql("update deliveries
            set state = 'pending', reason = null, due_at_ms = :now, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null
          where destination_id = :destination_id and state = 'given_up' and (request <> '' or facts is not null)
            and created_at_ms >= :since and (cast(:reason as text) is null or reason = :reason)")
    .set("now", now)
    .set("destination_id", &chosen.destination_id)
    .set("since", chosen.since)
    .set("reason", &chosen.reason)
    .execute(tx)
    .await?;
    Ok(changed.rows_affected())
}

pub(super) async fn subject(store: &Store, id: &str) -> Result<Option<Subject>> {
    let row = sql("select destination_id, conversion_id, transaction_id, event_key, facts from deliveries where id = :id")
    .set("id", id)
    .fetch_optional(store.pool())
    .await
    .context("could not find a delivery")?;
    row.map(|row| {
        Ok(Subject {
            destination_id: row.get("destination_id")?,
            conversion_id: row.get("conversion_id")?,
            transaction_id: row.get("transaction_id")?,
            tells_of_payment: row.get::<String>("event_key")? == PAID,
            has_facts: row.get::<Option<String>>("facts")?.is_some(),
        })
    })
    .transpose()
}

/// Returns false while it is being sent, or if there is no such delivery.
pub(super) async fn refreeze(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    destination: &Destination,
    message: &Message,
) -> Result<bool> {
    let changed = sql("update deliveries
            set state = :state, reason = null, earlier_request = request, request = :body, content_type = :content_type, event_name = :event_name,
                revision = :revision, due_at_ms = :now, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null,
                facts = null
          where id = :id and coalesce(claimed_until_ms, 0) <= :now")
    .set("state", waiting(destination))
    .set("body", &message.body)
    .set("content_type", message.content_type)
    .set("event_name", &message.event_name)
    .set("revision", destination.revision)
    .set("now", now)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not replace the bytes of a message")?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn hold(tx: &mut AnyConnection, destination_id: &str) -> Result<()> {
    sql("update deliveries set state = 'held' where destination_id = :destination_id and state = 'pending'")
    .set("destination_id", destination_id)
    .execute(tx)
    .await
    .context("could not pause queued messages")?;
    Ok(())
}

/// Makes paused messages due at once, oldest first.
pub(super) async fn release(tx: &mut AnyConnection, destination_id: &str) -> Result<()> {
    sql("update deliveries set state = 'pending', due_at_ms = created_at_ms where destination_id = :destination_id and state = 'held'")
    .set("destination_id", destination_id)
    .execute(tx)
    .await
    .context("could not resume paused messages")?;
    Ok(())
}

pub(super) async fn give_up_all(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
) -> Result<()> {
    sql("update deliveries
            set state = 'given_up', reason = 'destination_deleted', settled_at_ms = :now
          where destination_id = :destination_id and state in ('pending', 'held')")
    .set("now", now)
    .set("destination_id", destination_id)
    .execute(tx)
    .await
    .context("could not mark queued messages as failed")?;
    Ok(())
}

pub(super) async fn state_of(tx: &mut AnyConnection, id: &str) -> Result<Option<DeliveryState>> {
    let row =
        sql("select state from deliveries where id = :id").set("id", id).fetch_optional(tx).await?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

/// A claimed delivery, leased to this worker until `lease`, whose `n`-th attempt has started.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: String,
    pub(super) request: String,
    pub(super) content_type: String,
    /// Number of this attempt, from 1.
    pub(super) n: i64,
    /// Number of this try in the current schedule, from 1.
    pub(super) tries: i64,
    pub(super) lease: Timestamp,
    /// Too old to send after this.
    pub(super) expires_at: Option<Timestamp>,
    /// True if this message probes whether the destination is back.
    pub(super) is_probe: bool,
}

const CLAIM: &str =
    "update deliveries
        set claimed_until_ms = :lease, attempts = attempts + 1
      where id in (select id from deliveries
                    where destination_id = :destination_id and state = 'pending' and due_at_ms <= :now and request <> ''
                      and coalesce(claimed_until_ms, 0) <= :now
                    order by due_at_ms limit :limit)
        and state = 'pending' and coalesce(claimed_until_ms, 0) <= :now  -- repeated: it may have changed since the sub-select
     returning id, request, content_type, attempts, schedule_from, expires_at_ms";

/// Claims up to `limit` due deliveries of a destination, oldest first, and counts their attempts.
pub(super) async fn claim(
    tx: &mut AnyConnection,
    now: Timestamp,
    lease: Timestamp,
    destination_id: &str,
    limit: i64,
) -> Result<Vec<Claim>> {
    let rows = sql(CLAIM)
        .set("now", now)
        .set("lease", lease)
        .set("destination_id", destination_id)
        .set("limit", limit)
        .fetch_all(tx)
        .await
        .context("could not claim due deliveries")?;
    rows.iter()
        .map(|row| {
            let (n, schedule_from): (i64, i64) = (row.get("attempts")?, row.get("schedule_from")?);
            Ok(Claim {
                id: row.get("id")?,
                request: row.get("request")?,
                content_type: row.get("content_type")?,
                n,
                tries: n - schedule_from,
                lease,
                expires_at: row.get("expires_at_ms")?,
                is_probe: false,
            })
        })
        .collect()
}

const NOTE: &str = "insert into attempts (delivery_id, n, started_at_ms, outcome)
     select id, attempts, :now, 'unknown' from deliveries
      where destination_id = :destination_id and claimed_until_ms = :lease and state = 'pending'
         on conflict do nothing  -- another worker's of the same moment";

/// Records that the attempts have started that were just claimed until `lease`, all at once. After
/// a crash, they are listed with an unknown outcome.
pub(super) async fn note_attempts(
    tx: &mut AnyConnection,
    now: Timestamp,
    lease: Timestamp,
    destination_id: &str,
) -> Result<()> {
    sql(NOTE)
        .set("now", now)
        .set("destination_id", destination_id)
        .set("lease", lease)
        .execute(tx)
        .await
        .context("could not record the start of attempts")?;
    Ok(())
}

/// Marks a delivery as failed that was just claimed and must not be sent: the claim does not count
/// as an attempt.
pub(super) async fn give_up_unsent(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    reason: FailureReason,
) -> Result<()> {
    sql("update deliveries
            set state = 'given_up', reason = :reason, claimed_until_ms = null, settled_at_ms = :now, attempts = attempts - 1
          where id = :id and state = 'pending'")
    .set("reason", reason)
    .set("now", now)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not mark a delivery as failed")?;
    Ok(())
}

const LEASED: &str = "select count(*) from deliveries where destination_id = :destination_id and claimed_until_ms > :now";

/// The number of deliveries of a destination that are being sent now, by any replica.
pub(super) async fn leased(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
) -> Result<i64> {
    sql(LEASED)
        .set("destination_id", destination_id)
        .set("now", now)
        .value(tx)
        .await
        .context("could not count the leases of a destination")
}

/// The outcome of an attempt, and what it means for the delivery.
pub(super) struct Settlement<'a> {
    pub(super) claim: &'a Claim,
    pub(super) outcome: AttemptOutcome,
    pub(super) took_ms: i64,
    pub(super) status: Option<i64>,
    pub(super) answer: Option<String>,
    pub(super) error: Option<String>,
    pub(super) state: DeliveryState,
    pub(super) reason: Option<DeliveryReason>,
    pub(super) due: Timestamp,
}

/// Records the outcome of an attempt. Changes the delivery only if it still has the lease of this
/// attempt, so a late worker changes nothing. Only an acceptance counts whatever the lease.
pub(super) async fn settle(
    tx: &mut AnyConnection,
    now: Timestamp,
    end: &Settlement<'_>,
) -> Result<()> {
    sql("update attempts set took_ms = :took_ms, outcome = :outcome, status = :status, answer = :answer, error = :error
          where delivery_id = :delivery_id and n = :n")
    .set("took_ms", end.took_ms)
    .set("outcome", end.outcome)
    .set("status", end.status)
    .set("answer", &end.answer)
    .set("error", &end.error)
    .set("delivery_id", &end.claim.id)
    .set("n", end.claim.n)
    .execute(&mut *tx)
    .await
    .context("could not record the outcome of an attempt")?;
    // If the destination was disabled meanwhile, the delivery is `held`, and stays so unless this
    // outcome is final.
    sql("update deliveries
            set state = case when state = 'held' and :state = 'pending' then 'held' else :state end,
                reason = :reason, due_at_ms = :due, claimed_until_ms = null, last_status = :status, last_error = :error, settled_at_ms = :settled_at_ms,
                facts = case when :state = 'delivered' then null else facts end
          where id = :id
            and ((state in ('pending', 'held') and claimed_until_ms = :lease)
                 or (:state = 'delivered' and state in ('pending', 'held', 'given_up')))")
    .set("state", end.state)
    .set("reason", end.reason)
    .set("due", end.due)
    .set("status", end.status)
    .set("error", &end.error)
    .set("settled_at_ms", (end.state != DeliveryState::Pending).then_some(now.as_ms()))
    .set("id", &end.claim.id)
    .set("lease", end.claim.lease)
    .execute(tx)
    .await
    .context("could not record the outcome of a delivery")?;
    Ok(())
}

/// Releases a claimed delivery before its attempt has ended; the attempt's outcome stays unknown.
pub(super) async fn release_lease(
    tx: &mut AnyConnection,
    id: &str,
    n: i64,
    lease: Timestamp,
) -> Result<()> {
    sql("update deliveries set claimed_until_ms = null where id = :id and claimed_until_ms = :lease")
    .set("id", id)
    .set("lease", lease)
    .execute(&mut *tx)
    .await
    .context("could not release a delivery")?;
    sql("update attempts set error = 'Clickstamp was stopped before the response arrived'
          where delivery_id = :delivery_id and n = :n and outcome = 'unknown'")
    .set("delivery_id", id)
    .set("n", n)
    .execute(tx)
    .await
    .context("could not record that an attempt was cut off")?;
    Ok(())
}

/// Ends all leases. Only for a process that is alone with its database, where no other process can
/// hold one.
pub(super) async fn end_leases(store: &Store) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update deliveries set claimed_until_ms = null where claimed_until_ms is not null")
        .execute(&mut *tx)
        .await
        .context("could not end the leases of the last run")?;
    tx.commit().await
}

/// Makes deliveries due now if their latest attempt, lease or creation lies in the future, because
/// then a clock that was ahead scheduled them.
pub(super) async fn bring_back(tx: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let done = sql("update deliveries
            set due_at_ms = case when due_at_ms > :now then :now else due_at_ms end, claimed_until_ms = null
          where state = 'pending' and (due_at_ms > :now or claimed_until_ms > :claimed_until_ms)
            and (created_at_ms > :claimed_until_ms or claimed_until_ms > :claimed_until_ms
                 or exists (select 1 from attempts
                             where attempts.delivery_id = deliveries.id and attempts.n = deliveries.attempts
                               and attempts.started_at_ms > :claimed_until_ms))")
    .set("now", now)
    .set("claimed_until_ms", now.plus(AHEAD))
    .execute(tx)
    .await
    .context("could not reschedule deliveries after a clock was set back")?;
    Ok(done.rows_affected())
}

const NEXT_DUE: &str =
    "select min(at_ms)
       from (select at_ms
               from (select due_at_ms as at_ms from deliveries
                      where destination_id = :destination_id and state = 'pending' and coalesce(claimed_until_ms, 0) <= :now and request <> ''
                      order by due_at_ms limit 1) as free
             union all
             select min(claimed_until_ms) from deliveries
              where destination_id = :destination_id and claimed_until_ms > :now and state = 'pending') as both_kinds";

/// The time of a destination's next delivery: when one is due, or a lease ends.
pub(super) async fn next_due(
    store: &Store,
    now: Timestamp,
    destination_id: &str,
) -> Result<Option<Timestamp>> {
    sql(NEXT_DUE)
        .set("destination_id", destination_id)
        .set("now", now)
        .value(store.pool())
        .await
        .context("could not read the next due delivery")
}

/// Deletes messages of a conversion that were never attempted. Returns true if no message is left.
pub(super) async fn delete_unattempted(
    tx: &mut AnyConnection,
    conversion_id: &str,
) -> Result<bool> {
    sql("delete from deliveries where conversion_id = :conversion_id and attempts = 0")
        .set("conversion_id", conversion_id)
        .execute(&mut *tx)
        .await
        .context("could not delete messages that were never attempted")?;
    let left = sql("select id from deliveries where conversion_id = :conversion_id limit 1")
        .set("conversion_id", conversion_id)
        .fetch_optional(tx)
        .await?;
    Ok(left.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Text;
    use crate::visit;

    /// Every query of a worker's turn is answered from the index of the destination's due or leased
    /// rows, in their order, so a backlog of this or another destination does not slow the turn
    /// down.
    #[tokio::test]
    async fn a_turn_costs_the_same_with_any_backlog() {
        let directory = std::env::temp_dir().join(format!("plans_{}", ids::new_secret()));
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let store = Store::open(&url, &visit::VISITS, &visit::COUNTS).await.unwrap();
        for (text, indexes) in [
            (
                NEXT_DUE,
                &[
                    "deliveries_due (destination_id=?)",
                    "deliveries_leased (destination_id=? AND claimed_until_ms>?)",
                ][..],
            ),
            (LEASED, &["deliveries_leased (destination_id=? AND claimed_until_ms>?)"]),
            (NOTE, &["deliveries_leased (destination_id=? AND claimed_until_ms=?)"]),
            (CLAIM, &["(state=? AND id=?)", "deliveries_due (destination_id=? AND due_at_ms<?)"]),
        ] {
            let rows = ["now", "lease", "destination_id", "limit"]
                .into_iter()
                .fold(sql(Text::from("explain query plan ") + text), |query, name| {
                    query.set(name, 1)
                })
                .fetch_all(store.pool())
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail").unwrap()).collect();
            let reads: Vec<_> = plan.iter().filter(|step| step.contains(" deliveries")).collect();
            assert_eq!(reads.len(), indexes.len(), "{plan:?}");
            for index in indexes {
                assert!(
                    reads.iter().any(|step| step.starts_with("SEARCH") && step.ends_with(index)),
                    "{index}: {plan:?}"
                );
            }
            assert!(!plan.iter().any(|step| step.contains("TEMP B-TREE")), "it sorts: {plan:?}");
        }
        store.close().await;
        let _ = std::fs::remove_dir_all(directory); // Leftover temporary files do no harm.
    }
}
