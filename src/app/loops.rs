//! The workers: background work that the process repeats.
//! Takes wake-ups and the time; runs one batch after another.
//! Guarantees that a lost wake-up only delays work, because each worker also polls; that an error
//! leads to a retry with growing pauses; and that each worker ends when it is asked to stop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::App;
use crate::limit::log;
use crate::server::{Stage, reached};
use crate::state::Wakeups;

type Round<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One worker.
struct Loop {
    /// What it does, as in "could not …".
    what: &'static str,
    /// Notified when there is work.
    wakeup: Option<fn(&Wakeups) -> &Notify>,
    /// Its poll interval: a wake-up is only a hint, and other replicas send none here.
    every: Duration,
    /// How long work is collected after a wake-up, so that a busy period does not need a batch for
    /// each.
    gathers: Duration,
    /// If true, shutdown cancels a running batch at once, instead of when its time is over; the
    /// next start does the rest.
    breaks_off: bool,
    /// The time limit of a batch, after which it is canceled and started again, because what it
    /// waits for, most likely an unreachable database, will not come.
    longest: Duration,
    round: for<'a> fn(&'a App) -> Round<'a>,
}

/// The default: no wake-up, and a stop waits for the batch.
const BY_ITSELF: Loop = Loop {
    what: "",
    wakeup: None,
    every: SECOND,
    gathers: Duration::ZERO,
    breaks_off: false,
    longest: LONGEST,
    round: |_| Box::pin(async { Ok(()) }),
};

/// Work that takes long or waits for others, and is done again later if a stop cancels it.
const WALK: Loop = Loop { every: MINUTE, breaks_off: true, longest: LONGEST_WALK, ..BY_ITSELF };

/// All workers except that of the deliveries.
const LOOPS: &[Loop] = &[
    Loop {
        what: PROCESS_EVENTS,
        wakeup: Some(|wakeups| &wakeups.event_stored),
        longest: LONGEST_WALK, // Each of its steps has a time limit.
        round: |app| Box::pin(async { app.process_events().await.map(drop) }),
        ..BY_ITSELF
    },
    // Queries the database only if the clock was set back.
    Loop {
        what: "reschedule work after the clock was set back",
        round: |app| Box::pin(async { app.notice_clock().await.map(drop) }),
        ..BY_ITSELF
    },
    Loop {
        what: "match payments to late visits",
        wakeup: Some(|wakeups| &wakeups.visit_recorded),
        gathers: Duration::from_millis(250),
        round: |app| Box::pin(async { app.rejoin_late_visits().await.map(drop) }),
        ..BY_ITSELF
    },
    Loop {
        what: "keep landings",
        round: |app| Box::pin(async { app.keep_landings().await.map(drop) }),
        ..BY_ITSELF
    },
    Loop {
        what: "forget landings",
        every: HOUR,
        round: |app| Box::pin(async { app.forget_landings().await.map(drop) }),
        ..BY_ITSELF
    },
    // A separate worker, so that slow expressions in a mapping delay neither events nor deliveries.
    Loop {
        what: "make messages",
        wakeup: Some(|wakeups| &wakeups.facts_stored),
        round: |app| Box::pin(async { app.make_messages().await.map(drop) }),
        ..BY_ITSELF
    },
    // A separate worker, so that a slow response from Stripe delays no other events.
    Loop {
        what: "ask Stripe for what events name",
        longest: LONGEST_WALK,
        round: |app| {
            Box::pin(async {
                app.fetch_thin_events().await?;
                app.look_up_checkouts().await.map(drop)
            })
        },
        ..BY_ITSELF
    },
    // Checks whether the daily comparison is due.
    Loop {
        what: "compare with Stripe's records",
        round: |app| Box::pin(async { app.reconcile_daily().await.map(drop) }),
        ..WALK
    },
    // Checks whether a new day has begun.
    Loop {
        what: "delete old visits",
        round: |app| Box::pin(async { app.prune_daily().await.map(drop) }),
        ..WALK
    },
    // Checks whether a quarter hour is over. Visits that are not rolled up count as well.
    Loop {
        what: "roll up the counters of visits",
        round: |app| Box::pin(async { app.fold_counts().await.map(drop) }),
        ..WALK
    },
    // Checks whether a day is over or was changed. Conversions that are not rolled up count as
    // well.
    Loop {
        what: "roll up the conversions of past days",
        round: |app| Box::pin(async { app.sum_days().await.map(drop) }),
        ..WALK
    },
    // Has something to do only after an update with other rules for sources and channels.
    Loop {
        what: "read older visits again",
        round: |app| Box::pin(async { app.read_visits_again().await }),
        ..WALK
    },
    // A separate worker, so that an unresponsive alert recipient delays no delivery.
    Loop {
        what: "send alerts",
        every: Duration::from_secs(15),
        round: |app| Box::pin(async { app.send_alerts().await.map(drop) }),
        ..WALK
    },
    // A separate worker, because it is experimental.
    Loop {
        what: "register visits",
        every: Duration::from_secs(5),
        round: |app| Box::pin(async { app.register_visits().await.map(drop) }),
        ..WALK
    },
    // Writes counts regularly, and reads settings that other copies of the program or commands
    // changed.
    Loop {
        what: "refresh the settings",
        every: Duration::from_secs(5),
        round: |app| {
            Box::pin(async {
                log::report_left_out();
                app.flush_counts().await?;
                app.state.settings.refresh(&app.state.store).await
            })
        },
        ..BY_ITSELF
    },
];

