//! How the tag fares: where it comes from, whether copies of it go round, which hosts it was seen on that nobody named.
//! In: a site, the time. Out: counts over the newest visits of the last seven days.
//! Promise: it reads the end of the visits' own key, so it costs the same however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::Row as _;

use super::page::AFTER_ALL_IDS;
use crate::clock::Timestamp;
use crate::ids;
use crate::store::Store;

/// How far back it looks, in time and in visits.
const DAYS: u64 = 7;
const VISITS: i64 = 2000;
/// Bits of `visits.flags`, as the visit's room sets them.
const UNKNOWN_HOST: i64 = 1024;
const CLIENT_MADE: i64 = 2048;

/// Signs of the tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TagSigns {
    /// Visits of people that were looked at; clicks on redirect links are none of the tag's.
    pub(crate) visits: i64,
    /// Those whose click ID was made in the browser, because its copy of the tag was old.
    pub(crate) client_made: i64,
    /// Click IDs that two visitors came with, neither knowing one before: a cache handed them out twice.
    pub(crate) shared: i64,
    /// `same-origin`, `same-site` or `cross-site`: where the newest visit that tells says the tag comes from.
    pub(crate) tag_host: Option<String>,
    /// The page's host of that visit.
    pub(crate) page_host: Option<String>,
    /// Hosts that are none of the site's, with their visits, most first.
    pub(crate) unknown_hosts: Vec<(String, i64)>,
}

impl TagSigns {
    /// True when copies of the script go round: an ID came twice, or more than one visit in twenty made its own.
    pub(crate) fn is_cached(&self) -> bool {
        self.shared > 0 || (self.client_made >= 3 && self.client_made * 20 > self.visits)
    }
}

/// Reads the signs.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn tag_signs(store: &Store, site_id: &str, now: Timestamp) -> Result<TagSigns> {
    let since = now.minus(Duration::from_secs(DAYS * 86_400));
    let rows = sqlx::query(
        "select click_id, flags, visitor, previous_click_id, landing_host, details
           from visits
          where click_id >= $1 and click_id < $2 and site_id = $3 and device <> 'bot'
          order by click_id desc, sent_at_ms desc
          limit $4",
    )
    .bind(ids::first_click_id(since))
    .bind(AFTER_ALL_IDS)
    .bind(site_id)
    .bind(VISITS)
    .fetch_all(store.pool())
    .await
    .context("could not read the signs of the tag")?;
    let mut signs = TagSigns::default();
    let mut hosts = BTreeMap::<String, i64>::new();
    let mut visitors = BTreeMap::<String, BTreeSet<String>>::new();
    for row in &rows {
        let flags: i64 = row.try_get("flags")?;
        let host: Option<String> = row.try_get("landing_host")?;
        let details: String = row.try_get("details")?;
        let details: serde_json::Value = serde_json::from_str(&details).unwrap_or_default();
        if details["link"].is_string() {
            continue;
        }
        signs.visits += 1;
        signs.client_made += i64::from(flags & CLIENT_MADE != 0);
        if flags & CLIENT_MADE == 0
            && row.try_get::<Option<String>, _>("previous_click_id")?.is_none()
        {
            visitors.entry(row.try_get("click_id")?).or_default().insert(row.try_get("visitor")?);
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
