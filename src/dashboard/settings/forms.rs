//! The forms of the settings, the sites' apart.
//! In: what was entered. Out: a record saved and a redirect, or the reason beside the field.
//! Promise: checked before it is written; the message says what was wrong with this value and where the right one is.

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;

use super::{Refused, refuse};
use crate::config::{Secret, parse_webhook_secrets};
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::entered;
use crate::dashboard::{page, password, table};
use crate::error::AppError;
use crate::state::AppState;

pub(super) const FROM_ENVIRONMENT: &str = "The environment sets this value, so it cannot be changed here. Change it there and start again.";

#[derive(Deserialize)]
pub(in crate::dashboard) struct SecretSent {
    #[serde(default)]
    pub(super) value: String,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct PasswordSent {
    #[serde(default)]
    current: String,
    #[serde(default)]
    new: String,
}

fn saved(viewer: &Viewer, what: &str) -> Response {
    page::see_other(&viewer.link("/settings").with("saved", what).to_string())
}

pub(super) fn read_secrets(text: &str) -> Result<Vec<Secret>, String> {
    let text = entered(Some(text)).unwrap_or_default();
    let secrets = parse_webhook_secrets(&text)
        .map_err(|fault| format!("{fault} What you entered was not kept."))?;
    if secrets.is_empty() {
        return Err("Nothing was entered. The signing secret starts with whsec_ and stands on the endpoint’s own page in Stripe.".to_owned());
    }
    // An endpoint's ID or address would be taken for a secret, and every webhook refused.
    if secrets.iter().any(|secret| !secret.expose().starts_with("whsec_")) {
        return Err(
            "That was no signing secret: it starts with whsec_ and stands on the endpoint’s own page in Stripe. \
             What you entered was not kept."
                .to_owned(),
        );
    }
    Ok(secrets)
}

/// `POST /settings/password`.
pub(in crate::dashboard) async fn change_password(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<PasswordSent>,
) -> Result<Response, AppError> {
    let mut refused = Refused::default();
    let user = table::find_user(&state.store, &viewer.user.email).await?;
    let stored = user.as_ref().map(|user| user.password_hash.as_str());
    let fits = sent.current.len() <= password::MAX_BYTES
        && password::fits(&Secret::new(sent.current), stored).await?;
    if !fits {
        refused.current_password = Some("That is not the password you signed in with.".to_owned());
    }
    refused.new_password = password::fault(&sent.new).map(str::to_owned);
    if refused.current_password.is_some() || refused.new_password.is_some() {
        return refuse(&state, &viewer, refused).await;
    }
    let hash = password::hash(&Secret::new(sent.new)).await?;
    table::set_password(&state.store, &viewer.user.email, &hash, &viewer.user.token_hash).await?;
    Ok(saved(&viewer, "password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_secrets_are_explained_and_never_repeated() {
        let fault = read_secrets("sk_live_hunter2").unwrap_err();
        assert!(fault.starts_with("That was an API key: it started with sk_."), "{fault}");
        assert!(!fault.contains("hunter2"));
        assert!(read_secrets(" , ").is_err());
        assert_eq!(read_secrets("whsec_a,whsec_b").unwrap().len(), 2);
        for wrong in ["whsec_a,we_1Nabc", "https://go.shop.com/webhooks/stripe/main"] {
            assert!(read_secrets(wrong).unwrap_err().contains("starts with whsec_"), "{wrong}");
        }
    }
}
