//! Reads the parameters of a query into filters.
//! Takes a query string and the settings; returns filters, or a 400 that names the parameter.
//! Guarantees that an unknown name or an invalid value is rejected, never treated as no filter.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::clock::Timestamp;
use crate::error::AppError;
use crate::report::{Filter, Known, OverviewFilter, Paging, Period};
use crate::settings::Snapshot;

/// The default number of rows of a page.
const DEFAULT_LIMIT: i64 = 50;
/// The default period.
const DEFAULT_PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);
/// How far Stripe's clock may be ahead of ours; without this, a payment of this second could be
/// missing from "until now".
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The parameters of a request by name; the first of a repeated one counts, and an empty one is
/// absent.
pub(super) struct Parameters(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Parameters {
    pub(super) fn parse(query: &str) -> Self {
        let mut values = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let first = values.entry(name.into_owned()).or_insert_with(String::new);
            if first.is_empty() {
                *first = value.into_owned();
            }
        }
        Self(values)
    }

    /// The parameters as a filter.
    pub(super) fn read<F: Filter>(&self, settings: &Snapshot) -> Result<F, AppError> {
        self.only(&F::names().collect::<Vec<_>>())?;
        self.fields(settings)
    }

    /// The parameters as a filter and a part of its list: where it begins, and how many rows.
    pub(super) fn read_list<F: Filter>(
        &self,
        settings: &Snapshot,
    ) -> Result<(F, Paging, i64), AppError> {
        self.only(&F::names().chain(Paging::names()).collect::<Vec<_>>())?;
        let (filter, paging): (F, Paging) = (self.fields(settings)?, self.fields(settings)?);
        let limit = paging.limit.unwrap_or(DEFAULT_LIMIT);
        Ok((filter, paging, limit))
    }

    /// Rejects every parameter.
    pub(super) fn none(&self) -> Result<(), AppError> {
        self.only(&[])
    }

    /// Rejects unknown parameters, because an ignored filter would return everything.
    fn only(&self, known: &[&str]) -> Result<(), AppError> {
        let unknown = self.0.keys().find(|name| !known.contains(&name.as_str()));
        let Some(name) = unknown else { return Ok(()) };
        let shown: String = name.chars().take(64).collect();
        Err(match known {
            [] => refused(&shown, "is unknown: this takes no parameters"),
            known => {
                refused(&shown, format!("is unknown; the parameters are {}", known.join(", ")))
            }
        })
    }

    fn fields<F: Filter>(&self, settings: &Snapshot) -> Result<F, AppError> {
        let known = Known { settings, site_id: None };
        let mut filter = F::default();
        for field in F::FIELDS {
            let text = self.0.get(field.name).filter(|text| !text.is_empty());
            if let Some(text) = text {
                let read = (field.read)(&mut filter, text, &known);
                read.map_err(|rule| refused(field.name, rule))?;
            }
        }
        Ok(filter)
    }
}

/// The period of an overview; by default the last 30 days.
pub(super) fn period(asked: &OverviewFilter, now: Timestamp) -> Result<Period, AppError> {
    let to = asked.to.unwrap_or_else(|| now.plus(CLOCK_SKEW));
    let from = asked.from.unwrap_or_else(|| to.min(now).minus(DEFAULT_PERIOD));
    if from < to { Ok(Period { from, to }) } else { Err(refused("from", "must be before to")) }
}

fn refused(name: &str, rule: impl Display) -> AppError {
    AppError::bad_request(format!("{name} {rule}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{ConversionFilter, DeliveryFilter};

    fn now() -> Timestamp {
        Timestamp::parse("2026-09-21T14:13:20Z").unwrap()
    }

    /// What is said about the first invalid parameter; empty if all are valid.
    fn said<F: Filter>(query: &str) -> String {
        let read = Parameters::parse(query).read_list::<F>(&Snapshot::default());
        read.err().map(|error| error.line.to_string()).unwrap_or_default()
    }

    fn period_of(query: &str) -> Result<Period, AppError> {
        period(&Parameters::parse(query).read(&Snapshot::default())?, now())
    }

    #[test]
    fn an_invalid_value_is_rejected_by_name() {
        let rows = [
            ("limit", "limit=0"),
            ("limit", "limit=201"),
            ("limit", "limit=ten"),
            ("limit", "limit=-1"),
            ("cursor", "cursor=%00"),
            ("cursor", "cursor=5"),
            ("from", "from=yesterday"),
            ("to", "to=2026-13-01"),
            ("livemode", "livemode=1"),
            ("match", "match=Matched"),
            ("delivery", "delivery=failed"),
            ("search", "search=a%00b"),
            ("site", "site=nowhere"),
            ("destination", "destination=nobody"),
        ];
        for (name, query) in rows {
            let line = said::<ConversionFilter>(query);
            assert!(line.starts_with(&format!("{name} must ")), "{query}: {line}");
        }
        assert_eq!(said::<ConversionFilter>("limit=&livemode=true&match=matched&limit=200"), "");
        for query in ["from=2026-09-22&to=2026-09-21", "from=2026-09-21&to=2026-09-21"] {
            assert_eq!(period_of(query).unwrap_err().line, "from must be before to.", "{query}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_rejected_with_a_list_of_known_ones() {
        assert_eq!(said::<DeliveryFilter>("limit=5&state="), "");
        let known = "stat is unknown; the parameters are state, reason, destination, site, livemode, cursor, limit.";
        assert_eq!(said::<DeliveryFilter>("stat=given_up"), known);
        assert_eq!(said::<DeliveryFilter>("stat="), known);
        let none = Parameters::parse("x=1").none().unwrap_err();
        assert_eq!(none.line, "x is unknown: this takes no parameters.");
    }

    #[test]
    fn the_default_period_is_thirty_days_until_now() {
        let period = period_of("").unwrap();
        assert_eq!(period.from.to_rfc3339(), "2026-08-22T14:13:20Z");
        assert!(period.to > now());
        let until = period_of("to=2026-09-01").unwrap();
        assert_eq!(until.from.to_rfc3339(), "2026-08-02T00:00:00Z");
    }

    #[test]
    fn an_unescaped_plus_is_understood() {
        let period = period_of("from=2026-09-21T16:13:20+02:00").unwrap();
        assert_eq!(period.from, now());
    }
}
