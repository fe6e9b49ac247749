//! A delivery in memory: to queue, as stored, or still without its bytes.
//! Takes rows and conversions; the table files and the worker read these values.
//! Contains no rules but what is computed of one value alone.

use crate::clock::Timestamp;
use crate::destination::{Content, Draft, Outgoing};
use crate::domain::{DeliveryReason, DeliveryState};
use crate::settings::Destination;

/// A conversion to queue for one destination.
pub(crate) struct NewDelivery<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) conversion_id: &'a str,
    pub(crate) outgoing: &'a Outgoing,
    /// True while the visit of our own click ID has not arrived.
    pub(crate) waits_for_visit: bool,
    /// When the conversion became known; its age counts from here.
    pub(crate) news_at: Timestamp,
}

impl NewDelivery<'_> {
    /// When its message becomes too old to send.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        self.destination.options.limits.expires_after().map(|after| self.news_at.plus(after))
    }
}

/// Idempotency key of the first message. Refunds and disputes use their own keys.
pub(super) const PAID: &str = "paid";

/// A stored delivery.
pub(super) struct Existing {
    pub(super) id: String,
    pub(super) state: DeliveryState,
    pub(super) reason: Option<DeliveryReason>,
    pub(super) request: String,
    pub(super) facts: Option<String>,
    pub(super) attempts: i64,
    pub(super) due: Timestamp,
}

impl Existing {
    pub(super) fn is_untouched(&self) -> bool {
        self.attempts == 0
    }

    pub(super) fn says(&self, draft: &Draft) -> bool {
        match &draft.content {
            Content::Made(made) => self.facts.is_none() && self.request == made.body,
            Content::Facts(facts) => self.facts.as_ref() == Some(facts),
        }
    }
}

/// Selects the failed deliveries of a destination to queue again.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// `dst_…`.
    pub(crate) destination_id: String,
    /// Only those that failed for this reason.
    pub(crate) reason: Option<String>,
    /// Only those created since then.
    pub(crate) since: Timestamp,
}

/// The destination and conversion of a delivery.
pub(crate) struct Subject {
    pub(crate) destination_id: String,
    pub(crate) conversion_id: String,
    pub(crate) transaction_id: String,
    /// False for refunds and disputes.
    pub(crate) tells_of_payment: bool,
    /// True if its row still has the facts that its mapping used.
    pub(crate) has_facts: bool,
}

/// A message whose bytes are not built yet.
pub(super) struct Unmade {
    pub(super) id: String,
    pub(super) destination_id: String,
    /// The facts that its mapping may use, as JSON.
    pub(super) facts: String,
}
