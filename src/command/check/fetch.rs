//! Fetching the page.
//! In: an address from the owner's own command line. Out: the page as served, or one sentence.
//! Promise: one GET, five redirects at most, bounded in time and size; no cookie, no script is run. Scripts are only read, when asked for.
//!
//! The rules for destinations do not hold here: whoever types the command may reach what his machine reaches.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::header;
use reqwest::redirect::Policy;
use url::Url;

use super::Answer;

/// For the whole page, redirects included.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Most of a page that is read; a page twenty times the usual size fits.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
const MAX_REDIRECTS: usize = 5;
/// Scripts of a page that are read; the tag should stand among its first.
const MAX_SCRIPTS: usize = 30;
/// Most of a script that is read.
const MAX_SCRIPT_BYTES: usize = 2 * 1024 * 1024;

/// Reads a page. Without a scheme, https is meant.
pub(super) async fn page(address: &str) -> Result<Answer> {
    let text =
        if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| {
        anyhow!("{address} is no address of a page: it looks like https://www.shop.com/offer")
    })?;
    let client = client()?;
    let fault = |error: reqwest::Error| {
        let why = if error.is_timeout() {
            "it did not answer within 20 seconds".to_owned()
        } else if error.is_redirect() {
            "it redirects again and again".to_owned()
        } else {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            cause.to_string()
        };
        anyhow!("could not read {text}: {why}")
    };
    let mut response =
        client.get(url).header(header::ACCEPT, "text/html").send().await.map_err(fault)?;
    let status = response.status();
    if !status.is_success() {
        bail!("{} answers {}, which is no page", response.url(), status.as_u16());
    }
    let headers = response.headers().clone();
    let values = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let kind = values(header::CONTENT_TYPE).next().unwrap_or("text/html").to_ascii_lowercase();
    if !kind.contains("html") {
        bail!("{} is no page but {kind}", response.url());
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(fault)? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_PAGE_BYTES {
            bail!("{} is longer than 4 MiB", response.url());
        }
    }
    Ok(Answer {
        url: response.url().clone(),
        policies: values(header::CONTENT_SECURITY_POLICY).map(str::to_owned).collect(),
        html: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn client() -> Result<reqwest::Client> {
    // An error means that somebody installed it before us, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("Clickstamp/", env!("CARGO_PKG_VERSION"), " (check)"))
        .redirect(Policy::limited(MAX_REDIRECTS))
        .timeout(TIMEOUT)
        .build()
        .context("could not build the HTTP client")
}

/// Reads a page's scripts, as many as come within the time; one that cannot be read is left out.
pub(super) async fn scripts(addresses: &[Url]) -> Result<Vec<(Url, String)>> {
    let client = client()?;
    let mut found = Vec::new();
    let all = async {
        for address in addresses.iter().take(MAX_SCRIPTS) {
            if let Some(text) = script(&client, address).await {
                found.push((address.clone(), text));
            }
        }
    };
    // What has come by then is enough to go on with.
    let _ = tokio::time::timeout(TIMEOUT, all).await;
    Ok(found)
}

async fn script(client: &reqwest::Client, address: &Url) -> Option<String> {
    let mut response = client.get(address.clone()).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_SCRIPT_BYTES {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&body).into_owned())
}
