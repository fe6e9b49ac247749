//! How many requests a custom source may send.
//! In: a source and the time. Out: yes, or how long to wait.
//! Promise: a sender that runs wild costs a lookup in memory, not a transaction; the others are not held up by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Timestamp;

/// Requests of one source within a second.
const PER_SECOND: u32 = 50;

/// Counts per source within the present second. Sources are few and the owner's own, so the map is small.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestLimit(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    second: i64,
    by_source: HashMap<String, u32>,
}

impl RequestLimit {
    /// Counts one request; false when it is one too many, and the next second is soon enough.
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
