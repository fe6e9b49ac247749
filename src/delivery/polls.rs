//! When to poll each destination for due deliveries.
//! Takes what polls found; returns whether it is time for another one, and how long to sleep.
//! Guarantees that an idle destination costs no query until something is due or somebody writes. A
//! clock that was set back delays no poll.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::Trace;

/// Maximum time until the next poll: the longest pause that a destination can ask for.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

/// The next poll of a destination.
pub(super) struct Poll {
    pub(super) at: Timestamp,
    /// What the last poll found: nothing is due before then, unless somebody writes.
    pub(super) due: Option<Timestamp>,
    /// The store's trace before that poll.
    pub(super) trace: Option<Trace>,
}

/// The next polls by destination; a destination without one is polled now.
#[derive(Default)]
pub(super) struct Polls(pub(super) HashMap<String, Poll>);

impl Polls {
    pub(super) fn is_time(&self, destination_id: &str, now: Timestamp) -> bool {
        let last = self.0.get(destination_id);
        last.is_none_or(|poll| poll.at <= now || poll.at.since(now) > LONGEST_DELAY)
    }

    /// When the next delivery is due, if the last poll still tells: nothing was written since, and
    /// it is not due yet.
    pub(super) fn known(
        &self,
        destination_id: &str,
        now: Timestamp,
        trace: Option<Trace>,
    ) -> Option<Option<Timestamp>> {
        let last = self.0.get(destination_id).filter(|last| trace.is_some() && last.trace == trace);
        last.map(|last| last.due).filter(|due| due.is_none_or(|due| due > now))
    }

    /// Polls not before this time.
    pub(super) fn put_off(&mut self, destination_id: &str, at: Timestamp) {
        self.0.insert(destination_id.to_owned(), Poll { at, due: None, trace: None });
    }

    /// How long to wait for the next poll.
    pub(super) fn rest(&self, destination_id: &str, now: Timestamp) -> Duration {
        let poll = self.0.get(destination_id);
        poll.map_or(Duration::ZERO, |poll| poll.at.since(now).max(Duration::from_millis(1)))
    }

    /// Polls a destination now.
    pub(super) fn bring_forward(&mut self, destination_id: &str) {
        self.0.remove(destination_id);
    }
}
