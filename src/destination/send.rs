//! One attempt over the wire.
//! In: a URL and frozen bytes. Out: an `Answer`, whatever happens.
//! Promise: bounded in time and memory; no redirects, no proxies, no retries of its own; the URL never stands in an error text.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header;
use reqwest::redirect::Policy;

use super::guard::{self, BlockedAddress, GuardedResolver};
use crate::settings::Destination;

/// Until the connection stands, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the whole attempt. The lease of a claim is three times as long.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Most of an answer that is read; the connection is closed after it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most of an answer that is kept with the attempt.
const KEPT_ANSWER_BYTES: usize = 4 * 1024;

/// What came of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// An HTTP answer; its body cut to what is kept.
    Http { status: u16, body: String, location: Option<String>, retry_after: Option<String> },
    /// No answer: a sentence about the connection, the certificate or the time.
    Nothing(String),
    /// We did not send: a sentence about the address.
    Blocked(String),
}

/// What is sent in one attempt.
pub(crate) struct Parcel<'a> {
    pub(crate) content_type: &'a str,
    /// The frozen bytes.
    pub(crate) body: &'a str,
}

/// Sends messages. One per process, so that connections are kept.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: reqwest::Client,
    allow_private: bool,
}

impl Sender {
    /// Builds the one client.
    pub(crate) fn new(allow_private: bool) -> Result<Self> {
        // An error means that somebody installed it before us, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("Clickstamp/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .https_only(!allow_private)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ATTEMPT_TIMEOUT)
            .dns_resolver(Arc::new(GuardedResolver { allow_private }))
            .build()
            .context("could not build the HTTP client")?;
        Ok(Self { client, allow_private })
    }

    /// Sends frozen bytes.
    pub(crate) async fn send(&self, destination: &Destination, parcel: Parcel<'_>) -> Answer {
        let url = match guard::check_url(destination.url.expose(), self.allow_private) {
            Ok(url) => url,
            Err(why) => return Answer::Blocked(why),
        };
        let request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, parcel.content_type)
            .body(parcel.body.to_owned());
        match request.send().await {
            Ok(response) => read(response).await,
            Err(error) => explain(&error.without_url()),
        }
    }
}

/// A body that breaks off changes nothing: the status has been said.
async fn read(mut response: reqwest::Response) -> Answer {
    let text = |name| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (location, retry_after) = (text(header::LOCATION), text(header::RETRY_AFTER));
    let status = response.status().as_u16();
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Ok(Some(chunk)) = response.chunk().await {
        seen += chunk.len();
        let room = KEPT_ANSWER_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if seen >= MAX_ANSWER_BYTES {
            break;
        }
    }
    let body = String::from_utf8_lossy(&kept).replace('\0', "\u{fffd}");
    Answer::Http { status, body, location, retry_after }
}

fn explain(error: &reqwest::Error) -> Answer {
    let mut source = error.source();
    let mut deepest = None;
    while let Some(cause) = source {
        if let Some(blocked) = cause.downcast_ref::<BlockedAddress>() {
            return Answer::Blocked(blocked.to_string());
        }
        deepest = Some(cause.to_string());
        source = cause.source();
    }
    let what = if error.is_timeout() {
        "no answer within 20 seconds"
    } else if error.is_connect() {
        "could not connect"
    } else {
        "the connection broke"
    };
    Answer::Nothing(deepest.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}")))
}
