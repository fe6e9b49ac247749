//! What is known of one payment.
//! In: what single events say. Out: everything they say together, and what follows from it: kind, status, amount.
//! Promise: facts only accumulate (by maximum, by set), so order and repetition of events cannot change the result. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::money::{Currency, Money};

/// How far the money has come; the highest ever seen counts, so a late *pending* never undoes *paid*.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayFact {
    /// Nothing is said about money.
    #[default]
    Unknown,
    /// A delayed method: the money may still come.
    Pending,
    /// It did not come.
    Failed,
    /// It came.
    Paid,
}

/// Amounts of a payment in minor units of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Amounts {
    pub(crate) total: i64,
    pub(crate) currency: Currency,
    pub(crate) subtotal: Option<i64>,
    pub(crate) tax: Option<i64>,
    pub(crate) shipping: Option<i64>,
    pub(crate) discount: Option<i64>,
}

/// What the buyer saw, where Stripe converted the price for him. Shown, never reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Presented {
    pub(crate) minor: i64,
    pub(crate) currency: Currency,
}

/// What a checkout was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// A one-time payment.
    Payment,
    /// A card was saved, nothing was paid.
    Setup,
    /// The begin of a subscription.
    Subscription,
}

/// Facts about one payment, from one event or from all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Payment {
    /// The Stripe account, empty for the source's own.
    pub(crate) account: String,
    /// False in test mode.
    pub(crate) livemode: bool,
    pub(crate) pay_fact: PayFact,
    pub(crate) mode: Option<Mode>,
    /// The checkout session, `cs_…`; the seed document's example has another form, so no prefix is assumed.
    pub(crate) session: Option<String>,
    pub(crate) payment_intent: Option<String>,
    pub(crate) invoice: Option<String>,
    pub(crate) subscription: Option<String>,
    pub(crate) customer: Option<String>,
    pub(crate) customer_account: Option<String>,
    pub(crate) payment_link: Option<String>,
    pub(crate) recovered_from: Option<String>,
    pub(crate) amounts: Option<Amounts>,
    pub(crate) presented: Option<Presented>,
    pub(crate) client_reference_id: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) phone: Option<String>,
    pub(crate) country: Option<String>,
    pub(crate) city: Option<String>,
    pub(crate) postal_code: Option<String>,
    pub(crate) description: Option<String>,
    /// The earliest time any event states this payment.
    pub(crate) occurred_at: Option<Timestamp>,
    /// The earliest time any event states that it is paid.
    pub(crate) paid_at: Option<Timestamp>,
}

/// The greater of two known values; a known one over an unknown one.
fn later<T: Ord>(mine: &mut Option<T>, other: Option<T>) {
    if other > *mine {
        *mine = other;
    }
}

/// The smaller of two known values; a known one over an unknown one.
fn earlier<T: Ord>(mine: &mut Option<T>, other: Option<T>) {
    if let Some(other) = other
        && mine.as_ref().is_none_or(|mine| other < *mine)
    {
        *mine = Some(other);
    }
}

