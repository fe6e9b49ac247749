//! Stripe events as received. Takes a filter and a cursor; returns pages of events, one event with
//! its raw body, and counts of rejected webhooks. Guarantees that lists never read a body, and that
//! an event's body is returned byte for byte.

use anyhow::{Context as _, Result};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use crate::clock::Timestamp;
use crate::money::{Currency, Money};
use crate::store::Store;

/// Maximum number of a subscription's payments that are shown for its event.
const MAX_PAYMENTS: i64 = 24;

/// Selects Stripe events. `None` in all fields selects all.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventFilter {
    /// Those of a site's sources.
    pub(crate) site_id: Option<String>,
    /// received, processed, ignored, failed.
    pub(crate) state: Option<String>,
    /// Stripe's type: `checkout.session.completed`.
    pub(crate) kind: Option<String>,
    /// Live or test.
    pub(crate) livemode: Option<bool>,
}

/// One Stripe event as lists show it.
#[derive(Clone, Debug)]
pub(crate) struct StripeEventRow {
    /// `sev_…`.
    pub(crate) id: String,
    /// The connected Stripe account, or empty for the source's own.
    pub(crate) account: String,
    /// Stripe's `evt_…`.
    pub(crate) event_id: String,
    /// `src_…`.
    pub(crate) source_id: String,
    /// Stripe's type: `checkout.session.completed`.
    pub(crate) kind: String,
    /// The object it is about: `cs_…`, `in_…`, …
    pub(crate) object_id: String,
    /// Live or test.
    pub(crate) livemode: bool,
    /// The version of Stripe's API.
    pub(crate) api_version: Option<String>,
    /// When Stripe created it.
    pub(crate) created_at: Option<Timestamp>,
    /// When we received it.
    pub(crate) received_at: Timestamp,
    /// webhook, backfill, fetched.
    pub(crate) origin: String,
    /// received, processed, ignored, failed.
    pub(crate) state: String,
    /// Why it was ignored.
    pub(crate) reason: Option<String>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// A summary of its content.
    pub(crate) summary: Option<String>,
    /// What it changed.
    pub(crate) note: Option<String>,
    /// `cnv_…`, if it belongs to a conversion.
    pub(crate) conversion_id: Option<String>,
    /// How often it was processed.
    pub(crate) attempts: i64,
    /// When it was processed last.
    pub(crate) processed_at: Option<Timestamp>,
    /// How often the same event was received again.
    pub(crate) repeats: i64,
}

/// One Stripe event with its raw body.
#[derive(Clone, Debug)]
pub(crate) struct StripeEvent {
    /// As lists show it.
    pub(crate) row: StripeEventRow,
    /// The index of the signing secret that verified it; -1 for events that we fetched from Stripe.
    pub(crate) secret_position: i64,
    /// The results of requesting objects that the event needs and that were missing, such as the
    /// payment's checkout session.
    pub(crate) lookup: Option<String>,
    /// The conversions that its object belongs to, oldest first.
    pub(crate) payments: Vec<EventPayment>,
    /// The request's bytes.
    pub(crate) body: Vec<u8>,
}

/// A conversion that an event's object belongs to.
#[derive(Clone, Debug)]
pub(crate) struct EventPayment {
    /// `cnv_…`.
    pub(crate) id: String,
    /// purchase, renewal, …
    pub(crate) kind: String,
    /// What was paid, if known.
    pub(crate) amount: Option<Money>,
    /// When.
    pub(crate) occurred_at: Timestamp,
}

/// Rejected webhooks of one day and reason.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Rejection {
    /// `src_…`.
    pub(crate) source_id: String,
    /// Days since 1970, UTC.
    pub(crate) day: i64,
    /// missing, mismatch, too_old, …
    pub(crate) reason: String,
    /// How many on that day.
    pub(crate) rejected: i64,
    /// The last one, ms since 1970, UTC.
    pub(crate) last_at_ms: i64,
}

