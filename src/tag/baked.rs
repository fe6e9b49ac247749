//! What is baked into the script: the site's settings, as this page needs them.
//! In: a site, our address, the page's. Out: the config's text but for the click ID and its time, which lead it.
//! Promise: of the request only the page's host enters it, checked; nothing in it can end the script. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use crate::hosts;
use crate::settings::{STRIPE_LINK_HOSTS, Site, Snapshot};

/// What the server fills in behind the click ID (`i`) and its mint time in seconds (`t`): the script's argument and the last bytes
/// of the answer. Short keys, only what is needed.
#[derive(Serialize)]
struct Baked<'a> {
    /// The site's key.
    s: &'a str,
    /// Where the visit is posted.
    e: String,
    /// Cookie attributes: `;domain=shop.com;secure`, or a part of it, or empty.
    k: String,
    /// Pattern of referrers that are no new source.
    o: String,
    /// Pattern of payment links, Stripe's own hosts and the site's; absent while the site has no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    h: Option<String>,
    /// Pattern of pages on linked domains.
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    /// 1: payment links without a reference get one.
    #[serde(skip_serializing_if = "Option::is_none")]
    u: Option<u8>,
    /// 1: nothing is stored, stamped or sent before the visitor agrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<u8>,
    /// 1: AnyTrack's tag replaces the placeholder first.
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<u8>,
}

/// The config behind ID and time, with `door` as the path of the visit's POST, and the pattern of linked pages.
pub(super) fn bake(
    site: &Site,
    base: &str,
    page: Option<&PageAddress>,
    (door, linked): (&str, Option<String>),
    must_ask: bool,
) -> Result<Arc<str>> {
    // A report that comes to this address was sent after the visitor agreed.
    let asks = match (must_ask, door.contains('?')) {
        (true, true) => "&asks",
        (true, false) => "?asks",
        (false, _) => "",
    };
    let baked = Baked {
        s: &site.key,
        e: format!("{}{door}{asks}", base_for(base, page)),
        k: cookie_attributes(site, page, base.starts_with("https://")),
        o: own_referrers(site, page),
        h: payment_links(site),
        d: linked,
        u: site.tag.auto_stamp.then_some(1),
        m: must_ask.then_some(1),
        y: site.tag.yield_to_anytrack.then_some(1),
    };
    let json = escape(&serde_json::to_string(&baked)?);
    Ok(format!("{})", json.trim_start_matches('{')).into())
}

/// `?nc=1`: on this page the visitor has not agreed yet, whatever the site's setting says.
pub(super) fn is_without_consent(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "nc=1"))
}

/// Scheme and authority of a URL, as they stand in it.
pub(super) fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '\\', '?', '#']).map_or(url.len(), |end| authority + end);
    &url[..end]
}

/// Where the page lives, as far as the browser says.
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

/// Our base URL as this page can use it: a script on an https page came over https, though the proxy did not say so to us, and
/// the browser would block a post over http. Only this machine's own names are reached over http from there.
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

/// Attributes for the page's own cookie. The domain is computed here, by the public-suffix list: trying domains in the browser
/// would fill Firefox's console.
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

/// A pattern that fits referrers on the site's own hosts, on linked domains, and on payment pages.
fn own_referrers(site: &Site, page: Option<&PageAddress>) -> String {
    let page_domain = page.and_then(|page| hosts::registrable_domain(&page.host));
    let own = site.domains.iter().chain(&site.tag.linked_domains).chain(&site.tag.payment_hosts);
    let own = own.cloned().chain(page_domain).chain(hosts::PAYMENT_HOSTS.map(str::to_owned));
    format!("^https?://([^/]+\\.)?({})[:/]", one_of(own))
}

/// A pattern that fits payment links, where the site has other hosts than Stripe's. The whole authority must fit: what stands before
/// an `@` is no host.
fn payment_links(site: &Site) -> Option<String> {
    let own = &site.tag.payment_hosts;
    let all = own.iter().cloned().chain(STRIPE_LINK_HOSTS.map(str::to_owned));
    (!own.is_empty()).then(|| format!("^https?://({})(:\\d+)?/", one_of(all)))
}

/// A pattern that fits pages of the owner's other domains, their subdomains too, and redirect links where they live on another site
/// than the page. The page's own domain shares the cookie; and a page whose address we are not told could neither be recognised by the
/// others nor recognise them.
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

/// A pattern that fits our redirect links behind their scheme, where they do not share the page's cookies.
fn redirect_links(base: &str, page: &PageAddress) -> Option<String> {
    let (_, address) = base.split_once("://")?;
    let host = hosts::without_port(address.split('/').next().unwrap_or_default());
    let is_plain = address.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b));
    (is_plain && !hosts::same_site(host, &page.host))
        .then(|| format!("{}/p/", address.replace('.', "\\.")))
}

/// Alternatives of a pattern. Host names only hold letters, digits, dots and dashes; anything else is left out.
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

/// JSON that is safe inside a script wherever it ends up.
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
    fn own_and_payment_hosts_are_no_new_source() {
        let page = PageAddress::read("https://www.shop.com/");
        assert_eq!(
            own_referrers(&site(&["shop.de", "e\"vil"]), page.as_ref()),
            r"^https?://([^/]+\.)?(paypal\.com|shop\.com|shop\.de|stripe\.com)[:/]"
        );
    }

    #[test]
    fn patterns_fit_the_owners_hosts_and_nothing_that_looks_like_them() {
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
        assert_eq!(linked("https://shop.fr/"), None, "a page's own domain is no linked one");
        assert_eq!(linked("no page"), None);
        assert!(own_referrers(&site, None).contains(r"pay\.shop\.com|paypal\.com|shop\.fr|stripe"));
    }

    #[test]
    fn redirect_links_are_linked_pages_where_cookies_are_not_shared() {
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
            assert_eq!(linked_pages(&settings, &site, base, None), None, "a page nobody told of");
        }
        site.tag.linked_domains = vec!["shop.fr".to_owned()];
        assert_eq!(
            linked_pages(&settings, &site, "https://clicks.vendor.net", page.as_ref()).as_deref(),
            Some(r"^https?://(([^/]+\.)?(shop\.fr)(:\d+)?/|clicks\.vendor\.net/p/)")
        );
    }

    #[test]
    fn the_origin_is_cut_out_of_any_url() {
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
    fn consent_can_be_asked_for_by_one_page() {
        let rows = [(None, false), (Some("nc=1"), true), (Some("v=2&nc=1"), true)];
        for (query, expected) in
            rows.into_iter().chain([(Some("nc=10"), false), (Some("nc"), false)])
        {
            assert_eq!(is_without_consent(query), expected, "{query:?}");
        }
    }

    #[test]
    fn scripts_cannot_be_closed_from_inside() {
        assert_eq!(
            escape("{\"o\":\"</script>\u{2028}\"}"),
            "{\"o\":\"\\u003c/script\\u003e\\u2028\"}"
        );
    }
}
