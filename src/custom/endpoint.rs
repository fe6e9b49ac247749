//! `GET|POST /webhooks/custom/{token}`: receives conversions from anything but Stripe.
//! Takes AnyTrack's parameters in the query or a body; returns JSON: the conversion's ID, or which
//! parameter is wrong.
//! Guarantees that 200 is returned only after the commit, that no log contains the token, and that
//! HEAD and OPTIONS record nothing.

use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;

use super::{Recorded, Refusal, Request, RequestLimit, record, refuse};
use crate::conversion::Ledger;
use crate::conversion::join::Match;
use crate::domain::{MatchRule, MatchState, UnmatchedReason};
use crate::error;
use crate::limit::log;
use crate::settings::Source;
use crate::state::AppState;

/// Maximum size of a body; a conversion is a few hundred bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;

#[rustfmt::skip] // The route in one line, for the test that compares it with the documentation.
pub(crate) fn routes(limit: RequestLimit) -> Router<AppState> {
    let receive = move |state, path, query, method, headers, body| {
        receive_conversion(state, path, query, method, headers, body, limit)
    };
    Router::new()
        .route("/webhooks/custom/{token}", get(receive.clone()).post(receive).head(answer_head).options(answer_options))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
}

/// The response to a recorded request.
#[derive(Serialize)]
struct Answer {
    id: Option<String>,
    duplicate: bool,
    #[serde(rename = "match")]
    matched: Option<MatchAnswer>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct MatchAnswer {
    state: MatchState,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<MatchRule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<UnmatchedReason>,
}

impl Answer {
    fn new(recorded: Recorded) -> Self {
        let matched = recorded.processed.result.map(|result| {
            let state = result.state();
            let (by, reason) = match result {
                Match::Matched { by, .. } => (Some(by), None),
                Match::Unmatched(reason) => (None, Some(reason)),
            };
            MatchAnswer { state, by, reason }
        });
        Self {
            id: recorded.processed.conversion_id,
            duplicate: recorded.processed.is_repeat,
            matched,
            warnings: recorded.warnings,
        }
    }
}

/// The response to a request that was not recorded.
#[derive(Serialize)]
struct Fault {
    error: String,
    parameter: Option<String>,
}

/// `GET|POST /webhooks/custom/{token}`: 200 recorded or repeated · 400 states no conversion · 404
/// unknown token · 413 too large · 429 too many · 503 our error.
async fn receive_conversion(
    State(state): State<AppState>,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
    limit: RequestLimit,
) -> Response {
    let (settings, now) = (state.settings.current(), state.clock.now());
    let Some(source) = settings.custom_source(&token, now) else { return unknown() };
    if !limit.allows(&source.id, now) {
        let response = fault(StatusCode::TOO_MANY_REQUESTS, "more than 50 requests a second");
        return ([(header::RETRY_AFTER, "1")], response).into_response();
    }
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut request = Request {
        method: method.as_str().to_owned(),
        query: query.unwrap_or_default(),
        content_type: text(header::CONTENT_TYPE).unwrap_or_default().into_owned(),
        body: Vec::new(),
    };
    match body {
        Ok(bytes) => request.body = bytes.to_vec(),
        Err(rejection) => {
            let (status, error) = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => {
                    (StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB")
                }
                _ => (StatusCode::BAD_REQUEST, "the body broke off"),
            };
            let refusal = Refusal { error: error.to_owned(), parameter: None };
            return match refuse(&state.store, now, source, request, &refusal).await {
                Ok(()) => fault(status, error),
                Err(cause) => ours(source, cause),
            };
        }
    }
    let ledger =
        Ledger { keys: &state.click_ids, settings: &settings, later: Some(&state.settings), now };
    match record(&state.store, ledger, source, request).await {
        Ok(Ok(recorded)) => {
            state.wakeups.delivery_queued.notify_one();
            answer(StatusCode::OK, Answer::new(recorded))
        }
        Ok(Err(refusal)) => {
            if log::admits("refused custom requests", &source.key) {
                tracing::info!(source = source.key, "refused a postback: {}", refusal.error);
            }
            let Refusal { error, parameter } = refusal;
            answer(StatusCode::BAD_REQUEST, Fault { error, parameter })
        }
        Err(cause) => ours(source, cause),
    }
}

/// HEAD: whether the token is valid. Records nothing.
async fn answer_head(State(state): State<AppState>, Path(token): Path<String>) -> StatusCode {
    match state.settings.current().custom_source(&token, state.clock.now()) {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_FOUND,
    }
}

/// OPTIONS: the allowed methods. Records nothing.
async fn answer_options() -> Response {
    (StatusCode::NO_CONTENT, [(header::ALLOW, "GET, HEAD, OPTIONS, POST")]).into_response()
}

fn unknown() -> Response {
    fault(StatusCode::NOT_FOUND, "unknown address: copy it from the settings again")
}

fn fault(status: StatusCode, error: &str) -> Response {
    answer(status, Fault { error: error.to_owned(), parameter: None })
}

fn answer(status: StatusCode, body: impl Serialize) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// The response if we could not record a request and the sender should retry. The cause is only
/// logged.
fn ours(source: &Source, cause: anyhow::Error) -> Response {
    let line = "could not be recorded; send it again";
    let cause = cause.context(format!("custom source {}", source.key));
    let mut response = fault(StatusCode::SERVICE_UNAVAILABLE, line);
    let logged = error::Fault { line: line.into(), cause: Some(Arc::new(cause)) };
    response.extensions_mut().insert(logged);
    response
}
