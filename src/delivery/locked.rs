//! The circuit breakers that one transaction has locked.
//! Takes the IDs of destinations; returns their breakers, and saves those that changed.
//! Guarantees that breakers are always locked in the same order, so that replicas never wait for
//! each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::breaker::Breaker;
use super::table::breakers;
use crate::settings::Snapshot;
use crate::store::AnyConnection;

/// Breakers by destination, before and after.
pub(super) struct Locked(BTreeMap<String, (Breaker, Breaker)>);

impl Locked {
    pub(super) async fn take(tx: &mut AnyConnection, ids: BTreeSet<&String>) -> Result<Self> {
        let mut locked = BTreeMap::new();
        for id in ids {
            let breaker = breakers::take_turn(tx, id).await?;
            locked.insert(id.clone(), (breaker.clone(), breaker));
        }
        Ok(Self(locked))
    }

    /// The breaker of a destination that was locked.
    pub(super) fn breaker(&mut self, destination_id: &str) -> &mut Breaker {
        &mut self.0.get_mut(destination_id).expect("its breaker is locked").1
    }

    pub(super) async fn save(&self, tx: &mut AnyConnection) -> Result<()> {
        for (id, (before, after)) in &self.0 {
            if before != after {
                breakers::save(tx, id, after).await?;
            }
        }
        Ok(())
    }

    /// Logs once when a breaker opens, and once when it closes.
    pub(super) fn log(&self, snapshot: &Snapshot) {
        for (id, (before, after)) in &self.0 {
            let key = snapshot.destination(id).map_or(id.as_str(), |found| found.key.as_str());
            match (before.held_since, after.held_since) {
                (None, Some(_)) => {
                    let why = after.last_error.as_deref().unwrap_or_default();
                    tracing::warn!(
                        destination = key,
                        "destination is down, sending only probes: {why}"
                    );
                }
                (Some(_), None) => tracing::info!(destination = key, "destination is up again"),
                _ => {}
            }
        }
    }
}