/// The columns of all lists of events: all but the body.
macro_rules! list {
    ($rest:literal) => {
        list!("", $rest)
    };
    ($more:literal, $rest:expr) => {
        concat!(
            "select e.id, e.account, e.event_id, e.source_id, e.type, e.object_id, e.livemode, e.api_version,
                    e.created_at_ms, e.received_at_ms, e.origin, e.state, e.reason, e.error, e.summary, e.note,
                    e.attempts, e.processed_at_ms, e.repeats,
                    coalesce((select c.id
                                from stripe_objects o
                                join conversions c on c.id = o.conversion_id
                               where o.account = e.account and o.object_id = e.object_id and o.role = 'identity'),
                             (select c.id from conversions c where c.id = e.conversion_id)) as conversion_id",
            $more,
            " from stripe_events e ",
            $rest
        )
    };
}

macro_rules! filtered {
    ($state:literal) => {
        list!(
            "",
            concat!(
                "where e.id < $1
                   and (cast($2 as text) is null
                        or e.source_id in (select id from sources where site_id = $2))
                   and (cast($3 as text) is null or e.type = $3)
                   and (cast($4 as bigint) is null or e.livemode = $4)
                   and ",
                $state,
                "
                 order by e.id desc
                 limit $6"
            )
        )
    };
}

/// A page of Stripe events, newest first; `limit` is held between 1 and 200.
///
/// # Errors
/// If the database fails.
pub(crate) async fn stripe_events(
    store: &Store,
    filter: &EventFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<StripeEventRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    // Two texts, because only a plain equality lets the index by state be used. IDs sort by time.
    let text = if filter.state.is_some() {
        filtered!("e.state = $5")
    } else {
        filtered!("cast($5 as text) is null")
    };
    let rows = sqlx::query(text)
        .bind(after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text))
        .bind(filter.site_id.as_deref())
        .bind(filter.kind.as_deref())
        .bind(filter.livemode.map(i64::from))
        .bind(filter.state.as_deref())
        .bind(limit + 1)
        .fetch_all(store.pool())
        .await
        .context("could not list Stripe events")?;
    let rows = rows.iter().map(read_row).collect::<Result<_>>()?;
    Ok(Page::cut(rows, limit, |row: &StripeEventRow| Cursor {
        number: row.received_at.as_ms(),
        text: row.id.clone(),
    }))
}

/// One Stripe event with its raw body.
///
/// # Errors
/// If the database fails.
pub(crate) async fn stripe_event(store: &Store, id: &str) -> Result<Option<StripeEvent>> {
    let row = sqlx::query(list!(", e.secret_position, e.body", "where e.id = $1"))
        .bind(id)
        .fetch_optional(store.pool())
        .await
        .context("could not find a Stripe event")?;
    let Some(row) = row else { return Ok(None) };
    let lookups =
        sqlx::query("select said from stripe_lookups where event_id = $1 order by subject")
            .bind(id)
            .fetch_all(store.pool())
            .await
            .context("could not read the requests to Stripe")?;
    let said: Vec<String> = lookups.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Ok(Some(StripeEvent {
        lookup: Some(said.join(" ")).filter(|said| !said.is_empty()),
        payments: payments(store, &row).await?,
        row: read_row(&row)?,
        secret_position: row.try_get("secret_position")?,
        body: row.try_get("body")?,
    }))
}

/// Events of a source that are held: how many, and the newest.
pub(crate) struct HeldEvents {
    pub(crate) count: i64,
    pub(crate) newest: Vec<StripeEventRow>,
}

/// The held events of a source.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn held_events(store: &Store, source_id: &str, limit: i64) -> Result<HeldEvents> {
    let counted = "select count(*) from stripe_events where state = 'held' and source_id = $1";
    let (count,): (i64,) = sqlx::query_as(counted)
        .bind(source_id)
        .fetch_one(store.pool())
        .await
        .context("could not count held events")?;
    let text = list!("where e.state = 'held' and e.source_id = $1 order by e.id desc limit $2");
    let rows = sqlx::query(text).bind(source_id).bind(limit).fetch_all(store.pool()).await;
    let rows = rows.context("could not list held events")?;
    Ok(HeldEvents { count, newest: rows.iter().map(read_row).collect::<Result<_>>()? })
}

