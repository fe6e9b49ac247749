//! The settings that users change: sites, sources, destinations.
//! Takes the environment at the first start, and changes from the dashboard; returns one `Snapshot`
//! in memory that every handler reads without a query.
//! Guarantees that a change is in the database before it is in memory, and that no page or log
//! shows a secret.

mod destination;
mod link;
mod options;
mod postback;
mod site;
mod snapshot;
mod source;
mod table;

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::config::{Config, Secret};
use crate::ids::{self, ClickIdKey};
use crate::store::{AnyConnection, Store, Tx};

pub use destination::{
    Destination, DestinationKind, MAX_DESTINATIONS, NewDestination, Revision, SigningSecret,
    add_destination, revisions, rotate_signing_secret, save_anytrack_url, save_destination,
};
pub(crate) use destination::{
    delete as delete_destination, deleted as deleted_destinations, is_deleted, set_enabled,
};
pub use link::{
    Link, LinkDraft, MAX_LINKS, STRIPE_LINK_HOSTS, add_link, check_target, delete_link,
    is_payment_host, placeholders, save_link, shows_existing_checkout,
};
pub use options::{
    AnyTrackOptions, DestinationOptions, Discretion, Encoding, Events, Header, Limits,
    MessageOptions, Row, RowKind, Sending, ValueOption,
};
pub use postback::{
    MAX_CUSTOM_SOURCES, OldToken, Postback, add_custom_source, rotate_token, save_postback,
};
pub use site::{Consent, MAX_SITES, Site, TagSettings, add_site, save_site};
pub use snapshot::{Settings, Snapshot};
pub use source::{
    MAX_SOURCES, Source, SourceKind, SourceMode, add_page_source, add_source, save_api_key,
    save_source, save_webhook_secrets,
};

/// Creates what the server needs at its start: the click ID key, a site, its sources, and what the
/// environment sets.
///
/// # Errors
/// Fails if the database can't be read or written.
pub async fn prepare(store: &Store, config: &Config, now: Timestamp) -> Result<Prepared> {
    let mut tx = begin_change(store).await?;
    let key = table::get_or_set(&mut tx, "click_id_key", &ids::hex(&ids::new_key())).await?;
    let site_id = table::ensure_first_site(&mut tx, now).await?;
    table::ensure_source(&mut tx, now, &site_id, "main", SourceKind::Stripe).await?;
    table::ensure_custom_source(&mut tx, now, &site_id, &ids::new_secret()).await?;
    if !config.stripe_webhook_secrets.is_empty() {
        table::set_secrets(&mut tx, now, "main", &config.stripe_webhook_secrets, true).await?;
    } else {
        table::release_from_environment(&mut tx, "main").await?;
    }
    let corrected = match &config.anytrack_url {
        Some(url) => table::set_anytrack(&mut tx, now, &site_id, url, true).await?,
        None => {
            table::release_anytrack_from_environment(&mut tx).await?;
            None
        }
    };
    tx.commit().await?;
    Ok(Prepared { click_ids: read_key(&key)?, corrected })
}

/// The result of [`prepare`].
#[derive(Debug)]
pub struct Prepared {
    /// The server's key for click IDs.
    pub click_ids: ClickIdKey,
    /// The ID of the destination whose URL the environment just changed.
    pub corrected: Option<String>,
}

/// Begins a transaction that changes the settings. Every change must use it: it waits until no
/// transaction uses the old settings, and raises the revision, by which other copies of the program
/// notice the change.
///
/// # Errors
/// Fails if the database can't be written.
pub(crate) async fn begin_change(store: &Store) -> Result<Tx> {
    let mut tx = store.begin().await?;
    tx.own_settings().await?;
    table::raise_revision(&mut tx).await?;
    Ok(tx)
}

/// The server's key for click IDs, of an installation that was started before.
///
/// # Errors
/// Fails if the database does not answer or has no key.
pub async fn click_id_key(store: &Store) -> Result<ClickIdKey> {
    let key = table::value(store, "click_id_key").await?;
    read_key(&key.context("this database has no click ID key yet: start the server once")?)
}

/// True if the database still belongs to the installation with this key.
pub(crate) async fn is_key_of(store: &Store, key: &ClickIdKey) -> Result<bool> {
    let stored = table::value(store, "click_id_key").await?;
    let stored = stored.map(|text| read_key(&text)).transpose()?;
    let mark = |key: &ClickIdKey| key.hash("installation", &[]);
    Ok(stored.is_some_and(|stored| mark(&stored) == mark(key)))
}

fn read_key(key: &str) -> Result<ClickIdKey> {
    let key = ids::unhex(key).context("the stored click ID key is damaged")?;
    Ok(ClickIdKey::new(&key))
}

/// Claims a task that runs once a day (UTC); returns false if it was done today, or another copy of
/// the program does it.
pub(crate) async fn claim_day(store: &Store, name: &str, now: Timestamp) -> Result<bool> {
    table::raise(store, name, now.as_ms().div_euclid(86_400_000)).await
}

/// What a job that works in steps stored about its progress; `None` before its first step.
pub(crate) async fn progress(store: &Store, name: &str) -> Result<Option<String>> {
    table::value(store, name).await
}

/// Stores the progress of a job in the transaction of a step. Returns false if it is not `from`
/// anymore, because another copy of the program did the step; the caller must not commit then.
pub(crate) async fn advance(
    tx: &mut AnyConnection,
    name: &str,
    from: Option<&str>,
    to: &str,
) -> Result<bool> {
    table::replace(tx, name, from, to).await
}

/// The result of adding a site.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// It was added, with a Stripe source of the same key.
    Done,
    /// Another site or source has this key.
    KeyTaken,
    /// There are already [`MAX_SITES`].
    TooMany,
}

/// Returns a value that exists once per installation, such as the setup token: the stored one, or
/// `value`, which is stored then.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn get_or_set(store: &Store, name: &str, value: &str) -> Result<String> {
    let mut tx = store.begin().await?;
    let stored = table::get_or_set(&mut tx, name, value).await?;
    tx.commit().await?;
    Ok(stored)
}

/// The part of a secret URL that may be shown: scheme, host and the last four characters.
pub fn mask_url(url: &Secret) -> String {
    let text = url.expose();
    let shown = url::Url::parse(text).ok().and_then(|url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
    });
    format!("{}/…{}", shown.unwrap_or_default(), url.tail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_url_shows_host_and_tail_only() {
        let url = Secret::new("https://t1.anytrack.io/abc123/collect/secret-slug-k7Qe");
        assert_eq!(mask_url(&url), "https://t1.anytrack.io/…k7Qe");
    }
}
