//! `GET /t/{site}.js`: the tag with a new click ID. Takes a page's request for the script; returns
//! the script and its config as one `no-store` response without cookies. Guarantees that no two
//! responses share a click ID (the static variant in `fixed` has none), and that of the request
//! only the page's checked host and scheme enter the script. Scripts are compressed once, not for
//! each request.

pub(crate) mod addons;
mod baked;
mod fixed;
mod headers;
mod splice;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use axum::routing::get;

use self::addons::{AddOns, Scripts};
use self::baked::{PageAddress, bake, is_without_consent, linked_pages, origin_of, stamps_on_use};
pub(crate) use self::fixed::Fixed;
use self::fixed::FixedScripts;
use self::headers::accepts_gzip;
use self::splice::Template;
use crate::client::{self, Peer};
use crate::clock::Timestamp;
use crate::error::AppError;
use crate::ids::{ClickId, MINTED_CHARS};
use crate::settings::{Site, Snapshot};
use crate::state::AppState;
use crate::visit::{self, Landings};

/// Maximum number of pages whose response is cached, 5 kB each. More mean requests with invented
/// hosts, and the cache is cleared.
const MAX_PAGES: usize = 1000;

/// Longest key of a cached response. A real one contains two host names.
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

/// State shared by all requests.
struct Tag {
    scripts: Scripts,
    fixed: FixedScripts,
    pages: RwLock<Pages>,
    /// Queue of ad clicks to record in case the page's own report of the visit does not arrive.
    landings: Landings,
}

/// Cache of responses by page, without the click ID and its time.
#[derive(Default)]
struct Pages {
    /// The settings from which the responses were built. A change of the settings clears the cache.
    settings: Arc<Snapshot>,
    answers: HashMap<String, Arc<Template>>,
}

/// Text before the click ID in the config. What differs in every response comes last, because it
/// is not compressed.
const BEFORE_ID: &str = ",\"i\":\"";

/// Text between the click ID and its time.
const BEFORE_TIME: &str = "\",\"t\":";

/// Number of digits of a time in seconds until the year 2286. Shorter numbers are padded with
/// spaces, which JavaScript skips.
const TIME_DIGITS: usize = 10;

/// Number of bytes that differ in every response: the click ID, its time and the text between them.
const OWN_BYTES: usize = MINTED_CHARS + BEFORE_TIME.len() + TIME_DIGITS;

/// Serves `GET /t/{site}.js` and `{site}.static.js`. An unknown site is 404.
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
        let landing = (page, &click_id, now);
        visit::endpoint::hear_landing(&state, &tag.landings, site, &request, landing);
    }
    let (headers, body) = template.answer(&own_bytes(&click_id, now), asked.takes_gzip());
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers;
    if let Some(origin) = asked.origin {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    Ok(response)
}

/// The parts of a request on which the response depends. Each header is looked up once, because
/// every page view makes this request.
struct Asked<'a> {
    method: &'a Method,
    query: Option<&'a str>,
    peer: Option<Peer>,
    headers: &'a HeaderMap,
    origin: Option<&'a HeaderValue>,
    /// The page's address, as far as the browser sends it.
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
            referer: client::text(headers, header::REFERER),
        }
    }

    /// Scheme and authority of the page; empty if the browser sent neither `Origin` nor `Referer`.
    /// `Origin` counts first: if a script imports the tag, `Referer` is the script's address, which
    /// may be on another host.
    fn page(&self) -> &'a str {
        let origin = self.origin.and_then(|value| value.to_str().ok());
        let origin = origin.filter(|origin| origin.starts_with("http"));
        origin.or(self.referer).map_or("", origin_of)
    }

    /// The query of the page's address.
    fn page_query(&self) -> Option<&'a str> {
        Some(self.referer?.split_once('?')?.1)
    }

    fn is_robot(&self) -> bool {
        client::text(self.headers, header::USER_AGENT).is_some_and(visit::is_robot)
    }

    fn takes_gzip(&self) -> bool {
        self.headers.get_all(header::ACCEPT_ENCODING).iter().any(accepts_gzip)
    }
}

const DIGITS: &[u8; 10] = b"0123456789";

/// The bytes of a response that fill the gap in its template: click ID and time.
fn own_bytes(click_id: &ClickId, now: Timestamp) -> [u8; OWN_BYTES] {
    let mut own = [b' '; OWN_BYTES];
    let (id, rest) = own.split_at_mut(MINTED_CHARS);
    let (before, time) = rest.split_at_mut(BEFORE_TIME.len());
    id.copy_from_slice(click_id.as_str().as_bytes());
    before.copy_from_slice(BEFORE_TIME.as_bytes());
    // Written from the right; the rest stays filled with spaces.
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
    /// The script with the config for the request's page, from the cache or built.
    fn template(
        &self,
        state: &AppState,
        settings: &Arc<Snapshot>,
        site: &Site,
        asked: &Asked<'_>,
    ) -> Result<Arc<Template>, AppError> {
        let page = asked.page();
        let must_ask = site.tag.consent.is_needed() || is_without_consent(asked.query);
        let debug = is_debugged(asked);
        // A robot may save the page, and show it to others.
        let is_robot = asked.is_robot();
        // Every request builds this cache key, so it avoids the cost of `format!`.
        let mut name = String::with_capacity(160);
        client::push_base(&mut name, &state.config, asked.peer, asked.headers);
        let base_bytes = name.len();
        name.push(' ');
        name.push_str(&site.key);
        name.push_str(if must_ask { " ask" } else { "" });
        name.push_str(if debug { " debug" } else { "" });
        name.push_str(if is_robot { " robot" } else { "" });
        // The page comes last, after a line break, which headers cannot contain: it is the only
        // part that may contain spaces.
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
        let on_use = is_robot || stamps_on_use(site);
        let config = bake(site, base, address.as_ref(), ("/v", linked), (must_ask, on_use))?;
        let fields = config.trim_end_matches("})");
        let answer = script.with_tail(&format!("({{{fields}{BEFORE_ID}"), OWN_BYTES, "})");
        let answer = Arc::new(answer);
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

/// The page's address if it shows an ad click that may be recorded from this request alone, in case
/// the tag's own report is blocked. It must have an ad click ID or a UTM parameter. Sites that need
/// consent and prefetched pages are left out.
fn ad_landing<'a>(site: &Site, asked: &Asked<'a>) -> Option<&'a str> {
    asked.page_query()?;
    let may_keep = asked.method == Method::GET
        && !site.tag.consent.is_needed()
        && !is_without_consent(asked.query)
        && !asked.headers.contains_key("sec-purpose");
    asked.referer.filter(|page| may_keep && visit::names_ad_click(page))
}

/// True for `debug=1` in the script's URL or `ck_debug` in the page's: the tag then logs what it
/// does.
fn is_debugged(asked: &Asked<'_>) -> bool {
    let asks = |query: Option<&str>, word: &str| {
        query.is_some_and(|query| query.split(['&', '#']).any(|pair| pair == word))
    };
    let page = asked.page_query();
    asks(asked.query, "debug=1") || asks(page, "ck_debug") || asks(page, "ck_debug=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_time_is_written_as_a_valid_number() {
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
    fn gzip_is_used_only_if_the_client_accepts_it() {
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
}
