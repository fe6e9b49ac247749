//! The pages of Stripe webhook endpoints: status, secrets, options and reconciliation. Takes forms; saves a record and
//! redirects, or shows the form again with errors. Only the last four characters of a secret are shown. Each page shows
//! the last event, and why webhooks were rejected.

mod keys;
mod list;
mod save;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::HeaderValue;
use axum::response::Response;
use serde::Deserialize;

pub(in crate::dashboard) use self::keys::{add_secret, remove_secret, save_api_key};
pub(in crate::dashboard) use self::list::{add_source, list_sources};
pub(in crate::dashboard) use self::save::{accept_held, save_source};

use self::keys::{SecretItem, secrets};
use self::save::names_payments;
use super::{Tick, sites};
use crate::clock::Timestamp;
use crate::dashboard::form::FormData;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::times::Moment;
use crate::dashboard::views::{Field, numbers, words};
use crate::domain::Word as _;
use crate::error::AppError;
use crate::report::{self, Heard};
use crate::settings::{Snapshot, Source, SourceMode};
use crate::state::AppState;
use crate::stripe::EVENT_TYPES;

/// Maximum number of signing secrets; rotation never needs more.
const MAX_SECRETS: usize = 4;
/// Days for which rejections are shown.
const REJECTION_DAYS: u64 = 7;
/// Maximum number of events on hold that are listed.
const HELD_SHOWN: i64 = 20;
/// Seconds between reloads of a page that waits for the first event.
const WATCH_SECONDS: &str = "5";
struct RejectionItem {
    count: String,
    why: String,
    last: Moment,
}

struct HeldItem {
    at: Moment,
    href: String,
    kind: String,
    read: String,
    why: String,
}

struct SourceForm {
    site: Field,
    metadata_key: Field,
    mode: Field,
    account: Field,
    record_bare_payment_intents: bool,
    /// The error if recording payment intents without a checkout was refused.
    bare_error: Option<String>,
}

#[derive(Template)]
#[template(path = "source.html")]
struct SourcePage {
    frame: Frame,
    back: String,
    key: String,
    done: Option<&'static str>,
    webhook: String,
    events: Vec<&'static str>,
    events_text: String,
    /// CSS class of the status: `ok`, `wait` or empty.
    heard_class: &'static str,
    heard: String,
    heard_href: Option<String>,
    heard_warning: Option<String>,
    /// Events on hold, newest first.
    held: Vec<HeldItem>,
    held_title: String,
    held_until_ms: i64,
    accept_action: String,
    /// Whether invoices may be counted twice.
    counts_twice: bool,
    watch_href: String,
    is_watching: bool,
    stop_href: String,
    secrets: Vec<SecretItem>,
    from_environment: bool,
    has_room: bool,
    secret_action: String,
    remove_action: String,
    secret_error: Option<String>,
    rejections: Vec<RejectionItem>,
    /// Its own API key, masked.
    api_key: Option<String>,
    api_key_is_fixed: bool,
    /// Whether it uses the API key of `main`.
    main_has_key: bool,
    api_key_action: String,
    api_key_error: Option<String>,
    action: String,
    form: SourceForm,
    sites: Vec<Tick>,
    modes: Vec<Tick>,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct SourceQuery {
    saved: Option<String>,
    watch: Option<String>,
}

fn mode_label(mode: SourceMode) -> &'static str {
    match mode {
        SourceMode::Any => "live or test",
        SourceMode::Live => "live mode",
        SourceMode::Test => "test mode",
    }
}

/// The last event verified with one of its current secrets, or else an earlier event.
async fn heard(state: &AppState, source: &Source) -> Result<Option<Heard>, AppError> {
    let mut last: Option<Heard> = None;
    for position in 0..4 {
        let heard =
            report::last_heard(&state.store, &source.id, position, Default::default()).await?;
        if let Some(heard) = heard
            && last.as_ref().is_none_or(|last| last.at < heard.at)
        {
            last = Some(heard);
        }
    }
    Ok(last)
}

