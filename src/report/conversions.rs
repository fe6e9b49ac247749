//! Lists of conversions. Takes a filter and a cursor; returns a page of conversions, newest first,
//! each with its touchpoints and a summary of its deliveries.
//! Guarantees that a page costs a fixed number of statements, not one per row.

use std::collections::HashMap;

use anyhow::{Context as _, Result};

use super::filter::{DestinationKey, Filter as _, SiteKey, filter};
use super::money;
use super::page::{Cursor, FIFTY, MAX_LIMIT, Page};
use crate::clock::Timestamp;
use crate::domain::{
    ConversionKind, ConversionStatus, DeliveryReason, DeliveryState, MatchRule, MatchState,
    UnmatchedReason,
};
use crate::money::Money;
use crate::store::{FromRow, Statement, Store, from_row, sql};

filter! {
    /// Selects conversions; the default lists all.
    ConversionFilter {
        /// A site's key; by default all sites.
        site_id: SiteKey = "site";
        /// By default live and test.
        livemode: bool = "livemode" where "livemode = :livemode";
        /// purchase, renewal, trial, lead, or a custom event's name.
        kind: String = "kind" where "kind = :kind";
        /// Whether it is matched.
        match_state: MatchState = "match" where "match_state = :match_state";
        /// Why it is unmatched.
        reason: UnmatchedReason = "reason" where "match_reason = :reason";
        /// The status of the payment.
        status: ConversionStatus = "status" where "status = :status";
        /// True lists those that count in numbers, false those that do not, such as unpaid ones.
        paid: bool = "paid" where "(paid_at_ms is not null) = (:paid = 1)";
        /// Those with a delivery in this state.
        delivery_state: DeliveryState = "delivery";
        /// Those with a delivery to the destination of this key; if a state is given, in that state.
        destination: DestinationKey = "destination";
        /// Beginning of an email address, a transaction ID, a click ID or a reference.
        search: String = "search" where FOUND_BY;
        /// RFC 3339 or a date (UTC).
        from: Timestamp = "from" where "occurred_at_ms >= :from";
        /// The first instant after.
        to: Timestamp = "to" where "occurred_at_ms < :to";
    }
}

/// A conversion as lists show it: every column except the payment's JSON.
#[derive(Clone, Debug)]
pub(crate) struct ConversionRow {
    /// `cnv_…`.
    pub(crate) id: String,
    pub(crate) site_id: String,
    pub(crate) source_id: String,
    pub(crate) livemode: bool,
    /// purchase, renewal, trial, lead, or a custom name.
    pub(crate) kind: ConversionKind,
    pub(crate) status: ConversionStatus,
    pub(crate) occurred_at: Timestamp,
    /// When it was paid; `None` does not count in numbers.
    pub(crate) paid_at: Option<Timestamp>,
    /// The amount paid; `None` if no event stated it.
    pub(crate) amount: Option<Money>,
    pub(crate) refunded: Option<Money>,
    /// The amount that open disputes withhold.
    pub(crate) disputed: Option<Money>,
    /// The amount that lost disputes took.
    pub(crate) lost: Option<Money>,
    /// The transaction ID that destinations receive.
    pub(crate) transaction_id: String,
    /// The reference that Stripe returned.
    pub(crate) client_reference_id: Option<String>,
    pub(crate) email: Option<String>,
    /// What was bought.
    pub(crate) description: Option<String>,
    pub(crate) match_state: MatchState,
    /// The rule that found the visit.
    pub(crate) match_by: Option<MatchRule>,
    pub(crate) match_reason: Option<UnmatchedReason>,
    /// The click ID of the visit that it is matched to.
    pub(crate) click_id: Option<String>,
    /// Another conversion of the same customer, amount and day; this one may be its receipt.
    pub(crate) may_repeat: Option<String>,
    /// The postback source that reported it; `None` for Stripe's.
    pub(crate) reported_by: Option<String>,
    /// When we first received an event of it.
    pub(crate) recorded_at: Timestamp,
    /// The customer journey, first touch first.
    pub(crate) touches: Vec<Touch>,
    /// One for each destination and message, oldest first.
    pub(crate) deliveries: Vec<DeliverySummary>,
}

