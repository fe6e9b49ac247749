//! The description of the API, as OpenAPI.
//! Takes the handlers and types of this module; returns one JSON document.
//! Guarantees that it is generated from the code that responds, so it is never out of date.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::endpoint;
use crate::domain;
use crate::error::AppError;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Clickstamp",
        description = "Payments matched to visits. Lists are `{\"data\":[…],\"next\":cursor|null}`; problems are RFC 9457."
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
    components(schemas(
        domain::DeliveryState,
        domain::DeliveryReason,
        domain::EventState,
        domain::ConversionStatus,
        domain::MatchState,
        domain::MatchRule,
        domain::UnmatchedReason,
    )),
    modifiers(&BearerToken)
)]
struct Description;

/// Adds the bearer token as the security scheme.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = description.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// `GET /api/v1/openapi.json`: needs no token, because it contains no data.
pub(super) async fn describe_api() -> Result<Response, AppError> {
    let text = Description::openapi().to_json().map_err(anyhow::Error::from)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<W: domain::Word>() -> Vec<&'static str> {
        W::ALL.iter().map(|word| word.as_str()).collect()
    }

    #[test]
    fn closed_lists_are_enums_of_the_words_that_the_code_uses() {
        let description = serde_json::to_value(Description::openapi()).unwrap();
        let schemas = &description["components"]["schemas"];
        for (name, words) in [
            ("DeliveryState", texts::<domain::DeliveryState>()),
            ("DeliveryReason", texts::<domain::DeliveryReason>()),
            ("EventState", texts::<domain::EventState>()),
            ("ConversionStatus", texts::<domain::ConversionStatus>()),
            ("MatchState", texts::<domain::MatchState>()),
            ("MatchRule", texts::<domain::MatchRule>()),
            ("UnmatchedReason", texts::<domain::UnmatchedReason>()),
        ] {
            assert_eq!(schemas[name]["enum"], serde_json::json!(words), "{name}");
        }
        let text = description.to_string();
        for of_answers in ["DeliveryState", "ConversionStatus", "MatchRule", "UnmatchedReason"] {
            let uses = format!("#/components/schemas/{of_answers}\"");
            assert!(text.contains(&uses), "{of_answers} is used by an answer or a filter");
        }
    }

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
