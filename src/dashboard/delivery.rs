//! The page of one delivery: its message, and the response to each attempt. Takes its ID, or a request to rebuild it;
//! returns the page, or queues the delivery again. The message is shown byte for byte and escaped; the destination's
//! URL and secrets are not shown.

use askama::Template;
use axum::Form;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::views::numbers::{NONE, money};
use super::views::times::{Moment, distance, took};
use super::views::{Chip, words};
use crate::conversion::{self, Ledger};
use crate::delivery::Retried;
use crate::destination::kind;
use crate::domain::{
    AttemptOutcome, DeliveryReason, DeliveryState, FailureReason, SkipReason, Word as _,
};
use crate::error::AppError;
use crate::report::{self, Attempt, Delivery};
use crate::settings::{self, Destination};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage {
    frame: Frame,
    amount: String,
    is_test: bool,
    event: String,
    destination: String,
    destination_href: Option<String>,
    journey: String,
    list: String,
    state: Chip,
    why: String,
    since: Moment,
    next: Option<(Moment, String)>,
    /// Since when its destination has been failing, if the delivery waits for it to recover.
    down: Option<Moment>,
    /// `expires in 6 hours`, and when.
    expires: Option<(String, Moment)>,
    /// `POST https://…k7Qe`.
    request: String,
    headers: Vec<String>,
    body: String,
    earlier: Option<String>,
    curl: String,
    tries: Vec<Try>,
    retry: Option<String>,
    /// The current page, to return to after a resend.
    back: String,
    retry_label: &'static str,
    rebuild: Option<String>,
    rebuild_label: &'static str,
    rebuild_warning: Option<&'static str>,
    hint: Option<String>,
}

struct Try {
    n: i64,
    at: Moment,
    took: String,
    outcome: Chip,
    error: String,
    answer: String,
}

/// `GET /deliveries/{id}`.
pub(super) async fn show_delivery(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    let missing = || AppError::not_found("Delivery not found.");
    let id = if id.contains('\0') { return Err(missing()) } else { id };
    let found = report::delivery(&state.store, &id).await?.ok_or_else(missing)?;
    let snapshot = state.settings.current();
    let destination = snapshot.destinations.iter().find(|it| it.key == found.row.destination_key);
    let frame = viewer.frame(&state, Tab::Deliveries).await?;
    page::show(&delivery_page(&viewer, frame, found, destination.map(|found| &**found)))
}

fn delivery_page(
    viewer: &Viewer,
    frame: Frame,
    found: Delivery,
    destination: Option<&Destination>,
) -> DeliveryPage {
    let row = &found.row;
    let is_query = found.content_type == "query";
    let address = destination
        .map_or_else(|| "a deleted destination".to_owned(), |found| settings::mask_url(&found.url));
    let here = |path: &str| viewer.link(path).to_string();
    // After a mapping error there is no message yet; a resend builds it with the current mapping.
    let has_message = !found.request.is_empty()
        || row.reason == Some(DeliveryReason::Failed(FailureReason::MappingError));
    let can_retry =
        has_message && matches!(row.state, DeliveryState::GivenUp | DeliveryState::Pending);
    let why = match (row.state, row.reason) {
        (DeliveryState::GivenUp, reason @ Some(_)) => {
            let said = row.last_error.as_deref().map(words::sentence).unwrap_or_default();
            format!("Failed: {}. {said}", words::why(reason))
        }
        (DeliveryState::Skipped, reason @ Some(_)) => format!("Not sent: {}.", words::why(reason)),
        (DeliveryState::Held, _) => "Paused until the destination is enabled again.".to_owned(),
        (DeliveryState::Pending, _) if row.attempts > 0 => {
            format!(
                "Not accepted yet: {}.",
                row.last_error.as_deref().unwrap_or("no response was recorded")
            )
        }
        _ => String::new(),
    };
    let is_anytrack = destination.is_some_and(|found| found.is_anytrack());
    let hint = (is_anytrack && row.state == DeliveryState::Delivered).then(|| {
        format!(
            "AnyTrack accepted it, but doesn’t report whether it matched. Look in AnyTrack under Integrations, Events Log, for transaction {}.",
            row.transaction_id
        )
    });
    DeliveryPage {
        frame,
        amount: row.amount.map_or_else(|| NONE.to_owned(), money),
        is_test: !row.livemode,
        event: row.event_name.clone(),
        destination: row.destination_name.clone(),
        destination_href: destination
            .map(|found| here(&format!("/settings/destinations/{}", found.key))),
        journey: here(&format!("/conversions/{}", row.conversion_id)),
        list: here("/deliveries"),
        state: words::delivery_state(row),
        why,
        since: viewer.times.short_second(row.created_at, viewer.now),
        down: row.down_since.filter(|_| row.state == DeliveryState::Pending).map(|since| {
            viewer.times.short_second(since, viewer.now)
        }),
        next: (row.state == DeliveryState::Pending && row.down_since.is_none()).then(|| {
            let wait = row.due_at.since(viewer.now);
            let text = if wait.is_zero() { "now".to_owned() } else { format!("in {}", distance(wait)) };
            (viewer.times.short_second(row.due_at, viewer.now), text)
        }),
        expires: words::expires(row, viewer.now).zip(row.expires_at).map(|(text, at)| {
            (text, viewer.times.short_second(at, viewer.now))
        }),
        request: if is_query { format!("GET {address}") } else { format!("POST {address}") },
        headers: headers(&found, destination),
        curl: curl(&found, destination),
        body: found.request.clone(),
        earlier: found.earlier.clone(),
        tries: found.tries.iter().map(|attempt| one_try(viewer, attempt)).collect(),
        retry: can_retry.then(|| here(&format!("/deliveries/{}/retry", row.id))),
        back: viewer.back(&format!("/deliveries/{}", row.id)).to_string(),
        retry_label: if row.state == DeliveryState::Pending { "Send now" } else { "Resend" },
        rebuild: (destination.is_some() && row.state != DeliveryState::Held)
            .then(|| here(&format!("/deliveries/{}/rebuild", row.id))),
        rebuild_label: match row.state {
            DeliveryState::Skipped => "Send anyway",
            DeliveryState::Pending
            | DeliveryState::Delivered
            | DeliveryState::GivenUp
            | DeliveryState::Held => "Rebuild and send",
        },
        rebuild_warning: (row.state == DeliveryState::Delivered).then_some(
            "It was already accepted. AnyTrack ignores a repeated transaction; another destination may count it twice.",
        ),
        hint,
    }
}

