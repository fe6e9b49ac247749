//! A template becomes an answer.
//! In: a `…Page`. Out: HTML that is never cached.
//! Promise: a template that fails is a fault of ours, logged like any other.

use anyhow::Context as _;
use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;

/// Renders a page.
pub(super) fn show(page: &impl Template) -> Result<Response, AppError> {
    let html = page.render().context("could not render a page")?;
    let headers =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, html).into_response())
}

/// Renders the page of a form that was refused.
pub(super) fn refuse(page: &impl Template) -> Result<Response, AppError> {
    Ok((StatusCode::UNPROCESSABLE_ENTITY, show(page)?).into_response())
}

/// 303 to an address that already has the public prefix; after every form that changed something.
pub(super) fn see_other(href: &str) -> Response {
    match HeaderValue::from_str(href) {
        Ok(href) => (StatusCode::SEE_OTHER, [(header::LOCATION, href)]).into_response(),
        Err(_) => AppError::bad_request("That address cannot be redirected to.").into_response(),
    }
}
