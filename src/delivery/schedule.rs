//! When to retry a delivery.
//! Takes the retry schedule, the number of tries, the pause that the destination asked for, and a
//! random share; returns the pause, or that no retry is left.
//! Pure: the random share is an argument.

use std::time::Duration;

use crate::clock::Timestamp;

/// Longest pause a destination can ask for with `Retry-After`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The pause after the `tries`-th try of a schedule (1 is the first), or `None` if it was the last.
/// `jitter_per_mille` from 0 to 1000 spreads it over ±20 %.
pub(super) fn pause_after(
    schedule: &[Duration],
    tries: usize,
    retry_after: Option<Duration>,
    jitter_per_mille: u16,
) -> Option<Duration> {
    let planned = *schedule.get(tries.checked_sub(1)?)?;
    let per_mille = 800 + u128::from(jitter_per_mille.min(1000)) * 400 / 1000;
    let jittered = u64::try_from(planned.as_millis() * per_mille / 1000).unwrap_or(u64::MAX);
    Some(Duration::from_millis(jittered).max(asked_pause(retry_after.unwrap_or_default())))
}

/// The requested pause, limited to the longest that is allowed.
pub(super) fn asked_pause(asked: Duration) -> Duration {
    asked.min(MAX_RETRY_AFTER)
}

/// Reads `Retry-After` as seconds or an HTTP date; ignores invalid values and past dates.
pub(super) fn read_retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(header).ok()?;
    let pause = Timestamp::from_ms(at.timestamp().as_millisecond()).since(now);
    (pause > Duration::ZERO).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn n_pauses_make_n_plus_one_tries() {
        let schedule = [SECOND, SECOND * 10];
        assert_eq!(pause_after(&schedule, 1, None, 500), Some(SECOND));
        assert_eq!(pause_after(&schedule, 2, None, 500), Some(SECOND * 10));
        assert_eq!(pause_after(&schedule, 3, None, 500), None);
        assert_eq!(pause_after(&[], 1, None, 500), None);
    }

    #[test]
    fn a_destination_may_ask_for_more_but_not_for_days() {
        let pause = |asked| pause_after(&[SECOND], 1, Some(asked), 500);
        assert_eq!(pause(SECOND * 30), Some(SECOND * 30));
        assert_eq!(pause(SECOND * 86_400), Some(MAX_RETRY_AFTER));
        assert_eq!(pause(Duration::ZERO), Some(SECOND));
    }

    #[test]
    fn retry_after_reads_seconds_and_dates() {
        let now = Timestamp::from_seconds(1_790_000_000); // Mon, 21 Sep 2026 14:13:20 GMT
        assert_eq!(read_retry_after("120", now), Some(SECOND * 120));
        assert_eq!(read_retry_after("Mon, 21 Sep 2026 14:14:20 GMT", now), Some(SECOND * 60));
        for junk in ["", "soon", "-5", "Mon, 21 Sep 2020 14:14:20 GMT"] {
            assert_eq!(read_retry_after(junk, now), None, "{junk}");
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_fifth(ms in 1_u64..1_000_000, jitter in 0_u16..=1000) {
            let planned = Duration::from_millis(ms);
            let pause = pause_after(&[planned], 1, None, jitter).unwrap();
            prop_assert!(pause <= planned * 12 / 10 && pause + Duration::from_millis(1) >= planned * 8 / 10);
        }
    }
}
