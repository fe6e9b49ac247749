//! The description of the API, as OpenAPI.
//! In: the handlers and shapes beside it. Out: one JSON document.
//! Promise: it is made from the code that answers, so it cannot fall behind.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::endpoint;
use crate::error::AppError;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Clickstamp",
        description = "Payments joined to visits. Lists are `{\"data\":[…],\"next\":cursor|null}`; problems are RFC 9457."
    ),
    servers((url = "/api/v1")),
    security(("bearer" = [])),
    paths(
        endpoint::read_overview,
        endpoint::list_conversions,
        endpoint::read_conversion,
        endpoint::read_visit,
        endpoint::list_stripe_events,
        endpoint::list_deliveries,
        endpoint::retry_delivery,
        endpoint::list_sites,
        endpoint::list_links,
        endpoint::list_sources,
        endpoint::list_destinations,
    ),
    modifiers(&BearerToken)
)]
struct Description;

/// How to show a token.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// `GET /api/v1/openapi.json`: needs no token, because it tells nothing about anybody.
pub(super) async fn describe_api() -> Result<Response, AppError> {
    let text = Description::openapi().to_json().map_err(anyhow::Error::from)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_and_shape_is_described() {
        let description = Description::openapi();
        let paths: Vec<&str> = description.paths.paths.keys().map(String::as_str).collect();
        assert!(paths.contains(&"/conversions/{id}"), "{paths:?}");
        let schemas = description.components.unwrap().schemas;
        for name in ["Overview", "Conversion", "Problem", "Rate", "List_Conversion"] {
            assert!(schemas.contains_key(name), "{name} of {:?}", schemas.keys());
        }
    }
}
