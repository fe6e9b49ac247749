//! Fetches the page to check, and its scripts. Takes a URL from the command line; returns the page
//! as served, or an error of one sentence. Guarantees one GET with at most five redirects, limited
//! in time and size. It sends no cookies and runs no scripts.
//!
//! The limits for destinations, such as the refusal of private addresses, do not apply: the person
//! who runs the command may request what their machine can reach.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::header;
use reqwest::redirect::Policy;
use url::Url;

use crate::outbound;

/// Time limit for the page, including redirects.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Maximum size of a page, about twenty times the usual size.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;
const MAX_REDIRECTS: usize = 5;
/// Maximum number of scripts that are read. The tag should be among a page's first scripts.
const MAX_SCRIPTS: usize = 30;
/// Maximum size of a script.
const MAX_SCRIPT_BYTES: usize = 2 * 1024 * 1024;

/// A page as served.
pub(crate) struct Answer {
    /// Its URL after redirects.
    pub(super) url: Url,
    /// The values of its `Content-Security-Policy` headers.
    pub(super) policies: Vec<String>,
    pub(super) html: String,
}

/// Fetches a page. An address without a scheme gets `https://`.
pub(super) async fn page(address: &str) -> Result<Answer> {
    let text =
        if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or_else(|| {
        anyhow!("{address} is not a page’s address, such as https://www.shop.com/offer")
    })?;
    let client = client()?;
    let fault = |error: reqwest::Error| {
        let why = if error.is_timeout() {
            "it did not answer within 20 seconds".to_owned()
        } else if error.is_redirect() {
            "it redirects too many times".to_owned()
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
        bail!("{} returned status {} instead of a page", response.url(), status.as_u16());
    }
    let headers = response.headers().clone();
    let values = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let kind = values(header::CONTENT_TYPE).next().unwrap_or("text/html").to_ascii_lowercase();
    if !kind.contains("html") {
        bail!("{} is not a page but {kind}", response.url());
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
    outbound::for_pages()
        .redirect(Policy::limited(MAX_REDIRECTS))
        .timeout(TIMEOUT)
        .build()
        .context("could not build the HTTP client")
}

/// Fetches a page's scripts until the time limit. Scripts that cannot be read are left out.
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
    // After the time limit, the check continues with the scripts read so far.
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
