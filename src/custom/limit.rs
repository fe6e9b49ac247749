//! Limits the requests of each source.
//! Takes a source and the time; returns whether the request is allowed.
//! Guarantees that a sender that sends too much costs only a lookup in memory and does not slow
//! others down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;

/// Maximum number of requests per source and second.
const PER_SECOND: u32 = 50;

/// Counts per source in the current second. There are few sources, so the map is small.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestLimit(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    second: i64,
    by_source: HashMap<String, u32>,
}

impl RequestLimit {
    /// Counts one request; returns false if it is over the limit of this second.
    pub(super) fn allows(&self, source_id: &str, now: Timestamp) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.second != now.as_seconds() {
            counts.second = now.as_seconds();
            counts.by_source.clear();
        }
        let count = counts.by_source.entry(source_id.to_owned()).or_default();
        *count = count.saturating_add(1);
        *count <= PER_SECOND
    }
}
