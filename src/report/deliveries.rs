//! Deliveries to destinations. Takes a filter and a cursor; returns pages of deliveries, one
//! delivery with every attempt, or sums per destination.
//! Guarantees that pending, paused and failed deliveries are always part of the sums, however old
//! they are.

use anyhow::{Context as _, Result};

use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use super::{add, money};
use crate::clock::Timestamp;
use crate::domain::{AttemptOutcome, DeliveryReason, DeliveryState, Word as _};
use crate::money::{Money, Totals};
use crate::store::{Row, Statement, Store, sql};

/// Maximum number of deliveries whose money is summed for a page.
const MAX_SUMMED: i64 = 10_000;

/// Selects deliveries; `None` in every field lists all.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeliveryFilter {
    /// Deliveries to destinations of this site.
    pub(crate) site_id: Option<String>,
    /// `dst_…`.
    pub(crate) destination_id: Option<String>,
    /// Deliveries in this state.
    pub(crate) state: Option<DeliveryState>,
    /// Deliveries that failed or were skipped for this reason.
    pub(crate) reason: Option<DeliveryReason>,
    /// Deliveries of live or of test conversions.
    pub(crate) livemode: Option<bool>,
}

/// A delivery as lists show it.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryRow {
    /// `dlv_…`.
    pub(crate) id: String,
    /// The destination's short name.
    pub(crate) destination_key: String,
    /// The destination's name.
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
    /// Its state.
    pub(crate) state: DeliveryState,
    /// Why it failed or was skipped.
    pub(crate) reason: Option<DeliveryReason>,
    /// Number of attempts.
    pub(crate) attempts: i64,
    /// When the next attempt may start; meaningful while pending.
    pub(crate) due_at: Timestamp,
    /// HTTP status of the last response.
    pub(crate) last_status: Option<i64>,
    /// The last error.
    pub(crate) last_error: Option<String>,
    /// When it was queued.
    pub(crate) created_at: Timestamp,
    /// When it ended.
    pub(crate) settled_at: Option<Timestamp>,
    /// When it fails if it was not accepted until then; meaningful while pending or paused.
    pub(crate) expires_at: Option<Timestamp>,
    /// The conversion's amount.
    pub(crate) amount: Option<Money>,
    /// The conversion's mode.
    pub(crate) livemode: bool,
}

/// One delivery with all its attempts.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// The row of lists.
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
    /// When it started.
    pub(crate) started_at: Timestamp,
    /// How long it took; `None` if it never ended.
    pub(crate) took_ms: Option<i64>,
    /// Its outcome; `None` if the program stopped before it was recorded.
    pub(crate) outcome: Option<AttemptOutcome>,
    /// HTTP status of the response.
    pub(crate) status: Option<i64>,
    /// The beginning of the response.
    pub(crate) answer: Option<String>,
    /// The error.
    pub(crate) error: Option<String>,
}

/// Sums of all deliveries to one destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct DestinationTotals {
    /// `dst_…`.
    pub(crate) destination_id: String,
    /// Delivered.
    pub(crate) accepted: i64,
    /// Pending: due now or later.
    pub(crate) pending: i64,
    /// Money of the conversions with pending deliveries, each counted once; empty if there are more
    /// than ten thousand.
    pub(crate) pending_money: Totals,
    /// Failed.
    pub(crate) given_up: i64,
    /// The same for failed deliveries.
    pub(crate) given_up_money: Totals,
    /// Waiting because the destination is disabled.
    pub(crate) held: i64,
    /// Skipped.
    pub(crate) skipped: i64,
    /// The latest acceptance among its newest hundred deliveries.
    pub(crate) last_accepted_at: Option<Timestamp>,
    /// When the oldest pending one was queued.
    pub(crate) oldest_pending_at: Option<Timestamp>,
}

/// The columns of all lists of deliveries.
const COLUMNS: &str = "select d.id, t.key as destination_key, t.name as destination_name, t.kind as destination_kind, b.held_at_ms,
            d.conversion_id, d.event_name, d.transaction_id, d.state, d.reason, d.attempts,
            d.due_at_ms, d.last_status, d.last_error, d.created_at_ms, d.settled_at_ms, d.expires_at_ms,
            c.amount_minor, c.currency, c.livemode";
/// The tables of [`COLUMNS`].
const TABLES: &str = "from deliveries d
       join destinations t on t.id = d.destination_id
       left join breakers b on b.destination_id = d.destination_id
       join conversions c on c.id = d.conversion_id";
