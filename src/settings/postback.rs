//! The endpoints of postback sources: URLs that contain a token.
//! Takes the token of a request, and changes from the dashboard; returns the source of a token, or
//! writes rows.
//! Guarantees that a replaced token stays valid until its overlap ends, so that no sender is
//! refused while its URL is changed.

use std::time::Duration;

use anyhow::Result;

use super::{Added, Settings, Snapshot, Source, SourceKind, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::money::Currency;
use crate::store::Store;

/// Maximum number of postback sources.
pub const MAX_CUSTOM_SOURCES: usize = 50;

/// The URL of a postback source.
#[derive(Clone, Debug)]
pub struct Postback {
    /// `src_…`.
    pub source_id: String,
    /// Part of its URL, and the only credential.
    pub token: Secret,
    /// The token before, if it was replaced.
    pub old: Option<OldToken>,
    /// The currency of amounts without one; `None` means the site's.
    pub currency: Option<Currency>,
}

/// A replaced token.
#[derive(Clone, Debug)]
pub struct OldToken {
    /// The token.
    pub token: Secret,
    /// It is valid until then.
    pub until: Timestamp,
}

impl Postback {
    /// The time until which the old token is valid, if it still is.
    pub fn old_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.old.as_ref().map(|old| old.until).filter(|until| *until > now)
    }

    fn opens(&self, token: &str, now: Timestamp) -> bool {
        let is = |known: &Secret| {
            ids::equal_in_constant_time(known.expose().as_bytes(), token.as_bytes())
        };
        let is_old = self.old.as_ref().is_some_and(|old| is(&old.token));
        is(&self.token) || (is_old && self.old_until(now).is_some())
    }
}

impl Snapshot {
    /// The postback source of a token.
    pub fn custom_source(&self, token: &str, now: Timestamp) -> Option<&Source> {
        let postback = self.postbacks.iter().find(|postback| postback.opens(token, now))?;
        self.source(&postback.source_id)
    }

    /// The URL of a postback source.
    pub fn postback(&self, source_id: &str) -> Option<&Postback> {
        self.postbacks.iter().find(|postback| postback.source_id == source_id)
    }

    /// The postback source with this key, and its URL.
    pub fn custom_source_by_key(&self, key: &str) -> Option<(&Source, &Postback)> {
        let source = self
            .sources
            .iter()
            .find(|source| source.key == key && source.kind == SourceKind::Custom)?;
        Some((source, self.postback(&source.id)?))
    }

    /// The currency of this source's amounts if a request names none.
    pub fn currency_of(&self, source: &Source) -> Currency {
        let own = self.postback(&source.id).and_then(|postback| postback.currency);
        let of_site = || self.site(&source.site_id).map(|site| site.currency);
        own.or_else(of_site).unwrap_or(Currency::USD)
    }
}

/// Creates a new token for a postback source; the current one stays valid for `overlap`, the one
/// before it does not.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn rotate_token(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    source_id: &str,
    overlap: Duration,
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::rotate_token(&mut tx, source_id, &ids::new_secret(), now.plus(overlap)).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves the site of a postback source, the currency of amounts without one, and which destinations
/// never receive its conversions.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn save_postback(
    store: &Store,
    settings: &Settings,
    source_id: &str,
    site_id: &str,
    currency: Option<Currency>,
    never_to: &[String],
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_postback(&mut tx, source_id, site_id, currency, never_to).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Adds a postback source with its own token.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn add_custom_source(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    site_id: &str,
    key: &str,
) -> Result<Added> {
    if settings.current().postbacks.len() >= MAX_CUSTOM_SOURCES {
        return Ok(Added::TooMany);
    }
    let mut tx = super::begin_change(store).await?;
    if !table::insert_custom_source(&mut tx, now, site_id, key, &ids::new_secret()).await? {
        return Ok(Added::KeyTaken);
    }
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(Added::Done)
}
