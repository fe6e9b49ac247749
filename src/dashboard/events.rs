//! The pages of Stripe events. Takes filters and a cursor, an event's ID, or a request to process an event again; returns a
//! page of events, or one event with its exact bytes. Rejected webhooks are counted by reason.

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::frame::{Frame, Tab, Viewer};
use super::list::{List, Listing, ROWS, chip_label, state_tabs};
use super::page;
use super::views::numbers::{count, counted};
use super::views::{Choice, Link, numbers, times, words};
use crate::clock::Timestamp;
use crate::custom;
use crate::domain::{EventOrigin, EventState};
use crate::error::AppError;
use crate::report::{
    self, EventFilter, FailedPageEvent, Health, Rejection, StripeEvent, StripeEventRow,
};
use crate::state::AppState;
use crate::stripe;

/// Days for which rejected webhooks are counted.
const REJECTED_DAYS: u64 = 28;

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    list: List<StripeEventRow>,
    rejected: Vec<Rejection>,
    /// Page events that could not be recorded.
    failed_pages: Vec<FailedPageEvent>,
    /// How many page events do not count.
    apart: i64,
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    event: &'a StripeEvent,
    row: &'a StripeEventRow,
    /// The key of the webhook endpoint.
    source: String,
}

/// `GET /events`.
pub(super) async fn list_events(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let here = viewer.link("/events");
    let listing = Listing::<EventFilter>::read(&mut viewer, &state.settings.current(), &here);
    let filter = EventFilter {
        site_id: Some(viewer.site.id.clone()),
        livemode: Some(!viewer.is_test),
        ..listing.filter.clone()
    };
    let found = report::stripe_events(&state.store, &filter, listing.after.as_ref(), ROWS).await?;
    let since = viewer.now.minus(Duration::from_secs(REJECTED_DAYS * 86_400));
    let frame = viewer.frame(&state, Tab::Events).await?;
    let apart = report::apart_sums(&state.store, &viewer.site.id).await?;
    let page = EventsPage {
        apart: apart.iter().map(|sum| sum.events).sum(),
        rejected: report::rejections(&state.store, &viewer.site.id, since).await?,
        failed_pages: report::failed_page_events(&state.store, &viewer.site.id).await?,
        list: List {
            name: "Stripe events",
            subtitle: format!(
                "As Stripe sent them, newest first. Times in {}.",
                viewer.times.place
            ),
            period: None,
            heading: "Events".to_owned(),
            tabs: tabs(&listing.here, filter.state, &frame.health),
            chips: listing.chips(&["state"], chip_label),
            pager: listing.pager(&found),
            rows: found.rows,
        },
        viewer: &viewer,
        frame,
    };
    page::show(&page)
}

fn tabs(here: &Link, current: Option<EventState>, health: &Health) -> Vec<Choice> {
    let states = [
        (EventState::Received, "Queued", health.events_waiting),
        (EventState::Failed, "Failed", health.events_failed),
        (EventState::Processed, "Processed", 0),
        (EventState::Ignored, "Ignored", 0),
        (EventState::Held, "On hold", health.events_held),
    ];
    state_tabs(here, current, &states)
}

impl EventsPage<'_> {
    fn rejected_title(&self) -> String {
        let all = self.rejected.iter().map(|row| row.rejected).sum();
        let webhooks = counted(all, "webhook was", "webhooks were");
        format!("{webhooks} rejected in {REJECTED_DAYS} days")
    }
}

/// `GET /events/{id}`.
pub(super) async fn show_event(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    let found = report::stripe_event(&state.store, &id).await?;
    let event = found.ok_or_else(|| AppError::not_found("Stripe event not found."))?;
    let snapshot = state.settings.current();
    let source = snapshot.source(&event.row.source_id);
    let page = EventPage {
        frame: viewer.frame(&state, Tab::Events).await?,
        viewer: &viewer,
        row: &event.row,
        event: &event,
        source: source.map(|source| source.key.clone()).unwrap_or_default(),
    };
    page::show(&page)
}

/// Maximum indentation: anything deeper would be far to the right of every screen.
const INDENTED_LEVELS: usize = 40;
/// Maximum length of a text shown with line breaks. A body of only brackets would grow to many times its size.
const INDENTED_BYTES: usize = 8 * 1024 * 1024;

