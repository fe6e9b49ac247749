//! The sources: Stripe's webhook endpoints, each with its secrets, and how the books compare.
//! In: what was entered. Out: a record saved and a redirect, or the form again with the reason beside the field.
//! Promise: no secret is shown but its last four characters; each page says whether Stripe was heard, and what it was refused for.

use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::forms::{FROM_ENVIRONMENT, SecretSent, read_secrets};
use super::site::key_fault;
use crate::config::{self, Secret};
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::times::Moment;
use crate::dashboard::views::{Field, entered, numbers, words};
use crate::error::AppError;
use crate::report::{self, Heard};
use crate::settings::{self, Added, Snapshot, Source, SourceMode};
use crate::state::AppState;
use crate::stripe::reconcile::Reconciled;
use crate::stripe::{self, EVENT_TYPES};

/// Most signing secrets of a source: more are never in use at a time.
const MAX_SECRETS: usize = 4;
/// How long a secret must not have been used before we say that it can go: Stripe signs with both for at most a day.
const UNUSED_SECONDS: u64 = 86_400;
/// Days of rejections that are shown.
const REJECTION_DAYS: u64 = 7;
/// Seconds between two looks of a page that waits for the first event.
const WATCH_SECONDS: &str = "5";
/// Longest key in Stripe's metadata.
const MAX_METADATA_KEY: usize = 40;

/// One source in the list.
struct SourceItem {
    key: String,
    href: String,
    site: String,
    mode: &'static str,
    secrets: String,
    api_key: String,
    heard: String,
}

/// The comparison with Stripe's books.
struct Books {
    /// Whose.
    source: String,
    /// `ok`, `bad`.
    class: &'static str,
    headline: String,
    /// When, and of which days.
    when: String,
    error: Option<String>,
    totals: Vec<String>,
    differences: Vec<BooksDifference>,
    /// `and 20 more`
    more: String,
}

struct BooksDifference {
    day: String,
    stripe_id: String,
    stripe: String,
    here: String,
    href: Option<String>,
    fix: String,
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    frame: Frame,
    back: String,
    custom_href: String,
    rows: Vec<SourceItem>,
    has_key: bool,
    books: Vec<Books>,
    action: String,
    key: Field,
    sites: Vec<Tick>,
    has_several_sites: bool,
}

/// One of several to choose from.
struct Tick {
    word: String,
    label: String,
    is_chosen: bool,
}

/// A signing secret as it may be shown.
struct SecretItem {
    position: usize,
    shown: String,
    used: String,
    can_go: bool,
}

struct RejectionItem {
    count: String,
    why: String,
    last: Moment,
}

struct SourceForm {
    site: Field,
    metadata_key: Field,
    mode: Field,
    account: Field,
    record_bare_payment_intents: bool,
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
    /// `ok`, `wait`, `` of the live check.
    heard_class: &'static str,
    heard: String,
    heard_href: Option<String>,
    heard_warning: Option<String>,
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
    /// Its own, masked.
    api_key: Option<String>,
    api_key_is_fixed: bool,
    /// True where that of `main` serves it.
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

#[derive(Deserialize)]
pub(in crate::dashboard) struct NewSourceSent {
    #[serde(default)]
    key: String,
    #[serde(default)]
    source_site: String,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct SourceSent {
    #[serde(default)]
    source_site: String,
    #[serde(default)]
    metadata_key: String,
    #[serde(default)]
    source_mode: String,
    #[serde(default)]
    account: String,
    record_bare_payment_intents: Option<String>,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct RemovedSecret {
    #[serde(default)]
    position: usize,
    /// Its last characters: the list may have changed since the page was shown.
    #[serde(default)]
    shown: String,
}

/// `GET /settings/sources`.
pub(in crate::dashboard) async fn list_sources(
    State(state): State<AppState>,
    viewer: Viewer,
) -> Result<Response, AppError> {
    let site = viewer.site.key.clone();
    page::show(&sources_page(&state, &viewer, Field::default(), &site).await?)
}

/// `POST /settings/sources`.
pub(in crate::dashboard) async fn add_source(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<NewSourceSent>,
) -> Result<Response, AppError> {
    let mut key = Field::of(entered(Some(&sent.key)).unwrap_or_default());
    key.error = key_fault(&key.value);
    let snapshot = state.settings.current();
    let site = snapshot.site_by_key(&sent.source_site).unwrap_or(&viewer.site).clone();
    if key.error.is_none() {
        let (store, settings) = (&state.store, &state.settings);
        match settings::add_source(store, settings, viewer.now, &key.value, &site.id).await? {
            Added::Done => {
                let there = viewer.link(&format!("/settings/sources/{}", key.value));
                return Ok(page::see_other(&there.with("saved", "added").to_string()));
            }
            Added::KeyTaken => {
                key.error =
                    Some("Another webhook or site has this key. Choose another one.".to_owned());
            }
            Added::TooMany => {
                key.error = Some(format!(
                    "There are {} webhooks already, and no room for more.",
                    settings::MAX_SOURCES
                ));
            }
        }
    }
    let page = sources_page(&state, &viewer, key, &site.key).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)?).into_response())
}

