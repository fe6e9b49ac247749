//! The delivery worker: claim → send → settle.
//! In: what is due. Out: attempts, and deliveries that are delivered, due later, or given up.
//! Promise: a claim is committed before the send and is only a lease, so a dead worker needs no cleaning; no transaction spans a send.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::join_all;

use super::schedule::{pause_after, read_retry_after};
use super::table::{self, Claim, Settlement};
use crate::clock::{Clock, Timestamp};
use crate::destination::{self, Answer, Outcome, Sender};
use crate::ids;
use crate::settings::{Destination, Settings};
use crate::store::{Engine, Store};

/// Longer than any attempt can take, short enough that a dead worker's deliveries are soon somebody's.
const LEASE: Duration = Duration::from_secs(60);
/// Deliveries of one destination under way at a time: AnyTrack documents no limit, so we stay modest.
const AT_A_TIME: u32 = 4;

/// How soon a destination whose bucket is empty is looked at again.
const PACED_LOOK: Duration = Duration::from_millis(100);

/// Everything the worker needs.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    pub(crate) sender: Sender,
    pub(crate) schedule: Vec<Duration>,
    /// Deliveries per second and destination; 0 is no limit.
    pub(crate) rate: u32,
}

/// What a round did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    /// Attempts made.
    pub(crate) attempts: usize,
    /// When something is due next, as far as this round saw.
    pub(crate) next: Option<Timestamp>,
}

/// How many deliveries a destination may get now: a bucket that fills at its rate and holds one second of it.
#[derive(Debug, Default)]
pub(crate) struct Pace(HashMap<String, (Timestamp, u32)>);

impl Pace {
    /// Tokens left for a destination.
    fn available(&mut self, destination_id: &str, rate: u32, now: Timestamp) -> u32 {
        if rate == 0 {
            return AT_A_TIME;
        }
        let (at, tokens) = self.0.entry(destination_id.to_owned()).or_insert((now, rate));
        if now < *at {
            *at = now; // The clock was set back; waiting for the old time would stop all deliveries until then.
        }
        let earned = now.since(*at).as_millis() * u128::from(rate) / 1000;
        if earned > 0 {
            *tokens = u32::try_from(earned + u128::from(*tokens)).unwrap_or(rate).min(rate);
            *at = now;
        }
        *tokens
    }

    fn spend(&mut self, destination_id: &str, count: u32) {
        if let Some((_, tokens)) = self.0.get_mut(destination_id) {
            *tokens = tokens.saturating_sub(count);
        }
    }
}

impl Worker {
    /// At start: what a dead process of this database had claimed is nobody's.
    pub(crate) async fn begin(&self, store: &Store) -> Result<()> {
        match store.engine() {
            Engine::Sqlite => table::end_leases(store).await,
            Engine::Postgres => Ok(()), // Other replicas hold leases too; dead ones run out.
        }
    }

    /// One round over all destinations at once; a slow one does not hold up the others' round by more than its own attempts.
    pub(crate) async fn round(
        &self,
        store: &Store,
        settings: &Settings,
        clock: &Clock,
        pace: &mut Pace,
    ) -> Result<Round> {
        let (now, snapshot) = (clock.now(), settings.current());
        let enabled: Vec<_> =
            snapshot.destinations.iter().filter(|destination| destination.enabled).collect();
        let next = next_due(store, &enabled).await?;
        if next.is_none_or(|next| next > now) {
            return Ok(Round { attempts: 0, next });
        }
        let mut tx = store.begin().await?;
        let max_tries = i64::try_from(self.schedule.len() + 1).unwrap_or(i64::MAX);
        table::give_up_exhausted(&mut tx, now, max_tries).await?;
        let mut claimed = Vec::new();
        let mut is_paced = false;
        for destination in &enabled {
            let available = pace.available(&destination.id, self.rate, now);
            is_paced |= available == 0;
            let limit = i64::from(available.min(AT_A_TIME));
            let claims =
                table::claim(&mut tx, now, now.plus(LEASE), &destination.id, limit).await?;
            pace.spend(&destination.id, u32::try_from(claims.len()).unwrap_or(u32::MAX));
            claimed.extend(claims.into_iter().map(|claim| (*destination, claim)));
        }
        tx.commit().await?;
        let attempts = claimed.len();
        let sends = claimed
            .into_iter()
            .map(|(destination, claim)| self.attempt(store, clock, destination, claim));
        for settled in join_all(sends).await {
            settled?;
        }
        let paced = is_paced.then(|| now.plus(PACED_LOOK));
        let due = next_due(store, &enabled).await?;
        Ok(Round { attempts, next: if is_paced { paced } else { due } })
    }

