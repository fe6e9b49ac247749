//! The shapes of the answers.
//! In: what `report` found, and the settings, whose keys stand in for record IDs. Out: JSON.
//! Promise: field names and words are the contract; amounts are exact decimal text, times RFC 3339 in UTC to the second.

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::clock::Timestamp;
use crate::money::{Money, Totals};
use crate::report::{self, Share};
use crate::settings::{self, DestinationKind, Snapshot, SourceKind};

/// A list and where its next page begins.
#[derive(Serialize, ToSchema)]
pub(super) struct List<T> {
    /// In the list's order.
    pub(super) data: Vec<T>,
    /// Goes into `cursor=` for the next page; null when these are the last.
    pub(super) next: Option<String>,
}

impl<T> List<T> {
    /// A list that has no further page.
    pub(super) fn whole(data: Vec<T>) -> Self {
        Self { data, next: None }
    }

    /// A page of a list.
    pub(super) fn page<R>(page: report::Page<R>, shape: impl Fn(R) -> T) -> Self {
        let next = page.next.map(|cursor| cursor.to_string());
        Self { data: page.rows.into_iter().map(shape).collect(), next }
    }
}

/// A number from 0 to 1 with at most four decimals, written from integers; rounded down, so that 1 means all.
pub(super) struct Rate(i64);

impl Rate {
    fn of(share: Share) -> Option<Self> {
        share.per_ten_thousand().map(Self)
    }

    fn decimal(&self) -> String {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.decimal()).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl PartialSchema for Rate {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number);
        number.minimum(Some(0_i32)).maximum(Some(1_i32)).into()
    }
}

impl ToSchema for Rate {}

/// An amount in one currency.
#[derive(Serialize, ToSchema)]
pub(super) struct Amount {
    /// Three letters.
    #[schema(example = "USD")]
    currency: String,
    /// Exact decimal text in the currency's own precision.
    #[schema(example = "102.60")]
    amount: String,
}

fn amounts(totals: &Totals) -> Vec<Amount> {
    let amount = |sum: Money| Amount { currency: code(sum), amount: sum.decimal() };
    totals.iter().map(amount).collect()
}

fn code(money: Money) -> String {
    money.currency.code().to_owned()
}

fn time(at: Timestamp) -> String {
    at.to_rfc3339()
}

/// The numbers of a period.
#[derive(Serialize, ToSchema)]
pub(super) struct Overview {
    /// The site's key.
    site: String,
    /// Live or test payments.
    livemode: bool,
    /// Belongs to the period.
    from: String,
    /// The first instant after it.
    to: String,
    /// Without bots.
    visits: i64,
    /// Paid ones.
    conversions: i64,
    /// Those with a visit.
    matched: i64,
    /// What was paid, by currency.
    revenue: Vec<Amount>,
    /// What of it was given back.
    refunded: Vec<Amount>,
    /// Matched conversions of all; null when there are none.
    match_rate: Option<Rate>,
    /// Accepted deliveries of all that are or were owed; null when there are none.
    delivered_rate: Option<Rate>,
}

impl Overview {
    pub(super) fn new(
        found: &report::Overview,
        period: report::Period,
        site: &settings::Site,
        livemode: bool,
    ) -> Self {
        Self {
            site: site.key.clone(),
            livemode,
            from: time(period.from),
            to: time(period.to),
            visits: found.visits,
            conversions: found.conversions,
            matched: found.matched,
            revenue: amounts(&found.gross),
            refunded: amounts(&found.refunded),
            match_rate: Rate::of(found.match_rate),
            delivered_rate: Rate::of(found.delivered_rate),
        }
    }
}

/// One conversion.
#[derive(Serialize, ToSchema)]
pub(super) struct Conversion {
    /// `cnv_…`.
    id: String,
    /// The site's key.
    site: String,
    /// The source's key.
    source: String,
    /// purchase, renewal, trial, lead, or a custom event name.
    kind: String,
    /// pending, paid, failed, partially_refunded, refunded, disputed.
    status: String,
    /// Live or test.
    livemode: bool,
    /// When it happened.
    occurred_at: String,
    /// Exact decimal text; null where no event told.
    amount: Option<String>,
    /// Three letters; null where no event told.
    currency: Option<String>,
    /// What was given back.
    refunded: Option<String>,
    /// What destinations know it by.
    transaction_id: String,
    /// What Stripe brought back.
    client_reference_id: Option<String>,
    /// The buyer's address.
    email: Option<String>,
    /// The answer of the join.
    #[serde(rename = "match")]
    joined: Match,
    /// The visitor's way, first touch first.
    touches: Vec<Touch>,
    /// What became of its deliveries.
    deliveries: Vec<ConversionDelivery>,
}

