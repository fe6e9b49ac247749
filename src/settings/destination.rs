//! The records of destinations: several per site, each with its mapping, conditions and limits.
//! Takes what a user entered, checked by the handler; writes rows, a revision for every change of
//! what is sent, and a history of them.
//! Guarantees that a signing secret stays valid for a day after it was replaced, and that no log
//! shows a secret.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{DestinationOptions, Settings, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::domain::words;
use crate::ids;
use crate::store::{AnyConnection, Store, Tx};

/// How long a replaced signing secret is still used.
const SECRET_OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Maximum number of destinations, because each is polled separately.
pub const MAX_DESTINATIONS: usize = 100;

/// Concurrent requests to AnyTrack. It documents no limit, so this is low.
const ANYTRACK_AT_A_TIME: i64 = 2;

/// Concurrent requests to a webhook; receivers are built for several.
const WEBHOOK_AT_A_TIME: i64 = 4;

words! {
    /// The kind of a destination.
    #[derive(Default)]
    pub enum DestinationKind {
        /// An AnyTrack custom integration.
        AnyTrack = "anytrack",
        /// Any URL: Zapier, Make, n8n, Slack, or the user's own program.
        #[default]
        Webhook = "webhook",
    }
}

/// A destination: where conversions are sent.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `dst_…`.
    pub id: String,
    /// Short name in URLs and the API: `anytrack`.
    pub key: String,
    /// The site whose conversions it receives.
    pub site_id: String,
    /// Which module builds its messages.
    pub kind: DestinationKind,
    /// The name that users see.
    pub name: String,
    /// Where to send. Secret, because AnyTrack requires no other credential.
    pub url: Secret,
    /// The secrets that sign a webhook's messages, the current one first.
    pub secrets: Vec<SigningSecret>,
    /// If false, its messages wait in the queue; nothing is lost.
    pub enabled: bool,
    /// If true, test-mode conversions are sent too.
    pub accepts_test: bool,
    /// Which conversions to send, and how.
    pub options: DestinationOptions,
    /// Increases with every change of what is sent.
    pub revision: i64,
    /// True if the environment sets its URL.
    pub from_environment: bool,
    /// Conversions from before are not sent automatically.
    pub created_at: Timestamp,
}

impl Destination {
    /// Whether it is AnyTrack, whose page and tag have parts of their own.
    pub fn is_anytrack(&self) -> bool {
        self.kind == DestinationKind::AnyTrack
    }

    /// Maximum number of concurrent requests.
    pub fn at_a_time(&self) -> i64 {
        match (self.options.sending.at_a_time, self.kind) {
            (None, DestinationKind::AnyTrack) => ANYTRACK_AT_A_TIME,
            (None, DestinationKind::Webhook) => WEBHOOK_AT_A_TIME,
            (Some(chosen), _) => i64::from(chosen),
        }
    }
}

/// A secret that signs a webhook's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecret {
    /// `whsec_…`.
    pub secret: Secret,
    /// How long it is still used beside its successor; `None` for the current one.
    pub until: Option<Timestamp>,
}

/// A destination to add.
pub struct NewDestination<'a> {
    /// The site whose conversions it receives.
    pub site_id: &'a str,
    /// Its kind.
    pub kind: DestinationKind,
    /// The name that users see.
    pub name: &'a str,
    /// Where to send; checked by the caller.
    pub url: &'a Secret,
    /// Which conversions to send, and how.
    pub options: &'a DestinationOptions,
    /// The secret that signs its messages; `None` for no signature.
    pub secret: Option<&'a Secret>,
}

/// An earlier state of a destination's options.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The revision's number; increases.
    pub number: i64,
    /// The options at that time.
    pub options: DestinationOptions,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// The user's email address; empty for the program.
    pub saved_by: String,
}

