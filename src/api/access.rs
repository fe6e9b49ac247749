//! Who may ask: a bearer token, from the environment or from a record.
//! In: the `Authorization` header. Out: proof that it was right, as an extractor that handlers ask for first.
//! Promise: a wrong token is refused before anything else of the request is looked at, and never written anywhere.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use crate::error::AppError;
use crate::ids;
use crate::settings;
use crate::state::AppState;

/// Proof of a right token. A handler that takes it cannot be reached without one.
pub(crate) struct Access;

impl FromRequestParts<AppState> for Access {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        let refused = |line: &'static str| AppError::new(StatusCode::UNAUTHORIZED, line);
        let Some(token) = bearer(&parts.headers) else {
            return Err(refused("Send a token: `Authorization: Bearer …`."));
        };
        let configured = state.config.api_token.as_ref();
        let is_configured = configured.is_some_and(|expected| {
            ids::equal_in_constant_time(expected.expose().as_bytes(), token.as_bytes())
        });
        if is_configured || settings::is_api_token(&state.store, token).await? {
            Ok(Self)
        } else {
            Err(refused("This token is not known here."))
        }
    }
}

/// The token of exactly one `Authorization: Bearer` header; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_bearer_header_is_a_token() {
        let rows: [(&str, &[&str], Option<&str>); 8] = [
            ("plain", &["Bearer abc"], Some("abc")),
            ("another case", &["bEARER abc"], Some("abc")),
            ("blanks around", &["Bearer   abc "], Some("abc")),
            ("none", &[], None),
            ("another scheme", &["Basic abc"], None),
            ("no token", &["Bearer "], None),
            ("bare word", &["abc"], None),
            ("two headers", &["Bearer abc", "Bearer def"], None),
        ];
        for (name, values, expected) in rows {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer(&headers), expected, "{name}");
        }
    }
}
