//! SQL of `page_events`: the events that pages report, whether they count, and whether they are in
//! the ledger yet. Private to this module.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{click_id, covers};
use crate::clock::{AHEAD, Timestamp};
use crate::hosts;
use crate::ids;
use crate::settings::Site;
use crate::store::{Row, Statement, Store, Text, insert_into, sql, turn};
use crate::visit::body::{Event, Sent};
use crate::visit::{ApartEvents, KeptEvent, PageEvent, WaitingEvent};

/// Maximum number of a site's events that do not count. It bounds what strangers can store, and
/// what the search for events whose visit has arrived reads.
const MAX_APART: i64 = 10_000;

/// A condition on a row `e` of `page_events`: its page is one of the site's, and a visit with its
/// click ID is counted. The commit of that visit is what makes it true, so an event that came before
/// its visit is never forgotten. `report` shows the events for which it is false.
const COUNTS: &str = "e.foreign_host is null
            and (exists (select 1 from visits v
                          where v.click_id = e.click_id and v.site_id = e.site_id and (v.flags & 1024) = 0)
                 or exists (select 1 from visits v
                             where v.alias = e.click_id and v.site_id = e.site_id and (v.flags & 1024) = 0))";

/// An event to insert.
pub(in crate::visit) struct NewEvent<'a> {
    pub(in crate::visit) now: Timestamp,
    pub(in crate::visit) site: &'a Site,
    pub(in crate::visit) sent: &'a Sent<'a>,
    pub(in crate::visit) event: &'a Event<'a>,
    /// Host of the page that sent it, as the browser says.
    pub(in crate::visit) origin_host: Option<&'a str>,
}

impl NewEvent<'_> {
    /// The host of its page, or of the page that sent it, if that is none of the site's.
    fn foreign_host(&self) -> Option<String> {
        let domains = &self.site.domains;
        let is_own = |host: &String| domains.iter().any(|domain| covers(domain, host));
        let page = self.event.url.as_deref().and_then(hosts::of_url);
        let mut hosts = [self.origin_host.map(str::to_owned), page].into_iter().flatten();
        hosts.find(|host| !domains.is_empty() && !is_own(host))
    }
}

pub(in crate::visit) async fn insert_event(
    tx: &mut AnyConnection,
    new: &NewEvent<'_>,
) -> Result<KeptEvent> {
    let id = ids::new_record_id("pev_", new.now);
    let inserted = insert_into("page_events")
        .set("id", &id)
        .set("site_id", &new.site.id)
        .set("click_id", new.sent.click_id.as_str())
        .set("sent_at_ms", new.sent.sent_at_ms)
        .set("name", &*new.event.name)
        .set("received_at_ms", new.now)
        .set("url", &new.event.url)
        .set("properties", serde_json::to_string(&new.event.properties)?)
        .set("foreign_host", new.foreign_host())
        .or_ignore()
        .execute(&mut *tx)
        .await
        .context("could not store a page event")?;
    if inserted.rows_affected() == 0 {
        return Ok(KeptEvent::Known);
    }
    let counts = sql("select 1 from page_events e where e.id = :id and").then(COUNTS);
    let counts = counts.set("id", &id).fetch_optional(&mut *tx).await;
    if counts.context("could not look for the visit of a page event")?.is_some() {
        return Ok(KeptEvent::New);
    }
    let others = sql("select 1 from page_events
          where site_id = :site_id and conversion_id is null
          limit 1 offset :max_apart")
    .set("site_id", &new.site.id)
    .set("max_apart", MAX_APART)
    .fetch_optional(tx)
    .await
    .context("could not count the page events that wait")?;
    Ok(if others.is_some() { KeptEvent::TooMany } else { KeptEvent::New })
}

/// A condition on a row `e` of `page_events`: it is among these, and does not count.
fn apart(text: &'static str, of: &ApartEvents<'_>) -> Statement {
    sql(text)
        .then("where e.conversion_id is null and e.failed_at_ms is null")
        .then("and e.received_at_ms >= :from and e.received_at_ms < :until and not (")
        .then(COUNTS)
        .then(")")
        .set("from", of.from.map_or(i64::MIN, Timestamp::as_ms))
        .set("until", of.until.map_or(i64::MAX, Timestamp::as_ms))
        .and("e.site_id = :site_id", of.site_id)
}

/// How many events of each site do not count, by site ID.
pub(in crate::visit) async fn count_apart(
    store: &Store,
    of: &ApartEvents<'_>,
) -> Result<Vec<(String, i64)>> {
    apart("select e.site_id, count(*) from page_events e", of)
        .then("group by e.site_id order by e.site_id")
        .all(store.pool())
        .await
        .context("could not count the page events that do not count")
}

/// Deletes events that do not count. Returns their number.
pub(in crate::visit) async fn delete_apart(
    tx: &mut AnyConnection,
    of: &ApartEvents<'_>,
) -> Result<u64> {
    let deleted = apart(
        "delete from page_events where conversion_id is null and id in (select e.id from page_events e",
        of,
    );
    let deleted = deleted.then(")").execute(tx).await;
    Ok(deleted.context("could not delete the page events that do not count")?.rows_affected())
}

/// Lets the events of a host count that is one of the site's now.
pub(in crate::visit) async fn accept_events(
    tx: &mut AnyConnection,
    site_id: &str,
    host: &str,
) -> Result<()> {
    sql("update page_events set foreign_host = null
          where site_id = :site_id and conversion_id is null
            and (foreign_host = :host or foreign_host like '%.' || :host)")
    .set("site_id", site_id)
    .set("host", host)
    .execute(tx)
    .await
    .context("could not let the page events of a host count")?;
    Ok(())
}

pub(in crate::visit) async fn events_waiting(
    store: &Store,
    (now, since): (Timestamp, Timestamp),
    limit: i64,
) -> Result<Vec<WaitingEvent>> {
    let rows = sql(
        "select id, site_id, click_id, sent_at_ms, name, received_at_ms, url, properties, attempts
           from page_events e
          where conversion_id is null and failed_at_ms is null and due_at_ms <= :now
            and (received_at_ms >= :since or due_at_ms >= :since) and",
    )
    .then(COUNTS)
    .then("order by received_at_ms, id limit :limit")
    .set("now", now)
    .set("since", since)
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
