//! `GET /t/{site}.static.js`: the static variant of the tag. Takes a site's settings and the
//! server's base URL; returns a script without a click ID, which browsers and caches may keep for a
//! year. Guarantees that it contains nothing from the page or the visitor, so its hash changes only
//! with a setting, the base URL or the tag itself.
//!
//! With this variant, browsers create the click IDs. They post visits to `/v?fixed`, so that these
//! are not reported as visits of an outdated cached tag.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256, Sha384};

use super::addons::AddOns;
use super::baked::{PageAddress, bake, is_without_consent, linked_pages, stamps_on_use};
use super::headers::{HEADERS, accepts_gzip};
use crate::client::{self, Peer};
use crate::error::AppError;
use crate::ids;
use crate::settings::{Site, Snapshot};
use crate::state::AppState;

/// `Cache-Control` for a URL with the current version: its content never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// `Cache-Control` for URLs with an older version or none: they return the current script, and pick
/// up changes within five minutes.
const FOR_A_WHILE: &str = "public, max-age=300";
/// Maximum number of cached scripts. A real server needs few; more mean requests with invented
/// `Host` headers, and the cache is cleared.
const MAX_SCRIPTS: usize = 200;
/// Number of hex digits of the hash in the URL (64 bits).
const VERSION_DIGITS: usize = 16;

/// A site's static script.
pub(crate) struct Fixed {
    /// The value of `?v=` in its URL.
    pub(crate) version: String,
    /// The value of the `integrity` attribute: `sha384-…`.
    pub(crate) integrity: String,
    text: String,
}

impl Fixed {
    /// The static script of a site, served from `base`. Since the page is unknown, cookies are set
    /// for the site's first domain.
    pub(crate) fn of(settings: &Snapshot, site: &Site, base: &str) -> Result<Self> {
        Self::make(settings, site, base, Options::default())
    }

    fn make(settings: &Snapshot, site: &Site, base: &str, options: Options) -> Result<Self> {
        let page = site.domains.first().map(|domain| PageAddress {
            host: domain.clone(),
            is_https: base.starts_with("https://"),
        });
        let must_ask = site.tag.consent.is_needed() || options.is_without_consent;
        let linked = linked_pages(settings, site, base, page.as_ref());
        let code = AddOns::of(settings, site, linked.is_some(), options.is_debugged).text();
        let config =
            bake(site, base, page.as_ref(), ("/v?fixed", linked), (must_ask, stamps_on_use(site)))?;
        let text = format!("{code}({{{config}");
        let digest = ids::hex(&Sha256::digest(text.as_bytes()));
        let integrity = BASE64_STANDARD.encode(Sha384::digest(text.as_bytes()));
        Ok(Self {
            version: digest[..VERSION_DIGITS].to_owned(),
            integrity: format!("sha384-{integrity}"),
            text,
        })
    }
}

/// Options in the query of the script's URL.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Options {
    /// `nc=1`.
    is_without_consent: bool,
    /// `debug=1`.
    is_debugged: bool,
}

/// A script, plain and compressed.
struct Packed {
    version: String,
    plain: Bytes,
    gzip: Bytes,
}

/// Cache of the static scripts that were requested.
#[derive(Default)]
pub(super) struct FixedScripts(RwLock<Made>);

#[derive(Default)]
struct Made {
    /// The settings from which the scripts were built. A change of the settings clears the cache.
    settings: Arc<Snapshot>,
    scripts: HashMap<(String, String, Options), Arc<Packed>>,
}

impl FixedScripts {
    pub(super) fn answer<B>(
        &self,
        state: &AppState,
        settings: &Arc<Snapshot>,
        site: &Site,
        request: &Request<B>,
    ) -> Result<Response, AppError> {
        let (headers, peer) = (request.headers(), request.extensions().get::<Peer>().copied());
        let base = client::base_of(&state.config, peer, headers);
        let query = request.uri().query();
        let has = |word: &str| query.is_some_and(|query| query.split('&').any(|part| part == word));
        let options =
            Options { is_without_consent: is_without_consent(query), is_debugged: has("debug=1") };
        let script = self.get(settings, site, &base, options)?;
        let is_current = has(&format!("v={}", script.version));
        let takes_gzip = headers.get_all(header::ACCEPT_ENCODING).iter().any(accepts_gzip);
        Ok(script.answer(headers, is_current, takes_gzip))
    }

    fn get(
        &self,
        settings: &Arc<Snapshot>,
        site: &Site,
        base: &str,
        options: Options,
    ) -> Result<Arc<Packed>> {
        let name = (site.key.clone(), base.to_owned(), options);
        let made = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&made.settings, settings)
            && let Some(script) = made.scripts.get(&name)
        {
            return Ok(script.clone());
        }
        drop(made);
        let script = Arc::new(Packed::new(Fixed::make(settings, site, base, options)?)?);
        let mut made = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&made.settings, settings) || made.scripts.len() >= MAX_SCRIPTS {
            *made = Made { settings: settings.clone(), scripts: HashMap::new() };
        }
        made.scripts.insert(name, script.clone());
        Ok(script)
    }
}

impl Packed {
    fn new(script: Fixed) -> Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(script.text.as_bytes()).context("could not compress the static tag")?;
        let gzip = gzip.finish().context("could not compress the static tag")?;
        Ok(Self { version: script.version, plain: script.text.into(), gzip: gzip.into() })
    }

    fn answer(&self, asked: &HeaderMap, is_current: bool, takes_gzip: bool) -> Response {
        let (body, suffix) = if takes_gzip { (&self.gzip, "-gz") } else { (&self.plain, "") };
        let tag = format!("\"{}{suffix}\"", self.version);
        let is_known = asked
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .any(|known| known.trim().trim_start_matches("W/") == tag);
        let mut response =
            Response::new(if is_known { Body::empty() } else { Body::from(body.clone()) });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        for name in [
            header::CONTENT_TYPE.as_str(),
            "x-content-type-options",
            "cross-origin-resource-policy",
            "timing-allow-origin",
        ] {
            if let Some(value) = HEADERS.get(name) {
                headers.insert(name, value.clone());
            }
        }
        let life = if is_current { FOR_EVER } else { FOR_A_WHILE };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(life));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        // `integrity` needs `crossorigin`, and so this header. All responses have it, so that a
        // cache needs one copy.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        if takes_gzip && !is_known {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}
