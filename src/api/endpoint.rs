//! The handlers of the API: read the query, call one module, respond.
//! Takes proof of a token and parameters; returns the types in `answers`.
//! Guarantees that no handler accesses a table, and that a missing record is a 404.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::access::Access;
use super::answers::{
    Conversion, Delivery, Destination, Link, List, Overview, Site, Source, StripeEvent, Visit,
};
use super::parameters::Parameters;
use super::problem::Problem;
use crate::delivery::{self, Retried};
use crate::domain::{
    ConversionStatus, DeliveryReason, DeliveryState, EventState, MatchState, UnmatchedReason,
};
use crate::error::AppError;
use crate::report::{
    self, ConversionFilter, DeliveryFilter, DestinationTotals, Dimension, EventFilter, Scope,
};
use crate::settings;
use crate::state::AppState;

/// The parameters of each list; a test compares them with the schema.
pub(super) const PARAMETERS: [(&str, &[&str]); 10] = [
    ("/overview", &["from", "to", "site", "livemode"]),
    (
        "/conversions",
        &[
            "site", "livemode", "kind", "match", "reason", "status", "delivery", "destination",
            "search", "from", "to", "cursor", "limit",
        ],
    ),
    ("/conversions/{id}", &[]),
    ("/visits/{click_id}", &[]),
    ("/stripe-events", &["state", "type", "site", "livemode", "cursor", "limit"]),
    ("/deliveries", &["state", "reason", "destination", "site", "livemode", "cursor", "limit"]),
    ("/sites", &[]),
    ("/links", &[]),
    ("/sources", &[]),
    ("/destinations", &[]),
];

/// The parameters of a path.
fn known(path: &str) -> &'static [&'static str] {
    PARAMETERS.iter().find(|(known, _)| *known == path).map_or(&[], |(_, names)| names)
}

/// The result of a handler.
type Answer<T> = Result<Json<T>, AppError>;

/// The numbers of a period.
#[utoipa::path(
    get, path = "/overview",
    params(
        ("from" = Option<String>, Query, description = "RFC 3339 or a date (UTC); by default 30 days ago"),
        ("to" = Option<String>, Query, description = "the first instant after the period; by default now"),
        ("site" = Option<String>, Query, description = "a site's key; by default the first site"),
        ("livemode" = Option<bool>, Query, description = "false counts test payments; by default live ones"),
    ),
    responses((status = 200, body = Overview), (status = "4XX", body = Problem, content_type = "application/problem+json")),
)]
pub(super) async fn read_overview(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<Overview> {
    let given = given.only(known("/overview"))?;
    let settings = state.settings.current();
    let period = given.period(state.clock.now())?;
    let site = given.site(&settings)?.or(settings.sites.first());
    let site = site.ok_or_else(|| AppError::not_found("There is no site yet."))?;
    let livemode = given.flag("livemode")?.unwrap_or(true);
    let scope = Scope { site_id: site.id.clone(), livemode };
    let found = report::overview(&state.store, &scope, period).await?;
    let delivered = report::delivered_rate(&state.store, &scope, period).await?;
    let ranking = |by| report::ranking(&state.store, &scope, period, by, site.currency);
    let by_source = ranking(Dimension::Source).await?;
    let by_campaign = ranking(Dimension::Campaign).await?;
    let rankings = [&by_source, &by_campaign];
    Ok(Json(Overview::new(&found, rankings, delivered, period, site, livemode)))
}

/// Conversions, newest first.
#[utoipa::path(
    get, path = "/conversions",
    params(
        ("site" = Option<String>, Query, description = "a site's key; by default all sites"),
        ("livemode" = Option<bool>, Query, description = "by default live and test"),
        ("kind" = Option<String>, Query, description = "purchase, renewal, trial, lead, or a custom event's name"),
        ("match" = Option<MatchState>, Query, description = "whether it is matched"),
        ("reason" = Option<UnmatchedReason>, Query, description = "why unmatched"),
        ("status" = Option<ConversionStatus>, Query, description = "the status of the payment"),
        ("delivery" = Option<DeliveryState>, Query, description = "those with a delivery in this state"),
        ("destination" = Option<String>, Query, description = "those with a delivery to the destination of this key"),
        ("search" = Option<String>, Query, description = "beginning of an email address, a transaction ID, a click ID or a reference"),
        ("from" = Option<String>, Query, description = "RFC 3339 or a date (UTC)"),
        ("to" = Option<String>, Query, description = "the first instant after"),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier answer"),
        ("limit" = Option<i64>, Query, description = "1 to 200; by default 50"),
    ),
    responses((status = 200, body = List<Conversion>), (status = "4XX", body = Problem, content_type = "application/problem+json")),
)]
pub(super) async fn list_conversions(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<Conversion>> {
    let given = given.only(known("/conversions"))?;
    let settings = state.settings.current();
    let filter = ConversionFilter {
        site_id: given.site(&settings)?.map(|site| site.id.clone()),
        livemode: given.flag("livemode")?,
        match_state: given.word("match")?,
        reason: given.word("reason")?,
        delivery_state: given.word("delivery")?,
        status: given.word("status")?,
        kind: given.text("kind")?,
        destination_id: given.destination(&settings)?,
        only_paid: false,
        search: given.text("search")?,
        from: given.time("from")?,
        to: given.time("to")?,
    };
    let (cursor, limit) = (given.cursor()?, given.limit()?);
    let page = report::conversions(&state.store, &filter, cursor.as_ref(), limit).await?;
    Ok(Json(List::page(page, |row| Conversion::new(row, &settings))))
}

/// One conversion.
#[utoipa::path(
    get, path = "/conversions/{id}",
    params(("id" = String, Path, description = "`cnv_…`")),
    responses((status = 200, body = Conversion), (status = "4XX", body = Problem, content_type = "application/problem+json")),
)]
pub(super) async fn read_conversion(
    _: Access,
    State(state): State<AppState>,
    Path(id): Path<String>,
    given: Parameters,
) -> Answer<Conversion> {
    given.only(known("/conversions/{id}"))?;
    let found = report::conversion_row(&state.store, without_nul(&id)?).await?;
    let found = found.ok_or_else(|| AppError::not_found("There is no conversion with this ID."))?;
    Ok(Json(Conversion::new(found, &state.settings.current())))
}

