//! Page events that are in no report: those that could not be recorded in the ledger, and those that
//! do not count. Takes a site; returns the events with the reason. Guarantees that each call reads
//! only events that are not in the ledger.

use anyhow::{Context as _, Result};

use super::filter::{Filter as _, filter};
use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use crate::clock::Timestamp;
use crate::domain::ApartReason;
use crate::store::{Store, from_row, sql};

filter! {
    /// Selects page events that do not count; the default lists all.
    ApartFilter {
        /// Why they do not count.
        reason: ApartReason = "reason" where "reason = :reason";
    }
}

/// A page event that does not count.
#[derive(Clone, Debug)]
pub(crate) struct ApartEvent {
    /// `pev_…`.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) click_id: String,
    pub(crate) url: Option<String>,
    /// The other website, if it came from one.
    pub(crate) foreign_host: Option<String>,
    pub(crate) reason: ApartReason,
    pub(crate) received_at: Timestamp,
}

from_row!(ApartEvent { id, name, click_id, url, foreign_host, reason, received_at });

/// How many page events of a quarter hour do not count, by reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApartSum {
    /// Quarter hours since 1970.
    pub(crate) quarter: i64,
    pub(crate) reason: ApartReason,
    pub(crate) events: i64,
}

from_row!(ApartSum { quarter, reason, events });

/// The events of a site that do not count. The condition is that of `visit`, which lets the others
/// into the ledger.
const APART: &str = "(select e.id, e.name, e.click_id, e.url, e.foreign_host, e.received_at_ms,
                 case when e.foreign_host is null then 'no_visit' else 'other_website' end as reason
            from page_events e
           where e.site_id = :site_id and e.conversion_id is null and e.failed_at_ms is null
             and not (e.foreign_host is null
                      and (exists (select 1 from visits v
                                    where v.click_id = e.click_id and v.site_id = e.site_id and (v.flags & 1024) = 0)
                           or exists (select 1 from visits v
                                       where v.alias = e.click_id and v.site_id = e.site_id and (v.flags & 1024) = 0)))
         ) as apart";

/// A page of the events that do not count, newest first; `limit` is held between 1 and 200.
pub(crate) async fn apart_events(
    store: &Store,
    site_id: &str,
    filter: &ApartFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<ApartEvent>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let list = sql(
        "select id, name, click_id, url, foreign_host, reason, received_at_ms as received_at from",
    )
    .then(APART)
    .then("where (received_at_ms, id) < (:number, :text)")
    .set("site_id", site_id)
    .set("number", after.map_or(i64::MAX, |cursor| cursor.number))
    .set("text", after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text));
    let list = filter.conditions(list).then("order by received_at_ms desc, id desc limit :limit");
    let rows = list.set("limit", limit + 1).all(store.pool()).await;
    let rows = rows.context("could not list the page events that do not count")?;
    Ok(Page::cut(rows, limit, |row: &ApartEvent| Cursor {
        number: row.received_at.as_ms(),
        text: row.id.clone(),
    }))
}

/// How many events do not count, by quarter hour and reason, newest first.
pub(crate) async fn apart_sums(store: &Store, site_id: &str) -> Result<Vec<ApartSum>> {
    sql("select received_at_ms / 900000 as quarter, reason, count(*) as events from")
        .then(APART)
        .then("group by received_at_ms / 900000, reason order by quarter desc, reason")
        .set("site_id", site_id)
        .all(store.pool())
        .await
        .context("could not count the page events that do not count")
}

/// Maximum number of failed events per call.
const SHOWN: i64 = 50;

/// A page event that could not be recorded in the ledger.
#[derive(Clone, Debug)]
pub(crate) struct FailedPageEvent {
    /// `pev_…`.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) url: Option<String>,
    pub(crate) received_at: Timestamp,
    pub(crate) error: String,
}

from_row!(FailedPageEvent { id, name, url, received_at, error });

/// The events of a site's pages that failed, newest first.
pub(crate) async fn failed_page_events(
    store: &Store,
    site_id: &str,
) -> Result<Vec<FailedPageEvent>> {
    sql("select id, name, url, received_at_ms as received_at, coalesce(error, '') as error
           from page_events
          where site_id = :site_id and failed_at_ms is not null
          order by failed_at_ms desc, id desc
          limit :shown")
    .set("site_id", site_id)
    .set("shown", SHOWN)
    .all(store.pool())
    .await
    .context("could not read failed page events")
}
