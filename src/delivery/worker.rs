//! The delivery worker: claims deliveries, sends them and records their outcomes.
//! Takes due deliveries; writes attempts, and marks deliveries as delivered, due later, or failed.
//! Guarantees that a slow or dead destination delays no other: each has its own concurrency limit,
//! rate limit and circuit breaker. A claim is committed before the request and is only a lease, so
//! a dead worker needs no cleanup; no transaction is open during a request. An idle worker makes
//! almost no database queries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::breaker::{Breaker, Permit};
use super::locked::Locked;
use super::outcome::Ended;
use super::pace::Pace;
use super::polls::{Poll, Polls};
use super::table::{self, Claim};
use super::under_way::UnderWay;
use crate::clock::{Clock, Timestamp};
use crate::destination::Sender;
use crate::domain::FailureReason;
use crate::failpoint;
use crate::settings::{Destination, Settings, Snapshot};
use crate::store::{AnyConnection, Engine, Store};

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

/// The state of a running worker.
pub(crate) struct Shift {
    worker: Worker,
    under_way: UnderWay,
    ended: Vec<Ended>,
    pace: Pace,
    polls: Polls,
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

    async fn settle_alone(&self, now: Timestamp, ended: &Ended) -> Result<()> {
        let mut tx = self.store.begin().await?;
        let mut locked = Locked::take(&mut tx, [&ended.destination.id].into()).await?;
        let outcome = ended.settle(&mut tx, now, &self.schedule, &mut locked).await?;
        locked.save(&mut tx).await?;
        tx.commit().await?;
        outcome.log(ended);
        Ok(())
    }

    /// Starts to work.
    pub(crate) fn shift(&self) -> Shift {
        Shift {
            worker: self.clone(),
            under_way: UnderWay::default(),
            ended: Vec::new(),
            pace: Pace::default(),
            polls: Polls::default(),
            settles_alone: false,
            is_ending: false,
        }
    }
}

impl Shift {
    /// Records the outcomes of ended attempts, claims due deliveries and starts to send them.
    /// Returns the number of attempts that started.
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
        let ended = self.ended.iter().map(|ended| &ended.destination.id);
        let ids = ended.chain(wanted.iter().map(|destination| &destination.id)).collect();
        let mut locked = Locked::take(&mut tx, ids).await?;
        let mut outcomes = Vec::with_capacity(self.ended.len());
        for ended in &self.ended {
            outcomes.push(ended.settle(&mut tx, now, &worker.schedule, &mut locked).await?);
        }
        let mut claimed = Vec::new();
        for destination in wanted {
            let breaker = locked.breaker(&destination.id);
            let claims = self.claim(&mut tx, now, &destination, breaker).await?;
            claimed.extend(claims.into_iter().map(|claim| (destination.clone(), claim)));
        }
        locked.save(&mut tx).await?;
        if !outcomes.is_empty() {
            failpoint::pass("settling").await;
        }
        tx.commit().await?;
        if !outcomes.is_empty() {
            failpoint::pass("settled").await;
        }
        if !claimed.is_empty() {
            failpoint::pass("claimed").await;
        }
        for (ended, outcome) in std::mem::take(&mut self.ended).iter().zip(outcomes) {
            self.recorded(&ended.destination.id);
            outcome.log(ended);
        }
        locked.log(&snapshot);
        let begun = claimed.len();
        for (destination, claim) in claimed {
            self.pace.spend(&destination.id, 1);
            let (sender, clock) = (worker.sender.clone(), worker.clock.clone());
            self.under_way.start(sender, clock, destination, claim);
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
            if !self.polls.is_time(&destination.id, now) || self.under_way.free(destination) <= 0 {
                continue;
            }
            let trace = self.worker.store.trace();
            let due = match self.polls.known(&destination.id, now, trace) {
                Some(due) => due,
                None => table::next_due(&self.worker.store, now, &destination.id).await?,
            };
            if due.is_some_and(|due| due <= now) {
                wanted.push(destination.clone());
            } else {
                let latest = now.plus(self.poll_interval());
                let at = due.map_or(latest, |due| due.min(latest));
                self.polls.0.insert(destination.id.clone(), Poll { at, due, trace });
            }
        }
        Ok(wanted)
    }

    /// Claims what the destination's breaker, rate limit and concurrency limit allow, and schedules
    /// the next poll.
    async fn claim(
        &mut self,
        tx: &mut AnyConnection,
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
        self.polls.bring_forward(&destination.id);
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
        self.polls.put_off(destination_id, at);
        Vec::new()
    }

    /// Records each outcome in a transaction of its own, so that one that can't be written does not
    /// block the others. After a few tries it is left to its lease.
    async fn settle_each_alone(&mut self) -> Result<()> {
        for mut ended in std::mem::take(&mut self.ended) {
            let now = self.worker.clock.now();
            match self.worker.settle_alone(now, &ended).await {
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

    /// Schedules a poll after an outcome was recorded. An earlier poll is out of date: the delivery
    /// was leased then, and may now be due before that lease would have ended. Without this, the
    /// retry would wait for the next poll.
    fn recorded(&mut self, destination_id: &str) {
        self.polls.bring_forward(destination_id);
    }

    /// Something may have been queued: poll every destination now.
    pub(crate) fn wake(&mut self) {
        self.polls.0.clear();
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
    pub(crate) async fn release(self) -> Result<()> {
        self.under_way.release(&self.worker.store, self.worker.clock.now()).await
    }

    /// True while attempts are under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Waits until an attempt has ended; never resolves if none is running. Its destination may
    /// start another request, so poll it now.
    pub(crate) async fn attempt_ended(&mut self) {
        for ended in self.under_way.ended().await {
            self.polls.bring_forward(&ended.destination.id);
            self.ended.push(ended);
        }
    }

    /// How long to sleep, unless an attempt ends or a wake-up arrives.
    pub(crate) fn rest(&self) -> Duration {
        let now = self.worker.clock.now();
        let snapshot = self.worker.settings.current();
        let polls = snapshot
            .destinations
            .iter()
            .filter(|found| found.enabled && self.under_way.free(found) > 0);
        let rests = polls.map(|found| self.polls.rest(&found.id, now));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::Network;
    use crate::ids;
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
                let poll = || Poll { at: now.plus(POLL_FOR_COMMANDS), due: None, trace };
                shift.polls.0.values_mut().for_each(|put_off| *put_off = poll());
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
