//! SQL of `deliveries` and `attempts`.
//! In: what is owed, claimed, settled. Out: rows. Private to this room.

pub(super) mod breakers;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::make::Unmade;
use super::{Chosen, Existing, Owed, PAID, Subject};
use crate::clock::Timestamp;
use crate::destination::{Content, Draft, Made, Message, Skip};
use crate::ids;
use crate::settings::Destination;
use crate::store::Store;

pub(super) async fn find(
    tx: &mut AnyConnection,
    destination_id: &str,
    conversion_id: &str,
    event_key: &str,
) -> Result<Option<Existing>> {
    let row = sqlx::query(
        "select id, state, reason, request, facts, attempts, due_at_ms
           from deliveries
          where destination_id = $1 and conversion_id = $2 and event_key = $3",
    )
    .bind(destination_id)
    .bind(conversion_id)
    .bind(event_key)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Existing {
        id: row.try_get("id")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        request: row.try_get("request")?,
        facts: row.try_get("facts")?,
        attempts: row.try_get("attempts")?,
        due: Timestamp::from_ms(row.try_get("due_at_ms")?),
    }))
}

pub(super) async fn insert(
    tx: &mut AnyConnection,
    now: Timestamp,
    due: Timestamp,
    event_key: &str,
    owed: &Owed<'_>,
    draft: &Result<Draft, Skip>,
) -> Result<()> {
    let (state, reason) = match draft {
        Ok(_) if owed.destination.enabled => ("pending", None),
        Ok(_) => ("held", None),
        Err(skip) => ("skipped", Some(skip.word())),
    };
    let draft = draft.as_ref().ok();
    let (made, facts) = content(draft);
    sqlx::query(
        "insert into deliveries (id, destination_id, conversion_id, event_key, event_name, transaction_id, state, reason,
                                 request, content_type, revision, attempts, schedule_from, due_at_ms, created_at_ms,
                                 settled_at_ms, facts, expires_at_ms)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, 0, $12, $13, $14, $15, $16)
             on conflict (destination_id, conversion_id, event_key) do nothing",
    )
    .bind(ids::new_record_id("dlv_", now))
    .bind(&owed.destination.id)
    .bind(owed.conversion_id)
    .bind(event_key)
    .bind(draft.map_or("", |draft| &draft.event_name))
    .bind(&owed.outgoing.transaction_id)
    .bind(state)
    .bind(reason)
    .bind(made.map_or("", |made| &made.body))
    .bind(made.map_or("", |made| made.content_type))
    .bind(owed.destination.revision)
    .bind(due.as_ms())
    .bind(now.as_ms())
    .bind((state == "skipped").then_some(now.as_ms()))
    .bind(facts)
    .bind(owed.expires_at().map(Timestamp::as_ms))
    .execute(tx)
    .await
    .context("could not write what is owed")?;
    Ok(())
}

/// The bytes of a draft, or what they are made of later.
fn content(draft: Option<&Draft>) -> (Option<&Made>, Option<&str>) {
    match draft.map(|draft| &draft.content) {
        Some(Content::Made(made)) => (Some(made), None),
        Some(Content::Facts(facts)) => (None, Some(facts)),
        None => (None, None),
    }
}

/// Writes another message, as long as nobody tried to send the old one.
pub(super) async fn write_draft(
    tx: &mut AnyConnection,
    id: &str,
    due: Timestamp,
    owed: &Owed<'_>,
    draft: &Draft,
) -> Result<()> {
    let destination = owed.destination;
    let (made, facts) = content(Some(draft));
    sqlx::query(
        "update deliveries
            set state = $1, reason = null, request = $2, content_type = $3, event_name = $4, revision = $5, due_at_ms = $6,
                transaction_id = $7, settled_at_ms = null, expires_at_ms = $8, facts = $9
          where id = $10 and attempts = 0",
    )
    .bind(if destination.enabled { "pending" } else { "held" })
    .bind(made.map_or("", |made| &made.body))
    .bind(made.map_or("", |made| made.content_type))
    .bind(&draft.event_name)
    .bind(destination.revision)
    .bind(due.as_ms())
    .bind(&draft.transaction_id)
    .bind(owed.expires_at().map(Timestamp::as_ms))
    .bind(facts)
    .bind(id)
    .execute(tx)
    .await
    .context("could not write another message")?;
    Ok(())
}

pub(super) const UNMADE: &str =
    "select id, destination_id, facts from deliveries
      where request = '' and settled_at_ms is null and state in ('pending', 'held') and facts is not null
      order by created_at_ms
      limit $1";

