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
use super::views::{Chip, numbers, times, words};
use crate::conversion;
use crate::delivery::Retried;
use crate::destination::kind;
use crate::domain::{
    AttemptOutcome, DeliveryReason, DeliveryState, FailureReason, SkipReason, Word as _,
};
use crate::error::AppError;
use crate::report::{self, Attempt, Delivery, DeliveryRow};
use crate::settings::{self, Destination};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    found: &'a Delivery,
    row: &'a DeliveryRow,
    /// `None` if it was deleted.
    destination: Option<&'a Destination>,
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
    let page = DeliveryPage {
        frame: viewer.frame(&state, Tab::Deliveries).await?,
        viewer: &viewer,
        row: &found.row,
        found: &found,
        destination: destination.map(|found| &**found),
    };
    page::show(&page)
}

impl DeliveryPage<'_> {
    /// Why it has its state, if there is more to say than the state's name.
    fn why(&self) -> Option<String> {
        let row = self.row;
        match (row.state, row.reason) {
            (DeliveryState::GivenUp, reason @ Some(_)) => {
                let said = row.last_error.as_deref().map(words::sentence).unwrap_or_default();
                Some(format!("Failed: {}. {said}", words::why(reason)))
            }
            (DeliveryState::Skipped, reason @ Some(_)) => {
                Some(format!("Not sent: {}.", words::why(reason)))
            }
            (DeliveryState::Held, _) => {
                Some("Paused until the destination is enabled again.".to_owned())
            }
            (DeliveryState::Pending, _) if row.attempts > 0 => {
                let error = row.last_error.as_deref().unwrap_or("no response was recorded");
                Some(format!("Not accepted yet: {error}."))
            }
            _ => None,
        }
    }

    fn is_anytrack(&self) -> bool {
        self.destination.is_some_and(|found| found.is_anytrack())
    }

    fn is_query(&self) -> bool {
        self.found.content_type == "query"
    }

    /// The label of the button that sends it again, if there is a message to send.
    fn resend(&self) -> Option<&'static str> {
        // After a mapping error there is no message yet; a resend builds it with the current mapping.
        let mapping_error = DeliveryReason::Failed(FailureReason::MappingError);
        let has_message = !self.found.request.is_empty() || self.row.reason == Some(mapping_error);
        words::resend(self.row.state).filter(|_| has_message)
    }

    /// `POST https://…k7Qe`.
    fn request(&self) -> String {
        let address = self.destination.map(|found| settings::mask_url(&found.url));
        let address = address.as_deref().unwrap_or("a deleted destination");
        format!("{} {address}", if self.is_query() { "GET" } else { "POST" })
    }

    fn headers(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.is_query() {
            lines.push(format!("content-type: {}", self.found.content_type));
        }
        let Some(destination) = self.destination else { return lines };
        let own = destination.options.message.headers.iter();
        lines.extend(own.map(|header| format!("{}: ***", header.name)));
        if kind(destination.kind).is_signed && !destination.secrets.is_empty() {
            lines.push(format!("webhook-id: {}", self.row.id));
            lines.push("webhook-timestamp: the time of the attempt".to_owned());
            lines.push("webhook-signature: computed from both and the message".to_owned());
        }
        lines
    }

    /// A curl command. The URL and secret headers are variables, because they are not shown.
    fn curl(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let secret = self.destination.into_iter().flat_map(|found| &found.options.message.headers);
        let secret: String = secret
            .map(|header| {
                let variable = header.name.to_uppercase().replace('-', "_");
                format!(" -H \"{}: $HEADER_{variable}\"", header.name)
            })
            .collect();
        let request = &self.found.request;
        if self.is_query() {
            // `-G` would encode the query again, with lower-case escapes.
            let has_query = self.destination.is_some_and(|it| it.url.expose().contains('?'));
            let joint = if has_query { "&" } else { "?" };
            return format!("curl -g \"$URL\"{}{secret}", quoted(&format!("{joint}{request}")));
        }
        let content_type = quoted(&format!("content-type: {}", self.found.content_type));
        format!("curl \"$URL\" -H {content_type}{secret} --data-raw {}", quoted(request))
    }
}

/// How an attempt ended.
fn outcome(attempt: &Attempt) -> Chip {
    let with = |word: &str| match attempt.status {
        Some(status) => format!("{word} ({})", words::http_status(status)),
        None => word.to_owned(),
    };
    match attempt.outcome {
        Some(AttemptOutcome::Accepted) => Chip::ok(with("Accepted")),
        Some(AttemptOutcome::Retry) => Chip::wait(with("Temporary error")),
        Some(AttemptOutcome::Refused) => Chip::bad(with("Rejected")),
        Some(AttemptOutcome::Blocked) => Chip::bad("Not sent"),
        None if attempt.took_ms.is_none() => Chip::quiet("In progress or interrupted"),
        None => Chip::quiet("Unknown"),
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
    let ledger = viewer.ledger(&state, &snapshot);
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
