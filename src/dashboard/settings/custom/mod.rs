//! The pages of postback endpoints. Takes forms; saves a record and redirects, or shows the form again with errors. The
//! pages show received requests and why requests were rejected, in full; the token is only in the URL to copy.

mod list;
mod requests;

use std::time::Duration;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde::Deserialize;

pub(in crate::dashboard) use self::list::{add_postback, list_postbacks};
pub(in crate::dashboard) use self::requests::show_custom_request;

use self::requests::{RequestItem, request_item};
use super::{Tick, sites};
use crate::conversion::{self, Ledger};
use crate::custom;
use crate::dashboard::form::FormData;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::Field;
use crate::dashboard::views::times::Moment;
use crate::error::AppError;
use crate::money::Currency;
use crate::report::{self, CustomRequests};
use crate::settings::{self, Postback, Snapshot, Source};
use crate::state::AppState;

/// Maximum number of requests shown of each kind.
const SHOWN: i64 = 20;

/// How long the old URL keeps working: the form's word, its label, hours.
const OVERLAPS: [(&str, &str, u64); 4] = [
    ("week", "for seven more days", 7 * 24),
    ("day", "for one more day", 24),
    ("month", "for thirty more days", 30 * 24),
    ("none", "no longer, because it leaked", 0),
];

/// The forms of an endpoint's page, if they were refused.
#[derive(Default)]
struct Entered {
    test: FormData,
    options: FormData,
}

#[derive(Template)]
#[template(path = "custom_source.html")]
struct SourcePage {
    frame: Frame,
    back: String,
    key: String,
    done: Option<&'static str>,
    url: String,
    old_until: Option<Moment>,
    postback: String,
    curl: String,
    taken: Vec<RequestItem>,
    refused: Vec<RequestItem>,
    test_action: String,
    click_id: Field,
    value: Field,
    rotate_action: String,
    overlaps: Vec<Tick>,
    action: String,
    sites: Vec<Tick>,
    site: Field,
    currency: Field,
    site_currency: String,
    /// Destinations; selected ones never get its conversions.
    never_to: Vec<Tick>,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct SavedQuery {
    saved: Option<String>,
}

fn saved(viewer: &Viewer, key: &str, what: &str) -> Response {
    let there = viewer.link(&format!("/settings/custom/{key}"));
    page::see_other(&there.with("saved", what).to_string())
}

fn find<'a>(snapshot: &'a Snapshot, key: &str) -> Result<(&'a Source, &'a Postback), AppError> {
    let found = snapshot.custom_source_by_key(key);
    found.ok_or_else(|| AppError::not_found("Endpoint not found."))
}

/// `GET /settings/custom/{key}`.
pub(in crate::dashboard) async fn show_postback(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Query(query): Query<SavedQuery>,
) -> Result<Response, AppError> {
    let mut page = source_page(&state, &viewer, &key, &Entered::default()).await?;
    page.done = match query.saved.as_deref() {
        Some("added") => Some("Endpoint added."),
        Some("source") => Some("Saved."),
        Some("rotated") => Some("Here is the new URL. Use it everywhere instead of the old one."),
        _ => None,
    };
    page::show(&page)
}

async fn source_page(
    state: &AppState,
    viewer: &Viewer,
    key: &str,
    entered: &Entered,
) -> Result<SourcePage, AppError> {
    let snapshot = state.settings.current();
    let (source, postback) = find(&snapshot, key)?;
    let url = format!("{}/webhooks/custom/{}", viewer.client.base, postback.token.expose());
    let site = snapshot.site(&source.site_id);
    let chosen_site = entered.options.field("source_site", site.map_or("", |site| &site.key));
    let currency = postback.currency.map(|it| it.code().to_owned()).unwrap_or_default();
    let never_to = |found: &settings::Destination| {
        let stored = source.never_to.contains(&found.id);
        entered.options.tick(&format!("never_{}", found.key), stored)
    };
    let action = |rest: &str| viewer.link(&format!("/settings/custom/{key}{rest}")).to_string();
    let mut lists = [Vec::new(), Vec::new()];
    let kinds = [CustomRequests::Taken, CustomRequests::Refused];
    for (list, which) in lists.iter_mut().zip(kinds) {
        let found = report::custom_requests(&state.store, &source.id, which, SHOWN).await?;
        list.extend(found.iter().map(|request| request_item(viewer, key, request)));
    }
    let [taken, refused] = lists;
    Ok(SourcePage {
        frame: viewer.frame(state, Tab::Settings).await?,
        back: viewer.link("/settings/custom").to_string(),
        key: key.to_owned(),
        done: None,
        old_until: postback
            .old_until(viewer.now)
            .map(|until| viewer.times.short(until, viewer.now)),
        postback: format!(
            "{url}?click_id={{clickid}}&value={{payout}}&currency=USD&transaction_id={{txid}}&event_name=Purchase"
        ),
        curl: format!(
            "curl '{url}?email=test@example.com&value=1.00&transaction_id=test-1&test=1'"
        ),
        url,
        taken,
        refused,
        test_action: action("/test"),
        click_id: entered.test.field("click_id", ""),
        value: entered.test.field("value", "1.00"),
        rotate_action: action("/rotate"),
        overlaps: OVERLAPS
            .iter()
            .enumerate()
            .map(|(at, (word, label, _))| Tick {
                word: (*word).to_owned(),
                label: (*label).to_owned(),
                is_chosen: at == 0,
            })
            .collect(),
        action: action(""),
        sites: sites(&snapshot, &chosen_site.value),
        site: chosen_site,
        currency: entered.options.field("currency", currency),
        never_to: snapshot
            .destinations
            .iter()
            .map(|found| Tick {
                word: found.key.clone(),
                label: found.name.clone(),
                is_chosen: never_to(found),
            })
            .collect(),
        site_currency: site.map_or_else(String::new, |site| site.currency.code().to_owned()),
    })
}