/// The answer of the join.
#[derive(Serialize, ToSchema)]
struct Match {
    /// matched, unmatched.
    state: String,
    /// click_id, anytrack_click_id, metadata, stripe_object, email.
    by: Option<String>,
    /// Why unmatched.
    reason: Option<String>,
    /// Of the visit it is matched to.
    click_id: Option<String>,
}

/// One step of a visitor's way.
#[derive(Serialize, ToSchema)]
struct Touch {
    /// `ck_…`.
    click_id: String,
    /// When.
    at: String,
    /// google, newsletter, …
    source: Option<String>,
    /// cpc, email, …
    medium: Option<String>,
    /// The campaign's name.
    campaign: Option<String>,
    /// The path of the page.
    landing_path: Option<String>,
}

/// What became of one delivery.
#[derive(Serialize, ToSchema)]
struct ConversionDelivery {
    /// `dlv_…`.
    id: String,
    /// The destination's key.
    destination: String,
    /// pending, delivered, given_up, held, skipped.
    state: String,
    /// Why given up or skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Tries so far.
    attempts: i64,
    /// HTTP status of the last answer.
    last_status: Option<i64>,
}

impl Conversion {
    pub(super) fn new(found: report::ConversionRow, settings: &Snapshot) -> Self {
        let touch = |touch: report::Touch| Touch {
            click_id: touch.click_id,
            at: time(touch.at),
            source: touch.source,
            medium: touch.medium,
            campaign: touch.campaign,
            landing_path: touch.landing_path,
        };
        let delivery = |delivery: report::DeliverySummary| ConversionDelivery {
            id: delivery.id,
            destination: delivery.destination_key,
            state: delivery.state,
            reason: delivery.reason,
            attempts: delivery.attempts,
            last_status: delivery.last_status,
        };
        Self {
            id: found.id,
            site: site_key(settings, found.site_id),
            source: source_key(settings, found.source_id),
            kind: found.kind,
            status: found.status,
            livemode: found.livemode,
            occurred_at: time(found.occurred_at),
            amount: found.amount.map(Money::decimal),
            currency: found.refunded.or(found.amount).map(code),
            refunded: found.refunded.map(Money::decimal),
            transaction_id: found.transaction_id,
            client_reference_id: found.client_reference_id,
            email: found.email,
            joined: Match {
                state: found.match_state,
                by: found.match_by,
                reason: found.match_reason,
                click_id: found.click_id,
            },
            touches: found.touches.into_iter().map(touch).collect(),
            deliveries: found.deliveries.into_iter().map(delivery).collect(),
        }
    }
}

/// A record created a moment ago on another replica may not be in memory yet: its ID is better than nothing.
fn site_key(settings: &Snapshot, id: String) -> String {
    settings.site(&id).map_or(id, |site| site.key.clone())
}

fn source_key(settings: &Snapshot, id: String) -> String {
    settings.source(&id).map_or(id, |source| source.key.clone())
}

/// A click ID with its visits and what they led to. The fields of the first visit stand beside the list.
#[derive(Serialize, ToSchema)]
pub(super) struct Visit {
    /// `ck_…`; where an alias was asked for, the signed one it stands for.
    click_id: String,
    /// AnyTrack click IDs captured beside it.
    anytrack_click_ids: Vec<String>,
    #[serde(flatten)]
    first: OneVisit,
    /// All of them, oldest first.
    visits: Vec<OneVisit>,
    /// What they led to, newest first.
    conversions: Vec<VisitedConversion>,
}

/// One visit.
#[derive(Clone, Serialize, ToSchema)]
struct OneVisit {
    /// The site's key.
    site: String,
    /// When.
    at: String,
    /// The client-made click ID that this one stands for.
    alias: Option<String>,
    /// The click ID before this visit.
    previous_click_id: Option<String>,
    /// The page's address.
    url: Option<String>,
    /// Where the visitor came from.
    referrer: Option<String>,
    /// Kind of traffic.
    channel: String,
    /// google, newsletter, …
    source: Option<String>,
    /// cpc, email, …
    medium: Option<String>,
    /// The campaign's name.
    campaign: Option<String>,
    /// The path of the page.
    landing_path: Option<String>,
    /// phone, tablet, computer, bot, unknown.
    device: String,
    /// Ad click IDs, further UTMs, ad cookies, language, browser, tag host.
    #[schema(value_type = Object)]
    details: Option<Box<RawValue>>,
}

