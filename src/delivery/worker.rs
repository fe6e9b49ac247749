//! The delivery worker: claims deliveries, sends them and records their outcomes.
//! Takes due deliveries; writes attempts, and marks deliveries as delivered, due later, or failed.
//! Guarantees that a slow or dead destination delays no other: each has its own concurrency limit,
//! rate limit and circuit breaker. A claim is committed before the request and is only a lease, so
//! a dead worker needs no cleanup; no transaction is open during a request. An idle worker makes
//! almost no database queries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::breaker::{Breaker, Permit, Sign};
use super::pace::Pace;
use super::schedule::{asked_pause, pause_after, read_retry_after};
use super::table::{self, Claim, Settlement, breakers};
use crate::clock::{Clock, Timestamp};
use crate::destination::{self, Answer, Sender};
use crate::domain::{AttemptOutcome, DeliveryReason, DeliveryState, FailureReason};
use crate::failpoint;
use crate::ids;
use crate::settings::{Destination, Settings, Snapshot};
use crate::store::{Engine, Store, Trace};

/// Longer than any attempt can take, and short enough that a dead worker's deliveries are soon
/// claimed by another.
const LEASE: Duration = Duration::from_secs(60);
/// Poll interval while other replicas use all of a destination's concurrent requests.
const CROWDED_POLL: Duration = Duration::from_secs(1);
/// Poll interval on PostgreSQL. A wake-up reaches one process only, and another replica may have
/// died after it queued something.
const POLL_FOR_REPLICAS: Duration = Duration::from_secs(5);
/// Poll interval on SQLite. One process serves the file, but a command such as `backfill` may write
/// to it too. Each poll compares the store's trace, and queries the database only if that has
/// changed.
const POLL_FOR_COMMANDS: Duration = Duration::from_secs(60);
/// Maximum time until the next poll: the longest pause that a destination can ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// How often recording an outcome is tried before the delivery is left to its lease.
const SETTLE_TRIES: u32 = 3;

/// What a worker needs; constant while it runs.
#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) sender: Sender,
    pub(crate) schedule: Arc<[Duration]>,
    /// Rate limit in deliveries per second for each destination without its own; 0 means no limit.
    pub(crate) rate: u32,
}

/// An attempt that has ended and is not recorded yet.
struct Ended {
    destination: Arc<Destination>,
    claim: Claim,
    answer: Answer,
    took_ms: i64,
    settle_tries: u32,
}

/// When to poll a destination next.
struct NextPoll {
    at: Timestamp,
    /// What the last poll found: nothing is due before then, unless somebody writes.
    due: Option<Timestamp>,
    /// The store's trace before that poll.
    trace: Option<Trace>,
}

/// What is needed to release the lease of a running attempt.
struct Leased {
    destination_id: String,
    n: i64,
    lease: Timestamp,
}

/// The state of a running worker.
pub(crate) struct Shift {
    worker: Worker,
    under_way: FuturesUnordered<BoxFuture<'static, Ended>>,
    ended: Vec<Ended>,
    /// Claimed deliveries that have not ended, by delivery ID.
    claimed: HashMap<String, Leased>,
    /// The number of running attempts, by destination.
    busy: HashMap<String, i64>,
    pace: Pace,
    /// When to poll each destination next; without an entry, now.
    polls: HashMap<String, NextPoll>,
    /// True after a failed transaction: one message may be the cause, so each outcome is recorded
    /// in a transaction of its own.
    settles_alone: bool,
    is_ending: bool,
}

impl Worker {
    /// At start: on SQLite, releases what a dead process had claimed.
    pub(crate) async fn begin(&self) -> Result<()> {
        match self.store.engine() {
            Engine::Sqlite => table::end_leases(&self.store).await,
            Engine::Postgres => Ok(()), // Other replicas hold leases too. Those of dead ones expire.
        }
    }

