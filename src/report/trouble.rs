//! Queries for alerts: cheap checks for incidents, and the details of an incident that was found.
//! Takes a time; returns backlogs, rejected and failed deliveries, failed events, hours without
//! Stripe events, and unmatched money. Guarantees that each check reads the end of an index or a
//! bounded number of rows. Details are read only for incidents that are reported.

use anyhow::{Context as _, Result};
use sqlx::Row as _;

use super::{QUARTER_MS, add, money};
use crate::clock::Timestamp;
use crate::ids;
use crate::money::{Currency, Money, Totals};
use crate::store::Store;

/// Number of newest deliveries, of all destinations together, whose attempts are read.
const RECENT_DELIVERIES: i64 = 2_000;
/// Number of a destination's pending deliveries whose first attempt is read.
const RETRIED_AT_MOST: i64 = 200;

/// When the longest wait of a destination's pending deliveries began: when the oldest one became
/// due, or when the oldest one that is being retried was first sent.
///
/// # Errors
/// If the database fails.
pub(crate) async fn waits_since(
    store: &Store,
    destination_id: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let (at,): (Option<i64>,) = sqlx::query_as(
        "select min(at_ms)
           from (select due_at_ms as at_ms
                   from (select due_at_ms from deliveries
                          where destination_id = $1 and state = 'pending' and due_at_ms <= $2
                          order by due_at_ms limit 1) as due
                 union all
                 select min(a.started_at_ms)
                   from (select id, schedule_from from deliveries
                          where destination_id = $1 and state = 'pending'
                          order by due_at_ms limit $3) as d
                   join attempts a on a.delivery_id = d.id and a.n = d.schedule_from + 1) as both_kinds",
    )
    .bind(destination_id)
    .bind(now.as_ms())
    .bind(RETRIED_AT_MOST)
    .fetch_one(store.pool())
    .await
    .context("could not read how long the oldest delivery waits")?;
    Ok(at.map(Timestamp::from_ms))
}

/// When the first of a destination's unfinished deliveries expires and fails. Considers only those
/// that expire until `by` and were created before `written_by`.
///
/// # Errors
/// If the database fails.
pub(crate) async fn first_to_expire(
    store: &Store,
    destination_id: &str,
    by: Timestamp,
    written_by: Timestamp,
) -> Result<Option<Timestamp>> {
    let first: Option<(i64,)> = sqlx::query_as(FIRST_TO_EXPIRE)
        .bind(destination_id)
        .bind(by.as_ms())
        .bind(written_by.as_ms())
        .fetch_optional(store.pool())
        .await
        .context("could not read which deliveries expire soon")?;
    Ok(first.map(|(at,)| Timestamp::from_ms(at)))
}

const FIRST_TO_EXPIRE: &str = "select expires_at_ms from deliveries
      where destination_id = $1 and expires_at_ms <= $2 and created_at_ms <= $3 and settled_at_ms is null
      order by expires_at_ms
      limit 1";

/// Failed deliveries of a destination with the same reason.
#[derive(Clone, Debug)]
pub(crate) struct GaveUp {
    pub(crate) destination_id: String,
    pub(crate) reason: String,
    pub(crate) newest_at: Timestamp,
}

/// Deliveries that failed since `since` and were not resent.
///
/// # Errors
/// If the database fails.
pub(crate) async fn gave_up(store: &Store, since: Timestamp) -> Result<Vec<GaveUp>> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "select destination_id, coalesce(reason, ''), max(settled_at_ms)
           from deliveries
          where state = 'given_up' and settled_at_ms >= $1 and coalesce(reason, '') <> 'destination_deleted'
          group by destination_id, coalesce(reason, '')",
    )
    .bind(since.as_ms())
    .fetch_all(store.pool())
    .await
    .context("could not read failed deliveries")?;
    let group = |(destination_id, reason, newest_ms)| GaveUp {
        destination_id,
        reason,
        newest_at: Timestamp::from_ms(newest_ms),
    };
    Ok(rows.into_iter().map(group).collect())
}

/// Outcomes of a destination's last attempts.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    pub(crate) destination_id: String,
    pub(crate) all: i64,
    pub(crate) refused: i64,
    pub(crate) accepted: i64,
}

