//! Errors of HTTP handlers. Takes an internal error; returns a status and one line of text for the
//! client. The cause never reaches the client. It is logged exactly once, by the server's error
//! layer.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// The error response of a handler.
#[derive(Debug)]
pub struct AppError {
    /// The response's status.
    pub status: StatusCode,
    /// One line for the client.
    pub line: Cow<'static, str>,
    /// The cause, for the log only.
    pub cause: Option<anyhow::Error>,
    /// Seconds after which trying again may help, for `Retry-After`.
    pub retry_after: Option<u32>,
}

impl AppError {
    /// An error response without a cause to log.
    pub fn new(status: StatusCode, line: impl Into<Cow<'static, str>>) -> Self {
        Self { status, line: line.into(), cause: None, retry_after: None }
    }

    /// 400 Bad Request with the reason.
    pub fn bad_request(line: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, line)
    }

    /// 404 Not Found.
    pub fn not_found(line: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, line)
    }

    /// 503 Service Unavailable: the fault is on the server, and the client should retry.
    pub fn unavailable(line: impl Into<Cow<'static, str>>, cause: anyhow::Error) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, line).because(cause)
    }

    /// 503: too many ask for the same at once. Nothing of ours is broken, so nothing is logged as an error.
    pub fn busy(line: impl Into<Cow<'static, str>>, retry_after: u32) -> Self {
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, line);
        Self { retry_after: Some(retry_after), ..busy }
    }

    /// Adds the cause, which only the log shows.
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

/// The error of a response. The handler puts it into the response's extensions; the error layer
/// logs it and renders it as a page or as JSON.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The line for the client.
    pub line: Cow<'static, str>,
    /// The cause; in an `Arc` because extensions must implement `Clone`.
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