    /// Starts to work.
    pub(crate) fn shift(&self) -> Shift {
        Shift {
            worker: self.clone(),
            under_way: FuturesUnordered::new(),
            ended: Vec::new(),
            claimed: HashMap::new(),
            busy: HashMap::new(),
            pace: Pace::default(),
            polls: HashMap::new(),
            settles_alone: false,
            is_ending: false,
        }
    }

    /// Returns what an attempt means for its delivery and for the destination's circuit breaker,
    /// and the pause that the destination asked for.
    fn end<'a>(
        &self,
        now: Timestamp,
        ended: &'a Ended,
    ) -> (Settlement<'a>, Sign, Option<Duration>) {
        let destination = &*ended.destination;
        let (outcome, error) = destination::judge(destination, &ended.answer);
        let (status, body, asked) = match &ended.answer {
            Answer::Http { status, body, retry_after, .. } => {
                let asked = retry_after.as_deref().and_then(|header| read_retry_after(header, now));
                (Some(*status), Some(destination::hide_secrets(destination, body)), asked)
            }
            Answer::Nothing(_) | Answer::Blocked(_) => (None, None, None),
        };
        let sign = match (outcome, status) {
            (AttemptOutcome::Accepted, _) => Sign::Accepted,
            (AttemptOutcome::Retry, _) => Sign::Failing,
            (AttemptOutcome::Refused, Some(401 | 403 | 404 | 405 | 410)) => Sign::WrongAddress,
            (AttemptOutcome::Refused, _) => Sign::RefusedOne,
            (AttemptOutcome::Blocked, _) => Sign::NotSent,
        };
        let tries = usize::try_from(ended.claim.tries).unwrap_or(usize::MAX);
        let pause = pause_after(&self.schedule, tries, asked, ids::random_per_mille());
        // A destination that is down may refuse a probe that it would accept tomorrow.
        let is_final = outcome != AttemptOutcome::Retry
            && !(outcome == AttemptOutcome::Refused && ended.claim.is_probe);
        let failed = |reason| (DeliveryState::GivenUp, Some(DeliveryReason::Failed(reason)), now);
        let (state, reason, due) = match (outcome, pause) {
            (AttemptOutcome::Accepted, _) => (DeliveryState::Delivered, None, now),
            (AttemptOutcome::Blocked, _) => failed(FailureReason::BlockedAddress),
            (AttemptOutcome::Refused, _) if is_final => failed(FailureReason::Refused),
            (_, Some(pause)) => (DeliveryState::Pending, None, now.plus(pause)),
            (_, None) => failed(FailureReason::Exhausted),
        };
        let pauses_all =
            matches!(status, Some(429 | 503)).then_some(asked).flatten().map(asked_pause);
        let settlement = Settlement {
            claim: &ended.claim,
            outcome,
            took_ms: ended.took_ms,
            status: status.map(i64::from),
            answer: body,
            error,
            state,
            reason,
            due,
        };
        (settlement, sign, pauses_all)
    }
}

impl Shift {
    /// Records the outcomes of ended attempts, claims due deliveries and starts to send them.
    /// Returns the number of attempts that started.
    ///
    /// # Errors
    /// Fails if the database does not answer; ended attempts are kept for the next turn.
    pub(crate) async fn turn(&mut self) -> Result<usize> {
        if self.settles_alone {
            self.settle_each_alone().await?;
        }
        let turn = self.settle_and_claim().await;
        self.settles_alone = turn.is_err();
        turn
    }

