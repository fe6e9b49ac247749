//! The circuit breaker: decides whether a destination may be sent to, and how much at a time.
//! Takes the outcomes of attempts; returns how many deliveries may start now: none, one probe, or
//! up to a limit. Pure.
//! Guarantees that a destination that is down gets one probe at a time, at growing intervals, and
//! that a wrong address fails three messages, not all of a day.

use std::time::Duration;

use crate::clock::Timestamp;

/// Failed attempts in a row, each worth a retry, that open the breaker.
const FAILURES_TO_HOLD: i64 = 10;
/// Responses in a row that indicate a wrong address or credential. Each of them failed a message
/// for good, so fewer are enough.
const WRONG_ANSWERS_TO_HOLD: i64 = 3;
/// Time until the first probe; doubled after each probe that fails.
const FIRST_PROBE: Duration = Duration::from_secs(30);
pub(super) const LONGEST_PROBE: Duration = Duration::from_secs(600);

/// The state of a destination's circuit breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Breaker {
    pub(crate) failures: i64,
    pub(crate) wrong_answers: i64,
    /// Open since then: only probes are sent.
    pub(crate) held_since: Option<Timestamp>,
    pub(crate) probes: i64,
    pub(crate) probe_at: Option<Timestamp>,
    /// Maximum number of concurrent requests while the destination recovers.
    pub(crate) slots: Option<i64>,
    /// The destination asked for a pause until then.
    pub(crate) paused_until: Option<Timestamp>,
    pub(crate) last_error: Option<String>,
}

/// What may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Nothing before this time.
    Nothing(Timestamp),
    /// One message, to check whether the destination is back.
    Probe,
    /// Up to this many concurrent requests.
    UpTo(i64),
}

/// What the outcome of an attempt says about the destination's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It accepted the message.
    Accepted,
    /// It did not respond, or its response asks for a retry.
    Failing,
    /// Its response indicates that the address or the credential is wrong.
    WrongAddress,
    /// It responded, and refused only this message.
    RefusedOne,
    /// Nothing was sent.
    NotSent,
}

/// What an attempt that has ended says to the breaker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noted {
    pub(crate) sign: Sign,
    pub(crate) is_probe: bool,
    /// The concurrent requests that the destination accepts.
    pub(crate) at_a_time: i64,
    /// The pause that the destination asked for.
    pub(crate) pause: Option<Duration>,
}

impl Breaker {
    /// Returns what may be sent now to a destination that accepts `at_a_time` concurrent requests.
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

    /// Records that a probe is sent. No second one is sent before this one's lease ends.
    pub(crate) fn send_probe(&mut self, now: Timestamp, lease: Duration) {
        self.probe_at = Some(now.plus(lease));
    }

    /// Records the outcome of an attempt.
    pub(crate) fn note(&mut self, now: Timestamp, noted: Noted, error: Option<&str>) {
        if let Some(pause) = noted.pause {
            self.paused_until = self.paused_until.max(Some(now.plus(pause)));
        }
        match noted.sign {
            Sign::Accepted => {
                let slots =
                    if self.held_since.is_some() { Some(1) } else { self.slots.map(|n| n * 2) };
                let slots = slots.filter(|slots| *slots < noted.at_a_time);
                *self = Self { slots, paused_until: self.paused_until, ..Self::default() };
                return;
            }
            Sign::Failing => (self.failures, self.wrong_answers) = (self.failures + 1, 0),
            Sign::WrongAddress => (self.failures, self.wrong_answers) = (0, self.wrong_answers + 1),
            Sign::RefusedOne => (self.failures, self.wrong_answers) = (0, 0),
            Sign::NotSent => return,
        }
        self.last_error = error.map(str::to_owned);
        if self.held_since.is_some() {
            if noted.is_probe {
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
        let noted = Noted { sign, is_probe, at_a_time: 8, pause: None };
        breaker.note(now, noted, Some("it answered 500"));
    }

    #[test]
    fn ten_failures_in_a_row_open_it_and_probe_intervals_grow() {
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
    fn a_wrong_address_fails_three_messages() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            assert_eq!(breaker.permit(at(0), 8), Permit::UpTo(8));
            noted(&mut breaker, at(0), Sign::WrongAddress, false);
        }
        assert_eq!(breaker.permit(at(0), 8), Permit::Nothing(at(30)));
    }

    #[test]
    fn other_outcomes_reset_the_counts() {
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
    fn an_accepted_probe_closes_it_step_by_step() {
        let mut breaker = Breaker { held_since: Some(at(0)), ..Breaker::default() };
        for slots in [1, 2, 4, 8, 8] {
            noted(&mut breaker, at(1), Sign::Accepted, true);
            assert_eq!(breaker.permit(at(1), 8), Permit::UpTo(slots));
        }
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn attempts_that_began_before_it_opened_do_not_count_as_probes() {
        let mut breaker =
            Breaker { held_since: Some(at(0)), probe_at: Some(at(30)), ..Breaker::default() };
        noted(&mut breaker, at(1), Sign::Failing, false);
        assert_eq!(breaker.permit(at(1), 8), Permit::Nothing(at(30)));
    }

    #[test]
    fn a_requested_pause_is_kept_when_another_request_succeeds() {
        let mut breaker = Breaker::default();
        let pause = Some(Duration::from_secs(90));
        let asking = Noted { sign: Sign::Failing, is_probe: false, at_a_time: 8, pause };
        breaker.note(at(0), asking, None);
        noted(&mut breaker, at(1), Sign::Accepted, false);
        assert_eq!(breaker.permit(at(1), 8), Permit::Nothing(at(90)));
        assert_eq!(breaker.permit(at(90), 8), Permit::UpTo(8));
    }
}
