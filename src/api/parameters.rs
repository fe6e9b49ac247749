//! Parses query parameters into filters.
//! Takes a query string and the settings; returns valid values, or a 400 that names the parameter.
//! Guarantees that an invalid value is rejected, never treated as no filter.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::clock::Timestamp;
use crate::domain::Word;
use crate::error::AppError;
use crate::report::{Cursor, MAX_LIMIT, Period};
use crate::settings::{Site, Snapshot};

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

    /// Rejects unknown parameters, because an ignored filter would return everything.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, AppError> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(self),
            Some(name) => {
                let shown: String = name.chars().take(64).collect();
                Err(refused(
                    &shown,
                    match known {
                        [] => "is unknown: this takes no parameters".to_owned(),
                        known => format!("is unknown; the parameters are {}", known.join(", ")),
                    },
                ))
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Free text. NUL is refused because PostgreSQL cannot hold it.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, AppError> {
        match self.get(name) {
            Some(text) if text.contains('\0') => Err(refused(name, "must not contain NUL")),
            Some(text) => Ok(Some(text.to_owned())),
            None => Ok(None),
        }
    }

    /// A word of a closed list.
    pub(super) fn word<W: Word>(&self, name: &str) -> Result<Option<W>, AppError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let words = || W::ALL.iter().map(|word| word.as_str()).collect::<Vec<_>>().join(", ");
        let word = W::parse(text);
        word.map(Some).ok_or_else(|| refused(name, format!("must be one of {}", words())))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, AppError> {
        match self.get(name) {
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(refused(name, "must be one of true, false")),
            None => Ok(None),
        }
    }

    /// A time, or a date, which means its first instant in UTC.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, AppError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // The unescaped plus sign of an offset arrives as a space.
        let at = Timestamp::parse(text).or_else(|| Timestamp::parse(&text.replace(' ', "+")));
        at.map(Some).ok_or_else(|| {
            refused(name, "must be a time like 2026-09-21T14:13:20Z or a date like 2026-09-21")
        })
    }

    /// `from` and `to`; by default the last 30 days.
    pub(super) fn period(&self, now: Timestamp) -> Result<Period, AppError> {
        let to = self.time("to")?.unwrap_or_else(|| now.plus(CLOCK_SKEW));
        let from = self.time("from")?.unwrap_or_else(|| to.min(now).minus(DEFAULT_PERIOD));
        if from < to { Ok(Period { from, to }) } else { Err(refused("from", "must be before to")) }
    }

    /// The number of rows of a page.
    pub(super) fn limit(&self) -> Result<i64, AppError> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| refused("limit", format!("must be a number from 1 to {MAX_LIMIT}")))
    }

    /// The start of the page.
    pub(super) fn cursor(&self) -> Result<Option<Cursor>, AppError> {
        let Some(text) = self.get("cursor") else { return Ok(None) };
        let cursor = Cursor::parse(text);
        cursor
            .map(Some)
            .ok_or_else(|| refused("cursor", "must be the `next` of an earlier response"))
    }

    /// The site with this key or ID.
    pub(super) fn site<'a>(&self, settings: &'a Snapshot) -> Result<Option<&'a Site>, AppError> {
        let Some(text) = self.get("site") else { return Ok(None) };
        let site = settings.site_by_key(text).or_else(|| settings.site(text));
        site.map(Some).ok_or_else(|| refused("site", "must be the key of a site"))
    }

    /// The ID of the destination with this key or ID.
    pub(super) fn destination(&self, settings: &Snapshot) -> Result<Option<String>, AppError> {
        let Some(text) = self.get("destination") else { return Ok(None) };
        let found = settings.destinations.iter().find(|it| it.key == text || it.id == text);
        let id = found.map(|destination| Some(destination.id.clone()));
        id.ok_or_else(|| refused("destination", "must be the key of a destination"))
    }
}

fn refused(name: &str, rule: impl Display) -> AppError {
    AppError::bad_request(format!("{name} {rule}."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::DeliveryState;

    fn now() -> Timestamp {
        Timestamp::parse("2026-09-21T14:13:20Z").unwrap()
    }

    #[test]
    fn an_invalid_value_is_rejected_by_name() {
        let settings = Snapshot::default();
        let outcome = |query: &str| -> Result<(), AppError> {
            let given = Parameters::parse(query);
            given.limit()?;
            given.cursor()?;
            given.period(now())?;
            given.flag("livemode")?;
            given.word::<DeliveryState>("state")?;
            given.text("search")?;
            given.site(&settings)?;
            given.destination(&settings).map(|_| ())
        };
        let rows = [
            ("limit", "limit=0"),
            ("limit", "limit=201"),
            ("limit", "limit=ten"),
            ("limit", "limit=-1"),
            ("cursor", "cursor=%00"),
            ("cursor", "cursor=5"),
            ("from", "from=yesterday"),
            ("to", "to=2026-13-01"),
            ("from", "from=2026-09-22&to=2026-09-21"),
            ("from", "from=2026-09-21&to=2026-09-21"),
            ("livemode", "livemode=1"),
            ("state", "state=Pending"),
            ("search", "search=a%00b"),
            ("site", "site=nowhere"),
            ("destination", "destination=nobody"),
        ];
        for (name, query) in rows {
            let line = outcome(query).unwrap_err().line;
            assert!(line.starts_with(&format!("{name} ")), "{query}: {line}");
        }
        outcome("limit=&livemode=true&state=pending&limit=200&other=1").unwrap();
    }

    #[test]
    fn an_unknown_parameter_is_rejected_with_a_list_of_known_ones() {
        let line = |query: &str, known: &[&str]| {
            Parameters::parse(query).only(known).err().map(|error| error.line.to_string())
        };
        let known = ["state", "limit"];
        assert_eq!(line("", &known), None);
        assert_eq!(line("limit=5&state=", &known), None);
        let said = "stat is unknown; the parameters are state, limit.";
        assert_eq!(line("stat=given_up", &known).as_deref(), Some(said));
        assert_eq!(line("stat=", &known).as_deref(), Some(said));
        let said = "x is unknown: this takes no parameters.";
        assert_eq!(line("x=1", &[]).as_deref(), Some(said));
    }

    #[test]
    fn the_default_period_is_thirty_days_until_now() {
        let period = Parameters::parse("").period(now()).unwrap();
        assert_eq!(period.from.to_rfc3339(), "2026-08-22T14:13:20Z");
        assert!(period.to > now());
        let until = Parameters::parse("to=2026-09-01").period(now()).unwrap();
        assert_eq!(until.from.to_rfc3339(), "2026-08-02T00:00:00Z");
    }

    #[test]
    fn an_unescaped_plus_is_understood() {
        let given = Parameters::parse("from=2026-09-21T16:13:20+02:00");
        assert_eq!(given.time("from").unwrap(), Some(now()));
    }
}
