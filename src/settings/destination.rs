//! Destinations as records: several per site, each with its message, its conditions and its limits.
//! In: what the owner entered, checked by the door. Out: rows, a revision for every change of what is sent, a history to go back in.
//! Promise: a signing secret stays valid for a day after it was replaced; nothing here is shown in a log.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Destination, DestinationKind, DestinationOptions, Settings, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::store::{AnyConnection, Store};

/// How long a replaced signing secret still signs.
const SECRET_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// Most destinations of an installation: each is looked at by itself.
pub const MAX_DESTINATIONS: usize = 100;

impl DestinationKind {
    /// The kind as stored and as the API names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::AnyTrack => "anytrack",
            Self::Webhook => "webhook",
        }
    }

    /// The kind of a stored word.
    pub(super) fn of(word: &str) -> Option<Self> {
        [Self::AnyTrack, Self::Webhook].into_iter().find(|kind| kind.word() == word)
    }
}

/// What signs a webhook's messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningSecret {
    /// `whsec_…`.
    pub secret: Secret,
    /// Until when it signs beside its successor; the present one has none.
    pub until: Option<Timestamp>,
}

/// The form of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// POST, a JSON object.
    #[default]
    Json,
    /// POST, like an HTML form.
    Form,
    /// GET, parameters at the end of the URL.
    Query,
}

/// What happens with the conversion of somebody who wants, or may want, to be left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discretion {
    /// The conversion is sent: these are the owner's own tools.
    #[default]
    Send,
    /// Without e-mail, name, phone and ad cookies.
    WithoutPersonal,
    /// Nothing is sent.
    Skip,
}

impl Discretion {
    /// The word as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::WithoutPersonal => "without_personal",
            Self::Skip => "skip",
        }
    }
}

/// Type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A text.
    Text,
    /// A number with exactly the digits it has.
    Number,
    /// A whole number.
    Integer,
    /// true or false.
    Boolean,
    /// Any JSON.
    Json,
}

/// One row of a mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The destination's name for it.
    pub field: String,
    /// Its type.
    pub kind: RowKind,
    /// Where the value comes from.
    pub expression: String,
    /// False leaves it out.
    pub is_on: bool,
}

/// A header that goes with every message.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, a secret.
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ***", self.name)
    }
}

/// A destination to be added.
pub struct NewDestination<'a> {
    /// The site whose conversions it gets.
    pub site_id: &'a str,
    /// Its kind.
    pub kind: DestinationKind,
    /// What people call it.
    pub name: &'a str,
    /// Where to send, checked.
    pub url: &'a Secret,
    /// What it gets.
    pub options: &'a DestinationOptions,
    /// Signs its messages; empty signs nothing.
    pub secret: Option<&'a Secret>,
}

/// One earlier state of a destination's message and conditions.
#[derive(Clone, Debug)]
pub struct Revision {
    /// Grows.
    pub number: i64,
    /// How it was.
    pub options: DestinationOptions,
    /// Since when.
    pub saved_at: Timestamp,
    /// An e-mail; empty for the program itself.
    pub saved_by: String,
}

/// Adds a destination; `None` when there are [`MAX_DESTINATIONS`] already. Answers its record ID.
///
/// # Errors
/// When the database cannot be written.
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
    let mut tx = store.begin().await?;
    let id = ids::new_record_id("dst_", now);
    let stem = stem(new.name);
    // Keys of deleted ones stay theirs, because their deliveries still name them.
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

/// The key of a name: `My Zap` → `my-zap`.
fn stem(name: &str) -> String {
    let letters = name.to_ascii_lowercase();
    let words = letters.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let stem: String = words.collect::<Vec<_>>().join("-").chars().take(32).collect();
    if stem.is_empty() { "destination".to_owned() } else { stem }
}

/// Saves name, URL, conditions, limits and rows under a new revision. What is owed already keeps its bytes.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_destination(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    destination: &Destination,
    by: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    let (id, before) = (&destination.id, settings.current());
    if let Some(before) = before.destination(id) {
        // The first revision may be older than the history.
        table::insert_revision(&mut tx, now, id, before.revision, &before.options, "").await?;
    }
    let revision = table::update_destination(&mut tx, destination).await?;
    table::insert_revision(&mut tx, now, id, revision, &destination.options, by).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// The earlier states of a destination, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn revisions(store: &Store, destination_id: &str) -> Result<Vec<Revision>> {
    table::revisions(store, destination_id).await
}

/// Gives a webhook a new signing secret; the former one signs beside it for a day.
///
/// # Errors
/// When the database cannot be written.
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
    let mut tx = store.begin().await?;
    table::set_signing_secrets(&mut tx, &destination.id, &secrets).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Enables or disables a destination, in the transaction of what happens to its deliveries.
pub(crate) async fn set_enabled(tx: &mut AnyConnection, id: &str, enabled: bool) -> Result<()> {
    table::set_enabled(tx, id, enabled).await.context("could not enable or disable a destination")
}

/// Deletes a destination, in the transaction of what happens to its deliveries. The row stays, because they name it.
pub(crate) async fn delete(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<()> {
    table::delete_destination(tx, now, id).await.context("could not delete a destination")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_of_the_name() {
        assert_eq!(stem("My Zap (EU)"), "my-zap-eu");
        assert_eq!(stem("№"), "destination");
    }
}
