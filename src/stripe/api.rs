//! A read-only client of Stripe's API, with one key.
//! Takes a path and a query; returns JSON, or a sentence that tells the operator what to do.
//! Guarantees one request at a time per key, limits on time, memory and tries, pauses measured by
//! the `Clock`, and that no text contains the key.
//! Source: docs.stripe.com/api (pagination, errors), docs.stripe.com/rate-limits,
//! docs.stripe.com/keys (restricted keys).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
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

/// The API version to request. The object inside an event still has the version with which the
/// event was created.
pub(crate) const VERSION: &str = "2026-10-28.endive";
/// Items per page; Stripe's maximum.
const PAGE_SIZE: usize = 100;
/// Number of tries of one request.
const MAX_TRIES: u32 = 8;
/// Time limit for one request, including its body.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum size of a response: a hundred events, most of a few KiB, a few far larger.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Maximum pause between two tries, even if Stripe asks for more.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Minimum time between two requests: Stripe allows about 100 a second in live mode and 25 in test
/// mode, which other programs of the account use too.
const PACE_LIVE: Duration = Duration::from_millis(100);
const PACE_TEST: Duration = Duration::from_millis(200);

/// Why a request to Stripe failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// There is no API key.
    #[error(
        "this needs a restricted Stripe API key: set CLICKSTAMP_STRIPE_API_KEY, or the key of this webhook under Settings"
    )]
    NoKey,
    /// The key is not accepted.
    #[error("{0}")]
    Refused(String),
    /// The key lacks a permission, which the text names.
    #[error("{0}")]
    Denied(String),
    /// The object does not exist at Stripe, or was deleted.
    #[error("{0}")]
    Missing(String),
    /// Stripe considers the request invalid.
    #[error("{0}")]
    Invalid(String),
    /// A list that says it has more items and returns the same ones. Reading it would never end.
    #[error("{0}")]
    Stuck(String),
    /// No usable response in all tries. A later try may succeed.
    #[error("{0}")]
    NoAnswer(String),
}

/// A client with one key. Clones share its rate limit.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: reqwest::Client,
    key: Secret,
    /// The name of the key in error texts.
    name: String,
    base: Url,
    clock: Clock,
    /// When the last request started; the lock allows one request at a time.
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

/// A list that is read page by page.
pub(crate) struct Pages<'a> {
    api: &'a Api,
    account: &'a str,
    path: &'a str,
    query: &'a [(&'a str, String)],
    cursors: Cursors,
    is_over: bool,
}

impl Pages<'_> {
    /// Returns the items of the next page; `None` after the last one.
    ///
    /// # Errors
    /// The error of the page's request, or [`ApiError::Stuck`] if the list does not advance.
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

/// The pages of a list that were read so far, to detect a list that repeats itself.
pub(crate) struct Cursors {
    seen: BTreeSet<String>,
    /// The next page starts after this item.
    pub(crate) last: Option<String>,
}

impl Cursors {
    /// A list that is read from after this item, or from its beginning.
    pub(crate) fn from(last: Option<String>) -> Self {
        Self { seen: last.iter().cloned().collect(), last }
    }

