//! Signing in and out.
//! In: an e-mail and a password. Out: a session, or the form again with one answer for every wrong pair.
//! Promise: neither the words nor the time tell whether an e-mail is known.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Form};
use serde::Deserialize;

use super::frame::Door;
use super::limiter::LoginLimit;
use super::session::{self, local_path, see_other};
use super::views::entered;
use super::{page, password, table};
use crate::client::Client;
use crate::config::Secret;
use crate::error::AppError;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Door,
    action: String,
    next: String,
    email: String,
    error: Option<&'static str>,
    /// False until somebody has an account: then the page says where the setup URL is.
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
    LoginPage { frame: Door::new(client), action, next, email, error, has_users }
}

/// `POST /login`.
pub(super) async fn sign_in(
    State(state): State<AppState>,
    Extension(limit): Extension<LoginLimit>,
    client: Client,
    Form(sent): Form<Credentials>,
) -> Result<Response, AppError> {
    let email = entered(Some(&sent.email)).unwrap_or_default().to_lowercase();
    let next = local_path(sent.next.as_deref());
    if !limit.allow(state.clock.now(), client.address, &email) {
        let line = "Too many tries. Wait a quarter of an hour, then try again.";
        return refuse(&client, StatusCode::TOO_MANY_REQUESTS, next, &email, line);
    }
    let user = table::find_user(&state.store, &email).await?;
    let stored = user.as_ref().map(|user| user.password_hash.as_str());
    let is_short = sent.password.len() <= password::MAX_BYTES;
    let fits = is_short && password::fits(&Secret::new(sent.password), stored).await?;
    let Some(user) = user.filter(|_| fits) else {
        let line = "This e-mail and this password do not belong together.";
        return refuse(&client, StatusCode::UNAUTHORIZED, next, &email, line);
    };
    limit.forgive(client.address, &email);
    let cookie = session::start(&state, &client, &user.id).await?;
    Ok(([(header::SET_COOKIE, cookie)], see_other(&client, next)).into_response())
}

fn refuse(
    client: &Client,
    status: StatusCode,
    next: &str,
    email: &str,
    line: &'static str,
) -> Result<Response, AppError> {
    let form = form(client, next.to_owned(), email.to_owned(), Some(line), true);
    Ok((status, page::show(&form)?).into_response())
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