/// The endpoint's own API key, masked.
fn api_key(state: &AppState, source: &Source) -> Option<String> {
    let key = state.api_key_of(source)?;
    let kind: String = key.expose().chars().take("rk_live_".len()).collect();
    let is_long = key.expose().len() >= kind.len() + 12;
    Some(format!("{kind}…{}", if is_long { key.tail() } else { "" }))
}

fn find<'a>(snapshot: &'a Snapshot, key: &str) -> Result<&'a Source, AppError> {
    let source = snapshot.stripe_source(key);
    source.ok_or_else(|| AppError::not_found("Webhook not found."))
}

/// `GET /settings/sources/{key}`.
pub(in crate::dashboard) async fn show_source(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Query(query): Query<SourceQuery>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let mut page = source_page(&state, &viewer, source, &FormData::default(), None).await?;
    page.done = match query.saved.as_deref() {
        Some("added") => Some("Webhook added. Now create its endpoint in Stripe."),
        Some("source") => Some("Saved."),
        Some("accepted") => Some("Events accepted. They are processed within seconds."),
        Some("secret") => Some("Signing secret added. It is used from the next webhook on."),
        Some("removed") => Some("Signing secret removed."),
        Some("api-key") => Some("API key saved. Payments are compared with Stripe within minutes."),
        Some("api-key-removed") => Some("API key removed."),
        _ => None,
    };
    page.is_watching = query.watch.is_some() && page.heard_class == "wait";
    let is_watching = page.is_watching;
    let mut response = page::show(&page)?;
    if is_watching {
        response.headers_mut().insert("refresh", HeaderValue::from_static(WATCH_SECONDS));
    }
    Ok(response)
}

fn source_form(snapshot: &Snapshot, source: &Source, form: &FormData) -> SourceForm {
    let site = snapshot.site(&source.site_id).map_or("", |site| &site.key);
    let bare = "record_bare_payment_intents";
    SourceForm {
        site: form.field("source_site", site),
        metadata_key: form.field("metadata_key", source.metadata_key.clone()),
        mode: form.field("source_mode", source.mode.as_str()),
        account: form.field("account", source.account.clone()),
        record_bare_payment_intents: form.tick(bare, source.record_bare_payment_intents),
        bare_error: form.error(bare),
    }
}

