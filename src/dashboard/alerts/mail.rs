//! The mail server for alerts by email. Takes its form; saves the server and leads back to the page, or shows the form
//! with an error beside each field. A saved password is never shown again.

use axum::extract::State;
use axum::response::Response;

use super::{Draft, refuse, remember_base, see_done};
use crate::alert;
use crate::config::Secret;
use crate::dashboard::form::{FormData, Select};
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::Field;
use crate::destination::{MailServer, Security};
use crate::domain::Word as _;
use crate::error::AppError;
use crate::state::AppState;

const SECURITIES: [(&str, &str); 3] = [
    ("starttls", "STARTTLS, usually port 587"),
    ("tls", "TLS, usually port 465"),
    ("plain", "None (only inside your own network)"),
];

/// The form of the mail server.
pub(super) struct MailForm {
    pub(super) host: Field,
    pub(super) port: Field,
    pub(super) security: Select,
    pub(super) user: Field,
    pub(super) password: Field,
    pub(super) from: Field,
    pub(super) host_hint: &'static str,
    pub(super) password_hint: &'static str,
}

pub(super) fn mail_form(saved: Option<&MailServer>, form: &FormData) -> MailForm {
    let of = |read: fn(&MailServer) -> String| saved.map(read).unwrap_or_default();
    let port = saved.map_or(587, |mail| mail.port);
    let security = saved.map_or(Security::Starttls, |mail| mail.security);
    MailForm {
        host: form.field("host", of(|mail| mail.host.clone())),
        port: form.field("port", port.to_string()),
        security: form.select("security", security.as_str(), &SECURITIES),
        user: form.field("user", of(|mail| mail.user.clone())),
        password: Field { value: String::new(), error: form.error("password") },
        from: form.field("from", of(|mail| mail.from.clone())),
        host_hint: if saved.is_some() { "Leave empty to remove the mail server." } else { "" },
        password_hint: match saved.is_some_and(|mail| !mail.password.expose().is_empty()) {
            true => "Saved and not shown again. Leave empty to keep it.",
            false => "It isn’t shown again.",
        },
    }
}

/// `POST /settings/alerts/mail`: an empty server removes it.
pub(in crate::dashboard) async fn save_mail(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let before = alert::choices(&state.store).await?.mail;
    let server = Some(read(&form, before)).filter(|server| !server.host.is_empty());
    for (field, error) in
        server.iter().flat_map(|server| server.faults(state.config.allow_private_destinations))
    {
        form.refuse(field, error);
    }
    if !form.is_right() {
        return refuse(&state, &viewer, Draft { mail: form, ..Draft::default() }).await;
    }
    alert::save_mail(&state.store, server.as_ref()).await?;
    Ok(see_done(&viewer, "mail"))
}

fn read(form: &FormData, before: Option<MailServer>) -> MailServer {
    let (host, user, password) = (form.text("host"), form.text("user"), form.text("password"));
    let kept = before.filter(|old| {
        // A saved password must not be sent to another server.
        password.is_empty() && old.user == user && old.host == host
    });
    MailServer {
        host,
        port: form.text("port").parse().unwrap_or(0),
        security: Security::parse(&form.text("security")).unwrap_or(Security::Starttls),
        user,
        password: kept.map_or_else(|| Secret::new(password), |old| old.password),
        from: form.text("from"),
    }
}
