//! Thin events: they name an object instead of containing it.
//! Takes stored thin events; fetches the object and stores it as an event of its own, which is then
//! read like any other.
//! Guarantees that nothing is fetched inside a transaction or from another host. Without an API key
//! a thin event fails visibly, and a key added later retries it; one whose snapshot event is stored
//! is `ignored(covered_by_snapshot)`. Source: docs.stripe.com/event-destinations.

mod content;
mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(super) use self::content::{Thin, ToFetch};
use super::api::{self, ApiError};
use super::apis::Apis;
use super::table::{self as events, Ended, NewEvent, Waiting};
use super::{EVENT_TYPES, event};
use crate::clock::{Clock, Timestamp};
use crate::domain::{EventOrigin, EventState, IgnoredReason, Word as _};
use crate::json;
use crate::settings::{Snapshot, Source};
use crate::store::{Store, Tx};

/// Maximum duration of a fetch with all its tries; after that, another replica may claim it.
const LEASE: Duration = Duration::from_secs(15 * 60);
/// Fetches without a response before the event is shown as failed.
const MAX_FETCHES: i64 = 12;
/// The error of a thin event while there is no API key.
const NEEDS_KEY: &str = "thin_event_needs_api_key: set the payload style of this endpoint to snapshot in Stripe, or give \
                         it a restricted key: CLICKSTAMP_STRIPE_API_KEY for main, Settings for every webhook";

/// Reads a thin event; `None` for a snapshot event.
pub(super) fn read(body: &[u8]) -> Option<Thin> {
    // Almost all events are snapshot events, and large ones are too expensive to parse twice.
    body.windows(13).any(|part| part == b"v2.core.event").then_some(())?;
    let event = json::lenient(body).ok()?.value;
    if event["object"] != "v2.core.event" || event["data"]["object"].is_object() {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let url = text(&event["related_object"]["url"]);
    let is_path = (url.starts_with("/v1/") || url.starts_with("/v2/"))
        && !url.contains("..")
        && url.len() <= 300
        && url.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    Some(Thin {
        kind: plain_kind(&text(&event["type"])).to_owned(),
        path: if is_path { url } else { String::new() },
        snapshot_event: event["snapshot_event"].as_str().map(|id| id.chars().take(200).collect()),
    })
}

/// The type without the prefix of thin events.
fn plain_kind(kind: &str) -> &str {
    kind.strip_prefix("v1.").unwrap_or(kind)
}

/// Decides about a thin event in the worker's transaction: ends it, or lets it wait for its fetch.
pub(super) async fn settle(
    tx: &mut Tx,
    now: Timestamp,
    event: &Waiting,
    thin: &Thin,
) -> Result<()> {
    let ignored = |reason: IgnoredReason| Ended {
        reason: Some(reason.as_str()),
        ..Ended::as_(EventState::Ignored)
    };
    if thin.kind == "v2.core.event_destination.ping" {
        return events::end(tx, now, &event.id, &ignored(IgnoredReason::Ping)).await;
    }
    if !EVENT_TYPES.contains(&thin.kind.as_str()) {
        return events::end(tx, now, &event.id, &ignored(IgnoredReason::UnsupportedType)).await;
    }
    if let Some(snapshot) = &thin.snapshot_event
        && table::is_here(tx, &event.account, snapshot).await?
    {
        return events::end(tx, now, &event.id, &ignored(IgnoredReason::CoveredBySnapshot)).await;
    }
    if thin.path.is_empty() {
        let ended = failed("related_object.url is not a path of Stripe's API");
        return events::end(tx, now, &event.id, &ended).await;
    }
    table::leave_to_fetch(tx, &event.id, thin).await
}

fn failed(error: &str) -> Ended<'_> {
    Ended { error: Some(error), ..Ended::as_(EventState::Failed) }
}

/// Ends thin events about the same occurrence as a snapshot event that is being processed.
pub(super) async fn cover(tx: &mut Tx, now: Timestamp, event: &Waiting) -> Result<()> {
    table::cover(tx, now, &event.account, &event.event_id).await
}

/// Queues thin events again that failed for lack of a key or a permission. Called when there is a
/// new key.
pub(crate) async fn put_back_all(store: &Store, now: Timestamp) -> Result<u64> {
    table::put_back_all(store, now).await
}

