//! What somebody other than Stripe reports: an affiliate network, a shop, a Zap.
//! In: one request's statement. Out: facts of a payment that have an event and a key of their own.
//! Promise: as with Stripe's objects, facts only accumulate, so that repetition and order cannot change the result. Pure.

use serde::{Deserialize, Serialize};

use super::payment::{Metadata, later, united};

/// A reported conversion, beside the amounts and times that its teller states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reported {
    /// Names it within its account: the transaction and the event, or what stands for a missing transaction.
    pub(crate) key: String,
    /// purchase, lead, or the event's own name.
    pub(crate) kind: String,
    /// As received, else a function of the key.
    pub(crate) transaction_id: String,
    /// Another text that may lead to the visit, after the click ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<String>,
    /// The money was given back, all of it.
    pub(crate) is_refunded: bool,
    /// The buyer's bank took the money back.
    pub(crate) is_disputed: bool,
    /// What else was said, as text by name.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub(crate) params: Metadata,
}

impl Reported {
    pub(super) fn absorb(&mut self, other: Self) {
        self.key = std::mem::take(&mut self.key).max(other.key);
        self.kind = std::mem::take(&mut self.kind).max(other.kind);
        self.transaction_id = std::mem::take(&mut self.transaction_id).max(other.transaction_id);
        later(&mut self.reference, other.reference);
        self.is_refunded |= other.is_refunded;
        self.is_disputed |= other.is_disputed;
        united(&mut self.params, other.params);
    }
}
