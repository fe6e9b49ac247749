//! Finds the address of a client, and the URL by which it reached this server.
//! Takes the connection's peer, the request's headers and the trusted proxies; returns the client's
//! address and the public base URL.
//! Guarantees that a forwarded header is used only if the peer is a trusted proxy, and that its
//! left-most entry alone is never trusted.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::FromRequestParts;
use axum::http::header::{self, AsHeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::config::Config;
use crate::hosts;
use crate::limit::network::is_private;
use crate::state::AppState;

/// Maximum length of a `User-Agent`.
const MAX_USER_AGENT_BYTES: usize = 512;

/// The other end of the connection, which `app` adds to each request's extensions. `None` on a Unix
/// socket, whose other end is a proxy on this machine and therefore trusted.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub Option<IpAddr>);

/// The request came below the path of the public URL, which was cut off. `server` adds it to the
/// request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BelowPrefix;

/// A client.
#[derive(Clone, Debug)]
pub struct Client {
    /// The client's address according to trusted proxies; never stored in plain text.
    pub address: IpAddr,
    /// The public base URL: `https://go.example.com` or `https://www.example.com/k`, without a
    /// trailing slash.
    pub base: String,
    /// The base URL of the dashboard's pages: the same, unless they have an origin of their own.
    pub pages: String,
    /// True when the browser uses https for the tag and redirect links.
    pub is_https: bool,
    /// The first 512 bytes of `User-Agent` with invalid ones replaced; empty if absent.
    pub user_agent: String,
    /// A nearby proxy that is not listed as trusted: all its clients seem to have the same address.
    pub unlisted_proxy: Option<IpAddr>,
}

/// Ensures that the warning is logged once, not for every request.
static UNLISTED_PROXY_TOLD: AtomicBool = AtomicBool::new(false);

/// Returns the peer if it forwards requests from a private address and is not listed as a trusted
/// proxy.
fn unlisted_proxy(config: &Config, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
    let address = peer.0.filter(|address| is_private(*address))?;
    if is_trusted(config, address) || forwarded(headers, "x-forwarded-for").next().is_none() {
        return None;
    }
    if !UNLISTED_PROXY_TOLD.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            proxy = %address,
            "a proxy forwards requests and is not in CLICKSTAMP_TRUSTED_PROXIES: all its visitors count as one address"
        );
    }
    Some(address)
}

impl Client {
    /// The path of the dashboard's base URL: `/k`, or empty.
    pub fn prefix(&self) -> String {
        let path = url::Url::parse(&self.pages).map(|url| url.path().to_owned());
        path.unwrap_or_default().trim_end_matches('/').to_owned()
    }

    /// The host of the public base URL.
    pub fn own_host(&self) -> String {
        hosts::of_url(&self.base).unwrap_or_default()
    }

    /// True for a URL of this server, as this client reaches it.
    pub fn is_ours(&self, url: &str) -> bool {
        let place = |text: &str| {
            let url = url::Url::parse(text).ok()?;
            Some((url.host_str()?.to_owned(), url.port_or_known_default()))
        };
        let places = [place(&self.base), place(&self.pages)];
        place(url).is_some_and(|there| places.contains(&Some(there)))
    }

    /// Reads a request's head.
    pub fn read(config: &Config, peer: Option<Peer>, headers: &HeaderMap) -> Self {
        let peer = canonical(peer);
        let mut address = peer.0.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if is_proxy(config, peer) {
            // From the right: each entry was added by the trusted proxy after it; the first address
            // that is not a trusted proxy is the client.
            for hop in forwarded(headers, "x-forwarded-for").rev() {
                let Some(hop) = read_address(hop) else { break };
                address = hop;
                if !is_trusted(config, hop) {
                    break;
                }
            }
        }
        let mut base = String::new();
        push_public_base(&mut base, config, peer, headers);
        let user_agent = headers.get(header::USER_AGENT).map(read_user_agent);
        Self {
            address,
            is_https: base.starts_with("https://"),
            pages: config.pages_url().unwrap_or_else(|| base.clone()),
            base,
            user_agent: user_agent.unwrap_or_default(),
            unlisted_proxy: unlisted_proxy(config, peer, headers),
        }
    }
}

