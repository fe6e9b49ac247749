//! Background work: one function for each kind, called by workers, commands and tests.
//! Takes the app; returns how much was done.
//! Guarantees that each call ends and can be repeated; if one is interrupted, the next one
//! continues.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::App;
use super::loops::{LONGEST, PROCESS_EVENTS, in_time};
use crate::alert::Alerts;
use crate::clock::Timestamp;
use crate::conversion::{self, Ledger, Prune, Pruned};
use crate::custom;
use crate::delivery::{self, worker::Worker};
use crate::registration::Registrations;
use crate::settings;
use crate::stripe;
use crate::stripe::replay::{Replayed, Wanted as Replay};
use crate::visit;

impl App {
    /// Processes stored Stripe and page events until none is due. Returns the number of events that
    /// ended.
    ///
    /// # Errors
    /// Fails if the database does not respond; nothing is lost, and the next call continues.
    pub async fn process_events(&self) -> Result<usize> {
        let (of_stripe, of_pages) =
            (self.process_stripe_events().await, self.process_page_events().await);
        Ok(of_stripe? + of_pages?)
    }

    async fn process_stripe_events(&self) -> Result<usize> {
        let batch = || async {
            let snapshot = self.state.settings.current();
            let round = stripe::worker::round(&self.state.store, self.ledger(&snapshot));
            let ended = self.waking_deliveries(in_time(LONGEST, round).await)?;
            if ended > 0 {
                self.pulse.ended_event(self.state.clock.now());
                self.note_poll(PROCESS_EVENTS);
            }
            Ok(ended)
        };
        self.until_done(batch).await
    }

    async fn process_page_events(&self) -> Result<usize> {
        let state = &self.state;
        let since = self.searched_since();
        let batch = || async {
            let times = (state.clock.now(), since);
            let round = custom::page::round(&state.store, &state.settings, &state.click_ids, times);
            self.waking_deliveries(in_time(LONGEST, round).await)
        };
        self.until_done(batch).await
    }

    /// The age up to which page events are searched. Thousands may wait for a visit that never comes,
    /// so those of the last hour are searched every time, and all of them once a minute.
    fn searched_since(&self) -> Timestamp {
        let now = self.state.clock.now();
        let searched = self.searched_ms.load(Ordering::Relaxed);
        if now.as_ms().saturating_sub(searched).unsigned_abs() < 60_000 {
            return now.minus(Duration::from_secs(3600));
        }
        self.searched_ms.store(now.as_ms(), Ordering::Relaxed);
        Timestamp::from_ms(i64::MIN)
    }

    /// Repeats a batch until it finds nothing to do, or a stop begins. Returns the sum.
    pub(super) async fn until_done<N, F>(&self, batch: impl Fn() -> F) -> Result<N>
    where
        N: Copy + Default + PartialEq + AddAssign,
        F: Future<Output = Result<N>>,
    {
        let mut all = N::default();
        loop {
            let done = batch().await?;
            all += done;
            if done == N::default() || self.is_stopping() {
                return Ok(all);
            }
        }
    }

    /// Rebuilds the ledger from the raw events and compares it with the stored one; corrects that
    /// if asked to.
    ///
    /// # Errors
    /// Fails if the database does not respond, or re-matching does not end; nothing was changed
    /// then.
    pub async fn replay(&self, wanted: &Replay) -> Result<Replayed> {
        let snapshot = self.state.settings.current();
        let (store, ledger) = (&self.state.store, self.ledger(&snapshot));
        let replayed = stripe::replay::run(store, ledger, wanted, custom::replay).await?;
        if replayed.applied {
            self.process_events().await?;
            self.state.wakeups.delivery_queued.notify_one();
        }
        Ok(replayed)
    }

    /// Re-matches payments whose awaited visit has arrived, and counts provisional visits that
    /// payments name. Returns the number of payments.
    pub async fn rejoin_late_visits(&self) -> Result<usize> {
        conversion::promote_named(&self.state.store).await?;
        let snapshot = self.state.settings.current();
        let rejoined = conversion::rejoin(&self.state.store, self.ledger(&snapshot)).await;
        self.waking_deliveries(rejoined)
    }

