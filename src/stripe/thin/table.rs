//! SQL of thin events among `stripe_events`.
//! In: what to fetch, and what came of it. Out: the next one to fetch. Private to this room.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::{Thin, ToFetch};
use crate::clock::Timestamp;
use crate::store::Store;

/// Leaves an event to be fetched.
pub(super) async fn leave_to_fetch(tx: &mut AnyConnection, id: &str, thin: &Thin) -> Result<()> {
    sqlx::query(
        "update stripe_events set fetch_path = $1, snapshot_event = $2, attempts = 0 where id = $3",
    )
    .bind(&thin.path)
    .bind(thin.snapshot_event.as_deref())
    .bind(id)
    .execute(tx)
    .await
    .context("could not note what to fetch")?;
    Ok(())
}

/// True when the ordinary event is here.
pub(super) async fn is_here(tx: &mut AnyConnection, account: &str, event_id: &str) -> Result<bool> {
    let found = sqlx::query("select id from stripe_events where account = $1 and event_id = $2")
        .bind(account)
        .bind(event_id)
        .fetch_optional(tx)
        .await?;
    Ok(found.is_some())
}

/// Ends what waits for the fetch of something that an ordinary event has now told.
pub(super) async fn cover(
    tx: &mut AnyConnection,
    now: Timestamp,
    account: &str,
    event_id: &str,
) -> Result<()> {
    sqlx::query(
        "update stripe_events
            set state = 'ignored', reason = 'covered_by_snapshot', error = null, processed_at_ms = $1
          where account = $2 and snapshot_event = $3 and state in ('received', 'failed')",
    )
    .bind(now.as_ms())
    .bind(account)
    .bind(event_id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Claims the oldest event to fetch, for as long as `lease`.
pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<ToFetch>> {
    // Asked often, so it must not cost a transaction.
    let waiting = sqlx::query(
        "select id from stripe_events where state = 'received' and fetch_path is not null limit 1",
    );
    if waiting.fetch_optional(store.pool()).await?.is_none() {
        return Ok(None);
    }
    let mut tx = store.begin().await?;
    let row = sqlx::query(
        "update stripe_events
            set due_at_ms = $2, attempts = attempts + 1
          where id = (select id from stripe_events
                       where state = 'received' and fetch_path is not null and due_at_ms <= $1
                       order by due_at_ms, id
                       limit 1)
            and state = 'received' and due_at_ms <= $1
      returning id, event_id, account, type, source_id, livemode, body, fetch_path, attempts",
    )
    .bind(now.as_ms())
    .bind(now.plus(lease).as_ms())
    .fetch_optional(&mut *tx)
    .await
    .context("could not look for thin events")?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(ToFetch {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        account: row.try_get("account")?,
        kind: row.try_get("type")?,
        source_id: row.try_get("source_id")?,
        livemode: row.try_get::<i64, _>("livemode")? == 1,
        body: row.try_get("body")?,
        path: row.try_get("fetch_path")?,
        attempts: row.try_get("attempts")?,
    }))
}

/// Gives a claim back, to be tried again later.
pub(super) async fn release(store: &Store, id: &str, due: Timestamp) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query("update stripe_events set due_at_ms = $1 where id = $2 and state = 'received'")
        .bind(due.as_ms())
        .bind(id)
        .execute(&mut *tx)
        .await?;
    tx.commit().await
}

/// Puts back what failed for want of a key, or of a better one.
pub(super) async fn put_back_all(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let changed = sqlx::query(
        "update stripe_events
            set state = 'received', error = null, due_at_ms = $1, attempts = 0
          where state = 'failed' and substr(error, 1, 11) = 'thin_event_'",
    )
    .bind(now.as_ms())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(changed.rows_affected())
}
