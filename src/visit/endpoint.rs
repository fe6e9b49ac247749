//! `POST /v`: receives visits and page events from the tag.
//! Takes a body of at most 64 KiB from any browser; returns 204 after the durable commit, else one
//! line.
//! Guarantees that nothing from a body is written to a header unchecked, and that invalid bodies
//! never cause a 500.

use axum::Router;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;

use super::body::{self, Seen, Sent, What};
use super::limit::VisitLimit;
use super::provisional::{Landing, Landings};
use super::request::{Around, Arrival};
use super::{KeptEvent, keep_event, landing, note, note_session, record, table};
use crate::client::{Client, Peer, cookies, text};
use crate::clock::Timestamp;
use crate::error::AppError;
use crate::hosts;
use crate::ids::ClickId;
use crate::settings::{Consent, Site, Snapshot};
use crate::state::AppState;

/// Maximum size of a body: as much as a browser sends when a page is left. A visit has 250–700 bytes;
/// an event with all that it may have, in any alphabet, 44 KiB.
const MAX_BODY_BYTES: usize = 64 * 1024;

pub(crate) fn routes(limit: VisitLimit) -> Router<AppState> {
    let record = move |state, client, query, headers, bytes| {
        record_visit(state, client, query, headers, bytes, limit)
    };
    Router::new()
        .route("/v", post(record).options(preflight_visit))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// `POST /v`: a page was opened, or reports an event. 204 once that is durable.
///
/// The tag keeps a body until it can read that it was stored or refused, so every page may read
/// the answer.
async fn record_visit(
    State(state): State<AppState>,
    client: Client,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
    limit: VisitLimit,
) -> Response {
    let done = store(&state, &client, query.as_deref(), &headers, bytes, &limit).await;
    let mut response = done.into_response();
    allow_origin(&mut response, &headers, |_| true);
    response
}

async fn store(
    state: &AppState,
    client: &Client,
    query: Option<&str>,
    headers: &HeaderMap,
    bytes: Result<Bytes, BytesRejection>,
    limit: &VisitLimit,
) -> Result<Response, AppError> {
    let now = state.clock.now();
    let query = query.unwrap_or_default();
    if !limit.allows(client.address, now) {
        return Err(AppError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many visits from this address; try again in a minute",
        ));
    }
    let bytes = bytes.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            AppError::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than 64 KiB")
        }
        _ => AppError::bad_request("the body broke off"),
    })?;
    let text = body::text(&bytes);
    let sent = body::parse(&text).map_err(AppError::bad_request)?;
    let settings = state.settings.current();
    let site = settings
        .site_by_key(&sent.site_key)
        .ok_or_else(|| AppError::bad_request("there is no such site"))?;
    if site.tag.consent.is_needed() && !says(query, "asks") {
        return Err(AppError::new(
            StatusCode::FORBIDDEN,
            "this site stores visits only with consent; load its current tag",
        ));
    }
    if !matches!(sent.what, What::Visit(_)) && !is_genuine(state, &sent.click_id) {
        return Err(AppError::bad_request("i is a click ID that this server has not made"));
    }
    let request = Report { state, now, client, headers, query, site };
    let kept = match &sent.what {
        What::Note(anytrack_click_id) => {
            note(&state.store, now, &sent.click_id, anytrack_click_id).await.map(|()| stored(None))
        }
        What::Event(event) => request.keep_event(&sent, event).await,
        What::Visit(seen) => request.keep_visit(&sent, seen).await.map(stored),
    };
    kept.map_err(|cause| {
        AppError::unavailable("the visit could not be stored; send it again", cause)
    })
}

/// The answer after the commit.
fn stored(cookie: Option<HeaderValue>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// True if the query of the endpoint's URL says this of the script that sent the body.
fn says(query: &str, word: &str) -> bool {
    query.split('&').any(|part| part == word)
}

/// True for a click ID that was made here, or by the tag in a browser. A visit with another one gets
/// a new one; a note or an event with another one is invented.
fn is_genuine(state: &AppState, click_id: &ClickId) -> bool {
    click_id.is_client_made() || state.click_ids.read(click_id).is_some()
}

/// A request of the tag, without its body.
struct Report<'a> {
    state: &'a AppState,
    now: Timestamp,
    client: &'a Client,
    headers: &'a HeaderMap,
    query: &'a str,
    site: &'a Site,
}

impl Report<'_> {
    async fn keep_event(
        &self,
        sent: &Sent<'_>,
        event: &body::Event<'_>,
    ) -> anyhow::Result<Response> {
        let Self { state, now, site, headers, .. } = *self;
        let origin = text(headers, "origin").and_then(hosts::of_url);
        let origin_host = origin.as_deref();
        let new = table::NewEvent { now, site, sent, event, origin_host };
        Ok(match keep_event(&state.store, &new).await? {
            KeptEvent::New => {
                state.wakeups.event_stored.notify_one();
                stored(None)
            }
            KeptEvent::Known => stored(None),
            KeptEvent::TooMany => {
                let line = "too many events without a visit; send it again after the visit";
                AppError::new(StatusCode::TOO_MANY_REQUESTS, line).into_response()
            }
        })
    }

    /// Returns the cookie to set.
    async fn keep_visit(
        &self,
        sent: &Sent<'_>,
        seen: &Seen<'_>,
    ) -> anyhow::Result<Option<HeaderValue>> {
        let Self { state, now, client, headers, query, site } = *self;
        let settings = state.settings.current();
        let page = seen.url.as_deref();
        let around = Around {
            has_fixed_tag: says(query, "fixed"),
            has_agreed: says(query, "asks"),
            keeps_user_agent: settings.registers_visits(&site.id),
            is_at_link: is_at_link(&settings, page),
            ..around(client, headers)
        };
        let (store, keys) = (&state.store, &state.click_ids);
        let arrival = Arrival { store, keys, now, site, around: &around };
        let recorded = record(&arrival, sent, seen).await?;
        // Only for a known visitor: otherwise the thank-you page would be the only visit to match.
        let session = page.and_then(landing::checkout_session);
        if let Some(session) = session.filter(|_| recorded.is_known) {
            note_session(store, now, &recorded.click_id, session).await?;
        }
        if recorded.is_new {
            state.wakeups.visit_recorded.notify_one();
        }
        if site.tag.consent == Consent::Cookieless {
            return Ok(None);
        }
        Ok(cookie(headers, client, &sent.click_id, page, &recorded.click_id))
    }
}

