//! Destinations as records: several per site, each with its message, its conditions and its limits.
//! In: what the owner entered, checked by the door. Out: rows, a revision for every change of what is sent, a history to go back in.
//! Promise: a signing secret stays valid for a day after it was replaced; nothing here is shown in a log.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Settings, table};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::store::{AnyConnection, Store, Tx};

/// How long a replaced signing secret still signs.
const SECRET_OVERLAP: Duration = Duration::from_secs(24 * 3600);

/// Most destinations of an installation: each is looked at by itself.
pub const MAX_DESTINATIONS: usize = 100;

/// AnyTrack documents no limit, so we stay modest.
const ANYTRACK_AT_A_TIME: i64 = 2;

/// Webhook receivers are made for several at once.
const WEBHOOK_AT_A_TIME: i64 = 4;

/// Kind of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// An AnyTrack custom integration.
    AnyTrack,
    /// Any URL: Zapier, Make, n8n, Slack, a program of the owner's.
    Webhook,
}

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

/// Where conversions go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `dst_…`.
    pub id: String,
    /// Short name in URLs and the API: `anytrack`.
    pub key: String,
    /// The site whose conversions it gets.
    pub site_id: String,
    /// Which room builds its messages.
    pub kind: DestinationKind,
    /// What people call it.
    pub name: String,
    /// Where to send; a secret, since AnyTrack asks for no other credential.
    pub url: Secret,
    /// What signs a webhook's messages, the present one first.
    pub secrets: Vec<SigningSecret>,
    /// False holds everything owed to it; nothing is lost.
    pub enabled: bool,
    /// True sends test-mode conversions too.
    pub accepts_test: bool,
    /// What it wants to hear.
    pub options: DestinationOptions,
    /// Grows with every change of what is sent.
    pub revision: i64,
    /// True when the environment sets its URL.
    pub from_environment: bool,
    /// Conversions before it owe it nothing by themselves.
    pub created_at: Timestamp,
}

impl Destination {
    /// How many deliveries to it may be under way at a time.
    pub fn at_a_time(&self) -> i64 {
        match (self.options.at_a_time, self.kind) {
            (0, DestinationKind::AnyTrack) => ANYTRACK_AT_A_TIME,
            (0, DestinationKind::Webhook) => WEBHOOK_AT_A_TIME,
            (chosen, _) => chosen.max(1),
        }
    }
}

/// Choices of a destination, stored as JSON; a missing one has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationOptions {
    /// Whether our own click ID goes out as `clickid` where AnyTrack's is not known.
    pub falls_back_to_our_click_id: bool,
    /// AnyTrack's property ID: IDs that begin with it are AnyTrack's own.
    pub anytrack_property: Option<String>,
    /// Experimental: AnyTrack is told of visits by the server, under its property ID.
    pub registers_visits: bool,
    /// Where AnyTrack collects visits.
    pub anytrack_collect_base: String,
    /// Whether unmatched conversions with another key (e-mail) are sent.
    pub sends_unmatched: bool,
    /// Whether purchases are told.
    pub sends_purchases: bool,
    /// Whether renewals are told.
    pub sends_renewals: bool,
    /// Whether events of a name of their own are told.
    pub sends_custom: bool,
    /// Keys of the sites whose conversions are told; empty is its own site.
    pub sites: Vec<String>,
    /// Conversions of less are not told: decimal text, in whatever currency they have.
    pub minimum_value: Option<String>,
    /// Conversions that are no news any more after so many days are not told by themselves; `None` tells all.
    pub max_age_days: Option<u32>,
    /// What happens when the visitor asked for privacy.
    pub gpc: Discretion,
    /// What happens when the visitor is not known to have agreed.
    pub consent: Discretion,
    /// A delivery that was not accepted so many days after it was news is given up; `None` never is.
    pub expires_days: Option<u32>,
    /// The rows of the message; without them it is the kind's own.
    pub rows: Option<Vec<Row>>,
    /// The form of the message.
    pub encoding: Encoding,
    /// Sent with every message.
    pub headers: Vec<Header>,
    /// Whether trials are told, as `Lead`.
    pub sends_trials: bool,
    /// Whether leads are told, as `Lead`.
    pub sends_leads: bool,
    /// Whether money given back is told, as `Refund`.
    pub sends_refunds: bool,
    /// Whether a lost dispute is told, as `Chargeback`.
    pub sends_disputes: bool,
    /// What of the amount is told.
    pub value: ValueOption,
    /// Texts that turn a 2xx answer into a refusal, case ignored.
    pub refuse_if_body_contains: Vec<String>,
    /// Further statuses after which it is tried again.
    pub retry_also: Vec<u16>,
    /// Deliveries under way at a time; 0 is the kind's own number.
    pub at_a_time: i64,
    /// Deliveries per second instead of `CLICKSTAMP_DELIVERY_RATE`; 0 is no limit.
    pub rate: Option<u32>,
}

