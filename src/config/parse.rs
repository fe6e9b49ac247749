//! Parses the texts of settings.
//! Takes a text; returns the value, or nothing if it is invalid. Pure.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::filter::Targets;
use url::Url;

use super::values::{Listen, LogFormat, Secret};

/// Reads one to four signing secrets, comma-separated. Spaces and repeats are ignored.
///
/// # Errors
/// A sentence for users: an API key instead of a secret, or too many. It does not contain the
/// value.
pub fn parse_webhook_secrets(text: &str) -> Result<Vec<Secret>, String> {
    let mut secrets: Vec<Secret> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(kind) = ["sk_", "rk_", "pk_"].into_iter().find(|kind| part.starts_with(kind)) {
            return Err(format!(
                "That was an API key: it started with {kind}. The signing secret starts with whsec_ and is on the \
                 endpoint's own page in Stripe."
            ));
        }
        if !part.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("A signing secret contains no spaces and only ASCII characters.".to_owned());
        }
        if !secrets.iter().any(|known| known.expose() == part) {
            secrets.push(Secret::new(part));
        }
    }
    if secrets.len() > 4 {
        return Err("At most four signing secrets can be in use at a time.".to_owned());
    }
    Ok(secrets)
}

/// Validates an API key for Stripe.
///
/// # Errors
/// What is wrong with it, for a sentence that begins with its name. It does not contain the value.
pub fn parse_api_key(text: &str) -> Result<Secret, &'static str> {
    const STARTS: [&str; 4] = ["rk_live_", "rk_test_", "sk_live_", "sk_test_"];
    if text.starts_with("whsec_") {
        return Err("that is a signing secret; an API key starts with rk_");
    }
    let is_key = STARTS.iter().any(|start| text.starts_with(start))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if is_key {
        Ok(Secret::new(text))
    } else {
        Err("an API key starts with rk_live_ or rk_test_ and has letters, digits and _ only")
    }
}

pub(super) fn parse_listen(text: &str) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Listen::Unix(PathBuf::from(path)));
    }
    let address = text.parse().ok().or_else(|| {
        let port = text.strip_prefix("localhost:")?;
        format!("127.0.0.1:{port}").parse().ok()
    });
    address.map(Listen::Tcp)
}

pub(super) fn parse_public_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim_end_matches('/')).ok()?;
    let fits = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    fits.then_some(url)
}

pub(super) fn parse_dashboard_url(text: &str) -> Option<Url> {
    parse_public_url(text).filter(|url| url.path() == "/")
}

pub(super) fn parse_api_base(text: &str) -> Option<Url> {
    let url = parse_public_url(text)?;
    let is_local = url.host().is_some_and(|host| match host {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    });
    (url.scheme() == "https" || is_local).then_some(url)
}

pub(super) fn parse_schedule(text: &str) -> Option<Vec<Duration>> {
    let pauses: Vec<Duration> =
        text.split(',').map(|part| parse_duration(part.trim())).collect::<Option<_>>()?;
    (pauses.len() <= 50).then_some(pauses)
}

/// Reads one duration from a second to ten minutes.
pub(super) fn parse_stop_timeout(text: &str) -> Option<Duration> {
    let range = Duration::from_secs(1)..=Duration::from_secs(600);
    parse_duration(text.trim()).filter(|timeout| range.contains(timeout))
}

/// Reads `250ms`, `5s`, `30m`, `2h`; `None` for anything else, and for more than 30 days.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let pause = Duration::from_millis(number.checked_mul(ms)?);
    (pause <= Duration::from_secs(30 * 86_400)).then_some(pause)
}

pub(super) fn parse_networks(text: &str) -> Option<Vec<IpNet>> {
    let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let network =
        |part: &str| part.parse().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from));
    networks.map(network).collect()
}

pub(super) fn parse_retention(text: &str) -> Option<Option<u32>> {
    if text == "keep" {
        return Some(None);
    }
    text.parse().ok().filter(|days| (1..=36_500).contains(days)).map(Some)
}

pub(super) fn parse_log(text: &str) -> Option<String> {
    text.parse::<Targets>().ok().map(|_| text.to_owned())
}

pub(super) fn parse_log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}