/// Adds line breaks to JSON without changing numbers or the order of fields; returns other text unchanged.
fn indented(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return text.into_owned();
    }
    let (mut out, mut depth, mut is_text, mut is_escaped) = (String::new(), 0_usize, false, false);
    let mut rest = text.chars().peekable();
    let new_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(INDENTED_LEVELS)));
    };
    while let Some(char) = rest.next() {
        if out.len() > INDENTED_BYTES {
            return text.into_owned();
        }
        if is_text {
            out.push(char);
            is_text = is_escaped || char != '"';
            is_escaped = char == '\\' && !is_escaped;
            continue;
        }
        match char {
            ' ' | '\n' | '\r' | '\t' => {}
            '"' => {
                is_text = true;
                out.push(char);
            }
            '{' | '[' => {
                out.push(char);
                while rest.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if !matches!(rest.peek(), Some('}' | ']')) {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                if !out.ends_with(['{', '[']) {
                    depth = depth.saturating_sub(1);
                    new_line(&mut out, depth);
                }
                out.push(char);
            }
            ',' => {
                out.push(char);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => out.push(char),
        }
    }
    out
}

impl EventPage<'_> {
    /// Names and values; a fact without a value is left out.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let (row, source) = (self.row, &self.source);
        let time = |at| self.viewer.times.second(at).title;
        let mut facts = vec![
            ("Stripe ID", row.event_id.clone()),
            ("Object", row.object_id.clone()),
            ("Endpoint", format!("{source}, {}", if row.livemode { "live" } else { "test" })),
            ("Account", row.account.clone()),
            ("Created", row.created_at.map(time).unwrap_or_default()),
            ("Received", time(row.received_at)),
            ("Received by", received_by(row.origin).to_owned()),
            ("Received again", again(row.repeats)),
            ("Processed", row.processed_at.map(time).unwrap_or_default()),
            ("Attempts", count(row.attempts)),
            ("API version", row.api_version.clone().unwrap_or_default()),
            ("Signature", signature(self.event.secret_position)),
            ("Clickstamp ID", row.id.clone()),
        ];
        facts.retain(|(_, value)| !value.is_empty());
        facts
    }
}

fn received_by(origin: EventOrigin) -> &'static str {
    match origin {
        EventOrigin::Webhook => "webhook",
        EventOrigin::Backfill => "backfill",
        EventOrigin::Fetched => "API request, because another event referred to it",
    }
}

fn again(repeats: i64) -> String {
    if repeats > 0 { counted(repeats, "time", "times") } else { String::new() }
}

fn signature(secret_position: i64) -> String {
    match secret_position + 1 {
        0 => "none: fetched from the Stripe API".to_owned(),
        position => format!("valid, by signing secret {position}"),
    }
}

/// `POST /events/{id}/rerun`.
pub(super) async fn rerun_event(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    if stripe::rerun(&state.store, viewer.now, &id).await? {
        state.wakeups.event_stored.notify_one();
        return Ok(page::see_other(&viewer.link(&format!("/events/{id}")).to_string()));
    }
    let line = "This event can’t be processed again. Only failed events can.";
    Err(AppError::new(StatusCode::CONFLICT, line))
}

/// `POST /events/pages/{id}/rerun`.
pub(super) async fn rerun_page_event(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    if custom::page::rerun(&state.store, viewer.now, &id).await? {
        state.wakeups.event_stored.notify_one();
        return Ok(page::see_other(&viewer.link("/events").to_string()));
    }
    let line = "This page event can’t be processed again. Only failed events can.";
    Err(AppError::new(StatusCode::CONFLICT, line))
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn bodies_are_shown_with_line_breaks_and_nothing_else_changed() {
        let rows = [
            (r#"{"b":1.50,"a":{}}"#, "{\n  \"b\": 1.50,\n  \"a\": {}\n}"),
            (r#"[1,[ ],"a,\"{b"]"#, "[\n  1,\n  [],\n  \"a,\\\"{b\"\n]"),
            (
                r#"{"t":"\\","n":9007199254740993}"#,
                "{\n  \"t\": \"\\\\\",\n  \"n\": 9007199254740993\n}",
            ),
            ("not json {", "not json {"),
            ("", ""),
        ];
        for (body, expected) in rows {
            assert_eq!(indented(body.as_bytes()), expected, "{body}");
        }
    }
}
