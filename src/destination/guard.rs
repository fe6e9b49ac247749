//! Refuses connections to private addresses.
//! Takes a URL, or the addresses that a name resolved to; returns whether they are allowed, or an
//! error text.
//! Guarantees that the address that was checked is the one that is connected to, and that cloud
//! metadata, loopback and private networks can't be reached.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::{fmt, io};

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Checks a destination's URL: https, a host, no user or password, no private address. Called when
/// it is saved and before every attempt.
///
/// # Errors
/// Returns a sentence for users that does not repeat the URL.
pub fn check_url(url: &str, allow_private: bool) -> Result<Url, String> {
    let url = Url::parse(url)
        .map_err(|_| "Enter a complete URL that starts with https://.".to_owned())?;
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => {
            return Err(
                "The URL starts with http://. Use https:// to keep your buyers' data private."
                    .to_owned(),
            );
        }
        _ => return Err("The URL must start with https://.".to_owned()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "The URL contains a user name or password. Remove it, because it could appear in logs."
                .to_owned(),
        );
    }
    // A literal address is never resolved, so it is checked here, in any notation.
    let literal = match url.host() {
        None => return Err("The URL has no host.".to_owned()),
        Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
        Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
        Some(Host::Domain(_)) => None,
    };
    match literal {
        Some(address) if !allow_private && !is_public(address) => Err(refusal(address)),
        _ => Ok(url),
    }
}

fn refusal(address: IpAddr) -> String {
    format!(
        "{address} is a private or local address. Set CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS=true to deliver inside your own network."
    )
}

/// Resolves a host name to addresses.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// The operating system's resolver.
pub(super) fn system_lookup() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Returns the address of a host to connect to, for protocols whose client can't use a resolver.
///
/// # Errors
/// Returns a sentence for users, and whether to retry.
pub(super) async fn find_address(
    host: &str,
    allow_private: bool,
    lookup: &Lookup,
) -> Result<IpAddr, (bool, String)> {
    let found = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(literal) => vec![literal],
        Err(_) => lookup(host.to_owned())
            .await
            .map_err(|_| (true, "its name was not found: is the host spelled right?".to_owned()))?,
    };
    match found.iter().find(|address| allow_private || is_public(**address)) {
        Some(address) => Ok(*address),
        None => Err(match found.first() {
            Some(address) => (false, refusal(*address)),
            None => (true, "its name has no address".to_owned()),
        }),
    }
}

/// A resolver that drops every address that is not public, so the connector only gets the others.
/// There is no second lookup between the check and the connection, so a name that changes its
/// address (DNS rebinding) gains nothing.
pub(super) struct GuardedResolver {
    pub(super) allow_private: bool,
    pub(super) lookup: Lookup,
}

/// A name resolved to private addresses only.
#[derive(Debug)]
pub(super) struct BlockedAddress(IpAddr);

impl fmt::Display for BlockedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&refusal(self.0))
    }
}

impl Error for BlockedAddress {}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow_private, found) = (self.allow_private, (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let (public, private): (Vec<_>, Vec<_>) =
                found.await?.into_iter().partition(|address| allow_private || is_public(*address));
            match private.first() {
                Some(address) if public.is_empty() => {
                    Err(Box::new(BlockedAddress(*address)) as Box<dyn Error + Send + Sync>)
                }
                // The connector sets the URL's port.
                _ => Ok(Box::new(public.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs),
            }
        })
    }
}

/// True for addresses of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| is_public_v6(v6), is_public_v4),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 198 && (b == 18 || b == 19)); // benchmarks
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    // Only 2000::/3 is global unicast; documentation, benchmarks and Teredo lie inside it.
    (a & 0xe000) == 0x2000 && !(a == 0x2001 && (b == 0xdb8 || b < 0x200)) && a != 0x3fff
}

/// The IPv4 address inside a mapped, NAT64 or 6to4 address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([w, x], [y, z]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(w, x, y, z)
    };
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0, 0, 0, 0, 0, 0) if (g, h) != (0, 0) && (g, h) != (0, 1) => Some(v4(g, h)),
        (0x2002, ..) => Some(v4(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_special_addresses_are_refused() {
        let refused = [
            "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
            "100.64.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.51.100.1",
            "203.0.113.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fd00:ec2::254",
            "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::",
            "::127.0.0.1",
        ];
        for text in refused {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:1.1.1.1",
            "2002:101:101::",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn urls_are_checked_in_every_notation() {
        let refused = [
            "http://example.com/x",
            "ftp://example.com/",
            "not a url",
            "https://",
            "https://user:pw@example.com/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://0.0.0.0/",
            "https://169.254.169.254/latest",
        ];
        for text in refused {
            assert!(check_url(text, false).is_err(), "{text}");
        }
        assert!(check_url("https://t1.anytrack.io/a/collect/b?c=d", false).is_ok());
        assert!(check_url("http://127.0.0.1:9/x", true).is_ok());
        assert!(check_url("http://user:pw@127.0.0.1:9/x", true).is_err());
    }
}
