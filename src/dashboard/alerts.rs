//! The page of alerts: incidents, recipients, mail server and rules. Takes forms; returns the page, changed records, or
//! the response to a test alert. Secret URLs and passwords are never shown again, and a form with errors shows each
//! error.

use std::collections::HashMap;

use askama::Template;
use axum::Form;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::views::numbers::counted;
use super::views::times::Moment;
use super::views::{Chip, Link, entered};
use crate::alert::{self, Choices, Incident, Rules, Target, TargetKind, Told};
use crate::config::Secret;
use crate::destination::{self, MailServer, Security, Sender};
use crate::error::AppError;
use crate::settings;
use crate::state::AppState;

/// Maximum length of a recipient's name.
const MAX_NAME_CHARS: usize = 80;
/// Maximum threshold: the hours of a year.
const MAX_NUMBER: u32 = 10_000;

type Sent = HashMap<String, String>;

fn text(sent: &Sent, name: &str) -> String {
    entered(sent.get(name).map(String::as_str)).unwrap_or_default()
}

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
    /// The form of a new recipient as entered, and its errors.
    kinds: [(&'static str, &'static str, bool); 3],
    name: String,
    target_faults: Vec<String>,
    /// A new signing secret, shown once.
    secret: Option<String>,
    mail: MailForm,
    rules: RulesForm,
    needs_mail: bool,
}

struct TargetItem {
    action: Link,
    name: String,
    kind: &'static str,
    address: String,
    state: Chip,
    note: String,
    enabled: bool,
    /// The result of a test alert.
    tried: Option<(Chip, String)>,
}

struct IncidentItem {
    headline: String,
    state: Chip,
    raised: Moment,
    told: Moment,
}

/// The form of the mail server.
struct MailForm {
    host: String,
    port: String,
    security: [(&'static str, &'static str, bool); 3],
    user: String,
    from: String,
    has_password: bool,
    is_set: bool,
    fault: Option<String>,
}

/// The form of the rules.
struct RulesForm {
    ticks: [(&'static str, &'static str, bool); 3],
    numbers: Vec<NumberField>,
}

struct NumberField {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    value: String,
    fault: Option<String>,
}

/// What the page shows in addition to the records.
#[derive(Default)]
struct Draft {
    done: Option<&'static str>,
    new: Sent,
    target_faults: Vec<String>,
    secret: Option<String>,
    mail: Option<(Sent, String)>,
    rules: Option<(Sent, Vec<(&'static str, String)>)>,
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

/// `POST /settings/alerts/recipients/{id}/enable`.
pub(super) async fn enable_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    alert::set_enabled(&state.store, &find(&state, &id).await?.id, true).await?;
    Ok(see_done(&viewer, "on"))
}

/// `POST /settings/alerts/recipients/{id}/disable`.
pub(super) async fn disable_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    alert::set_enabled(&state.store, &find(&state, &id).await?.id, false).await?;
    Ok(see_done(&viewer, "off"))
}

/// `POST /settings/alerts/recipients/{id}/delete`.
pub(super) async fn delete_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    alert::delete_target(&state.store, &find(&state, &id).await?.id).await?;
    Ok(see_done(&viewer, "deleted"))
}

/// Links in alerts use the URL at which the user reaches the dashboard.
async fn remember_base(state: &AppState, viewer: &Viewer) -> Result<(), AppError> {
    Ok(alert::save_base(&state.store, &viewer.client.base).await?)
}

fn see_done(viewer: &Viewer, done: &str) -> Response {
    page::see_other(&viewer.link("/settings/alerts").with("done", done).to_string())
}

async fn find(state: &AppState, id: &str) -> Result<Target, AppError> {
    let found = alert::targets(&state.store).await?.into_iter().find(|target| target.id == id);
    found.ok_or_else(|| AppError::not_found("Recipient not found."))
}

async fn refuse(state: &AppState, viewer: &Viewer, draft: Draft) -> Result<Response, AppError> {
    let page = alerts_page(state, viewer, draft).await?;
    Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)?).into_response())
}