/// The conversions of the event's object: its payment, or those of its subscription.
async fn payments(store: &Store, event: &AnyRow) -> Result<Vec<EventPayment>> {
    let rows = sqlx::query(
        "select distinct c.id, c.kind, c.amount_minor, c.currency, c.occurred_at_ms
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = $1 and o.object_id = $2
          order by c.occurred_at_ms, c.id
          limit $3",
    )
    .bind(event.try_get::<String, _>("account")?)
    .bind(event.try_get::<String, _>("object_id")?)
    .bind(MAX_PAYMENTS)
    .fetch_all(store.pool())
    .await
    .context("could not list the payments of an event's object")?;
    rows.iter()
        .map(|row| {
            let currency: Option<String> = row.try_get("currency")?;
            let currency = currency.as_deref().and_then(Currency::parse);
            let minor: Option<i64> = row.try_get("amount_minor")?;
            Ok(EventPayment {
                id: row.try_get("id")?,
                kind: row.try_get("kind")?,
                amount: minor.zip(currency).map(|(minor, currency)| Money { minor, currency }),
                occurred_at: Timestamp::from_ms(row.try_get("occurred_at_ms")?),
            })
        })
        .collect()
}

/// The events of a conversion in the order of arrival: those recorded with its ID, and those about
/// one of its objects.
pub(super) async fn of_conversion(
    store: &Store,
    conversion_id: &str,
) -> Result<Vec<StripeEventRow>> {
    let rows = sqlx::query(list!(
        "where e.id in (select id from stripe_events where conversion_id = $1
                        union
                        select s.id
                          from stripe_objects o
                          join stripe_events s on s.account = o.account and s.object_id = o.object_id
                         where o.conversion_id = $1 and o.role = 'identity')
         order by e.id"
    ))
    .bind(conversion_id)
    .fetch_all(store.pool())
    .await
    .context("could not list a conversion's Stripe events")?;
    rows.iter().map(read_row).collect()
}

/// Rejected webhooks of a site's sources since `since`, newest day first.
///
/// # Errors
/// If the database fails.
pub(crate) async fn rejections(
    store: &Store,
    site_id: &str,
    since: Timestamp,
) -> Result<Vec<Rejection>> {
    sqlx::query_as(
        "select source_id, day, reason, rejected, last_at_ms
           from stripe_rejections
          where source_id in (select id from sources where site_id = $1) and day >= $2
          order by day desc, rejected desc, reason",
    )
    .bind(site_id)
    .bind(since.as_ms().div_euclid(86_400_000))
    .fetch_all(store.pool())
    .await
    .context("could not list rejected webhooks")
}

fn read_row(row: &AnyRow) -> Result<StripeEventRow> {
    Ok(StripeEventRow {
        id: row.try_get("id")?,
        account: row.try_get("account")?,
        event_id: row.try_get("event_id")?,
        source_id: row.try_get("source_id")?,
        kind: row.try_get("type")?,
        object_id: row.try_get("object_id")?,
        livemode: row.try_get::<i64, _>("livemode")? == 1,
        api_version: row.try_get("api_version")?,
        created_at: row.try_get::<Option<i64>, _>("created_at_ms")?.map(Timestamp::from_ms),
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        origin: row.try_get("origin")?,
        state: row.try_get("state")?,
        reason: row.try_get("reason")?,
        error: row.try_get("error")?,
        summary: row.try_get("summary")?,
        note: row.try_get("note")?,
        conversion_id: row.try_get("conversion_id")?,
        attempts: row.try_get("attempts")?,
        processed_at: row.try_get::<Option<i64>, _>("processed_at_ms")?.map(Timestamp::from_ms),
        repeats: row.try_get("repeats")?,
    })
}
