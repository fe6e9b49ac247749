//! SQL of `page_events`: the events that pages report, and whether they are in the ledger yet.
//! Private to this module.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::click_id;
use crate::clock::{AHEAD, Timestamp};
use crate::ids;
use crate::settings::Site;
use crate::store::{Store, turn};
use crate::visit::body::{Event, Sent};
use crate::visit::{PageEvent, WaitingEvent};

pub(in crate::visit) async fn insert_event(
    tx: &mut AnyConnection,
    now: Timestamp,
    site: &Site,
    sent: &Sent<'_>,
    event: &Event<'_>,
) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into page_events (id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("pev_", now))
    .bind(&site.id)
    .bind(sent.click_id.as_str())
    .bind(sent.sent_at_ms)
    .bind(&*event.name)
    .bind(now.as_ms())
    .bind(event.url.as_deref())
    .bind(serde_json::to_string(&event.properties)?)
    .execute(tx)
    .await
    .context("could not store a page event")?;
    Ok(inserted.rows_affected() == 1)
}

pub(in crate::visit) async fn events_waiting(
    store: &Store,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<WaitingEvent>> {
    let rows = sqlx::query(
        "select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties, attempts
           from page_events
          where conversion_id is null and failed_at_ms is null and due_at_ms <= $1
          order by received_at_ms, id
          limit $2",
    )
    .bind(now.as_ms())
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not read the page events that are due")?;
    let waiting = |row: &AnyRow| {
        let (id, attempts) = (row.try_get("id")?, row.try_get("attempts")?);
        Ok(WaitingEvent { id, attempts, event: page_event(row) })
    };
    rows.iter().map(waiting).collect()
}

pub(in crate::visit) async fn put_event_off(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    again_at: Option<Timestamp>,
    error: &str,
) -> Result<()> {
    sqlx::query(
        "update page_events
            set attempts = attempts + 1, error = $1, due_at_ms = $2, failed_at_ms = $3
          where id = $4 and conversion_id is null",
    )
    .bind(error)
    .bind(again_at.unwrap_or(now).as_ms())
    .bind(again_at.is_none().then_some(now.as_ms()))
    .bind(id)
    .execute(tx)
    .await
    .context("could not store the failure of a page event")?;
    Ok(())
}

/// Makes due what was received while the clock was ahead and would wait until it is that late. Answers how many.
pub(in crate::visit) async fn bring_events_back(
    tx: &mut AnyConnection,
    now: Timestamp,
) -> Result<u64> {
    let done = sqlx::query(
        "update page_events set due_at_ms = $1
          where conversion_id is null and failed_at_ms is null and due_at_ms > $1 and received_at_ms > $2",
    )
    .bind(now.as_ms())
    .bind(now.plus(AHEAD).as_ms())
    .execute(tx)
    .await
    .context("could not bring back events that a clock put off")?;
    Ok(done.rows_affected())
}

pub(in crate::visit) async fn rerun_event(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
) -> Result<bool> {
    let done = sqlx::query(
        "update page_events set attempts = 0, due_at_ms = $1, failed_at_ms = null
          where id = $2 and failed_at_ms is not null",
    )
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not retry a page event")?;
    Ok(done.rows_affected() == 1)
}

pub(in crate::visit) async fn events_after(
    store: &Store,
    after: Option<&PageEvent>,
    limit: i64,
) -> Result<Vec<PageEvent>> {
    let (at, id) = after.map_or((i64::MIN, ""), |it| (it.received_at.as_ms(), it.id.as_str()));
    let rows = sqlx::query(
        "select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties
           from page_events
          where conversion_id is not null and (received_at_ms, id) > ($1, $2)
          order by received_at_ms, id
          limit $3",
    )
    .bind(at)
    .bind(id)
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not read page events")?;
    rows.iter().map(page_event).collect()
}

fn page_event(row: &AnyRow) -> Result<PageEvent> {
    let properties: String = row.try_get("properties")?;
    let properties: BTreeMap<String, String> =
        serde_json::from_str(&properties).context("the properties of a page event")?;
    Ok(PageEvent {
        id: row.try_get("id")?,
        site_id: row.try_get("site_id")?,
        click_id: click_id(row, "click_id")?,
        sent_at_ms: row.try_get("sent_at_ms")?,
        name: row.try_get("name")?,
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        url: row.try_get("url")?,
        properties,
    })
}

pub(in crate::visit) async fn take_event(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let free = turn::free_rows(tx);
    let row = sqlx::query(AssertSqlSafe(format!(
        "select id from page_events where id = $1 and conversion_id is null{free}"
    )))
    .bind(id)
    .fetch_optional(tx)
    .await
    .context("could not take an event of a page")?;
    Ok(row.is_some())
}

pub(in crate::visit) async fn settle_event(
    tx: &mut AnyConnection,
    id: &str,
    conversion_id: &str,
) -> Result<bool> {
    let settled = sqlx::query(
        "update page_events set conversion_id = $1, error = null, failed_at_ms = null
          where id = $2 and conversion_id is null",
    )
    .bind(conversion_id)
    .bind(id)
    .execute(tx)
    .await
    .context("could not store the conversion of a page event")?;
    Ok(settled.rows_affected() == 1)
}
