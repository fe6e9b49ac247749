//! Who is signed in.
//! In: the session cookie. Out: a `User`, or a redirect to the sign-in page.
//! Promise: the cookie's value is known to the browser only; we keep its hash, for thirty days.

use std::time::Duration;

use anyhow::Result;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use cookie::{Cookie, SameSite};

use super::table;
use crate::client::{self, Client};
use crate::error::AppError;
use crate::ids;
use crate::state::AppState;

/// The cookie, and its name where the browser lets no other host set it: over https, at the root.
const COOKIE: &str = "clickstamp_session";
const OWN_COOKIE: &str = "__Host-clickstamp_session";
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Somebody who is signed in.
pub(super) struct User {
    pub(super) email: String,
    /// Of the session in use.
    pub(super) token_hash: String,
}

impl FromRequestParts<AppState> for User {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
        let Ok(client) = Client::from_request_parts(parts, state).await;
        if let Some(token_hash) = token_hash(&client, &parts.headers) {
            let found = table::find_session(&state.store, state.clock.now(), &token_hash).await;
            if let Some(user) = found.map_err(|error| AppError::from(error).into_response())? {
                return Ok(Self { email: user.email, token_hash });
            }
        }
        let mut login = "/login".to_owned();
        if parts.method == Method::GET
            && let Some(here) = parts.uri.path_and_query().filter(|here| here.as_str() != "/")
        {
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("next", here.as_str())
                .finish();
            login = format!("/login?{query}");
        }
        Err(see_other(&client, &login))
    }
}

/// The hash of the session cookie's value, if the request has one.
pub(super) fn token_hash(client: &Client, headers: &HeaderMap) -> Option<String> {
    Some(ids::sha256_hex(client::cookies(headers, name(client)).next()?.as_bytes()))
}

fn name(client: &Client) -> &'static str {
    if client.pages.starts_with("https://") && client.prefix().is_empty() {
        OWN_COOKIE
    } else {
        COOKIE
    }
}

/// Starts a session; the header sets its cookie.
pub(super) async fn start(state: &AppState, client: &Client, user_id: &str) -> Result<HeaderValue> {
    let token = ids::new_secret();
    let now = state.clock.now();
    let hash = ids::sha256_hex(token.as_bytes());
    table::start_session(&state.store, now, now.plus(LIFETIME), user_id, &hash).await?;
    Ok(cookie_header(client, (name(client), &token), LIFETIME))
}

/// Ends the request's session, if there is one; the header forgets its cookie.
pub(super) async fn end(
    state: &AppState,
    client: &Client,
    headers: &HeaderMap,
) -> Result<HeaderValue> {
    if let Some(hash) = token_hash(client, headers) {
        table::end_session(&state.store, &hash).await?;
    }
    Ok(cookie_header(client, (name(client), ""), Duration::ZERO))
}

/// A header that sets a cookie which scripts and other sites cannot read.
pub(super) fn cookie_header(
    client: &Client,
    (name, value): (&'static str, &str),
    lifetime: Duration,
) -> HeaderValue {
    let prefix = client.prefix();
    let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(0);
    let cookie = Cookie::build((name, value.to_owned()))
        // Below a prefix the rest of the host is somebody else's: its server must not see the session.
        .path(if prefix.is_empty() { "/".to_owned() } else { prefix })
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(client.pages.starts_with("https://"))
        .max_age(cookie::time::Duration::seconds(seconds))
        .build();
    HeaderValue::from_str(&cookie.to_string())
        .expect("secrets and signatures are letters, digits and dots")
}

/// 303 to a path of ours, with the public prefix before it.
pub(super) fn see_other(client: &Client, path: &str) -> Response {
    super::page::see_other(&format!("{}{path}", client.prefix()))
}

/// Where to go after signing in: only a path on this server, never somebody else's address.
pub(super) fn local_path(next: Option<&str>) -> &str {
    let fits = |path: &&str| {
        path.starts_with('/')
            && !path.starts_with("//")
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    next.filter(fits).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;
    use crate::config::Config;

    #[test]
    fn next_leads_to_our_own_pages_only() {
        for kept in ["/", "/conversions?match=matched&search=a%20b", "/settings#password"] {
            assert_eq!(local_path(Some(kept)), kept);
        }
        for refused in
            ["", "https://evil.example", "//evil.example", "/\\evil.example", "/a\r\nb", "a/b"]
        {
            assert_eq!(local_path(Some(refused)), "/", "{refused}");
        }
        assert_eq!(local_path(None), "/");
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        let cookies = "a=b; clickstamp_session=secret; __Host-clickstamp_session=own";
        headers.append(header::COOKIE, HeaderValue::from_static(cookies));
        let rows = [
            ("http://go.example.com", "secret"),
            ("https://www.example.com/k", "secret"),
            ("https://go.example.com", "own"),
        ];
        for (url, expected) in rows {
            let config = Config::with(&[("CLICKSTAMP_PUBLIC_URL", url)]).unwrap();
            let client = Client::read(&config, None, &HeaderMap::new());
            let hash = ids::sha256_hex(expected.as_bytes());
            assert_eq!(token_hash(&client, &headers), Some(hash), "{url}");
            assert_eq!(token_hash(&client, &HeaderMap::new()), None, "{url}");
        }
    }
}
