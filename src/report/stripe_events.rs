//! Stripe events as received. Takes a filter and a cursor; returns pages of events, one event with
//! its raw body, and counts of rejected webhooks. Guarantees that lists never read a body, and that
//! an event's body is returned byte for byte.

use anyhow::{Context as _, Result};

use super::filter::{Filter as _, SiteKey, filter};
use super::money;
use super::page::{AFTER_ALL_IDS, Cursor, MAX_LIMIT, Page};
use crate::clock::Timestamp;
use crate::domain::{ConversionKind, EventOrigin, EventState};
use crate::money::Money;
use crate::store::{FromRow as _, Row, Statement, Store, from_row, sql};

/// Maximum number of a subscription's payments that are shown for its event.
const MAX_PAYMENTS: i64 = 24;

filter! {
    /// Selects Stripe events; the default lists all.
    EventFilter {
        /// The state of the event.
        state: EventState = "state" where "e.state = :state";
        /// Stripe's type, whole, for example checkout.session.completed.
        kind: String = "type" where "e.type = :kind";
        /// A site's key; by default all sites.
        site_id: SiteKey = "site"
            // Not a bare column: by its index, all events of the source would be read and sorted.
            where "coalesce(e.source_id, '') in (select id from sources where site_id = :site_id)";
        /// By default live and test.
        livemode: bool = "livemode" where "e.livemode = :livemode";
    }
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
    pub(crate) source_id: String,
    /// Stripe's type: `checkout.session.completed`.
    pub(crate) kind: String,
    /// The object it is about: `cs_…`, `in_…`, …
    pub(crate) object_id: String,
    pub(crate) livemode: bool,
    pub(crate) api_version: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) received_at: Timestamp,
    pub(crate) origin: EventOrigin,
    /// What has become of it.
    pub(crate) state: EventState,
    /// Why it was ignored.
    pub(crate) reason: Option<String>,
    pub(crate) error: Option<String>,
    /// A summary of its content.
    pub(crate) summary: Option<String>,
    /// What it changed.
    pub(crate) note: Option<String>,
    /// `cnv_…`, if it belongs to a conversion.
    pub(crate) conversion_id: Option<String>,
    /// How often it was processed.
    pub(crate) attempts: i64,
    pub(crate) processed_at: Option<Timestamp>,
    /// How often the same event was received again.
    pub(crate) repeats: i64,
}

from_row!(StripeEventRow |row| {
    id, account, event_id, source_id, kind, object_id, livemode, api_version, created_at, received_at,
    origin, state, reason, error, summary, note, conversion_id, attempts, processed_at, repeats,
});

/// One Stripe event with its raw body.
#[derive(Clone, Debug)]
pub(crate) struct StripeEvent {
    pub(crate) row: StripeEventRow,
    /// The index of the signing secret that verified it; -1 for events that we fetched from Stripe.
    pub(crate) secret_position: i64,
    /// The results of requesting objects that the event needs and that were missing, such as the
    /// payment's checkout session.
    pub(crate) lookup: Option<String>,
    /// The conversions that its object belongs to, oldest first.
    pub(crate) payments: Vec<EventPayment>,
    pub(crate) body: Vec<u8>,
}

/// A conversion that an event's object belongs to.
#[derive(Clone, Debug)]
pub(crate) struct EventPayment {
    /// `cnv_…`.
    pub(crate) id: String,
    pub(crate) kind: ConversionKind,
    /// What was paid, if known.
    pub(crate) amount: Option<Money>,
    pub(crate) occurred_at: Timestamp,
}

from_row!(EventPayment |row| { id, kind, amount: money(row, "amount_minor")?, occurred_at });

/// Rejected webhooks of one day and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
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

from_row!(Rejection { source_id, day, reason, rejected, last_at_ms });

/// The columns of all lists of events: all but the body.
const COLUMNS: &str = "select e.id, e.account, e.event_id, e.source_id, e.type as kind, e.object_id, e.livemode, e.api_version,
            e.created_at_ms as created_at, e.received_at_ms as received_at, e.origin, e.state, e.reason, e.error, e.summary, e.note,
            e.attempts, e.processed_at_ms as processed_at, e.repeats,
            coalesce((select c.id
                        from stripe_objects o
                        join conversions c on c.id = o.conversion_id
                       where o.account = e.account and o.object_id = e.object_id and o.role = 'identity'),
                     (select c.id from conversions c where c.id = e.conversion_id)) as conversion_id";

/// A list of events, to be followed by its conditions.
fn list() -> Statement {
    sql(COLUMNS).then("from stripe_events e")
}

