//! `POST /webhooks/stripe/{source}`, Stripe's door.
//! In: a signed webhook. Out: 200 once it is durable, else a fixed line; the reason goes to our log only.
//! Promise: nothing but verify, insert and commit happens before the answer, because a buyer may be waiting for it.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::LengthLimitError;

use super::signature::{self, SignatureError, TOLERANCE_SECONDS};
use super::table::{self, NewEvent};
use super::{Rejections, event};
use crate::error::AppError;
use crate::settings::Source;
use crate::state::AppState;

/// Largest webhook body read. Most events are a few KiB, an invoice with many lines far more; 1 MiB still bounds memory in a flood.
const MAX_EVENT_BYTES: usize = 1024 * 1024;

pub(crate) fn routes(rejections: Rejections) -> Router<AppState> {
    let receive =
        move |state, path, headers, body| receive_event(state, path, headers, body, rejections);
    Router::new().route("/webhooks/stripe/{source}", post(receive))
}

/// `POST /webhooks/stripe/{source}`: 200 stored or repeated · 400 not believed · 404 unknown source · 413 too large · 503 ours.
async fn receive_event(
    State(state): State<AppState>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Body,
    rejections: Rejections,
) -> Result<Response, AppError> {
    let settings = state.settings.current();
    let source = settings
        .stripe_source(&source)
        .ok_or_else(|| AppError::not_found("there is no such source"))?;
    let body = to_bytes(body, MAX_EVENT_BYTES).await.map_err(unreadable)?;
    let now = state.clock.now();
    let lines: Vec<&[u8]> =
        headers.get_all("stripe-signature").iter().map(|line| line.as_bytes()).collect();
    let verified =
        signature::verify(&body, &lines, &source.secrets, now.as_seconds(), TOLERANCE_SECONDS)
            .map_err(|error| {
                rejections.count(now, &source.id, error.word());
                refuse(source, &error, body.len())
            })?;
    let envelope = event::envelope(&body).ok_or_else(|| {
        rejections.count(now, &source.id, "json");
        tracing::warn!(
            source = source.key,
            body_bytes = body.len(),
            "a signed webhook is not a JSON object"
        );
        AppError::bad_request("this webhook cannot be accepted")
    })?;
    let event = NewEvent {
        source_id: &source.id,
        envelope: &envelope,
        received_at: now,
        signature: lines
            .first()
            .and_then(|line| std::str::from_utf8(line).ok())
            .unwrap_or_default(),
        secret_position: verified.secret_position,
        body: &body,
    };
    store(&state, &event).await.map_err(|cause| {
        AppError::unavailable("the event could not be stored; send it again", cause)
    })?;
    state.bells.event_stored.notify_one();
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], "ok\n").into_response())
}

async fn store(state: &AppState, event: &NewEvent<'_>) -> anyhow::Result<()> {
    let mut tx = state.store.begin().await?;
    if !table::insert(&mut tx, event).await? {
        table::count_repeat(&mut tx, event.received_at, event.envelope).await?;
    }
    tx.commit().await
}

/// The answer is one fixed line; the reason and its usual causes are for the owner's log.
fn refuse(source: &Source, error: &SignatureError, body_bytes: usize) -> AppError {
    tracing::warn!(
        source = source.key,
        reason = error.word(),
        body_bytes,
        "rejected a webhook: {error}"
    );
    let status = match error {
        SignatureError::Config => StatusCode::SERVICE_UNAVAILABLE,
        SignatureError::Missing
        | SignatureError::Malformed
        | SignatureError::NoV1
        | SignatureError::Mismatch
        | SignatureError::TooOld(_)
        | SignatureError::TooNew(_) => StatusCode::BAD_REQUEST,
    };
    AppError::new(status, "this webhook cannot be accepted")
}

fn unreadable(error: axum::Error) -> AppError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return AppError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "this webhook is larger than 1 MiB",
            );
        }
        cause = error.source();
    }
    AppError::bad_request("the body broke off").because(error)
}