/// `POST /settings/alerts/recipients`.
pub(super) async fn add_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<Sent>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let (name, address) = (text(&sent, "name"), text(&sent, "address"));
    let kind = TargetKind::parse(&text(&sent, "kind"));
    let mut faults = Vec::new();
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        faults.push(format!("Enter a name of at most {MAX_NAME_CHARS} characters."));
    }
    match kind {
        None => faults.push("Select Slack, webhook or email.".to_owned()),
        Some(TargetKind::Email) => faults.extend(destination::check_recipients(&address).err()),
        Some(TargetKind::Slack | TargetKind::Webhook) => {
            let checked = destination::check_url(&address, state.config.allow_private_destinations);
            faults.extend(checked.err().map(|why| format!("{why} Enter the address again.")));
            if viewer.client.is_ours(&address) {
                faults.push("This is Clickstamp’s own URL.".to_owned());
            }
        }
    }
    if let (Some(kind), true) = (kind, faults.is_empty()) {
        let secret = match kind {
            TargetKind::Webhook => destination::new_secret(),
            TargetKind::Slack | TargetKind::Email => String::new(),
        };
        let (address, signing) = (Secret::new(address), Secret::new(secret.clone()));
        let (store, now) = (&state.store, viewer.now);
        if alert::add_target(store, now, kind, &name, &address, &signing).await?.is_some() {
            if secret.is_empty() {
                return Ok(see_done(&viewer, "added"));
            }
            let draft = Draft { secret: Some(secret), ..Draft::default() };
            return page::show(&alerts_page(&state, &viewer, draft).await?);
        }
        faults.push(format!(
            "You already have {} recipients, which is the maximum.",
            alert::MAX_TARGETS
        ));
    }
    refuse(&state, &viewer, Draft { new: sent, target_faults: faults, ..Draft::default() }).await
}

/// `POST /settings/alerts/recipients/{id}/test`.
pub(super) async fn send_test_alert(
    State(state): State<AppState>,
    viewer: Viewer,
    Extension(sender): Extension<Sender>,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let (target, choices) = (find(&state, &id).await?, alert::choices(&state.store).await?);
    let (is_taken, said) = alert::try_out(&sender, &choices, &target, viewer.now).await;
    let chip = if is_taken { Chip::ok("Accepted") } else { Chip::bad("Not sent") };
    let draft = Draft { tried: Some((target.id, chip, said)), ..Draft::default() };
    page::show(&alerts_page(&state, &viewer, draft).await?)
}

/// `POST /settings/alerts/mail`: an empty server removes it.
pub(super) async fn save_mail(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<Sent>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let before = alert::choices(&state.store).await?.mail;
    if text(&sent, "host").is_empty() {
        alert::save_mail(&state.store, None).await?;
        return Ok(see_done(&viewer, "mail"));
    }
    let (user, password) = (text(&sent, "user"), text(&sent, "password"));
    let kept = before.filter(|old| {
        // A saved password must not be sent to another server.
        password.is_empty() && old.user == user && old.host == text(&sent, "host")
    });
    let server = MailServer {
        host: text(&sent, "host"),
        port: text(&sent, "port").parse().unwrap_or(0),
        security: match text(&sent, "security").as_str() {
            "tls" => Security::Tls,
            "plain" => Security::Plain,
            _ => Security::Starttls,
        },
        user,
        password: kept.map_or_else(|| Secret::new(password), |old| old.password),
        from: text(&sent, "from"),
    };
    match server.fault(state.config.allow_private_destinations) {
        None => {
            alert::save_mail(&state.store, Some(&server)).await?;
            Ok(see_done(&viewer, "mail"))
        }
        Some(fault) => {
            refuse(&state, &viewer, Draft { mail: Some((sent, fault)), ..Draft::default() }).await
        }
    }
}