async fn sources_page(
    state: &AppState,
    viewer: &Viewer,
    key: Field,
    chosen_site: &str,
) -> Result<SourcesPage, AppError> {
    let snapshot = state.settings.current();
    let mut rows = Vec::new();
    let main_key = snapshot.stripe_source("main").and_then(|main| api_key(state, main));
    for source in snapshot.stripe_sources() {
        let heard = heard(state, source).await?;
        let secrets = i64::try_from(source.secrets.len()).unwrap_or(i64::MAX);
        rows.push(SourceItem {
            key: source.key.clone(),
            href: viewer.link(&format!("/settings/sources/{}", source.key)).to_string(),
            site: snapshot.site(&source.site_id).map_or_else(String::new, |site| site.name.clone()),
            mode: mode_label(source.mode),
            secrets: match secrets {
                0 => "none: it refuses everything".to_owned(),
                _ => numbers::count(secrets),
            },
            api_key: match (api_key(state, source), &main_key) {
                (Some(shown), _) => shown,
                (None, Some(_)) => "that of main".to_owned(),
                (None, None) => "none".to_owned(),
            },
            heard: match heard {
                Some(heard) => viewer.times.ago(heard.at, viewer.now),
                None => "not yet".to_owned(),
            },
        });
    }
    let comparisons = report::comparisons(&state.store).await?;
    Ok(SourcesPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        back: viewer.link("/settings").to_string(),
        custom_href: viewer.link("/settings/custom").to_string(),
        rows,
        has_key: snapshot.stripe_sources().any(|source| api_key(state, source).is_some()),
        books: comparisons
            .iter()
            .filter_map(|found| of_source(state, &snapshot, viewer, found))
            .collect(),
        action: viewer.link("/settings/sources").to_string(),
        key,
        has_several_sites: snapshot.sites.len() > 1,
        sites: sites(&snapshot, chosen_site),
    })
}

fn sites(snapshot: &Snapshot, chosen: &str) -> Vec<Tick> {
    let tick = |site: &settings::Site| Tick {
        word: site.key.clone(),
        label: site.name.clone(),
        is_chosen: site.key == chosen,
    };
    snapshot.sites.iter().map(tick).collect()
}

fn mode_label(mode: SourceMode) -> &'static str {
    match mode {
        SourceMode::Any => "live or test",
        SourceMode::Live => "live mode",
        SourceMode::Test => "test mode",
    }
}

/// The last event that one of its present secrets believed, or an earlier one.
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

/// The comparison of a source that still has a key to be compared by.
fn of_source(
    state: &AppState,
    snapshot: &Snapshot,
    viewer: &Viewer,
    found: &report::Comparison,
) -> Option<Books> {
    let source = snapshot.source(&found.source_id)?;
    api_key(state, source)?;
    Some(Books { source: source.key.clone(), ..books(viewer, found) })
}

/// The API key of its own that a source has, as it may be shown.
fn api_key(state: &AppState, source: &Source) -> Option<String> {
    let key = state.api_key_of(source)?;
    let kind: String = key.expose().chars().take("rk_live_".len()).collect();
    let is_long = key.expose().len() >= kind.len() + 12;
    Some(format!("{kind}…{}", if is_long { key.tail() } else { "" }))
}