/// A conversion that a visit led to.
#[derive(Serialize, ToSchema)]
struct VisitedConversion {
    /// `cnv_…`.
    id: String,
    /// When it happened.
    occurred_at: String,
    /// purchase, renewal, trial, lead, or a custom event name.
    kind: String,
    /// pending, paid, failed, partially_refunded, refunded, disputed.
    status: String,
    /// Live or test.
    livemode: bool,
    /// Exact decimal text.
    amount: Option<String>,
    /// Three letters.
    currency: Option<String>,
}

impl Visit {
    /// `None` only if there is no visit at all, which `report` never answers.
    pub(super) fn new(found: report::Visit, settings: &Snapshot) -> Option<Self> {
        let visits: Vec<OneVisit> =
            found.visits.into_iter().map(|visit| OneVisit::new(visit, settings)).collect();
        let conversion = |conversion: report::VisitedConversion| VisitedConversion {
            id: conversion.id,
            occurred_at: time(conversion.occurred_at),
            kind: conversion.kind,
            status: conversion.status,
            livemode: conversion.livemode,
            amount: conversion.amount.map(Money::decimal),
            currency: conversion.amount.map(code),
        };
        Some(Self {
            click_id: found.click_id,
            anytrack_click_ids: found.anytrack_click_ids,
            first: visits.first()?.clone(),
            visits,
            conversions: found.conversions.into_iter().map(conversion).collect(),
        })
    }
}

impl OneVisit {
    fn new(found: report::VisitRow, settings: &Snapshot) -> Self {
        Self {
            site: site_key(settings, found.site_id),
            at: time(found.at),
            alias: found.alias,
            previous_click_id: found.previous_click_id,
            url: found.url,
            referrer: found.referrer,
            channel: found.channel,
            source: found.source,
            medium: found.medium,
            campaign: found.campaign,
            landing_path: found.landing_path,
            device: found.device,
            details: RawValue::from_string(found.details).ok(),
        }
    }
}

/// One Stripe event as received; its body stays on the dashboard.
#[derive(Serialize, ToSchema)]
pub(super) struct StripeEvent {
    /// `sev_…`.
    id: String,
    /// Stripe's `evt_…`.
    event_id: String,
    /// Stripe's type.
    #[serde(rename = "type")]
    #[schema(example = "checkout.session.completed")]
    kind: String,
    /// What it is about: `cs_…`, `in_…`, …
    object_id: String,
    /// `acct_…`, or empty for the source's own.
    account: String,
    /// The source's key.
    source: String,
    /// Live or test.
    livemode: bool,
    /// Of Stripe's API.
    api_version: Option<String>,
    /// Stripe's time.
    created_at: Option<String>,
    /// Ours.
    received_at: String,
    /// webhook, backfill, fetched.
    origin: String,
    /// received, processed, ignored, failed.
    state: String,
    /// Why ignored.
    reason: Option<String>,
    /// Why failed.
    error: Option<String>,
    /// What it changed.
    note: Option<String>,
    /// `cnv_…`, where it belongs to one.
    conversion_id: Option<String>,
    /// How often it was processed.
    attempts: i64,
    /// How often the same event came again.
    repeats: i64,
}

impl StripeEvent {
    pub(super) fn new(found: report::StripeEventRow, settings: &Snapshot) -> Self {
        Self {
            id: found.id,
            event_id: found.event_id,
            kind: found.kind,
            object_id: found.object_id,
            account: found.account,
            source: source_key(settings, found.source_id),
            livemode: found.livemode,
            api_version: found.api_version,
            created_at: found.created_at.map(time),
            received_at: time(found.received_at),
            origin: found.origin,
            state: found.state,
            reason: found.reason,
            error: found.error,
            note: found.note,
            conversion_id: found.conversion_id,
            attempts: found.attempts,
            repeats: found.repeats,
        }
    }
}

