//! The settings page: texts to copy, and forms. Takes records and forms; returns changed records, or the form again with
//! errors. No secret is shown again, not even a rejected one, and values set by the environment are read-only.

mod custom;
mod forms;
mod key;
mod site;
mod source;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

pub(super) use custom::{
    add_postback, change_postback, list_postbacks, rotate_custom_token, send_test_conversion,
    show_custom_request, show_postback,
};
pub(super) use forms::change_password;
pub(super) use site::{
    ConsentChoice, add_site, consent_choices, explain, read_hosts, save_site, show_site,
};
pub(super) use source::{
    accept_held, add_secret, add_source, list_sources, remove_secret, save_api_key, save_source,
    show_source,
};

use super::form::FormData;
use super::frame::{Frame, Tab, Viewer};
use super::views::{Field, numbers};
use super::{page, password};
use crate::error::AppError;
use crate::settings::{self, Site, Snapshot};
use crate::state::AppState;
use crate::tag::addons::RACE_STUB;

/// Texts to copy into pages and Stripe.
pub(super) struct Copied {
    /// The HTML with the tag, and above it the script that makes early clicks wait for it.
    pub(super) snippet: String,
    /// The tag alone.
    pub(super) tag: String,
    /// The parameter of payment links.
    pub(super) ending: String,
    /// The URL of the webhook endpoint.
    pub(super) webhook: String,
}

/// The texts to copy, with the base URL at which this browser reached the server.
pub(super) fn copied(snapshot: &Snapshot, base: &str, site: &Site) -> Copied {
    let site_key = &site.key;
    let source = snapshot.stripe_source_of(&site.id).map_or(site_key, |source| &source.key);
    let tag = format!(
        "<script async fetchpriority=\"high\" referrerpolicy=\"no-referrer-when-downgrade\" \
         src=\"{base}/t/{site_key}.js\"></script>"
    );
    Copied {
        snippet: format!("<script>{}</script>\n{tag}", RACE_STUB.trim_end()),
        tag,
        ending: "?client_reference_id=--CLICK-ID--".to_owned(),
        webhook: format!("{base}/webhooks/stripe/{source}"),
    }
}

/// A secret that is set on a separate page.
#[derive(Default)]
struct SecretSetting {
    /// `One signing secret is set.`, `https://t1.anytrack.io/…k7Qe`; empty if nothing is set.
    shown: String,
    /// Whether the environment sets it.
    from_environment: bool,
    /// The page where it is set.
    href: String,
}

/// One site in the list.
struct SiteItem {
    name: String,
    key: String,
    domains: String,
    href: String,
}

struct NewSiteForm {
    action: String,
    name: Field,
    key: Field,
}

struct PasswordForm {
    action: String,
    current_error: Option<String>,
    new_error: Option<String>,
}

#[derive(Template)]
#[template(path = "settings.html")]
struct SettingsPage {
    frame: Frame,
    /// What was just saved.
    done: Option<&'static str>,
    copied: Copied,
    sites: Vec<SiteItem>,
    new_site: NewSiteForm,
    stripe: SecretSetting,
    sources_href: String,
    custom_href: String,
    anytrack: SecretSetting,
    /// The page of all destinations.
    destinations: String,
    /// The page of alerts.
    alerts: String,
    password: PasswordForm,
    email: String,
    fewest: usize,
}

/// One of several options.
struct Tick {
    word: String,
    label: String,
    is_chosen: bool,
}

#[derive(Deserialize)]
pub(super) struct SettingsQuery {
    saved: Option<String>,
}

/// `GET /settings`.
pub(super) async fn show_settings(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(query): Query<SettingsQuery>,
) -> Result<Response, AppError> {
    let done = match query.saved.as_deref() {
        Some("password") => Some("Password changed. All other sessions were signed out."),
        _ => None,
    };
    let page = settings_page(&state, &viewer, done, &FormData::default()).await?;
    page::show(&page)
}

/// The page again, with an error beside the field.
async fn refuse(state: &AppState, viewer: &Viewer, form: &FormData) -> Result<Response, AppError> {
    page::refuse(&settings_page(state, viewer, None, form).await?)
}

async fn settings_page(
    state: &AppState,
    viewer: &Viewer,
    done: Option<&'static str>,
    form: &FormData,
) -> Result<SettingsPage, AppError> {
    let frame = viewer.frame(state, Tab::Settings).await?;
    let snapshot = state.settings.current();
    let site = &viewer.site;
    let sites = snapshot.sites.iter().map(|site| SiteItem {
        name: site.name.clone(),
        key: site.key.clone(),
        domains: site.domains.join(", "),
        href: viewer.link(&format!("/settings/sites/{}", site.key)).with("site", "").to_string(),
    });
    let action = |form: &str| viewer.link(&format!("/settings/{form}")).to_string();
    Ok(SettingsPage {
        frame,
        done,
        copied: copied(&snapshot, &viewer.client.base, site),
        sites: sites.collect(),
        new_site: NewSiteForm {
            action: action("sites"),
            name: form.field("name", ""),
            key: form.field("key", ""),
        },
        stripe: stripe(viewer, &snapshot),
        destinations: viewer.link("/settings/destinations").to_string(),
        alerts: viewer.link("/settings/alerts").to_string(),
        sources_href: viewer.link("/settings/sources").to_string(),
        custom_href: viewer.link("/settings/custom").to_string(),
        anytrack: anytrack(viewer, &snapshot),
        password: PasswordForm {
            action: action("password"),
            current_error: form.error("current"),
            new_error: form.error("new"),
        },
        email: viewer.user.email.clone(),
        fewest: password::MIN_CHARS,
    })
}

fn stripe(viewer: &Viewer, snapshot: &Snapshot) -> SecretSetting {
    let Some(source) = snapshot.stripe_source_of(&viewer.site.id) else {
        let href = viewer.link("/settings/sources").to_string();
        return SecretSetting { href, ..SecretSetting::default() };
    };
    let secrets = i64::try_from(source.secrets.len()).unwrap_or(i64::MAX);
    let shown = match secrets {
        0 => String::new(),
        1 => "One signing secret is set.".to_owned(),
        secrets => format!("{} signing secrets are set.", numbers::count(secrets)),
    };
    let href = viewer.link(&format!("/settings/sources/{}", source.key)).to_string();
    SecretSetting { shown, from_environment: source.from_environment, href }
}

fn anytrack(viewer: &Viewer, snapshot: &Snapshot) -> SecretSetting {
    match snapshot.anytrack_of(&viewer.site.id) {
        Some(found) => SecretSetting {
            shown: settings::mask_url(&found.url),
            from_environment: found.from_environment,
            href: viewer.link(&format!("/settings/destinations/{}", found.key)).to_string(),
        },
        None => SecretSetting { href: add_anytrack(viewer), ..SecretSetting::default() },
    }
}

/// Link to the form that adds an AnyTrack destination.
pub(super) fn add_anytrack(viewer: &Viewer) -> String {
    let link = viewer.link("/settings/destinations").with("preset", "anytrack");
    format!("{}#h-add", link.with("name", "AnyTrack"))
}

/// The sites to choose from.
fn sites(snapshot: &Snapshot, chosen: &str) -> Vec<Tick> {
    let tick = |site: &settings::Site| Tick {
        word: site.key.clone(),
        label: site.name.clone(),
        is_chosen: site.key == chosen,
    };
    snapshot.sites.iter().map(tick).collect()
}
