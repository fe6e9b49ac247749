//! SQL of thin events in `stripe_events`.
//! Takes objects to fetch and their results; returns the next one to fetch. Private to this module.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{Thin, ToFetch};
use crate::clock::Timestamp;
use crate::store::{Store, sql};

/// Marks an event as waiting for its fetch.
pub(super) async fn leave_to_fetch(tx: &mut AnyConnection, id: &str, thin: &Thin) -> Result<()> {
    sql("update stripe_events set fetch_path = :path, snapshot_event = :snapshot_event, attempts = 0 where id = :id")
    .set("path", &thin.path)
    .set("snapshot_event", &thin.snapshot_event)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not mark an event to be fetched")?;
    Ok(())
}

/// True if the snapshot event is stored.
pub(super) async fn is_here(tx: &mut AnyConnection, account: &str, event_id: &str) -> Result<bool> {
    let found =
        sql("select id from stripe_events where account = :account and event_id = :event_id")
            .set("account", account)
            .set("event_id", event_id)
            .fetch_optional(tx)
            .await?;
    Ok(found.is_some())
}

/// Ends thin events that are covered by this snapshot event.
pub(super) async fn cover(
    tx: &mut AnyConnection,
    now: Timestamp,
    account: &str,
    event_id: &str,
) -> Result<()> {
    sql("update stripe_events
            set state = 'ignored', reason = 'covered_by_snapshot', error = null, processed_at_ms = :now
          where account = :account and snapshot_event = :event_id and state in ('received', 'failed')")
    .set("now", now)
    .set("account", account)
    .set("event_id", event_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Claims the oldest event to fetch until `lease` ends.
pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<ToFetch>> {
    // This is called often, so check without a transaction first.
    let waiting = sql(
        "select id from stripe_events where state = 'received' and fetch_path is not null limit 1",
    );
    if waiting.fetch_optional(store.pool()).await?.is_none() {
        return Ok(None);
    }
    let mut tx = store.begin().await?;
    let row = sql("update stripe_events
            set due_at_ms = :due_at_ms, attempts = attempts + 1
          where id = (select id from stripe_events
                       where state = 'received' and fetch_path is not null and due_at_ms <= :now
                       order by due_at_ms, id
                       limit 1)
            and state = 'received' and due_at_ms <= :now
      returning id, event_id, account, type, source_id, livemode, body, fetch_path, attempts")
    .set("now", now)
    .set("due_at_ms", now.plus(lease))
    .fetch_optional(&mut *tx)
    .await
    .context("could not look for thin events")?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ToFetch {
        id: row.get("id")?,
        event_id: row.get("event_id")?,
        account: row.get("account")?,
        kind: row.get("type")?,
        source_id: row.get("source_id")?,
        livemode: row.get::<bool>("livemode")?,
        body: row.get("body")?,
        path: row.get("fetch_path")?,
        attempts: row.get("attempts")?,
    }))
}

/// Releases a claim, and schedules a retry.
pub(super) async fn release(store: &Store, id: &str, due: Timestamp) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update stripe_events set due_at_ms = :due where id = :id and state = 'received'")
        .set("due", due)
        .set("id", id)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Queues thin events again that failed for lack of a key or a permission.
pub(super) async fn put_back_all(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let changed = sql("update stripe_events
            set state = 'received', error = null, due_at_ms = :now, attempts = 0
          where state = 'failed' and substr(error, 1, 11) = 'thin_event_'")
    .set("now", now)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(changed.rows_affected())
}
