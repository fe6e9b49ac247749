//! Bits of `visits.flags`. The tag sends the first three in the body's key `f`.

/// `navigator.webdriver` was set.
pub(crate) const AUTOMATED: i64 = 1;
/// Global Privacy Control was set.
pub(crate) const GPC: i64 = 2;
/// The click ID was adopted from a linked domain.
pub(crate) const ADOPTED: i64 = 4;
/// The tag waited for consent, and the page or its consent tool reported it before the visit
/// was sent.
pub(crate) const AGREED: i64 = 8;
/// The presented click ID had a wrong MAC; the visit has another one.
pub(crate) const FORGED: i64 = 256;
/// The presented click ID was minted for another site; the visit has another one.
pub(crate) const FOREIGN_SITE: i64 = 512;
/// The page's host is not one of the site's domains. The visit is stored but not counted.
pub(crate) const UNKNOWN_HOST: i64 = 1024;
/// The click ID was made in the browser, because its copy of the tag was stale.
pub(crate) const CLIENT_MADE: i64 = 2048;
/// The click ID was made in the browser, because the page has the static variant of the tag.
pub(crate) const FIXED_TAG: i64 = 4096;
/// Recorded from the request for the tag's script, because the tag's own request has not
/// arrived.
pub(crate) const PROVISIONAL: i64 = 8192;
/// The server may register the visit with AnyTrack: the site has the option, the visitor has no
/// privacy signal, and AnyTrack's own cookie is missing.
pub(crate) const FOR_ANYTRACK: i64 = 16384;
/// The site stored nothing in the browser at that time.
pub(crate) const COOKIELESS: i64 = 32768;
/// A further page view of a visit without cookies. It is stored so that the page's click ID leads to
/// the visit; nothing counts or lists it.
pub(crate) const CONTINUED: i64 = 65536;