/// `POST /settings/alerts/rules`.
pub(super) async fn save_rules(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<Sent>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let mut faults = Vec::new();
    let mut number = |name: &'static str, most: u32| {
        let read = text(&sent, name).parse::<u32>().ok().filter(|number| *number <= most);
        if read.is_none() {
            faults.push((name, format!("Enter a whole number from 0 to {most}.")));
        }
        read.unwrap_or(0)
    };
    let rules = Rules {
        held: sent.contains_key("held"),
        given_up: sent.contains_key("given_up"),
        events_failed: sent.contains_key("events_failed"),
        slow_minutes: number("slow_minutes", MAX_NUMBER),
        expires_hours: number("expires_hours", MAX_NUMBER),
        refused_percent: number("refused_percent", 100),
        failing_percent: number("failing_percent", 100),
        silent_hours: number("silent_hours", MAX_NUMBER),
        unmatched_percent: number("unmatched_percent", 100),
        digest_minutes: number("digest_minutes", MAX_NUMBER),
        remind_hours: number("remind_hours", MAX_NUMBER),
        per_hour: number("per_hour", 1000),
    };
    if faults.is_empty() {
        alert::save_rules(&state.store, &rules).await?;
        return Ok(see_done(&viewer, "rules"));
    }
    refuse(&state, &viewer, Draft { rules: Some((sent, faults)), ..Draft::default() }).await
}

async fn alerts_page(
    state: &AppState,
    viewer: &Viewer,
    draft: Draft,
) -> Result<AlertsPage, AppError> {
    let store = &state.store;
    let (targets, told) = (alert::targets(store).await?, alert::told(store).await?);
    let (choices, incidents) = (alert::choices(store).await?, alert::incidents(store).await?);
    let kind = TargetKind::parse(&text(&draft.new, "kind")).unwrap_or(TargetKind::Slack);
    Ok(AlertsPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        action: viewer.link("/settings/alerts"),
        back: viewer.link("/settings").to_string(),
        done: draft.done,
        needs_mail: choices.mail.is_none()
            && targets.iter().any(|target| target.kind == TargetKind::Email),
        targets: targets
            .iter()
            .map(|target| target_item(viewer, target, &told, draft.tried.as_ref()))
            .collect(),
        open: incidents.iter().filter(|found| found.resolved_at.is_none()).count(),
        incidents: incidents.iter().map(|found| incident_item(viewer, found)).collect(),
        kinds: TargetKind::ALL.map(|one| (one.word(), kind_name(one), one == kind)),
        name: text(&draft.new, "name"),
        target_faults: draft.target_faults,
        secret: draft.secret,
        mail: mail_form(&choices, draft.mail),
        rules: rules_form(&choices.rules, draft.rules),
    })
}

fn kind_name(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Slack => "Slack or compatible",
        TargetKind::Webhook => "Webhook (signed JSON)",
        TargetKind::Email => "Email",
    }
}

fn target_item(
    viewer: &Viewer,
    target: &Target,
    told: &[Told],
    tried: Option<&(String, Chip, String)>,
) -> TargetItem {
    let of =
        |state: &str| told.iter().find(|told| told.target_id == target.id && told.state == state);
    let when = |told: &Told| viewer.times.ago(told.at, viewer.now);
    let failed = |told: &Told| {
        let said = told.said.clone().unwrap_or_default();
        format!("“{}”, {}: {said}", told.headline, when(told))
    };
    let (sent, given_up) = (of("sent"), of("given_up"));
    let (state, note) = match (target.enabled, of("pending"), given_up, sent) {
        (false, ..) => (Chip::quiet("Off"), String::new()),
        (true, Some(waiting), ..) => {
            let said = waiting.said.as_deref().map(|said| format!("; last error: {said}"));
            let pending = counted(waiting.messages, "message pending", "messages pending");
            (Chip::wait("Pending"), format!("{pending}{}", said.unwrap_or_default()))
        }
        (true, None, Some(told), sent) if sent.is_none_or(|sent| sent.at < told.at) => {
            (Chip::bad("Failed"), failed(told))
        }
        (true, None, _, Some(told)) => {
            (Chip::ok("Accepted"), format!("“{}”, {}", told.headline, when(told)))
        }
        (true, None, _, None) => (Chip::quiet("Nothing sent yet"), String::new()),
    };
    let tried = tried.filter(|(id, ..)| *id == target.id);
    TargetItem {
        action: viewer.link(&format!("/settings/alerts/recipients/{}", target.id)),
        name: target.name.clone(),
        kind: kind_name(target.kind),
        address: match target.kind {
            TargetKind::Email => target.address.expose().to_owned(),
            TargetKind::Slack | TargetKind::Webhook => settings::mask_url(&target.address),
        },
        state,
        note,
        enabled: target.enabled,
        tried: tried.map(|(_, chip, said)| (chip.clone(), said.clone())),
    }
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
        told: viewer.times.short(found.told_at, viewer.now),
    }
}

