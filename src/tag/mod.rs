//! `GET /t/{site}.js`: the tag, with a fresh click ID baked in.
//! In: a script request from somebody's page. Out: the static script and one small config, as one `no-store` answer that sets no cookie.
//! Promise: no two answers share a click ID (the static variant, in `fixed`, has none), nothing of the request enters the script but the cookie domain computed from it, and
//! what costs time (compression) is done once at start.

pub(crate) mod addons;
mod fixed;
mod splice;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;

pub(crate) use self::fixed::Fixed;

use self::addons::{AddOns, Scripts};
use self::fixed::FixedScripts;
use self::splice::Template;
use crate::client::{self, Peer};
use crate::clock::Timestamp;
use crate::error::AppError;
use crate::hosts;
use crate::ids::{ClickId, MINTED_CHARS};
use crate::settings::{Consent, STRIPE_LINK_HOSTS, Site, Snapshot};
use crate::state::AppState;
use crate::visit::{self, Landings};

/// Pages whose answer is remembered, 5 kB each. Beyond it, all are forgotten: somebody is making hosts up.
const MAX_PAGES: usize = 1000;
/// Longest name of a page that is remembered: a real one has two host names in it.
const MAX_PAGE_BYTES: usize = 600;

pub(crate) fn routes(landings: Landings) -> Router<AppState> {
    let tag = Arc::new(Tag {
        scripts: Scripts::default(),
        fixed: FixedScripts::default(),
        pages: RwLock::default(),
        landings,
    });
    Router::new().route("/t/{file}", get(move |state, request| serve_tag(state, request, tag)))
}

/// What is made once and used by every answer.
struct Tag {
    scripts: Scripts,
    fixed: FixedScripts,
    pages: RwLock<Pages>,
    /// Where landings wait that the page may not be able to report.
    landings: Landings,
}

/// What the last pages were answered, all but the click ID and its time.
#[derive(Default)]
struct Pages {
    /// The settings they were made from; with the next ones all begin anew.
    settings: Arc<Snapshot>,
    answers: HashMap<String, Arc<Template>>,
}

/// What the config begins with; the click ID and its time follow.
const BEFORE_ID: &str = "({\"i\":\"";
const BEFORE_TIME: &str = "\",\"t\":";
/// Digits of a time in seconds until the year 2286; earlier ones are led by spaces, which JavaScript skips.
const TIME_DIGITS: usize = 10;
/// Bytes of an answer that are its own.
const OWN_BYTES: usize = MINTED_CHARS + BEFORE_TIME.len() + TIME_DIGITS;

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

/// `GET /t/{site}.js`, or `{site}.static.js`. Unknown site: 404.
async fn serve_tag(
    State(state): State<AppState>,
    request: Request,
    tag: Arc<Tag>,
) -> Result<Response, AppError> {
    let settings = state.settings.current();
    let file = request.uri().path().rsplit('/').next();
    let name = file.and_then(|file| file.strip_suffix(".js")).unwrap_or_default();
    let fixed = name.strip_suffix(".static");
    let site = settings.site_by_key(fixed.unwrap_or(name));
    let site = site.ok_or_else(|| AppError::not_found("there is no such site"))?;
    if fixed.is_some() {
        return tag.fixed.answer(&state, &settings, site, &request);
    }
    let asked = Asked::read(&request);
    let template = tag.template(&state, &settings, site, &asked)?;
    let now = state.clock.now();
    let click_id = state.click_ids.mint(now, site.number);
    if let Some(page) = ad_landing(site, &asked) {
        let told = (page, &click_id, now);
        visit::endpoint::hear_landing(&state, &tag.landings, site, &request, told);
    }
    let (told, body) = template.answer(&own_bytes(&click_id, now), asked.takes_gzip());
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = told;
    if let Some(origin) = asked.origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    Ok(response)
}

/// What an answer depends on. Each header is looked up once: every page view passes here.
struct Asked<'a> {
    method: &'a Method,
    query: Option<&'a str>,
    peer: Option<Peer>,
    headers: &'a HeaderMap,
    origin: Option<&'a HeaderValue>,
    /// The page's address, as far as the browser tells it.
    referer: Option<&'a str>,
}

impl<'a> Asked<'a> {
    fn read(request: &'a Request) -> Self {
        let headers = request.headers();
        Self {
            method: request.method(),
            query: request.uri().query(),
            peer: request.extensions().get().copied(),
            headers,
            origin: headers.get(header::ORIGIN),
            referer: headers.get(header::REFERER).and_then(|value| value.to_str().ok()),
        }
    }

    /// Scheme and authority of the page; empty when the browser told neither.
    fn page(&self) -> &'a str {
        let origin = || self.origin.and_then(|value| value.to_str().ok());
        self.referer.or_else(origin).map_or("", origin_of)
    }

    /// What stands behind the `?` of the page's address.
    fn page_query(&self) -> Option<&'a str> {
        Some(self.referer?.split_once('?')?.1)
    }

    fn takes_gzip(&self) -> bool {
        self.headers.get_all(header::ACCEPT_ENCODING).iter().any(accepts_gzip)
    }
}

const DIGITS: &[u8; 10] = b"0123456789";