/// One delivery.
#[derive(Serialize, ToSchema)]
pub(super) struct Delivery {
    /// `dlv_…`.
    id: String,
    /// The destination's key.
    destination: String,
    /// `cnv_…`.
    conversion_id: String,
    /// What the destination knows the conversion by.
    transaction_id: String,
    /// The destination's name for what happened.
    event_name: String,
    /// Live or test.
    livemode: bool,
    /// pending, delivered, given_up, held, skipped.
    state: String,
    /// Why given up or skipped.
    reason: Option<String>,
    /// Tries so far.
    attempts: i64,
    /// HTTP status of the last answer.
    last_status: Option<i64>,
    /// What went wrong last.
    last_error: Option<String>,
    /// Since when it is owed.
    created_at: String,
    /// When the next try may start; null unless pending.
    due_at: Option<String>,
    /// When it ended.
    settled_at: Option<String>,
    /// The conversion's amount: exact decimal text.
    amount: Option<String>,
    /// Three letters.
    currency: Option<String>,
}

impl Delivery {
    pub(super) fn new(found: report::DeliveryRow) -> Self {
        let is_pending = found.state == "pending";
        Self {
            id: found.id,
            destination: found.destination_key,
            conversion_id: found.conversion_id,
            transaction_id: found.transaction_id,
            event_name: found.event_name,
            livemode: found.livemode,
            state: found.state,
            reason: found.reason,
            attempts: found.attempts,
            last_status: found.last_status,
            last_error: found.last_error,
            created_at: time(found.created_at),
            due_at: is_pending.then(|| time(found.due_at)),
            settled_at: found.settled_at.map(time),
            amount: found.amount.map(Money::decimal),
            currency: found.amount.map(code),
        }
    }
}

/// One site.
#[derive(Serialize, ToSchema)]
pub(super) struct Site {
    /// Stands in the URL of its tag.
    key: String,
    /// What people call it.
    name: String,
    /// IANA name.
    timezone: String,
    /// The currency that charts show first.
    currency: String,
    /// Host names of its pages; empty accepts all.
    domains: Vec<String>,
}

impl Site {
    pub(super) fn new(found: &settings::Site) -> Self {
        Self {
            key: found.key.clone(),
            name: found.name.clone(),
            timezone: found.timezone.clone(),
            currency: found.currency.code().to_owned(),
            domains: found.domains.clone(),
        }
    }
}

/// One source.
#[derive(Serialize, ToSchema)]
pub(super) struct Source {
    /// Stands in the webhook's URL.
    key: String,
    /// The site's key.
    site: String,
    /// stripe, custom.
    kind: &'static str,
    /// Key of Stripe's metadata that may hold a click ID.
    metadata_key: String,
    /// How many signing secrets it has; the secrets themselves are never shown.
    secrets: usize,
}

impl Source {
    pub(super) fn new(found: &settings::Source, settings: &Snapshot) -> Self {
        Self {
            key: found.key.clone(),
            site: site_key(settings, found.site_id.clone()),
            kind: match found.kind {
                SourceKind::Stripe => "stripe",
                SourceKind::Custom => "custom",
            },
            metadata_key: found.metadata_key.clone(),
            secrets: found.secrets.len(),
        }
    }
}

/// One destination.
#[derive(Serialize, ToSchema)]
pub(super) struct Destination {
    /// Its short name.
    key: String,
    /// The site's key.
    site: String,
    /// anytrack.
    kind: &'static str,
    /// What people call it.
    name: String,
    /// Where to send, masked.
    #[schema(example = "https://t1.anytrack.io/…k7Qe")]
    url: String,
    /// False holds everything owed to it.
    enabled: bool,
    /// True sends test-mode conversions too.
    accepts_test: bool,
}

impl Destination {
    pub(super) fn new(found: &settings::Destination, settings: &Snapshot) -> Self {
        Self {
            key: found.key.clone(),
            site: site_key(settings, found.site_id.clone()),
            kind: match found.kind {
                DestinationKind::AnyTrack => "anytrack",
            },
            name: found.name.clone(),
            url: settings::mask_url(&found.url),
            enabled: found.enabled,
            accepts_test: found.accepts_test,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_an_exact_number() {
        let rows = [
            (0, 4, "0"),
            (1, 1, "1"),
            (1, 2, "0.5"),
            (1, 3, "0.3333"),
            (2, 3, "0.6666"),
            (9_999_999, 10_000_000, "0.9999"),
            (1, 10_000, "0.0001"),
            (1, 10, "0.1"),
        ];
        for (part, whole, expected) in rows {
            let rate = Rate::of(Share { part, whole });
            assert_eq!(serde_json::to_string(&rate).unwrap(), expected, "{part} of {whole}");
        }
        assert_eq!(serde_json::to_string(&Rate::of(Share::default())).unwrap(), "null");
    }
}
