//! Host names: which domain a cookie may be set for, and whether two hosts belong to the same site.
//! Takes a host name from a URL or header; returns its registrable domain according to the
//! public-suffix list. Guarantees that a cookie is never set for a domain under which others can
//! register names.

use std::net::IpAddr;

/// Hosts that visitors only pass, to pay or to sign in. As referrers they are no source at all.
pub const PASSED_HOSTS: [&str; 6] = [
    "stripe.com",
    "paypal.com",
    "accounts.google.com",
    "appleid.apple.com",
    "login.microsoftonline.com",
    "login.live.com",
];

/// Mailboxes: a visitor who returns from one comes for a receipt or a link to sign in with, and keeps
/// the click ID.
pub const MAILBOXES: [&str; 3] = ["mail.google.com", "outlook.live.com", "mail.yahoo.com"];

/// Referrers that start no new click.
pub fn no_new_click() -> impl Iterator<Item = &'static str> {
    PASSED_HOSTS.into_iter().chain(MAILBOXES)
}

/// The registrable domain of a host (`go.shop.co.uk` → `shop.co.uk`). `None` for IP addresses, for
/// names without a dot, and for hosts that are a public suffix or have an unknown one.
/// `x.github.io` is a registrable domain of its own.
pub fn registrable_domain(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        return None;
    }
    if let Some(name) = host.strip_suffix(".localhost") {
        // The public-suffix list does not have it, but browsers accept domain cookies below it, and
        // the tests use such names.
        let label = name.rsplit('.').next().filter(|label| !label.is_empty())?;
        return Some(format!("{label}.localhost"));
    }
    let domain = psl::domain(host.as_bytes())?;
    if !domain.suffix().is_known() {
        return None;
    }
    std::str::from_utf8(domain.as_bytes()).ok().map(str::to_owned)
}

/// The `Domain` attribute for a cookie of a page at `host`: its registrable domain. `None` if there
/// is none, or if it lies directly under a suffix that a hosting company shares among its customers
/// (`x.github.io`); the cookie then stays on the host.
pub fn cookie_domain(host: &str) -> Option<String> {
    let domain = registrable_domain(host)?;
    let shared = psl::domain(domain.as_bytes())
        .is_some_and(|d| d.suffix().typ() == Some(psl::Type::Private));
    (!shared).then_some(domain)
}

/// `https://user@Host:8080/path?query` → host and path. The host is in lower case, the path not
/// decoded.
pub(crate) fn split_url(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split(['?', '#']).next()?.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let host = without_port(authority).trim_end_matches('.').to_lowercase();
    (!host.is_empty() && host.len() <= 253).then_some((host, path))
}

/// The host of a URL, in lower case and without port.
pub(crate) fn of_url(url: &str) -> Option<String> {
    split_url(url).map(|(host, _)| host)
}

/// The host part of a `Host` header or authority, without its port.
pub fn without_port(authority: &str) -> &str {
    if let Some(end) = authority.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &authority[..end + 2];
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// True when both hosts have the same registrable domain, or are the same host.
pub fn same_site(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || matches!((registrable_domain(a), registrable_domain(b)), (Some(a), Some(b)) if a == b)
}

/// True if Safari treats two addresses as the same network: equal in the first 16 bits of IPv4 or
/// the first 64 bits of IPv6. Safari deletes cookies set by a server in another network than the
/// page's after 7 days (WebKit's tracking prevention, "CNAME and third-party IP address cloaking").
pub fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a.to_canonical(), b.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..2] == b.octets()[..2],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_set_for_the_registrable_domain() {
        let rows = [
            ("www.shop.com", Some("shop.com")),
            ("shop.com", Some("shop.com")),
            ("a.b.shop.co.uk", Some("shop.co.uk")),
            ("WWW.Shop.Com.", Some("shop.com")),
            ("www.shop.localhost", Some("shop.localhost")),
            ("shop.localhost", Some("shop.localhost")),
            ("localhost", None),
            ("127.0.0.1", None),
            ("[::1]", None),
            ("x.github.io", None),
            ("x.myshopify.com", None),
            ("com", None),
            ("intranet", None),
            ("", None),
        ];
        for (host, domain) in rows {
            assert_eq!(cookie_domain(host).as_deref(), domain, "{host}");
        }
    }

    #[test]
    fn without_port_removes_the_port() {
        for (authority, host) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:8080", "[::1]"), ("[::1]", "[::1]")]
        {
            assert_eq!(without_port(authority), host);
        }
    }

    #[test]
    fn hosts_of_one_domain_are_the_same_site() {
        assert!(same_site("www.shop.com", "go.shop.com"));
        assert!(!same_site("a.github.io", "b.github.io"));
        assert!(!same_site("shop.com", "shop.de"));
        assert!(same_site("127.0.0.1", "127.0.0.1"));
    }

    #[test]
    fn networks_are_compared_as_safari_does() {
        let rows = [
            ("203.0.113.1", "203.0.1.2", true),
            ("203.0.113.1", "203.1.113.1", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("203.0.113.1", "2001:db8::1", false),
            ("::ffff:203.0.113.1", "203.0.1.2", true),
        ];
        for (a, b, expected) in rows {
            assert_eq!(same_network(a.parse().unwrap(), b.parse().unwrap()), expected, "{a} {b}");
        }
    }
}
