//! SQL of `page_events`: the events that pages report, and whether they are in the ledger yet.
//! Private to this module.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::click_id;
use crate::clock::{AHEAD, Timestamp};
use crate::ids;
use crate::settings::Site;
use crate::store::{Row, Store, Text, insert_into, sql, turn};
use crate::visit::body::{Event, Sent};
use crate::visit::{PageEvent, WaitingEvent};

pub(in crate::visit) async fn insert_event(
    tx: &mut AnyConnection,
    now: Timestamp,
    site: &Site,
    sent: &Sent<'_>,
    event: &Event<'_>,
) -> Result<bool> {
    let inserted = insert_into("page_events")
        .set("id", ids::new_record_id("pev_", now))
        .set("site_id", &site.id)
        .set("click_id", sent.click_id.as_str())
        .set("sent_at_ms", sent.sent_at_ms)
        .set("name", &*event.name)
        .set("received_at_ms", now)
        .set("url", &event.url)
        .set("properties", serde_json::to_string(&event.properties)?)
        .or_ignore()
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
    let rows = sql(
        "select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties, attempts
           from page_events
          where conversion_id is null and failed_at_ms is null and due_at_ms <= :now
          order by received_at_ms, id
          limit :limit",
    )
    .set("now", now)
    .set("limit", limit)
    .fetch_all(store.pool())
    .await
    .context("could not read the page events that are due")?;
    let waiting = |row: &Row| {
        let (id, attempts) = (row.get("id")?, row.get("attempts")?);
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
    sql("update page_events
            set attempts = attempts + 1, error = :error, due_at_ms = :due_at_ms, failed_at_ms = :failed_at_ms
          where id = :id and conversion_id is null")
    .set("error", error)
    .set("due_at_ms", again_at.unwrap_or(now))
    .set("failed_at_ms", again_at.is_none().then_some(now.as_ms()))
    .set("id", id)
    .execute(tx)
    .await
    .context("could not store the failure of a page event")?;
    Ok(())
}

/// Makes events due that were received while the clock was ahead, and would wait until that
/// time. Returns their number.
pub(in crate::visit) async fn bring_events_back(
    tx: &mut AnyConnection,
    now: Timestamp,
) -> Result<u64> {
    let done = sql("update page_events set due_at_ms = :now
          where conversion_id is null and failed_at_ms is null and due_at_ms > :now and received_at_ms > :received_at_ms")
    .set("now", now)
    .set("received_at_ms", now.plus(AHEAD))
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
    let done = sql("update page_events set attempts = 0, due_at_ms = :now, failed_at_ms = null
          where id = :id and failed_at_ms is not null")
    .set("now", now)
    .set("id", id)
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
    let rows =
        sql("select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties
           from page_events
          where conversion_id is not null and (received_at_ms, id) > (:at, :id)
          order by received_at_ms, id
          limit :limit")
        .set("at", at)
        .set("id", id)
        .set("limit", limit)
        .fetch_all(store.pool())
        .await
        .context("could not read page events")?;
    rows.iter().map(page_event).collect()
}

fn page_event(row: &Row) -> Result<PageEvent> {
    let properties: String = row.get("properties")?;
    let properties: BTreeMap<String, String> =
        serde_json::from_str(&properties).context("the properties of a page event")?;
    Ok(PageEvent {
        id: row.get("id")?,
        site_id: row.get("site_id")?,
        click_id: click_id(row, "click_id")?,
        sent_at_ms: row.get("sent_at_ms")?,
        name: row.get("name")?,
        received_at: row.get("received_at_ms")?,
        url: row.get("url")?,
        properties,
    })
}

pub(in crate::visit) async fn take_event(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let free = turn::free_rows(tx);
    let row =
        sql(Text::from("select id from page_events where id = :id and conversion_id is null")
            + free)
        .set("id", id)
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
    let settled = sql(
        "update page_events set conversion_id = :conversion_id, error = null, failed_at_ms = null
          where id = :id and conversion_id is null",
    )
    .set("conversion_id", conversion_id)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not store the conversion of a page event")?;
    Ok(settled.rows_affected() == 1)
}