/// `OPTIONS /v`: the tag needs no preflight, but other callers from the site's own pages may send
/// one. A preflight names no site, so the origin may be any site's.
async fn preflight_visit(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let mut response = (StatusCode::NO_CONTENT, [(header::ALLOW, "POST, OPTIONS")]).into_response();
    let settings = state.settings.current();
    let is_own = |host: &str| {
        let mut domains = settings.sites.iter().flat_map(|site| &site.domains);
        domains.any(|domain| hosts::same_site(domain, host))
    };
    if allow_origin(&mut response, &headers, |origin| {
        hosts::of_url(origin).as_deref().is_some_and(is_own)
    }) {
        let answer = response.headers_mut();
        let allowed = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type"),
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        ];
        for (name, value) in allowed {
            answer.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// The facts about a visit from its request.
pub(crate) fn around(client: &Client, headers: &HeaderMap) -> Around {
    let language = text(headers, "accept-language")
        .and_then(|list| list.split([',', ';']).next())
        .map(str::trim);
    let is_tag = |tag: &&str| {
        !tag.is_empty()
            && tag.len() <= 20
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let site = text(headers, "sec-fetch-site")
        .filter(|site| ["same-origin", "same-site", "cross-site"].contains(site));
    Around {
        address: client.address,
        user_agent: client.user_agent.replace('\0', ""),
        language: language.filter(is_tag).map(str::to_owned),
        wants_privacy: text(headers, "sec-gpc") == Some("1"),
        origin_host: text(headers, "origin").and_then(hosts::of_url),
        fetch_site: site.map(str::to_owned),
        has_fixed_tag: false,
        has_agreed: false,
        is_at_link: false,
        keeps_user_agent: false,
    }
}

/// Queues the landing of a request for the tag's script, to wait for its report.
pub(crate) fn hear_landing(
    state: &AppState,
    landings: &Landings,
    site: &Site,
    request: &Request,
    (page, click_id, now): (&str, &ClickId, Timestamp),
) {
    let (headers, peer) = (request.headers(), request.extensions().get::<Peer>().copied());
    let client = Client::read(&state.config, peer, headers);
    landings.hear(Landing {
        click_id: click_id.clone(),
        at: now,
        site_id: site.id.clone(),
        url: page.chars().take(body::MAX_URL_CHARS).collect(),
        around: Around {
            is_at_link: is_at_link(&state.settings.current(), Some(page)),
            ..around(&client, headers)
        },
    });
}

/// True for a page whose path reports use for a redirect link.
fn is_at_link(settings: &Snapshot, page: Option<&str>) -> bool {
    let alias = page.and_then(hosts::split_url).and_then(|(_, path)| path.strip_prefix("/p/"));
    alias.is_some_and(|alias| settings.link_by_alias(alias).is_some())
}

/// Returns `Set-Cookie: _ck`, because Safari keeps a server's cookie longer than a script's. Only if
/// the browser already has the presented ID, so that a late or queued body can't bring back an older
/// one, and only for same-origin or same-site requests.
fn cookie(
    headers: &HeaderMap,
    client: &Client,
    presented: &ClickId,
    page: Option<&str>,
    click_id: &ClickId,
) -> Option<HeaderValue> {
    if !cookies(headers, "_ck").any(|held| held == presented.as_str()) {
        return None;
    }
    let own_host = client.own_host();
    let page_host =
        page.and_then(hosts::of_url).or_else(|| hosts::of_url(text(headers, "referer")?));
    let is_same_site = match text(headers, "sec-fetch-site") {
        Some(site) => matches!(site, "same-origin" | "same-site"),
        None => page_host.as_deref().is_some_and(|host| hosts::same_site(host, &own_host)),
    };
    if !is_same_site {
        return None;
    }
    // The browser would refuse a domain that does not contain our own host.
    let host = page_host.as_deref().filter(|host| hosts::same_site(host, &own_host));
    let is_secure = page.is_some_and(|url| url.starts_with("https://"));
    HeaderValue::from_str(&super::cookie("_ck", click_id.as_str(), host.unwrap_or(""), is_secure))
        .ok()
}

/// Echoes the origin if its page may read the answer, and returns whether it may.
fn allow_origin(
    response: &mut Response,
    headers: &HeaderMap,
    may_read: impl Fn(&str) -> bool,
) -> bool {
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // On a page with `Cross-Origin-Embedder-Policy: require-corp`, a report would look failed
    // without this header, and be sent again.
    answer.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    answer.insert(header::VARY, HeaderValue::from_static("Origin"));
    let origin = headers.get(header::ORIGIN);
    let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(may_read)) else {
        return false;
    };
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    true
}