    /// Continues after another item.
    ///
    /// # Errors
    /// [`ApiError::Stuck`] if the list was already read from after this item.
    pub(crate) fn move_on(&mut self, path: &str, next: Option<String>) -> Result<(), ApiError> {
        if let Some(next) = &next
            && !self.seen.insert(next.clone())
        {
            return Err(ApiError::Stuck(format!(
                "Stripe’s list {path} does not move on: it returned {next} as the last item twice"
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

/// A try without a result.
enum Tried {
    Final(ApiError),
    /// What happened, and how long Stripe asks to wait.
    Again(String, Option<Duration>),
}

impl Api {
    /// Builds the client of a key.
    ///
    /// # Errors
    /// Fails if the machine has no usable certificates.
    pub(super) fn new(key: Secret, name: String, base: Url, clock: Clock) -> Result<Self> {
        let client = outbound::for_endpoints()
            .connect_timeout(Duration::from_secs(10))
            .timeout(CALL_TIMEOUT)
            .build()
            .context("could not build the client of Stripe's API")?;
        Ok(Self(Arc::new(Inner { client, key, name, base, clock, turn: Mutex::new(None) })))
    }

    /// True for a key of live mode, which can't read test objects; a key of test mode can't read
    /// live ones.
    pub(crate) fn is_live(&self) -> bool {
        !self.0.key.expose().contains("_test_")
    }

    /// Requests one object; returns its bytes.
    pub(crate) async fn object(
        &self,
        account: &str,
        path: &str,
    ) -> Result<Box<RawValue>, ApiError> {
        self.get(account, path, &[]).await
    }

    /// Requests the page of a list that starts after the item `after`.
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
        let last = list.data.iter().rev().find_map(|item| id(item));
        let next = last.filter(|_| list.has_more).map(|last| last.id);
        if next.is_none() && list.has_more {
            return Err(ApiError::Stuck(format!(
                "Stripe says that {path} has more items, but the page has no IDs"
            )));
        }
        Ok(Page { data: list.data, next })
    }

    /// Reads a whole list page by page.
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
            url.ok_or_else(|| ApiError::Invalid(format!("{path} is not a path of Stripe's API")))?;
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
                tracing::info!(path, tried, "Stripe's API: {failure}; retrying");
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
                return Err(again("Stripe's response was too large"));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            // One invalid byte in one object must not make the whole page unreadable.
            let body = match String::from_utf8_lossy(&body) {
                Cow::Borrowed(_) => body,
                Cow::Owned(text) => text.into_bytes(),
            };
            return serde_json::from_slice(&body)
                .map_err(|_| again("Stripe's response was incomplete or not a list"));
        }
        let text = serde_json::from_slice::<Failure>(&body).unwrap_or_default().error;
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = asked.map(Duration::from_secs);
            return Err(Tried::Again(
                "Stripe responded 429 (too many requests)".to_owned(),
                seconds,
            ));
        }
        if status.is_server_error() || status == StatusCode::CONFLICT {
            let seconds = asked.map(Duration::from_secs);
            return Err(Tried::Again(format!("Stripe responded {}", status.as_u16()), seconds));
        }
        Err(Tried::Final(self.explain(status, path, &text)))
    }

    /// Explains a response that a retry would not change.
    fn explain(&self, status: StatusCode, path: &str, text: &FailureText) -> ApiError {
        let code = text.code.as_deref().unwrap_or_default();
        let message = text.message.as_deref().unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED => ApiError::Refused(format!(
                "Stripe does not accept {}{}: create a new restricted key under Developers, API keys, and set it",
                self.0.name,
                if code == "api_key_expired" { ", because it has expired" } else { "" }
            )),
            StatusCode::FORBIDDEN => ApiError::Denied(format!(
                "{} may not read {path}: edit it under Developers, API keys, and add {}",
                self.0.name,
                permission(path, message)
            )),
            StatusCode::NOT_FOUND => ApiError::Missing(format!(
                "Stripe has no object at {path}; it may have been deleted"
            )),
            _ if code == "resource_missing" => ApiError::Missing(format!(
                "Stripe has no object at {path}; it may have been deleted"
            )),
            _ => {
                // Stripe masks keys in its messages; remove ours anyway.
                let message = message.replace(self.0.key.expose(), "***");
                ApiError::Invalid(format!(
                    "Stripe responded {} at {path}: {message}",
                    status.as_u16()
                ))
            }
        }
    }
}

fn broken(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "Stripe did not respond in time"
    } else if error.is_connect() {
        "Stripe could not be reached"
    } else {
        "the connection to Stripe was interrupted"
    }
}

/// The permission to select on the key's page. Stripe's message may contain its internal name.
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
        known.map_or("the permission to read it".to_owned(), |(_, name)| format!("“{name}: Read”"));
    format!("{what}{}", inner.take(1).collect::<String>())
}

/// Half a second, doubled for each try, varied by up to a tenth; a longer pause that Stripe asks
/// for wins. At most a minute.
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
            ("/v2/anything", "", "the permission to read it"),
        ];
        for (path, message, expected) in rows {
            assert_eq!(permission(path, message), expected);
        }
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        assert!(pause(1, None) < pause(4, None));
        assert!(pause(40, None) <= MAX_PAUSE);
        assert_eq!(pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(pause(1, Some(Duration::from_secs(7000))), MAX_PAUSE);
    }
}