    async fn settle_and_claim(&mut self) -> Result<usize> {
        let worker = self.worker.clone();
        let (now, snapshot) = (worker.clock.now(), worker.settings.current());
        let wanted = self.due_destinations(now, &snapshot).await?;
        if self.ended.is_empty() && wanted.is_empty() {
            return Ok(0);
        }
        if !wanted.is_empty() {
            failpoint::pass("claiming").await;
        }
        let mut tx = worker.store.begin().await?;
        // Always in the same order, so that replicas never wait for each other.
        let mut locked: BTreeMap<String, (Breaker, Breaker)> = BTreeMap::new();
        let ended = self.ended.iter().map(|ended| &ended.destination.id);
        for id in ended.chain(wanted.iter().map(|destination| &destination.id)) {
            locked.entry(id.clone()).or_default();
        }
        for (id, both) in &mut locked {
            let breaker = breakers::take_turn(&mut tx, id).await?;
            *both = (breaker.clone(), breaker);
        }
        let mut lines = Vec::with_capacity(self.ended.len());
        for ended in &self.ended {
            let (settlement, sign, pause) = worker.end(now, ended);
            table::settle(&mut tx, now, &settlement).await?;
            if let Some((_, breaker)) = locked.get_mut(&ended.destination.id) {
                let (probe, slots) = (ended.claim.is_probe, ended.destination.at_a_time());
                breaker.note(now, sign, probe, slots, pause, settlement.error.as_deref());
            }
            lines.push((settlement.state, settlement.status, settlement.error));
        }
        let mut claimed = Vec::new();
        for destination in wanted {
            let Some((_, breaker)) = locked.get_mut(&destination.id) else { continue };
            let claims = self.claim(&mut tx, now, &destination, breaker).await?;
            claimed.extend(claims.into_iter().map(|claim| (destination.clone(), claim)));
        }
        for (id, (before, after)) in &locked {
            if before != after {
                breakers::save(&mut tx, id, after).await?;
            }
        }
        if !lines.is_empty() {
            failpoint::pass("settling").await;
        }
        tx.commit().await?;
        if !lines.is_empty() {
            failpoint::pass("settled").await;
        }
        if !claimed.is_empty() {
            failpoint::pass("claimed").await;
        }
        for (ended, (state, status, error)) in std::mem::take(&mut self.ended).iter().zip(lines) {
            self.recorded(&ended.destination.id);
            log_outcome(ended, state, status, error.as_deref());
        }
        for (id, (before, after)) in &locked {
            log_breaker(&snapshot, id, before, after);
        }
        let begun = claimed.len();
        for (destination, claim) in claimed {
            *self.busy.entry(destination.id.clone()).or_default() += 1;
            self.pace.spend(&destination.id, 1);
            let destination_id = destination.id.clone();
            let leased = Leased { destination_id, n: claim.n, lease: claim.lease };
            self.claimed.insert(claim.id.clone(), leased);
            self.under_way.push(Box::pin(attempt(worker.clone(), destination, claim)));
        }
        Ok(begun)
    }

    /// Returns the destinations that have a due delivery and may start another request.
    async fn due_destinations(
        &mut self,
        now: Timestamp,
        snapshot: &Snapshot,
    ) -> Result<Vec<Arc<Destination>>> {
        let mut wanted = Vec::new();
        let enabled = snapshot.destinations.iter().filter(|found| found.enabled && !self.is_ending);
        for destination in enabled.collect::<Vec<_>>() {
            // A later time means that the clock was set back.
            let is_time = |poll: &NextPoll| poll.at <= now || poll.at.since(now) > LONGEST_DELAY;
            let last = self.polls.get(&destination.id);
            if !last.is_none_or(is_time) || self.free(destination) <= 0 {
                continue;
            }
            let trace = self.worker.store.trace();
            let is_as_it_was = |last: &&NextPoll| trace.is_some() && last.trace == trace;
            let due = match last.filter(is_as_it_was) {
                Some(last) if last.due.is_none_or(|due| due > now) => last.due,
                _ => table::next_due(&self.worker.store, now, &destination.id).await?,
            };
            if due.is_some_and(|due| due <= now) {
                wanted.push(destination.clone());
            } else {
                let latest = now.plus(self.poll_interval());
                let at = due.map_or(latest, |due| due.min(latest));
                self.polls.insert(destination.id.clone(), NextPoll { at, due, trace });
            }
        }
        Ok(wanted)
    }

    fn free(&self, destination: &Destination) -> i64 {
        destination.at_a_time() - self.busy.get(&destination.id).copied().unwrap_or(0)
    }