/// `POST /settings/custom/{key}`: the site, the currency, and destinations that never get its conversions.
pub(in crate::dashboard) async fn change_postback(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    mut form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let (source, _) = find(&snapshot, &key)?;
    let (text, site) = (form.text("currency"), snapshot.site_by_key(&form.text("source_site")));
    let currency = Currency::parse(&text);
    if currency.is_none() && !text.is_empty() {
        form.refuse("currency", "A currency has three letters, such as USD.");
    }
    if site.is_none() {
        form.refuse("source_site", "Select a site.");
    }
    let Some(site) = site.filter(|_| form.is_right()) else {
        return refuse(&state, &viewer, &key, Entered { options: form, ..Entered::default() })
            .await;
    };
    let never_to = snapshot.destinations.iter();
    let never_to = never_to.filter(|to| form.is_on(&format!("never_{}", to.key)));
    let never_to: Vec<String> = never_to.map(|to| to.id.clone()).collect();
    let (store, settings) = (&state.store, &state.settings);
    settings::save_postback(store, settings, &source.id, &site.id, currency, &never_to).await?;
    if site.id != source.site_id {
        conversion::move_with_source(store, &source.id, &source.site_id).await?;
        state.wakeups.visit_recorded.notify_one();
    }
    Ok(saved(&viewer, &key, "source"))
}

async fn refuse(
    state: &AppState,
    viewer: &Viewer,
    key: &str,
    entered: Entered,
) -> Result<Response, AppError> {
    let page = source_page(state, viewer, key, &entered).await?;
    page::refuse(&page)
}

/// `POST /settings/custom/{key}/rotate`: creates a new URL; the old one keeps working for a while.
pub(in crate::dashboard) async fn rotate_custom_token(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let (source, _) = find(&snapshot, &key)?;
    let chosen = OVERLAPS.iter().find(|(word, _, _)| *word == form.text("overlap"));
    let (_, _, hours) = chosen
        .ok_or_else(|| AppError::bad_request("Select how long the old URL keeps working."))?;
    let overlap = Duration::from_secs(hours * 3600);
    let (store, settings) = (&state.store, &state.settings);
    settings::rotate_token(store, settings, viewer.now, &source.id, overlap).await?;
    tracing::info!(source = source.key, hours, "a custom source has a new token");
    Ok(saved(&viewer, &key, "rotated"))
}

/// `POST /settings/custom/{key}/test`: a conversion as a sender would report it, marked as a test.
pub(in crate::dashboard) async fn send_test_conversion(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    mut form: FormData,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let (source, _) = find(&snapshot, &key)?;
    let request = custom::test_request(viewer.now, &form.text("click_id"), &form.text("value"));
    let ledger = Ledger {
        keys: &state.click_ids,
        settings: &snapshot,
        later: Some(&state.settings),
        now: viewer.now,
    };
    let refusal = match custom::record(&state.store, ledger, source, request).await? {
        Ok(recorded) => {
            state.wakeups.delivery_queued.notify_one();
            let id = recorded.processed.conversion_id.unwrap_or_default();
            let there = viewer.link(&format!("/conversions/{id}")).with("mode", "test");
            return Ok(page::see_other(&there.to_string()));
        }
        Err(refusal) => refusal,
    };
    let at_fault = match refusal.parameter.as_deref() {
        Some("value") => "value",
        _ => "click_id",
    };
    form.refuse(at_fault, refusal.error);
    refuse(&state, &viewer, &key, Entered { test: form, ..Entered::default() }).await
}