/// The name of the worker that may take long for one batch because of a backlog.
pub(super) const PROCESS_EVENTS: &str = "process events";
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The time limit of short batches.
pub(super) const LONGEST: Duration = Duration::from_secs(120);
/// The time limit of batches that call Stripe or go through days, which may take hours.
const LONGEST_WALK: Duration = Duration::from_secs(6 * 3600);
/// Maximum pause after failures for workers whose work others wait for.
const SHORT_PAUSE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

impl App {
    /// Records that a worker completed a poll.
    pub(super) fn note_poll(&self, worker: &'static str) {
        self.pulse.polled(worker, self.state.clock.now());
    }

    pub(super) fn start_workers(self: &Arc<Self>) -> JoinSet<Result<()>> {
        let mut workers = JoinSet::new();
        for work in LOOPS {
            workers.spawn(self.clone().repeat(work, self.stage.subscribe()));
        }
        workers.spawn(self.clone().deliver_forever(self.stage.subscribe()));
        workers
    }

    /// True once a stop was requested: a worker then ends after its current batch.
    pub(super) fn is_stopping(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    async fn repeat(
        self: Arc<Self>,
        work: &'static Loop,
        mut stage: watch::Receiver<Stage>,
    ) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        let wakeup = work.wakeup.map_or(&silence, |wakeup| wakeup(&self.state.wakeups));
        let is_short = work.longest == LONGEST || work.what == PROCESS_EVENTS;
        let has_pulse = is_short && work.every < MINUTE;
        if has_pulse {
            self.note_poll(work.what);
        }
        loop {
            // Registered before the batch, so that a wake-up during the batch is not lost.
            let woken = wakeup.notified();
            let round = in_time(work.longest, (work.round)(&self));
            let given_up = if work.breaks_off { Stage::Draining } else { Stage::Cutting };
            let done = tokio::select! {
                done = round => done,
                () = reached(&mut stage, given_up) => return Ok(()),
            };
            if has_pulse && done.is_ok() {
                self.note_poll(work.what);
            }
            let longest = if has_pulse { SHORT_PAUSE } else { MINUTE };
            let wait = pause.after(done, work.what).map_or(work.every, |pause| pause.min(longest));
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(wait) => {}
                () = reached(&mut stage, Stage::Draining) => return Ok(()),
            }
            if !work.gathers.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(work.gathers) => {}
                    () = reached(&mut stage, Stage::Draining) => return Ok(()),
                }
            }
        }
    }

    async fn deliver_forever(self: Arc<Self>, mut stage: watch::Receiver<Stage>) -> Result<()> {
        let (mut pause, mut shift) = (Backoff::default(), self.worker.shift());
        self.note_poll(DELIVER);
        loop {
            let woken = self.state.wakeups.delivery_queued.notified();
            let turn = in_time(LONGEST, shift.turn()).await;
            if turn.is_ok() {
                self.note_poll(DELIVER);
            }
            let rest = pause.after(turn, DELIVER).map(|pause| pause.min(SHORT_PAUSE));
            let rest = rest.unwrap_or_else(|| shift.rest());
            tokio::select! {
                () = woken => {
                    shift.wake();
                    // Some queued deliveries may have no message yet.
                    self.state.wakeups.facts_stored.notify_one();
                }
                () = shift.attempt_ended() => {}
                () = tokio::time::sleep(rest) => {}
                () = reached(&mut stage, Stage::Draining) => break,
            }
        }
        shift.begin_no_more();
        let finish = async {
            while shift.is_busy() {
                shift.attempt_ended().await;
                // If this fails, the leases expire.
                pause.after(in_time(LONGEST, shift.turn()).await, "record the last attempts");
            }
        };
        let is_done = tokio::select! {
            () = finish => true,
            () = reached(&mut stage, Stage::Cutting) => false,
        };
        if !is_done && let Err(error) = shift.release().await {
            let error = format!("{error:#}");
            tracing::error!(
                error,
                "could not release running deliveries; their leases end in a minute"
            );
        }
        Ok(())
    }
}

const DELIVER: &str = "deliver";

/// Cancels work that takes too long. Dropping it rolls its transaction back.
pub(super) async fn in_time<T>(
    longest: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let done = tokio::time::timeout(longest, work).await;
    done.unwrap_or_else(|_| bail!("it took longer than {} seconds", longest.as_secs()))
}

/// Growing pauses after failures, up to a minute.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    /// Logs a failure and returns the pause after it; `None` after a success.
    fn after<T>(&mut self, done: Result<T>, what: &str) -> Option<Duration> {
        let Err(error) = done else {
            self.0 = 0;
            return None;
        };
        self.0 = (self.0 + 1).min(6);
        tracing::error!(error = format!("{error:#}"), "could not {what}; retrying");
        Some(Duration::from_secs(1 << self.0).min(MINUTE))
    }
}
