//! The attempts that are running.
//! Takes claimed deliveries and sends them; returns attempts that have ended.
//! Guarantees that a slow destination delays no other, and that a stop can release every lease.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Result;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::outcome::Ended;
use super::table::{self, Claim, breakers};
use crate::clock::{Clock, Timestamp};
use crate::destination::{Parcel, Sender};
use crate::failpoint;
use crate::settings::Destination;
use crate::store::Store;

/// What is needed to release the lease of a running attempt.
struct Leased {
    destination_id: String,
    n: i64,
    lease: Timestamp,
}

/// Attempts under way.
#[derive(Default)]
pub(super) struct UnderWay {
    attempts: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Claimed deliveries that have not ended, by delivery ID.
    claimed: HashMap<String, Leased>,
    /// The number of running attempts, by destination.
    busy: HashMap<String, i64>,
}

impl UnderWay {
    /// How many more requests the destination accepts now.
    pub(super) fn free(&self, destination: &Destination) -> i64 {
        destination.at_a_time() - self.busy.get(&destination.id).copied().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Starts an attempt.
    pub(super) fn start(
        &mut self,
        sender: Sender,
        clock: Clock,
        destination: Arc<Destination>,
        claim: Claim,
    ) {
        *self.busy.entry(destination.id.clone()).or_default() += 1;
        let destination_id = destination.id.clone();
        let leased = Leased { destination_id, n: claim.n, lease: claim.lease };
        self.claimed.insert(claim.id.clone(), leased);
        self.attempts.push(Box::pin(attempt(sender, clock, destination, claim)));
    }

    /// Waits until an attempt has ended, and takes all others that have. Never resolves if none is
    /// running.
    pub(super) async fn ended(&mut self) -> Vec<Ended> {
        let Some(first) = self.attempts.next().await else { return std::future::pending().await };
        let mut all = vec![first];
        while let Some(Some(ended)) = self.attempts.next().now_or_never() {
            all.push(ended);
        }
        for ended in &all {
            if let Some(busy) = self.busy.get_mut(&ended.destination.id) {
                *busy -= 1;
            }
            self.claimed.remove(&ended.claim.id);
        }
        all
    }

    /// Cuts off running attempts and makes their deliveries due again.
    pub(super) async fn release(mut self, store: &Store, now: Timestamp) -> Result<()> {
        self.attempts.clear();
        let mut tx = store.begin().await?;
        // Breakers first and in order, as in every turn.
        let destinations: BTreeSet<_> =
            self.claimed.values().map(|leased| &leased.destination_id).collect();
        for destination_id in destinations {
            breakers::probe_now(&mut tx, now, destination_id).await?;
        }
        for (id, leased) in &self.claimed {
            table::release_lease(&mut tx, id, leased.n, leased.lease).await?;
        }
        tx.commit().await?;
        if !self.claimed.is_empty() {
            let deliveries = self.claimed.len();
            tracing::warn!(deliveries, "cut off running deliveries; they will be sent again");
        }
        Ok(())
    }
}

async fn attempt(
    sender: Sender,
    clock: Clock,
    destination: Arc<Destination>,
    claim: Claim,
) -> Ended {
    let stopwatch = Clock::stopwatch();
    let parcel = Parcel {
        id: &claim.id,
        at: clock.now(),
        content_type: &claim.content_type,
        body: &claim.request,
    };
    let answer = sender.send(&destination, parcel).await;
    failpoint::pass("answered").await;
    let took_ms = i64::try_from(stopwatch.elapsed().as_millis()).unwrap_or(i64::MAX);
    Ended { destination, claim, answer, took_ms, settle_tries: 0 }
}
