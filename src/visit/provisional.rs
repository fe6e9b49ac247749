//! Provisional visits: visits known only from the request for the tag's script.
//! Takes the page's URL from that request; writes a row if the page's own report does not arrive in
//! time.
//! No response waits for it, and it may be lost under load or when the process dies.
//!
//! A page's Content Security Policy or a blocker can allow the script and block its report. Without
//! this, a payment would name a click ID whose visit never arrives.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

use super::body::{Seen, Sent, What};
use super::limit::VisitLimit;
use super::private::without_private;
use super::request::{Around, UNSENT_MS};
use super::{flags, table};
use crate::clock::Timestamp;
use crate::ids::{ClickId, ClickIdKey};
use crate::settings::Snapshot;
use crate::store::Store;

/// How long to wait for the page's report. It nearly always arrives, and then nothing is written.
pub(super) const REPORT_DUE: Duration = Duration::from_secs(10);
/// Maximum number of waiting landings; beyond it new ones are dropped.
const MAX_WAITING: usize = 4096;
/// Maximum memory of waiting landings in bytes. A landing has about 1 KiB, a hostile one ten.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Landings per transaction; limits how long the visit writer waits.
const ROWS_AT_A_TIME: usize = 128;

/// A landing according to the request for the script.
pub(crate) struct Landing {
    /// The click ID in the response.
    pub(crate) click_id: ClickId,
    /// When the request arrived.
    pub(crate) at: Timestamp,
    pub(crate) site_id: String,
    /// The page's URL with its query.
    pub(crate) url: String,
    pub(crate) around: Around,
}

/// Landings that wait for their page's report. Clones share them.
#[derive(Clone)]
pub(crate) struct Landings {
    limit: VisitLimit,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// Oldest first.
    landings: VecDeque<Landing>,
    /// Their memory in bytes.
    bytes: usize,
    /// The number of landings that were dropped since the last log line.
    dropped: u64,
}

impl Landings {
    /// Creates the queue. At most `limit` landings of one address are kept.
    pub(crate) fn new(limit: VisitLimit) -> Self {
        Self { limit, waiting: Arc::default() }
    }

    /// Adds a landing, unless the queue is full.
    pub(crate) fn hear(&self, landing: Landing) {
        if !self.limit.allows(landing.around.address, landing.at) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = waiting.bytes + landing.bytes();
        if waiting.landings.len() < MAX_WAITING && bytes <= MAX_WAITING_BYTES {
            waiting.bytes = bytes;
            waiting.landings.push_back(landing);
        } else {
            waiting.dropped += 1;
        }
    }

    /// Takes the oldest landings whose report should have arrived by then.
    fn take(&self, until: Timestamp) -> (Vec<Landing>, u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let due = waiting.landings.iter().take(ROWS_AT_A_TIME).take_while(|it| it.at <= until);
        let due = due.count();
        let landings: Vec<Landing> = waiting.landings.drain(..due).collect();
        waiting.bytes -= landings.iter().map(Landing::bytes).sum::<usize>();
        (landings, std::mem::take(&mut waiting.dropped))
    }

    /// Writes the landings whose report has not arrived by `until`. Returns their number.
    pub(crate) async fn write(
        &self,
        store: &Store,
        keys: &ClickIdKey,
        settings: &Snapshot,
        until: Timestamp,
    ) -> Result<usize> {
        let mut written = 0;
        loop {
            let (landings, dropped) = self.take(until);
            if dropped > 0 {
                tracing::warn!(
                    dropped,
                    "too many landings at once: those whose report does not come will stay unknown"
                );
            }
            let (Some(first), Some(last)) = (landings.first(), landings.last()) else {
                return Ok(written);
            };
            let ids = landings.iter().map(|landing| landing.click_id.as_str());
            let (from, to) = ids
                .fold((first.click_id.as_str(), last.click_id.as_str()), |(from, to), id| {
                    (from.min(id), to.max(id))
                });
            let reported: HashSet<String> = table::reported_between(store, from, to).await?;
            let unreported: Vec<_> = landings
                .iter()
                .filter(|landing| !reported.contains(landing.click_id.as_str()))
                .filter_map(|landing| landing.row(keys, settings))
                .collect();
            if !unreported.is_empty() {
                let mut tx = store.begin().await?;
                for row in &unreported {
                    table::insert_provisional(&mut tx, row).await?;
                }
                tx.commit().await?;
            }
            written += unreported.len();
        }
    }

