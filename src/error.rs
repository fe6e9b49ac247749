//! Errors at the doors.
//! In: what went wrong inside. Out: a status and one public line; the cause stays with us.
//! Promise: a 500 never tells its cause to the client, and every cause is logged exactly once, by the door's layer.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What a handler answers when it cannot do what was asked.
#[derive(Debug)]
pub struct AppError {
    /// The status the client gets.
    pub status: StatusCode,
    /// One line the client may read.
    pub line: Cow<'static, str>,
    /// Why, for our log only.
    pub cause: Option<anyhow::Error>,
    /// Seconds after which trying again may help, for `Retry-After`.
    pub retry_after: Option<u32>,
}

impl AppError {
    /// An answer chosen by hand.
    pub fn new(status: StatusCode, line: impl Into<Cow<'static, str>>) -> Self {
        Self { status, line: line.into(), cause: None, retry_after: None }
    }

    /// 400 with the reason.
    pub fn bad_request(line: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, line)
    }

    /// 404.
    pub fn not_found(line: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, line)
    }

    /// 503: ours, and trying again helps.
    pub fn unavailable(line: impl Into<Cow<'static, str>>, cause: anyhow::Error) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, line).because(cause)
    }

    /// 503: too many ask for the same at once. Nothing of ours is broken, so nothing is logged as an error.
    pub fn busy(line: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, line);
        Self { retry_after: Some(retry_after), ..busy }
    }

    /// The same answer with a reason that only our log sees.
    #[must_use]
    pub fn because(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl From<anyhow::Error> for AppError {
    fn from(cause: anyhow::Error) -> Self {
        let line = "Something went wrong on our side; it is in the log.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, line).because(cause)
    }
}

/// Travels in a response's extensions from the handler to the layer that logs it and gives it its form.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The public line.
    pub line: Cow<'static, str>,
    /// The cause, shared because extensions must be cloneable.
    pub cause: Option<Arc<anyhow::Error>>,
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let body = format!("{}\n", self.line);
        let headers = [
            (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
            (header::CACHE_CONTROL, "no-store"),
        ];
        let mut response = (self.status, headers, body).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        let fault = Fault { line: self.line, cause: self.cause.map(Arc::new) };
        response.extensions_mut().insert(fault);
        response
    }
}
