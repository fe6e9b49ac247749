//! What a monitoring program asks every few seconds, of all sites together.
//! In: nothing. Out: what waits, what failed, what every destination does not have yet.
//! Promise: each statement reads the end of an index or the rows of a partial one, however large the tables are.

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::store::Store;

/// What waits and what went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vitals {
    /// Stripe's events that are stored and not processed yet.
    pub(crate) events_waiting: i64,
    /// Stripe's events that need a person.
    pub(crate) events_failed: i64,
    /// Events of pages that need a person.
    pub(crate) page_events_failed: i64,
    /// What is owed, held or given up; destinations and states without any are not in it.
    pub(crate) unsettled: Vec<Unsettled>,
}

/// Deliveries to one destination in one state.
#[derive(Clone, Debug)]
pub(crate) struct Unsettled {
    /// `dst_…`.
    pub(crate) destination_id: String,
    /// `pending`, `held` or `given_up`.
    pub(crate) state: String,
    /// How many.
    pub(crate) deliveries: i64,
    /// When the oldest of them was owed first.
    pub(crate) oldest_at: Timestamp,
}

/// What waits and what went wrong, of all sites and modes.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn vitals(store: &Store) -> Result<Vitals> {
    let (events_waiting, events_failed, page_events_failed): (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from stripe_events where state = 'received'),
                (select count(*) from stripe_events where state = 'failed'),
                (select count(*) from page_events where failed_at_ms is not null)",
    )
    .fetch_one(store.pool())
    .await
    .context("could not count events")?;
    let unsettled: Vec<(String, String, i64, i64)> = sqlx::query_as(
        "select destination_id, state, count(*), min(created_at_ms)
           from deliveries
          where state <> 'delivered' and state <> 'skipped'
          group by destination_id, state
          order by destination_id, state",
    )
    .fetch_all(store.pool())
    .await
    .context("could not count what is owed")?;
    let unsettled = unsettled.into_iter().map(|(destination_id, state, deliveries, oldest_ms)| {
        let oldest_at = Timestamp::from_ms(oldest_ms);
        Unsettled { destination_id, state, deliveries, oldest_at }
    });
    Ok(Vitals { events_waiting, events_failed, page_events_failed, unsettled: unsettled.collect() })
}
