//! Stripe's own API, only read.
//! In: a path and a query. Out: JSON, or one sentence for the operator that says what to do.
//! Each source asks with the key of its account.
//! Promise: one call at a time and key, bounded in time, memory and tries; it pauses by the Clock; the key never stands in a text.
//! Source: docs.stripe.com/api (pagination, errors), docs.stripe.com/rate-limits, docs.stripe.com/keys (restricted keys).

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use url::Url;

use crate::clock::{Clock, Timestamp};
use crate::config::Secret;
use crate::ids;
use crate::outbound;
use crate::settings::{Snapshot, Source};

/// The version whose shapes we ask for. What an event carries has the version it was made with all the same.
pub(crate) const VERSION: &str = "2026-10-28.endive";
/// Items of a page; Stripe gives no more.
const PAGE_SIZE: usize = 100;
/// Tries of one call before it is given up.
const MAX_TRIES: u32 = 8;
/// For one call, its body included.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer read: a hundred events, most of a few KiB, a few far larger.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The longest pause between two tries, also when Stripe asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Between two calls: Stripe allows about 100 a second live and 25 in test mode, which others of the account need too.
const PACE_LIVE: Duration = Duration::from_millis(100);
const PACE_TEST: Duration = Duration::from_millis(200);

/// Why Stripe gave no answer that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no key.
    #[error(
        "this needs a restricted API key of Stripe: set CLICKSTAMP_STRIPE_API_KEY, or the key of this webhook under Settings"
    )]
    NoKey,
    /// The key is not accepted.
    #[error("{0}")]
    Refused(String),
    /// The key lacks a permission, which the text names.
    #[error("{0}")]
    Denied(String),
    /// There is no such thing at Stripe, or not any more.
    #[error("{0}")]
    Missing(String),
    /// Stripe did not understand the question.
    #[error("{0}")]
    Invalid(String),
    /// A list that announces more and gives the same again. Asking for more of it would never end.
    #[error("{0}")]
    Stuck(String),
    /// No usable answer in all tries. Trying again later may help.
    #[error("{0}")]
    NoAnswer(String),
}

/// A client of one key. Clones share its turn and its pace.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    key: Secret,
    /// What people know the key as, for sentences.
    name: String,
    base: Url,
    clock: Clock,
    /// When the last call began; whoever holds it may call.
    turn: Mutex<Option<Timestamp>>,
}

/// One page of a list, newest first.
#[derive(Debug)]
pub(crate) struct Page {
    /// The items' bytes as Stripe wrote them.
    pub(crate) data: Vec<Box<RawValue>>,
    /// Where the next page starts; `None` on the last one.
    pub(crate) next: Option<String>,
}

/// A list that is being read to its end.
pub(crate) struct Pages<'a> {
    api: &'a Api,
    account: &'a str,
    path: &'a str,
    query: &'a [(&'a str, String)],
    cursors: Cursors,
    is_over: bool,
}

impl Pages<'_> {
    /// The items of the next page; `None` after the last one.
    ///
    /// # Errors
    /// Whatever the page's call ends with; [`ApiError::Stuck`] when the list does not move on.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Box<RawValue>>>, ApiError> {
        if self.is_over {
            return Ok(None);
        }
        let after = self.cursors.last.as_deref();
        let page = self.api.page(self.account, self.path, self.query, after).await?;
        self.is_over = page.next.is_none();
        self.cursors.move_on(self.path, page.next)?;
        Ok(Some(page.data))
    }
}

/// Where a list was read from so far, so that one that goes in a circle is noticed.
pub(crate) struct Cursors {
    seen: BTreeSet<String>,
    /// From after which item the next page is read.
    pub(crate) last: Option<String>,
}

impl Cursors {
    /// A list that is read from after this item, or from its begin.
    pub(crate) fn from(last: Option<String>) -> Self {
        Self { seen: last.iter().cloned().collect(), last }
    }

