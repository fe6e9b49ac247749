//! The circuit breaker: whether a destination may be sent to, and how much at a time.
//! In: how attempts ended. Out: nothing yet, one probe, or so many. Pure.
//! Promise: a dead destination is asked by one probe now and then, and a wrong address costs three messages, not a day of them.

use std::time::Duration;

use crate::clock::Timestamp;

/// Attempts in a row that call for a retry, until the destination counts as down.
const FAILURES_TO_HOLD: i64 = 10;
/// Answers in a row that mean a wrong address or credential. Each of them gave a message up, so fewer are enough.
const WRONG_ANSWERS_TO_HOLD: i64 = 3;
/// Until the first probe; doubled after each one that failed.
const FIRST_PROBE: Duration = Duration::from_secs(30);
pub(super) const LONGEST_PROBE: Duration = Duration::from_secs(600);

/// What is remembered of a destination's recent attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    pub(crate) failures: i64,
    pub(crate) wrong_answers: i64,
    /// Since when nothing but probes is sent.
    pub(crate) held_since: Option<Timestamp>,
    pub(crate) probes: i64,
    pub(crate) probe_at: Option<Timestamp>,
    /// At a time, while it recovers.
    pub(crate) slots: Option<i64>,
    /// It asked for a pause.
    pub(crate) paused_until: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Nothing before then.
    Nothing(Timestamp),
    /// One message, to see whether it is back.
    Probe,
    /// So many at a time.
    UpTo(i64),
}

/// How an attempt ended, as far as the destination's health goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It took the message.
    Accepted,
    /// It did not answer, or asked to come again.
    Failing,
    /// It answered as if the address or the credential were wrong.
    WrongAddress,
    /// It answered, and refused this very message.
    RefusedOne,
    /// We did not send.
    NotSent,
}

impl Breaker {
    /// What may be sent now to a destination that takes `at_a_time`.
    pub(crate) fn permit(&self, now: Timestamp, at_a_time: i64) -> Permit {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Permit::Nothing(until);
        }
        match (self.held_since, self.probe_at) {
            (Some(_), Some(at)) if at > now => Permit::Nothing(at),
            (Some(_), _) => Permit::Probe,
            (None, _) => Permit::UpTo(self.slots.unwrap_or(at_a_time).min(at_a_time)),
        }
    }

    /// A probe leaves; no second one goes before it can have come back.
    pub(crate) fn send_probe(&mut self, now: Timestamp, lease: Duration) {
        self.probe_at = Some(now.plus(lease));
    }

    /// Takes note of an attempt. `pause` is what the destination asked for.
    pub(crate) fn note(
        &mut self,
        now: Timestamp,
        sign: Sign,
        is_probe: bool,
        at_a_time: i64,
        pause: Option<Duration>,
        error: Option<&str>,
    ) {
        if let Some(pause) = pause {
            self.paused_until = self.paused_until.max(Some(now.plus(pause)));
        }
        match sign {
            Sign::Accepted => {
                self.slots = match (self.held_since, self.slots) {
                    (Some(_), _) => Some(1).filter(|slots| *slots < at_a_time),
                    (None, Some(slots)) => Some(slots * 2).filter(|slots| *slots < at_a_time),
                    (None, None) => None,
                };
                *self =
                    Self { slots: self.slots, paused_until: self.paused_until, ..Self::default() };
                return;
            }
            Sign::Failing => (self.failures, self.wrong_answers) = (self.failures + 1, 0),
            Sign::WrongAddress => (self.failures, self.wrong_answers) = (0, self.wrong_answers + 1),
            Sign::RefusedOne => (self.failures, self.wrong_answers) = (0, 0),
            Sign::NotSent => return,
        }
        self.last_error = error.map(str::to_owned);
        if self.held_since.is_some() {
            if is_probe {
                self.probes += 1;
                self.probe_at = Some(now.plus(probe_pause(self.probes)));
            }
        } else if self.failures >= FAILURES_TO_HOLD || self.wrong_answers >= WRONG_ANSWERS_TO_HOLD {
            self.held_since = Some(now);
            self.probes = 0;
            self.probe_at = Some(now.plus(FIRST_PROBE));
        }
    }
}

fn probe_pause(failed: i64) -> Duration {
    let doublings = u32::try_from(failed.clamp(0, 10)).unwrap_or(10);
    (FIRST_PROBE * 2_u32.pow(doublings)).min(LONGEST_PROBE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn noted(breaker: &mut Breaker, now: Timestamp, sign: Sign, is_probe: bool) {
        breaker.note(now, sign, is_probe, 8, None, Some("it answered 500"));
    }

    #[test]
    fn ten_failures_in_a_row_hold_it_and_probes_come_ever_later() {
        let mut breaker = Breaker::default();
        for _ in 0..9 {
            noted(&mut breaker, at(0), Sign::Failing, false);
        }
        assert_eq!(breaker.permit(at(0), 8), Permit::UpTo(8));
        noted(&mut breaker, at(0), Sign::Failing, false);
        let mut now = 0;
        for pause in [30, 60, 120, 240, 480, 600, 600] {
            assert_eq!(breaker.permit(at(now), 8), Permit::Nothing(at(now + pause)));
            now += pause;
            assert_eq!(breaker.permit(at(now), 8), Permit::Probe);
            breaker.send_probe(at(now), Duration::from_secs(60));
            assert_eq!(breaker.permit(at(now), 8), Permit::Nothing(at(now + 60)), "one at a time");
            noted(&mut breaker, at(now), Sign::Failing, true);
        }
    }

    #[test]
    fn a_wrong_address_costs_three_messages() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            assert_eq!(breaker.permit(at(0), 8), Permit::UpTo(8));
            noted(&mut breaker, at(0), Sign::WrongAddress, false);
        }
        assert_eq!(breaker.permit(at(0), 8), Permit::Nothing(at(30)));
    }

    #[test]
    fn other_outcomes_break_the_row() {
        for sign in [Sign::Accepted, Sign::RefusedOne] {
            let mut breaker = Breaker::default();
            for round in 0..40 {
                let sign = if round % 9 == 8 { sign } else { Sign::Failing };
                noted(&mut breaker, at(0), sign, false);
            }
            assert_eq!(breaker.permit(at(0), 8), Permit::UpTo(8), "{sign:?}");
        }
    }

    #[test]
    fn an_accepted_probe_reopens_it_step_by_step() {
        let mut breaker = Breaker { held_since: Some(at(0)), ..Breaker::default() };
        for slots in [1, 2, 4, 8, 8] {
            noted(&mut breaker, at(1), Sign::Accepted, true);
            assert_eq!(breaker.permit(at(1), 8), Permit::UpTo(slots));
        }
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn latecomers_do_not_count_as_probes() {
        let mut breaker =
            Breaker { held_since: Some(at(0)), probe_at: Some(at(30)), ..Breaker::default() };
        noted(&mut breaker, at(1), Sign::Failing, false);
        assert_eq!(breaker.permit(at(1), 8), Permit::Nothing(at(30)));
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_even_when_another_answer_is_good() {
        let mut breaker = Breaker::default();
        breaker.note(at(0), Sign::Failing, false, 8, Some(Duration::from_secs(90)), None);
        noted(&mut breaker, at(1), Sign::Accepted, false);
        assert_eq!(breaker.permit(at(1), 8), Permit::Nothing(at(90)));
        assert_eq!(breaker.permit(at(90), 8), Permit::UpTo(8));
    }
}
