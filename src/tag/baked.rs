//! The config that the server puts into the script. Takes a site, the server's base URL and the
//! page's address; returns the config's JSON without its last two values, the click ID and its
//! time. Guarantees that only the page's host, checked, comes from the request, and that no value
//! can end the script element. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use crate::hosts;
use crate::settings::{Consent, STRIPE_LINK_HOSTS, Site, Snapshot};

/// The script's argument, without the click ID (`i`) and its mint time in seconds (`t`), which come
/// last. Keys are short and defaults are left out, because every page view downloads it.
#[derive(Serialize)]
struct Baked<'a> {
    /// `null`: what a page adds to the prototype of all objects is no setting.
    #[serde(rename = "__proto__")]
    prototype: (),
    /// The site's key.
    s: &'a str,
    /// URL to which the tag posts the visit.
    e: String,
    /// Attributes of the tag's cookies: `;domain=shop.com;secure`, one of the two, or empty.
    k: String,
    /// Pattern of referrers that do not count as a new source.
    o: String,
    /// Pattern of payment links on Stripe's hosts and the site's own; absent if the site has none
    /// of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<String>,
    /// Pattern of pages on linked domains.
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    /// 1: the tag adds a reference to payment links that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<u8>,
    /// 1: the tag stores, stamps and sends nothing before the visitor consents.
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<u8>,
    /// 1: the placeholder stays until a link is used. AnyTrack's own tag may replace it first, and a
    /// saved copy of the page contains nobody's click ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<u8>,
}

/// Builds the config without the click ID and its time. `endpoint` is the path of the visit's POST,
/// `linked` the pattern from [`linked_pages`].
pub(super) fn bake(
    site: &Site,
    base: &str,
    page: Option<&PageAddress>,
    (endpoint, linked): (&str, Option<String>),
    (must_ask, stamps_on_use): (bool, bool),
) -> Result<Arc<str>> {
    // The visits that arrive with `asks` were sent after the visitor consented.
    let asks = match (must_ask, endpoint.contains('?')) {
        (true, true) => "&asks",
        (true, false) => "?asks",
        (false, _) => "",
    };
    let baked = Baked {
        prototype: (),
        s: &site.key,
        e: format!("{}{endpoint}{asks}", base_for(base, page)),
        k: cookie_attributes(site, page, base.starts_with("https://")),
        o: own_referrers(site, page),
        h: payment_links(site),
        d: linked,
        u: site.tag.auto_stamp.then_some(1),
        m: must_ask.then_some(1),
        y: stamps_on_use.then_some(1),
    };
    let json = escape(&serde_json::to_string(&baked)?);
    Ok(format!("{})", json.trim_start_matches('{')).into())
}

/// True for `?nc=1` in the script's URL: the tag waits for consent on this page, even if the site's
/// settings do not ask for it.
pub(super) fn is_without_consent(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "nc=1"))
}

/// True if the pages of a site keep the placeholder until a link is used.
pub(super) fn stamps_on_use(site: &Site) -> bool {
    site.tag.yield_to_anytrack || site.tag.consent == Consent::Cookieless
}

/// Scheme and authority of a URL, copied as they are.
pub(super) fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '\\', '?', '#']).map_or(url.len(), |end| authority + end);
    &url[..end]
}

/// Host and scheme of the page that loads the tag.
pub(super) struct PageAddress {
    pub(super) host: String,
    pub(super) is_https: bool,
}

impl PageAddress {
    pub(super) fn read(url: &str) -> Option<Self> {
        let url = url::Url::parse(url).ok()?;
        Some(Self { host: url.host_str()?.to_ascii_lowercase(), is_https: url.scheme() == "https" })
    }
}

/// The server's base URL, with `https` if the page uses it. Browsers load scripts on an https page
/// only over https, so a base URL with `http` means that the proxy did not forward the scheme, and
/// a post to it would be blocked. Loopback hosts keep `http`, because browsers allow it for them.
fn base_for(base: &str, page: Option<&PageAddress>) -> String {
    let Some(authority) = base.strip_prefix("http://").filter(|_| page.is_some_and(|p| p.is_https))
    else {
        return base.to_owned();
    };
    let host = hosts::without_port(authority.split('/').next().unwrap_or_default());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here { base.to_owned() } else { format!("https://{authority}") }
}

/// Attributes of the cookies that the tag sets. The server computes the domain with the
/// public-suffix list, because trying domains in the browser would fill Firefox's console with
/// warnings.
fn cookie_attributes(site: &Site, page: Option<&PageAddress>, is_https: bool) -> String {
    let host =
        page.map(|page| page.host.as_str()).or_else(|| site.domains.first().map(String::as_str));
    let mut attributes = String::new();
    if let Some(domain) = host.and_then(hosts::cookie_domain) {
        attributes.push_str(";domain=");
        attributes.push_str(&domain);
    }
    if page.map_or(is_https, |page| page.is_https) {
        attributes.push_str(";secure");
    }
    attributes
}