    /// Goes on after another item.
    ///
    /// # Errors
    /// [`ApiError::Stuck`] when the list was read from after this one already.
    pub(crate) fn move_on(&mut self, path: &str, next: Option<String>) -> Result<(), ApiError> {
        if let Some(next) = &next
            && !self.seen.insert(next.clone())
        {
            return Err(ApiError::Stuck(format!(
                "Stripe’s list {path} does not move on: it announces more after {next}, as it did before"
            )));
        }
        self.last = next;
        Ok(())
    }
}

#[derive(Deserialize)]
struct List {
    data: Vec<Box<RawValue>>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct HasId {
    id: String,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    error: FailureText,
}

#[derive(Default, Deserialize)]
struct FailureText {
    code: Option<String>,
    message: Option<String>,
}

/// How one try ended that gave no value.
enum Tried {
    Final(ApiError),
    /// What happened, and how long Stripe asks us to wait.
    Again(String, Option<Duration>),
}

/// The clients of all keys. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Apis(Arc<Keys>);

#[derive(Debug)]
struct Keys {
    /// The environment's key, which is that of `main`.
    main: Option<Secret>,
    base: Url,
    clock: Clock,
    /// By key, because the pace of a key counts over all who ask with it.
    clients: std::sync::Mutex<HashMap<String, Api>>,
}

impl Apis {
    pub(crate) fn new(main: Option<Secret>, base: Url, clock: Clock) -> Self {
        Self(Arc::new(Keys { main, base, clock, clients: Default::default() }))
    }

    /// The key a source has itself, and what people know it as.
    fn own_key<'a>(&'a self, source: &'a Source) -> Option<(&'a Secret, String)> {
        match &self.0.main {
            Some(key) if source.key == "main" => {
                Some((key, "the key in CLICKSTAMP_STRIPE_API_KEY".to_owned()))
            }
            _ => {
                let name = || format!("the API key of the webhook “{}”", source.key);
                source.api_key.as_ref().map(|key| (key, name()))
            }
        }
    }

    /// The key a source asks with: its own, else that of `main`.
    fn key_of<'a>(
        &'a self,
        settings: &'a Snapshot,
        source: &'a Source,
    ) -> Option<(&'a Secret, String)> {
        self.own_key(source).or_else(|| self.own_key(settings.stripe_source("main")?))
    }

    /// The client of a source.
    ///
    /// # Errors
    /// [`ApiError::NoKey`] when neither it nor `main` has a key.
    pub(crate) fn of(&self, settings: &Snapshot, source: &Source) -> Result<Api, ApiError> {
        let (key, name) = self.key_of(settings, source).ok_or(ApiError::NoKey)?;
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(key.expose()) {
            return Ok(client.clone());
        }
        let client = Api::new(key.clone(), name, self.0.base.clone(), self.0.clock.clone())
            .map_err(|error| ApiError::NoAnswer(format!("{error:#}")))?;
        clients.insert(key.expose().to_owned(), client.clone());
        Ok(client)
    }

    /// True when any source has a key.
    pub(crate) fn any(&self, settings: &Snapshot) -> bool {
        settings.stripe_sources().any(|source| self.own_key(source).is_some())
    }

    /// The sources that ask with the same key as this one: to Stripe they are one.
    pub(crate) fn sharing(&self, settings: &Snapshot, source: &Source) -> BTreeSet<String> {
        let key = |source| self.key_of(settings, source).map(|(key, _)| key.expose());
        let same = settings.stripe_sources().filter(|other| key(*other) == key(source));
        same.map(|source| source.id.clone()).collect()
    }

    /// One source for each key.
    pub(crate) fn one_per_key<'a>(&self, settings: &'a Snapshot) -> Vec<&'a Source> {
        let mut seen = BTreeSet::new();
        let with_own = settings.stripe_sources().filter_map(|source| {
            let (key, _) = self.own_key(source)?;
            seen.insert(key.expose().to_owned()).then_some(source)
        });
        with_own.collect()
    }
}

impl Api {
    /// Builds the client of a key.
    ///
    /// # Errors
    /// When the machine has no usable certificates.
    fn new(key: Secret, name: String, base: Url, clock: Clock) -> Result<Self> {
        let client = outbound::for_endpoints()
            .connect_timeout(Duration::from_secs(10))
            .timeout(CALL_TIMEOUT)
            .build()
            .context("could not build the client of Stripe's API")?;
        Ok(Self(Arc::new(Inner { client, key, name, base, clock, turn: Mutex::new(None) })))
    }