/// A page of Stripe events, newest first; `limit` is held between 1 and 200.
pub(crate) async fn stripe_events(
    store: &Store,
    filter: &EventFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<StripeEventRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let rows = newest(filter, after, limit).all(store.pool()).await;
    let rows = rows.context("could not list Stripe events")?;
    Ok(Page::cut(rows, limit, |row: &StripeEventRow| Cursor {
        number: row.received_at.as_ms(),
        text: row.id.clone(),
    }))
}

/// The newest events first, one more than `limit`. IDs sort by time.
pub(super) fn newest(filter: &EventFilter, after: Option<&Cursor>, limit: i64) -> Statement {
    let list = list()
        .then("where e.id < :after")
        .set("after", after.map_or(AFTER_ALL_IDS, |cursor| &cursor.text));
    filter.conditions(list).then("order by e.id desc limit :limit").set("limit", limit + 1)
}

/// One Stripe event with its raw body.
pub(crate) async fn stripe_event(store: &Store, id: &str) -> Result<Option<StripeEvent>> {
    let row = sql(COLUMNS)
        .then(", e.secret_position, e.body from stripe_events e where e.id = :id")
        .set("id", id)
        .fetch_optional(store.pool())
        .await
        .context("could not find a Stripe event")?;
    let Some(row) = row else { return Ok(None) };
    let said: Vec<String> =
        sql("select said from stripe_lookups where event_id = :event_id order by subject")
            .set("event_id", id)
            .values(store.pool())
            .await
            .context("could not read the requests to Stripe")?;
    Ok(Some(StripeEvent {
        lookup: Some(said.join(" ")).filter(|said| !said.is_empty()),
        payments: payments(store, &row).await?,
        row: StripeEventRow::from_row(&row)?,
        secret_position: row.get("secret_position")?,
        body: row.get("body")?,
    }))
}

/// Events of a source that are held: how many, and the newest.
pub(crate) struct HeldEvents {
    pub(crate) count: i64,
    pub(crate) newest: Vec<StripeEventRow>,
}

/// The held events of a source.
pub(crate) async fn held_events(store: &Store, source_id: &str, limit: i64) -> Result<HeldEvents> {
    let count = sql("select count(*) from stripe_events where state = 'held' and source_id = :id")
        .set("id", source_id)
        .value(store.pool())
        .await
        .context("could not count held events")?;
    let newest = list()
        .then("where e.state = 'held' and e.source_id = :id order by e.id desc limit :limit")
        .set("id", source_id)
        .set("limit", limit)
        .all(store.pool())
        .await
        .context("could not list held events")?;
    Ok(HeldEvents { count, newest })
}

/// The conversions of the event's object: its payment, or those of its subscription.
async fn payments(store: &Store, event: &Row) -> Result<Vec<EventPayment>> {
    sql("select distinct c.id, c.kind, c.amount_minor, c.currency, c.occurred_at_ms as occurred_at
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = :account and o.object_id = :object_id
          order by c.occurred_at_ms, c.id
          limit :max_payments")
    .set("account", event.get::<String>("account")?)
    .set("object_id", event.get::<String>("object_id")?)
    .set("max_payments", MAX_PAYMENTS)
    .all(store.pool())
    .await
    .context("could not list the payments of an event's object")
}

/// The events of a conversion in the order of arrival: those recorded with its ID, and those about
/// one of its objects.
pub(super) async fn of_conversion(
    store: &Store,
    conversion_id: &str,
) -> Result<Vec<StripeEventRow>> {
    list()
        .then("where e.id in (select id from stripe_events where conversion_id = :conversion_id
                        union
                        select s.id
                          from stripe_objects o
                          join stripe_events s on s.account = o.account and s.object_id = o.object_id
                         where o.conversion_id = :conversion_id and o.role = 'identity')
         order by e.id")
        .set("conversion_id", conversion_id)
    .all(store.pool())
    .await
    .context("could not list a conversion's Stripe events")
}

/// Rejected webhooks of a site's sources since `since`, newest day first.
pub(crate) async fn rejections(
    store: &Store,
    site_id: &str,
    since: Timestamp,
) -> Result<Vec<Rejection>> {
    sql("select source_id, day, reason, rejected, last_at_ms
           from stripe_rejections
          where source_id in (select id from sources where site_id = :site_id) and day >= :day
          order by day desc, rejected desc, reason")
    .set("site_id", site_id)
    .set("day", since.as_ms().div_euclid(86_400_000))
    .all(store.pool())
    .await
    .context("could not list rejected webhooks")
}
