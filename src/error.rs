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
}

impl AppError {
    /// An error response without a cause to log.
    pub fn new(status: StatusCode, line: impl Into<Cow<'static, str>>) -> Self {
        Self { status, line: line.into(), cause: None }
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
        Self { status: StatusCode::SERVICE_UNAVAILABLE, line: line.into(), cause: Some(cause) }
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
        Self {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            line: Cow::Borrowed("Something went wrong on our side; it is in the log."),
            cause: Some(cause),
        }
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
        let fault = Fault { line: self.line, cause: self.cause.map(Arc::new) };
        response.extensions_mut().insert(fault);
        response
    }
}
