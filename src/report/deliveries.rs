//! Deliveries to destinations. Takes a filter and a cursor; returns pages of deliveries, one
//! delivery with every attempt, or sums per destination.
//! Guarantees that pending, paused and failed deliveries are always part of the sums, however old
//! they are.

use anyhow::{Context as _, Result};

use super::filter::{DestinationKey, Filter as _, SiteKey, filter};
use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use super::{add, money};
use crate::clock::Timestamp;
use crate::domain::{AttemptOutcome, DeliveryReason, DeliveryState, Word as _};
use crate::money::{Money, Totals};
use crate::store::{FromRow as _, Row, Statement, Store, from_row, sql};

/// Maximum number of deliveries whose money is summed for a page.
const MAX_SUMMED: i64 = 10_000;

filter! {
    /// Selects deliveries; the default lists all.
    DeliveryFilter {
        /// The state of the delivery.
        state: DeliveryState = "state" where "d.state = :state";
        /// Why it failed or was skipped.
        reason: DeliveryReason = "reason" where "d.reason = :reason";
        /// A destination's key.
        destination: DestinationKey = "destination"
            // Not a bare column: by its index, all deliveries of the destination would be read and sorted.
            where "coalesce(d.destination_id, '') = :destination";
        /// A site's key; by default all sites.
        site_id: SiteKey = "site" where "t.site_id = :site_id";
        /// By default live and test.
        livemode: bool = "livemode" where "c.livemode = :livemode";
    }
}

/// A delivery as lists show it.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryRow {
    /// `dlv_…`.
    pub(crate) id: String,
    /// The destination's short name.
    pub(crate) destination_key: String,
    pub(crate) destination_name: String,
    /// Since when the destination's circuit breaker is open, so that only probes are sent.
    pub(crate) down_since: Option<Timestamp>,
    /// `anytrack`, `webhook`, …
    pub(crate) destination_kind: String,
    /// `cnv_…`.
    pub(crate) conversion_id: String,
    /// The event's name at the destination.
    pub(crate) event_name: String,
    /// The transaction ID that the destination receives.
    pub(crate) transaction_id: String,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<DeliveryReason>,
    pub(crate) attempts: i64,
    /// When the next attempt may start; meaningful while pending.
    pub(crate) due_at: Timestamp,
    pub(crate) last_status: Option<i64>,
    pub(crate) last_error: Option<String>,
    /// When it was queued.
    pub(crate) created_at: Timestamp,
    /// When it ended.
    pub(crate) settled_at: Option<Timestamp>,
    /// When it fails if it was not accepted until then; meaningful while pending or paused.
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) amount: Option<Money>,
    pub(crate) livemode: bool,
}

from_row!(DeliveryRow |row| {
    id, destination_key, destination_name, down_since, destination_kind, conversion_id, event_name,
    transaction_id, state, reason, attempts, due_at, last_status, last_error, created_at, settled_at,
    expires_at, amount: money(row, "amount_minor")?, livemode,
});

/// One delivery with all its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) row: DeliveryRow,
    /// The body that was sent, byte for byte.
    pub(crate) request: String,
    /// The content type of the body; `query` if it is sent in the URL.
    pub(crate) content_type: String,
    /// The body before the message was rebuilt.
    pub(crate) earlier: Option<String>,
    /// Every attempt, oldest first.
    pub(crate) tries: Vec<Attempt>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// 1 is the first.
    pub(crate) n: i64,
    pub(crate) started_at: Timestamp,
    /// How long it took; `None` if it never ended.
    pub(crate) took_ms: Option<i64>,
    /// Its outcome; `None` if the program stopped before it was recorded.
    pub(crate) outcome: Option<AttemptOutcome>,
    pub(crate) status: Option<i64>,
    /// The beginning of the response.
    pub(crate) answer: Option<String>,
    pub(crate) error: Option<String>,
}

from_row!(Attempt |row| {
    n, started_at, took_ms, outcome: AttemptOutcome::parse(&row.get::<String>("outcome")?), status,
    answer, error,
});