/// A pattern that matches referrers on the site's own hosts, on linked domains and on pages that
/// visitors only pass.
fn own_referrers(site: &Site, page: Option<&PageAddress>) -> String {
    let page_domain = page.and_then(|page| hosts::registrable_domain(&page.host));
    let own = site.domains.iter().chain(&site.tag.linked_domains).chain(&site.tag.payment_hosts);
    let own = own.cloned().chain(page_domain).chain(hosts::no_new_click().map(str::to_owned));
    format!("^https?://([^/]+\\.)?({})[:/]", one_of(own))
}

/// A pattern that matches payment links; `None` if the site has no payment hosts beside Stripe's.
/// It matches the whole authority, so that `https://buy.stripe.com@evil.example/` does not pass.
fn payment_links(site: &Site) -> Option<String> {
    let own = &site.tag.payment_hosts;
    let all = own.iter().cloned().chain(STRIPE_LINK_HOSTS.map(str::to_owned));
    (!own.is_empty()).then(|| format!("^https?://({})(:\\d+)?/", one_of(all)))
}

/// A pattern that matches pages on the site's other domains and their subdomains, and redirect
/// links if the server is on another site than the page. It leaves out the page's own domain, which
/// shares the cookie. `None` if no other domain is left, or if the page's address is unknown: its
/// own domain could then not be left out.
pub(super) fn linked_pages(
    settings: &Snapshot,
    site: &Site,
    base: &str,
    page: Option<&PageAddress>,
) -> Option<String> {
    let page = page?;
    let linked = &site.tag.linked_domains;
    let owned = site.domains.iter().filter(|_| !linked.is_empty());
    let others = owned.chain(linked).filter(|domain| !hosts::same_site(domain, &page.host));
    let others = one_of(others.cloned());
    let others = (!others.is_empty()).then(|| format!("([^/]+\\.)?({others})(:\\d+)?/"));
    let has_links = settings.links.iter().any(|link| link.site_id == site.id);
    let redirects = has_links.then(|| redirect_links(base, page)).flatten();
    match (others, redirects) {
        (Some(others), Some(redirects)) => Some(format!("^https?://({others}|{redirects})")),
        (others, redirects) => Some(format!("^https?://{}", others.or(redirects)?)),
    }
}

/// A pattern, without the scheme, that matches the server's redirect links; `None` if the server
/// shares cookies with the page.
fn redirect_links(base: &str, page: &PageAddress) -> Option<String> {
    let (_, address) = base.split_once("://")?;
    let host = hosts::without_port(address.split('/').next().unwrap_or_default());
    let is_plain = address.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b));
    (is_plain && !hosts::same_site(host, &page.host))
        .then(|| format!("{}/p/", address.replace('.', "\\.")))
}

