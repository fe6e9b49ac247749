//! `POST /webhooks/stripe/{source}`, Stripe's door.
//! In: a signed webhook. Out: 200 once it is durable, else a fixed line; the reason goes to our log only.
//! Promise: nothing but verify, insert and commit happens before the answer, because a buyer may be waiting for it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::signature::{self, SignatureError, TOLERANCE_SECONDS};
use super::table::{self, NewEvent, Origin};
use super::{Rejections, event};
use crate::error::AppError;
use crate::settings::Source;
use crate::state::AppState;

/// Largest webhook body read. Most events are a few KiB, an invoice with many lines far more; 1 MiB still bounds memory in a flood.
const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Bodies up to this are read at once; nearly all events are far smaller.
const SMALL_EVENT_BYTES: usize = 64 * 1024;
/// Larger bodies held at a time. Nobody is known before his body is read, so without it anybody could fill the memory.
const LARGE_EVENTS: usize = 64;

pub(crate) fn routes(rejections: Rejections) -> Router<AppState> {
    let large = Arc::new(Semaphore::new(LARGE_EVENTS));
    let receive = move |state, path, headers, body| {
        receive_event(state, path, headers, body, rejections, large)
    };
    Router::new().route("/webhooks/stripe/{source}", post(receive))
}

/// `POST /webhooks/stripe/{source}`: 200 stored or repeated · 400 not believed · 404 unknown source · 413 too large · 503 ours.
async fn receive_event(
    State(state): State<AppState>,
    Path(source): Path<String>,
    headers: HeaderMap,
    body: Body,
    rejections: Rejections,
    large: Arc<Semaphore>,
) -> Result<Response, AppError> {
    let settings = state.settings.current();
    let source = settings
        .stripe_source(&source)
        .ok_or_else(|| AppError::not_found("there is no such source"))?;
    let (body, _room) = read(body, &large).await?;
    let now = state.clock.now();
    let lines: Vec<&[u8]> =
        headers.get_all("stripe-signature").iter().map(|line| line.as_bytes()).collect();
    let verified =
        signature::verify(&body, &lines, &source.secrets, now.as_seconds(), TOLERANCE_SECONDS)
            .map_err(|error| {
                rejections.count(now, &source.id, error.word());
                refuse(source, &error, body.len())
            })?;
    let mut envelope = event::envelope(&body).ok_or_else(|| {
        rejections.count(now, &source.id, "json");
        tracing::warn!(
            source = source.key,
            body_bytes = body.len(),
            "a signed webhook is not a JSON object"
        );
        AppError::bad_request("this webhook cannot be accepted")
    })?;
    envelope.account = settings.ledger_account(envelope.account);
    let event = NewEvent {
        source_id: &source.id,
        envelope: &envelope,
        received_at: now,
        signature: lines
            .first()
            .and_then(|line| std::str::from_utf8(line).ok())
            .unwrap_or_default(),
        secret_position: Some(verified.secret_position),
        origin: Origin::Webhook,
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
        table::count_repeat(&mut tx, event).await?;
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

/// The whole body, and the place it takes among the large ones.
async fn read(
    body: Body,
    large: &Semaphore,
) -> Result<(Vec<u8>, Option<SemaphorePermit<'_>>), AppError> {
    let (mut chunks, mut whole, mut room) = (body.into_data_stream(), Vec::new(), None);
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| AppError::bad_request("the body broke off").because(error))?;
        let length = whole.len() + chunk.len();
        if length > MAX_EVENT_BYTES {
            return Err(AppError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "this webhook is larger than 1 MiB",
            ));
        }
        if length > SMALL_EVENT_BYTES && room.is_none() {
            let taken = large.try_acquire().map_err(|cause| {
                AppError::unavailable(
                    "too many large webhooks at once; send it again",
                    cause.into(),
                )
            })?;
            room = Some(taken);
        }
        whole.extend_from_slice(&chunk);
    }
    Ok((whole, room))
}
