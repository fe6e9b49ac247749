//! The mail server for alerts by email. Takes its form; saves the server and leads back to the page, or shows the form
//! with its error. A saved password is never shown again.

use axum::Form;
use axum::extract::State;
use axum::response::Response;

use super::{Draft, Sent, refuse, remember_base, see_done, text};
use crate::alert::{self, Choices};
use crate::config::Secret;
use crate::dashboard::frame::Viewer;
use crate::destination::{MailServer, Security};
use crate::error::AppError;
use crate::state::AppState;

/// The form of the mail server.
pub(super) struct MailForm {
    pub(super) host: String,
    pub(super) port: String,
    pub(super) security: [(&'static str, &'static str, bool); 3],
    pub(super) user: String,
    pub(super) from: String,
    pub(super) has_password: bool,
    pub(super) is_set: bool,
    pub(super) fault: Option<String>,
}

/// `POST /settings/alerts/mail`: an empty server removes it.
pub(in crate::dashboard) async fn save_mail(
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

pub(super) fn mail_form(choices: &Choices, refused: Option<(Sent, String)>) -> MailForm {
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