/// The outcomes of the last 50 attempts at each destination, among those of the newest deliveries.
///
/// # Errors
/// If the database fails.
pub(crate) async fn last_tries(store: &Store, since: Timestamp) -> Result<Vec<Tries>> {
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "select destination_id, count(*),
                cast(sum(case when outcome in ('refused', 'blocked') then 1 else 0 end) as bigint),
                cast(sum(case when outcome = 'accepted' then 1 else 0 end) as bigint)
           from (select d.destination_id, a.outcome,
                        row_number() over (partition by d.destination_id order by a.started_at_ms desc, a.delivery_id desc) as place
                   from (select id, destination_id from deliveries
                          where created_at_ms >= $1
                          order by created_at_ms desc limit $2) as d
                   join attempts a on a.delivery_id = d.id
                  where a.outcome <> 'unknown') as newest
          where place <= 50
          group by destination_id",
    )
    .bind(since.as_ms())
    .bind(RECENT_DELIVERIES)
    .fetch_all(store.pool())
    .await
    .context("could not read the outcomes of the last attempts")?;
    let tries =
        |(destination_id, all, refused, accepted)| Tries { destination_id, all, refused, accepted };
    Ok(rows.into_iter().map(tries).collect())
}

/// Failed events: how many, and when the newest was received.
///
/// # Errors
/// If the database fails.
pub(crate) async fn failed_events(
    store: &Store,
) -> Result<Option<(i64, Timestamp, Option<String>)>> {
    let newest: Option<(i64, Option<String>)> = sqlx::query_as(
        "select received_at_ms, error
           from (select received_at_ms, error
                   from (select received_at_ms, error from stripe_events
                          where state = 'failed' order by id desc limit 1) as of_stripe
                 union all
                 select received_at_ms, error
                   from (select received_at_ms, error from page_events
                          where failed_at_ms is not null order by received_at_ms desc limit 1) as of_pages) as both_kinds
          order by received_at_ms desc
          limit 1",
    )
    .fetch_optional(store.pool())
    .await
    .context("could not check for failed events")?;
    let Some((at, error)) = newest else { return Ok(None) };
    let (count,): (i64,) = sqlx::query_as(
        "select (select count(*) from stripe_events where state = 'failed')
              + (select count(*) from page_events where failed_at_ms is not null)",
    )
    .fetch_one(store.pool())
    .await
    .context("could not count failed events")?;
    Ok(Some((count, Timestamp::from_ms(at), error)))
}

/// The quarter hours since `since` in which a source received events of Stripe's live mode, oldest
/// first.
///
/// # Errors
/// If the database fails.
pub(crate) async fn heard_quarters(
    store: &Store,
    source_id: &str,
    since: Timestamp,
) -> Result<Vec<i64>> {
    let rows: Vec<(i64,)> = sqlx::query_as(
        "select distinct received_at_ms / $3 as quarter
           from stripe_events
          where id >= $1 and source_id = $2 and livemode = 1 and origin = 'webhook'
          order by quarter",
    )
    .bind(ids::first_record_id("sev_", since))
    .bind(source_id)
    .bind(QUARTER_MS)
    .fetch_all(store.pool())
    .await
    .context("could not read when events were received")?;
    Ok(rows.into_iter().map(|(quarter,)| quarter).collect())
}

/// Paid money of a site in one currency, and the unmatched part of it.
#[derive(Clone, Debug)]
pub(crate) struct Matched {
    pub(crate) all: Money,
    pub(crate) unmatched: Money,
    pub(crate) payments: i64,
    pub(crate) unmatched_payments: i64,
}

/// Paid live money of a site in a time range, by currency.
///
/// # Errors
/// If the database fails.
pub(crate) async fn matched_money(
    store: &Store,
    site_id: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Matched>> {
    let rows = sqlx::query(
        "select currency, count(*) as payments,
                cast(coalesce(sum(amount_minor), 0) as bigint) as money,
                cast(coalesce(sum(case when match_state = 'unmatched' then amount_minor end), 0) as bigint) as lost,
                cast(sum(case when match_state = 'unmatched' then 1 else 0 end) as bigint) as lost_payments
           from conversions
          where site_id = $1 and livemode = 1 and occurred_at_ms >= $2 and occurred_at_ms < $3
            and paid_at_ms is not null and currency is not null
          group by currency",
    )
    .bind(site_id)
    .bind(from.as_ms())
    .bind(to.as_ms())
    .fetch_all(store.pool())
    .await
    .context("could not sum unmatched money")?;
    let mut found = Vec::new();
    for row in rows {
        let Some(currency) = Currency::parse(row.try_get::<&str, _>("currency")?) else { continue };
        found.push(Matched {
            all: Money { minor: row.try_get("money")?, currency },
            unmatched: Money { minor: row.try_get("lost")?, currency },
            payments: row.try_get("payments")?,
            unmatched_payments: row.try_get("lost_payments")?,
        });
    }
    Ok(found)
}

/// The number and money of a destination's deliveries that are affected by an incident.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stakes {
    pub(crate) deliveries: i64,
    /// Money of their conversions, each counted once.
    pub(crate) money: Totals,
    /// The oldest one: its ID and when it was created.
    pub(crate) oldest: Option<(String, Timestamp)>,
    pub(crate) examples: Vec<Example>,
    /// The last error of the newest one.
    pub(crate) last_error: Option<String>,
}

