//! The list of postback endpoints, and the form that adds one. Takes the key of a new endpoint; returns the page, or adds
//! a record and redirects.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::{Tick, key, sites};
use super::saved;
use crate::dashboard::form::FormData;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::Field;
use crate::error::AppError;
use crate::report::{self, CustomRequests};
use crate::settings::{self, Added, SourceKind};
use crate::state::AppState;

/// One postback endpoint in the list.
struct SourceItem {
    key: String,
    href: String,
    site: String,
    heard: String,
}

#[derive(Template)]
#[template(path = "custom_sources.html")]
struct SourcesPage {
    frame: Frame,
    back: String,
    rows: Vec<SourceItem>,
    action: String,
    key: Field,
    sites: Vec<Tick>,
}

/// `GET /settings/custom`.
pub(in crate::dashboard) async fn list_postbacks(
    State(state): State<AppState>,
    viewer: Viewer,
) -> Result<Response, AppError> {
    page::show(&sources_page(&state, &viewer, &FormData::default()).await?)
}

/// `POST /settings/custom`.
pub(in crate::dashboard) async fn add_postback(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    let key = key::read(&mut form, "the URL of its page");
    let snapshot = state.settings.current();
    let site = snapshot.site_by_key(&form.text("source_site")).unwrap_or(&viewer.site).clone();
    if form.is_right() {
        let (store, settings) = (&state.store, &state.settings);
        let added =
            settings::add_custom_source(store, settings, viewer.now, &site.id, &key).await?;
        if added == Added::Done {
            return Ok(saved(&viewer, &key, "added"));
        }
        let most = settings::MAX_CUSTOM_SOURCES;
        let fault = key::fault(&added, "Another endpoint", most, "endpoints");
        form.refuse("key", fault.unwrap_or_default());
    }
    page::refuse(&sources_page(&state, &viewer, &form).await?)
}

async fn sources_page(
    state: &AppState,
    viewer: &Viewer,
    form: &FormData,
) -> Result<SourcesPage, AppError> {
    let snapshot = state.settings.current();
    let mut rows = Vec::new();
    for source in snapshot.sources.iter().filter(|source| source.kind == SourceKind::Custom) {
        let last = report::custom_requests(&state.store, &source.id, CustomRequests::Taken, 1);
        rows.push(SourceItem {
            key: source.key.clone(),
            href: viewer.link(&format!("/settings/custom/{}", source.key)).to_string(),
            site: snapshot.site(&source.site_id).map_or_else(String::new, |site| site.name.clone()),
            heard: match last.await?.first() {
                Some(last) => viewer.times.ago(last.received_at, viewer.now),
                None => "not yet".to_owned(),
            },
        });
    }
    Ok(SourcesPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        back: viewer.link("/settings").to_string(),
        rows,
        action: viewer.link("/settings/custom").to_string(),
        key: form.field("key", ""),
        sites: sites(&snapshot, &form.field("source_site", viewer.site.key.clone()).value),
    })
}
