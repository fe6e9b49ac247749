//! The rate limit of a destination.
//! Takes its rate and the time; returns the tokens in a bucket that fills at that rate and holds
//! one second of it.
//! Pure: it does not read the clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Timestamp;

/// The token buckets of all destinations; each process has its own.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<String, (Timestamp, u32)>);

impl Pace {
    /// Returns the tokens left for a destination, or the time of the next one. A rate of 0 means no
    /// limit.
    pub(super) fn available(
        &mut self,
        destination_id: &str,
        rate: u32,
        now: Timestamp,
    ) -> Result<u32, Timestamp> {
        if rate == 0 {
            return Ok(u32::MAX);
        }
        let (at, tokens) = self.0.entry(destination_id.to_owned()).or_insert((now, rate));
        if now < *at {
            *at = now; // The clock was set back. Waiting for the old time would stop deliveries.
        }
        let earned = now.since(*at).as_millis() * u128::from(rate) / 1000;
        if earned > 0 {
            *tokens = u32::try_from(earned + u128::from(*tokens)).unwrap_or(rate).min(rate);
            *at = now;
        }
        if *tokens == 0 {
            Err(at.plus(Duration::from_millis(1000_u64.div_ceil(u64::from(rate)))))
        } else {
            Ok(*tokens)
        }
    }

    pub(super) fn spend(&mut self, destination_id: &str, count: usize) {
        if let Some((_, tokens)) = self.0.get_mut(destination_id) {
            *tokens = tokens.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    #[test]
    fn the_bucket_holds_one_second_of_the_rate() {
        let mut pace = Pace::default();
        assert_eq!(pace.available("a", 10, at(0)), Ok(10));
        pace.spend("a", 10);
        assert_eq!(pace.available("a", 10, at(50)), Err(at(100)));
        assert_eq!(pace.available("a", 10, at(100)), Ok(1));
        assert_eq!(pace.available("b", 10, at(100)), Ok(10));
        assert_eq!(pace.available("a", 10, at(60_000)), Ok(10));
        assert_eq!(pace.available("a", 0, at(0)), Ok(u32::MAX));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_empty_the_bucket() {
        let mut pace = Pace::default();
        assert_eq!(pace.available("a", 10, at(86_400_000)), Ok(10));
        pace.spend("a", 10);
        assert_eq!(pace.available("a", 10, at(1_000)), Err(at(1_100)));
        assert_eq!(pace.available("a", 10, at(2_000)), Ok(10));
    }
}
