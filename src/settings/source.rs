//! The records of sources: where payments come from.
//! Takes what a user entered, checked by the handler; writes and reads rows.

use anyhow::Result;

use super::{Added, Settings, Site, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::domain::words;
use crate::store::Store;

words! {
    /// The kind of a source.
    pub enum SourceKind {
        /// A Stripe webhook endpoint.
        Stripe = "stripe",
        /// The endpoint for postbacks.
        Custom = "custom",
        /// Custom events that the pages of a site report.
        Page = "page",
    }
}

/// Where payments come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// `src_…`.
    pub id: String,
    /// Part of the webhook's URL.
    pub key: String,
    /// The site of its conversions if the click ID does not name one.
    pub site_id: String,
    /// Stripe, custom or page.
    pub kind: SourceKind,
    /// Signing secrets, newest last; empty until a user sets one.
    pub secrets: Vec<Secret>,
    /// The key in Stripe's metadata that may contain a click ID.
    pub metadata_key: String,
    /// True if the environment sets its secrets.
    pub from_environment: bool,
    /// Record payment intents without our metadata too, because the seller takes payments without a
    /// checkout.
    pub record_bare_payment_intents: bool,
    /// Its own `acct_…`, if a user set it: events that name it belong to this account. Empty if
    /// unknown.
    pub account: String,
    /// The Stripe mode of the endpoint.
    pub mode: SourceMode,
    /// The restricted API key of its account; without one, that of `main` is used.
    pub api_key: Option<Secret>,
    /// When its secrets last changed; the indexes of secrets in events count from then.
    pub secrets_changed_at: Timestamp,
    /// IDs of destinations that never receive its conversions, because they come from there,
    /// `dst_…`.
    pub never_to: Vec<String>,
}

#[cfg(test)]
impl Source {
    /// A source for tests of pure functions.
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

words! {
    /// The Stripe mode that an endpoint was created for. Events are recorded with their own mode
    /// anyway.
    #[derive(Default)]
    pub enum SourceMode {
        /// Unknown.
        #[default]
        Any = "any",
        /// Real money.
        Live = "live",
        /// Stripe's test mode or a sandbox.
        Test = "test",
    }
}

/// Adds the source for events of a site's pages. Its key has a colon, so that it never equals a
/// user's key.
///
/// # Errors
/// Fails if the database can't be written.
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
/// Fails if the database can't be written.
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

/// Maximum number of sources.
pub const MAX_SOURCES: usize = 200;

/// Adds a Stripe source to a site.
///
/// # Errors
/// Fails if the database can't be written.
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
    // Each site has a source with its key, so keys of sites are taken too.
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

/// Saves the settings of a source: its site, metadata key, mode, account, and whether bare payment
/// intents count.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn save_source(store: &Store, settings: &Settings, source: &Source) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_source(&mut tx, source).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves or removes the restricted API key of a source.
///
/// # Errors
/// Fails if the database can't be written.
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
