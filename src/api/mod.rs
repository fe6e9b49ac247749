//! The JSON API under `/api/v1`: what the dashboard shows, for programs.
//! Takes a bearer token, a path and a query; returns JSON, or problem JSON (RFC 9457) that names
//! the wrong parameter.
//! Guarantees that only the description of the API is available without a token, and that money is
//! exact decimal text.

mod access;
mod answers;
mod endpoint;
mod metrics;
mod openapi;
mod parameters;
mod problem;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::routing::{any, get, post};
use tower_http::set_header::SetResponseHeaderLayer;

pub(crate) use metrics::read_metrics;

use crate::error::AppError;
use crate::state::AppState;

/// Every route under `/api`.
pub(crate) fn routes() -> Router<AppState> {
    let v1 = Router::new()
        .route("/overview", get(endpoint::read_overview))
        .route("/conversions", get(endpoint::list_conversions))
        .route("/conversions/{id}", get(endpoint::read_conversion))
        .route("/visits/{click_id}", get(endpoint::read_visit))
        .route("/stripe-events", get(endpoint::list_stripe_events))
        .route("/deliveries", get(endpoint::list_deliveries))
        .route("/deliveries/{id}/retry", post(endpoint::retry_delivery))
        .route("/sites", get(endpoint::list_sites))
        .route("/links", get(endpoint::list_links))
        .route("/sources", get(endpoint::list_sources))
        .route("/destinations", get(endpoint::list_destinations))
        .route("/openapi.json", get(openapi::describe_api));
    let api = Router::new().nest("/v1", v1).fallback(refuse_unknown_path);
    let no_store = SetResponseHeaderLayer::overriding(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    // `nest` does not match the bare slash. The layers are added after the routes, so that they
    // also apply to the fallback and to 405.
    Router::new()
        .nest("/api", api)
        .route("/api/", any(refuse_unknown_path))
        .layer(middleware::from_fn(problem::shape_faults))
        .layer(no_store)
}

async fn refuse_unknown_path() -> AppError {
    AppError::not_found("There is nothing at this path; /api/v1/openapi.json lists all paths.")
}