    /// True for a key of live mode: it sees no test objects, and one of test mode no live ones.
    pub(crate) fn is_live(&self) -> bool {
        !self.0.key.expose().contains("_test_")
    }

    /// One object, as its bytes.
    pub(crate) async fn object(
        &self,
        account: &str,
        path: &str,
    ) -> Result<Box<RawValue>, ApiError> {
        self.get(account, path, &[]).await
    }

    /// One page of a list, from after the item `after`.
    pub(crate) async fn page(
        &self,
        account: &str,
        path: &str,
        query: &[(&str, String)],
        after: Option<&str>,
    ) -> Result<Page, ApiError> {
        let mut query = query.to_vec();
        query.push(("limit", PAGE_SIZE.to_string()));
        if let Some(after) = after {
            query.push(("starting_after", after.to_owned()));
        }
        let list: List = self.get(account, path, &query).await?;
        let id = |item: &RawValue| serde_json::from_str::<HasId>(item.get()).ok();
        let next = match list.has_more {
            true => list.data.iter().rev().find_map(|item| id(item)).map(|last| last.id),
            false => None,
        };
        if next.is_none() && list.has_more {
            return Err(ApiError::Stuck(format!(
                "Stripe announced more of {path} after a page without IDs"
            )));
        }
        Ok(Page { data: list.data, next })
    }

    /// A whole list, page by page.
    pub(crate) fn pages<'a>(
        &'a self,
        account: &'a str,
        path: &'a str,
        query: &'a [(&'a str, String)],
    ) -> Pages<'a> {
        Pages { api: self, account, path, query, cursors: Cursors::from(None), is_over: false }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        account: &str,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, ApiError> {
        let Inner { base, clock, turn, .. } = &*self.0;
        let url = base.join(path).ok().filter(|url| url.origin() == base.origin());
        let mut url =
            url.ok_or_else(|| ApiError::Invalid(format!("{path} is no path of Stripe's API")))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut last = turn.lock().await;
        let mut failure = String::new();
        for tried in 1..=MAX_TRIES {
            if let Some(began) = *last {
                let pace = if self.is_live() { PACE_LIVE } else { PACE_TEST };
                clock.pause(pace.saturating_sub(clock.now().since(began))).await;
            }
            *last = Some(clock.now());
            let asked = match self.try_once(account, path, url.clone()).await {
                Ok(value) => return Ok(value),
                Err(Tried::Final(error)) => return Err(error),
                Err(Tried::Again(what, asked)) => {
                    failure = what;
                    asked
                }
            };
            if tried < MAX_TRIES {
                tracing::info!(path, tried, "Stripe's API: {failure}; trying again");
                clock.pause(pause(tried, asked)).await;
            }
        }
        Err(ApiError::NoAnswer(format!("{failure}, {MAX_TRIES} times in a row, at {path}")))
    }

    async fn try_once<T: DeserializeOwned>(
        &self,
        account: &str,
        path: &str,
        url: Url,
    ) -> Result<T, Tried> {
        let again = |what: &str| Tried::Again(what.to_owned(), None);
        let Inner { client, key, .. } = &*self.0;
        let mut request =
            client.get(url).bearer_auth(key.expose()).header("Stripe-Version", VERSION);
        if !account.is_empty() {
            request = request.header("Stripe-Account", account);
        }
        let mut response = request.send().await.map_err(|error| again(broken(&error)))?;
        let status = response.status();
        let asked = response.headers().get(header::RETRY_AFTER);
        let asked = asked.and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| again(broken(&error)))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(again("Stripe's answer was too large"));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            // One bad byte in one object must not cost the whole page.
            let body = match String::from_utf8_lossy(&body) {
                Cow::Borrowed(_) => body,
                Cow::Owned(text) => text.into_bytes(),
            };
            return serde_json::from_slice(&body)
                .map_err(|_| again("Stripe's answer broke off or was no list"));
        }
        let text = serde_json::from_slice::<Failure>(&body).unwrap_or_default().error;
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = asked.map(Duration::from_secs);
            return Err(Tried::Again("Stripe asked us to slow down (429)".to_owned(), seconds));
        }
        if status.is_server_error() || status == StatusCode::CONFLICT {
            let seconds = asked.map(Duration::from_secs);
            return Err(Tried::Again(format!("Stripe answered {}", status.as_u16()), seconds));
        }
        Err(Tried::Final(self.explain(status, path, &text)))
    }

    /// An answer that will not change by asking again, as a sentence.
    fn explain(&self, status: StatusCode, path: &str, text: &FailureText) -> ApiError {
        let code = text.code.as_deref().unwrap_or_default();
        let message = text.message.as_deref().unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED => ApiError::Refused(format!(
                "Stripe does not accept {}{}: make a new restricted key under Developers, API keys, and set it",
                self.0.name,
                if code == "api_key_expired" { " any more, it has expired" } else { "" }
            )),
            StatusCode::FORBIDDEN => ApiError::Denied(format!(
                "{} may not read {path}: edit it under Developers, API keys, and add {}",
                self.0.name,
                permission(path, message)
            )),
            StatusCode::NOT_FOUND => {
                ApiError::Missing(format!("Stripe has nothing (any more) at {path}"))
            }
            _ if code == "resource_missing" => {
                ApiError::Missing(format!("Stripe has nothing (any more) at {path}"))
            }
            _ => {
                // Stripe masks keys in its messages; ours is taken out all the same.
                let message = message.replace(self.0.key.expose(), "***");
                ApiError::Invalid(format!(
                    "Stripe answered {} at {path}: {message}",
                    status.as_u16()
                ))
            }
        }
    }
}

