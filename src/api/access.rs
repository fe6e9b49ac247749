//! Authenticates API requests with the bearer token from the environment.
//! Takes the `Authorization` header; returns proof of a valid token, as an extractor that handlers
//! require.
//! Guarantees that an invalid token is rejected before anything else of the request is read, and
//! that it is never logged.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};

use crate::error::AppError;
use crate::ids;
use crate::state::AppState;

/// Proof of a valid token. A handler with this argument can't be reached without one.
pub(crate) struct Access;

impl FromRequestParts<AppState> for Access {
    type Rejection = AppError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        let refused = |line: &'static str| AppError::new(StatusCode::UNAUTHORIZED, line);
        let Some(token) = bearer(&parts.headers) else {
            return Err(refused("Send a token: `Authorization: Bearer …`."));
        };
        let is_valid = state.config.api_token.as_ref().is_some_and(|expected| {
            ids::equal_in_constant_time(expected.expose().as_bytes(), token.as_bytes())
        });
        if is_valid { Ok(Self) } else { Err(refused("This token is not valid.")) }
    }
}

/// The token of exactly one `Authorization: Bearer` header; the scheme's case does not matter (RFC
/// 9110 §11.1).
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
