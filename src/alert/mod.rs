//! Alerts: somebody is told when conversions do not arrive.
//! In: what reports see going wrong, the owner's thresholds. Out: messages to Slack, webhooks and mailboxes.
//! Promise: one alert per trouble, not per delivery: raised, reminded of, resolved. What is owed to a target is written before it is sent, so
//! a crash loses none; nothing here touches a delivery; no e-mail address of a buyer leaves in an alert, and no secret of ours.

mod post;
mod table;
mod watch;
mod words;

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

pub(crate) use post::try_out;
pub(crate) use table::{Incident, Told};

use crate::clock::{Clock, Timestamp};
use crate::config::Secret;
use crate::destination::{MailServer, Sender};
use crate::ids;
use crate::settings::Settings;
use crate::store::Store;

/// Most targets of an installation.
pub(crate) const MAX_TARGETS: usize = 20;

/// How a target is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// `{"text": …}`, as Slack and those that imitate it read.
    Slack,
    /// JSON, signed as Standard Webhooks says.
    Webhook,
    /// A letter through the owner's mail server.
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

    /// The kind of a word.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Somebody who is told.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// `alt_…`.
    pub(crate) id: String,
    pub(crate) kind: TargetKind,
    pub(crate) name: String,
    /// A URL; or e-mail addresses, comma-separated.
    pub(crate) address: Secret,
    /// Signs a webhook's messages.
    pub(crate) secret: Secret,
    pub(crate) enabled: bool,
}

/// When the owner wants to be told. 0 turns a rule off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Rules {
    /// A destination takes nothing any more and is only probed.
    pub(crate) held: bool,
    /// A delivery was given up.
    pub(crate) given_up: bool,
    /// A Stripe event, or one of a page, could not be processed.
    pub(crate) events_failed: bool,
    /// The oldest owed delivery waits for so long.
    pub(crate) slow_minutes: u32,
    /// A delivery is given up within so many hours unless it is accepted.
    pub(crate) expires_hours: u32,
    /// Of the last 50 tries so many in a hundred were refused.
    pub(crate) refused_percent: u32,
    /// Of the last 50 tries so many in a hundred failed, for whatever reason.
    pub(crate) failing_percent: u32,
    /// Stripe sent nothing for three times the usual gap, and at least for so long.
    pub(crate) silent_hours: u32,
    /// Of the last day's money so many in a hundred are unmatched, and twice as many as in the week before.
    pub(crate) unmatched_percent: u32,
    /// Further deliveries given up for the same reason are told together, this often at most.
    pub(crate) digest_minutes: u32,
    /// A trouble that goes on is told again after so long.
    pub(crate) remind_hours: u32,
    /// Most messages to one target in an hour; the rest waits.
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

/// What the owner chose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) rules: Rules,
    pub(crate) mail: Option<MailServer>,
    /// Where the dashboard is, for links; empty while nobody knows.
    pub(crate) base: String,
}

/// What the watch is made of.
#[derive(Clone)]
pub(crate) struct Alerts {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) sender: Sender,
    /// The operator's public URL, which wins over the one that was seen.
    pub(crate) base: Option<String>,
}

impl Alerts {
    /// Looks what is wrong, writes what is owed because of it, and sends what is due. Answers how many messages went out.
    ///
    /// # Errors
    /// When the database does not answer; nothing is lost, the next round goes on.
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

/// All targets, in the order they were added.
pub(crate) async fn targets(store: &Store) -> Result<Vec<Target>> {
    table::targets(store).await
}

/// What the owner chose, or the defaults.
pub(crate) async fn choices(store: &Store) -> Result<Choices> {
    table::choices(store).await
}

/// Adds a target; `None` when there are [`MAX_TARGETS`].
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

/// Turns a target on or off. What is owed to it meanwhile waits; nothing new is.
pub(crate) async fn set_enabled(store: &Store, id: &str, enabled: bool) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set_enabled(&mut tx, id, enabled).await?;
    tx.commit().await
}

/// Deletes a target and what it was told.
pub(crate) async fn delete_target(store: &Store, id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::delete_target(&mut tx, id).await?;
    tx.commit().await
}

/// Saves the thresholds.
pub(crate) async fn save_rules(store: &Store, rules: &Rules) -> Result<()> {
    save(store, "rules", &serde_json::to_string(rules)?).await
}

/// Saves the mail server; `None` forgets it.
pub(crate) async fn save_mail(store: &Store, mail: Option<&MailServer>) -> Result<()> {
    save(store, "mail", &serde_json::to_string(&mail)?).await
}

/// Remembers where the dashboard was reached, so that alerts can link to it.
pub(crate) async fn save_base(store: &Store, base: &str) -> Result<()> {
    save(store, "base", &serde_json::to_string(base)?).await
}

async fn save(store: &Store, name: &str, value: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set(&mut tx, name, value).await?;
    tx.commit().await
}

/// The open troubles, then those of the last days that are over; newest first.
pub(crate) async fn incidents(store: &Store) -> Result<Vec<Incident>> {
    table::incidents(store).await
}

/// What each target was told last, and what it still is owed.
pub(crate) async fn told(store: &Store) -> Result<Vec<Told>> {
    table::told(store).await
}

/// How long a trouble must be gone before it counts as over, so that one that comes and goes is told once.
const CALM: Duration = Duration::from_secs(120);
