//! A template becomes an answer.
//! In: a `…Page`. Out: HTML that is never cached.
//! Promise: a template that fails is a fault of ours, logged like any other.

use anyhow::Context as _;
use askama::Template;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::error::AppError;

/// Renders a page.
pub(super) fn show(page: &impl Template) -> Result<Response, AppError> {
    let html = page.render().context("could not render a page")?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, html).into_response())
}