/// Fetches the object of one event. Returns the number of events handled; 0 means that nothing is
/// due.
pub(crate) async fn round(
    store: &Store,
    apis: &Apis,
    settings: &Snapshot,
    clock: &Clock,
) -> Result<u64> {
    let Some(event) = table::claim(store, clock.now(), LEASE).await? else { return Ok(0) };
    let source = settings.source(&event.source_id).context("the event's source is gone")?;
    let fetched = match apis.of(settings, source) {
        Ok(api) => api.object(&event.account, &event.path).await,
        Err(error) => Err(error),
    };
    let now = clock.now();
    match fetched {
        Ok(object) => keep(store, source, now, &event, &object).await?,
        Err(ApiError::NoKey) => end(store, now, &event, NEEDS_KEY).await?,
        Err(ApiError::NoAnswer(error)) if event.attempts < MAX_FETCHES => {
            tracing::warn!(
                event = event.event_id,
                "could not fetch the object of a thin event: {error}"
            );
            let pause = Duration::from_secs(60 << event.attempts.clamp(0, 6));
            table::release(store, &event.id, now.plus(pause)).await?;
        }
        Err(error) => {
            let error = format!("thin_event_not_fetched: {error}");
            tracing::warn!(event = event.event_id, "{error}");
            end(store, now, &event, &error).await?;
        }
    }
    Ok(1)
}

async fn end(store: &Store, now: Timestamp, event: &ToFetch, error: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    events::end(&mut tx, now, &event.id, &failed(error)).await?;
    tx.commit().await
}

/// Stores the object as an event of its own, so that a replay needs no network.
async fn keep(
    store: &Store,
    source: &Source,
    now: Timestamp,
    event: &ToFetch,
    object: &RawValue,
) -> Result<()> {
    let body = as_event(event, object);
    let envelope =
        event::envelope(body.as_bytes()).context("the fetched object is not an event")?;
    let mut tx = store.begin().await?;
    let fetched = NewEvent {
        source_id: &source.id,
        envelope: &envelope,
        received_at: now,
        signature: "",
        secret_position: None,
        origin: EventOrigin::Fetched,
        body: body.as_bytes(),
    };
    events::insert(&mut tx, &fetched).await?;
    let note = format!("fetched as {}", envelope.event_id);
    let ended = Ended { note: Some(&note), ..Ended::as_(EventState::Processed) };
    events::end(&mut tx, now, &event.id, &ended).await?;
    tx.commit().await
}

fn as_event(event: &ToFetch, object: &RawValue) -> String {
    let thin = json::lenient(&event.body).map(|read| read.value).unwrap_or_default();
    let mut whole = json!({
        "id": format!("fetched_{}", event.event_id),
        "object": "event",
        "api_version": api::VERSION,
        "livemode": event.livemode,
        "type": plain_kind(&event.kind),
    });
    // Thin events write their time as text.
    if let Some(created) = thin["created"].as_str().and_then(Timestamp::parse) {
        whole["created"] = created.as_seconds().into();
    }
    if !event.account.is_empty() {
        whole["account"] = event.account.as_str().into();
    }
    let head = whole.to_string();
    format!("{},\"data\":{{\"object\":{}}}}}", head.trim_end_matches('}'), object.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thin(extra: &Value) -> Vec<u8> {
        let mut event = json!({"id": "evt_1", "object": "v2.core.event", "type": "v1.checkout.session.completed",
            "related_object": {"id": "cs_1", "url": "/v1/checkout/sessions/cs_1"}});
        for (key, value) in extra.as_object().unwrap() {
            event[key] = value.clone();
        }
        event.to_string().into_bytes()
    }

    #[test]
    fn a_thin_event_names_what_to_fetch() {
        let read = read(&thin(&json!({"snapshot_event": "evt_2"}))).unwrap();
        assert_eq!(read.kind, "checkout.session.completed");
        assert_eq!(read.path, "/v1/checkout/sessions/cs_1");
        assert_eq!(read.snapshot_event.as_deref(), Some("evt_2"));
    }

    #[test]
    fn only_paths_of_the_api_are_fetched() {
        let rows = [
            "https://evil.example/v1/x",
            "//evil.example/v1/x",
            "/v3/x",
            "/v1/../x",
            "/v1/ x",
            "/v1/\\x",
            "",
        ];
        for url in rows {
            let read = read(&thin(&json!({"related_object": {"url": url}}))).unwrap();
            assert_eq!(read.path, "", "{url}");
        }
    }

    #[test]
    fn ordinary_events_are_left_alone() {
        let ordinary = json!({"object": "event", "data": {"object": {"note": "v2.core.event"}}});
        assert_eq!(read(ordinary.to_string().as_bytes()), None);
        assert_eq!(read(b"v2.core.event"), None);
    }
}
