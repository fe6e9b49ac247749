//! Sources as records: where payments come from.
//! In: what the owner entered, checked by the door. Out: rows.

use anyhow::Result;

use super::{Added, Settings, Site, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::store::Store;

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A Stripe webhook endpoint.
    Stripe,
    /// The custom conversion endpoint.
    Custom,
    /// What the pages of a site report by themselves.
    Page,
}

impl SourceKind {
    /// As the database and the API have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Custom => "custom",
            Self::Page => "page",
        }
    }

    /// Reads such a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Stripe, Self::Custom, Self::Page].into_iter().find(|kind| kind.word() == word)
    }
}

/// Where payments come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// `src_…`.
    pub id: String,
    /// Stands in the webhook's URL.
    pub key: String,
    /// The site its conversions belong to when the click ID does not say.
    pub site_id: String,
    /// Stripe, custom or page.
    pub kind: SourceKind,
    /// Signing secrets, newest last; empty until somebody sets one.
    pub secrets: Vec<Secret>,
    /// Key of Stripe's metadata that may hold a click ID.
    pub metadata_key: String,
    /// True when the environment sets its secrets.
    pub from_environment: bool,
    /// Payment intents without our metadata are recorded too: the seller takes payments without a checkout.
    pub record_bare_payment_intents: bool,
    /// Its own `acct_…`, where the owner told it: events that name it are this account's own. Empty if unknown.
    pub account: String,
    /// Which mode the endpoint was made for.
    pub mode: SourceMode,
    /// Its account's restricted API key; without one that of `main` serves it too.
    pub api_key: Option<Secret>,
    /// When its secrets last changed; the positions of secrets that events name count from here.
    pub secrets_changed_at: Timestamp,
    /// Destinations that its conversions never go to, because they came from there: `dst_…`.
    pub never_to: Vec<String>,
}

#[cfg(test)]
impl Source {
    /// One for tests of what is pure.
    pub(crate) fn sample(metadata_key: &str) -> Self {
        Self {
            id: "src_1".to_owned(),
            key: "main".to_owned(),
            site_id: "site_1".to_owned(),
            kind: SourceKind::Stripe,
            secrets: Vec::new(),
            metadata_key: metadata_key.to_owned(),
            from_environment: false,
            record_bare_payment_intents: false,
            account: String::new(),
            mode: SourceMode::Any,
            api_key: None,
            secrets_changed_at: Timestamp::default(),
            never_to: Vec::new(),
        }
    }
}

/// Which of Stripe's modes an endpoint was made for. What comes is recorded by its own mode all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceMode {
    /// Nobody said.
    Any,
    /// Real money.
    Live,
    /// Stripe's test mode or a sandbox.
    Test,
}

impl SourceMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Any, Self::Live, Self::Test];

    /// The word as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Reads the word as stored.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// Adds the source of what the pages of a site report. Its key has a colon, so that no source of the owner's can have the same.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_page_source(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    site: &Site,
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    let key = format!("page:{}", site.key);
    table::ensure_source(&mut tx, now, &site.id, &key, SourceKind::Page).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves the signing secrets of a Stripe source.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_webhook_secrets(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    source: &Source,
    secrets: &[Secret],
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::set_secrets(&mut tx, now, &source.key, secrets, false).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Most sources.
pub const MAX_SOURCES: usize = 200;

/// Adds a Stripe source of a site.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_source(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    key: &str,
    site_id: &str,
) -> Result<Added> {
    let snapshot = settings.current();
    if snapshot.sources.len() >= MAX_SOURCES {
        return Ok(Added::TooMany);
    }
    // A site brings a source of its key, so its key is taken too.
    if snapshot.sources.iter().any(|source| source.key == key)
        || snapshot.site_by_key(key).is_some()
    {
        return Ok(Added::KeyTaken);
    }
    let mut tx = super::begin_change(store).await?;
    table::ensure_source(&mut tx, now, site_id, key, SourceKind::Stripe).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(Added::Done)
}

/// Saves what an owner says of a source: its site, metadata key, mode, account, and whether bare payment intents count.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_source(store: &Store, settings: &Settings, source: &Source) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_source(&mut tx, source).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves the restricted API key of a source, or removes it.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_api_key(
    store: &Store,
    settings: &Settings,
    source: &Source,
    key: Option<&Secret>,
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::set_api_key(&mut tx, &source.id, key).await?;
    tx.commit().await?;
    settings.reload(store).await
}