/// Messages that no mapping has made yet, the oldest first.
pub(super) async fn unmade(store: &Store, limit: i64) -> Result<Vec<Unmade>> {
    let rows = sqlx::query(UNMADE).bind(limit).fetch_all(store.pool()).await;
    let rows = rows.context("could not see which messages are to be made")?;
    rows.iter()
        .map(|row| {
            Ok(Unmade {
                id: row.try_get("id")?,
                destination_id: row.try_get("destination_id")?,
                facts: row.try_get("facts")?,
            })
        })
        .collect()
}

/// Freezes a message that a mapping made, unless somebody was faster or its facts are others by now.
pub(super) async fn freeze(
    tx: &mut AnyConnection,
    unmade: &Unmade,
    revision: i64,
    made: &Made,
) -> Result<()> {
    sqlx::query(
        "update deliveries
            set request = $1, content_type = $2, revision = $3
          where id = $4 and request = '' and settled_at_ms is null and facts = $5",
    )
    .bind(&made.body)
    .bind(made.content_type)
    .bind(revision)
    .bind(&unmade.id)
    .bind(&unmade.facts)
    .execute(tx)
    .await
    .context("could not freeze a message")?;
    Ok(())
}

/// Gives a delivery up because its mapping fails, on the same conditions.
pub(super) async fn give_up_unmade(
    tx: &mut AnyConnection,
    now: Timestamp,
    unmade: &Unmade,
    error: &str,
) -> Result<()> {
    sqlx::query(
        "update deliveries
            set state = 'given_up', reason = 'mapping_error', last_error = $1, settled_at_ms = $2
          where id = $3 and request = '' and settled_at_ms is null and facts = $4",
    )
    .bind(error)
    .bind(now.as_ms())
    .bind(&unmade.id)
    .bind(&unmade.facts)
    .execute(tx)
    .await
    .context("could not give up a delivery whose mapping fails")?;
    Ok(())
}

/// Lets a message be made again. False while somebody is sending it.
pub(super) async fn unmake(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    destination: &Destination,
) -> Result<bool> {
    let changed = sqlx::query(
        "update deliveries
            set state = $1, reason = null, request = '',
                earlier_request = case when request = '' then earlier_request else request end,
                due_at_ms = $2, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null
          where id = $3 and facts is not null and coalesce(claimed_until_ms, 0) <= $2",
    )
    .bind(if destination.enabled { "pending" } else { "held" })
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not let a message be made again")?;
    Ok(changed.rows_affected() == 1)
}