impl DestinationOptions {
    /// What is told, in words.
    pub fn kinds(&self) -> Vec<&'static str> {
        let all = [
            ("purchase", self.sends_purchases),
            ("renewal", self.sends_renewals),
            ("trial", self.sends_trials),
            ("lead", self.sends_leads),
            ("custom", self.sends_custom),
            ("refund", self.sends_refunds),
            ("dispute", self.sends_disputes),
        ];
        all.into_iter().filter(|(_, is_told)| *is_told).map(|(word, _)| word).collect()
    }

    /// After what time a conversion is no longer told by itself.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }

    /// After what time a message is not worth sending any more.
    pub fn expires_after(&self) -> Option<Duration> {
        self.expires_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

impl Default for DestinationOptions {
    fn default() -> Self {
        let refusals =
            ["Missing click_id, ref_id and email", "No match found", "not exists anymore"];
        Self {
            falls_back_to_our_click_id: true,
            anytrack_property: None,
            registers_visits: false,
            anytrack_collect_base: "https://t1.anytrack.io".to_owned(),
            sends_unmatched: true,
            sends_purchases: true,
            sends_renewals: true,
            sends_custom: false,
            sites: Vec::new(),
            minimum_value: None,
            // Ad platforms refuse what is older, and a destination that stamps on arrival would count it on the wrong day.
            max_age_days: Some(7),
            gpc: Discretion::Send,
            consent: Discretion::Send,
            expires_days: None,
            rows: None,
            encoding: Encoding::Json,
            headers: Vec::new(),
            sends_trials: false,
            sends_leads: false,
            sends_refunds: false,
            sends_disputes: false,
            value: ValueOption::Total,
            refuse_if_body_contains: refusals.map(str::to_owned).to_vec(),
            retry_also: Vec::new(),
            at_a_time: 0,
            rate: None,
        }
    }
}

/// What of a payment's amount a destination is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueOption {
    /// All that was paid.
    #[default]
    Total,
    /// Without tax.
    Net,
    /// Before discount, tax and shipping.
    Subtotal,
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
    /// Without e-mail, name, phone, place, and every cookie of an ad network.
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
    let mut tx = super::begin_change(store).await?;
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
    let mut tx = super::begin_change(store).await?;
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
    let mut tx = super::begin_change(store).await?;
    table::set_signing_secrets(&mut tx, &destination.id, &secrets).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Enables or disables a destination, in the transaction of what happens to its deliveries.
pub(crate) async fn set_enabled(tx: &mut AnyConnection, id: &str, enabled: bool) -> Result<()> {
    table::set_enabled(tx, id, enabled).await.context("could not enable or disable a destination")
}

/// Whether a destination was deleted; no copy of the program deletes one before this transaction ends.
pub(crate) async fn is_deleted(tx: &mut Tx, id: &str) -> Result<bool> {
    tx.keep_settings().await?;
    table::is_deleted(tx, id).await
}

/// The destinations that were deleted: `dst_…`. Their deliveries still name them.
pub(crate) async fn deleted(tx: &mut Tx) -> Result<Vec<String>> {
    tx.keep_settings().await?;
    table::deleted(tx).await
}

/// Deletes a destination, in the transaction of what happens to its deliveries. The row stays, because they name it.
pub(crate) async fn delete(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<()> {
    table::delete_destination(tx, now, id).await.context("could not delete a destination")
}

/// Saves the AnyTrack URL of a site: adds its destination, or corrects the address of the one it has.
///
/// # Errors
/// When the database cannot be written.
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
    fn a_key_is_made_of_the_name() {
        assert_eq!(stem("My Zap (EU)"), "my-zap-eu");
        assert_eq!(stem("№"), "destination");
    }
}
