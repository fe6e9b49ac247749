//! SQL of a worker's turn: claims due deliveries, and writes the outcomes of their attempts.
//! Takes the time and a destination; returns claims, and the time of the next due delivery.
//! Guarantees that a delivery is claimed by one worker at a time, and that its attempt is stored
//! before it is made.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::{AHEAD, Timestamp};
use crate::domain::{AttemptOutcome, DeliveryReason, DeliveryState, FailureReason};
use crate::store::{Store, sql};

/// A claimed delivery, leased to this worker until `lease`, whose `n`-th attempt has started.
#[derive(Debug)]
pub(in crate::delivery) struct Claim {
    pub(in crate::delivery) id: String,
    pub(in crate::delivery) request: String,
    pub(in crate::delivery) content_type: String,
    /// Number of this attempt, from 1.
    pub(in crate::delivery) n: i64,
    /// Number of this try in the current schedule, from 1.
    pub(in crate::delivery) tries: i64,
    pub(in crate::delivery) lease: Timestamp,
    /// Too old to send after this.
    pub(in crate::delivery) expires_at: Option<Timestamp>,
    /// True if this message probes whether the destination is back.
    pub(in crate::delivery) is_probe: bool,
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
pub(in crate::delivery) async fn claim(
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
pub(in crate::delivery) async fn note_attempts(
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
pub(in crate::delivery) async fn give_up_unsent(
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
pub(in crate::delivery) async fn leased(
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
pub(in crate::delivery) struct Settlement<'a> {
    pub(in crate::delivery) claim: &'a Claim,
    pub(in crate::delivery) outcome: AttemptOutcome,
    pub(in crate::delivery) took_ms: i64,
    pub(in crate::delivery) status: Option<i64>,
    pub(in crate::delivery) answer: Option<String>,
    pub(in crate::delivery) error: Option<String>,
    pub(in crate::delivery) state: DeliveryState,
    pub(in crate::delivery) reason: Option<DeliveryReason>,
    pub(in crate::delivery) due: Timestamp,
}

/// Records the outcome of an attempt. Changes the delivery only if it still has the lease of this
/// attempt, so a late worker changes nothing. Only an acceptance counts whatever the lease.
pub(in crate::delivery) async fn settle(
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
pub(in crate::delivery) async fn release_lease(
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
pub(in crate::delivery) async fn end_leases(store: &Store) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update deliveries set claimed_until_ms = null where claimed_until_ms is not null")
        .execute(&mut *tx)
        .await
        .context("could not end the leases of the last run")?;
    tx.commit().await
}

/// Makes deliveries due now if their latest attempt, lease or creation lies in the future, because
/// then a clock that was ahead scheduled them.
pub(in crate::delivery) async fn bring_back(tx: &mut AnyConnection, now: Timestamp) -> Result<u64> {
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
pub(in crate::delivery) async fn next_due(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Text;
    use crate::{ids, visit};

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
