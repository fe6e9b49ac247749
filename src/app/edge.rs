//! Rejects requests that contain a NUL character.
//! Takes a request; passes it on, or responds 404 or 400.
//! Guarantees that no handler and no database receives a NUL character from a path, a query or a
//! form: PostgreSQL can't store it in text.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;

/// Maximum size of a form that is checked; the handlers' own limits are lower.
const MAX_FORM_BYTES: usize = 64 * 1024;
/// Paths whose handlers check their input themselves: they store what they refuse, respond with
/// JSON, or serve a visitor whatever else is in the URL, and look nothing up in the database by it.
const OWN_READERS: [&str; 4] = ["/webhooks/", "/api/", "/t/", "/p/"];
/// The path that visits are posted to checks its input itself, too.
const VISITS: &str = "/v";

/// Rejects a NUL character in the path (404: there is no such page), the query or a form.
pub(super) async fn refuse_nul(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == VISITS || OWN_READERS.iter().any(|reader| path.starts_with(reader)) {
        return next.run(request).await;
    }
    if has_nul(path.as_bytes()) {
        return AppError::not_found("Page not found.").into_response();
    }
    if request.uri().query().is_some_and(|query| has_nul(query.as_bytes())) {
        return refused();
    }
    if !is_form(&request) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match to_bytes(body, MAX_FORM_BYTES).await {
        Ok(form) if has_nul(&form) => refused(),
        Ok(form) => next.run(Request::from_parts(parts, Body::from(form))).await,
        Err(error) => {
            AppError::new(StatusCode::PAYLOAD_TOO_LARGE, "this form is too large or incomplete")
                .because(error)
                .into_response()
        }
    }
}

fn is_form(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    const FORM: &[u8] = b"application/x-www-form-urlencoded";
    kind.and_then(|kind| kind.get(..FORM.len())).is_some_and(|kind| kind.eq_ignore_ascii_case(FORM))
}

fn has_nul(text: &[u8]) -> bool {
    text.contains(&0) || text.windows(3).any(|three| three == b"%00")
}

fn refused() -> Response {
    AppError::bad_request("this request contains a NUL character").into_response()
}
