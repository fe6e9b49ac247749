//! Alerts: messages when conversions don't arrive. Takes the problems that reports find and the user's rules; sends
//! messages to Slack, webhooks and email addresses. There is one incident per problem, not per delivery: raised,
//! repeated as a reminder, resolved. Messages are stored before they are sent, so that a crash loses none. This module
//! never changes a delivery, and no message contains a buyer's email address or one of our secrets.

mod post;
mod table;
mod watch;
mod words;

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) use post::try_out;
pub(crate) use table::{Incident, SentMessages};

use crate::clock::{Clock, Timestamp};
use crate::config::Secret;
use crate::destination::{MailServer, Sender};
use crate::ids;
use crate::settings::Settings;
use crate::store::Store;

/// Maximum number of recipients.
pub(crate) const MAX_TARGETS: usize = 20;

/// How a recipient is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// `{"text": …}`, for Slack and compatible tools.
    Slack,
    /// JSON, signed according to Standard Webhooks.
    Webhook,
    /// An email through the user's mail server.
    Email,
}

impl TargetKind {
    pub(crate) const ALL: [Self; 3] = [Self::Slack, Self::Webhook, Self::Email];

    /// As stored, and in forms.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Webhook => "webhook",
            Self::Email => "email",
        }
    }

    /// Parses the stored word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// A recipient of alerts.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `alt_…`.
    pub(crate) id: String,
    pub(crate) kind: TargetKind,
    pub(crate) name: String,
    /// A URL, or comma-separated email addresses.
    pub(crate) address: Secret,
    /// Signs a webhook's messages.
    pub(crate) secret: Secret,
    pub(crate) enabled: bool,
}

/// The rules of alerts. 0 turns a rule off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rules {
    /// A destination accepts nothing and is only probed.
    pub(crate) held: bool,
    /// A delivery failed.
    pub(crate) given_up: bool,
    /// A Stripe event or a page event could not be processed.
    pub(crate) events_failed: bool,
    /// Age in minutes of the oldest pending delivery.
    pub(crate) slow_minutes: u32,
    /// Hours before a delivery expires.
    pub(crate) expires_hours: u32,
    /// Percentage of rejected attempts among the last 50.
    pub(crate) refused_percent: u32,
    /// Percentage of failed attempts, for any reason, among the last 50.
    pub(crate) failing_percent: u32,
    /// Hours without a Stripe event, if that is also three times the usual gap.
    pub(crate) silent_hours: u32,
    /// Percentage of the last day's money that is unmatched, if that is also twice that of the week before.
    pub(crate) unmatched_percent: u32,
    /// Minutes between two alerts about deliveries that fail for the same reason.
    pub(crate) digest_minutes: u32,
    /// Hours after which a reminder is sent.
    pub(crate) remind_hours: u32,
    /// Maximum number of messages to one recipient per hour; further ones wait.
    pub(crate) per_hour: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            held: true,
            given_up: true,
            events_failed: true,
            slow_minutes: 15,
            expires_hours: 12,
            refused_percent: 10,
            failing_percent: 50,
            silent_hours: 6,
            unmatched_percent: 20,
            digest_minutes: 15,
            remind_hours: 6,
            per_hour: 20,
        }
    }
}

/// The settings of alerts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) rules: Rules,
    pub(crate) mail: Option<MailServer>,
    /// The dashboard's URL, for links; empty if unknown.
    pub(crate) base: String,
}

/// What checking and sending need.
#[derive(Clone)]
pub(crate) struct Alerts {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) sender: Sender,
    /// The configured public URL, which takes precedence over `base`.
    pub(crate) base: Option<String>,
}

impl Alerts {
    /// Checks for problems, stores the messages about them and sends those that are due. Returns the number sent.
    ///
    /// # Errors
    /// If the database does not respond. Nothing is lost; the next poll continues.
    pub(crate) async fn round(&self) -> Result<usize> {
        let targets = table::targets(&self.store).await?;
        if targets.is_empty() {
            return Ok(0);
        }
        let mut choices = table::choices(&self.store).await?;
        if let Some(base) = &self.base {
            choices.base.clone_from(base);
        }
        let active: Vec<Target> = targets.into_iter().filter(|target| target.enabled).collect();
        if !active.is_empty() {
            watch::look(self, &choices, &active).await?;
        }
        post::send_due(self, &choices, &active).await
    }
}

/// All recipients, in the order they were added.
pub(crate) async fn targets(store: &Store) -> Result<Vec<Target>> {
    table::targets(store).await
}

/// The saved settings, or the defaults.
pub(crate) async fn choices(store: &Store) -> Result<Choices> {
    table::choices(store).await
}

/// Adds a recipient; `None` if there are [`MAX_TARGETS`] already.
pub(crate) async fn add_target(
    store: &Store,
    now: Timestamp,
    kind: TargetKind,
    name: &str,
    address: &Secret,
    secret: &Secret,
) -> Result<Option<String>> {
    let mut tx = store.begin().await?;
    if table::count_targets(&mut tx).await? >= MAX_TARGETS {
        return Ok(None);
    }
    let target = Target {
        id: ids::new_record_id("alt_", now),
        kind,
        name: name.to_owned(),
        address: address.clone(),
        secret: secret.clone(),
        enabled: true,
    };
    table::insert_target(&mut tx, now, &target).await?;
    tx.commit().await?;
    Ok(Some(target.id))
}

/// Turns a recipient on or off. While off, pending messages wait and no new ones are added.
pub(crate) async fn set_enabled(store: &Store, id: &str, enabled: bool) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set_enabled(&mut tx, id, enabled).await?;
    tx.commit().await
}

/// Deletes a recipient and its messages.
pub(crate) async fn delete_target(store: &Store, id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::delete_target(&mut tx, id).await?;
    tx.commit().await
}

/// Saves the rules.
pub(crate) async fn save_rules(store: &Store, rules: &Rules) -> Result<()> {
    save(store, "rules", &serde_json::to_string(rules)?).await
}

/// Saves the mail server; `None` removes it.
pub(crate) async fn save_mail(store: &Store, mail: Option<&MailServer>) -> Result<()> {
    save(store, "mail", &serde_json::to_string(&mail)?).await
}

/// Stores the dashboard's URL, so that alerts can link to it.
pub(crate) async fn save_base(store: &Store, base: &str) -> Result<()> {
    save(store, "base", &serde_json::to_string(base)?).await
}

async fn save(store: &Store, name: &str, value: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set(&mut tx, name, value).await?;
    tx.commit().await
}

/// The open incidents, then the resolved ones of the last days; newest first.
pub(crate) async fn incidents(store: &Store) -> Result<Vec<Incident>> {
    table::incidents(store).await
}

/// The newest and the pending messages of each recipient.
pub(crate) async fn sent(store: &Store) -> Result<Vec<SentMessages>> {
    table::sent(store).await
}

/// How long a problem must be gone before its incident is resolved, so that one that comes and goes is reported once.
const CALM: Duration = Duration::from_secs(120);