/// Joins hosts to the alternatives of a pattern. Leaves out what is not a host name, so nothing
/// needs escaping but the dots.
fn one_of(hosts: impl Iterator<Item = String>) -> String {
    let mut hosts: Vec<String> = hosts.filter(|host| is_host_name(host)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts.join("|").replace('.', "\\.")
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}

/// Escapes JSON so that it is safe inside a script, also an inline one.
fn escape(json: &str) -> String {
    if !json.contains(['<', '>', '\u{2028}', '\u{2029}']) {
        return json.to_owned();
    }
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Link;

    fn site(domains: &[&str]) -> Site {
        let domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
        Site { domains, ..Site::example() }
    }

    #[test]
    fn cookie_attributes_follow_the_page() {
        let rows = [
            (&[][..], Some("https://www.shop.com/offer?x=1"), false, ";domain=shop.com;secure"),
            (&[], Some("http://www.shop.localhost:3000/"), false, ";domain=shop.localhost"),
            (&[], Some("https://x.github.io/"), false, ";secure"),
            (&["shop.de"], None, true, ";domain=shop.de;secure"),
            (&[], None, false, ""),
        ];
        for (domains, referer, is_https, expected) in rows {
            let page = referer.and_then(PageAddress::read);
            assert_eq!(
                cookie_attributes(&site(domains), page.as_ref(), is_https),
                expected,
                "{referer:?}"
            );
        }
    }

    #[test]
    fn own_and_payment_hosts_do_not_count_as_a_new_source() {
        let page = PageAddress::read("https://www.shop.com/");
        assert_eq!(
            own_referrers(&site(&["shop.de", "e\"vil"]), page.as_ref()),
            concat!(
                r"^https?://([^/]+\.)?(accounts\.google\.com|appleid\.apple\.com|login\.live\.com|",
                r"login\.microsoftonline\.com|mail\.google\.com|mail\.yahoo\.com|outlook\.live\.com|",
                r"paypal\.com|shop\.com|shop\.de|stripe\.com)[:/]"
            )
        );
    }

    #[test]
    fn patterns_match_the_sites_hosts_and_skip_invalid_ones() {
        let mut site = site(&[]);
        let page = PageAddress::read("https://www.shop.com/");
        let settings = Snapshot::default();
        let linked_pages = |site: &Site, page: Option<&PageAddress>| {
            linked_pages(&settings, site, "https://go.shop.com", page)
        };
        assert_eq!((payment_links(&site), linked_pages(&site, page.as_ref())), (None, None));
        site.tag.payment_hosts = vec!["pay.shop.com".to_owned(), "e|vil".to_owned()];
        site.tag.linked_domains = vec!["shop.fr".to_owned()];
        assert_eq!(
            payment_links(&site).as_deref(),
            Some(
                r"^https?://(book\.stripe\.com|buy\.stripe\.com|donate\.stripe\.com|pay\.shop\.com)(:\d+)?/"
            )
        );
        let linked = |page: &str| linked_pages(&site, PageAddress::read(page).as_ref());
        let french = r"^https?://([^/]+\.)?(shop\.fr)(:\d+)?/";
        assert_eq!(linked("https://www.shop.com/").as_deref(), Some(french));
        assert_eq!(linked("https://shop.fr/"), None, "the page's own domain is not linked");
        assert_eq!(linked("no page"), None);
        let own = own_referrers(&site, None);
        assert!(own.contains(r"|pay\.shop\.com|") && own.contains(r"|shop\.fr|"));
    }

    #[test]
    fn redirect_links_are_linked_pages_if_the_server_is_on_another_site() {
        let mut site = site(&["shop.com"]);
        let link = |site: &Site| Link {
            id: "lnk_1".to_owned(),
            alias: "spring".to_owned(),
            site_id: site.id.clone(),
            name: String::new(),
            target: "https://buy.stripe.com/a".to_owned(),
            is_paused: false,
        };
        let settings = Snapshot { links: vec![link(&site)], ..Snapshot::default() };
        let page = PageAddress::read("https://www.shop.com/");
        let rows = [
            ("https://go.shop.com", None),
            ("https://www.shop.com/k", None),
            ("http://clicks.vendor.net:8080/k", Some(r"^https?://clicks\.vendor\.net:8080/k/p/")),
            ("https://clicks.vendor.net/(k", None),
        ];
        for (base, expected) in rows {
            let found = linked_pages(&settings, &site, base, page.as_ref());
            assert_eq!(found.as_deref(), expected, "{base}");
            assert_eq!(linked_pages(&Snapshot::default(), &site, base, page.as_ref()), None);
            assert_eq!(
                linked_pages(&settings, &site, base, None),
                None,
                "a page without an address"
            );
        }
        site.tag.linked_domains = vec!["shop.fr".to_owned()];
        assert_eq!(
            linked_pages(&settings, &site, "https://clicks.vendor.net", page.as_ref()).as_deref(),
            Some(r"^https?://(([^/]+\.)?(shop\.fr)(:\d+)?/|clicks\.vendor\.net/p/)")
        );
    }

    #[test]
    fn origin_of_returns_scheme_and_authority() {
        let rows = [
            ("https://www.shop.com/offer?a=b", "https://www.shop.com"),
            ("https://www.shop.com?a=/b", "https://www.shop.com"),
            ("https://www.shop.com", "https://www.shop.com"),
            ("https://user@shop.com:8080\\x", "https://user@shop.com:8080"),
            ("null", "null"),
            ("", ""),
        ];
        for (url, expected) in rows {
            assert_eq!(origin_of(url), expected, "{url}");
        }
    }

    #[test]
    fn one_page_can_require_consent_with_nc_1() {
        let rows = [(None, false), (Some("nc=1"), true), (Some("v=2&nc=1"), true)];
        for (query, expected) in
            rows.into_iter().chain([(Some("nc=10"), false), (Some("nc"), false)])
        {
            assert_eq!(is_without_consent(query), expected, "{query:?}");
        }
    }

    #[test]
    fn no_value_can_close_the_script_element() {
        assert_eq!(
            escape("{\"o\":\"</script>\u{2028}\"}"),
            "{\"o\":\"\\u003c/script\\u003e\\u2028\"}"
        );
    }
}
