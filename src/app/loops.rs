//! The loops: what the process does without being asked.
//! In: bells, and the time. Out: rounds of work, one after the other.
//! Promise: a bell is only a hint, so each loop also looks by itself; an error makes it wait longer and try again; each ends when asked to stop.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::App;
use crate::limit::log;
use crate::server::{Stage, reached};
use crate::state::Bells;

type Round<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// One loop.
struct Loop {
    /// What it does, for "could not …".
    what: &'static str,
    /// What rings when there is work.
    bell: Option<fn(&Bells) -> &Notify>,
    /// How often it looks by itself: bells are hints, and other replicas ring none here.
    every: Duration,
    /// How long work is gathered after a bell, so that a busy time does not cost a look each.
    gathers: Duration,
    /// Whether a stop breaks a round off at once, instead of when its time is over; the next start does the rest.
    breaks_off: bool,
    round: for<'a> fn(&'a App) -> Round<'a>,
}

/// What most of them are: no bell rings for it, and a stop waits for its round.
const BY_ITSELF: Loop = Loop {
    what: "",
    bell: None,
    every: SECOND,
    gathers: Duration::ZERO,
    breaks_off: false,
    round: |_| Box::pin(async { Ok(()) }),
};

/// All but the deliveries' own.
const LOOPS: &[Loop] = &[
    Loop {
        what: "process events",
        bell: Some(|bells| &bells.event_stored),
        round: |app| Box::pin(async { app.process_events().await.map(drop) }),
        ..BY_ITSELF
    },
    Loop {
        what: "join late visits",
        bell: Some(|bells| &bells.visit_recorded),
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
    // Apart from the events and the deliveries, so that no expression of an owner's mapping holds up either.
    Loop {
        what: "make messages",
        bell: Some(|bells| &bells.facts_stored),
        round: |app| Box::pin(async { app.make_messages().await.map(drop) }),
        ..BY_ITSELF
    },
    // Apart from the events, so that a slow answer of Stripe's holds up no ordinary one.
    Loop {
        what: "ask Stripe for what events name",
        round: |app| {
            Box::pin(async {
                app.fetch_thin_events().await?;
                app.look_up_checkouts().await.map(drop)
            })
        },
        ..BY_ITSELF
    },
    // Looks whether the daily comparison is due.
    Loop {
        what: "compare with Stripe's books",
        every: MINUTE,
        breaks_off: true,
        round: |app| Box::pin(async { app.reconcile_daily().await.map(drop) }),
        ..BY_ITSELF
    },
    // Looks whether a new day has begun.
    Loop {
        what: "delete old visits",
        every: MINUTE,
        breaks_off: true,
        round: |app| Box::pin(async { app.prune_daily().await.map(drop) }),
        ..BY_ITSELF
    },
    // Looks whether a quarter hour is over. What is not folded counts as well.
    Loop {
        what: "fold the counters of visits",
        every: MINUTE,
        breaks_off: true,
        round: |app| Box::pin(async { app.fold_counts().await.map(drop) }),
        ..BY_ITSELF
    },
    // Looks whether a day is over, or was changed. Conversions that are not summed count as well.
    Loop {
        what: "sum the conversions of days",
        every: MINUTE,
        breaks_off: true,
        round: |app| Box::pin(async { app.sum_days().await.map(drop) }),
        ..BY_ITSELF
    },
    // Apart from the deliveries, so that a target that hangs holds up none.
    Loop {
        what: "tell of trouble",
        every: Duration::from_secs(15),
        breaks_off: true,
        round: |app| Box::pin(async { app.tell_of_trouble().await.map(drop) }),
        ..BY_ITSELF
    },
    // Apart from the deliveries, because it is an experiment.
    Loop {
        what: "register visits",
        every: Duration::from_secs(5),
        breaks_off: true,
        round: |app| Box::pin(async { app.register_visits().await.map(drop) }),
        ..BY_ITSELF
    },
    // Counts want to be written now and then; other copies of the program, and commands beside it, change settings too.
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

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl App {
    pub(super) fn start_workers(self: &Arc<Self>) -> JoinSet<Result<()>> {
        let mut workers = JoinSet::new();
        for work in LOOPS {
            workers.spawn(self.clone().repeat(work, self.stage.subscribe()));
        }
        workers.spawn(self.clone().deliver_forever(self.stage.subscribe()));
        workers
    }

    /// True once a stop was asked for: a queue that is worked off ends with the present batch.
    pub(super) fn is_stopping(&self) -> bool {
        *self.stage.borrow() != Stage::Serving
    }

    async fn repeat(
        self: Arc<Self>,
        work: &'static Loop,
        mut stage: watch::Receiver<Stage>,
    ) -> Result<()> {
        let (mut pause, silence) = (Backoff::default(), Notify::new());
        let bell = work.bell.map_or(&silence, |bell| bell(&self.state.bells));
        loop {
            // Asked for before the round, so that what rings during it is heard.
            let rung = bell.notified();
            let round = (work.round)(&self);
            let given_up = if work.breaks_off { Stage::Draining } else { Stage::Cutting };
            let done = tokio::select! {
                done = round => done,
                () = reached(&mut stage, given_up) => return Ok(()),
            };
            let wait = pause.after(done, work.what).unwrap_or(work.every);
            tokio::select! {
                () = rung => {}
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
        loop {
            let rung = self.state.bells.delivery_owed.notified();
            let turn = shift.turn().await;
            let rest = pause.after(turn, "deliver").unwrap_or_else(|| shift.rest());
            tokio::select! {
                () = rung => {
                    shift.hear_bell();
                    // Some of what is queued may have no message yet.
                    self.state.bells.facts_stored.notify_one();
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
                // What cannot be written now has its lease to end it.
                pause.after(shift.turn().await, "record the last attempts");
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
                "could not give back deliveries under way; their leases end in a minute"
            );
        }
        Ok(())
    }
}

/// Growing pauses while something does not work, capped at a minute.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    /// Logs a failure and says how long to wait after it; `None` after what went well.
    fn after<T>(&mut self, done: Result<T>, what: &str) -> Option<Duration> {
        let Err(error) = done else {
            self.0 = 0;
            return None;
        };
        self.0 = (self.0 + 1).min(6);
        tracing::error!(error = format!("{error:#}"), "could not {what}; trying again");
        Some(Duration::from_secs(1 << self.0).min(MINUTE))
    }
}
