//! What one of Stripe's objects, or a report from outside Stripe, states about a payment.
//! Takes the statements of single events; returns the facts that they state together.
//! Pure, and independent of the order of events: see `merge`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::merge::{Metadata, earlier, later, united};
use crate::clock::Timestamp;
use crate::money::{Currency, Money};

/// How far the payment has come. The highest value ever seen counts, so a late *pending* never
/// replaces *paid*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayFact {
    /// Nothing was stated about money.
    #[default]
    Unknown,
    /// A delayed payment method: the money may still arrive.
    Pending,
    /// The amount is reserved on the buyer's card and not captured yet (manual capture).
    Authorized,
    /// The payment failed, or its authorization was released.
    Failed,
    /// The payment succeeded.
    Paid,
}

/// What the buyer saw, where Stripe converted the price for them. Shown on pages, never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Presented {
    pub(crate) minor: i64,
    pub(crate) currency: Currency,
}

/// The mode of a checkout session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// A card was saved and nothing was paid.
    Payment,
    /// A card was saved, nothing was paid.
    Setup,
    /// The start of a subscription.
    Subscription,
}

/// The kind of object that states a fact, most reliable first: amounts are taken from the first one
/// that states them, whatever arrived first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ObjectKind {
    /// A checkout session.
    Session,
    /// An invoice.
    Invoice,
    /// A payment intent.
    PaymentIntent,
    /// A charge.
    Charge,
    /// A report from outside Stripe; no Stripe object states such a payment.
    Report,
}

/// What one kind of object states about the payment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ObjectFacts {
    pub(crate) pay_fact: PayFact,
    /// The earliest time at which it states this payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stated_at: Option<Timestamp>,
    /// The earliest time at which it states that the payment is paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paid_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amounts: Option<Amounts>,
    /// When `amounts` was stated: the latest statement counts; among equal times the greatest
    /// amount does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amounts_at: Option<Timestamp>,
    /// The amount authorized with manual capture; used as the payment's amount only until something
    /// is captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) authorized: Option<(i64, Currency)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postal_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
}

/// Amounts of a payment in minor units of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Amounts {
    pub(crate) total: i64,
    pub(crate) currency: Currency,
    /// Before discount, tax and shipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subtotal: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) net_of_tax: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tax: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shipping: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) discount: Option<i64>,
}

impl Amounts {
    /// Amounts of which only the total is known.
    pub(crate) fn of(total: Money) -> Self {
        Self {
            total: total.minor,
            currency: total.currency,
            subtotal: None,
            net_of_tax: None,
            tax: None,
            shipping: None,
            discount: None,
        }
    }
}

impl ObjectFacts {
    pub(super) fn absorb(&mut self, other: Self) {
        self.pay_fact = self.pay_fact.max(other.pay_fact);
        earlier(&mut self.stated_at, other.stated_at);
        earlier(&mut self.paid_at, other.paid_at);
        if (other.amounts.map(|_| other.amounts_at), other.amounts)
            > (self.amounts.map(|_| self.amounts_at), self.amounts)
        {
            (self.amounts, self.amounts_at) = (other.amounts, other.amounts_at);
        }
        later(&mut self.authorized, other.authorized);
        united(&mut self.metadata, other.metadata);
        later(&mut self.email, other.email);
        later(&mut self.name, other.name);
        later(&mut self.phone, other.phone);
        later(&mut self.country, other.country);
        later(&mut self.city, other.city);
        later(&mut self.postal_code, other.postal_code);
        later(&mut self.description, other.description);
    }
}