fn broken(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "Stripe did not answer in time"
    } else if error.is_connect() {
        "Stripe could not be reached"
    } else {
        "the connection to Stripe broke"
    }
}

/// What to tick on the key's page. Stripe's message names it by its inner name, where it does.
fn permission(path: &str, message: &str) -> String {
    let inner = message.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let inner = inner.filter(|word| word.starts_with("rak_")).map(|word| format!(" ({word})"));
    let resources = [
        ("/v1/events", "Events"),
        ("/v1/checkout/", "Checkout Sessions"),
        ("/v1/invoices", "Invoices"),
        ("/v1/invoice_payments", "Invoices"),
        ("/v1/payment_intents", "PaymentIntents"),
        ("/v1/charges", "Charges and Refunds"),
        ("/v1/refunds", "Charges and Refunds"),
        ("/v1/disputes", "Disputes"),
        ("/v1/subscriptions", "Subscriptions"),
    ];
    let known = resources.iter().find(|(start, _)| path.starts_with(start));
    let what =
        known.map_or("the right to read it".to_owned(), |(_, name)| format!("“{name}: Read”"));
    format!("{what}{}", inner.take(1).collect::<String>())
}

/// Half a second, doubled each time, spread by a fifth; what Stripe asks for counts more. Never longer than a minute.
fn pause(tried: u32, asked: Option<Duration>) -> Duration {
    let own = Duration::from_millis(500 << tried.min(10));
    let spread = own * (900 + u32::from(ids::random_per_mille()) / 5) / 1000;
    asked.unwrap_or_default().max(spread).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_in_plain_words() {
        let rows = [
            (
                "/v1/events",
                "Having the 'rak_event_read' permission",
                "“Events: Read” (rak_event_read)",
            ),
            ("/v1/checkout/sessions", "", "“Checkout Sessions: Read”"),
            ("/v2/anything", "", "the right to read it"),
        ];
        for (path, message, expected) in rows {
            assert_eq!(permission(path, message), expected);
        }
    }

    #[test]
    fn pauses_grow_and_have_an_end() {
        assert!(pause(1, None) < pause(4, None));
        assert!(pause(40, None) <= MAX_PAUSE);
        assert_eq!(pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(1, Some(Duration::from_secs(7000))), MAX_PAUSE);
    }
}
