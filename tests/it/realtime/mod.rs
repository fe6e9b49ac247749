//! The real program in real time: built binary, real clocks, sockets and workers. Every other test drives the workers by hand, so only this
//! suite sees a wake-up that is missing. Runs on both databases; `tests/run realtime` runs nothing else.
//! Bounds are generous on purpose: a loaded machine is slow by a second, a missing wake-up by five (PostgreSQL) or sixty (SQLite).

mod copies;
mod limits;
mod pauses;
mod raw;
mod stop;
mod wakeups;

use std::time::{Duration, Instant};

use clickstamp::clock::Clock;

use crate::harness::{Database, FakeDestination, Server};

/// Retry pauses of these tests.
const SCHEDULE: (&str, &str) = ("CLICKSTAMP_RETRY_SCHEDULE", "1s,1s,1s,2s");
/// The latest that something may begin after it is due. Below the five seconds after which a copy on PostgreSQL polls without a wake-up.
const LATEST: Duration = Duration::from_secs(4);
/// After this a test gives up waiting.
const PATIENCE: Duration = Duration::from_secs(75);

/// A running server, its database and its AnyTrack.
struct Running {
    server: Server,
    database: Database,
    anytrack: FakeDestination,
    /// How long the first delivery of a sale takes on this machine under its present load.
    baseline: Duration,
}

impl Running {
    /// Starts it and measures the machine with one sale.
    async fn start(settings: &[(&str, &str)]) -> Self {
        let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
        let settings: Vec<_> =
            [SCHEDULE, ("CLICKSTAMP_API_TOKEN", TOKEN)].iter().chain(settings).copied().collect();
        let server = Server::start_with(&database, &anytrack, &settings).await;
        server.sale("cs_live_first").await;
        let begun = Clock::stopwatch();
        wait_for_arrivals(&anytrack, 1).await;
        let baseline = begun.elapsed();
        assert!(baseline < LATEST, "the first delivery took {baseline:?}");
        Self { server, database, anytrack, baseline }
    }

    /// What a wait on this machine may take longer than planned.
    fn slack(&self) -> Duration {
        (Duration::from_secs(1) + self.baseline * 3).min(LATEST)
    }
}

/// The API token of these tests.
const TOKEN: &str = "a-token-for-tests";

/// Waits until so many requests have arrived; answers when each did.
async fn wait_for_arrivals(destination: &FakeDestination, count: usize) -> Vec<Instant> {
    let begun = Clock::stopwatch();
    loop {
        let arrivals = destination.arrivals();
        if arrivals.len() >= count {
            return arrivals;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{} of {count} requests arrived within {PATIENCE:?}",
            arrivals.len()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
