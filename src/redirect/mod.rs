//! `GET /p/{alias}`: a redirect link to a payment link, for email, PDFs, QR codes and pages without
//! the tag. Takes a visitor's click; returns a 302 to the stored payment link with a click ID.
//! Guarantees that it redirects only to the stored link, and that the visit is committed before the
//! response. If the database cannot be written, the visit is lost and the redirect still works.

mod identity;
mod target;

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use self::identity::{Choice, Held};
use crate::client::{self, Client};
use crate::error::AppError;
use crate::ids::ClickId;
use crate::settings::{Consent, Link};
use crate::state::AppState;
use crate::visit::{self, Arrival, Click, VisitLimit};

/// Headers that only prefetches and previews have: today's name, and what older browsers and
/// messengers send.
const PREVIEW_HEADERS: [&str; 4] = ["sec-purpose", "purpose", "x-moz", "x-purpose"];
/// How long a buyer waits for their visit to be written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest query that is used. Longer ones are ignored.
const MAX_QUERY_BYTES: usize = 6000;

pub(crate) fn routes(limit: VisitLimit) -> Router<AppState> {
    let follow = move |state, method, path, client, query, headers| {
        follow_link(state, method, path, client, query, headers, limit)
    };
    Router::new().route("/p/{alias}", get(follow))
}

/// Serves `GET /p/{alias}`. An unknown or paused link is 404 with a plain page.
async fn follow_link(
    State(state): State<AppState>,
    method: Method,
    Path(alias): Path<String>,
    client: Client,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    limit: VisitLimit,
) -> Result<Response, AppError> {
    let settings = state.settings.current();
    let link = settings.link_by_alias(&alias.to_ascii_lowercase());
    let site = link.and_then(|link| settings.site(&link.site_id));
    let (Some(link), Some(site)) = (link, site) else { return Ok(not_found(UNKNOWN)) };
    if link.is_paused {
        return Ok(not_found(PAUSED));
    }
    let query = query.filter(|query| query.len() <= MAX_QUERY_BYTES).unwrap_or_default();
    let is_cookieless = site.tag.consent == Consent::Cookieless;
    let cookie = |name| client::cookies(&headers, name).next().filter(|_| !is_cookieless);
    let (held_id, session) = (cookie("_ck"), cookie("_ck_s"));
    let held = Held {
        click_id: held_id.as_deref(),
        session: session.as_deref(),
        handed_over: parameter(&query, "_ck"),
    };
    let waits_for_consent =
        site.tag.consent.is_needed() && held.click_id.is_none() && held.handed_over.is_none();
    // Bots, prefetches and link previews are not visits.
    let is_preview = method == Method::HEAD
        || PREVIEW_HEADERS.iter().any(|name| headers.contains_key(*name))
        || visit::is_bot(&client.user_agent);
    if waits_for_consent || is_preview {
        return answer(&target::address(site, &link.target, None, &query));
    }
    let pairs = visit::ad_parameters(&query);
    let referrer = client::text(&headers, header::REFERER);
    let from_outside =
        referrer.is_some_and(|referrer| visit::is_outside(site, &client.own_host(), referrer));
    let now = state.clock.now();
    let choice = identity::choose(&state.click_ids, site.number, now, &held, &pairs, from_outside);
    let click_id = if limit.allows(client.address, now) {
        let around = visit::endpoint::around(&client, &headers);
        let (store, keys) = (&state.store, &state.click_ids);
        let arrival = Arrival { store, keys, now, site, around: &around };
        let click = Click {
            click_id: choice.kept.clone().unwrap_or_else(|| keys.mint(now, site.number)),
            previous: choice.previous.clone(),
            is_adopted: choice.is_adopted,
            alias: link.alias.clone(),
            url: own_url(&client, link, &query),
            referrer: referrer.map(str::to_owned),
        };
        Some(record(&state, &arrival, click).await)
    } else {
        None
    };
    let Choice { kept, session, .. } = choice;
    let presented = kept.unwrap_or_else(|| state.click_ids.mint(now, site.number));
    let click_id = click_id.unwrap_or(presented);
    let mut response = answer(&target::address(site, &link.target, Some(&click_id), &query))?;
    if is_cookieless {
        return Ok(response);
    }
    // The browser may have the click ID already, but the time of the last activity is always new.
    let is_new = held.click_id != Some(click_id.as_str());
    let click_id = is_new.then_some(("_ck", click_id.as_str()));
    for (name, value) in click_id.into_iter().chain([("_ck_s", session.as_str())]) {
        let cookie = visit::cookie(name, value, &client.own_host(), client.is_https);
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
    Ok(response)
}

/// The link's own URL with the click's query, without a click ID that a linked page added.
fn own_url(client: &Client, link: &Link, query: &str) -> String {
    let mut url = format!("{}/p/{}", client.base, link.alias);
    let kept: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("_ck=")).collect();
    if !kept.concat().is_empty() {
        url.push('?');
        url.push_str(&kept.join("&"));
    }
    url
}

/// Stores the click's visit. Returns its signed click ID; if the visit could not be written, the
/// click ID that was chosen or minted for it.
async fn record(state: &AppState, arrival: &Arrival<'_>, click: Click) -> ClickId {
    let written = visit::record_click(arrival, &click);
    let error = match tokio::time::timeout(WRITE_TIMEOUT, written).await {
        Ok(Ok(recorded)) => {
            state.wakeups.visit_recorded.notify_one();
            return recorded.click_id;
        }
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "it took too long".to_owned(),
    };
    tracing::error!(
        error,
        link = click.alias,
        "could not store the visit of a click; the buyer was redirected anyway"
    );
    click.click_id
}

fn parameter<'a>(query: &'a str, wanted: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == wanted))
        .map(|(_, value)| value)
}

fn answer(address: &str) -> Result<Response, AppError> {
    let address = HeaderValue::from_str(address).map_err(anyhow::Error::from)?;
    let headers = [
        (header::LOCATION, address),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((StatusCode::FOUND, headers).into_response())
}

const UNKNOWN: &str = "This link doesn’t exist. Ask the sender for the right one.";
const PAUSED: &str = "This link isn’t active at the moment. Ask the sender for another one.";

/// A 404 response with a plain page for buyers.
fn not_found(line: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ];
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Link not found</title><p>{line}</p>\n"
    );
    (StatusCode::NOT_FOUND, headers, page).into_response()
}
