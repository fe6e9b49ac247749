//! Experimental: registers visits with AnyTrack from the server when AnyTrack's own tag did not
//! run. Takes the visits of sites whose AnyTrack destination has the option; sends one request for
//! each, and returns a click ID in AnyTrack's form for its conversion. Guarantees that it is off by
//! default, and that only the page's URL, its referrer, our click ID and the user agent are sent.
//! Bots, visitors with a privacy signal, and visitors who have a click ID of AnyTrack already are
//! left out. A registration that failed for good raises no alert, and no conversion waits for one.
//!
//! The request was derived from scripts of third parties. AnyTrack documents that client IDs may be
//! created on a server, but not that a conversion with one is matched.

mod queued;
mod table;

use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;

use self::queued::{Claim, Visited};
use crate::clock::Clock;
use crate::destination::{self, Answer, Sender};
use crate::domain::AttemptOutcome;
use crate::ids::ClickIdKey;
use crate::settings::{Destination, Settings};
use crate::store::{AnyConnection, Store};

/// How long after a visit its registration starts. AnyTrack's own click ID may arrive until then,
/// and the visit then needs no registration.
const RIPE_AFTER: Duration = Duration::from_secs(30);
/// Visits older than this are not registered, because AnyTrack would count them at the wrong time.
const LATEST: Duration = Duration::from_secs(600);
/// Delays after the first and the second attempt.
const PAUSES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];
/// Lease of a claimed registration. Longer than any attempt can take.
const LEASE: Duration = Duration::from_secs(60);
/// Maximum number of registrations per poll and destination.
const BATCH: i64 = 50;
/// Maximum number of concurrent requests.
const CONCURRENT: usize = 4;
/// Length of a client ID.
const CLIENT_ID_CHARS: usize = 14;

/// The worker that registers visits.
#[derive(Clone)]
pub(crate) struct Registrations {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) keys: ClickIdKey,
    pub(crate) sender: Sender,
}

/// The AnyTrack property under which a destination registers visits; `None` if the option is off.
fn property(destination: &Destination) -> Option<&str> {
    let wants = destination.is_anytrack()
        && destination.options.anytrack.registers_visits
        && destination.enabled;
    destination.options.anytrack.property.as_deref().filter(|_| wants)
}

/// AnyTrack's client ID for a click ID. It is derived with the server's key, so every replica
/// computes the same one and it need not be stored.
fn client_id(keys: &ClickIdKey, click_id: &str) -> String {
    keys.hash("anytrack-cid:", &[click_id]).chars().take(CLIENT_ID_CHARS).collect()
}

/// The URL of the request that registers a visit.
fn address(base: &str, property: &str, client_id: &str, visit: &Visited) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("cid", client_id);
    query.append_pair("ts", &visit.at.as_ms().to_string());
    query.append_pair("nc", "1");
    query.append_pair("en", "PageView");
    query.append_pair("dl", &visit.url);
    if let Some(referrer) = &visit.referrer {
        query.append_pair("dr", referrer);
    }
    query.append_pair("rid", &visit.click_id);
    format!("{}/assets/{property}/collect?{}", base.trim_end_matches('/'), query.finish())
}

impl Registrations {
    /// Queues registrations for new visits and sends those that are due. Returns the number of
    /// attempts.
    pub(crate) async fn round(&self) -> Result<usize> {
        let (snapshot, mut attempts) = (self.settings.current(), 0);
        for destination in &snapshot.destinations {
            let Some(property) = property(destination) else { continue };
            let now = self.clock.now();
            let (from, to) = (now.minus(LATEST), now.minus(RIPE_AFTER));
            let visits = table::unregistered(&self.store, destination, from, to, BATCH).await?;
            if !visits.is_empty() {
                let mut tx = self.store.begin().await?;
                for visit in &visits {
                    let client_id = client_id(&self.keys, &visit.click_id);
                    let base = &destination.options.anytrack.collect_base;
                    let url = address(base, property, &client_id, visit);
                    table::enqueue(&mut tx, now, &destination.id, visit, &url).await?;
                }
                tx.commit().await?;
            }
            let claims = table::claim(&self.store, now, LEASE, &destination.id, BATCH).await?;
            attempts += claims.len();
            for few in claims.chunks(CONCURRENT) {
                let sends = few.iter().map(|claim| self.send(destination, claim));
                join_all(sends).await.into_iter().collect::<Result<()>>()?;
            }
        }
        Ok(attempts)
    }

    async fn send(&self, destination: &Destination, claim: &Claim) -> Result<()> {
        let answer = self.sender.visit(&claim.url, &claim.user_agent).await;
        let (outcome, error) = destination::judge(destination, &answer);
        let status = match &answer {
            Answer::Http { status, .. } => Some(i64::from(*status)),
            Answer::Nothing(_) | Answer::Blocked(_) => None,
        };
        let now = self.clock.now();
        let pause = usize::try_from(claim.n - 1).ok().and_then(|at| PAUSES.get(at));
        let again = pause.map(|pause| now.plus(*pause));
        let again = again.filter(|at| at.since(claim.created_at) < LATEST);
        let (state, due) = match (outcome, again) {
            (AttemptOutcome::Accepted, _) => ("accepted", now),
            (AttemptOutcome::Retry, Some(again)) => ("pending", again),
            (AttemptOutcome::Retry, None)
            | (AttemptOutcome::Refused | AttemptOutcome::Blocked, _) => ("given_up", now),
        };
        let outcome = table::AttemptOutcome { state, due, status, error };
        table::record_outcome(&self.store, now, &destination.id, claim, &outcome).await
    }
}

/// AnyTrack's click ID of a visit that was registered successfully; otherwise `None`.
pub(crate) async fn anytrack_click_id(
    tx: &mut AnyConnection,
    keys: &ClickIdKey,
    destination: &Destination,
    click_id: &str,
) -> Result<Option<String>> {
    let Some(property) = property(destination) else { return Ok(None) };
    let is_accepted = table::is_accepted(tx, &destination.id, click_id).await?;
    Ok(is_accepted.then(|| format!("{property}{}", client_id(keys, click_id))))
}

/// Deletes the registrations of click IDs from `from` to `to`, both included, whose visits have
/// been deleted.
pub(crate) async fn forget(tx: &mut AnyConnection, from: &str, to: &str) -> Result<()> {
    table::forget(tx, from, to).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn the_request_contains_only_the_documented_parameters() {
        let visit = Visited {
            click_id: "ck_0123456789abcdefghjkmnpqrstvwxyz".to_owned(),
            at: Timestamp::from_ms(1_790_000_000_123),
            url: "https://shop.example/offer?a=b&c=d".to_owned(),
            referrer: None,
            user_agent: String::new(),
        };
        assert_eq!(
            address("https://t1.anytrack.io/", "abcdefABCDEF", "0123456789abcd", &visit),
            "https://t1.anytrack.io/assets/abcdefABCDEF/collect?cid=0123456789abcd&ts=1790000000123&nc=1&en=PageView\
             &dl=https%3A%2F%2Fshop.example%2Foffer%3Fa%3Db%26c%3Dd&rid=ck_0123456789abcdefghjkmnpqrstvwxyz"
        );
        let keys = ClickIdKey::new(&[7; 32]);
        let id = client_id(&keys, &visit.click_id);
        assert_eq!((id.len(), &id), (14, &client_id(&keys, &visit.click_id)));
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_ne!(id, client_id(&keys, "ck_1"));
    }
}