from_row!(ConversionRow |row| {
    id, site_id, source_id, livemode, kind, status, occurred_at, paid_at,
    amount: money(row, "amount_minor")?, refunded: money(row, "refunded_minor")?,
    disputed: money(row, "disputed_minor")?, lost: money(row, "lost_minor")?, transaction_id,
    client_reference_id, email, description, match_state, match_by, match_reason, click_id, may_repeat,
    reported_by, recorded_at, touches: Vec::new(), deliveries: Vec::new(),
});

impl ConversionRow {
    /// The touchpoint that gets the credit.
    pub(crate) fn last_touch(&self) -> Option<&Touch> {
        self.touches.iter().find(|touch| touch.is_last)
    }
}

/// One touchpoint of a customer journey.
#[derive(Clone, Debug)]
pub(crate) struct Touch {
    /// True for the touchpoint that gets the credit.
    pub(crate) is_last: bool,
    /// `ck_…`.
    pub(crate) click_id: String,
    pub(crate) at: Timestamp,
    pub(crate) channel: String,
    /// google, newsletter, …
    pub(crate) source: Option<String>,
    /// cpc, email, …
    pub(crate) medium: Option<String>,
    pub(crate) campaign: Option<String>,
    pub(crate) landing_path: Option<String>,
    /// phone, tablet, computer, bot, unknown.
    pub(crate) device: String,
}

from_row!(Touch |row| {
    is_last, click_id, at, channel, source, medium, campaign, landing_path, device,
});

/// The state of a delivery.
#[derive(Clone, Debug)]
pub(crate) struct DeliverySummary {
    /// `dlv_…`.
    pub(crate) id: String,
    /// The destination's short name.
    pub(crate) destination_key: String,
    pub(crate) destination_name: String,
    pub(crate) state: DeliveryState,
    pub(crate) reason: Option<DeliveryReason>,
    pub(crate) attempts: i64,
    pub(crate) last_status: Option<i64>,
    /// When the next attempt may start; meaningful while pending.
    pub(crate) due_at: Timestamp,
}

from_row!(DeliverySummary |row| {
    id, destination_key, destination_name, state, reason, attempts, last_status, due_at,
});

/// The columns that every query of conversions selects: all except the payment's JSON.
const CONVERSIONS: &str = "select id, site_id, source_id, livemode, kind, status, occurred_at_ms as occurred_at, paid_at_ms as paid_at, amount_minor, currency,
                refunded_minor, disputed_minor, lost_minor, transaction_id, client_reference_id, email, description, match_state, match_by,
                match_reason, click_id, recorded_at_ms as recorded_at,
                (select s.key from sources s where s.id = c.source_id and s.kind = 'custom') as reported_by,
                case when c.receipt_customer is null then null
                     else (select min(d.id)
                             from stripe_objects o
                             join conversions d on d.id = o.conversion_id
                            where o.account = c.account and o.object_id = c.receipt_customer and o.role = 'lineage'
                              and d.livemode = c.livemode and d.amount_minor = c.amount_minor and d.currency = c.currency
                              and d.occurred_at_ms between c.occurred_at_ms - 86400000 and c.occurred_at_ms + 86400000
                              and d.paid_at_ms is not null and d.kind = 'purchase' and d.receipt_customer is null)
                     end as may_repeat
               from conversions c";

/// A page of conversions, newest first; `limit` is clamped to 1–200.
pub(crate) async fn conversions(
    store: &Store,
    filter: &ConversionFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Page<ConversionRow>> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let mut rows = Vec::new();
    // The index begins with the site, so several sites are read one by one and merged.
    for site_id in site_ids(store, filter.site_id.as_deref()).await? {
        rows.extend(of_site(store, &site_id, filter, after, limit).await?);
    }
    rows.sort_by(|a, b| (b.occurred_at, &b.id).cmp(&(a.occurred_at, &a.id)));
    let mut page = Page::cut(rows, limit, |row| Cursor {
        number: row.occurred_at.as_ms(),
        text: row.id.clone(),
    });
    add_touches_and_deliveries(store, &mut page.rows).await?;
    Ok(page)
}

