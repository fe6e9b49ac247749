//! The layers around every page: security headers, rejection of cross-site posts, the error page. Takes any request and
//! response of the dashboard; returns the response with headers, and errors as a page. Errors are passed on to the layer
//! that logs them, and pages run and load only our own files.

use std::borrow::Cow;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::frame::SignedOutFrame;
use super::page;
use crate::client::Client;
use crate::error::{AppError, Fault};
use crate::state::AppState;

/// Maximum size of a form. The longest field is the list of domains.
const MAX_FORM_BYTES: usize = 32 * 1024;

const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // `same-origin`, not `no-referrer`: the latter would make browsers send `Origin: null` with our own forms.
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Adds the layers to existing routes.
pub(super) fn protect(routes: Router<AppState>, state: &AppState) -> Router<AppState> {
    routes
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .layer(refuse_cross_site(state))
        .layer(middleware::from_fn_with_state(state.clone(), show_faults))
        .layer(middleware::from_fn_with_state(state.clone(), add_headers))
}

/// Posts must come from our own pages. The public URL's origin is trusted too: a proxy may rewrite `Host`.
fn refuse_cross_site(
    state: &AppState,
) -> CsrfLayer<impl Fn(ProtectionError) -> Response + Clone + Send + Sync + 'static> {
    let mut layer = CsrfLayer::new();
    if let Some(url) = state.config.dashboard_url.as_ref().or(state.config.public_url.as_ref()) {
        let origin = url.origin().ascii_serialization();
        layer = layer.add_trusted_origin(&origin).expect("an http(s) URL has an origin");
    }
    layer.with_rejection_response(|_| {
        let line = "This form was sent from another site, so it was rejected.";
        AppError::new(StatusCode::FORBIDDEN, line).into_response()
    })
}

async fn add_headers(client: Client, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    insert_headers(&client, response.headers_mut());
    response
}

fn insert_headers(client: &Client, headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Below a path, the host is the landing page's, and what it does is not ours to say.
    if client.pages.starts_with("https://") && client.prefix().is_empty() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: SignedOutFrame,
    status: u16,
    heading: &'static str,
    line: Cow<'static, str>,
}

/// Shows an error of a handler, an extractor or the router as a page.
async fn show_faults(client: Client, request: Request, next: Next) -> Response {
    shown(&client, next.run(request).await)
}

fn shown(client: &Client, mut response: Response) -> Response {
    let status = response.status();
    let is_page = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if is_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let fault = response.extensions_mut().remove::<Fault>();
    let page = ErrorPage {
        frame: SignedOutFrame::new(client),
        status: status.as_u16(),
        heading: heading(status),
        line: fault
            .as_ref()
            .map_or(Cow::Borrowed("The request could not be completed."), |fault| {
                fault.line.clone()
            }),
    };
    let mut shown = page::show(&page).unwrap_or_else(axum::response::IntoResponse::into_response);
    *shown.status_mut() = status;
    if let Some(fault) = fault {
        shown.extensions_mut().insert(fault);
    }
    for (name, value) in response.headers() {
        if *name == header::ALLOW || *name == header::RETRY_AFTER {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    shown
}

/// Response to unknown paths: a page for browsers, a line of text for other clients.
pub(super) async fn answer_unknown(client: Client, headers: HeaderMap) -> Response {
    let unknown = AppError::not_found("This page does not exist.").into_response();
    let wants_page = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"));
    if !wants_page {
        return unknown;
    }
    let mut response = shown(&client, unknown);
    insert_headers(&client, response.headers_mut());
    response
}

fn heading(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 422 => "Invalid request",
        403 => "Access denied",
        404 => "Page not found",
        405 => "Not allowed here",
        413 => "Request too large",
        429 => "Too many attempts",
        503 => "Try again later",
        status if status >= 500 => "Something went wrong on the server",
        _ => "The request failed",
    }
}
