//! Alerts: messages when conversions don't arrive. Takes the problems that reports find and the user's rules; sends
//! messages to Slack, webhooks and email addresses. There is one incident per problem, not per delivery: raised,
//! repeated as a reminder, resolved. Messages are stored before they are sent, so that a crash loses none. This module
//! never changes a delivery, and no message contains a buyer's email address or one of our secrets.

mod choices;
mod detect;
mod post;
mod shared;
mod table;
mod watch;
mod words;

use anyhow::Result;

pub(crate) use choices::{Alerts, Choices, Rules, Target, TargetKind};
pub(crate) use post::try_out;
pub(crate) use table::{Incident, SentMessages};

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::destination::MailServer;
use crate::ids;
use crate::store::Store;

/// Maximum number of recipients.
pub(crate) const MAX_TARGETS: usize = 20;

impl Alerts {
    /// Checks for problems, stores the messages about them and sends those that are due. Returns the number sent.
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
