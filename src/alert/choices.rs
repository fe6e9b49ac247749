//! What the owner decided about alerts: who receives them, and about which problems.
//! Takes the stored rows of recipients and settings; the other files of this module read them.
//! Contains no behavior, only the values.

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::config::Secret;
use crate::destination::{MailServer, Sender};
use crate::settings::Settings;
use crate::store::Store;

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
    /// Number of customers who paid with one click ID within thirty days.
    pub(crate) shared_customers: u32,
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
            shared_customers: 3,
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