/// The additional columns of one delivery.
const REQUEST: &str = ", d.request, d.content_type, d.earlier_request";

/// A page of deliveries, newest first; `limit` is clamped to 1–200.
///
/// # Errors
/// If the database fails.
pub(crate) async fn deliveries(
    store: &Store,
    filter: &DeliveryFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<DeliveryRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let rows = list(filter, after, limit)
        .fetch_all(store.pool())
        .await
        .context("could not list deliveries")?;
    let rows = rows.iter().map(read_row).collect::<Result<_>>()?;
    Ok(Page::cut(rows, limit, |row: &DeliveryRow| Cursor {
        number: row.created_at.as_ms(),
        text: row.id.clone(),
    }))
}

/// The newest deliveries first, one more than `limit`. IDs sort by time.
pub(super) fn list(filter: &DeliveryFilter, after: Option<&Cursor>, limit: i64) -> Statement {
    sql(COLUMNS)
        .then(TABLES)
        .then("where d.id < :after")
        .set("after", after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text))
        .and("t.site_id = :site_id", filter.site_id.as_deref())
        // Not a bare column: by its index, all deliveries of the destination would be read and sorted.
        .and("coalesce(d.destination_id, '') = :destination_id", filter.destination_id.as_deref())
        .and("d.state = :state", filter.state)
        .and("c.livemode = :livemode", filter.livemode)
        .and("d.reason = :reason", filter.reason)
        .then("order by d.id desc limit :limit")
        .set("limit", limit + 1)
}

/// One delivery with every attempt.
///
/// # Errors
/// If the database fails.
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
        let delivery = read_row(row)?;
        let attempts = sql("select n, started_at_ms, took_ms, outcome, status, answer, error
               from attempts
              where delivery_id = :delivery_id
              order by n")
        .set("delivery_id", &delivery.id)
        .fetch_all(store.pool())
        .await
        .context("could not list a delivery's attempts")?;
        found.push(Delivery {
            row: delivery,
            request: row.get("request")?,
            content_type: row.get("content_type")?,
            earlier: row.get("earlier_request")?,
            tries: attempts.iter().map(read_attempt).collect::<Result<_>>()?,
        });
    }
    Ok(found)
}

/// One entry for each destination of a site that has deliveries.
///
/// # Errors
/// If the database fails.
pub(crate) async fn destination_totals(
    store: &Store,
    site_id: &str,
) -> Result<Vec<DestinationTotals>> {
    let ids: Vec<(String,)> =
        sql("select id from destinations where site_id = :site_id order by id")
            .set("site_id", site_id)
            .all(store.pool())
            .await
            .context("could not list a site's destinations")?;
    let mut totals = Vec::new();
    for (id,) in ids {
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
    let last: Option<i64> = sql("select max(settled_at_ms)
           from (select settled_at_ms
                   from deliveries
                  where state = 'delivered' and destination_id = :destination_id
                  order by id desc
                  limit 100) as newest")
    .set("destination_id", destination_id)
    .value(store.pool())
    .await
    .context("could not read a destination's last acceptance")?;
    Ok(last.map(Timestamp::from_ms))
}

fn read_row(row: &Row) -> Result<DeliveryRow> {
    let currency: Option<String> = row.get("currency")?;
    Ok(DeliveryRow {
        id: row.get("id")?,
        destination_key: row.get("destination_key")?,
        destination_name: row.get("destination_name")?,
        destination_kind: row.get("destination_kind")?,
        down_since: row.get("held_at_ms")?,
        conversion_id: row.get("conversion_id")?,
        event_name: row.get("event_name")?,
        transaction_id: row.get("transaction_id")?,
        state: row.get("state")?,
        reason: row.get("reason")?,
        attempts: row.get("attempts")?,
        due_at: row.get("due_at_ms")?,
        last_status: row.get("last_status")?,
        last_error: row.get("last_error")?,
        created_at: row.get("created_at_ms")?,
        settled_at: row.get("settled_at_ms")?,
        expires_at: row.get("expires_at_ms")?,
        amount: money(row.get("amount_minor")?, currency.as_deref()),
        livemode: row.get::<bool>("livemode")?,
    })
}

fn read_attempt(row: &Row) -> Result<Attempt> {
    Ok(Attempt {
        n: row.get("n")?,
        started_at: row.get("started_at_ms")?,
        took_ms: row.get("took_ms")?,
        outcome: AttemptOutcome::parse(&row.get::<String>("outcome")?),
        status: row.get("status")?,
        answer: row.get("answer")?,
        error: row.get("error")?,
    })
}
