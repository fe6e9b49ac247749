//! The settings: what to copy out, and what to enter.
//! In: the records and forms. Out: changed records, or the form again with the reason beside the field.
//! Promise: no secret is ever shown again, not even a refused one; what the environment sets is read-only here.

mod forms;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

pub(super) use forms::{change_password, save_anytrack, save_site, save_stripe};

use super::frame::{Frame, Tab, Viewer};
use super::views::{Field, numbers};
use super::{page, password};
use crate::error::AppError;
use crate::settings::{self, Snapshot};
use crate::state::AppState;

/// The Stripe source that the settings are about; its key stands in the webhook's URL.
const SOURCE: &str = "main";

/// What an owner copies into other places.
pub(super) struct Copied {
    /// The tag's line.
    pub(super) snippet: String,
    /// The end of a payment link.
    pub(super) ending: String,
    /// The webhook endpoint's address.
    pub(super) webhook: String,
}

/// What to copy, for the address by which this browser reached us.
pub(super) fn copied(base: &str, site_key: &str) -> Copied {
    Copied {
        snippet: format!(
            "<script async fetchpriority=\"high\" referrerpolicy=\"no-referrer-when-downgrade\" \
             src=\"{base}/t/{site_key}.js\"></script>"
        ),
        ending: "?client_reference_id=--CLICK-ID--".to_owned(),
        webhook: format!("{base}/webhooks/stripe/{SOURCE}"),
    }
}

/// A setting that may be set from outside.
#[derive(Default)]
struct SecretSetting {
    /// `One signing secret is set`, `https://t1.anytrack.io/…k7Qe`; empty when nothing is set.
    shown: String,
    /// True when the environment sets it: then there is no form.
    from_environment: bool,
    /// The form's address.
    action: String,
    /// Why the last value was not taken.
    error: Option<String>,
}

struct SiteForm {
    action: String,
    name: Field,
    timezone: Field,
    currency: Field,
    domains: Field,
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
    site: SiteForm,
    /// For the field's list.
    timezones: Vec<String>,
    stripe: SecretSetting,
    anytrack: SecretSetting,
    password: PasswordForm,
    email: String,
    fewest: usize,
}

/// What a refused form brings back to the page.
#[derive(Default)]
struct Refused {
    site: Option<[Field; 4]>,
    stripe: Option<String>,
    anytrack: Option<String>,
    current_password: Option<String>,
    new_password: Option<String>,
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
        Some("site") => Some("The site was saved."),
        Some("stripe") => {
            Some("The signing secret was saved. The next webhook is checked with it.")
        }
        Some("anytrack") => Some("The AnyTrack address was saved. What is still owed goes there."),
        Some("password") => Some("The password was changed. Every other session was signed out."),
        _ => None,
    };
    let page = settings_page(&state, &viewer, done, Refused::default()).await?;
    page::show(&page)
}

/// The page again, with the reason beside the field.
async fn refuse(state: &AppState, viewer: &Viewer, refused: Refused) -> Result<Response, AppError> {
    let page = settings_page(state, viewer, None, refused).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)?).into_response())
}

async fn settings_page(
    state: &AppState,
    viewer: &Viewer,
    done: Option<&'static str>,
    refused: Refused,
) -> Result<SettingsPage, AppError> {
    let frame = viewer.frame(state, Tab::Settings).await?;
    let snapshot = state.settings.current();
    let site = &viewer.site;
    let [name, timezone, currency, domains] = refused.site.unwrap_or_else(|| {
        [
            Field::of(site.name.clone()),
            Field::of(site.timezone.clone()),
            Field::of(site.currency.code()),
            Field::of(site.domains.join("\n")),
        ]
    });
    let action = |form: &str| viewer.link(&format!("/settings/{form}")).to_string();
    Ok(SettingsPage {
        frame,
        done,
        copied: copied(&viewer.client.base, &site.key),
        site: SiteForm { action: action("site"), name, timezone, currency, domains },
        timezones: jiff::tz::db().available().map(|name| name.to_string()).collect(),
        stripe: stripe(&snapshot, action("stripe"), refused.stripe),
        anytrack: anytrack(&snapshot, &site.id, action("anytrack"), refused.anytrack),
        password: PasswordForm {
            action: action("password"),
            current_error: refused.current_password,
            new_error: refused.new_password,
        },
        email: viewer.user.email.clone(),
        fewest: password::MIN_CHARS,
    })
}

fn stripe(snapshot: &Snapshot, action: String, error: Option<String>) -> SecretSetting {
    let Some(source) = snapshot.stripe_source(SOURCE) else { return SecretSetting::default() };
    let secrets = i64::try_from(source.secrets.len()).unwrap_or(i64::MAX);
    let shown = match secrets {
        0 => String::new(),
        1 => "One signing secret is set.".to_owned(),
        secrets => format!("{} signing secrets are set.", numbers::count(secrets)),
    };
    SecretSetting { shown, from_environment: source.from_environment, action, error }
}

fn anytrack(
    snapshot: &Snapshot,
    site_id: &str,
    action: String,
    error: Option<String>,
) -> SecretSetting {
    let destination = snapshot.destinations_of(site_id).next();
    SecretSetting {
        shown: destination.map(|found| settings::mask_url(&found.url)).unwrap_or_default(),
        from_environment: destination.is_some_and(|found| found.from_environment),
        action,
        error,
    }
}