/// What fills the hole of a template.
fn own_bytes(click_id: &ClickId, now: Timestamp) -> [u8; OWN_BYTES] {
    let mut own = [b' '; OWN_BYTES];
    let (id, rest) = own.split_at_mut(MINTED_CHARS);
    let (before, time) = rest.split_at_mut(BEFORE_TIME.len());
    id.copy_from_slice(click_id.as_str().as_bytes());
    before.copy_from_slice(BEFORE_TIME.as_bytes());
    // From the right; what is left of the number stays space.
    time[TIME_DIGITS - 1] = b'0';
    let mut seconds = now.as_seconds();
    for place in time.iter_mut().rev() {
        if seconds <= 0 {
            break;
        }
        *place = DIGITS[usize::try_from(seconds % 10).unwrap_or(0)];
        seconds /= 10;
    }
    own
}

impl Tag {
    /// The script with its config as this page needs it.
    fn template(
        &self,
        state: &AppState,
        settings: &Arc<Snapshot>,
        site: &Site,
        asked: &Asked<'_>,
    ) -> Result<Arc<Template>, AppError> {
        let page = asked.page();
        let must_ask = site.tag.consent != Consent::Off || is_without_consent(asked.query);
        let debug = is_debugged(asked);
        // The one thing that every request pays for: written into one string, without the machinery of formatting.
        let mut name = String::with_capacity(160);
        client::push_base(&mut name, &state.config, asked.peer, asked.headers);
        let base_bytes = name.len();
        name.push(' ');
        name.push_str(&site.key);
        name.push_str(if must_ask { " ask" } else { "" });
        name.push_str(if debug { " debug" } else { "" });
        // Last, behind what no header can hold: the page is the only part that may have spaces in it.
        name.push('\n');
        name.push_str(page);
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&pages.settings, settings)
            && let Some(answer) = pages.answers.get(&name)
        {
            return Ok(answer.clone());
        }
        drop(pages);
        let address = PageAddress::read(page);
        let base = &name[..base_bytes];
        let linked = linked_pages(settings, site, base, address.as_ref());
        let script = self.scripts.get(AddOns::of(settings, site, linked.is_some(), debug));
        let config = bake(site, base, address.as_ref(), ("/v", linked), must_ask)?;
        let answer = Arc::new(script.with_tail(BEFORE_ID, OWN_BYTES, &format!(",{config}")));
        if name.len() > MAX_PAGE_BYTES {
            return Ok(answer);
        }
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&pages.settings, settings) || pages.answers.len() >= MAX_PAGES {
            *pages = Pages { settings: settings.clone(), answers: HashMap::new() };
        }
        pages.answers.insert(name, answer.clone());
        Ok(answer)
    }
}

/// The config behind ID and time, with `door` as the path of the visit's POST, and the pattern of linked pages.
fn bake(
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
fn is_without_consent(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair == "nc=1"))
}

/// The page's address, where it tells of a click that may be kept though the page's report be blocked: with an ad click ID or a UTM
/// parameter, not before consent, and not for a page that nobody looks at yet.
fn ad_landing<'a>(site: &Site, asked: &Asked<'a>) -> Option<&'a str> {
    asked.page_query()?;
    let may_keep = asked.method == Method::GET
        && site.tag.consent == Consent::Off
        && !is_without_consent(asked.query)
        && !asked.headers.contains_key("sec-purpose");
    asked.referer.filter(|page| may_keep && visit::names_ad_click(page))
}

/// `?debug=1` on the script's URL, or `ck_debug` in the page's: the person who installs the tag wants to see what it does.
fn is_debugged(asked: &Asked<'_>) -> bool {
    let asks = |query: Option<&str>, word: &str| {
        query.is_some_and(|query| query.split(['&', '#']).any(|pair| pair == word))
    };
    let page = asked.page_query();
    asks(asked.query, "debug=1") || asks(page, "ck_debug") || asks(page, "ck_debug=1")
}

/// Scheme and authority of a URL, as they stand in it.
fn origin_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let end = url[authority..].find(['/', '\\', '?', '#']).map_or(url.len(), |end| authority + end);
    &url[..end]
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
fn linked_pages(
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

/// `gzip` or `*`, unless its quality is 0.
fn accepts_gzip(value: &HeaderValue) -> bool {
    value.to_str().unwrap_or_default().split(',').any(|part| {
        let (coding, parameters) = part.split_once(';').unwrap_or((part, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or("1", str::trim);
        matches!(coding.trim(), "gzip" | "x-gzip" | "*")
            && quality.chars().any(|char| ('1'..='9').contains(&char))
    })
}

/// What every answer says about itself: nobody may keep it, every page may load it.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
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
    let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fixed.into_iter().map(pair).collect()
});

/// The same of a compressed one.
static GZIP_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HEADERS.clone();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers
});

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
    fn the_time_is_a_number_whatever_the_clock_says() {
        let rows = [
            (1_790_000_000_999, "1790000000"),
            (12_000, "        12"),
            (0, "         0"),
            (-5_000, "         0"),
        ];
        let click_id = crate::ids::ClickIdKey::new(&[7; 32]).mint(Timestamp::default(), 1);
        for (ms, expected) in rows {
            let own = own_bytes(&click_id, Timestamp::from_ms(ms));
            let expected = format!("{}{BEFORE_TIME}{expected}", click_id.as_str());
            assert_eq!(String::from_utf8_lossy(&own), expected, "{ms}");
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
