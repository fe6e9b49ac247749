//! The doors of custom sources: addresses with a token in them.
//! In: the first start, the dashboard. Out: which source a token opens.
//! Promise: a token that was rotated opens until its overlap ends, so that no sender is shut out while its address is changed.

use std::time::Duration;

use anyhow::Result;

use super::{Added, Settings, Snapshot, Source, SourceKind, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::money::Currency;
use crate::store::Store;

/// Most custom sources of an installation.
pub const MAX_CUSTOM_SOURCES: usize = 50;

/// How a custom source is reached.
#[derive(Clone, Debug)]
pub struct Door {
    /// `src_…`.
    pub source_id: String,
    /// Stands in its URL, and is the only credential.
    pub token: Secret,
    /// The one before.
    pub old: Option<OldToken>,
    /// Of amounts that name none; `None` is the site's.
    pub currency: Option<Currency>,
}

/// A token that was rotated.
#[derive(Clone, Debug)]
pub struct OldToken {
    /// As it was.
    pub token: Secret,
    /// It opens until then.
    pub until: Timestamp,
}

impl Door {
    /// Until when the old token opens, if it still does.
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
    /// The custom source that a token opens.
    pub fn custom_source(&self, token: &str, now: Timestamp) -> Option<&Source> {
        let door = self.doors.iter().find(|door| door.opens(token, now))?;
        self.source(&door.source_id)
    }

    /// The door of a custom source.
    pub fn door(&self, source_id: &str) -> Option<&Door> {
        self.doors.iter().find(|door| door.source_id == source_id)
    }

    /// The custom source with this key, and its door.
    pub fn custom_source_by_key(&self, key: &str) -> Option<(&Source, &Door)> {
        let source = self
            .sources
            .iter()
            .find(|source| source.key == key && source.kind == SourceKind::Custom)?;
        Some((source, self.door(&source.id)?))
    }

    /// What an amount of this source is in when nobody says.
    pub fn currency_of(&self, source: &Source) -> Currency {
        let own = self.door(&source.id).and_then(|door| door.currency);
        let of_site = || self.site(&source.site_id).map(|site| site.currency);
        own.or_else(of_site).unwrap_or(Currency::USD)
    }
}

/// Gives a custom source a new token; the present one opens for `overlap` longer, the one before it no more.
///
/// # Errors
/// When the database cannot be written.
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

/// Saves which site the conversions of a custom source belong to, the currency of amounts that name none, and where they never go.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_door(
    store: &Store,
    settings: &Settings,
    source_id: &str,
    site_id: &str,
    currency: Option<Currency>,
    never_to: &[String],
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_door(&mut tx, source_id, site_id, currency, never_to).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Adds a custom source with a token of its own.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_custom_source(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    site_id: &str,
    key: &str,
) -> Result<Added> {
    if settings.current().doors.len() >= MAX_CUSTOM_SOURCES {
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