/// A click ID with its visits and conversions.
#[utoipa::path(
    get, path = "/visits/{click_id}",
    params(("click_id" = String, Path, description = "`ck_…`, also a client-made one")),
    responses((status = 200, body = Visit), (status = "4XX", body = Problem, content_type = "application/problem+json")),
)]
pub(super) async fn read_visit(
    _: Access,
    State(state): State<AppState>,
    Path(click_id): Path<String>,
    given: Parameters,
) -> Answer<Visit> {
    given.only(known("/visits/{click_id}"))?;
    let found = report::visit(&state.store, without_nul(&click_id)?).await?;
    let visit = found.and_then(|found| Visit::new(found, &state.settings.current()));
    let missing = || AppError::not_found("There is no visit with this click ID.");
    visit.map(Json).ok_or_else(missing)
}

/// Stripe events as received, newest first.
#[utoipa::path(
    get, path = "/stripe-events",
    params(
        ("state" = Option<EventState>, Query, description = "the state of the event"),
        ("type" = Option<String>, Query, description = "Stripe's type, whole"),
        ("site" = Option<String>, Query, description = "a site's key; by default all sites"),
        ("livemode" = Option<bool>, Query, description = "by default live and test"),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier answer"),
        ("limit" = Option<i64>, Query, description = "1 to 200; by default 50"),
    ),
    responses((status = 200, body = List<StripeEvent>), (status = "4XX", body = Problem, content_type = "application/problem+json")),
)]
pub(super) async fn list_stripe_events(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<StripeEvent>> {
    let given = given.only(known("/stripe-events"))?;
    let settings = state.settings.current();
    let filter = EventFilter {
        site_id: given.site(&settings)?.map(|site| site.id.clone()),
        state: given.word("state")?,
        kind: given.text("type")?,
        livemode: given.flag("livemode")?,
    };
    let (cursor, limit) = (given.cursor()?, given.limit()?);
    let page = report::stripe_events(&state.store, &filter, cursor.as_ref(), limit).await?;
    Ok(Json(List::page(page, |row| StripeEvent::new(row, &settings))))
}

/// Deliveries, newest first.
#[utoipa::path(
    get, path = "/deliveries",
    params(
        ("state" = Option<DeliveryState>, Query, description = "the state of the delivery"),
        ("reason" = Option<DeliveryReason>, Query, description = "why it failed or was skipped"),
        ("destination" = Option<String>, Query, description = "a destination's key"),
        ("site" = Option<String>, Query, description = "a site's key; by default all sites"),
        ("livemode" = Option<bool>, Query, description = "by default live and test"),
        ("cursor" = Option<String>, Query, description = "`next` of an earlier answer"),
        ("limit" = Option<i64>, Query, description = "1 to 200; by default 50"),
    ),
    responses((status = 200, body = List<Delivery>), (status = "4XX", body = Problem, content_type = "application/problem+json")),
)]
pub(super) async fn list_deliveries(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<Delivery>> {
    let given = given.only(known("/deliveries"))?;
    let settings = state.settings.current();
    let filter = DeliveryFilter {
        reason: given.word("reason")?,
        site_id: given.site(&settings)?.map(|site| site.id.clone()),
        destination_id: given.destination(&settings)?,
        state: given.word("state")?,
        livemode: given.flag("livemode")?,
    };
    let (cursor, limit) = (given.cursor()?, given.limit()?);
    let page = report::deliveries(&state.store, &filter, cursor.as_ref(), limit).await?;
    Ok(Json(List::page(page, Delivery::new)))
}

/// Queues a failed delivery again: the same bytes, due now. A second request changes nothing.
#[utoipa::path(
    post, path = "/deliveries/{id}/retry",
    params(("id" = String, Path, description = "`dlv_…`")),
    responses(
        (status = 202, body = Delivery, description = "it is queued and due now"),
        (status = 404, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json", description = "its state does not allow it"),
    ),
)]
pub(super) async fn retry_delivery(
    _: Access,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Delivery>), AppError> {
    let missing = || AppError::not_found("There is no delivery with this ID.");
    match delivery::retry(&state.store, state.clock.now(), without_nul(&id)?).await? {
        Retried::Queued => {
            state.wakeups.delivery_queued.notify_one();
            let found = report::delivery(&state.store, &id).await?.ok_or_else(missing)?;
            Ok((StatusCode::ACCEPTED, Json(Delivery::new(found.row))))
        }
        Retried::NotFound => Err(missing()),
        Retried::NotRetryable(word) => Err(AppError::new(
            StatusCode::CONFLICT,
            format!(
                "This delivery is {word}; only a failed (given_up) or pending one can be sent again."
            ),
        )),
    }
}