/// Sums of all deliveries to one destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct DestinationTotals {
    pub(crate) destination_id: String,
    pub(crate) accepted: i64,
    /// Pending: due now or later.
    pub(crate) pending: i64,
    /// Money of the conversions with pending deliveries, each counted once; empty if there are more
    /// than ten thousand.
    pub(crate) pending_money: Totals,
    pub(crate) given_up: i64,
    /// The same for failed deliveries.
    pub(crate) given_up_money: Totals,
    /// Waiting because the destination is disabled.
    pub(crate) held: i64,
    pub(crate) skipped: i64,
    /// The latest acceptance among its newest hundred deliveries.
    pub(crate) last_accepted_at: Option<Timestamp>,
    /// When the oldest pending one was queued.
    pub(crate) oldest_pending_at: Option<Timestamp>,
}

impl DestinationTotals {
    /// The counts and amounts of several destinations together.
    pub(crate) fn all(sums: &[Self]) -> Self {
        let mut all = Self::default();
        for sum in sums {
            all.accepted += sum.accepted;
            all.pending += sum.pending;
            all.given_up += sum.given_up;
            all.held += sum.held;
            all.skipped += sum.skipped;
            sum.pending_money.iter().for_each(|money| all.pending_money.add(money));
            sum.given_up_money.iter().for_each(|money| all.given_up_money.add(money));
        }
        all
    }
}

/// The columns of all lists of deliveries.
const COLUMNS: &str = "select d.id, t.key as destination_key, t.name as destination_name, t.kind as destination_kind, b.held_at_ms as down_since,
            d.conversion_id, d.event_name, d.transaction_id, d.state, d.reason, d.attempts,
            d.due_at_ms as due_at, d.last_status, d.last_error, d.created_at_ms as created_at,
            d.settled_at_ms as settled_at, d.expires_at_ms as expires_at, c.amount_minor, c.currency, c.livemode";
/// The tables of [`COLUMNS`].
const TABLES: &str = "from deliveries d
       join destinations t on t.id = d.destination_id
       left join breakers b on b.destination_id = d.destination_id
       join conversions c on c.id = d.conversion_id";
/// The additional columns of one delivery.
const REQUEST: &str = ", d.request, d.content_type, d.earlier_request";

/// A page of deliveries, newest first; `limit` is clamped to 1–200.
pub(crate) async fn deliveries(
    store: &Store,
    filter: &DeliveryFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<DeliveryRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let rows = list(filter, after, limit).all(store.pool()).await;
    let rows = rows.context("could not list deliveries")?;
    Ok(Page::cut(rows, limit, |row: &DeliveryRow| Cursor {
        number: row.created_at.as_ms(),
        text: row.id.clone(),
    }))
}

/// The newest deliveries first, one more than `limit`. IDs sort by time.
pub(super) fn list(filter: &DeliveryFilter, after: Option<&Cursor>, limit: i64) -> Statement {
    let list = sql(COLUMNS)
        .then(TABLES)
        .then("where d.id < :after")
        .set("after", after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text));
    filter.conditions(list).then("order by d.id desc limit :limit").set("limit", limit + 1)
}

/// One delivery with every attempt.
pub(crate) async fn delivery(store: &Store, id: &str) -> Result<Option<Delivery>> {
    let mut found = with_attempts(
        store,
        sql(COLUMNS)
            .then(REQUEST)
            .then(TABLES)
            .then("where d.id = :id")
            .set("id", id)
            .fetch_all(store.pool())
            .await
            .context("could not read a delivery")?,
    )
    .await?;
    Ok(found.pop())
}

/// Every delivery of a conversion with every attempt, oldest first.
pub(super) async fn of_conversion(store: &Store, conversion_id: &str) -> Result<Vec<Delivery>> {
    with_attempts(
        store,
        sql(COLUMNS)
            .then(REQUEST)
            .then(TABLES)
            .then(
                "where d.conversion_id = :conversion_id
              order by d.created_at_ms, d.id",
            )
            .set("conversion_id", conversion_id)
            .fetch_all(store.pool())
            .await
            .context("could not list a conversion's deliveries")?,
    )
    .await
}

