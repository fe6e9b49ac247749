//! The pages of Stripe events. Takes a state and a cursor, an event's ID, or a request to process an event again; returns a
//! page of events, or one event with its exact bytes. Rejected webhooks are counted by reason.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::views::numbers::{count, counted, money};
use super::views::times::{Moment, short_day, utc_day};
use super::views::{Chip, Choice, Pager, words};
use crate::custom;
use crate::domain::{EventState, Word as _};
use crate::error::AppError;
use crate::report::{self, Cursor, EventFilter, EventPayment, StripeEvent, StripeEventRow};
use crate::state::AppState;
use crate::stripe;

/// Rows per page.
const ROWS: i64 = 50;
/// Days for which rejected webhooks are counted.
const REJECTED_DAYS: u64 = 28;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    state: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    subtitle: String,
    /// Rejected webhooks.
    rejected: Vec<RejectedItem>,
    rejected_title: String,
    /// Page events that could not be recorded.
    failed_pages: Vec<FailedPageItem>,
    settings_href: String,
    setup_href: String,
    tabs: Vec<Choice>,
    rows: Vec<EventItem>,
    pager: Pager,
}

struct RejectedItem {
    day: String,
    count: String,
    why: String,
    code: String,
    last: Moment,
}

struct FailedPageItem {
    at: Moment,
    name: String,
    url: String,
    error: String,
    rerun: String,
}

struct EventItem {
    at: Moment,
    href: String,
    kind: String,
    object_id: String,
    is_test: bool,
    state: Chip,
    /// The data in the event; may be empty.
    read: String,
    /// What it changed, why it was ignored, or why it failed.
    said: String,
    /// Link to its conversion.
    conversion: Option<String>,
    rerun: Option<String>,
}

