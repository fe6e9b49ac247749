//! `GET /t/{site}.static.js`: the static variant, the same tag for everybody.
//! In: a site's settings and our own address. Out: a script without a click ID, which browsers and caches may keep for a year.
//! Promise: nothing of the page or the visitor is in it, so its hash holds until a setting, our address or the tag itself changes.
//!
//! Browsers make the click IDs here. The visits come to `/v?fixed`, so that nobody takes them for those of an old copy.

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
use super::baked::{PageAddress, bake, is_without_consent, linked_pages};
use super::{HEADERS, accepts_gzip};
use crate::client::{self, Peer};
use crate::error::AppError;
use crate::ids;
use crate::settings::{Consent, Site, Snapshot};
use crate::state::AppState;

/// For an address that names this very script: it never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// For any other: an address of yesterday still works, and learns of a change within five minutes.
const FOR_A_WHILE: &str = "public, max-age=300";
/// Scripts that are remembered. Beyond it all are forgotten: somebody is making our own host up.
const MAX_SCRIPTS: usize = 200;
/// Hex digits of the hash in the address, 64 bits of it.
const VERSION_DIGITS: usize = 16;

/// A script that stays as it is.
pub(crate) struct Fixed {
    /// What stands behind `?v=`.
    pub(crate) version: String,
    /// For the `integrity` attribute: `sha384-…`.
    pub(crate) integrity: String,
    text: String,
}

impl Fixed {
    /// The script of a site, as it is served from `base`. A page we are not told of is taken to be on the site's first domain.
    pub(crate) fn of(settings: &Snapshot, site: &Site, base: &str) -> Result<Self> {
        Self::make(settings, site, base, Wish::default())
    }

    fn make(settings: &Snapshot, site: &Site, base: &str, wish: Wish) -> Result<Self> {
        let page = site.domains.first().map(|domain| PageAddress {
            host: domain.clone(),
            is_https: base.starts_with("https://"),
        });
        let must_ask = site.tag.consent != Consent::Off || wish.is_without_consent;
        let linked = linked_pages(settings, site, base, page.as_ref());
        let code = AddOns::of(settings, site, linked.is_some(), wish.is_debugged).text();
        let config = bake(site, base, page.as_ref(), ("/v?fixed", linked), must_ask)?;
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

/// What the script's own address may ask for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Wish {
    /// `nc=1`.
    is_without_consent: bool,
    /// `debug=1`.
    is_debugged: bool,
}

/// A script in both forms.
struct Packed {
    version: String,
    plain: Bytes,
    gzip: Bytes,
}

/// The scripts that were asked for.
#[derive(Default)]
pub(super) struct FixedScripts(RwLock<Made>);

#[derive(Default)]
struct Made {
    /// The settings they were made from; with the next ones all begin anew.
    settings: Arc<Snapshot>,
    scripts: HashMap<(String, String, Wish), Arc<Packed>>,
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
        let wish =
            Wish { is_without_consent: is_without_consent(query), is_debugged: has("debug=1") };
        let script = self.get(settings, site, &base, wish)?;
        let is_current = has(&format!("v={}", script.version));
        let takes_gzip = headers.get_all(header::ACCEPT_ENCODING).iter().any(accepts_gzip);
        Ok(script.answer(headers, is_current, takes_gzip))
    }

    fn get(
        &self,
        settings: &Arc<Snapshot>,
        site: &Site,
        base: &str,
        wish: Wish,
    ) -> Result<Arc<Packed>> {
        let name = (site.key.clone(), base.to_owned(), wish);
        let made = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&made.settings, settings)
            && let Some(script) = made.scripts.get(&name)
        {
            return Ok(script.clone());
        }
        drop(made);
        let script = Arc::new(Packed::new(Fixed::make(settings, site, base, wish)?)?);
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
        // A page that checks `integrity` asks with `crossorigin`; the same for all, so that a cache needs one copy.
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
