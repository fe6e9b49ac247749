//! Keeps the dashboard on an origin of its own.
//! Takes a request; passes it on, or responds 404 if it asks for the dashboard or the API at another
//! address than `CLICKSTAMP_DASHBOARD_URL`. Does nothing without that setting.
//! Guarantees that what is not listed here as public is never answered at the tag's address, where
//! every script of the landing page may have the same origin.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use url::Url;

use crate::client::{self, BelowPrefix, Peer};
use crate::error::AppError;
use crate::state::AppState;

/// Begins the paths of visitors, of Stripe and of postbacks.
const PUBLIC: [&str; 3] = ["/t/", "/p/", "/webhooks/"];
/// The visit endpoint, and what supervisors ask.
const PUBLIC_PATHS: [&str; 3] = ["/v", "/healthz", "/readyz"];

pub(super) async fn keep_apart(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let is_public =
        PUBLIC_PATHS.contains(&path) || PUBLIC.iter().any(|start| path.starts_with(start));
    match &state.config.dashboard_url {
        Some(url) if !is_public && !is_at(url, &state, &request) => {
            AppError::not_found("there is nothing at this address").into_response()
        }
        _ => next.run(request).await,
    }
}

/// True if the browser sent the request to this URL's host and port.
fn is_at(url: &Url, state: &AppState, request: &Request) -> bool {
    // A proxy that hands a path of another host over may have changed the host, not the path.
    if request.extensions().get::<BelowPrefix>().is_some() {
        return false;
    }
    let peer = request.extensions().get::<Peer>().copied();
    let host = client::host_of(&state.config, peer, request.headers());
    let asked = Url::parse(&format!("{}://{host}", url.scheme()));
    asked.is_ok_and(|asked| asked.origin() == url.origin())
}
