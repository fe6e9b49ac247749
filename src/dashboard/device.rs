//! The device cookie: a browser in which somebody signed in before.
//! Takes an email that signed in. Returns a signed cookie for it, and later whether a request carries one.
//! Guarantees that a known browser can still sign in while others guess passwords. The cookie signs nobody in.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};

use super::session;
use crate::client::{self, Client};
use crate::ids;
use crate::state::AppState;

const COOKIE: &str = "clickstamp_device";
const LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// Sets the cookie.
pub(super) fn cookie(state: &AppState, client: &Client, email: &str) -> HeaderValue {
    let number = ids::new_secret();
    let signature = sign(state, email, &number);
    session::cookie_header(client, (COOKIE, &format!("{number}.{signature}")), LIFETIME)
}

/// The number of the request's device cookie, if it was made for this email.
pub(super) fn number(state: &AppState, headers: &HeaderMap, email: &str) -> Option<String> {
    let value = client::cookies(headers, COOKIE).next()?;
    let (number, signature) = value.split_once('.')?;
    let expected = sign(state, email, number);
    ids::equal_in_constant_time(signature.as_bytes(), expected.as_bytes())
        .then(|| number.to_owned())
}

fn sign(state: &AppState, email: &str, number: &str) -> String {
    state.click_ids.hash("device", &[email, number])
}
