//! The records of sites: the name of a website, the hosts of its pages, the options of its tag.
//! Takes what a user entered, checked by the handler; writes and reads rows.

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;

use super::{Added, Settings, SourceKind, table};
use crate::clock::Timestamp;
use crate::domain::words;
use crate::money::Currency;
use crate::store::Store;

/// One website.
#[derive(Clone, Debug)]
pub struct Site {
    /// `site_…`.
    pub id: String,
    /// Part of every click ID of this site.
    pub number: i64,
    /// Part of its tag's URL: `/t/{key}.js`.
    pub key: String,
    /// The name that users see.
    pub name: String,
    /// IANA name, checked; reports use its days.
    pub timezone: String,
    /// The currency that charts show first.
    pub currency: Currency,
    /// Host names of its pages; empty accepts all.
    pub domains: Vec<String>,
    /// Options of its tag.
    pub tag: TagSettings,
}

impl Site {
    /// The site's time zone; UTC if this machine does not know it.
    pub(crate) fn zone(&self) -> TimeZone {
        TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC)
    }

    /// True for the site from the first start; pages need not name it in their URL.
    pub fn is_first(&self) -> bool {
        self.number == 1
    }
}

/// Options of a site's tag. Host names are checked: lower-case letters, digits, dots and dashes,
/// IDN as punycode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSettings {
    /// What the tag stores in the browser, and whether consent is needed first.
    pub consent: Consent,
    /// False until the owner has chosen it; `Off` applies until then.
    pub is_consent_chosen: bool,
    /// Add a reference to payment links without one.
    pub auto_stamp: bool,
    /// Hosts of payment links in addition to Stripe's own: custom Stripe domains.
    pub payment_hosts: Vec<String>,
    /// Other domains of the user, whose links get the click ID. Each includes its subdomains.
    pub linked_domains: Vec<String>,
    /// Record AnyTrack's click IDs beside ours, if the site has an AnyTrack destination.
    pub capture_anytrack: bool,
    /// If AnyTrack's tag is on the page too, let it replace the placeholder first.
    pub yield_to_anytrack: bool,
}

impl Default for TagSettings {
    fn default() -> Self {
        Self {
            consent: Consent::Off,
            is_consent_chosen: false,
            auto_stamp: false,
            payment_hosts: Vec::new(),
            linked_domains: Vec::new(),
            capture_anytrack: true,
            yield_to_anytrack: false,
        }
    }
}

words! {
    /// What the tag stores in the visitor's browser, and whether the visitor must give consent
    /// before anything is stored, added to links, or sent.
    pub enum Consent {
        /// A cookie; no consent is needed.
        Off = "off",
        /// Nothing is stored; no consent is needed. Visits are joined on the server, for one day.
        Cookieless = "cookieless",
        /// The page passes the consent to the tag with `clickstamp("consent", …)`.
        Required = "required",
        /// The tag reads the consent from Google's consent mode.
        Google = "google",
        /// The tag reads the consent from a consent tool with the TCF interface.
        Tcf = "tcf",
    }
}

impl Consent {
    /// True if nothing may be stored or sent before the visitor has given consent.
    pub fn is_needed(self) -> bool {
        matches!(self, Self::Required | Self::Google | Self::Tcf)
    }
}

#[cfg(test)]
impl Site {
    /// A site that accepts every host.
    pub(crate) fn example() -> Self {
        Self {
            id: "site_1".to_owned(),
            number: 1,
            key: "main".to_owned(),
            name: "Shop".to_owned(),
            timezone: "UTC".to_owned(),
            currency: Currency::parse("usd").expect("a currency"),
            domains: Vec::new(),
            tag: TagSettings::default(),
        }
    }
}

/// Maximum number of sites. A site's number has fifteen bits in a click ID, and every page lists
/// all sites.
pub const MAX_SITES: usize = 200;

/// Adds a site with a key (checked by the caller: `[a-z0-9-]`, 1–32) and a Stripe source for its
/// payments. Timezone and currency are those of the first site until a user changes them.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn add_site(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    key: &str,
    name: &str,
) -> Result<Added> {
    let snapshot = settings.current();
    if snapshot.sites.len() >= MAX_SITES {
        return Ok(Added::TooMany);
    }
    if snapshot.sources.iter().any(|source| source.key == key) {
        return Ok(Added::KeyTaken);
    }
    let first = snapshot.sites.first().context("there is no first site")?;
    let mut tx = super::begin_change(store).await?;
    let Some(site_id) = table::insert_site(&mut tx, now, key, name, first).await? else {
        return Ok(Added::KeyTaken);
    };
    table::ensure_source(&mut tx, now, &site_id, key, SourceKind::Stripe).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(Added::Done)
}

/// Saves a site: its name, timezone (IANA, checked by the caller), first currency, domains and tag
/// options.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn save_site(store: &Store, settings: &Settings, site: &Site) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_site(&mut tx, site).await?;
    tx.commit().await?;
    settings.reload(store).await
}
