//! Time: the only place that reads the machine's clock. Returns [`Timestamp`]s, of the machine or
//! of a clock that a test moves. Every other file gets its time from a [`Clock`], so a test
//! controls the time of the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use jiff::ZonedDateTime;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// An instant in milliseconds since 1970, UTC. Time zones matter only in reports.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since 1970, UTC.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// From seconds since 1970, UTC, the unit of Stripe's API. Saturates instead of overflowing.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since 1970, UTC.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, UTC, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant, later by `duration`.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(ms(duration)))
    }

    /// This instant, earlier by `duration`.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(ms(duration)))
    }

    /// The time from `earlier` to this instant; zero if this instant is not later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// RFC 3339 in UTC with whole seconds, the format of the JSON API: `2026-09-21T14:13:20Z`.
    pub fn to_rfc3339(self) -> String {
        let seconds = jiff::Timestamp::from_second(self.as_seconds()).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        seconds.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// This instant as date and time in a time zone.
    pub(crate) fn in_zone(self, zone: &TimeZone) -> ZonedDateTime {
        let edge = if self.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let at = jiff::Timestamp::from_millisecond(self.0).unwrap_or(edge);
        at.to_zoned_datetime(zone.clone())
    }

    /// The first instant of a day in a time zone; `None` at the end of the calendar. It is not
    /// midnight if a clock change skips midnight.
    pub(crate) fn start_of(day: Date, zone: &TimeZone) -> Option<Self> {
        let start = day.to_zoned_datetime(zone.clone()).ok()?;
        Some(Self(start.timestamp().as_millisecond()))
    }

    /// Reads RFC 3339 (`2026-09-21T14:13:20Z`, any offset) or a bare date, which means its first
    /// instant in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(at) = text.parse::<jiff::Timestamp>() {
            return Some(Self(at.as_millisecond()));
        }
        let date = text.parse::<jiff::civil::Date>().ok()?;
        let at = date.in_tz("UTC").ok()?;
        Some(Self(at.timestamp().as_millisecond()))
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A time of something that happened, this far in the future or more, was written while the clock was ahead.
pub(crate) const AHEAD: Duration = Duration::from_secs(5 * 60);

/// Where the time comes from: the machine, or a manual clock for tests. Clones of a manual clock
/// share its time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows `start` until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(AtomicI64::new(start.as_ms()))))
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => {
                let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH);
                Timestamp(since.map_or(0, ms))
            }
            Source::Manual(time) => Timestamp(time.load(Ordering::SeqCst)),
        }
    }

    /// Moves a manual clock forward. Does nothing to the machine's clock.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(time) = &self.0 {
            time.fetch_add(ms(by), Ordering::SeqCst);
        }
    }

    /// Moves a manual clock back, as happens to a machine whose clock is corrected.
    pub fn set_back(&self, by: Duration) {
        if let Source::Manual(time) = &self.0 {
            time.fetch_sub(ms(by), Ordering::SeqCst);
        }
    }

    /// Waits for `duration`. A manual clock does not wait but moves forward by it.
    pub async fn pause(&self, duration: Duration) {
        match &self.0 {
            Source::System => tokio::time::sleep(duration).await,
            Source::Manual(_) => self.advance(duration),
        }
    }

    /// A monotonic reading for measuring how long something takes.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn stopwatch() -> std::time::Instant {
        std::time::Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_rfc_3339_and_back() {
        let at = Timestamp::from_seconds(1_790_000_000);
        assert_eq!(at.to_rfc3339(), "2026-09-21T14:13:20Z");
        assert_eq!(Timestamp::parse("2026-09-21T14:13:20Z"), Some(at));
        assert_eq!(Timestamp::parse("2026-09-21T16:13:20+02:00"), Some(at));
        assert_eq!(
            Timestamp::parse("2026-09-21").map(Timestamp::to_rfc3339).as_deref(),
            Some("2026-09-21T00:00:00Z")
        );
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn clones_of_a_manual_clock_share_its_time() {
        let clock = Clock::manual(Timestamp::from_ms(5));
        let other = clock.clone();
        clock.advance(Duration::from_secs(1));
        assert_eq!(other.now(), Timestamp::from_ms(1005));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        assert_eq!(
            Timestamp::from_seconds(i64::MAX).plus(Duration::from_secs(1)).as_ms(),
            i64::MAX
        );
        assert_eq!(Timestamp::from_ms(1).since(Timestamp::from_ms(9)), Duration::ZERO);
    }
}