fn books(viewer: &Viewer, found: &report::Comparison) -> Books {
    let result = found.result.as_deref();
    let result = result.and_then(|text| serde_json::from_str::<Reconciled>(text).ok());
    let Some(result) = result else {
        return Books {
            source: String::new(),
            class: "bad",
            headline: "Not compared yet".to_owned(),
            when: "It is tried again by itself.".to_owned(),
            error: found.error.clone(),
            totals: Vec::new(),
            differences: Vec::new(),
            more: String::new(),
        };
    };
    let counted = |count: usize| {
        numbers::counted(i64::try_from(count).unwrap_or(i64::MAX), "payment", "payments")
    };
    let mode = if result.livemode { "" } else { ", test mode" };
    let (from, until) = (viewer.times.minute(result.from), viewer.times.minute(result.until));
    let compared = found.checked_at.map(|at| viewer.times.ago(at, viewer.now)).unwrap_or_default();
    let total = |sums: &crate::stripe::reconcile::Sums| {
        format!(
            "Stripe: {} paid, {} {}; here: {}, {}; gap {}",
            sums.stripe_count,
            sums.stripe_amount,
            sums.currency,
            sums.here_count,
            sums.here_amount,
            sums.gap
        )
    };
    let none = || "nothing".to_owned();
    let difference = |found: &crate::stripe::reconcile::Difference| BooksDifference {
        day: found.day.clone(),
        stripe_id: found.stripe_id.clone(),
        stripe: found.stripe.clone().unwrap_or_else(none),
        here: found.here.clone().unwrap_or_else(none),
        href: found
            .conversion_id
            .as_ref()
            .map(|id| viewer.link(&format!("/conversions/{id}")).to_string()),
        fix: found.fix.clone(),
    };
    let more = result.gap.saturating_sub(result.differences.len());
    Books {
        source: String::new(),
        class: if result.gap == 0 { "ok" } else { "bad" },
        headline: match result.gap {
            0 => "Stripe’s books and ours agree".to_owned(),
            gap => format!("{} unlike Stripe’s books", counted(gap)),
        },
        when: format!("Compared {compared}: paid from {} to {}{mode}", from.text, until.text),
        error: found.error.clone(),
        totals: result.totals.iter().map(total).collect(),
        differences: result.differences.iter().map(difference).collect(),
        more: if more > 0 { format!("And {}.", counted(more)) } else { String::new() },
    }
}

fn find<'a>(snapshot: &'a Snapshot, key: &str) -> Result<&'a Source, AppError> {
    let source = snapshot.stripe_source(key);
    source.ok_or_else(|| AppError::not_found("There is no such webhook."))
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
    let form = form_of(&snapshot, source);
    let mut page = source_page(&state, &viewer, source, form, None).await?;
    page.done = match query.saved.as_deref() {
        Some("added") => Some("The webhook was added. Now make its endpoint in Stripe."),
        Some("source") => Some("Saved."),
        Some("secret") => {
            Some("The signing secret was added. The next webhook is checked with it too.")
        }
        Some("removed") => Some("The signing secret was removed."),
        Some("api-key") => Some("The API key was saved. The books are compared within minutes."),
        Some("api-key-removed") => Some("The API key was removed."),
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

fn form_of(snapshot: &Snapshot, source: &Source) -> SourceForm {
    let site = snapshot.site(&source.site_id).map(|site| site.key.clone());
    SourceForm {
        site: Field::of(site.unwrap_or_default()),
        metadata_key: Field::of(source.metadata_key.clone()),
        mode: Field::of(source.mode.word()),
        account: Field::of(source.account.clone()),
        record_bare_payment_intents: source.record_bare_payment_intents,
    }
}

async fn source_page(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
    form: SourceForm,
    secret_error: Option<String>,
) -> Result<SourcePage, AppError> {
    let snapshot = state.settings.current();
    let here = viewer.link(&format!("/settings/sources/{}", source.key));
    let action =
        |rest: &str| viewer.link(&format!("/settings/sources/{}{rest}", source.key)).to_string();
    let last = heard(state, source).await?;
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
            "It was of test mode, and this endpoint is for live mode. Only endpoints of Connect send both.",
        ),
        SourceMode::Test if last.livemode => Some(
            "It was of live mode, and this endpoint is for test mode: is this the secret of the right endpoint?",
        ),
        SourceMode::Any | SourceMode::Live | SourceMode::Test => None,
    };
    let mode = |mode: SourceMode| Tick {
        word: mode.word().to_owned(),
        label: mode_label(mode).to_owned(),
        is_chosen: form.mode.value == mode.word(),
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
        modes: SourceMode::ALL.map(mode).into(),
        form,
    })
}

