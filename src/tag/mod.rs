//! `GET /t/{site}.js`: the tag, with a fresh click ID baked in.
//! In: a script request from somebody's page. Out: the static script and one small config, as one `no-store` answer that sets no cookie.
//! Promise: no two answers share a click ID, nothing of the request enters the script but the cookie domain computed from it, and
//! what costs time (compression) is done once at start.

mod splice;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use self::splice::Script;
use crate::client::Client;
use crate::error::AppError;
use crate::hosts;
use crate::ids::ClickId;
use crate::settings::{Consent, STRIPE_LINK_HOSTS, Site};
use crate::state::AppState;

/// The minified form of `static/tag.js`, one function expression; committed, so that building needs no Node.
const TAG: &str = include_str!("../../static/tag.min.js");
/// Payment pages that a buyer comes back from: no new source.
const PAYMENT_HOSTS: [&str; 2] = ["stripe.com", "paypal.com"];

pub(crate) fn routes() -> Router<AppState> {
    let script = Arc::new(Script::new(TAG.trim_end()));
    let serve = move |state, path, client, query, headers| {
        serve_tag(state, path, client, query, headers, script)
    };
    Router::new().route("/t/{file}", get(serve))
}

/// What the server fills in: the script's argument and the last bytes of the answer. Short keys, only what is needed.
#[derive(Serialize)]
struct Baked<'a> {
    /// A fresh click ID.
    i: ClickId,
    /// When it was minted, in seconds.
    t: i64,
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

/// `GET /t/{site}.js`. Unknown site: 404.
async fn serve_tag(
    State(state): State<AppState>,
    Path(file): Path<String>,
    client: Client,
    query: RawQuery,
    headers: HeaderMap,
    script: Arc<Script>,
) -> Result<Response, AppError> {
    let settings = state.settings.current();
    let site = file.strip_suffix(".js").and_then(|key| settings.site_by_key(key));
    let site = site.ok_or_else(|| AppError::not_found("there is no such site"))?;
    let now = state.clock.now();
    let page = text(&headers, header::REFERER)
        .or_else(|| text(&headers, header::ORIGIN))
        .and_then(PageAddress::read);
    let baked = Baked {
        i: state.click_ids.mint(now, site.number),
        t: now.as_seconds(),
        s: &site.key,
        e: format!("{}/v", base_for(&client.base, page.as_ref())),
        k: cookie_attributes(site, page.as_ref(), client.is_https),
        o: own_referrers(site, page.as_ref()),
        h: payment_links(site),
        d: linked_pages(site),
        u: site.tag.auto_stamp.then_some(1),
        m: (site.tag.consent != Consent::Off || is_without_consent(&query)).then_some(1),
        y: site.tag.yield_to_anytrack.then_some(1),
    };
    let config = escape(&serde_json::to_string(&baked).map_err(anyhow::Error::from)?);
    let takes_gzip = headers.get_all(header::ACCEPT_ENCODING).iter().any(accepts_gzip);
    let mut response = script.answer(&format!("({config})"), takes_gzip).into_response();
    set_headers(response.headers_mut(), &headers, takes_gzip);
    Ok(response)
}

/// `?nc=1`: on this page the visitor has not agreed yet, whatever the site's setting says.
fn is_without_consent(RawQuery(query): &RawQuery) -> bool {
    query.as_deref().is_some_and(|query| query.split('&').any(|pair| pair == "nc=1"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Where the page lives, as far as the browser says.
struct PageAddress {
    host: String,
    is_https: bool,
}

impl PageAddress {
    fn read(url: &str) -> Option<Self> {
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
    let own = own.cloned().chain(page_domain).chain(PAYMENT_HOSTS.map(str::to_owned));
    format!("^https?://([^/]+\\.)?({})[:/]", one_of(own))
}

/// A pattern that fits payment links, where the site has other hosts than Stripe's. The whole authority must fit: what stands before
/// an `@` is no host.
fn payment_links(site: &Site) -> Option<String> {
    let own = &site.tag.payment_hosts;
    let all = own.iter().cloned().chain(STRIPE_LINK_HOSTS.map(str::to_owned));
    (!own.is_empty()).then(|| format!("^https?://({})(:\\d+)?/", one_of(all)))
}

/// A pattern that fits pages of linked domains, their subdomains too.
fn linked_pages(site: &Site) -> Option<String> {
    let linked = &site.tag.linked_domains;
    (!linked.is_empty())
        .then(|| format!("^https?://([^/]+\\.)?({})(:\\d+)?/", one_of(linked.iter().cloned())))
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

/// `gzip` or `*`, unless its quality is 0.
fn accepts_gzip(value: &HeaderValue) -> bool {
    value.to_str().unwrap_or_default().split(',').any(|part| {
        let (coding, parameters) = part.split_once(';').unwrap_or((part, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or("1", str::trim);
        matches!(coding.trim(), "gzip" | "x-gzip" | "*")
            && quality.chars().any(|char| ('1'..='9').contains(&char))
    })
}

fn set_headers(answer: &mut HeaderMap, request: &HeaderMap, is_gzip: bool) {
    let fixed = [
        ("content-type", "text/javascript; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-store, no-transform"),
        ("cdn-cache-control", "no-store"),
        ("surrogate-control", "no-store"),
        ("vary", "Accept-Encoding, Cookie, Referer"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("timing-allow-origin", "*"),
    ];
    for (name, value) in fixed {
        answer.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if is_gzip {
        answer.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(origin) = request.get(header::ORIGIN) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::money::Currency;
    use crate::settings::TagSettings;

    fn site(domains: &[&str]) -> Site {
        Site {
            id: "site_1".to_owned(),
            number: 1,
            key: "main".to_owned(),
            name: "Shop".to_owned(),
            timezone: "UTC".to_owned(),
            currency: Currency::parse("usd").unwrap(),
            domains: domains.iter().map(|domain| (*domain).to_owned()).collect(),
            tag: TagSettings::default(),
        }
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
        assert_eq!((payment_links(&site), linked_pages(&site)), (None, None));
        site.tag.payment_hosts = vec!["pay.shop.com".to_owned(), "e|vil".to_owned()];
        site.tag.linked_domains = vec!["shop.fr".to_owned()];
        assert_eq!(
            payment_links(&site).as_deref(),
            Some(
                r"^https?://(book\.stripe\.com|buy\.stripe\.com|donate\.stripe\.com|pay\.shop\.com)(:\d+)?/"
            )
        );
        assert_eq!(linked_pages(&site).as_deref(), Some(r"^https?://([^/]+\.)?(shop\.fr)(:\d+)?/"));
        assert!(own_referrers(&site, None).contains(r"pay\.shop\.com|paypal\.com|shop\.fr|stripe"));
    }

    #[test]
    fn consent_can_be_asked_for_by_one_page() {
        let rows = [(None, false), (Some("nc=1"), true), (Some("v=2&nc=1"), true)];
        for (query, expected) in
            rows.into_iter().chain([(Some("nc=10"), false), (Some("nc"), false)])
        {
            assert_eq!(
                is_without_consent(&RawQuery(query.map(str::to_owned))),
                expected,
                "{query:?}"
            );
        }
    }

    #[test]
    fn gzip_is_sent_only_where_it_is_offered() {
        let rows = [
            ("gzip, br", true),
            ("br;q=1, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br", false),
            ("", false),
        ];
        for (offer, expected) in rows {
            assert_eq!(accepts_gzip(&HeaderValue::from_static(offer)), expected, "{offer}");
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
