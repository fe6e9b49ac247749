//! SQL of a replay.
//! In: a store, or its shadow. Out: what the ledger and the events say there, to be compared; and events put back. Private to this room.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Column as _, Row as _};

use super::{Line, Outcome, Ownership};
use crate::clock::Timestamp;
use crate::store::{Shadow, Store};

/// What a line may differ in without saying anything else: our own numbers and times.
const NOT_COMPARED: [&str; 5] =
    ["id", "account", "recorded_at_ms", "updated_at_ms", "owed_from_ms"];

/// Lets the copied events wait to be processed, oldest first.
pub(super) async fn forget_outcomes(shadow: &Shadow) -> Result<()> {
    let mut tx = shadow.begin().await?;
    sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, error = null, note = null, conversion_id = null, attempts = 0,
                due_at_ms = received_at_ms, fetch_path = null, snapshot_event = null",
    )
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// All lines of the ledger that are made from raw events and requests, by ID.
pub(super) async fn lines(store: &Store) -> Result<BTreeMap<String, Line>> {
    let rows = sqlx::query(
        "select c.*
           from conversions c
           join sources s on s.id = c.source_id
          where s.kind in ('stripe', 'custom')",
    )
    .fetch_all(store.pool())
    .await
    .context("could not read the conversions")?;
    let mut lines = BTreeMap::new();
    for row in &rows {
        let line = line(row)?;
        lines.insert(row.try_get("id")?, line);
    }
    let touches =
        sqlx::query("select conversion_id, click_id from touches order by conversion_id, position")
            .fetch_all(store.pool())
            .await
            .context("could not read the touches")?;
    for row in &touches {
        let (id, click_id): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(line) = lines.get_mut(&id) {
            let way = line.fields.entry("touches".to_owned()).or_default();
            if !way.is_empty() {
                way.push_str(" → ");
            }
            way.push_str(&click_id);
        }
    }
    Ok(lines)
}

fn line(row: &AnyRow) -> Result<Line> {
    let mut fields = BTreeMap::new();
    for column in row.columns() {
        let name = column.name();
        if NOT_COMPARED.contains(&name) {
            continue;
        }
        let text = match row.try_get::<Option<String>, _>(name) {
            Ok(text) => text,
            Err(_) => row.try_get::<Option<i64>, _>(name)?.map(|number| number.to_string()),
        };
        if let Some(text) = text {
            fields.insert(name.to_owned(), text);
        }
    }
    Ok(Line { account: row.try_get("account")?, fields })
}

/// Which conversion an object of Stripe's names.
pub(super) async fn ownership(store: &Store) -> Result<Ownership> {
    let rows = sqlx::query(
        "select account, object_id, conversion_id from stripe_objects where role = 'identity'",
    )
    .fetch_all(store.pool())
    .await
    .context("could not read what was learned")?;
    rows.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))).collect()
}

/// How the events ended, by ID.
pub(super) async fn outcomes(store: &Store) -> Result<BTreeMap<String, Outcome>> {
    let rows =
        sqlx::query("select id, type, state, reason, error, conversion_id from stripe_events")
            .fetch_all(store.pool())
            .await
            .context("could not read the events")?;
    rows.iter()
        .map(|row| {
            let outcome = Outcome {
                kind: row.try_get("type")?,
                state: row.try_get("state")?,
                reason: row.try_get("reason")?,
                error: row.try_get("error")?,
                conversion_id: row.try_get("conversion_id")?,
            };
            Ok((row.try_get("id")?, outcome))
        })
        .collect()
}

/// Changes whenever an event was processed or a custom request recorded: what was rebuilt before is then out of date.
pub(super) async fn mark(connection: &mut AnyConnection) -> Result<(i64, i64, i64)> {
    let row = sqlx::query(
        "select count(*) + (select count(*) from custom_requests where state <> 'refused'),
                coalesce(max(processed_at_ms), 0), cast(coalesce(sum(attempts), 0) as bigint)
           from stripe_events",
    )
    .fetch_one(connection)
    .await
    .context("could not look at the events")?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

/// Lets an event be processed once more, by the worker and in its usual way.
pub(super) async fn put_back(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<()> {
    sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, error = null, due_at_ms = $1
          where id = $2",
    )
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not put an event back")?;
    Ok(())
}