async fn secrets(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
) -> Result<Vec<SecretItem>, AppError> {
    let since = source.secrets_changed_at;
    let mut items = Vec::new();
    let mut used = Vec::new();
    for position in 0..source.secrets.len() {
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        used.push(report::last_heard(&state.store, &source.id, position, since).await?);
    }
    let is_recent = |heard: &Option<Heard>| {
        heard.as_ref().is_some_and(|heard| viewer.now.since(heard.at).as_secs() < UNUSED_SECONDS)
    };
    for (position, (secret, heard)) in source.secrets.iter().zip(&used).enumerate() {
        // Another one is in use, and this one was not for longer than Stripe signs with both.
        let others =
            used.iter().enumerate().any(|(other, heard)| other != position && is_recent(heard));
        let is_old = viewer.now.since(since).as_secs() >= UNUSED_SECONDS && !is_recent(heard);
        items.push(SecretItem {
            position,
            shown: mask(secret),
            used: match heard {
                Some(heard) => format!("last used {}", viewer.times.ago(heard.at, viewer.now)),
                None if since.as_ms() > 0 => {
                    format!(
                        "not used since the secrets changed, {}",
                        viewer.times.ago(since, viewer.now)
                    )
                }
                None => "not used yet".to_owned(),
            },
            can_go: others && is_old,
        });
    }
    Ok(items)
}

/// The last four characters, of a secret long enough that they give nothing away.
fn mask(secret: &Secret) -> String {
    let is_long = secret.expose().chars().count() >= 16;
    format!("whsec_…{}", if is_long { secret.tail() } else { "" })
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
        last: viewer.times.short(crate::clock::Timestamp::from_ms(last), viewer.now),
    };
    Ok(by_reason.into_iter().map(item).collect())
}

/// `POST /settings/sources/{key}`.
pub(in crate::dashboard) async fn save_source(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<SourceSent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    match read_source(&snapshot, source, &sent) {
        Ok(changed) => {
            settings::save_source(&state.store, &state.settings, &changed).await?;
            Ok(saved(&viewer, &key, "source"))
        }
        Err(form) => refuse(&state, &viewer, source, *form, None).await,
    }
}

fn read_source(
    snapshot: &Snapshot,
    old: &Source,
    sent: &SourceSent,
) -> Result<Source, Box<SourceForm>> {
    let field = |text: &str| Field::of(entered(Some(text)).unwrap_or_default());
    let mut form = SourceForm {
        site: field(&sent.source_site),
        metadata_key: field(&sent.metadata_key),
        mode: field(&sent.source_mode),
        account: field(&sent.account),
        record_bare_payment_intents: sent.record_bare_payment_intents.is_some(),
    };
    let key = &form.metadata_key.value;
    if key.is_empty() || key.chars().count() > MAX_METADATA_KEY || key.contains(['[', ']']) {
        form.metadata_key.error = Some(format!(
            "A key of Stripe’s metadata has 1 to {MAX_METADATA_KEY} characters and no square brackets."
        ));
    }
    let account = &form.account.value;
    let is_account = account.strip_prefix("acct_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 60
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if !account.is_empty() && !is_account {
        form.account.error =
            Some("An account’s ID starts with acct_. It stands in Stripe under Settings, Account details.".to_owned());
    }
    let site = snapshot.site_by_key(&form.site.value);
    if site.is_none() {
        form.site.error = Some("Choose one of the sites.".to_owned());
    }
    let mode = SourceMode::parse(&form.mode.value);
    if mode.is_none() {
        form.mode.error = Some("Choose one of the modes.".to_owned());
    }
    let is_right = form.metadata_key.error.is_none() && form.account.error.is_none();
    match (site, mode) {
        (Some(site), Some(mode)) if is_right => Ok(Source {
            site_id: site.id.clone(),
            metadata_key: form.metadata_key.value,
            mode,
            account: form.account.value,
            record_bare_payment_intents: form.record_bare_payment_intents,
            ..old.clone()
        }),
        _ => Err(Box::new(form)),
    }
}

fn saved(viewer: &Viewer, key: &str, what: &str) -> Response {
    let here = viewer.link(&format!("/settings/sources/{key}"));
    page::see_other(&here.with("saved", what).to_string())
}

async fn refuse(
    state: &AppState,
    viewer: &Viewer,
    source: &Source,
    form: SourceForm,
    secret_error: Option<String>,
) -> Result<Response, AppError> {
    let page = source_page(state, viewer, source, form, secret_error).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)?).into_response())
}

