//! Numbers for monitoring, over all sites and modes. Returns pending and failed events, and
//! unfinished deliveries by destination. Guarantees that each statement reads the end of an index
//! or a partial index, so that it can run every few seconds however large the tables are.

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::store::{Store, sql};

/// Pending and failed work.
#[derive(Clone, Debug, Default)]
pub(crate) struct Vitals {
    /// Stripe events that are stored and not processed yet.
    pub(crate) events_waiting: i64,
    pub(crate) events_failed: i64,
    pub(crate) page_events_failed: i64,
    /// Pending, paused and failed deliveries. Destinations and states without any are left out.
    pub(crate) unsettled: Vec<Unsettled>,
}

/// Deliveries to one destination in one state.
#[derive(Clone, Debug)]
pub(crate) struct Unsettled {
    pub(crate) destination_id: String,
    /// `pending`, `held` or `given_up`.
    pub(crate) state: String,
    pub(crate) deliveries: i64,
    /// When the oldest of them was created.
    pub(crate) oldest_at: Timestamp,
}

/// Reads pending and failed work of all sites and modes.
pub(crate) async fn vitals(store: &Store) -> Result<Vitals> {
    let (events_waiting, events_failed, page_events_failed): (i64, i64, i64) =
        sql("select (select count(*) from stripe_events where state = 'received'),
                (select count(*) from stripe_events where state = 'failed'),
                (select count(*) from page_events where failed_at_ms is not null)")
        .one(store.pool())
        .await
        .context("could not count events")?;
    let unsettled: Vec<(String, String, i64, i64)> =
        sql("select destination_id, state, count(*), min(created_at_ms)
           from deliveries
          where state <> 'delivered' and state <> 'skipped'
          group by destination_id, state
          order by destination_id, state")
        .all(store.pool())
        .await
        .context("could not count unfinished deliveries")?;
    let unsettled = unsettled.into_iter().map(|(destination_id, state, deliveries, oldest_ms)| {
        let oldest_at = Timestamp::from_ms(oldest_ms);
        Unsettled { destination_id, state, deliveries, oldest_at }
    });
    Ok(Vitals { events_waiting, events_failed, page_events_failed, unsettled: unsettled.collect() })
}
