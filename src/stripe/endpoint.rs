//! `POST /webhooks/stripe/{source}`: receives Stripe's webhooks.
//! Takes a signed webhook; returns 200 once it is stored durably, else a fixed line. The reason is
//! only logged.
//! Guarantees that nothing but verify, insert and commit happens before the response, because a
//! buyer may be waiting for it.

use std::net::IpAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::StreamExt as _;
use tokio::time::timeout;

use super::signature::{self, SignatureError, TOLERANCE_SECONDS};
use super::table::{self, NewEvent};
use super::{Rejections, event};
use crate::client::Client;
use crate::domain::EventOrigin;
use crate::error::AppError;
use crate::limit::log;
use crate::limit::places::{Place, Places, Rules};
use crate::settings::Source;
use crate::state::AppState;

/// Maximum size of a webhook. Most events are a few KiB, an invoice with many lines far more; 1 MiB
/// still limits memory during a flood.
const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// Bodies up to this size are read at once; almost all events are far smaller.
const SMALL_EVENT_BYTES: usize = 64 * 1024;
/// Bytes of larger bodies that are buffered at the same time. The signature covers the body, so
/// unauthenticated bodies must be buffered too. This bounds their memory, which is about three
/// times as much while an event is stored.
const LARGE_BYTES: usize = 8 * 1024 * 1024;
/// The limit for one public address: two of the largest events.
const LARGE_BYTES_OF_ONE: usize = 2 * MAX_EVENT_BYTES;
/// A large body that sends nothing for this long makes way for another.
const LARGE_PATIENCE: Duration = Duration::from_secs(1);
/// The time limit for each part of a body.
const BODY_PATIENCE: Duration = Duration::from_secs(5);
/// How long a large body waits for memory. Stripe waits longer for the response.
const WAIT_FOR_ROOM: Duration = Duration::from_secs(10);

pub(crate) fn routes(rejections: Rejections) -> Router<AppState> {
    let large = Places::new(Rules {
        total: LARGE_BYTES,
        share: LARGE_BYTES_OF_ONE,
        patience: LARGE_PATIENCE,
    });
    let receive = move |state, path, client, headers, body| {
        receive_event(state, path, client, headers, body, rejections, large)
    };
    Router::new().route("/webhooks/stripe/{source}", post(receive))
}

/// `POST /webhooks/stripe/{source}`: 200 stored or repeated · 400 not authentic · 404 unknown
/// source · 408 too slow · 413 too large · 503 our error.
async fn receive_event(
    State(state): State<AppState>,
    Path(source): Path<String>,
    client: Client,
    headers: HeaderMap,
    body: Body,
    rejections: Rejections,
    large: Places,
) -> Result<Response, AppError> {
    let settings = state.settings.current();
    let source = settings
        .stripe_source(&source)
        .ok_or_else(|| AppError::not_found("there is no such source"))?;
    let (body, _room) = read(body, &large, client.address).await?;
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
        if log::admits("unreadable webhooks", &source.key) {
            tracing::warn!(
                source = source.key,
                body_bytes = body.len(),
                "a signed webhook is not a JSON object"
            );
        }
        AppError::bad_request("this webhook can't be accepted")
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
        origin: EventOrigin::Webhook,
        body: &body,
    };
    store(&state, &event).await.map_err(|cause| {
        AppError::unavailable("the event could not be stored; send it again", cause)
    })?;
    state.wakeups.event_stored.notify_one();
    Ok((StatusCode::OK, [(header::CACHE_CONTROL, "no-store")], "ok\n").into_response())
}

async fn store(state: &AppState, event: &NewEvent<'_>) -> anyhow::Result<()> {
    let mut tx = state.store.begin().await?;
    if !table::insert(&mut tx, event).await? {
        table::count_repeat(&mut tx, event).await?;
    }
    tx.commit().await
}

/// The response is a fixed line; the reason and its usual causes are only logged.
fn refuse(source: &Source, error: &SignatureError, body_bytes: usize) -> AppError {
    // Anybody can cause this, as often as they like; the source's page shows the number of
    // rejections.
    if log::admits("rejected webhooks", &source.key) {
        tracing::warn!(
            source = source.key,
            reason = error.word(),
            body_bytes,
            "rejected a webhook: {error}"
        );
    }
    let status = match error {
        SignatureError::Config => StatusCode::SERVICE_UNAVAILABLE,
        SignatureError::Missing
        | SignatureError::Malformed
        | SignatureError::NoV1
        | SignatureError::Mismatch
        | SignatureError::TooOld(_)
        | SignatureError::TooNew(_) => StatusCode::BAD_REQUEST,
    };
    AppError::new(status, "this webhook can't be accepted")
}

/// Reads the whole body, and reserves memory for a large one.
async fn read(
    body: Body,
    large: &Places,
    address: IpAddr,
) -> Result<(Vec<u8>, Option<Place>), AppError> {
    let declared = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    if declared.is_some_and(|bytes| bytes > MAX_EVENT_BYTES) {
        return Err(too_large());
    }
    let (mut chunks, mut whole, mut room) = (body.into_data_stream(), Vec::new(), None);
    while let Some(chunk) = next(&mut chunks, room.as_ref()).await? {
        let length = whole.len() + chunk.len();
        if length > MAX_EVENT_BYTES {
            return Err(too_large());
        }
        if length > SMALL_EVENT_BYTES && room.is_none() {
            let bytes = declared.unwrap_or(MAX_EVENT_BYTES);
            let entered = timeout(WAIT_FOR_ROOM, large.enter(Some(address), bytes)).await;
            room = Some(entered.map_err(|_| no_room())?);
            whole.reserve_exact(bytes.saturating_sub(whole.len()));
        }
        if let Some(room) = &room {
            room.client_acted();
        }
        whole.extend_from_slice(&chunk);
    }
    if let Some(room) = &room {
        room.set_busy(true);
    }
    Ok((whole, room))
}

/// Reads the next part of a body. Fails if it does not arrive, or if another body needs this one's
/// memory.
async fn next(
    chunks: &mut BodyDataStream,
    room: Option<&Place>,
) -> Result<Option<Bytes>, AppError> {
    let must_leave = async {
        match room {
            Some(room) => room.must_leave().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        next = timeout(BODY_PATIENCE, chunks.next()) => {
            let slow = |_| AppError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
            let chunk = next.map_err(slow)?.transpose();
            chunk.map_err(|error| AppError::bad_request("the body broke off").because(error))
        }
        () = must_leave => Err(no_room()),
    }
}

fn too_large() -> AppError {
    AppError::new(StatusCode::PAYLOAD_TOO_LARGE, "this webhook is larger than 1 MiB")
}

/// Stripe retries after this response.
fn no_room() -> AppError {
    let line = "too many large webhooks at once; send it again";
    AppError::new(StatusCode::SERVICE_UNAVAILABLE, line)
}
