//! The first account. Takes the one-time token of the setup URL, an email and a password; creates the first user and
//! signs them in. The token is invalid once any account exists.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use super::frame::SignedOutFrame;
use super::limiter::LoginLimit;
use super::session::{self, see_other};
use super::turns::Who;
use super::views::{Field, entered};
use super::{device, page, password, table};
use crate::client::Client;
use crate::config::Secret;
use crate::error::AppError;
use crate::ids;
use crate::settings;
use crate::state::AppState;
use crate::store::Store;

/// Name of the setting that stores the token, so that a restart shows the same URL.
const TOKEN: &str = "setup_token";

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    frame: SignedOutFrame,
    action: String,
    token: String,
    email: Field,
    password_error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Opened {
    token: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct NewAccount {
    #[serde(default)]
    token: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
}

/// The one-time URL for the first account, or `None` if any account exists.
///
/// # Errors
/// If the database cannot be read or written.
pub(super) async fn setup_url(store: &Store, base: &str) -> anyhow::Result<Option<String>> {
    if table::has_users(store).await? {
        return Ok(None);
    }
    let token = settings::get_or_set(store, TOKEN, &ids::new_secret()).await?;
    Ok(Some(format!("{}/setup/account?token={token}", base.trim_end_matches('/'))))
}

/// `GET /setup/account`.
pub(super) async fn show_new_account(
    State(state): State<AppState>,
    client: Client,
    Query(query): Query<Opened>,
) -> Result<Response, AppError> {
    let token = query.token.unwrap_or_default();
    check(&state, &token).await?;
    page::show(&form(&client, token, Field::default(), None))
}

/// `POST /setup/account`.
pub(super) async fn make_first_account(
    State(state): State<AppState>,
    Extension(limit): Extension<LoginLimit>,
    client: Client,
    Form(sent): Form<NewAccount>,
) -> Result<Response, AppError> {
    check(&state, &sent.token).await?;
    let mut email = Field::of(entered(Some(&sent.email)).unwrap_or_default().to_lowercase());
    email.error = email_fault(&email.value).map(str::to_owned);
    let password_error = password::fault(&sent.password).map(str::to_owned);
    if email.error.is_some() || password_error.is_some() {
        let form = page::show(&form(&client, sent.token, email, password_error))?;
        return Ok((StatusCode::UNPROCESSABLE_ENTITY, form).into_response());
    }
    let turn = password::turn(&limit.turns, Who::Known).await?;
    let hash = password::hash(&Secret::new(sent.password), Some(turn)).await?;
    let now = state.clock.now();
    let added = table::add_first_user(&state.store, now, &email.value, &hash).await?;
    let user_id = added.ok_or_else(used_up)?;
    let cookie = session::start(&state, &client, &user_id).await?;
    let device = device::cookie(&state, &client, &email.value);
    let cookies = AppendHeaders([(header::SET_COOKIE, cookie), (header::SET_COOKIE, device)]);
    Ok((cookies, see_other(&client, "/setup")).into_response())
}

fn form(
    client: &Client,
    token: String,
    email: Field,
    password_error: Option<String>,
) -> AccountPage {
    let action = format!("{}/setup/account", client.prefix());
    AccountPage { frame: SignedOutFrame::new(client), action, token, email, password_error }
}

/// Checks that the token is the stored one and no account exists. Compares hashes, so that timing reveals nothing.
async fn check(state: &AppState, token: &str) -> Result<(), AppError> {
    let expected = settings::get_or_set(&state.store, TOKEN, &ids::new_secret()).await?;
    let is_right = ids::sha256_hex(expected.as_bytes()) == ids::sha256_hex(token.as_bytes());
    if is_right && !table::has_users(&state.store).await? { Ok(()) } else { Err(used_up()) }
}

fn used_up() -> AppError {
    let line =
        "This link isn’t valid. It works once, to create the first account. After that, sign in.";
    AppError::new(StatusCode::FORBIDDEN, line)
}

/// The error if a text is not an email address for signing in.
pub(super) fn email_fault(email: &str) -> Option<&'static str> {
    let fits = email.len() <= 254
        && !email.contains(char::is_whitespace)
        && email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty());
    (!fits).then_some("Enter an email address such as name@example.com.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_has_a_name_and_a_host() {
        for right in ["ada@example.com", "a@localhost"] {
            assert_eq!(email_fault(right), None);
        }
        for wrong in ["", "ada", "@example.com", "ada@", "a b@example.com"] {
            assert!(email_fault(wrong).is_some(), "{wrong}");
        }
    }
}