/// The first bytes as text. Browsers send about 150.
fn read_user_agent(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    let mut text =
        String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_USER_AGENT_BYTES)]).into_owned();
    text.truncate(text.floor_char_boundary(MAX_USER_AGENT_BYTES));
    text
}

/// Returns [`Client::base`] alone, for callers that need nothing else.
pub(crate) fn base_of(config: &Config, peer: Option<Peer>, headers: &HeaderMap) -> String {
    let mut base = String::new();
    push_base(&mut base, config, peer, headers);
    base
}

/// Appends the public base URL to a text.
pub(crate) fn push_base(
    text: &mut String,
    config: &Config,
    peer: Option<Peer>,
    headers: &HeaderMap,
) {
    push_public_base(text, config, canonical(peer), headers);
}

/// Converts `::ffff:…`, as sockets for both IP versions write IPv4 addresses, because no IPv4
/// network contains that form.
fn canonical(peer: Option<Peer>) -> Peer {
    let peer = peer.unwrap_or(Peer(Some(IpAddr::V4(Ipv4Addr::LOCALHOST))));
    Peer(peer.0.map(|address| address.to_canonical()))
}

/// True for a proxy whose forwarded headers are trusted.
pub(crate) fn is_trusted(config: &Config, address: IpAddr) -> bool {
    config.trusted_proxies.iter().any(|network| network.contains(&address))
}

fn is_proxy(config: &Config, Peer(address): Peer) -> bool {
    address.is_none_or(|address| is_trusted(config, address))
}

/// Parses an entry of `X-Forwarded-For`: some proxies add the port, some put IPv6 in brackets.
fn read_address(entry: &str) -> Option<IpAddr> {
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let address = entry.parse().ok().or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

fn push_public_base(text: &mut String, config: &Config, peer: Peer, headers: &HeaderMap) {
    if let Some(url) = &config.public_url {
        return text.push_str(url.as_str().trim_end_matches('/'));
    }
    let proto = is_proxy(config, peer).then(|| forwarded(headers, "x-forwarded-proto").next());
    let is_https = proto.flatten() == Some("https");
    text.push_str(if is_https { "https://" } else { "http://" });
    text.push_str(host(config, peer, headers));
}

/// The host and port to which the browser sent the request.
pub(crate) fn host_of<'a>(config: &Config, peer: Option<Peer>, headers: &'a HeaderMap) -> &'a str {
    host(config, canonical(peer), headers)
}

fn host<'a>(config: &Config, peer: Peer, headers: &'a HeaderMap) -> &'a str {
    let forwarded = is_proxy(config, peer).then(|| forwarded(headers, "x-forwarded-host").next());
    let host = forwarded.flatten().or_else(|| self::text(headers, header::HOST));
    let fits = |host: &&str| {
        !host.is_empty()
            && host.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_')
            })
    };
    host.filter(fits).unwrap_or("localhost")
}

/// The comma-separated entries of all headers with this name, trimmed, in order.
fn forwarded<'a>(
    headers: &'a HeaderMap,
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'a str> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|entry| !entry.is_empty())
}

/// A header as text; `None` if it is absent or no text.
pub(crate) fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The values of all cookies with this name.
pub(crate) fn cookies<'a>(
    headers: &'a HeaderMap,
    name: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = texts.flat_map(cookie::Cookie::split_parse).filter_map(Result::ok);
    cookies.filter(move |cookie| cookie.name() == name).map(|cookie| cookie.value().to_owned())
}

