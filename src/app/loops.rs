//! The loops: what the process does without being asked.
//! In: bells, and the time. Out: rounds of work, one after the other.
//! Promise: a bell is only a hint, so each loop also looks by itself; an error makes it wait longer and try again; each ends when asked to stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::App;
use crate::store::Engine;

/// How often loops look by themselves: bells are hints, and other replicas ring none here.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often visits are looked for that AnyTrack is to be told of.
const REGISTER_EVERY: Duration = Duration::from_secs(5);
/// How often we look whether somebody must be told of something.
const LOOK_FOR_TROUBLE: Duration = Duration::from_secs(15);
/// How often landings that nobody named are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// How long late visits are gathered before they are joined; a busy page must not cost a look each.
const GATHER_VISITS: Duration = Duration::from_millis(250);

impl App {
    pub(super) fn start_workers(
        self: &Arc<Self>,
        stopped: &watch::Receiver<bool>,
    ) -> JoinSet<Result<()>> {
        let mut workers = JoinSet::new();
        workers.spawn(self.clone().process_forever(stopped.clone()));
        workers.spawn(self.clone().rejoin_forever(stopped.clone()));
        workers.spawn(self.clone().keep_forever(stopped.clone()));
        workers.spawn(self.clone().fetch_forever(stopped.clone()));
        workers.spawn(self.clone().reconcile_forever(stopped.clone()));
        workers.spawn(self.clone().prune_forever(stopped.clone()));
        workers.spawn(self.clone().fold_forever(stopped.clone()));
        workers.spawn(self.clone().deliver_forever(stopped.clone()));
        workers.spawn(self.clone().alert_forever(stopped.clone()));
        workers.spawn(self.clone().register_forever(stopped.clone()));
        workers.spawn(self.clone().refresh_forever(stopped.clone()));
        workers
    }

    async fn process_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let mut pause = Backoff::default();
        loop {
            let rung = self.state.bells.event_stored.notified();
            let wait = pause.after(self.process_events().await, "process events");
            if wait_for(rung, wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    async fn rejoin_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let rung = self.state.bells.visit_recorded.notified();
            let wait = pause.after(self.rejoin_late_visits().await, "join late visits");
            let stop = wait_for(rung, wait, &mut stopped).await;
            if stop || wait_for(silence.notified(), GATHER_VISITS, &mut stopped).await {
                return Ok(());
            }
        }
    }

    /// Writes landings every second, at the end all of them, and once an hour forgets the old ones.
    async fn keep_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        let mut forgotten_at = None;
        loop {
            let now = self.state.clock.now();
            let kept = async {
                self.keep_landings().await?;
                if forgotten_at.is_none_or(|at| now.since(at) >= FORGET_EVERY) {
                    self.forget_landings().await?;
                    forgotten_at = Some(now);
                }
                Ok(())
            };
            let wait = pause.after(kept.await, "keep landings");
            if wait_for(silence.notified(), wait, &mut stopped).await {
                break;
            }
        }
        let (state, settings) = (&self.state, self.state.settings.current());
        let all = self.landings.write(&state.store, &state.click_ids, &settings, state.clock.now());
        pause.after(all.await, "keep the last landings");
        Ok(())
    }

    /// A loop of its own, so that a slow answer of Stripe's holds up no ordinary event.
    async fn fetch_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let fetched = tokio::select! {
                fetched = async {
                    self.fetch_thin_events().await?;
                    self.look_up_checkouts().await
                } => fetched,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()), // Its lease runs out.
            };
            let wait = pause.after(fetched, "ask Stripe for what events name");
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    /// Looks every minute whether the daily comparison is due.
    async fn reconcile_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let done = tokio::select! {
                done = self.reconcile_daily() => done,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()), // Its lease runs out.
            };
            let wait = pause.after(done, "compare with Stripe's books") * 60;
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    /// Looks every minute whether a new day has begun.
    async fn prune_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let done = tokio::select! {
                done = self.prune_daily() => done,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()), // The next day does the rest.
            };
            let wait = pause.after(done, "delete old visits") * 60;
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    /// Looks every minute whether a quarter hour is over.
    async fn fold_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let done = tokio::select! {
                done = async { self.fold_counts().await?; self.sum_days().await } => done,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()), // What is not folded counts as well.
            };
            let wait = pause.after(done, "sum visits and conversions") * 60;
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    async fn deliver_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, mut shift) = (Backoff::default(), self.worker.shift());
        loop {
            let rung = self.state.bells.delivery_owed.notified();
            let turn = shift.turn().await;
            let is_done = turn.is_ok();
            let trouble = pause.after(turn, "deliver");
            let rest = if is_done { shift.rest() } else { trouble };
            tokio::select! {
                () = rung => shift.hear_bell(),
                () = shift.attempt_ended() => {}
                () = tokio::time::sleep(rest) => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        shift.begin_no_more();
        while shift.is_busy() {
            shift.attempt_ended().await;
            // What cannot be written now has its lease to end it.
            pause.after(shift.turn().await, "settle the last deliveries");
        }
        Ok(())
    }

    /// A loop of its own, so that an experiment holds up nothing.
    async fn register_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let registered = tokio::select! {
                registered = self.register_visits() => registered,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()), // Its leases run out.
            };
            let is_well = registered.is_ok();
            let wait = pause.after(registered, "register visits");
            let wait = if is_well { REGISTER_EVERY } else { wait };
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    /// A loop of its own, so that a target that hangs holds up no delivery.
    async fn alert_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let told = tokio::select! {
                told = self.tell_of_trouble() => told,
                _ = stopped.wait_for(|stopped| *stopped) => return Ok(()), // Its leases run out.
            };
            let is_well = told.is_ok();
            let wait = pause.after(told, "tell of trouble");
            let wait = if is_well { LOOK_FOR_TROUBLE } else { wait };
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }

    /// Other replicas change settings too, and counts want to be written now and then.
    async fn refresh_forever(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        loop {
            let refreshed = async {
                self.flush_counts().await?;
                match self.state.store.engine() {
                    Engine::Postgres => self.state.settings.reload(&self.state.store).await,
                    Engine::Sqlite => Ok(()), // This process is alone with its file.
                }
            };
            let wait = pause.after(refreshed.await, "refresh the settings") * 5;
            if wait_for(silence.notified(), wait, &mut stopped).await {
                return Ok(());
            }
        }
    }
}

/// Growing pauses while something does not work, capped at a minute.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    fn after<T>(&mut self, done: Result<T>, what: &str) -> Duration {
        match done {
            Ok(_) => {
                self.0 = 0;
                LOOK_EVERY
            }
            Err(error) => {
                self.0 = (self.0 + 1).min(6);
                tracing::error!(error = format!("{error:#}"), "could not {what}; trying again");
                Duration::from_secs(1 << self.0).min(Duration::from_secs(60))
            }
        }
    }
}

/// Waits for a bell or the time; true when it is time to stop.
async fn wait_for(
    bell: impl Future<Output = ()>,
    at_most: Duration,
    stopped: &mut watch::Receiver<bool>,
) -> bool {
    tokio::select! {
        () = bell => false,
        () = tokio::time::sleep(at_most) => false,
        _ = stopped.wait_for(|stopped| *stopped) => true,
    }
}
