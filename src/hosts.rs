//! Host names: which domain a cookie may be set for, and whether two hosts belong together.
//! In: a host name as it stands in a URL or header. Out: its registrable domain by the public-suffix list.
//! Promise: a cookie never reaches a domain that somebody else can register under.

use std::net::IpAddr;

/// Payment pages that a buyer comes back from: no new source.
pub const PAYMENT_HOSTS: [&str; 2] = ["stripe.com", "paypal.com"];

/// The registrable domain of a host (`go.shop.co.uk` → `shop.co.uk`), or `None` where a cookie must stay on the host itself:
/// IP addresses, names without a dot, and hosts that are a public suffix or unknown to any (`x.github.io` is its own domain).
pub fn registrable_domain(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if host.parse::<IpAddr>().is_ok() || host.starts_with('[') {
        return None;
    }
    if let Some(name) = host.strip_suffix(".localhost") {
        // Not in the public-suffix list; browsers accept domain cookies below it, and tests live there.
        let label = name.rsplit('.').next().filter(|label| !label.is_empty())?;
        return Some(format!("{label}.localhost"));
    }
    let domain = psl::domain(host.as_bytes())?;
    if !domain.suffix().is_known() {
        return None;
    }
    std::str::from_utf8(domain.as_bytes()).ok().map(str::to_owned)
}

/// The domain attribute for a cookie set on a page at `host`: the registrable domain when the host lies below it or is it,
/// and nothing for a host directly under a public suffix that others share (`x.github.io`).
pub fn cookie_domain(host: &str) -> Option<String> {
    let domain = registrable_domain(host)?;
    let shared = psl::domain(domain.as_bytes())
        .is_some_and(|d| d.suffix().typ() == Some(psl::Type::Private));
    (!shared).then_some(domain)
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

/// True when two addresses belong together as Safari sees it: the same 16 leading bits of IPv4, 64 of IPv6. Cookies that a server
/// elsewhere sets for a page live 7 days there (WebKit's tracking prevention, "CNAME and third-party IP address cloaking").
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
    fn cookies_get_the_registrable_domain_and_never_more() {
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
    fn ports_are_cut() {
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