async fn source_page(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
    form: &FormData,
    secret_error: Option<String>,
) -> Result<SourcePage, AppError> {
    let snapshot = state.settings.current();
    let form = source_form(&snapshot, source, form);
    let here = viewer.link(&format!("/settings/sources/{}", source.key));
    let action =
        |rest: &str| viewer.link(&format!("/settings/sources/{}{rest}", source.key)).to_string();
    let last = heard(state, source).await?;
    let held = report::held_events(&state.store, &source.id, HELD_SHOWN).await?;
    let counts_twice = source.record_bare_payment_intents && {
        let invoices = report::invoice_events(&state.store, &source.id).await?;
        invoices.any && !names_payments(invoices)
    };
    let (heard_class, heard, heard_href) = match &last {
        Some(last) => (
            "ok",
            format!("Received: {}, {}", last.kind, viewer.times.ago(last.at, viewer.now)),
            Some(viewer.link(&format!("/events/{}", last.id)).to_string()),
        ),
        None if source.secrets.is_empty() => {
            ("", "Waiting for its signing secret".to_owned(), None)
        }
        None => ("wait", "Waiting for the first event".to_owned(), None),
    };
    let other_mode = |last: &Heard| match source.mode {
        SourceMode::Live if !last.livemode => Some(
            "It was a test-mode event, but this endpoint is for live mode. Only Connect endpoints send both.",
        ),
        SourceMode::Test if last.livemode => Some(
            "It was a live-mode event, but this endpoint is for test mode. Is this the right endpoint’s secret?",
        ),
        SourceMode::Any | SourceMode::Live | SourceMode::Test => None,
    };
    let mode = |mode: SourceMode| Tick {
        word: mode.as_str().to_owned(),
        label: mode_label(mode).to_owned(),
        is_chosen: form.mode.value == mode.as_str(),
    };
    Ok(SourcePage {
        frame: viewer.frame(state, Tab::Settings).await?,
        back: viewer.link("/settings/sources").to_string(),
        key: source.key.clone(),
        done: None,
        webhook: format!("{}/webhooks/stripe/{}", viewer.client.base, source.key),
        events: EVENT_TYPES.into(),
        events_text: EVENT_TYPES.join(" "),
        heard_class,
        heard,
        heard_href,
        heard_warning: last.as_ref().and_then(other_mode).map(str::to_owned),
        counts_twice,
        held_title: format!("{} on hold", numbers::counted(held.count, "event is", "events are")),
        held: held.newest.iter().map(|event| held_item(viewer, event)).collect(),
        held_until_ms: viewer.now.as_ms(),
        accept_action: action("/accept"),
        watch_href: here.with("watch", "1").to_string(),
        is_watching: false,
        stop_href: here.to_string(),
        secrets: secrets(state, viewer, source).await?,
        from_environment: source.from_environment,
        has_room: source.secrets.len() < MAX_SECRETS,
        secret_action: action("/secrets"),
        remove_action: action("/secrets/remove"),
        secret_error,
        rejections: rejections(state, viewer, source).await?,
        api_key: api_key(state, source),
        api_key_is_fixed: is_fixed(state, source),
        main_has_key: source.key != "main"
            && snapshot.stripe_source("main").is_some_and(|main| api_key(state, main).is_some()),
        api_key_action: action("/api-key"),
        api_key_error: None,
        action: action(""),
        sites: sites(&snapshot, &form.site.value),
        modes: SourceMode::ALL.iter().copied().map(mode).collect(),
        form,
    })
}

fn held_item(viewer: &Viewer, event: &report::StripeEventRow) -> HeldItem {
    HeldItem {
        at: viewer.times.short(event.received_at, viewer.now),
        href: viewer.link(&format!("/events/{}", event.id)).to_string(),
        kind: event.kind.clone(),
        read: event.summary.clone().unwrap_or_default(),
        why: words::event_reason(event.reason.as_deref().unwrap_or_default()).to_owned(),
    }
}

async fn rejections(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
) -> Result<Vec<RejectionItem>, AppError> {
    let since = viewer.now.minus(std::time::Duration::from_secs(REJECTION_DAYS * 86_400));
    let found = report::rejections(&state.store, &source.site_id, since).await?;
    let mut by_reason: Vec<(String, i64, i64)> = Vec::new();
    for row in found.into_iter().filter(|row| row.source_id == source.id) {
        match by_reason.iter_mut().find(|(reason, _, _)| *reason == row.reason) {
            Some((_, count, last)) => {
                *count += row.rejected;
                *last = (*last).max(row.last_at_ms);
            }
            None => by_reason.push((row.reason, row.rejected, row.last_at_ms)),
        }
    }
    let item = |(reason, count, last): (String, i64, i64)| RejectionItem {
        count: numbers::count(count),
        why: words::rejected(&reason).to_owned(),
        last: viewer.times.short(Timestamp::from_ms(last), viewer.now),
    };
    Ok(by_reason.into_iter().map(item).collect())
}

fn saved(viewer: &Viewer, key: &str, what: &str) -> Response {
    let here = viewer.link(&format!("/settings/sources/{key}"));
    page::see_other(&here.with("saved", what).to_string())
}

async fn refuse(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
    form: &FormData,
    secret_error: Option<String>,
) -> Result<Response, AppError> {
    let page = source_page(state, viewer, source, form, secret_error).await?;
    page::refuse(&page)
}

/// Whether the environment sets the API key.
fn is_fixed(state: &AppState, source: &Source) -> bool {
    source.key == "main" && state.config.stripe_api_key.is_some()
}
