//! The page of alerts: incidents, recipients, mail server and rules. Takes forms; returns the page, changed records, or
//! the response to a test alert. Secret URLs and passwords are never shown again, and a form with errors shows them
//! beside its fields.

mod mail;
mod recipients;
mod rules;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

pub(super) use self::mail::save_mail;
pub(super) use self::recipients::{
    add_recipient, delete_recipient, disable_recipient, enable_recipient, send_test_alert,
};
pub(super) use self::rules::save_rules;

use self::mail::{MailForm, mail_form};
use self::recipients::{RecipientForm, TargetItem, recipient_form, target_item};
use self::rules::{RulesForm, rules_form};
use super::form::FormData;
use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::views::times::Moment;
use super::views::{Chip, Link};
use crate::alert::{self, Incident, TargetKind};
use crate::error::AppError;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "alerts.html")]
struct AlertsPage {
    frame: Frame,
    action: Link,
    back: String,
    done: Option<&'static str>,
    targets: Vec<TargetItem>,
    incidents: Vec<IncidentItem>,
    open: usize,
    new: RecipientForm,
    /// A new signing secret, shown once.
    secret: Option<String>,
    mail: MailForm,
    rules: RulesForm,
    needs_mail: bool,
}

struct IncidentItem {
    headline: String,
    state: Chip,
    raised: Moment,
    sent: Moment,
}

/// What the page shows in addition to the records.
#[derive(Default)]
struct Draft {
    done: Option<&'static str>,
    /// The form of a new recipient, of the mail server, of the rules, if it was refused.
    new: FormData,
    mail: FormData,
    rules: FormData,
    secret: Option<String>,
    tried: Option<(String, Chip, String)>,
}

#[derive(Deserialize)]
pub(super) struct PageQuery {
    done: Option<String>,
}

/// `GET /settings/alerts`.
pub(super) async fn show_alerts(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(query): Query<PageQuery>,
) -> Result<Response, AppError> {
    let done = match query.done.as_deref() {
        Some("added") => Some("Added. Send a test alert to check it."),
        Some("on") => Some("Turned on. Pending messages are sent now."),
        Some("off") => Some("Turned off. It receives no new alerts."),
        Some("deleted") => Some("Deleted."),
        Some("mail") => Some("The mail server was saved."),
        Some("rules") => Some("Saved."),
        _ => None,
    };
    page::show(&alerts_page(&state, &viewer, Draft { done, ..Draft::default() }).await?)
}

/// Links in alerts use the URL at which the user reaches the dashboard.
async fn remember_base(state: &AppState, viewer: &Viewer) -> Result<(), AppError> {
    Ok(alert::save_base(&state.store, &viewer.client.pages).await?)
}

fn see_done(viewer: &Viewer, done: &str) -> Response {
    page::see_other(&viewer.link("/settings/alerts").with("done", done).to_string())
}

async fn refuse(state: &AppState, viewer: &Viewer, draft: Draft) -> Result<Response, AppError> {
    let page = alerts_page(state, viewer, draft).await?;
    page::refuse(&page)
}

async fn alerts_page(
    state: &AppState,
    viewer: &Viewer,
    draft: Draft,
) -> Result<AlertsPage, AppError> {
    let store = &state.store;
    let (targets, sent) = (alert::targets(store).await?, alert::sent(store).await?);
    let (choices, incidents) = (alert::choices(store).await?, alert::incidents(store).await?);
    Ok(AlertsPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        action: viewer.link("/settings/alerts"),
        back: viewer.link("/settings").to_string(),
        done: draft.done,
        needs_mail: choices.mail.is_none()
            && targets.iter().any(|target| target.kind == TargetKind::Email),
        targets: targets
            .iter()
            .map(|target| target_item(viewer, target, &sent, draft.tried.as_ref()))
            .collect(),
        open: incidents.iter().filter(|found| found.resolved_at.is_none()).count(),
        incidents: incidents.iter().map(|found| incident_item(viewer, found)).collect(),
        new: recipient_form(draft.new),
        secret: draft.secret,
        mail: mail_form(choices.mail.as_ref(), &draft.mail),
        rules: rules_form(choices.rules, &draft.rules),
    })
}

fn incident_item(viewer: &Viewer, found: &Incident) -> IncidentItem {
    let state = match (found.resolved_at, found.gone_at) {
        (Some(at), _) => Chip::ok(format!("Resolved {}", viewer.times.ago(at, viewer.now))),
        (None, Some(_)) => Chip::wait("Probably resolved"),
        (None, None) => Chip::bad("Active"),
    };
    IncidentItem {
        headline: found.headline.clone(),
        state,
        raised: viewer.times.short(found.raised_at, viewer.now),
        sent: viewer.times.short(found.sent_at, viewer.now),
    }
}
