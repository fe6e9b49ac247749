//! Failed page events. Takes a site; returns the page events that could not be recorded in the
//! ledger, with their error. Guarantees that one call returns at most fifty.

use anyhow::{Context as _, Result};
use sqlx::Row as _;

use crate::clock::Timestamp;
use crate::store::Store;

/// Maximum number of events per call.
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

/// The events of a site's pages that failed, newest first.
///
/// # Errors
/// If the database fails.
pub(crate) async fn failed_page_events(
    store: &Store,
    site_id: &str,
) -> Result<Vec<FailedPageEvent>> {
    let rows = sqlx::query(
        "select id, name, url, received_at_ms, error
           from page_events
          where site_id = $1 and failed_at_ms is not null
          order by failed_at_ms desc, id desc
          limit $2",
    )
    .bind(site_id)
    .bind(SHOWN)
    .fetch_all(store.pool())
    .await
    .context("could not read failed page events")?;
    rows.iter()
        .map(|row| {
            Ok(FailedPageEvent {
                id: row.try_get("id")?,
                name: row.try_get("name")?,
                url: row.try_get("url")?,
                received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
                error: row.try_get::<Option<String>, _>("error")?.unwrap_or_default(),
            })
        })
        .collect()
}