    async fn attempt(
        &self,
        store: &Store,
        clock: &Clock,
        destination: &Destination,
        claim: Claim,
    ) -> Result<()> {
        let stopwatch = Clock::stopwatch();
        let answer =
            self.sender.post(&destination.url, &claim.content_type, claim.request.clone()).await;
        let took_ms = i64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(i64::MAX);
        let now = clock.now();
        let (outcome, error) = destination::judge(destination, &answer);
        let (status, body, retry_after) = match &answer {
            Answer::Http { status, body, retry_after, .. } => {
                let asked = retry_after.as_deref().and_then(|header| read_retry_after(header, now));
                (
                    Some(i64::from(*status)),
                    Some(body.replace(destination.url.expose(), "***")),
                    asked,
                )
            }
            Answer::Nothing(_) | Answer::Blocked(_) => (None, None, None),
        };
        let tries = usize::try_from(claim.tries).unwrap_or(usize::MAX);
        let pause = pause_after(&self.schedule, tries, retry_after, ids::random_per_mille());
        let (state, reason, due) = match (outcome, pause) {
            (Outcome::Accepted, _) => ("delivered", None, now),
            (Outcome::Retry, Some(pause)) => ("pending", None, now.plus(pause)),
            (Outcome::Retry, None) => ("given_up", Some("exhausted"), now),
            (Outcome::Refused, _) => ("given_up", Some("refused"), now),
            (Outcome::Blocked, _) => ("given_up", Some("blocked_address"), now),
        };
        let end = Settlement {
            outcome: outcome.word(),
            took_ms,
            status,
            answer: body.as_deref(),
            error: error.as_deref(),
            state,
            reason,
            due,
        };
        let mut tx = store.begin().await?;
        table::settle(&mut tx, now, &claim, &end).await?;
        tx.commit().await?;
        let said = error.as_deref().unwrap_or("accepted");
        tracing::info!(
            delivery = claim.id,
            destination = destination.key,
            attempt = claim.n,
            status,
            took_ms,
            state,
            "tried a delivery: {said}"
        );
        Ok(())
    }
}

/// When the earliest delivery to any of these destinations wants attention.
async fn next_due(store: &Store, destinations: &[&Destination]) -> Result<Option<Timestamp>> {
    let mut next = None;
    for destination in destinations {
        let due = table::next_due(store, &destination.id).await?;
        next = [next, due].into_iter().flatten().min();
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_a_bucket_of_one_second() {
        let mut pace = Pace::default();
        let at = |ms| Timestamp::from_ms(ms);
        assert_eq!(pace.available("a", 10, at(0)), 10);
        pace.spend("a", 10);
        assert_eq!(pace.available("a", 10, at(50)), 0);
        assert_eq!(pace.available("a", 10, at(100)), 1);
        assert_eq!(pace.available("b", 10, at(100)), 10);
        assert_eq!(pace.available("a", 10, at(60_000)), 10);
        assert_eq!(pace.available("a", 0, at(0)), AT_A_TIME);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_dry_the_bucket_up() {
        let mut pace = Pace::default();
        let at = |ms| Timestamp::from_ms(ms);
        assert_eq!(pace.available("a", 10, at(86_400_000)), 10);
        pace.spend("a", 10);
        assert_eq!(pace.available("a", 10, at(1_000)), 0);
        assert_eq!(pace.available("a", 10, at(2_000)), 10);
    }
}
