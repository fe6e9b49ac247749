//! Queries for alerts: cheap checks for incidents, and the details of an incident that was found.
//! Takes a time; returns backlogs, rejected and failed deliveries, failed events, hours without
//! Stripe events, and unmatched money. Guarantees that each check reads the end of an index or a
//! bounded number of rows. Details are read only for incidents that are reported.

use anyhow::{Context as _, Result};

use super::{QUARTER_MS, add, money};
use crate::clock::Timestamp;
use crate::ids;
use crate::money::{Currency, Money, Totals};
use crate::store::{Store, from_row, sql};

/// Number of newest deliveries, of all destinations together, whose attempts are read.
const RECENT_DELIVERIES: i64 = 2_000;
/// Number of a destination's pending deliveries whose first attempt is read.
const RETRIED_AT_MOST: i64 = 200;

/// When the longest wait of a destination's pending deliveries began: when the oldest one became
/// due, or when the oldest one that is being retried was first sent.
pub(crate) async fn waits_since(
    store: &Store,
    destination_id: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    sql("select min(at_ms)
           from (select due_at_ms as at_ms
                   from (select due_at_ms from deliveries
                          where destination_id = :destination_id and state = 'pending' and due_at_ms <= :now
                          order by due_at_ms limit 1) as due
                 union all
                 select min(a.started_at_ms)
                   from (select id, schedule_from from deliveries
                          where destination_id = :destination_id and state = 'pending'
                          order by due_at_ms limit :retried_at_most) as d
                   join attempts a on a.delivery_id = d.id and a.n = d.schedule_from + 1) as both_kinds")
    .set("destination_id", destination_id)
    .set("now", now)
    .set("retried_at_most", RETRIED_AT_MOST)
    .value(store.pool())
    .await
    .context("could not read how long the oldest delivery waits")
}

/// When the first of a destination's unfinished deliveries expires and fails. Considers only those
/// that expire until `by` and were created before `written_by`.
pub(crate) async fn first_to_expire(
    store: &Store,
    destination_id: &str,
    by: Timestamp,
    written_by: Timestamp,
) -> Result<Option<Timestamp>> {
    let first: Option<(Timestamp,)> = sql(FIRST_TO_EXPIRE)
        .set("destination_id", destination_id)
        .set("by", by)
        .set("written_by", written_by)
        .optional(store.pool())
        .await
        .context("could not read which deliveries expire soon")?;
    Ok(first.map(|(at,)| at))
}

const FIRST_TO_EXPIRE: &str = "select expires_at_ms from deliveries
      where destination_id = :destination_id and expires_at_ms <= :by and created_at_ms <= :written_by and settled_at_ms is null
      order by expires_at_ms
      limit 1";

/// Failed deliveries of a destination with the same reason.
#[derive(Clone, Debug)]
pub(crate) struct GaveUp {
    pub(crate) destination_id: String,
    pub(crate) reason: String,
    pub(crate) newest_at: Timestamp,
}

from_row!(GaveUp { destination_id, reason, newest_at });

/// Deliveries that failed since `since` and were not resent.
pub(crate) async fn gave_up(store: &Store, since: Timestamp) -> Result<Vec<GaveUp>> {
    sql("select destination_id, coalesce(reason, '') as reason, max(settled_at_ms) as newest_at
           from deliveries
          where state = 'given_up' and settled_at_ms >= :since and coalesce(reason, '') <> 'destination_deleted'
          group by destination_id, coalesce(reason, '')")
    .set("since", since)
    .all(store.pool())
    .await
    .context("could not read failed deliveries")
}

/// Outcomes of a destination's last attempts.
#[derive(Clone, Debug)]
pub(crate) struct Tries {
    pub(crate) destination_id: String,
    pub(crate) all: i64,
    pub(crate) refused: i64,
    pub(crate) accepted: i64,
}

from_row!(Tries |row| { destination_id, all: row.get("tried")?, refused, accepted });

/// The outcomes of the last 50 attempts at each destination, among those of the newest deliveries.
pub(crate) async fn last_tries(store: &Store, since: Timestamp) -> Result<Vec<Tries>> {
    sql("select destination_id, count(*) as tried,
                cast(sum(case when outcome in ('refused', 'blocked') then 1 else 0 end) as bigint) as refused,
                cast(sum(case when outcome = 'accepted' then 1 else 0 end) as bigint) as accepted
           from (select d.destination_id, a.outcome,
                        row_number() over (partition by d.destination_id order by a.started_at_ms desc, a.delivery_id desc) as place
                   from (select id, destination_id from deliveries
                          where created_at_ms >= :since
                          order by created_at_ms desc limit :recent_deliveries) as d
                   join attempts a on a.delivery_id = d.id
                  where a.outcome <> 'unknown') as newest
          where place <= 50
          group by destination_id")
    .set("since", since)
    .set("recent_deliveries", RECENT_DELIVERIES)
    .all(store.pool())
    .await
    .context("could not read the outcomes of the last attempts")
}

/// Failed events: how many, and when the newest was received.
pub(crate) async fn failed_events(
    store: &Store,
) -> Result<Option<(i64, Timestamp, Option<String>)>> {
    let newest: Option<(Timestamp, Option<String>)> = sql("select received_at_ms, error
           from (select received_at_ms, error
                   from (select received_at_ms, error from stripe_events
                          where state = 'failed' order by id desc limit 1) as of_stripe
                 union all
                 select received_at_ms, error
                   from (select received_at_ms, error from page_events
                          where failed_at_ms is not null order by received_at_ms desc limit 1) as of_pages) as both_kinds
          order by received_at_ms desc
          limit 1")
    .optional(store.pool())
    .await
    .context("could not check for failed events")?;
    let Some((at, error)) = newest else { return Ok(None) };
    let count: i64 = sql("select (select count(*) from stripe_events where state = 'failed')
              + (select count(*) from page_events where failed_at_ms is not null)")
    .value(store.pool())
    .await
    .context("could not count failed events")?;
    Ok(Some((count, at, error)))
}

/// The quarter hours since `since` in which a source received events of Stripe's live mode, oldest
/// first.
pub(crate) async fn heard_quarters(
    store: &Store,
    source_id: &str,
    since: Timestamp,
) -> Result<Vec<i64>> {
    sql("select distinct received_at_ms / :quarter_ms as quarter
           from stripe_events
          where id >= :id and source_id = :source_id and livemode = 1 and origin = 'webhook'
          order by quarter")
    .set("id", ids::first_record_id("sev_", since))
    .set("source_id", source_id)
    .set("quarter_ms", QUARTER_MS)
    .values(store.pool())
    .await
    .context("could not read when events were received")
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
pub(crate) async fn matched_money(
    store: &Store,
    site_id: &str,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Matched>> {
    let rows = sql("select currency, count(*) as payments,
                cast(coalesce(sum(amount_minor), 0) as bigint) as money,
                cast(coalesce(sum(case when match_state = 'unmatched' then amount_minor end), 0) as bigint) as lost,
                cast(sum(case when match_state = 'unmatched' then 1 else 0 end) as bigint) as lost_payments
           from conversions
          where site_id = :site_id and livemode = 1 and occurred_at_ms >= :from and occurred_at_ms < :to
            and paid_at_ms is not null and currency is not null
          group by currency")
    .set("site_id", site_id)
    .set("from", from)
    .set("to", to)
    .fetch_all(store.pool())
    .await
    .context("could not sum unmatched money")?;
    let mut found = Vec::new();
    for row in rows {
        let Some(currency) = Currency::parse(&row.get::<String>("currency")?) else { continue };
        found.push(Matched {
            all: Money { minor: row.get("money")?, currency },
            unmatched: Money { minor: row.get("lost")?, currency },
            payments: row.get("payments")?,
            unmatched_payments: row.get("lost_payments")?,
        });
    }
    Ok(found)
}

/// A payment whose click ID others paid with, too.
#[derive(Clone, Debug)]
pub(crate) struct SharedPayment {
    pub(crate) click_id: String,
    pub(crate) email: Option<String>,
    /// Stripe's customer, `cus_…`.
    pub(crate) customer: Option<String>,
    pub(crate) example: Example,
}

from_row!(SharedPayment |row| {
    click_id, email, customer,
    example: Example {
        conversion_id: row.get("id")?,
        transaction_id: row.get("transaction_id")?,
        amount: money(row, "amount_minor")?,
    },
});

/// Live payments of a site since `since` that have a click ID of a payment since `lately`, if that
/// was paid with at least `fewest` times; newest first. Payments that were matched through an
/// earlier one, such as renewals, have no click ID of their own. The cross join makes the planner
/// start with the few click IDs, and the site is no bare column, so that it follows their index.
pub(crate) async fn shared_payments(
    store: &Store,
    site_id: &str,
    (since, lately): (Timestamp, Timestamp),
    fewest: u32,
) -> Result<Vec<SharedPayment>> {
    sql("select c.click_id, c.id, c.transaction_id, c.email, c.amount_minor, c.currency,
                (select min(o.object_id) from stripe_objects o
                  where o.conversion_id = c.id and o.role = 'lineage' and substr(o.object_id, 1, 4) = 'cus_') as customer
           from (select distinct click_id from conversions
                  where site_id = :site_id and livemode = 1 and occurred_at_ms >= :lately) as recent
          cross join conversions c
          where c.click_id = recent.click_id and coalesce(c.site_id, '') = :site_id and c.livemode = 1
            and c.occurred_at_ms >= :since
            and c.paid_at_ms is not null and c.match_by in ('click_id', 'metadata')
            and c.kind <> 'renewal' and c.currency is not null
            and (select count(*) from conversions o
                  where o.click_id = c.click_id and o.occurred_at_ms >= :since) >= :fewest
          order by c.occurred_at_ms desc, c.id desc
          limit :most")
    .set("site_id", site_id)
    .set("lately", lately)
    .set("since", since)
    .set("fewest", i64::from(fewest))
    .set("most", MOST_SHARED)
    .all(store.pool())
    .await
    .context("could not look for click IDs that several customers paid with")
}

/// Maximum number of payments with shared click IDs that are read.
const MOST_SHARED: i64 = 1000;

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

/// Reads number, money and examples of the affected deliveries.
pub(crate) async fn stakes(store: &Store, destination_id: &str, of: &AtStake) -> Result<Stakes> {
    let affected = |before: &'static str| {
        let statement = sql(before)
            .then("from deliveries d join conversions c on c.id = d.conversion_id where d.destination_id = :destination_id")
            .set("destination_id", destination_id);
        match of {
            AtStake::State(state, reason) => statement
                .and("d.state = :state", Some(*state))
                .and("d.reason = :reason", reason.as_deref()),
            AtStake::ExpiringBy(by) => statement
                .and("d.expires_at_ms <= :by", Some(*by))
                .then("and d.settled_at_ms is null"),
        }
    };
    // Sums by currency; each conversion counts once.
    let sums = affected(
        "select currency, cast(sum(messages) as bigint) as messages,
                cast(coalesce(sum(amount_minor), 0) as bigint) as money, min(oldest) as oldest
           from (select c.id, c.currency, c.amount_minor, count(*) as messages, min(d.id) as oldest",
    )
    .then("group by c.id, c.currency, c.amount_minor) as affected group by currency");
    // The newest deliveries, as many as an alert shows.
    let examples =
        affected("select d.last_error, d.transaction_id, c.id, c.amount_minor, c.currency")
            .then("order by d.id desc limit 5");
    let mut stakes = Stakes::default();
    let sums = sums.fetch_all(store.pool()).await.context("could not sum affected deliveries")?;
    let mut oldest: Option<String> = None;
    for row in &sums {
        stakes.deliveries += row.get::<i64>("messages")?;
        let currency: Option<String> = row.get("currency")?;
        add(&mut stakes.money, row.get("money")?, currency.as_deref());
        let id: String = row.get("oldest")?;
        oldest = Some(oldest.map_or(id.clone(), |known| known.min(id)));
    }
    if let Some(id) = oldest {
        let at = sql("select created_at_ms from deliveries where id = :id")
            .set("id", &id)
            .value(store.pool())
            .await
            .context("could not read the oldest delivery")?;
        stakes.oldest = Some((id, at));
    }
    let examples = examples
        .fetch_all(store.pool())
        .await
        .context("could not read examples of affected deliveries")?;
    for row in &examples {
        stakes.examples.push(Example {
            conversion_id: row.get("id")?,
            transaction_id: row.get("transaction_id")?,
            amount: money(row, "amount_minor")?,
        });
        if stakes.last_error.is_none() {
            stakes.last_error = row.get("last_error")?;
        }
    }
    Ok(stakes)
}