/// Reads deliveries with their attempts, one query each: a conversion has few deliveries.
async fn with_attempts(store: &Store, rows: Vec<Row>) -> Result<Vec<Delivery>> {
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let delivery = DeliveryRow::from_row(row)?;
        let tries =
            sql("select n, started_at_ms as started_at, took_ms, outcome, status, answer, error
               from attempts
              where delivery_id = :delivery_id
              order by n")
            .set("delivery_id", &delivery.id)
            .all(store.pool())
            .await
            .context("could not list a delivery's attempts")?;
        found.push(Delivery {
            row: delivery,
            request: row.get("request")?,
            content_type: row.get("content_type")?,
            earlier: row.get("earlier_request")?,
            tries,
        });
    }
    Ok(found)
}

/// One entry for each destination of a site that has deliveries.
pub(crate) async fn destination_totals(
    store: &Store,
    site_id: &str,
) -> Result<Vec<DestinationTotals>> {
    let ids = sql("select id from destinations where site_id = :site_id order by id")
        .set("site_id", site_id)
        .values(store.pool())
        .await
        .context("could not list a site's destinations")?;
    let mut totals = Vec::new();
    for id in ids {
        let entry = totals_of(store, id).await?;
        let settled = entry.accepted + entry.skipped;
        if settled + entry.pending + entry.given_up + entry.held > 0 {
            totals.push(entry);
        }
    }
    Ok(totals)
}

async fn totals_of(store: &Store, destination_id: String) -> Result<DestinationTotals> {
    let unsettled: Vec<(DeliveryState, i64, Timestamp)> =
        sql("select state, count(*), min(created_at_ms)
           from deliveries
          where state <> 'delivered' and state <> 'skipped' and destination_id = :destination_id
          group by state")
        .set("destination_id", &destination_id)
        .all(store.pool())
        .await
        .context("could not count a destination's pending deliveries")?;
    let (accepted, skipped): (i64, i64) = sql("select (select count(*) from deliveries where state = 'delivered' and destination_id = :destination_id),
                (select count(*) from deliveries where state = 'skipped' and destination_id = :destination_id)")
    .set("destination_id", &destination_id)
    .one(store.pool())
    .await
    .context("could not count a destination's deliveries")?;
    let last_accepted_at = last_accepted_at(store, &destination_id).await?;
    let mut totals =
        DestinationTotals { accepted, skipped, last_accepted_at, ..DestinationTotals::default() };
    for (state, count, oldest_at) in unsettled {
        match state {
            DeliveryState::Pending => {
                totals.pending = count;
                totals.oldest_pending_at = Some(oldest_at);
                totals.pending_money =
                    unsettled_money(store, &destination_id, state, count).await?;
            }
            DeliveryState::GivenUp => {
                totals.given_up = count;
                totals.given_up_money =
                    unsettled_money(store, &destination_id, state, count).await?;
            }
            DeliveryState::Held => totals.held = count,
            DeliveryState::Delivered | DeliveryState::Skipped => {}
        }
    }
    Ok(DestinationTotals { destination_id, ..totals })
}

/// Money of pending or failed deliveries, unless there are too many to sum for a page. The inner
/// grouping counts a conversion with two messages once.
async fn unsettled_money(
    store: &Store,
    destination_id: &str,
    state: DeliveryState,
    count: i64,
) -> Result<Totals> {
    let mut money = Totals::default();
    if count > MAX_SUMMED {
        return Ok(money);
    }
    let sums: Vec<(Option<String>, i64)> = sql("select currency, cast(coalesce(sum(amount_minor), 0) as bigint)
           from (select c.id, c.currency, c.amount_minor
                   from deliveries d
                   join conversions c on c.id = d.conversion_id
                  where d.state <> 'delivered' and d.state <> 'skipped' and d.state = :state and d.destination_id = :destination_id
                  group by c.id, c.currency, c.amount_minor) as unsettled
          group by currency")
    .set("destination_id", destination_id)
    .set("state", state)
    .all(store.pool())
    .await
    .context("could not sum a destination's deliveries")?;
    for (currency, minor) in sums {
        add(&mut money, minor, currency.as_deref());
    }
    Ok(money)
}

async fn last_accepted_at(store: &Store, destination_id: &str) -> Result<Option<Timestamp>> {
    sql("select max(settled_at_ms)
           from (select settled_at_ms
                   from deliveries
                  where state = 'delivered' and destination_id = :destination_id
                  order by id desc
                  limit 100) as newest")
    .set("destination_id", destination_id)
    .value(store.pool())
    .await
    .context("could not read a destination's last acceptance")
}
