//! `/readyz`: whether this copy of the program can do its work.
//! Takes the workers' progress and the state of the database; responds 200, or 503 with the reason.
//! Guarantees that a ledger that has stopped is reported, and that the response becomes good again
//! without a restart.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use crate::clock::Timestamp;
use crate::error::AppError;
use crate::settings;
use crate::state::AppState;
use crate::stripe;

/// Maximum time that an event may be due, or a worker may not poll. Polls happen every minute or
/// more often.
const HALT: Duration = Duration::from_secs(150);

/// When the workers last completed work.
#[derive(Debug, Default)]
pub(super) struct Pulse(Mutex<Beats>);

#[derive(Debug, Default)]
struct Beats {
    /// When each worker last completed a poll.
    polls: BTreeMap<&'static str, Timestamp>,
    /// When an event was last ended here.
    ended_at: Option<Timestamp>,
}

impl Pulse {
    /// Records that a worker completed a poll, or started.
    pub(super) fn polled(&self, worker: &'static str, now: Timestamp) {
        self.lock().polls.insert(worker, now);
    }

    /// Records that an event was ended.
    pub(super) fn ended_event(&self, now: Timestamp) {
        self.lock().ended_at = Some(now);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Beats> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a worker that has not completed a poll for too long.
    fn halted(&self, now: Timestamp) -> Option<&'static str> {
        let beats = self.lock();
        let mut late = beats.polls.iter().filter(|(_, at)| now.since(**at) > HALT);
        late.next().map(|(worker, _)| *worker)
    }

    /// True if no event was ended here for too long.
    fn ends_nothing(&self, now: Timestamp) -> bool {
        self.lock().ended_at.is_none_or(|at| now.since(at) > HALT)
    }
}

/// `GET /readyz`: the database accepts writes, and the ledger makes progress.
pub(super) async fn answer(state: &AppState, pulse: &Pulse) -> Result<&'static str, AppError> {
    let now = state.clock.now();
    if let Some(unready) = state.store.unready(now).await {
        let error = AppError::new(StatusCode::SERVICE_UNAVAILABLE, unready.sentence);
        return Err(match unready.cause {
            Some(cause) => error.because(cause),
            None => error,
        });
    }
    if !settings::is_key_of(&state.store, &state.click_ids).await.map_err(unreadable)? {
        return Err(not_ready("the database was replaced since the start: restart the server"));
    }
    if let Some(worker) = pulse.halted(now) {
        return Err(not_ready(format!(
            "the worker “{worker}” has not completed a poll for {} seconds; see the log",
            HALT.as_secs()
        )));
    }
    let waiting = stripe::worker::waiting_since(&state.store, now).await.map_err(unreadable)?;
    if waiting.is_some_and(|since| now.since(since) > HALT) && pulse.ends_nothing(now) {
        return Err(not_ready(format!(
            "events wait, and none was processed for {} seconds; the log may say why",
            HALT.as_secs()
        )));
    }
    Ok("ok\n")
}

fn unreadable(cause: anyhow::Error) -> AppError {
    AppError::unavailable("the database can't be read", cause)
}

fn not_ready(line: impl Into<std::borrow::Cow<'static, str>>) -> AppError {
    AppError::new(StatusCode::SERVICE_UNAVAILABLE, line)
}
