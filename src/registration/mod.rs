//! Experimental: AnyTrack is told of a visit by the server, where its own tag did not run.
//! In: visits of a site whose AnyTrack destination asks for it. Out: one request each, and a click ID of AnyTrack's form for its conversion.
//! Promise: off unless switched on; nothing but the page's address, its referrer, our click ID and the browser's name leaves; who asked for
//! privacy, bots, and visitors whom AnyTrack knows already are left out. What was given up raises no alert, and no conversion waits for it.
//! Source: third parties' scripts; AnyTrack documents that client IDs may be made on a server, not that a conversion with one is matched.

mod table;

use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;

use crate::clock::{Clock, Timestamp};
use crate::destination::{self, Answer, Outcome, Sender};
use crate::ids::ClickIdKey;
use crate::settings::{Destination, DestinationKind, Settings};
use crate::store::{AnyConnection, Store};

/// A captured ID may arrive until then, and makes a registration needless.
const RIPE_AFTER: Duration = Duration::from_secs(30);
/// A visit that could not be registered by then is left alone: AnyTrack would count it at the wrong time.
const LATEST: Duration = Duration::from_secs(600);
/// Pauses after the first and the second try.
const PAUSES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];
/// Longer than any try can take.
const LEASE: Duration = Duration::from_secs(60);
/// Most in one round, and how many of them at a time.
const A_ROUND: i64 = 50;
const AT_A_TIME: usize = 4;
/// Characters of a client ID.
const CLIENT_ID_CHARS: usize = 14;

/// What a round needs.
#[derive(Clone)]
pub(crate) struct Registrations {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) keys: ClickIdKey,
    pub(crate) sender: Sender,
}

/// The property under which a destination registers visits, if it does.
fn property(destination: &Destination) -> Option<&str> {
    let wants = destination.kind == DestinationKind::AnyTrack
        && destination.options.registers_visits
        && destination.enabled;
    destination.options.anytrack_property.as_deref().filter(|_| wants)
}

/// The client ID that stands for a click ID: the same on every replica, without a column.
fn client_id(keys: &ClickIdKey, click_id: &str) -> String {
    keys.hash("anytrack-cid:", &[click_id]).chars().take(CLIENT_ID_CHARS).collect()
}

/// What is asked of AnyTrack for a visit.
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

/// A visit that may be registered.
struct Visited {
    click_id: String,
    at: Timestamp,
    url: String,
    referrer: Option<String>,
    user_agent: String,
}

/// A claimed registration.
struct Claim {
    click_id: String,
    url: String,
    user_agent: String,
    n: i64,
    created_at: Timestamp,
}

impl Registrations {
    /// Owes what new visits ask for, and sends what is due. Answers how many tries it made.
    ///
    /// # Errors
    /// When the database does not answer; the next round goes on.
    pub(crate) async fn round(&self) -> Result<usize> {
        let (snapshot, mut tries) = (self.settings.current(), 0);
        for destination in &snapshot.destinations {
            let Some(property) = property(destination) else { continue };
            let now = self.clock.now();
            let (from, to) = (now.minus(LATEST), now.minus(RIPE_AFTER));
            let visits = table::unregistered(&self.store, destination, from, to, A_ROUND).await?;
            if !visits.is_empty() {
                let mut tx = self.store.begin().await?;
                for visit in &visits {
                    let client_id = client_id(&self.keys, &visit.click_id);
                    let base = &destination.options.anytrack_collect_base;
                    let url = address(base, property, &client_id, visit);
                    table::owe(&mut tx, now, &destination.id, visit, &url).await?;
                }
                tx.commit().await?;
            }
            let claims = table::claim(&self.store, now, LEASE, &destination.id, A_ROUND).await?;
            tries += claims.len();
            for few in claims.chunks(AT_A_TIME) {
                let sends = few.iter().map(|claim| self.send(destination, claim));
                join_all(sends).await.into_iter().collect::<Result<()>>()?;
            }
        }
        Ok(tries)
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
            (Outcome::Accepted, _) => ("accepted", now),
            (Outcome::Retry, Some(again)) => ("pending", again),
            (Outcome::Retry, None) | (Outcome::Refused | Outcome::Blocked, _) => ("given_up", now),
        };
        let end = table::End { state, due, status, error };
        table::settle(&self.store, now, &destination.id, claim, &end).await
    }
}

/// AnyTrack's click ID for a visit that was registered there; `None` where it was not, or not with success.
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

/// Forgets what became of the visits of click IDs between these two, both included, that are gone.
pub(crate) async fn forget(tx: &mut AnyConnection, from: &str, to: &str) -> Result<()> {
    table::forget(tx, from, to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_holds_what_is_told_on_the_page_and_nothing_else() {
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