fn headers(found: &Delivery, destination: Option<&Destination>) -> Vec<String> {
    let mut lines = Vec::new();
    if found.content_type != "query" {
        lines.push(format!("content-type: {}", found.content_type));
    }
    let Some(destination) = destination else { return lines };
    lines.extend(
        destination.options.message.headers.iter().map(|header| format!("{}: ***", header.name)),
    );
    if kind(destination.kind).is_signed && !destination.secrets.is_empty() {
        lines.push(format!("webhook-id: {}", found.row.id));
        lines.push("webhook-timestamp: the time of the attempt".to_owned());
        lines.push("webhook-signature: computed from both and the message".to_owned());
    }
    lines
}

/// A curl command. The URL and secret headers are variables, because they are not shown.
fn curl(found: &Delivery, destination: Option<&Destination>) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let secret = destination.into_iter().flat_map(|found| &found.options.message.headers);
    let secret: String = secret
        .map(|header| {
            let variable = header.name.to_uppercase().replace('-', "_");
            format!(" -H \"{}: $HEADER_{variable}\"", header.name)
        })
        .collect();
    if found.content_type == "query" {
        // `-G` would encode the query again, with lower-case escapes.
        let has_query = destination.is_some_and(|found| found.url.expose().contains('?'));
        let joint = if has_query { "&" } else { "?" };
        return format!("curl -g \"$URL\"{}{secret}", quoted(&format!("{joint}{}", found.request)));
    }
    let content_type = quoted(&format!("content-type: {}", found.content_type));
    format!("curl \"$URL\" -H {content_type}{secret} --data-raw {}", quoted(&found.request))
}

fn one_try(viewer: &Viewer, attempt: &Attempt) -> Try {
    let status = attempt.status.map(words::http_status);
    let with = |word: &str| {
        status.as_ref().map_or_else(|| word.to_owned(), |status| format!("{word} ({status})"))
    };
    Try {
        n: attempt.n,
        at: viewer.times.short_second(attempt.started_at, viewer.now),
        took: attempt.took_ms.map_or_else(|| NONE.to_owned(), took),
        outcome: match attempt.outcome {
            Some(AttemptOutcome::Accepted) => Chip::ok(with("Accepted")),
            Some(AttemptOutcome::Retry) => Chip::wait(with("Temporary error")),
            Some(AttemptOutcome::Refused) => Chip::bad(with("Rejected")),
            Some(AttemptOutcome::Blocked) => Chip::bad("Not sent"),
            None if attempt.took_ms.is_none() => Chip::quiet("In progress or interrupted"),
            None => Chip::quiet("Unknown"),
        },
        error: attempt.error.clone().unwrap_or_default(),
        answer: attempt.answer.clone().unwrap_or_default(),
    }
}

#[derive(Deserialize)]
pub(super) struct RebuildSent {
    sure: Option<String>,
}

/// `POST /deliveries/{id}/rebuild`: rebuilds the message with the current mapping and match, and the same transaction ID.
pub(super) async fn rebuild_delivery(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
    Form(sent): Form<RebuildSent>,
) -> Result<Response, AppError> {
    let missing = || AppError::not_found("Delivery not found.");
    let found = report::delivery(&state.store, &id.replace('\0', "")).await?.ok_or_else(missing)?;
    if found.row.state == DeliveryState::Delivered && sent.sure.is_none() {
        return Err(AppError::bad_request(
            "It was already accepted. Tick the box beside the button to send it again.",
        ));
    }
    let snapshot = state.settings.current();
    let ledger = Ledger {
        keys: &state.click_ids,
        settings: &snapshot,
        later: Some(&state.settings),
        now: viewer.now,
    };
    match conversion::rebuild_delivery(&state.store, ledger, &id).await? {
        Retried::Queued => {
            state.wakeups.delivery_queued.notify_one();
            Ok(page::see_other(&viewer.link(&format!("/deliveries/{id}")).to_string()))
        }
        Retried::NotFound => Err(missing()),
        Retried::NotRetryable(why) => {
            let line = match why.as_str() {
                "sending" => "It is being sent right now. Try again in a minute.".to_owned(),
                "adjustment" => {
                    "The message of a refund or dispute can’t be rebuilt. Resend it as it is."
                        .to_owned()
                }
                "destination_deleted" => "Its destination was deleted.".to_owned(),
                other => format!(
                    "With the current settings it would not be sent: {}.",
                    SkipReason::parse(&why).map_or(other, |reason| words::skipped(reason))
                ),
            };
            Err(AppError::new(StatusCode::CONFLICT, line))
        }
    }
}
