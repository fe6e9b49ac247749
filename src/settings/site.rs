//! Sites as records: what a website is called, where its pages are, what its tag does.
//! In: what the owner entered, checked by the door. Out: rows.

use anyhow::{Context as _, Result};

use super::{Added, Settings, SourceKind, table};
use crate::clock::Timestamp;
use crate::money::Currency;
use crate::store::Store;

/// One website.
#[derive(Clone, Debug)]
pub struct Site {
    /// `site_…`.
    pub id: String,
    /// Stands inside every click ID of this site.
    pub number: i64,
    /// Stands in the URL of its tag: `/t/{key}.js`.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// IANA name, checked; reports use its days.
    pub timezone: String,
    /// The currency that charts show first.
    pub currency: Currency,
    /// Host names of its pages; empty accepts all.
    pub domains: Vec<String>,
    /// What its tag does beyond the usual.
    pub tag: TagSettings,
}

impl Site {
    /// True for the site that was there from the start; addresses of pages need not name it.
    pub fn is_first(&self) -> bool {
        self.number == 1
    }
}

/// What a site asks of its tag. Host names are checked: lower-case letters, digits, dots and dashes, IDN as punycode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSettings {
    /// Whether the visitor is asked first, and by whom.
    pub consent: Consent,
    /// Payment links without a reference get one.
    pub auto_stamp: bool,
    /// Hosts of payment links beside Stripe's own: custom Stripe domains.
    pub payment_hosts: Vec<String>,
    /// Domains of other pages of the owner: their links get the click ID handed over. Each covers all below it.
    pub linked_domains: Vec<String>,
    /// AnyTrack's click IDs are noted beside ours, where the site has AnyTrack as a destination.
    pub capture_anytrack: bool,
    /// Where AnyTrack's tag is on the page too, it replaces the placeholder first.
    pub yield_to_anytrack: bool,
}

impl Default for TagSettings {
    fn default() -> Self {
        Self {
            consent: Consent::Off,
            auto_stamp: false,
            payment_hosts: Vec::new(),
            linked_domains: Vec::new(),
            capture_anytrack: true,
            yield_to_anytrack: false,
        }
    }
}

/// Whether a visitor must agree before anything is stored, stamped or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nobody is asked.
    Off,
    /// The page tells the tag, by `clickstamp("consent", …)`.
    Required,
    /// Google's consent mode tells it.
    Google,
    /// A consent tool with the TCF interface tells it.
    Tcf,
}

impl Consent {
    /// All of them, the usual one first.
    pub const ALL: [Self; 4] = [Self::Off, Self::Required, Self::Google, Self::Tcf];

    /// The word as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
            Self::Google => "google",
            Self::Tcf => "tcf",
        }
    }

    /// Reads the word as stored.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|consent| consent.word() == word)
    }
}

#[cfg(test)]
impl Site {
    /// One that accepts every host.
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

/// Most sites of an installation. A site's number has fifteen bits in a click ID; every page lists all of them.
pub const MAX_SITES: usize = 200;

/// Adds a site under a key (checked by the caller: `[a-z0-9-]`, 1–32) and the Stripe source its payments come from.
/// Timezone and currency are the first site's until somebody changes them.
///
/// # Errors
/// When the database cannot be written.
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

/// Saves a site: its name, its timezone (IANA, checked by the caller), its first currency, its domains, its tag.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_site(store: &Store, settings: &Settings, site: &Site) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_site(&mut tx, site).await?;
    tx.commit().await?;
    settings.reload(store).await
}