    /// Claims what the destination's breaker, rate limit and concurrency limit allow, and schedules
    /// the next poll.
    async fn claim(
        &mut self,
        tx: &mut crate::store::AnyConnection,
        now: Timestamp,
        destination: &Destination,
        breaker: &mut Breaker,
    ) -> Result<Vec<Claim>> {
        let rate = destination.options.sending.rate.unwrap_or(self.worker.rate);
        let permit = breaker.permit(now, destination.at_a_time());
        let tokens = match self.pace.available(&destination.id, rate, now) {
            Ok(tokens) => i64::from(tokens),
            Err(at) => return Ok(self.poll_again(&destination.id, at)),
        };
        let (slots, is_probe) = match permit {
            Permit::Nothing(until) => return Ok(self.poll_again(&destination.id, until)),
            Permit::Probe => (1, true),
            Permit::UpTo(slots) => {
                let leased = table::leased(tx, now, &destination.id).await?;
                (slots - leased, false)
            }
        };
        let limit = slots.min(tokens);
        if limit <= 0 {
            return Ok(self.poll_again(&destination.id, now.plus(CROWDED_POLL)));
        }
        let claims = table::claim(tx, now, now.plus(LEASE), &destination.id, limit).await?;
        self.polls.remove(&destination.id);
        let max_tries = i64::try_from(self.worker.schedule.len() + 1).unwrap_or(i64::MAX);
        let mut begun = Vec::with_capacity(claims.len());
        for mut claim in claims {
            // Either it used all its tries without an outcome, like a message that crashes the
            // process, or it became too old.
            let is_late = claim.expires_at.is_some_and(|expires_at| expires_at <= now);
            if is_late || claim.tries > max_tries {
                let reason =
                    if is_late { FailureReason::Expired } else { FailureReason::Exhausted };
                table::give_up_unsent(tx, now, &claim.id, reason).await?;
                continue;
            }
            claim.is_probe = is_probe;
            begun.push(claim);
        }
        if !begun.is_empty() {
            table::note_attempts(tx, now, now.plus(LEASE), &destination.id).await?;
        }
        if is_probe && !begun.is_empty() {
            breaker.send_probe(now, LEASE);
        }
        Ok(begun)
    }

    fn poll_again(&mut self, destination_id: &str, at: Timestamp) -> Vec<Claim> {
        let poll = NextPoll { at, due: None, trace: None };
        self.polls.insert(destination_id.to_owned(), poll);
        Vec::new()
    }

