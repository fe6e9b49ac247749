//! Signing in and out. Takes an email and a password; returns a session, or the form again with the same error for every
//! wrong pair. Neither the error nor the response time reveals whether an email has an account.

use std::time::Duration;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use super::frame::SignedOutFrame;
use super::limiter::{self, Caller, LoginLimit};
use super::session::{self, local_path, see_other};
use super::table::{self, StoredUser};
use super::turns::Who;
use super::views::entered;
use super::{device, page, password};
use crate::client::Client;
use crate::config::Secret;
use crate::error::AppError;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: SignedOutFrame,
    action: String,
    next: String,
    email: String,
    error: Option<&'static str>,
    /// Whether any account exists; if not, the page says where to find the setup URL.
    has_users: bool,
}

#[derive(Deserialize)]
pub(super) struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
    next: Option<String>,
}

/// `GET /login`.
pub(super) async fn show_login(
    State(state): State<AppState>,
    client: Client,
    Query(query): Query<Next>,
) -> Result<Response, AppError> {
    let next = local_path(query.next.as_deref()).to_owned();
    let has_users = table::has_users(&state.store).await?;
    page::show(&form(&client, next, String::new(), None, has_users))
}

fn form(
    client: &Client,
    next: String,
    email: String,
    error: Option<&'static str>,
    has_users: bool,
) -> LoginPage {
    let action = format!("{}/login", client.prefix());
    LoginPage { frame: SignedOutFrame::new(client), action, next, email, error, has_users }
}

/// `POST /login`.
pub(super) async fn sign_in(
    State(state): State<AppState>,
    Extension(limit): Extension<LoginLimit>,
    client: Client,
    headers: HeaderMap,
    Form(sent): Form<Credentials>,
) -> Result<Response, AppError> {
    let email = entered(Some(&sent.email)).unwrap_or_default().to_lowercase();
    let next = local_path(sent.next.as_deref());
    let caller = Caller::new(client.address, &email, device::number(&state, &headers, &email));
    let tried = try_password(&state, &limit, &caller, &email, sent.password).await?;
    let (status, line, wait) = match tried {
        Tried::Fits(user) => {
            let cookie = session::start(&state, &client, &user.id).await?;
            let device = device::cookie(&state, &client, &email);
            let cookies =
                AppendHeaders([(header::SET_COOKIE, cookie), (header::SET_COOKIE, device)]);
            return Ok((cookies, see_other(&client, next)).into_response());
        }
        Tried::Wrong => (StatusCode::UNAUTHORIZED, "Wrong email or password.", None),
        Tried::TooMany(wait) => {
            let line = "Too many attempts. Wait 15 minutes, then try again.";
            (StatusCode::TOO_MANY_REQUESTS, line, Some(wait.as_secs() + 1))
        }
        Tried::Busy => {
            let line = "Too many people are signing in right now. Try again in a few seconds.";
            (StatusCode::SERVICE_UNAVAILABLE, line, Some(password::BUSY_SECONDS.into()))
        }
    };
    let form = form(&client, next.to_owned(), email, Some(line), true);
    let mut response = (status, page::show(&form)?).into_response();
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// Outcome of an attempt to sign in.
enum Tried {
    Fits(StoredUser),
    Wrong,
    /// How long to wait.
    TooMany(Duration),
    Busy,
}

async fn try_password(
    state: &AppState,
    limit: &LoginLimit,
    caller: &Caller,
    email: &str,
    password: String,
) -> anyhow::Result<Tried> {
    let now = state.clock.now();
    if let Err(wait) = limit.begin(now, caller) {
        return Ok(Tried::TooMany(wait));
    }
    let who = if caller.is_known() { Who::Known } else { Who::Stranger(caller.network()) };
    let Some(turn) = limit.turns.wait(who).await else {
        limit.undo(now, caller);
        return Ok(Tried::Busy);
    };
    let user = table::find_user(&state.store, email).await?;
    let stored = user.as_ref().map(|user| user.password_hash.as_str());
    // The attempts of existing users are counted in the database with the hash, so that timing does not reveal them.
    let noted = async {
        match &user {
            Some(user) if !caller.is_known() => {
                table::note_try(&state.store, now, limiter::WINDOW, &user.id).await
            }
            _ => Ok(0),
        }
    };
    let is_short = password.len() <= password::MAX_BYTES;
    let password = Secret::new(if is_short { password } else { String::new() });
    let (fits, noted) = tokio::join!(password::fits(&password, stored, turn), noted);
    let (fits, noted) = (fits? && is_short, noted?);
    if noted > i64::from(limiter::EMAIL_TRIES) {
        return Ok(Tried::TooMany(limiter::WINDOW));
    }
    match user {
        Some(user) if fits => {
            limit.forgive(now, caller);
            if !caller.is_known() {
                table::take_back_try(&state.store, &user.id).await?;
            }
            Ok(Tried::Fits(user))
        }
        _ => Ok(Tried::Wrong),
    }
}

/// `POST /logout`.
pub(super) async fn sign_out(
    State(state): State<AppState>,
    client: Client,
    headers: HeaderMap,
) -> Result<Response, AppError> {
    let cookie = session::end(&state, &client, &headers).await?;
    Ok(([(header::SET_COOKIE, cookie)], see_other(&client, "/login")).into_response())
}
