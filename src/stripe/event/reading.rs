//! What an event states, and what is known of it besides its object.
//! Takes nothing and returns nothing: the readers of the single objects share these values.

use crate::clock::Timestamp;
use crate::conversion::payment::{Contract, Payment};
use crate::domain::IgnoredReason;

/// What an event states.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// Facts about a payment.
    Payment(Box<Payment>),
    /// Facts about a subscription.
    Contract(Box<Contract>),
    /// Nothing that the ledger uses.
    Ignored(IgnoredReason),
    /// It should state a payment but can't be read; the text names the path.
    Unreadable(String),
}

/// The event's metadata that is needed to read its object.
pub(super) struct Around {
    pub(super) kind: String,
    pub(super) account: String,
    pub(super) livemode: bool,
    pub(super) source_id: String,
    /// When it happened by Stripe's clock, else when it was received.
    pub(super) at: Timestamp,
}

impl Around {
    /// A payment with its origin and no other facts.
    pub(super) fn payment(&self) -> Payment {
        Payment {
            account: self.account.clone(),
            livemode: self.livemode,
            source_id: Some(self.source_id.clone()),
            ..Payment::default()
        }
    }
}
