//! The recipients of alerts. Takes the form of a new one, and buttons; saves a record and leads back to the page, or shows
//! it with errors, a new signing secret or the result of a test. Secret URLs are never shown again.

use axum::extract::{Extension, Path, State};
use axum::response::Response;

use super::{Draft, alerts_page, refuse, remember_base, see_done};
use crate::alert::{self, SentMessages, Target, TargetKind};
use crate::config::Secret;
use crate::dashboard::form::{FormData, Select};
use crate::dashboard::frame::Viewer;
use crate::dashboard::page;
use crate::dashboard::views::numbers::counted;
use crate::dashboard::views::{Chip, Field, Link};
use crate::destination::{self, Sender};
use crate::error::AppError;
use crate::settings;
use crate::state::AppState;

/// Maximum length of a recipient's name.
const MAX_NAME_CHARS: usize = 80;

pub(super) struct TargetItem {
    pub(super) action: Link,
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) address: String,
    pub(super) state: Chip,
    pub(super) note: String,
    pub(super) enabled: bool,
    /// The result of a test alert.
    pub(super) tried: Option<(Chip, String)>,
}

/// The form of a new recipient.
pub(super) struct RecipientForm {
    pub(super) kind: Select,
    pub(super) name: Field,
    pub(super) address: Field,
    /// Errors that belong to no field.
    pub(super) errors: Vec<String>,
}

pub(super) fn recipient_form(form: FormData) -> RecipientForm {
    let kinds = TargetKind::ALL.map(|kind| (kind.word(), kind_name(kind)));
    RecipientForm {
        kind: form.select("kind", TargetKind::Slack.word(), &kinds),
        name: form.field("name", ""),
        address: form.field("address", ""),
        errors: form.general,
    }
}

/// `POST /settings/alerts/recipients`.
pub(in crate::dashboard) async fn add_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let (name, address) = (form.text("name"), form.text("address"));
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
        form.refuse("name", format!("Enter a name of at most {MAX_NAME_CHARS} characters."));
    }
    let Some(kind) = TargetKind::parse(&form.text("kind")) else {
        form.refuse("kind", "Select Slack, webhook or email.");
        return refuse(&state, &viewer, Draft { new: form, ..Draft::default() }).await;
    };
    if let Err(why) = check_address(&state, &viewer, kind, &address) {
        form.refuse("address", why);
    }
    if form.is_right() {
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
        let most = alert::MAX_TARGETS;
        form.general.push(format!("You already have {most} recipients, which is the maximum."));
    }
    refuse(&state, &viewer, Draft { new: form, ..Draft::default() }).await
}

fn check_address(
    state: &AppState,
    viewer: &Viewer,
    kind: TargetKind,
    address: &str,
) -> Result<(), String> {
    match kind {
        TargetKind::Email => destination::check_recipients(address),
        TargetKind::Slack | TargetKind::Webhook if viewer.client.is_ours(address) => {
            Err("This is Clickstamp’s own URL.".to_owned())
        }
        TargetKind::Slack | TargetKind::Webhook => {
            destination::check_url(address, state.config.allow_private_destinations).map(|_| ())
        }
    }
}

/// `POST /settings/alerts/recipients/{id}/test`.
pub(in crate::dashboard) async fn send_test_alert(
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

/// `POST /settings/alerts/recipients/{id}/enable`.
pub(in crate::dashboard) async fn enable_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    alert::set_enabled(&state.store, &find(&state, &id).await?.id, true).await?;
    Ok(see_done(&viewer, "on"))
}

/// `POST /settings/alerts/recipients/{id}/disable`.
pub(in crate::dashboard) async fn disable_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    alert::set_enabled(&state.store, &find(&state, &id).await?.id, false).await?;
    Ok(see_done(&viewer, "off"))
}

/// `POST /settings/alerts/recipients/{id}/delete`.
pub(in crate::dashboard) async fn delete_recipient(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Response, AppError> {
    alert::delete_target(&state.store, &find(&state, &id).await?.id).await?;
    Ok(see_done(&viewer, "deleted"))
}

async fn find(state: &AppState, id: &str) -> Result<Target, AppError> {
    let found = alert::targets(&state.store).await?.into_iter().find(|target| target.id == id);
    found.ok_or_else(|| AppError::not_found("Recipient not found."))
}

pub(super) fn kind_name(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Slack => "Slack or compatible",
        TargetKind::Webhook => "Webhook (signed JSON)",
        TargetKind::Email => "Email",
    }
}

pub(super) fn target_item(
    viewer: &Viewer,
    target: &Target,
    messages: &[SentMessages],
    tried: Option<&(String, Chip, String)>,
) -> TargetItem {
    let of =
        |state: &str| messages.iter().find(|it| it.target_id == target.id && it.state == state);
    let when = |newest: &SentMessages| viewer.times.ago(newest.at, viewer.now);
    let failed = |newest: &SentMessages| {
        let said = newest.said.clone().unwrap_or_default();
        format!("“{}”, {}: {said}", newest.headline, when(newest))
    };
    let (sent, given_up) = (of("sent"), of("given_up"));
    let (state, note) = match (target.enabled, of("pending"), given_up, sent) {
        (false, ..) => (Chip::quiet("Off"), String::new()),
        (true, Some(waiting), ..) => {
            let said = waiting.said.as_deref().map(|said| format!("; last error: {said}"));
            let pending = counted(waiting.messages, "message pending", "messages pending");
            (Chip::wait("Pending"), format!("{pending}{}", said.unwrap_or_default()))
        }
        (true, None, Some(newest), sent) if sent.is_none_or(|sent| sent.at < newest.at) => {
            (Chip::bad("Failed"), failed(newest))
        }
        (true, None, _, Some(newest)) => {
            (Chip::ok("Accepted"), format!("“{}”, {}", newest.headline, when(newest)))
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