/// All sites.
#[utoipa::path(get, path = "/sites", responses((status = 200, body = List<Site>)))]
pub(super) async fn list_sites(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<Site>> {
    given.only(known("/sites"))?;
    let settings = state.settings.current();
    Ok(Json(List::whole(settings.sites.iter().map(Site::new).collect())))
}

/// All redirect links, newest first.
#[utoipa::path(get, path = "/links", responses((status = 200, body = List<Link>)))]
pub(super) async fn list_links(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<Link>> {
    given.only(known("/links"))?;
    let settings = state.settings.current();
    Ok(Json(List::whole(settings.links.iter().map(|link| Link::new(link, &settings)).collect())))
}

/// All sources.
#[utoipa::path(get, path = "/sources", responses((status = 200, body = List<Source>)))]
pub(super) async fn list_sources(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<Source>> {
    given.only(known("/sources"))?;
    let settings = state.settings.current();
    let source = |source| Source::new(source, &settings);
    Ok(Json(List::whole(settings.sources.iter().map(source).collect())))
}

/// All destinations, and the state of their deliveries.
#[utoipa::path(get, path = "/destinations", responses((status = 200, body = List<Destination>)))]
pub(super) async fn list_destinations(
    _: Access,
    State(state): State<AppState>,
    given: Parameters,
) -> Answer<List<Destination>> {
    given.only(known("/destinations"))?;
    let settings = state.settings.current();
    let mut sums = Vec::new();
    for site in &settings.sites {
        sums.extend(report::destination_totals(&state.store, &site.id).await?);
    }
    let none = DestinationTotals::default();
    let shape = |found: &Arc<settings::Destination>| {
        let sums = sums.iter().find(|sums| sums.destination_id == found.id).unwrap_or(&none);
        Destination::new(found, sums, &settings)
    };
    Ok(Json(List::whole(settings.destinations.iter().map(shape).collect())))
}

/// PostgreSQL can't store NUL, so no record has such an ID.
fn without_nul(id: &str) -> Result<&str, AppError> {
    let missing = || AppError::not_found("No ID holds a NUL.");
    if id.contains('\0') { Err(missing()) } else { Ok(id) }
}