    /// Wakes the delivery worker after a batch, unless it changed nothing. Also after an error:
    /// what was committed before it may have queued deliveries.
    fn waking_deliveries(&self, done: Result<usize>) -> Result<usize> {
        if !matches!(done, Ok(0)) {
            self.state.wakeups.delivery_queued.notify_one();
        }
        done
    }

    /// Writes provisional visits whose page did not report them in time. Returns their number.
    ///
    /// # Errors
    /// Fails if the database does not respond; the visits taken so far are lost then.
    pub async fn keep_landings(&self) -> Result<usize> {
        let (state, settings) = (&self.state, self.state.settings.current());
        let now = state.clock.now();
        let kept = self.landings.write_due(&state.store, &state.click_ids, &settings, now).await?;
        if kept > 0 {
            state.wakeups.visit_recorded.notify_one();
        }
        Ok(kept)
    }

    /// Writes all provisional visits, even if their page may still report them. Called before the
    /// process ends.
    pub(super) async fn keep_last_landings(&self) -> Result<()> {
        let (state, settings) = (&self.state, self.state.settings.current());
        let now = state.clock.now();
        self.landings.write(&state.store, &state.click_ids, &settings, now).await.map(drop)
    }

    /// Deletes provisional visits that no report and no payment named within seven days. Returns
    /// their number.
    pub async fn forget_landings(&self) -> Result<u64> {
        conversion::forget_unnamed(&self.state.store, self.state.clock.now()).await
    }