/// One conversion as lists show it.
pub(crate) async fn conversion_row(store: &Store, id: &str) -> Result<Option<ConversionRow>> {
    let found = sql(CONVERSIONS)
        .then("where id = :id")
        .set("id", id)
        .optional(store.pool())
        .await
        .context("could not read a conversion")?;
    let Some(found) = found else { return Ok(None) };
    let mut rows = [found];
    add_touches_and_deliveries(store, &mut rows).await?;
    let [row] = rows;
    Ok(Some(row))
}

async fn site_ids(store: &Store, only: Option<&str>) -> Result<Vec<String>> {
    if let Some(id) = only {
        return Ok(vec![id.to_owned()]);
    }
    sql("select id from sites").values(store.pool()).await.context("could not list sites")
}

/// The condition of a search: a whole conversion ID, or the prefix of anything else.
const FOUND_BY: &str = "(substr(lower(email), 1, length(:search)) = lower(:search)
    or substr(transaction_id, 1, length(:search)) = :search
    or substr(client_reference_id, 1, length(:search)) = :search
    or substr(click_id, 1, length(:search)) = :search
    or id = :search)";

async fn of_site(
    store: &Store,
    site_id: &str,
    filter: &ConversionFilter,
    after: Option<&Cursor>,
    limit: i64,
) -> Result<Vec<ConversionRow>> {
    let list = sql(CONVERSIONS).then("where site_id = :site_id").set("site_id", site_id);
    let mut list = filter.conditions(list);
    if filter.delivery_state.is_some() || filter.destination.is_some() {
        list = list
            .then("and exists (select 1 from deliveries d where d.conversion_id = c.id")
            .and("d.state = :delivery_state", filter.delivery_state)
            .and("d.destination_id = :destination", filter.destination.as_ref())
            .then(")");
    }
    if let Some(cursor) = after {
        list = list
            .then("and occurred_at_ms <= :at and (occurred_at_ms < :at or id < :id)")
            .set("at", cursor.number)
            .set("id", &cursor.text);
    }
    list.then("order by occurred_at_ms desc, id desc limit :limit")
        .set("limit", limit + 1)
        .all(store.pool())
        .await
        .context("could not list conversions")
}

async fn add_touches_and_deliveries(store: &Store, rows: &mut [ConversionRow]) -> Result<()> {
    for fifty in rows.chunks_mut(FIFTY) {
        let ids: Vec<String> = fifty.iter().map(|row| row.id.clone()).collect();
        let touches = sql(
            "select conversion_id, is_last, click_id, at_ms as at, channel, source, medium, campaign,
                    landing_path, device
               from touches
              where conversion_id in (:ids)
              order by conversion_id, position",
        );
        let deliveries = sql(
            "select d.conversion_id, d.id, t.key as destination_key, t.name as destination_name,
                    d.state, d.reason, d.attempts, d.last_status, d.due_at_ms as due_at
               from deliveries d
               join destinations t on t.id = d.destination_id
              where d.conversion_id in (:ids)
              order by d.created_at_ms, d.id",
        );
        let mut touches = by_conversion(store, touches, &ids).await?;
        let mut deliveries = by_conversion(store, deliveries, &ids).await?;
        for row in fifty {
            row.touches = touches.remove(&row.id).unwrap_or_default();
            row.deliveries = deliveries.remove(&row.id).unwrap_or_default();
        }
    }
    Ok(())
}

/// The rows of a statement for at most fifty conversions.
async fn by_conversion<T: FromRow>(
    store: &Store,
    statement: Statement,
    ids: &[String],
) -> Result<HashMap<String, Vec<T>>> {
    let rows = statement.set_list("ids", ids, FIFTY).fetch_all(store.pool()).await;
    let mut found = HashMap::<String, Vec<T>>::new();
    for row in &rows.context("could not list what belongs to conversions")? {
        found.entry(row.get("conversion_id")?).or_default().push(T::from_row(row)?);
    }
    Ok(found)
}
