//! Failed page events. Takes a site; returns the page events that could not be recorded in the
//! ledger, with their error. Guarantees that one call returns at most fifty.

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::store::{Store, from_row, sql};

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