    /// Deletes visits that led to no conversion once they are older than the configured retention,
    /// or only returns which would be deleted; by site key. Does nothing without a configured
    /// retention.
    ///
    /// # Errors
    /// Fails if the database does not respond; what was deleted so far stays deleted.
    pub async fn prune(&self, wanted: Prune) -> Result<BTreeMap<String, Pruned>> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let Some(days) = state.config.retention_days else { return Ok(BTreeMap::new()) };
        let until = state.clock.now().minus(Duration::from_secs(u64::from(days) * 86_400));
        let pruned = conversion::prune(&state.store, until, wanted).await?;
        let key = |id: String| snapshot.site(&id).map_or(id, |site| site.key.clone());
        Ok(pruned.into_iter().map(|(id, pruned)| (key(id), pruned)).collect())
    }

    /// Deletes page events that do not count once they are 30 days old, or only returns how many
    /// would be deleted; by site key.
    ///
    /// # Errors
    /// Fails if the database does not respond; nothing was deleted then.
    pub async fn prune_events(&self, wanted: Prune) -> Result<BTreeMap<String, i64>> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let (store, now) = (&state.store, state.clock.now());
        let old = visit::old_apart(store, now).await?;
        if wanted == Prune::Delete && !old.is_empty() {
            visit::forget_apart(store, now).await?;
        }
        let key = |id: String| snapshot.site(&id).map_or(id, |site| site.key.clone());
        Ok(old.into_iter().map(|(id, events)| (key(id), events)).collect())
    }

    /// Deletes old visits and page events once a day, by one copy of the program. Returns true if
    /// this copy did it.
    ///
    /// # Errors
    /// As [`App::prune`]; the next day does the rest.
    pub async fn prune_daily(&self) -> Result<bool> {
        let state = &self.state;
        if !settings::claim_day(&state.store, "pruned_day", state.clock.now()).await? {
            return Ok(false);
        }
        for (site, events) in self.prune_events(Prune::Delete).await? {
            tracing::info!(site, events, "deleted old page events that did not count");
        }
        for (site, pruned) in self.prune(Prune::Delete).await? {
            tracing::info!(
                site,
                visits = pruned.visits,
                "deleted old visits that led to no conversion"
            );
        }
        Ok(true)
    }

    /// Reads visits from before the current rules for sources and channels again, until all are
    /// read. Does nothing once it is done.
    ///
    /// # Errors
    /// Fails if the database does not respond; the next call continues.
    pub async fn read_visits_again(&self) -> Result<()> {
        while self.read_some_visits_again().await? && !self.is_stopping() {}
        Ok(())
    }

    /// The same for the next few visits. Returns false if all are read.
    ///
    /// # Errors
    /// As [`App::read_visits_again`].
    pub async fn read_some_visits_again(&self) -> Result<bool> {
        conversion::read_visits_again(&self.state.store).await
    }

    /// Rolls up the counters of visits for reports. Returns the number of counters.
    ///
    /// # Errors
    /// Fails if the database does not respond; what was rolled up so far is kept.
    pub async fn fold_counts(&self) -> Result<usize> {
        let (state, mut folded) = (&self.state, 0);
        for site in &self.state.settings.current().sites {
            folded += visit::fold(&state.store, (&site.id, site.number), state.clock.now()).await?;
        }
        Ok(folded)
    }

    /// Rolls up the conversions of past days for reports. Returns the number of stretches.
    ///
    /// # Errors
    /// Fails if the database does not respond; what was rolled up so far is kept.
    pub async fn sum_days(&self) -> Result<usize> {
        let (state, mut summed) = (&self.state, 0);
        for site in &self.state.settings.current().sites {
            summed += conversion::sum_days(&state.store, site, state.clock.now()).await?;
        }
        Ok(summed)
    }

    /// Builds the messages of destinations that have a mapping. Returns their number.
    pub async fn make_messages(&self) -> Result<usize> {
        let (state, mut all) = (&self.state, 0);
        loop {
            let made = delivery::make_messages(&state.store, &state.settings, &state.clock).await?;
            if made == 0 {
                return Ok(all);
            }
            state.wakeups.delivery_queued.notify_one();
            all += made;
        }
    }

    /// Sends deliveries until none is due now. Returns the number of attempts. For tests; the
    /// server's worker follows the rate limit.
    pub async fn deliver_due(&self) -> Result<usize> {
        self.make_messages().await?;
        let mut shift = Worker { rate: 0, ..self.worker.clone() }.shift();
        let mut all = 0;
        loop {
            all += shift.turn().await?;
            if shift.is_busy() {
                shift.attempt_ended().await;
            } else if !shift.rest().is_zero() {
                return Ok(all);
            }
        }
    }

    /// Registers visits with AnyTrack where a destination asks for it (experimental). Returns the
    /// number of tries.
    pub async fn register_visits(&self) -> Result<usize> {
        let state = &self.state;
        let registrations = Registrations {
            store: state.store.clone(),
            settings: state.settings.clone(),
            clock: state.clock.clone(),
            keys: state.click_ids.clone(),
            sender: self.worker.sender.clone(),
        };
        registrations.round().await
    }

    /// Checks for incidents and sends alerts. Returns the number of messages sent.
    pub async fn send_alerts(&self) -> Result<usize> {
        let state = &self.state;
        let alerts = Alerts {
            store: state.store.clone(),
            settings: state.settings.clone(),
            clock: state.clock.clone(),
            sender: self.worker.sender.clone(),
            base: state.config.configured_pages_url(),
        };
        alerts.round().await
    }

    /// Reschedules work after the clock was set back, and once after a start, because a clock that
    /// was ahead scheduled it too late. Returns the number of deliveries and events.
    ///
    /// # Errors
    /// As [`App::process_events`]; the next call tries again.
    pub async fn notice_clock(&self) -> Result<u64> {
        let (state, now) = (&self.state, self.state.clock.now());
        let latest = self.latest_ms.load(Ordering::Relaxed);
        let mut brought = 0;
        // Nothing waits noticeably longer because of a smaller correction.
        if latest.saturating_sub(now.as_ms()) > 1000 {
            brought += delivery::bring_back(&state.store, now).await?;
            brought += stripe::bring_back(&state.store, now).await?;
            brought += visit::bring_events_back(&state.store, now).await?;
        }
        self.latest_ms.store(now.as_ms(), Ordering::Relaxed);
        if brought > 0 {
            tracing::info!(
                brought,
                "the clock was ahead; work that it had scheduled too late is due now"
            );
            state.wakeups.event_stored.notify_one();
            state.wakeups.delivery_queued.notify_one();
        }
        Ok(brought)
    }

    /// Writes the counts of rejected webhooks.
    pub async fn flush_counts(&self) -> Result<()> {
        self.rejections.flush(&self.state.store).await
    }

    fn ledger<'a>(&'a self, snapshot: &'a Arc<settings::Snapshot>) -> Ledger<'a> {
        Ledger {
            keys: &self.state.click_ids,
            settings: snapshot,
            later: Some(&self.state.settings),
            now: self.state.clock.now(),
        }
    }
}
