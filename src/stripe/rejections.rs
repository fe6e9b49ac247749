//! Counts rejected webhooks.
//! Takes a source and a reason from the endpoint; writes a count per source, day and reason at
//! intervals.
//! Guarantees that a flood of unsigned webhooks only increases a number in memory. Counts since the
//! last write are lost if the process is killed: they are a hint for users, not a record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::table::{self, Rejected};
use crate::clock::Timestamp;
use crate::store::Store;

/// Counts that are not written yet. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rejections(Arc<Mutex<Counts>>);

type Counts = BTreeMap<Rejected, (i64, Timestamp)>;

impl Rejections {
    /// Counts one rejection.
    pub(super) fn count(&self, now: Timestamp, source_id: &str, reason: &'static str) {
        let key = (source_id.to_owned(), now.as_ms().div_euclid(86_400_000), reason);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, last) = counts.entry(key).or_insert((0, now));
        *count += 1;
        *last = now;
    }

    /// Writes the counts since the last write; keeps them if that fails.
    pub(crate) async fn flush(&self, store: &Store) -> Result<()> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if counts.is_empty() {
            return Ok(());
        }
        let written = write(store, &counts).await;
        if written.is_err() {
            let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (key, (count, last)) in counts {
                now.entry(key).or_insert((0, last)).0 += count;
            }
        }
        written
    }
}

async fn write(store: &Store, counts: &Counts) -> Result<()> {
    let mut tx = store.begin().await?;
    for (key, (count, last)) in counts {
        table::add_rejections(&mut tx, key, *count, *last).await?;
    }
    tx.commit().await
}