fn mail_form(choices: &Choices, refused: Option<(Sent, String)>) -> MailForm {
    let kept = choices.mail.as_ref();
    let has_password = kept.is_some_and(|mail| !mail.password.expose().is_empty());
    let labels = [
        ("starttls", "STARTTLS, usually port 587"),
        ("tls", "TLS, usually port 465"),
        ("plain", "None (only inside your own network)"),
    ];
    if let Some((sent, fault)) = refused {
        let chosen = text(&sent, "security");
        return MailForm {
            host: text(&sent, "host"),
            port: text(&sent, "port"),
            security: labels.map(|(word, label)| (word, label, word == chosen)),
            user: text(&sent, "user"),
            from: text(&sent, "from"),
            has_password,
            is_set: kept.is_some(),
            fault: Some(fault),
        };
    }
    let chosen = match kept.map(|mail| mail.security) {
        None | Some(Security::Starttls) => "starttls",
        Some(Security::Tls) => "tls",
        Some(Security::Plain) => "plain",
    };
    let of = |read: fn(&MailServer) -> String| kept.map(read).unwrap_or_default();
    MailForm {
        host: of(|mail| mail.host.clone()),
        port: kept.map_or_else(|| "587".to_owned(), |mail| mail.port.to_string()),
        security: labels.map(|(word, label)| (word, label, word == chosen)),
        user: of(|mail| mail.user.clone()),
        from: of(|mail| mail.from.clone()),
        has_password,
        is_set: kept.is_some(),
        fault: None,
    }
}

fn rules_form(rules: &Rules, refused: Option<(Sent, Vec<(&'static str, String)>)>) -> RulesForm {
    let tick =
        |name: &str, on: bool| refused.as_ref().map_or(on, |(sent, _)| sent.contains_key(name));
    let field = |name: &'static str, value: u32, label: &'static str, hint: &'static str| {
        let entered = refused.as_ref().map(|(sent, _)| text(sent, name));
        let faults = refused.iter().flat_map(|(_, faults)| faults);
        NumberField {
            name,
            label,
            hint,
            value: entered.unwrap_or_else(|| value.to_string()),
            fault: faults.clone().find(|(of, _)| *of == name).map(|(_, fault)| fault.clone()),
        }
    };
    RulesForm {
        ticks: [
            (
                "held",
                "A destination stops accepting conversions, or recovers",
                tick("held", rules.held),
            ),
            ("given_up", "A delivery fails", tick("given_up", rules.given_up)),
            (
                "events_failed",
                "A Stripe event can’t be processed",
                tick("events_failed", rules.events_failed),
            ),
        ],
        numbers: vec![
            field("slow_minutes", rules.slow_minutes, "Oldest pending delivery (minutes)", ""),
            field(
                "expires_hours",
                rules.expires_hours,
                "Before a delivery expires (hours)",
                "For destinations with “Stop retrying after (days)”.",
            ),
            field(
                "refused_percent",
                rules.refused_percent,
                "Rejected attempts (% of a destination’s last 50)",
                "After at least 20 attempts.",
            ),
            field(
                "failing_percent",
                rules.failing_percent,
                "Failed attempts, for any reason (% of a destination’s last 50)",
                "",
            ),
            field(
                "silent_hours",
                rules.silent_hours,
                "Without a Stripe event (hours)",
                "Only if that is also three times your usual gap.",
            ),
            field(
                "unmatched_percent",
                rules.unmatched_percent,
                "Unmatched revenue (% of a day)",
                "Only if that is also twice as much as in the week before.",
            ),
            field(
                "digest_minutes",
                rules.digest_minutes,
                "Group alerts with the same reason (minutes)",
                "Deliveries that fail in this time are reported together.",
            ),
            field("remind_hours", rules.remind_hours, "Repeat after (hours)", ""),
            field(
                "per_hour",
                rules.per_hour,
                "Messages per recipient and hour",
                "Further messages wait, and are dropped if the problem is resolved first.",
            ),
        ],
    }
}