/// A conversion as shown in an alert, without personal data.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) conversion_id: String,
    pub(crate) transaction_id: String,
    pub(crate) amount: Option<Money>,
}

/// Selects the affected deliveries of a destination.
#[derive(Clone, Debug)]
pub(crate) enum AtStake {
    /// In a state, for one reason or for all.
    State(&'static str, Option<String>),
    /// Pending or paused deliveries that expire until this time.
    ExpiringBy(Timestamp),
}

/// Sums by currency; each conversion counts once.
macro_rules! sums {
    ($which:literal) => {
        concat!(
            "select currency, cast(sum(messages) as bigint) as messages,
                    cast(coalesce(sum(amount_minor), 0) as bigint) as money, min(oldest) as oldest
               from (select c.id, c.currency, c.amount_minor, count(*) as messages, min(d.id) as oldest
                       from deliveries d
                       join conversions c on c.id = d.conversion_id
                      where d.destination_id = $1 and ", $which, "
                      group by c.id, c.currency, c.amount_minor) as affected
              group by currency"
        )
    };
}

/// The newest deliveries, as many as an alert shows.
macro_rules! examples {
    ($which:literal) => {
        concat!(
            "select d.last_error, d.transaction_id, c.id, c.amount_minor, c.currency
               from deliveries d
               join conversions c on c.id = d.conversion_id
              where d.destination_id = $1 and ",
            $which,
            "
              order by d.id desc
              limit 5"
        )
    };
}

/// Reads number, money and examples of the affected deliveries.
///
/// # Errors
/// If the database fails.
pub(crate) async fn stakes(store: &Store, destination_id: &str, of: &AtStake) -> Result<Stakes> {
    let (sums, examples) = match of {
        AtStake::State(..) => (
            sums!("d.state = $2 and (cast($3 as text) is null or d.reason = $3)"),
            examples!("d.state = $2 and (cast($3 as text) is null or d.reason = $3)"),
        ),
        AtStake::ExpiringBy(_) => (
            sums!("d.expires_at_ms <= $2 and d.settled_at_ms is null"),
            examples!("d.expires_at_ms <= $2 and d.settled_at_ms is null"),
        ),
    };
    let bind = |text: &'static str| {
        let query = sqlx::query(text).bind(destination_id);
        match of {
            AtStake::State(state, reason) => query.bind(*state).bind(reason.as_deref()),
            AtStake::ExpiringBy(by) => query.bind(by.as_ms()),
        }
    };
    let mut stakes = Stakes::default();
    let sums =
        bind(sums).fetch_all(store.pool()).await.context("could not sum affected deliveries")?;
    let mut oldest: Option<String> = None;
    for row in &sums {
        stakes.deliveries += row.try_get::<i64, _>("messages")?;
        let currency: Option<String> = row.try_get("currency")?;
        add(&mut stakes.money, row.try_get("money")?, currency.as_deref());
        let id: String = row.try_get("oldest")?;
        oldest = Some(oldest.map_or(id.clone(), |known| known.min(id)));
    }
    if let Some(id) = oldest {
        let (at,): (i64,) = sqlx::query_as("select created_at_ms from deliveries where id = $1")
            .bind(&id)
            .fetch_one(store.pool())
            .await
            .context("could not read the oldest delivery")?;
        stakes.oldest = Some((id, Timestamp::from_ms(at)));
    }
    let examples = bind(examples)
        .fetch_all(store.pool())
        .await
        .context("could not read examples of affected deliveries")?;
    for row in &examples {
        let currency: Option<String> = row.try_get("currency")?;
        stakes.examples.push(Example {
            conversion_id: row.try_get("id")?,
            transaction_id: row.try_get("transaction_id")?,
            amount: money(row.try_get("amount_minor")?, currency.as_deref()),
        });
        if stakes.last_error.is_none() {
            stakes.last_error = row.try_get("last_error")?;
        }
    }
    Ok(stakes)
}