/// The transaction under which a destination was, or will be, told of this; none when it is not.
pub(super) async fn transaction_told(
    tx: &mut AnyConnection,
    destination_id: &str,
    conversion_id: &str,
    event_key: &str,
) -> Result<Option<String>> {
    let row = sqlx::query(
        "select transaction_id from deliveries
          where destination_id = $1 and conversion_id = $2 and event_key = $3 and state <> 'skipped'",
    )
    .bind(destination_id)
    .bind(conversion_id)
    .bind(event_key)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// The most money given back that a destination was told of, in minor units; it stands in the key.
pub(super) async fn highest_refund(
    tx: &mut AnyConnection,
    destination_id: &str,
    conversion_id: &str,
) -> Result<i64> {
    let row = sqlx::query(
        "select coalesce(max(cast(substr(event_key, 8) as bigint)), 0) as highest
           from deliveries
          where destination_id = $1 and conversion_id = $2 and substr(event_key, 1, 7) = 'refund:'
            and substr(event_key, 8) not like '%:%'  -- one of a merged conversion",
    )
    .bind(destination_id)
    .bind(conversion_id)
    .fetch_one(tx)
    .await
    .context("could not read what a destination knows of refunds")?;
    Ok(row.try_get(0)?)
}

/// How many messages a conversion has, and how often somebody tried to send them.
pub(super) async fn count_of(tx: &mut AnyConnection, conversion_id: &str) -> Result<(i64, i64)> {
    let row = sqlx::query(
        "select count(*) as messages, cast(coalesce(sum(attempts), 0) as bigint) as attempts
           from deliveries where conversion_id = $1",
    )
    .bind(conversion_id)
    .fetch_one(tx)
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub(super) async fn adopt(tx: &mut AnyConnection, from: &str, into: &str) -> Result<()> {
    for text in [
        "update deliveries set conversion_id = $2
          where conversion_id = $1
            and not exists (select 1 from deliveries o
                             where o.conversion_id = $2 and o.destination_id = deliveries.destination_id
                               and o.event_key = deliveries.event_key)",
        "delete from deliveries where conversion_id = $1 and conversion_id <> $2 and attempts = 0",
        "update deliveries set conversion_id = $2, event_key = event_key || ':' || $1 where conversion_id = $1",
    ] {
        sqlx::query(text)
            .bind(from)
            .bind(into)
            .execute(&mut *tx)
            .await
            .context("could not hand over the messages of a merged payment")?;
    }
    Ok(())
}

pub(super) async fn owe_again(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let changed = sqlx::query(
        "update deliveries
            set state = 'pending', reason = null, due_at_ms = $1, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null
          where id = $2 and state in ('given_up', 'pending') and (request <> '' or facts is not null)",
    )
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn owe_all_again(
    tx: &mut AnyConnection,
    now: Timestamp,
    chosen: &Chosen,
) -> Result<u64> {
    let changed = sqlx::query(
        "update deliveries
            set state = 'pending', reason = null, due_at_ms = $1, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null
          where destination_id = $2 and state = 'given_up' and (request <> '' or facts is not null)
            and created_at_ms >= $3 and (cast($4 as text) is null or reason = $4)",
    )
    .bind(now.as_ms())
    .bind(&chosen.destination_id)
    .bind(chosen.since.as_ms())
    .bind(chosen.reason.as_deref())
    .execute(tx)
    .await?;
    Ok(changed.rows_affected())
}

pub(super) async fn subject(store: &Store, id: &str) -> Result<Option<Subject>> {
    let row = sqlx::query(
        "select destination_id, conversion_id, transaction_id, event_key, facts from deliveries where id = $1",
    )
    .bind(id)
    .fetch_optional(store.pool())
    .await
    .context("could not find a delivery")?;
    row.map(|row| {
        Ok(Subject {
            destination_id: row.try_get("destination_id")?,
            conversion_id: row.try_get("conversion_id")?,
            transaction_id: row.try_get("transaction_id")?,
            tells_of_payment: row.try_get::<String, _>("event_key")? == PAID,
            has_facts: row.try_get::<Option<String>, _>("facts")?.is_some(),
        })
    })
    .transpose()
}

/// False while somebody is sending it, or when there is no such delivery.
pub(super) async fn refreeze(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    destination: &Destination,
    message: &Message,
) -> Result<bool> {
    let changed = sqlx::query(
        "update deliveries
            set state = $1, reason = null, earlier_request = request, request = $2, content_type = $3, event_name = $4,
                revision = $5, due_at_ms = $6, schedule_from = attempts, settled_at_ms = null, expires_at_ms = null,
                facts = null
          where id = $7 and coalesce(claimed_until_ms, 0) <= $6",
    )
    .bind(if destination.enabled { "pending" } else { "held" })
    .bind(&message.body)
    .bind(message.content_type)
    .bind(&message.event_name)
    .bind(destination.revision)
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not freeze a message anew")?;
    Ok(changed.rows_affected() == 1)
}

pub(super) async fn hold(tx: &mut AnyConnection, destination_id: &str) -> Result<()> {
    sqlx::query(
        "update deliveries set state = 'held' where destination_id = $1 and state = 'pending'",
    )
    .bind(destination_id)
    .execute(tx)
    .await
    .context("could not hold what is owed")?;
    Ok(())
}

/// What was held is due at once, the oldest first.
pub(super) async fn release(tx: &mut AnyConnection, destination_id: &str) -> Result<()> {
    sqlx::query(
        "update deliveries set state = 'pending', due_at_ms = created_at_ms where destination_id = $1 and state = 'held'",
    )
    .bind(destination_id)
    .execute(tx)
    .await
    .context("could not release what was held")?;
    Ok(())
}

pub(super) async fn give_up_all(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
) -> Result<()> {
    sqlx::query(
        "update deliveries
            set state = 'given_up', reason = 'destination_deleted', settled_at_ms = $1
          where destination_id = $2 and state in ('pending', 'held')",
    )
    .bind(now.as_ms())
    .bind(destination_id)
    .execute(tx)
    .await
    .context("could not give up what was owed")?;
    Ok(())
}

pub(super) async fn state_of(tx: &mut AnyConnection, id: &str) -> Result<Option<String>> {
    let row = sqlx::query("select state from deliveries where id = $1")
        .bind(id)
        .fetch_optional(tx)
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// A claimed delivery: leased to us until `lease`, its `n`-th attempt begun.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) id: String,
    pub(super) request: String,
    pub(super) content_type: String,
    /// Number of this attempt, from 1.
    pub(super) n: i64,
    /// Tries of the present schedule, this one included.
    pub(super) tries: i64,
    pub(super) lease: Timestamp,
    /// Not worth sending any more after this.
    pub(super) expires_at: Option<Timestamp>,
    /// Whether it is the one message that asks if the destination is back.
    pub(super) is_probe: bool,
}

const CLAIM: &str =
    "update deliveries
        set claimed_until_ms = $2, attempts = attempts + 1
      where id in (select id from deliveries
                    where destination_id = $3 and state = 'pending' and due_at_ms <= $1 and request <> ''
                      and coalesce(claimed_until_ms, 0) <= $1
                    order by due_at_ms limit $4)
        and state = 'pending' and coalesce(claimed_until_ms, 0) <= $1  -- repeated: it may have changed since the sub-select
     returning id, request, content_type, attempts, schedule_from, expires_at_ms";

/// Claims up to `limit` due deliveries of a destination, oldest first, counting their attempts.
pub(super) async fn claim(
    tx: &mut AnyConnection,
    now: Timestamp,
    lease: Timestamp,
    destination_id: &str,
    limit: i64,
) -> Result<Vec<Claim>> {
    let rows = sqlx::query(CLAIM)
        .bind(now.as_ms())
        .bind(lease.as_ms())
        .bind(destination_id)
        .bind(limit)
        .fetch_all(tx)
        .await
        .context("could not claim due deliveries")?;
    rows.iter()
        .map(|row| {
            let (n, schedule_from): (i64, i64) =
                (row.try_get("attempts")?, row.try_get("schedule_from")?);
            Ok(Claim {
                id: row.try_get("id")?,
                request: row.try_get("request")?,
                content_type: row.try_get("content_type")?,
                n,
                tries: n - schedule_from,
                lease,
                expires_at: row.try_get::<Option<i64>, _>("expires_at_ms")?.map(Timestamp::from_ms),
                is_probe: false,
            })
        })
        .collect()
}

const NOTE: &str = "insert into attempts (delivery_id, n, started_at_ms, outcome)
     select id, attempts, $1, 'unknown' from deliveries
      where destination_id = $2 and claimed_until_ms = $3 and state = 'pending'
         on conflict do nothing  -- another worker's of the same moment";

/// Notes that the attempts begin that were just claimed until `lease`, all at once: a crash after this is an attempt of unknown outcome.
pub(super) async fn note_attempts(
    tx: &mut AnyConnection,
    now: Timestamp,
    lease: Timestamp,
    destination_id: &str,
) -> Result<()> {
    sqlx::query(NOTE)
        .bind(now.as_ms())
        .bind(destination_id)
        .bind(lease.as_ms())
        .execute(tx)
        .await
        .context("could not note that attempts begin")?;
    Ok(())
}

/// Gives up what was just claimed and must not be sent: the claim's attempt does not count.
pub(super) async fn give_up_unsent(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    reason: &'static str,
) -> Result<()> {
    sqlx::query(
        "update deliveries
            set state = 'given_up', reason = $1, claimed_until_ms = null, settled_at_ms = $2, attempts = attempts - 1
          where id = $3 and state = 'pending'",
    )
    .bind(reason)
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not give a delivery up")?;
    Ok(())
}

const LEASED: &str =
    "select count(*) from deliveries where destination_id = $1 and claimed_until_ms > $2";

/// How many deliveries of a destination somebody is sending right now, on whatever replica.
pub(super) async fn leased(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
) -> Result<i64> {
    let row = sqlx::query(LEASED)
        .bind(destination_id)
        .bind(now.as_ms())
        .fetch_one(tx)
        .await
        .context("could not count the leases of a destination")?;
    Ok(row.try_get(0)?)
}

/// How an attempt ended, and what follows.
pub(super) struct Settlement<'a> {
    pub(super) claim: &'a Claim,
    pub(super) outcome: &'static str,
    pub(super) took_ms: i64,
    pub(super) status: Option<i64>,
    pub(super) answer: Option<String>,
    pub(super) error: Option<String>,
    /// `pending`, `delivered` or `given_up`.
    pub(super) state: &'static str,
    pub(super) reason: Option<&'static str>,
    pub(super) due: Timestamp,
}

/// Ends an attempt. It names the lease it held, so that a late worker changes nothing; only an acceptance still counts, whoever holds it now.
pub(super) async fn settle(
    tx: &mut AnyConnection,
    now: Timestamp,
    end: &Settlement<'_>,
) -> Result<()> {
    sqlx::query(
        "update attempts set took_ms = $1, outcome = $2, status = $3, answer = $4, error = $5
          where delivery_id = $6 and n = $7",
    )
    .bind(end.took_ms)
    .bind(end.outcome)
    .bind(end.status)
    .bind(end.answer.as_deref())
    .bind(end.error.as_deref())
    .bind(&end.claim.id)
    .bind(end.claim.n)
    .execute(&mut *tx)
    .await
    .context("could not note how an attempt ended")?;
    // A destination that was disabled meanwhile has made it `held`, and so it stays unless this was the end of it.
    sqlx::query(
        "update deliveries
            set state = case when state = 'held' and $1 = 'pending' then 'held' else $1 end,
                reason = $2, due_at_ms = $3, claimed_until_ms = null, last_status = $4, last_error = $5, settled_at_ms = $6,
                facts = case when $1 = 'delivered' then null else facts end
          where id = $7
            and ((state in ('pending', 'held') and claimed_until_ms = $8)
                 or ($1 = 'delivered' and state in ('pending', 'held', 'given_up')))",
    )
    .bind(end.state)
    .bind(end.reason)
    .bind(end.due.as_ms())
    .bind(end.status)
    .bind(end.error.as_deref())
    .bind((end.state != "pending").then_some(now.as_ms()))
    .bind(&end.claim.id)
    .bind(end.claim.lease.as_ms())
    .execute(tx)
    .await
    .context("could not settle a delivery")?;
    Ok(())
}

/// Gives a claimed delivery back before its attempt has ended; the attempt keeps its unknown outcome.
pub(super) async fn release_lease(
    tx: &mut AnyConnection,
    id: &str,
    n: i64,
    lease: Timestamp,
) -> Result<()> {
    sqlx::query(
        "update deliveries set claimed_until_ms = null where id = $1 and claimed_until_ms = $2",
    )
    .bind(id)
    .bind(lease.as_ms())
    .execute(&mut *tx)
    .await
    .context("could not give a delivery back")?;
    sqlx::query(
        "update attempts set error = 'Clickstamp was stopped before the response arrived'
          where delivery_id = $1 and n = $2 and outcome = 'unknown'",
    )
    .bind(id)
    .bind(n)
    .execute(tx)
    .await
    .context("could not note that an attempt was cut off")?;
    Ok(())
}

/// Ends all leases. Only for a process that is alone with its database: nobody else can hold one.
pub(super) async fn end_leases(store: &Store) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query("update deliveries set claimed_until_ms = null where claimed_until_ms is not null")
        .execute(&mut *tx)
        .await
        .context("could not end the leases of the last run")?;
    tx.commit().await
}

const NEXT_DUE: &str =
    "select min(at_ms)
       from (select at_ms
               from (select due_at_ms as at_ms from deliveries
                      where destination_id = $1 and state = 'pending' and coalesce(claimed_until_ms, 0) <= $2 and request <> ''
                      order by due_at_ms limit 1) as free
             union all
             select min(claimed_until_ms) from deliveries
              where destination_id = $1 and claimed_until_ms > $2 and state = 'pending') as both_kinds";

/// When the earliest delivery of a destination wants attention: it falls due, or somebody's lease of it ends.
pub(super) async fn next_due(
    store: &Store,
    now: Timestamp,
    destination_id: &str,
) -> Result<Option<Timestamp>> {
    let row = sqlx::query(NEXT_DUE)
        .bind(destination_id)
        .bind(now.as_ms())
        .fetch_one(store.pool())
        .await
        .context("could not see what is due")?;
    Ok(row.try_get::<Option<i64>, _>(0)?.map(Timestamp::from_ms))
}

/// Removes what was owed for a conversion and never tried. Answers whether nothing is left.
pub(super) async fn forget_untold(tx: &mut AnyConnection, conversion_id: &str) -> Result<bool> {
    sqlx::query("delete from deliveries where conversion_id = $1 and attempts = 0")
        .bind(conversion_id)
        .execute(&mut *tx)
        .await
        .context("could not remove what was never tried")?;
    let left = sqlx::query("select id from deliveries where conversion_id = $1 limit 1")
        .bind(conversion_id)
        .fetch_optional(tx)
        .await?;
    Ok(left.is_none())
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::visit;

    /// What a turn asks of a destination is answered from the index of that destination's due or leased rows, in their order,
    /// so a backlog costs no turn anything, whether its own or another destination's.
    #[tokio::test]
    async fn a_turn_costs_the_same_whatever_is_owed() {
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
            let rows = sqlx::query(AssertSqlSafe(format!("explain query plan {text}")))
                .fetch_all(store.pool())
                .await
                .unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
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
        let _ = std::fs::remove_dir_all(directory); // A left-over in the temporary folder harms nobody.
    }
}