    /// The same for landings whose time is over.
    pub(crate) async fn write_due(
        &self,
        store: &Store,
        keys: &ClickIdKey,
        settings: &Snapshot,
        now: Timestamp,
    ) -> Result<usize> {
        self.write(store, keys, settings, now.minus(REPORT_DUE)).await
    }
}

impl Landing {
    /// Its memory in bytes.
    fn bytes(&self) -> usize {
        let around = &self.around;
        let texts =
            [Some(&around.user_agent), around.language.as_ref(), around.fetch_site.as_ref()];
        let texts = texts.into_iter().flatten().map(String::capacity).sum::<usize>();
        size_of::<Self>() + texts + self.url.capacity() + self.site_id.capacity()
    }

    /// The row that its report would have created, as far as the request shows. `None` if its site
    /// was deleted.
    fn row(&self, keys: &ClickIdKey, settings: &Snapshot) -> Option<crate::store::NewRow> {
        let site = settings.site(&self.site_id)?;
        // The owner may have changed it since.
        if site.tag.consent.is_needed() {
            return None;
        }
        let url = without_private(self.url.as_str().into());
        let seen = Seen { url: Some(url), ..Seen::default() };
        let sent = Sent {
            site_key: site.key.as_str().into(),
            click_id: self.click_id.clone(),
            sent_at_ms: UNSENT_MS,
            what: What::Visit(seen.clone()),
        };
        let visit = table::NewVisit {
            click_id: &self.click_id,
            alias: None,
            at: self.at,
            received_at: self.at,
            flag: flags::PROVISIONAL,
            site,
            sent: &sent,
            seen: &seen,
            around: &self.around,
            visitor: self.around.visitor(keys, self.at),
        };
        Some(visit.into_row())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn landing(at_ms: i64) -> Landing {
        Landing {
            click_id: ClickIdKey::new(b"a key").mint(Timestamp::from_ms(at_ms), 1),
            at: Timestamp::from_ms(at_ms),
            site_id: "site_1".to_owned(),
            url: "https://shop.example/?gclid=a".to_owned(),
            around: Around {
                origin_host: None,
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                user_agent: String::new(),
                language: None,
                wants_privacy: false,
                fetch_site: None,
                has_fixed_tag: false,
                has_agreed: false,
                keeps_user_agent: false,
                is_at_link: false,
            },
        }
    }

    #[test]
    fn the_queue_is_bounded_and_tells_what_it_dropped_once() {
        let landings = Landings::new(VisitLimit::new(0));
        for at in 0..MAX_WAITING + 3 {
            landings.hear(landing(i64::try_from(at).unwrap()));
        }
        let (taken, dropped) = landings.take(Timestamp::from_ms(i64::MAX));
        assert_eq!((taken.len(), dropped), (ROWS_AT_A_TIME, 3));
        assert_eq!(landings.take(Timestamp::from_ms(i64::MAX)).1, 0);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too() {
        let landings = Landings::new(VisitLimit::new(0));
        let large = "x".repeat(MAX_WAITING_BYTES / 4);
        for at in 0..5 {
            landings.hear(Landing { url: large.clone(), ..landing(at) });
        }
        let (taken, dropped) = landings.take(Timestamp::from_ms(i64::MAX));
        assert_eq!((taken.len(), dropped), (3, 2), "each has a little more than its address");
        assert_eq!(landings.waiting.lock().unwrap().bytes, 0, "and it is free again");
    }

    #[test]
    fn only_those_that_had_their_time_are_taken_and_one_address_cannot_fill_the_queue() {
        let landings = Landings::new(VisitLimit::new(2));
        for at in [1_000, 2_000, 3_000] {
            landings.hear(landing(at));
        }
        assert_eq!(landings.take(Timestamp::from_ms(1_500)).0.len(), 1);
        assert_eq!(landings.take(Timestamp::from_ms(9_000)).0.len(), 1, "the third was too much");
    }
}
