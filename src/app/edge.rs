//! What no request may carry, whatever it asks for.
//! Takes a request; passes it on, or answers 404 or 400.
//! No handler and no database ever gets a NUL character from a path, a query or a form: PostgreSQL has no text with one.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;

/// Longest form that is looked through; the handlers' own limits are below.
const MAX_FORM_BYTES: usize = 64 * 1024;
/// Handlers below these read what they get themselves. They keep what they refuse, answer JSON, or serve a visitor whatever else is in the
/// address, and look nothing up in the database by it.
const OWN_READERS: [&str; 4] = ["/webhooks/", "/api/", "/t/", "/p/"];
/// So does the one that visits are posted to.
const VISITS: &str = "/v";

/// Refuses a NUL character in the path (there is no such page), the query or a form.
pub(super) async fn refuse_nul(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == VISITS || OWN_READERS.iter().any(|reader| path.starts_with(reader)) {
        return next.run(request).await;
    }
    if has_nul(path.as_bytes()) {
        return AppError::not_found("There is nothing here.").into_response();
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
            AppError::new(StatusCode::PAYLOAD_TOO_LARGE, "this form is too large, or broke off")
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
    AppError::bad_request("there is a NUL character in this request, which no text has")
        .into_response()
}