/// `POST /settings/sources/{key}/secrets`: one more beside those that are there.
pub(in crate::dashboard) async fn add_secret(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<SecretSent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let secrets = if source.from_environment {
        Err(FROM_ENVIRONMENT.to_owned())
    } else {
        read_secrets(&sent.value).and_then(|new| with_new(&source.secrets, new))
    };
    match secrets {
        Ok(secrets) => {
            let (store, settings) = (&state.store, &state.settings);
            settings::save_webhook_secrets(store, settings, viewer.now, source, &secrets).await?;
            Ok(saved(&viewer, &key, "secret"))
        }
        Err(fault) => {
            let form = form_of(&snapshot, source);
            refuse(&state, &viewer, source, form, Some(fault)).await
        }
    }
}

fn with_new(known: &[Secret], new: Vec<Secret>) -> Result<Vec<Secret>, String> {
    let mut all = known.to_vec();
    for secret in new {
        if all.contains(&secret) {
            return Err("This secret is there already.".to_owned());
        }
        all.push(secret);
    }
    if all.len() > MAX_SECRETS {
        return Err(format!(
            "At most {MAX_SECRETS} signing secrets can be in use at a time. Remove an old one first. What you entered was not kept."
        ));
    }
    Ok(all)
}

/// `POST /settings/sources/{key}/secrets/remove`.
pub(in crate::dashboard) async fn remove_secret(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<RemovedSecret>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let is_it = source.secrets.get(sent.position).is_some_and(|found| mask(found) == sent.shown);
    let fault = match (source.from_environment, is_it, source.secrets.len()) {
        (true, _, _) => Some(FROM_ENVIRONMENT.to_owned()),
        (false, false, _) => Some(
            "The secrets have changed since this page was shown. Look again, then remove it."
                .to_owned(),
        ),
        (false, true, 1) => Some(
            "It is the only one: without it every webhook is refused. Add the new one first."
                .to_owned(),
        ),
        (false, true, _) => None,
    };
    if let Some(fault) = fault {
        let form = form_of(&snapshot, source);
        return refuse(&state, &viewer, source, form, Some(fault)).await;
    }
    let mut secrets = source.secrets.clone();
    secrets.remove(sent.position);
    let (store, settings) = (&state.store, &state.settings);
    settings::save_webhook_secrets(store, settings, viewer.now, source, &secrets).await?;
    Ok(saved(&viewer, &key, "removed"))
}

/// True when the environment says which key it is.
fn is_fixed(state: &AppState, source: &Source) -> bool {
    source.key == "main" && state.config.stripe_api_key.is_some()
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct ApiKeySent {
    #[serde(default)]
    value: String,
    remove: Option<String>,
}

/// `POST /settings/sources/{key}/api-key`: sets or removes its key of Stripe's API. What waited for one is fetched.
pub(in crate::dashboard) async fn save_api_key(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<ApiKeySent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = find(&snapshot, &key)?;
    let entered = entered(Some(&sent.value)).unwrap_or_default();
    let new = match (is_fixed(&state, source), sent.remove.is_some()) {
        (true, _) => Err(FROM_ENVIRONMENT.to_owned()),
        (false, true) => Ok(None),
        (false, false) => config::parse_api_key(&entered)
            .map(Some)
            .map_err(|fault| format!("Not saved: {fault}. What you entered was not kept.")),
    };
    match new {
        Ok(new) => {
            settings::save_api_key(&state.store, &state.settings, source, new.as_ref()).await?;
            if new.is_some() {
                stripe::thin::put_back_all(&state.store, viewer.now).await?;
            }
            Ok(saved(&viewer, &key, if new.is_some() { "api-key" } else { "api-key-removed" }))
        }
        Err(fault) => {
            let mut page =
                source_page(&state, &viewer, source, form_of(&snapshot, source), None).await?;
            page.api_key_error = Some(fault);
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)?).into_response())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_secret_gives_nothing_away() {
        assert_eq!(mask(&Secret::new("whsec_0123456789abcdefk7Qe")), "whsec_…k7Qe");
        assert_eq!(mask(&Secret::new("whsec_short")), "whsec_…");
    }

    #[test]
    fn a_new_secret_stands_beside_the_old_ones() {
        let secret = |text: &str| Secret::new(text);
        let known = [secret("whsec_a")];
        assert_eq!(with_new(&known, vec![secret("whsec_b")]).unwrap().len(), 2);
        assert!(with_new(&known, vec![secret("whsec_a")]).is_err());
        let four = ["whsec_1", "whsec_2", "whsec_3", "whsec_4"].map(secret);
        assert!(with_new(&four, vec![secret("whsec_5")]).unwrap_err().contains("At most 4"));
    }
}
