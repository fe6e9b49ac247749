//! The requests that a postback endpoint received: in a list, and each in full with the reason why it was rejected.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;

use super::find;
use crate::custom;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::Chip;
use crate::dashboard::views::times::Moment;
use crate::error::AppError;
use crate::report::{self, CustomRequest};
use crate::state::AppState;

/// One request in a list.
pub(super) struct RequestItem {
    pub(super) href: String,
    pub(super) at: Moment,
    pub(super) state: Chip,
    /// Link to its conversion.
    pub(super) conversion: Option<String>,
    /// The error, or the warnings that its sender got.
    pub(super) said: String,
    /// Its parameters in one line.
    pub(super) sent: String,
}

#[derive(Template)]
#[template(path = "custom_request.html")]
struct RequestPage {
    frame: Frame,
    back: String,
    key: String,
    at: Moment,
    state: Chip,
    error: String,
    warnings: Vec<String>,
    conversion: Option<String>,
    content_type: String,
    line: String,
    parameters: Vec<(String, String)>,
    body: String,
}

pub(super) fn request_item(viewer: &Viewer, key: &str, request: &CustomRequest) -> RequestItem {
    RequestItem {
        href: viewer.link(&format!("/settings/custom/{key}/requests/{}", request.id)).to_string(),
        at: viewer.times.short_second(request.received_at, viewer.now),
        state: state_chip(&request.state),
        conversion: conversion_href(viewer, request),
        said: match &request.error {
            Some(_) => refusal(request),
            None => request.warnings.join("; "),
        },
        sent: sent(request),
    }
}

/// The request in one line.
fn sent(request: &CustomRequest) -> String {
    let line = [request.query.as_str(), request.body.as_str()].join(" ");
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect()
}

fn conversion_href(viewer: &Viewer, request: &CustomRequest) -> Option<String> {
    let id = request.conversion_id.as_ref()?;
    Some(viewer.link(&format!("/conversions/{id}")).to_string())
}

fn state_chip(state: &str) -> Chip {
    match state {
        "recorded" => Chip::ok("Recorded"),
        "repeated" => Chip::quiet("Repeat"),
        _ => Chip::bad("Rejected"),
    }
}

fn refusal(request: &CustomRequest) -> String {
    let error = request.error.as_deref().unwrap_or_default();
    match &request.parameter {
        Some(parameter) => format!("{parameter}: {error}"),
        None => error.to_owned(),
    }
}

/// `GET /settings/custom/{key}/requests/{id}`.
pub(in crate::dashboard) async fn show_custom_request(
    State(state): State<AppState>,
    viewer: Viewer,
    Path((key, id)): Path<(String, String)>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let (source, _) = find(&snapshot, &key)?;
    let found = report::custom_request(&state.store, &id).await?;
    let request = found.filter(|request| request.source_id == source.id);
    let request = request.ok_or_else(|| {
        AppError::not_found("Request not found. Only the last 200 rejected requests are kept.")
    })?;
    let query = if request.query.is_empty() { "" } else { "?" };
    page::show(&RequestPage {
        frame: viewer.frame(&state, Tab::Settings).await?,
        back: viewer.link(&format!("/settings/custom/{key}")).to_string(),
        key,
        at: viewer.times.second(request.received_at),
        state: state_chip(&request.state),
        error: refusal(&request),
        conversion: conversion_href(&viewer, &request),
        line: format!("{} /webhooks/custom/…{query}{}", request.method, request.query),
        parameters: custom::listed(&request.query, &request.content_type, request.body.as_bytes()),
        warnings: request.warnings,
        content_type: request.content_type,
        body: request.body,
    })
}
