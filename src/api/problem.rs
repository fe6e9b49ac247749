//! Formats every error of the API as a problem (RFC 9457).
//! Takes a response with an error status, and the `Fault` if one of our handlers set it; returns
//! problem JSON.
//! Guarantees that the cause of an error is never sent; it stays in the extensions for the layer
//! that logs it.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use serde::Serialize;

use crate::error::Fault;

/// An error, as defined by RFC 9457.
#[derive(Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status is the type of the problem.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The name of the status.
    #[schema(example = "Bad Request")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 400)]
    status: u16,
    /// What is wrong with this request.
    #[schema(example = "limit must be a number from 1 to 200.")]
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, fault: Option<&Fault>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        let detail = match fault {
            Some(fault) => fault.line.clone().into_owned(),
            None if status == StatusCode::METHOD_NOT_ALLOWED => {
                "This path does not support that method; the Allow header lists the supported ones."
                    .to_owned()
            }
            None => format!("{title}."),
        };
        Self { kind: "about:blank", title, status: status.as_u16(), detail }
    }
}

/// The layer that formats every error response.
pub(super) async fn shape_faults(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let fault = parts.extensions.get::<Fault>();
    let body =
        serde_json::to_vec(&Problem::new(status, fault)).expect("a problem is text and a number");
    parts.headers.remove(header::CONTENT_LENGTH);
    parts
        .headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"clickstamp\"");
        parts.headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AppError;
    use axum::Router;
    use axum::middleware;
    use axum::routing::get;
    use tower::ServiceExt as _;

    async fn answer(method: &str, path: &str) -> (StatusCode, String, String, String) {
        let broken = || async { AppError::from(anyhow::anyhow!("the disk is on fire")) };
        let router: Router = Router::new()
            .route("/bad", get(|| async { AppError::bad_request("limit must be a number.") }))
            .route("/broken", get(broken))
            .route("/closed", get(|| async { AppError::new(StatusCode::UNAUTHORIZED, "No.") }))
            .route("/fine", get(|| async { "fine" }))
            .fallback(|| async { AppError::not_found("Nothing here.") })
            .layer(middleware::from_fn(shape_faults));
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let text = |name| {
            let value = response.headers().get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let (status, kind) = (response.status(), text(header::CONTENT_TYPE));
        let extra = text(header::WWW_AUTHENTICATE) + &text(header::ALLOW);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, kind, extra, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_error_has_the_same_form() {
        let (status, kind, _, body) = answer("GET", "/bad").await;
        assert_eq!((status.as_u16(), kind.as_str()), (400, "application/problem+json"));
        assert_eq!(
            body,
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"limit must be a number."}"#
        );
        let (status, kind, _, body) = answer("GET", "/nowhere").await;
        assert_eq!((status.as_u16(), kind.as_str()), (404, "application/problem+json"));
        assert!(body.contains("Nothing here."), "{body}");
    }

    #[tokio::test]
    async fn a_wrong_method_lists_the_right_ones() {
        let (status, kind, allow, body) = answer("DELETE", "/fine").await;
        assert_eq!((status.as_u16(), kind.as_str()), (405, "application/problem+json"));
        assert_eq!(allow, "GET,HEAD");
        assert!(body.contains("Method Not Allowed"), "{body}");
    }

    #[tokio::test]
    async fn our_own_errors_keep_their_cause() {
        let (status, _, _, body) = answer("GET", "/broken").await;
        assert_eq!(status.as_u16(), 500);
        assert!(!body.contains("fire"), "{body}");
    }

    #[tokio::test]
    async fn a_missing_token_is_a_challenge_and_a_good_answer_is_left_alone() {
        let (status, _, challenge, _) = answer("GET", "/closed").await;
        assert_eq!((status.as_u16(), challenge.as_str()), (401, "Bearer realm=\"clickstamp\""));
        assert_eq!(answer("GET", "/fine").await.3, "fine");
    }
}
