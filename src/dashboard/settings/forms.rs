//! The forms of the settings, except those of sites. Takes form fields; saves a record and redirects, or returns an
//! error for a field. Values are checked before they are saved, and errors say where to find the right value.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;

use super::refuse;
use crate::config::{Secret, parse_webhook_secrets};
use crate::dashboard::form::FormData;
use crate::dashboard::frame::Viewer;
use crate::dashboard::limiter::LoginLimit;
use crate::dashboard::turns::Who;
use crate::dashboard::views::entered;
use crate::dashboard::{page, password, table};
use crate::error::AppError;
use crate::state::AppState;

pub(super) const FROM_ENVIRONMENT: &str = "An environment variable sets this value, so it can’t be changed here. Change it there and restart.";

fn saved(viewer: &Viewer, what: &str) -> Response {
    page::see_other(&viewer.link("/settings").with("saved", what).to_string())
}

pub(super) fn read_secrets(text: &str) -> Result<Vec<Secret>, String> {
    let text = entered(Some(text)).unwrap_or_default();
    let secrets =
        parse_webhook_secrets(&text).map_err(|fault| format!("{fault} Nothing was saved."))?;
    if secrets.is_empty() {
        return Err("Nothing was entered. The signing secret starts with whsec_ and is on the endpoint’s page in Stripe.".to_owned());
    }
    // Saving an endpoint's ID or URL as a secret would reject every webhook.
    if secrets.iter().any(|secret| !secret.expose().starts_with("whsec_")) {
        return Err(
            "This isn’t a signing secret. It starts with whsec_ and is on the endpoint’s page in Stripe. \
             Nothing was saved."
                .to_owned(),
        );
    }
    Ok(secrets)
}

/// `POST /settings/password`.
pub(in crate::dashboard) async fn change_password(
    State(state): State<AppState>,
    Extension(limit): Extension<LoginLimit>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    // Spaces count in passwords.
    let typed = |name| form.typed(name).unwrap_or_default().to_owned();
    let (current, new) = (typed("current"), typed("new"));
    let user = table::find_user(&state.store, &viewer.user.email).await?;
    let stored = user.as_ref().map(|user| user.password_hash.as_str());
    let turn = password::turn(&limit.turns, Who::Known).await?;
    let fits = current.len() <= password::MAX_BYTES
        && password::fits(&Secret::new(current), stored, turn).await?;
    if !fits {
        form.refuse("current", "Wrong current password.");
    }
    if let Some(fault) = password::fault(&new) {
        form.refuse("new", fault);
    }
    if !form.is_right() {
        return refuse(&state, &viewer, &form).await;
    }
    let turn = password::turn(&limit.turns, Who::Known).await?;
    let hash = password::hash(&Secret::new(new), Some(turn)).await?;
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