impl FromRequestParts<AppState> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        Ok(Self::read(&state.config, parts.extensions.get::<Peer>().copied(), &parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(
        settings: &[(&str, &str)],
        peer: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Client {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let peer = Peer(peer.map(|text| text.parse().unwrap()));
        Client::read(&Config::with(settings).unwrap(), Some(peer), &map)
    }

    #[test]
    fn the_prefix_is_the_path_of_the_public_url() {
        let rows = [
            ("https://www.shop.com/k", "/k"),
            ("https://www.shop.com/a/b/", "/a/b"),
            ("http://localhost:8080", ""),
        ];
        for (url, prefix) in rows {
            assert_eq!(client(&[("CLICKSTAMP_PUBLIC_URL", url)], None, &[]).prefix(), prefix);
        }
    }

    #[test]
    fn forwarded_addresses_count_only_from_trusted_proxies() {
        let proxies = [("CLICKSTAMP_TRUSTED_PROXIES", "10.0.0.0/8,127.0.0.1/32")];
        let rows = [
            ("no proxy", Some("203.0.113.9"), "198.51.100.1", "203.0.113.9"),
            ("one proxy", Some("10.1.1.1"), "198.51.100.1", "198.51.100.1"),
            (
                "a chain with a forged first entry",
                Some("10.1.1.1"),
                "1.1.1.1, 198.51.100.1, 10.2.2.2",
                "198.51.100.1",
            ),
            ("junk stops the walk", Some("10.1.1.1"), "198.51.100.1, junk", "10.1.1.1"),
            ("a unix socket is a proxy", None, "198.51.100.1", "198.51.100.1"),
        ];
        for (name, peer, header, expected) in rows {
            let found = client(&proxies, peer, &[("x-forwarded-for", header)]);
            assert_eq!(found.address.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn the_base_url_is_the_configured_one_or_the_requests() {
        let headers = [("host", "go.shop.com:8080"), ("x-forwarded-proto", "https")];
        assert_eq!(client(&[], Some("203.0.113.9"), &headers).base, "http://go.shop.com:8080");
        assert_eq!(client(&[], None, &headers).base, "https://go.shop.com:8080");
        let fixed = [("CLICKSTAMP_PUBLIC_URL", "https://www.shop.com/k/")];
        let found = client(&fixed, Some("203.0.113.9"), &headers);
        assert_eq!((found.base.as_str(), found.is_https), ("https://www.shop.com/k", true));
        assert_eq!(client(&[], None, &[("host", "evil\"><script>")]).base, "http://localhost");
    }

    #[test]
    fn addresses_are_read_in_every_form_that_sockets_and_proxies_write() {
        let proxies = [("CLICKSTAMP_TRUSTED_PROXIES", "10.0.0.0/8")];
        let rows = [
            ("a dual socket", "::ffff:10.1.1.1", "198.51.100.1", "198.51.100.1"),
            ("with a port", "10.1.1.1", "198.51.100.1:4711", "198.51.100.1"),
            ("IPv6 with a port", "10.1.1.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("IPv6 in brackets", "10.1.1.1", "[2001:db8::1]", "2001:db8::1"),
            ("mapped", "10.1.1.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ];
        for (name, peer, header, expected) in rows {
            let found = client(&proxies, Some(peer), &[("x-forwarded-for", header)]);
            assert_eq!(found.address.to_string(), expected, "{name}");
        }
    }

    #[test]
    fn a_user_agent_is_cut_where_it_is_read() {
        let read = |sent: &[u8]| {
            let mut map = HeaderMap::new();
            map.insert(header::USER_AGENT, HeaderValue::from_bytes(sent).unwrap());
            Client::read(&Config::with(&[]).unwrap(), None, &map).user_agent
        };
        assert_eq!(read(b"Mozilla/5.0"), "Mozilla/5.0");
        assert_eq!(read(&[b'x'; 30_000]).len(), 512);
        // Invalid bytes become three bytes each, and no character is cut in two.
        assert_eq!(read(&[0xff; 30_000]), "\u{fffd}".repeat(170));
        assert_eq!(read("ä".repeat(400).as_bytes()), "ä".repeat(256));
    }

    #[test]
    fn a_proxy_that_nobody_listed_is_noticed() {
        let header = [("x-forwarded-for", "198.51.100.1")];
        let listed = [("CLICKSTAMP_TRUSTED_PROXIES", "10.0.0.0/8")];
        let noticed = |settings: &[(&str, &str)], peer, headers: &[(&'static str, &str)]| {
            client(settings, peer, headers).unlisted_proxy.is_some()
        };
        assert!(
            noticed(&[], Some("10.1.1.1"), &header) && noticed(&[], Some("127.0.0.1"), &header)
        );
        assert!(!noticed(&listed, Some("10.1.1.1"), &header));
        assert!(!noticed(&[], Some("10.1.1.1"), &[]), "no forwarded header");
        assert!(!noticed(&[], Some("203.0.113.9"), &header), "the header may be forged");
        assert!(!noticed(&[], None, &header), "a Unix socket is trusted");
    }
}
