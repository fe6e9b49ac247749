//! What handlers know of a visit besides its body.
//! Takes the headers of a request, or a click on a redirect link, as parsed by the handler.
//! Contains no behavior.

use std::net::IpAddr;

use crate::clock::Timestamp;
use crate::ids::{ClickId, ClickIdKey};
use crate::settings::Site;
use crate::store::Store;

/// The arrival of a visit: where it is stored, when it came, and how.
pub(crate) struct Arrival<'a> {
    pub(crate) store: &'a Store,
    pub(crate) keys: &'a ClickIdKey,
    pub(crate) now: Timestamp,
    pub(crate) site: &'a Site,
    pub(crate) around: &'a Around,
}

/// The parts of a visit's request besides its body.
pub(crate) struct Around {
    pub(crate) address: IpAddr,
    pub(crate) user_agent: String,
    /// First entry of `Accept-Language`, such as `de-AT`.
    pub(crate) language: Option<String>,
    /// `Sec-GPC: 1`.
    pub(crate) wants_privacy: bool,
    /// Host of the page that sent the request, as the browser says; a body could name any.
    pub(crate) origin_host: Option<String>,
    /// `Sec-Fetch-Site`: same-origin, same-site, cross-site.
    pub(crate) fetch_site: Option<String>,
    /// The request came from the static variant of the tag.
    pub(crate) has_fixed_tag: bool,
    /// The request came from a tag that waits for consent.
    pub(crate) has_agreed: bool,
    /// The full user agent is stored, because a destination registers visits with it.
    pub(crate) keeps_user_agent: bool,
    /// A page of the site, not a redirect link, has a path like that of a redirect link (`/p/…`).
    pub(crate) is_at_link: bool,
}

impl Around {
    /// The visitor's name on this day (UTC): a keyed hash of the address and the browser.
    pub(crate) fn visitor(&self, keys: &ClickIdKey, now: Timestamp) -> String {
        let day = (now.as_ms() / 86_400_000).to_string();
        keys.hash("visitor", &[&day, &self.address.to_string(), &self.user_agent])
    }
}

/// A click on a redirect link, as parsed by the handler.
pub(crate) struct Click {
    /// The click ID that the visitor keeps, or a new one.
    pub(crate) click_id: ClickId,
    /// The click ID before it.
    pub(crate) previous: Option<ClickId>,
    /// The click ID was passed by a linked page.
    pub(crate) is_adopted: bool,
    /// The link's alias.
    pub(crate) alias: String,
    /// The link's own URL, with its query.
    pub(crate) url: String,
    pub(crate) referrer: Option<String>,
}

/// The browser's time of a report that never arrived; no browser can send this value.
pub(crate) const UNSENT_MS: i64 = -1;
