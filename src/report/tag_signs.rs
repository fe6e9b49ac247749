//! The state of a site's tag: the host that serves it, whether caches serve copies of it, and
//! unknown hosts on which it runs. Takes a site and the time; returns counts over the newest visits
//! of the last seven days. Guarantees a cost that does not depend on the number of visits, because
//! it reads the end of the table's primary key.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::page::AFTER_ALL_IDS;
use crate::clock::Timestamp;
use crate::ids;
use crate::store::{Store, sql};

/// The visits that are read: at most this many days, and at most this many visits.
const DAYS: u64 = 7;
const VISITS: i64 = 2000;
/// Bits of `visits.flags`; the same as in `visit::flags`.
const UNKNOWN_HOST: i64 = 1024;
const CLIENT_MADE: i64 = 2048;

/// Counts that show the state of the tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagSigns {
    /// Number of visits that were read, without bots and clicks on redirect links.
    pub(crate) visits: i64,
    /// Those whose click ID was made by the browser, because its copy of the tag was outdated.
    pub(crate) client_made: i64,
    /// Number of click IDs with which two new visitors arrived: a cache served the same response
    /// twice.
    pub(crate) shared: i64,
    /// `same-origin`, `same-site` or `cross-site`: the tag's host relative to the page, from the
    /// newest visit that contains it.
    pub(crate) tag_host: Option<String>,
    /// The page's host of that visit.
    pub(crate) page_host: Option<String>,
    /// Hosts that are not among the site's, with their number of visits, most first.
    pub(crate) unknown_hosts: Vec<(String, i64)>,
}

impl TagSigns {
    /// True if caches serve copies of the tag: a click ID was shared, or more than one visit in
    /// twenty has a click ID made by the browser.
    pub(crate) fn is_cached(&self) -> bool {
        self.shared > 0 || (self.client_made >= 3 && self.client_made * 20 > self.visits)
    }
}

/// Reads the state of the tag.
pub(crate) async fn tag_signs(store: &Store, site_id: &str, now: Timestamp) -> Result<TagSigns> {
    let since = now.minus(Duration::from_secs(DAYS * 86_400));
    let rows = sql("select click_id, flags, visitor, previous_click_id, landing_host, details
           from visits
          where click_id >= :click_id and click_id < :after_all_ids and site_id = :site_id and device <> 'bot'
          order by click_id desc, sent_at_ms desc
          limit :visits")
    .set("click_id", ids::first_click_id(since))
    .set("after_all_ids", AFTER_ALL_IDS)
    .set("site_id", site_id)
    .set("visits", VISITS)
    .fetch_all(store.pool())
    .await
    .context("could not read the state of the tag")?;
    let mut signs = TagSigns::default();
    let mut hosts = BTreeMap::<String, i64>::new();
    let mut visitors = BTreeMap::<String, BTreeSet<String>>::new();
    for row in &rows {
        let flags: i64 = row.get("flags")?;
        let host: Option<String> = row.get("landing_host")?;
        let details: String = row.get("details")?;
        let details: serde_json::Value = serde_json::from_str(&details).unwrap_or_default();
        if details["link"].is_string() {
            continue;
        }
        signs.visits += 1;
        signs.client_made += i64::from(flags & CLIENT_MADE != 0);
        if flags & CLIENT_MADE == 0 && row.get::<Option<String>>("previous_click_id")?.is_none() {
            visitors.entry(row.get("click_id")?).or_default().insert(row.get("visitor")?);
        }
        if flags & UNKNOWN_HOST != 0 {
            *hosts.entry(host.unwrap_or_default()).or_default() += 1;
        } else if let (None, Some(tag_host)) = (&signs.tag_host, details["tag_host"].as_str()) {
            signs.tag_host = Some(tag_host.to_owned());
            signs.page_host = host;
        }
    }
    signs.shared = visitors.values().filter(|visitors| visitors.len() > 1).map(|_| 1).sum();
    signs.unknown_hosts = hosts.into_iter().filter(|(host, _)| !host.is_empty()).collect();
    signs.unknown_hosts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    signs.unknown_hosts.truncate(10);
    Ok(signs)
}
