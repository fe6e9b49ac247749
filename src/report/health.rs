//! Signs of life. Takes a scope; returns when the tag and Stripe last sent something, and how many
//! events and deliveries wait.
//! Guarantees that each statement reads the end of an index or a few rows of a partial one, because
//! every page shows them.

use anyhow::{Context as _, Result};

use super::page::AFTER_ALL_IDS;
use super::{QUARTER_MS, Scope};
use crate::clock::Timestamp;
use crate::domain::DeliveryState;
use crate::ids;
use crate::store::{Store, sql};

/// Signs of life of a site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The newest visit that is not a bot's: exact for a new click ID, to the quarter hour for a
    /// returning one.
    pub(crate) last_visit_at: Option<Timestamp>,
    /// If no visit was counted: the host of a visit whose page is not one of the site's.
    pub(crate) unknown_host: Option<String>,
    /// The newest Stripe event of the mode.
    pub(crate) last_event_at: Option<Timestamp>,
    /// Events that are not processed yet, of both modes.
    pub(crate) events_waiting: i64,
    /// Failed events: Stripe's of both modes, and this site's page events.
    pub(crate) events_failed: i64,
    /// Stripe events that their endpoint should not have received, and that wait for a user.
    pub(crate) events_held: i64,
    /// Pending deliveries to this site's destinations, due now or later.
    pub(crate) deliveries_pending: i64,
    /// When the oldest of them was queued.
    pub(crate) oldest_pending_at: Option<Timestamp>,
    /// Failed deliveries.
    pub(crate) deliveries_given_up: i64,
    /// Deliveries that wait because their destination is disabled.
    pub(crate) deliveries_held: i64,
}

/// Reads the signs of life of a site.
///
/// # Errors
/// If the database fails.
pub(crate) async fn health(store: &Store, scope: &Scope) -> Result<Health> {
    let waiting: i64 = sql("select count(*) from stripe_events where state = 'received'")
        .value(store.pool())
        .await
        .context("could not count waiting events")?;
    let failed: i64 = sql("select (select count(*) from stripe_events where state = 'failed')
              + (select count(*) from page_events where site_id = :site_id and failed_at_ms is not null)")
    .set("site_id", &scope.site_id)
    .value(store.pool())
    .await
    .context("could not count failed events")?;
    let held: i64 = sql("select count(*) from stripe_events where state = 'held'")
        .value(store.pool())
        .await
        .context("could not count held events")?;
    let unsettled: Vec<(DeliveryState, i64, i64)> =
        sql("select state, count(*), min(created_at_ms)
           from deliveries
          where state <> 'delivered' and state <> 'skipped'
            and destination_id in (select id from destinations where site_id = :site_id)
          group by destination_id, state")
        .set("site_id", &scope.site_id)
        .all(store.pool())
        .await
        .context("could not count pending deliveries")?;

    let last_visit_at = last_visit_at(store, &scope.site_id).await?;
    let unknown_host = match last_visit_at {
        Some(_) => None,
        None => unknown_host(store, &scope.site_id).await?,
    };
    let mut health = Health {
        last_visit_at,
        unknown_host,
        last_event_at: last_event_at(store, scope).await?,
        events_waiting: waiting,
        events_failed: failed,
        events_held: held,
        ..Health::default()
    };
    for (state, count, oldest_ms) in unsettled {
        match state {
            DeliveryState::Pending => {
                let oldest = Timestamp::from_ms(oldest_ms);
                let known = health.oldest_pending_at;
                health.deliveries_pending += count;
                health.oldest_pending_at = Some(known.map_or(oldest, |known| known.min(oldest)));
            }
            DeliveryState::GivenUp => health.deliveries_given_up += count,
            DeliveryState::Held => health.deliveries_held += count,
            DeliveryState::Delivered | DeliveryState::Skipped => {}
        }
    }
    Ok(health)
}

/// When the tag, and Stripe in the mode, last sent something.
///
/// # Errors
/// If the database fails.
pub(crate) async fn last_seen(
    store: &Store,
    scope: &Scope,
) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    Ok((last_visit_at(store, &scope.site_id).await?, last_event_at(store, scope).await?))
}

async fn last_event_at(store: &Store, scope: &Scope) -> Result<Option<Timestamp>> {
    let last: Option<(i64,)> = sql("select received_at_ms
           from stripe_events
          where id < :after_all_ids and coalesce(source_id, '') in (select id from sources where site_id = :site_id) and livemode = :livemode
          order by id desc
          limit 1")
    .set("site_id", &scope.site_id)
    .set("livemode", scope.livemode)
    .set("after_all_ids", AFTER_ALL_IDS) // Without this bound, SQLite reads every event and sorts.
    .optional(store.pool())
    .await
    .context("could not read the last event")?;
    Ok(last.map(|(ms,)| Timestamp::from_ms(ms)))
}

/// When the site's first visit was counted, to the quarter hour; there is no earlier time to
/// compare with.
///
/// # Errors
/// If the database fails.
pub(crate) async fn began_at(store: &Store, scope: &Scope) -> Result<Option<Timestamp>> {
    let first: Option<i64> = sql("select min(quarter)
           from (select min(quarter) as quarter
                   from visit_sums
                  where site = (select number from sites where id = :site_id) and dimension = 0 and width = 1
                  union all
                 select (select quarter
                           from visit_counts
                          where site_id = :site_id and device <> 'bot'
                          order by quarter
                          limit 1)) as firsts")
    .set("site_id", &scope.site_id)
    .value(store.pool())
    .await
    .context("could not read the first counted visit")?;
    Ok(first.map(|quarter| Timestamp::from_ms(quarter.saturating_mul(QUARTER_MS))))
}

/// The host of the newest visit if no visit was ever counted: its page's host is not one of the
/// site's.
async fn unknown_host(store: &Store, site_id: &str) -> Result<Option<String>> {
    let newest: Option<(Option<String>,)> = sql("select landing_host
           from visits
          where click_id < :after_all_ids and site_id = :site_id and device <> 'bot'
          order by click_id desc
          limit 1")
    .set("site_id", site_id)
    .set("after_all_ids", AFTER_ALL_IDS)
    .optional(store.pool())
    .await
    .context("could not read a visit that was not counted")?;
    Ok(newest.and_then(|(host,)| host))
}

/// When the last visit was counted: the counters give the quarter hour, and the newest click ID the
/// exact time in it.
async fn last_visit_at(store: &Store, site_id: &str) -> Result<Option<Timestamp>> {
    // What is rolled up is older than what is not, except for a visit that arrived late.
    let newest: Option<i64> = sql("select max(quarter)
           from (select max(quarter) as quarter
                   from visit_sums
                  where site = (select number from sites where id = :site_id) and dimension = 0 and width = 1
                  union all
                 select (select quarter
                           from visit_counts
                          where site_id = :site_id and device <> 'bot'
                          order by quarter desc
                          limit 1)) as lasts")
    .set("site_id", site_id)
    .value(store.pool())
    .await
    .context("could not read the last counted visit")?;
    let Some(quarter) = newest else { return Ok(None) };
    let begin = Timestamp::from_ms(quarter.saturating_mul(QUARTER_MS));
    let exact: Option<(i64,)> = sql("select at_ms
           from visits
          where click_id >= :click_id and site_id = :site_id and device <> 'bot'
          order by click_id desc
          limit 1")
    .set("click_id", ids::first_click_id(begin))
    .set("site_id", site_id)
    .optional(store.pool())
    .await
    .context("could not read the last visit")?;
    Ok(Some(exact.map_or(begin, |(ms,)| Timestamp::from_ms(ms).max(begin))))
}