#[derive(Template)]
#[template(path = "event.html")]
struct EventPage {
    frame: Frame,
    back: String,
    item: EventItem,
    facts: Vec<(&'static str, String)>,
    /// Result of fetching its checkout from Stripe.
    lookup: Option<String>,
    payments: Vec<PaymentItem>,
    body: String,
}

/// A payment that the event's object belongs to.
struct PaymentItem {
    href: String,
    what: String,
    at: Moment,
}

const STATES: [(&str, &str); 6] = [
    ("", "All"),
    ("received", "Queued"),
    ("failed", "Failed"),
    ("processed", "Processed"),
    ("ignored", "Ignored"),
    ("held", "On hold"),
];

/// `GET /events`.
pub(super) async fn list_events(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(query): Query<ListQuery>,
) -> Result<Response, AppError> {
    let frame = viewer.frame(&state, Tab::Events).await?;
    let current =
        STATES.iter().map(|(word, _)| *word).find(|word| query.state.as_deref() == Some(word));
    let current = current.unwrap_or_default();
    let here = viewer.link("/events").with("state", current);
    let filter = EventFilter {
        site_id: Some(viewer.site.id.clone()),
        state: EventState::parse(current),
        kind: None,
        livemode: Some(!viewer.is_test),
    };
    let after = query.after.as_deref().and_then(Cursor::parse);
    let found = report::stripe_events(&state.store, &filter, after.as_ref(), ROWS).await?;
    let rejected = rejected(&state, &viewer).await?;
    let failed_pages = report::failed_page_events(&state.store, &viewer.site.id).await?;
    let failed_page = |event: report::FailedPageEvent| FailedPageItem {
        at: viewer.times.short_second(event.received_at, viewer.now),
        rerun: viewer.link(&format!("/events/pages/{}/rerun", event.id)).to_string(),
        name: event.name,
        url: event.url.unwrap_or_default(),
        error: event.error,
    };
    let tab = |(word, label): &(&'static str, &'static str)| {
        let choice = Choice::new(&here.with("state", *word), *label, *word == current);
        match *word {
            "failed" if frame.health.events_failed > 0 => {
                choice.counting(frame.health.events_failed)
            }
            "held" if frame.health.events_held > 0 => choice.counting(frame.health.events_held),
            "received" if frame.health.events_waiting > 0 => {
                choice.counting(frame.health.events_waiting)
            }
            _ => choice,
        }
    };
    let page = EventsPage {
        subtitle: format!("As Stripe sent them, newest first. Times in {}.", viewer.times.place),
        rejected_title: rejected.1,
        rejected: rejected.0,
        failed_pages: failed_pages.into_iter().map(failed_page).collect(),
        settings_href: format!("{}#stripe", viewer.link("/settings")),
        setup_href: viewer.link("/setup").to_string(),
        tabs: STATES.iter().map(tab).collect(),
        rows: found.rows.iter().map(|row| event_item(&viewer, row)).collect(),
        pager: Pager::new(&here, found.rows.len(), after.is_none(), found.next.as_ref()),
        frame,
    };
    page::show(&page)
}

/// Rejected webhooks: one row per day and reason, with their title.
async fn rejected(
    state: &AppState,
    viewer: &Viewer,
) -> anyhow::Result<(Vec<RejectedItem>, String)> {
    let since = viewer.now.minus(std::time::Duration::from_secs(REJECTED_DAYS * 86_400));
    let found = report::rejections(&state.store, &viewer.site.id, since).await?;
    let all: i64 = found.iter().map(|rejection| rejection.rejected).sum();
    let title = format!(
        "{} rejected in {REJECTED_DAYS} days",
        counted(all, "webhook was", "webhooks were")
    );
    let item = |rejection: &report::Rejection| RejectedItem {
        day: short_day(utc_day(rejection.day)),
        count: count(rejection.rejected),
        why: words::rejected(&rejection.reason).to_owned(),
        code: rejection.reason.clone(),
        last: viewer
            .times
            .short_second(crate::clock::Timestamp::from_ms(rejection.last_at_ms), viewer.now),
    };
    Ok((found.iter().map(item).collect(), title))
}

fn event_item(viewer: &Viewer, row: &StripeEventRow) -> EventItem {
    let said = match row.state {
        EventState::Held | EventState::Ignored => {
            words::event_reason(row.reason.as_deref().unwrap_or_default()).to_owned()
        }
        EventState::Failed => row.error.clone().unwrap_or_default(),
        EventState::Received | EventState::Processed => row.note.clone().unwrap_or_default(),
    };
    let conversion = row.conversion_id.as_ref();
    let rerun = viewer.link(&format!("/events/{}/rerun", row.id)).to_string();
    EventItem {
        at: viewer.times.short_second(row.received_at, viewer.now),
        href: viewer.link(&format!("/events/{}", row.id)).to_string(),
        kind: if row.kind.is_empty() { "unnamed".to_owned() } else { row.kind.clone() },
        object_id: row.object_id.clone(),
        is_test: !row.livemode,
        state: words::event_chip(row.state),
        read: row.summary.clone().unwrap_or_default(),
        said,
        conversion: conversion.map(|id| viewer.link(&format!("/conversions/{id}")).to_string()),
        rerun: (row.state == EventState::Failed).then_some(rerun),
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
    let page = EventPage {
        frame: viewer.frame(&state, Tab::Events).await?,
        back: viewer.link("/events").to_string(),
        item: event_item(&viewer, &event.row),
        facts: facts(&state, &viewer, &event),
        lookup: event.lookup.clone(),
        payments: event.payments.iter().map(|payment| payment_item(&viewer, payment)).collect(),
        body: indented(&event.body),
    };
    page::show(&page)
}

fn payment_item(viewer: &Viewer, payment: &EventPayment) -> PaymentItem {
    PaymentItem {
        href: viewer.link(&format!("/conversions/{}", payment.id)).to_string(),
        what: format!(
            "{}, {}",
            words::kind(&payment.kind),
            payment.amount.map_or_else(|| "unknown amount".to_owned(), money)
        ),
        at: viewer.times.short(payment.occurred_at, viewer.now),
    }
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

fn facts(state: &AppState, viewer: &Viewer, event: &StripeEvent) -> Vec<(&'static str, String)> {
    let row = &event.row;
    let snapshot = state.settings.current();
    let source =
        snapshot.source(&row.source_id).map_or_else(String::new, |source| source.key.clone());
    let position = event.secret_position + 1;
    let time = |at| viewer.times.second(at).title;
    let mut facts = vec![
        ("Stripe ID", row.event_id.clone()),
        ("Object", row.object_id.clone()),
        ("Endpoint", format!("{source}, {}", if row.livemode { "live" } else { "test" })),
        ("Account", row.account.clone()),
        ("Created", row.created_at.map(time).unwrap_or_default()),
        ("Received", time(row.received_at)),
        (
            "Received by",
            match row.origin.as_str() {
                "webhook" => "webhook".to_owned(),
                "backfill" => "backfill".to_owned(),
                "fetched" => "API request, because another event referred to it".to_owned(),
                other => other.to_owned(),
            },
        ),
        (
            "Received again",
            if row.repeats > 0 { counted(row.repeats, "time", "times") } else { String::new() },
        ),
        ("Processed", row.processed_at.map(time).unwrap_or_default()),
        ("Attempts", count(row.attempts)),
        ("API version", row.api_version.clone().unwrap_or_default()),
        (
            "Signature",
            match position {
                0 => "none: fetched from the Stripe API".to_owned(),
                position => format!("valid, by signing secret {position}"),
            },
        ),
        ("Clickstamp ID", row.id.clone()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts
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