    /// Records each outcome in a transaction of its own, so that one that can't be written does not
    /// block the others. After a few tries it is left to its lease.
    async fn settle_each_alone(&mut self) -> Result<()> {
        for mut ended in std::mem::take(&mut self.ended) {
            let now = self.worker.clock.now();
            match settle_alone(&self.worker, now, &ended).await {
                Ok(()) => self.recorded(&ended.destination.id),
                Err(error) => {
                    tracing::error!(
                        delivery = ended.claim.id,
                        error = format!("{error:#}"),
                        "could not record the outcome of an attempt"
                    );
                    ended.settle_tries += 1;
                    if ended.settle_tries < SETTLE_TRIES {
                        self.ended.push(ended);
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes an attempt that ended. Its destination may start another request, so poll it now.
    fn take(&mut self, ended: Ended) {
        if let Some(busy) = self.busy.get_mut(&ended.destination.id) {
            *busy -= 1;
        }
        self.claimed.remove(&ended.claim.id);
        self.polls.remove(&ended.destination.id);
        self.ended.push(ended);
    }

    /// Schedules a poll after an outcome was recorded. An earlier poll is out of date: the delivery
    /// was leased then, and may now be due before that lease would have ended. Without this, the
    /// retry would wait for the next poll.
    fn recorded(&mut self, destination_id: &str) {
        self.polls.remove(destination_id);
    }

    /// Something may have been queued: poll every destination now.
    pub(crate) fn wake(&mut self) {
        self.polls.clear();
    }

    /// For an orderly stop: starts nothing new, and finishes what is running.
    pub(crate) fn begin_no_more(&mut self) {
        self.is_ending = true;
    }

    /// Ends an orderly stop that took too long: cuts off running attempts and makes their
    /// deliveries due again, for another replica or the next start. Their destinations may have
    /// received them, as after a crash.
    ///
    /// # Errors
    /// Fails if the database does not answer; the leases then expire.
    pub(crate) async fn release(mut self) -> Result<()> {
        self.under_way.clear();
        let now = self.worker.clock.now();
        let mut tx = self.worker.store.begin().await?;
        // Breakers first and in order, as in every turn.
        let destinations: BTreeSet<_> =
            self.claimed.values().map(|leased| &leased.destination_id).collect();
        for destination_id in destinations {
            breakers::probe_now(&mut tx, now, destination_id).await?;
        }
        for (id, leased) in &self.claimed {
            table::release_lease(&mut tx, id, leased.n, leased.lease).await?;
        }
        tx.commit().await?;
        if !self.claimed.is_empty() {
            let deliveries = self.claimed.len();
            tracing::warn!(deliveries, "cut off running deliveries; they will be sent again");
        }
        Ok(())
    }

    /// True while attempts are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Waits until an attempt has ended, and takes all others that have. Never resolves if none is
    /// running.
    pub(crate) async fn attempt_ended(&mut self) {
        match self.under_way.next().await {
            Some(ended) => self.take(ended),
            None => std::future::pending().await,
        }
        while let Some(Some(ended)) = self.under_way.next().now_or_never() {
            self.take(ended);
        }
    }

    /// How long to sleep, unless an attempt ends or a wake-up arrives.
    pub(crate) fn rest(&self) -> Duration {
        let now = self.worker.clock.now();
        let snapshot = self.worker.settings.current();
        let polls =
            snapshot.destinations.iter().filter(|found| found.enabled && self.free(found) > 0);
        let rests = polls.map(|found| match self.polls.get(&found.id) {
            None => Duration::ZERO,
            Some(poll) => poll.at.since(now).max(Duration::from_millis(1)),
        });
        rests.chain([self.poll_interval()]).min().unwrap_or_default()
    }

    /// The poll interval when nothing wakes the worker up.
    fn poll_interval(&self) -> Duration {
        match self.worker.store.engine() {
            Engine::Sqlite => POLL_FOR_COMMANDS,
            Engine::Postgres => POLL_FOR_REPLICAS,
        }
    }
}

async fn settle_alone(worker: &Worker, now: Timestamp, ended: &Ended) -> Result<()> {
    let mut tx = worker.store.begin().await?;
    let id = &ended.destination.id;
    let mut breaker = breakers::take_turn(&mut tx, id).await?;
    let (settlement, sign, pause) = worker.end(now, ended);
    table::settle(&mut tx, now, &settlement).await?;
    let (probe, slots) = (ended.claim.is_probe, ended.destination.at_a_time());
    breaker.note(now, sign, probe, slots, pause, settlement.error.as_deref());
    breakers::save(&mut tx, id, &breaker).await?;
    tx.commit().await?;
    log_outcome(ended, settlement.state, settlement.status, settlement.error.as_deref());
    Ok(())
}

async fn attempt(worker: Worker, destination: Arc<Destination>, claim: Claim) -> Ended {
    let stopwatch = Clock::stopwatch();
    let parcel = destination::Parcel {
        id: &claim.id,
        at: worker.clock.now(),
        content_type: &claim.content_type,
        body: &claim.request,
    };
    let answer = worker.sender.send(&destination, parcel).await;
    failpoint::pass("answered").await;
    let took_ms = i64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(i64::MAX);
    Ended { destination, claim, answer, took_ms, settle_tries: 0 }
}

fn log_outcome(ended: &Ended, state: DeliveryState, status: Option<i64>, error: Option<&str>) {
    tracing::info!(
        delivery = ended.claim.id,
        destination = ended.destination.key,
        attempt = ended.claim.n,
        status,
        took_ms = ended.took_ms,
        %state,
        "tried a delivery: {}",
        error.unwrap_or("accepted")
    );
}

/// Logs once when the breaker of a destination opens, and once when it closes.
fn log_breaker(snapshot: &Snapshot, id: &str, before: &Breaker, after: &Breaker) {
    let key = snapshot.destination(id).map_or(id, |found| found.key.as_str());
    match (before.held_since, after.held_since) {
        (None, Some(_)) => {
            let why = after.last_error.as_deref().unwrap_or_default();
            tracing::warn!(destination = key, "destination is down, sending only probes: {why}");
        }
        (Some(_), None) => tracing::info!(destination = key, "destination is up again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Network;
    use crate::visit;

    /// A worker with one destination and an empty queue.
    async fn idle_worker() -> (Worker, std::path::PathBuf) {
        let directory = std::env::temp_dir().join(format!("worker_{}", ids::new_secret()));
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let store = Store::open(&url, &visit::VISITS, &visit::COUNTS).await.unwrap();
        let values = [("CLICKSTAMP_ANYTRACK_URL", "https://t1.anytrack.io/a/collect/b")];
        let config = crate::config::Config::with(&values).unwrap();
        crate::settings::prepare(&store, &config, Timestamp::from_ms(0)).await.unwrap();
        let worker = Worker {
            settings: Settings::load(&store).await.unwrap(),
            store,
            clock: Clock::manual(Timestamp::from_ms(0)),
            sender: Sender::new(false, Network::default()).unwrap(),
            schedule: Arc::from([]),
            rate: 10,
        };
        (worker, directory)
    }

    /// The number of database queries of a worker in an hour; its store is closed, so each of them
    /// fails.
    async fn statements_in_an_hour(worker: &Worker, shift: &mut Shift) -> usize {
        let mut statements = 0;
        for _ in 0..3600 {
            worker.clock.advance(Duration::from_secs(1));
            if shift.turn().await.is_err() {
                statements += 1;
                let (now, trace) = (worker.clock.now(), worker.store.trace());
                // As if the query had found nothing due.
                let poll = || NextPoll { at: now.plus(POLL_FOR_COMMANDS), due: None, trace };
                shift.polls.values_mut().for_each(|put_off| *put_off = poll());
            }
        }
        statements
    }

    #[tokio::test]
    async fn an_idle_worker_queries_nothing_in_an_hour_unless_another_process_writes() {
        let (worker, directory) = idle_worker().await;
        let mut shift = worker.shift();
        assert_eq!(shift.turn().await.unwrap(), 0);
        worker.store.close().await;
        // Closing wrote the log into the file, which counts as a write.
        assert_eq!(statements_in_an_hour(&worker, &mut shift).await, 1);
        assert_eq!(statements_in_an_hour(&worker, &mut shift).await, 0);
        // Writes as a command beside the server does.
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let beside = Store::open_beside(&url, &visit::VISITS, &visit::COUNTS).await.unwrap();
        let mut tx = beside.begin().await.unwrap();
        let id = &worker.settings.current().destinations[0].id;
        crate::settings::set_enabled(&mut tx, id, false).await.unwrap();
        tx.commit().await.unwrap();
        beside.close().await;
        assert_eq!(
            statements_in_an_hour(&worker, &mut shift).await,
            1,
            "it is noticed within a minute"
        );
        assert_eq!(statements_in_an_hour(&worker, &mut shift).await, 0);
        let _ = std::fs::remove_dir_all(directory); // Leftover temporary files do no harm.
    }

    #[tokio::test]
    async fn an_idle_worker_queries_nothing_until_it_is_woken_up() {
        let (worker, directory) = idle_worker().await;
        let mut shift = worker.shift();
        assert_eq!(shift.rest(), Duration::ZERO, "it polls once");
        assert_eq!(shift.turn().await.unwrap(), 0);
        worker.store.close().await;
        for _ in 0..3 {
            assert_eq!(shift.rest(), POLL_FOR_COMMANDS);
            assert_eq!(shift.turn().await.unwrap(), 0, "a query would fail on the closed database");
        }
        shift.wake();
        assert!(shift.turn().await.is_err(), "it polls again");
        let _ = std::fs::remove_dir_all(directory); // Leftover temporary files do no harm.
    }
}
