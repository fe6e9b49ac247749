//! What an attempt that has ended means.
//! Takes the destination's answer; records it, the delivery's next state and what the circuit
//! breaker learns, in the caller's transaction.
//! Guarantees that what is stored of an answer contains none of our secrets.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::breaker::{Noted, Sign};
use super::locked::Locked;
use super::schedule::{asked_pause, pause_after, read_retry_after};
use super::table::{self, Claim, Settlement};
use crate::clock::Timestamp;
use crate::destination::{self, Answer};
use crate::domain::{AttemptOutcome, DeliveryReason, DeliveryState, FailureReason};
use crate::ids;
use crate::settings::Destination;
use crate::store::AnyConnection;

/// An attempt that has ended and is not recorded yet.
pub(super) struct Ended {
    pub(super) destination: Arc<Destination>,
    pub(super) claim: Claim,
    pub(super) answer: Answer,
    pub(super) took_ms: i64,
    pub(super) settle_tries: u32,
}

impl Ended {
    /// Records the outcome in this transaction.
    pub(super) async fn settle(
        &self,
        tx: &mut AnyConnection,
        now: Timestamp,
        schedule: &[Duration],
        locked: &mut Locked,
    ) -> Result<Outcome> {
        let (settlement, noted) = self.judge(now, schedule);
        table::settle(tx, now, &settlement).await?;
        let Settlement { state, status, error, .. } = settlement;
        locked.breaker(&self.destination.id).note(now, noted, error.as_deref());
        Ok(Outcome { state, status, error })
    }

    /// Returns what the attempt means for its delivery and for the destination's circuit breaker.
    fn judge(&self, now: Timestamp, schedule: &[Duration]) -> (Settlement<'_>, Noted) {
        let destination = &*self.destination;
        let (outcome, error) = destination::judge(destination, &self.answer);
        let (status, answer, asked) = match &self.answer {
            Answer::Http { status, body, retry_after, .. } => {
                let asked = retry_after.as_deref().and_then(|header| read_retry_after(header, now));
                (Some(*status), Some(destination::hide_secrets(destination, body)), asked)
            }
            Answer::Nothing(_) | Answer::Blocked(_) => (None, None, None),
        };
        let is_probe = self.claim.is_probe;
        let tries = usize::try_from(self.claim.tries).unwrap_or(usize::MAX);
        let pause = pause_after(schedule, tries, asked, ids::random_per_mille());
        let (state, reason, due) = next(outcome, is_probe, now, pause);
        let settlement = Settlement {
            claim: &self.claim,
            outcome,
            took_ms: self.took_ms,
            status: status.map(i64::from),
            answer,
            error,
            state,
            reason,
            due,
        };
        let pauses_all = matches!(status, Some(429 | 503));
        let noted = Noted {
            sign: sign(outcome, status),
            is_probe,
            at_a_time: destination.at_a_time(),
            pause: asked.filter(|_| pauses_all).map(asked_pause),
        };
        (settlement, noted)
    }
}

/// What the log says of an attempt.
pub(super) struct Outcome {
    state: DeliveryState,
    status: Option<i64>,
    error: Option<String>,
}

impl Outcome {
    pub(super) fn log(self, ended: &Ended) {
        tracing::info!(
            delivery = ended.claim.id,
            destination = ended.destination.key,
            attempt = ended.claim.n,
            status = self.status,
            took_ms = ended.took_ms,
            state = %self.state,
            "tried a delivery: {}",
            self.error.as_deref().unwrap_or("accepted")
        );
    }
}

fn sign(outcome: AttemptOutcome, status: Option<u16>) -> Sign {
    match (outcome, status) {
        (AttemptOutcome::Accepted, _) => Sign::Accepted,
        (AttemptOutcome::Retry, _) => Sign::Failing,
        (AttemptOutcome::Refused, Some(401 | 403 | 404 | 405 | 410)) => Sign::WrongAddress,
        (AttemptOutcome::Refused, _) => Sign::RefusedOne,
        (AttemptOutcome::Blocked, _) => Sign::NotSent,
    }
}

/// The delivery's next state, the reason if it failed, and when it is due.
fn next(
    outcome: AttemptOutcome,
    is_probe: bool,
    now: Timestamp,
    pause: Option<Duration>,
) -> (DeliveryState, Option<DeliveryReason>, Timestamp) {
    let failed = |reason| (DeliveryState::GivenUp, Some(DeliveryReason::Failed(reason)), now);
    match (outcome, pause) {
        (AttemptOutcome::Accepted, _) => (DeliveryState::Delivered, None, now),
        (AttemptOutcome::Blocked, _) => failed(FailureReason::BlockedAddress),
        // A destination that is down may refuse a probe that it would accept tomorrow.
        (AttemptOutcome::Refused, _) if !is_probe => failed(FailureReason::Refused),
        (_, Some(pause)) => (DeliveryState::Pending, None, now.plus(pause)),
        (_, None) => failed(FailureReason::Exhausted),
    }
}