/// Adds a destination; `None` if there are already [`MAX_DESTINATIONS`]. Returns its record ID.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn add_destination(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    new: &NewDestination<'_>,
    by: &str,
) -> Result<Option<String>> {
    if settings.current().destinations.len() >= MAX_DESTINATIONS {
        return Ok(None);
    }
    let mut tx = super::begin_change(store).await?;
    let id = ids::new_record_id("dst_", now);
    let stem = stem(new.name);
    // Keys of deleted destinations are not reused, because their deliveries still name them.
    for number in 1.. {
        let key = if number == 1 { stem.clone() } else { format!("{stem}-{number}") };
        if table::insert_destination(&mut tx, now, &id, &key, new).await? {
            break;
        }
    }
    table::insert_revision(&mut tx, now, &id, 1, new.options, by).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(Some(id))
}

/// Derives a key from a name: `My Zap` → `my-zap`.
fn stem(name: &str) -> String {
    let letters = name.to_ascii_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let stem: String = words.collect::<Vec<_>>().join("-").chars().take(32).collect();
    if stem.is_empty() { "destination".to_owned() } else { stem }
}

/// Saves name, URL and options under a new revision. Queued messages do not change.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn save_destination(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    destination: &Destination,
    by: &str,
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    let (id, before) = (&destination.id, settings.current());
    if let Some(before) = before.destination(id) {
        // The first revision may be missing in the history.
        table::insert_revision(&mut tx, now, id, before.revision, &before.options, "").await?;
    }
    let revision = table::update_destination(&mut tx, destination).await?;
    table::insert_revision(&mut tx, now, id, revision, &destination.options, by).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// The revisions of a destination, newest first.
///
/// # Errors
/// Fails if the database does not answer.
pub async fn revisions(store: &Store, destination_id: &str) -> Result<Vec<Revision>> {
    table::revisions(store, destination_id).await
}

/// Creates a new signing secret for a webhook; the old one is used beside it for a day.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn rotate_signing_secret(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    destination: &Destination,
    secret: Secret,
) -> Result<()> {
    let mut secrets = vec![SigningSecret { secret, until: None }];
    let live = destination.secrets.iter().filter(|old| old.until.is_none_or(|until| until > now));
    secrets.extend(live.map(|old| {
        let until = old.until.unwrap_or(now.plus(SECRET_OVERLAP));
        SigningSecret { secret: old.secret.clone(), until: Some(until) }
    }));
    let mut tx = super::begin_change(store).await?;
    table::set_signing_secrets(&mut tx, &destination.id, &secrets).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Enables or disables a destination, in the transaction that changes its deliveries.
pub(crate) async fn set_enabled(tx: &mut AnyConnection, id: &str, enabled: bool) -> Result<()> {
    table::set_enabled(tx, id, enabled).await.context("could not enable or disable a destination")
}

/// True if a destination was deleted; no copy of the program deletes one before this transaction
/// ends.
pub(crate) async fn is_deleted(tx: &mut Tx, id: &str) -> Result<bool> {
    tx.keep_settings().await?;
    table::is_deleted(tx, id).await
}

/// IDs of deleted destinations, `dst_…`. Their deliveries still name them.
pub(crate) async fn deleted(tx: &mut Tx) -> Result<Vec<String>> {
    tx.keep_settings().await?;
    table::deleted(tx).await
}

/// Deletes a destination, in the transaction that changes its deliveries. The row stays, because
/// they name it.
pub(crate) async fn delete(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<()> {
    table::delete_destination(tx, now, id).await.context("could not delete a destination")
}

/// Saves the AnyTrack URL of a site: adds a destination, or changes the URL of the existing one.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn save_anytrack_url(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::set_anytrack(&mut tx, now, site_id, url, false).await?;
    tx.commit().await?;
    settings.reload(store).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_derived_from_the_name() {
        assert_eq!(stem("My Zap (EU)"), "my-zap-eu");
        assert_eq!(stem("№"), "destination");
    }
}