impl Payment {
    /// Adds what another event says of the same payment. Commutative, associative, idempotent.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.account = std::mem::take(&mut self.account).max(other.account);
        self.livemode |= other.livemode;
        self.pay_fact = self.pay_fact.max(other.pay_fact);
        later(&mut self.mode, other.mode);
        later(&mut self.session, other.session);
        later(&mut self.payment_intent, other.payment_intent);
        later(&mut self.invoice, other.invoice);
        later(&mut self.subscription, other.subscription);
        later(&mut self.customer, other.customer);
        later(&mut self.customer_account, other.customer_account);
        later(&mut self.payment_link, other.payment_link);
        later(&mut self.recovered_from, other.recovered_from);
        later(&mut self.amounts, other.amounts);
        later(&mut self.presented, other.presented);
        later(&mut self.client_reference_id, other.client_reference_id);
        for (key, value) in other.metadata {
            let mine = self.metadata.entry(key).or_default();
            *mine = std::mem::take(mine).max(value);
        }
        later(&mut self.email, other.email);
        later(&mut self.name, other.name);
        later(&mut self.phone, other.phone);
        later(&mut self.country, other.country);
        later(&mut self.city, other.city);
        later(&mut self.postal_code, other.postal_code);
        later(&mut self.description, other.description);
        earlier(&mut self.occurred_at, other.occurred_at);
        earlier(&mut self.paid_at, other.paid_at);
    }

    /// IDs that name this payment: session, invoice, payment intent.
    pub(crate) fn identity(&self) -> BTreeSet<&str> {
        [&self.session, &self.invoice, &self.payment_intent]
            .into_iter()
            .filter_map(|id| id.as_deref())
            .collect()
    }

    /// IDs that name the buyer or the contract, and only lend a click ID.
    pub(crate) fn lineage(&self) -> BTreeSet<&str> {
        [&self.subscription, &self.customer, &self.customer_account]
            .into_iter()
            .filter_map(|id| id.as_deref())
            .collect()
    }

    /// The one ID this payment has at every destination, for ever.
    pub(crate) fn transaction_id(&self) -> Option<&str> {
        [&self.session, &self.invoice, &self.payment_intent]
            .into_iter()
            .find_map(|id| id.as_deref())
    }

    /// The whole amount.
    pub(crate) fn amount(&self) -> Option<Money> {
        self.amounts.map(|amounts| Money { minor: amounts.total, currency: amounts.currency })
    }

    /// `purchase`, `trial` or `lead`. A zero amount never becomes a purchase: ad platforms would count an empty sale.
    pub(crate) fn kind(&self) -> &'static str {
        let is_subscription = match self.mode {
            Some(mode) => mode == Mode::Subscription,
            None => self.subscription.is_some(),
        };
        if self.mode == Some(Mode::Setup) {
            "lead"
        } else if self.amounts.is_some_and(|amounts| amounts.total > 0) {
            "purchase"
        } else if is_subscription {
            "trial"
        } else {
            "lead"
        }
    }

    /// `pending`, `failed` or `paid`.
    pub(crate) fn status(&self) -> &'static str {
        match self.pay_fact {
            PayFact::Paid => "paid",
            PayFact::Failed => "failed",
            PayFact::Pending | PayFact::Unknown => "pending",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_payment() -> impl Strategy<Value = Payment> {
        let text = || proptest::option::of("[a-c]{1,2}");
        let fact = prop_oneof![
            Just(PayFact::Unknown),
            Just(PayFact::Pending),
            Just(PayFact::Failed),
            Just(PayFact::Paid)
        ];
        let time = || proptest::option::of((0_i64..5).prop_map(Timestamp::from_ms));
        let metadata = proptest::collection::btree_map("[a-b]", "[a-c]", 0..3);
        (
            text(),
            text(),
            text(),
            fact,
            proptest::option::of(0_i64..9),
            time(),
            time(),
            metadata,
            any::<bool>(),
        )
            .prop_map(
                |(
                    session,
                    email,
                    reference,
                    pay_fact,
                    total,
                    occurred_at,
                    paid_at,
                    metadata,
                    livemode,
                )| Payment {
                    session,
                    email,
                    client_reference_id: reference,
                    pay_fact,
                    amounts: total.map(|total| Amounts {
                        total,
                        currency: Currency::parse("usd").unwrap(),
                        subtotal: None,
                        tax: None,
                        shipping: None,
                        discount: None,
                    }),
                    occurred_at,
                    paid_at,
                    metadata,
                    livemode,
                    ..Payment::default()
                },
            )
    }

    fn joined(a: &Payment, b: &Payment) -> Payment {
        let mut sum = a.clone();
        sum.absorb(b.clone());
        sum
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(a in any_payment(), b in any_payment(), c in any_payment()) {
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&joined(&a, &b), &b), joined(&a, &b));
        }
    }

    #[test]
    fn kinds_follow_mode_and_amount() {
        let amounts = |total| {
            Some(Amounts {
                total,
                currency: Currency::parse("usd").unwrap(),
                subtotal: None,
                tax: None,
                shipping: None,
                discount: None,
            })
        };
        let rows = [
            ("paid once", Some(Mode::Payment), None, 100, "purchase"),
            ("full discount", Some(Mode::Payment), None, 0, "lead"),
            ("subscription", Some(Mode::Subscription), Some("sub_1"), 100, "purchase"),
            ("trial", Some(Mode::Subscription), Some("sub_1"), 0, "trial"),
            ("card saved", Some(Mode::Setup), None, 0, "lead"),
            ("no mode, subscription", None, Some("sub_1"), 0, "trial"),
            ("no mode", None, None, 5, "purchase"),
        ];
        for (name, mode, subscription, total, kind) in rows {
            let subscription = subscription.map(str::to_owned);
            let payment =
                Payment { mode, subscription, amounts: amounts(total), ..Payment::default() };
            assert_eq!(payment.kind(), kind, "{name}");
        }
    }

    #[test]
    fn a_late_pending_does_not_undo_paid() {
        let mut payment = Payment { pay_fact: PayFact::Paid, ..Payment::default() };
        payment.absorb(Payment { pay_fact: PayFact::Pending, ..Payment::default() });
        payment.absorb(Payment { pay_fact: PayFact::Failed, ..Payment::default() });
        assert_eq!(payment.status(), "paid");
    }
}
