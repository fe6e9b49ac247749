//! The facts about one payment.
//! Takes what single events state; returns what they state together.
//! Pure: facts only accumulate (by maximum or by union), so the order and repetition of events
//! can't change the result.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub(crate) use super::amounts::Amounts;

use super::adjustment::{Charge, Dispute, Refund};
use super::reported::Reported;
use crate::clock::Timestamp;
use crate::money::Currency;

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

/// Metadata: text values by key.
pub(crate) type Metadata = BTreeMap<String, String>;

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

/// Facts about one payment, from one event or from all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Payment {
    /// The Stripe account; empty for the source's own account.
    pub(crate) account: String,
    /// False in test mode.
    pub(crate) livemode: bool,
    /// The source that delivered it; the oldest source if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_id: Option<String>,
    /// What each kind of object states.
    #[serde(rename = "facts", skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) facts: BTreeMap<ObjectKind, ObjectFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<Mode>,
    /// Why the invoice exists: `subscription_create`, `subscription_cycle`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) billing_reason: Option<String>,
    /// True if the seller captures the money after the authorization, and may capture less than the
    /// checkout's total.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_manual_capture: bool,
    /// True if its invoice was created by hand and paid outside Stripe, so it may be the receipt of
    /// another payment.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) was_paid_outside_stripe: bool,
    /// When its checkout expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expired_at: Option<Timestamp>,

    // Identity: IDs that belong to this payment only.
    /// Checkout sessions, `cs_…`; no prefix is assumed, because test data has other forms.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) sessions: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) invoices: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) payment_intents: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) charges: BTreeMap<String, Charge>,
    /// Objects that only link others: the payments of an invoice.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) ties: BTreeSet<String>,

    // Refunds and disputes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) refunds: BTreeMap<String, Refund>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) disputes: BTreeMap<String, Dispute>,
    /// When the payment became news: when a webhook first stated that it is paid, or, if we asked
    /// Stripe's API ourselves, when it was paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) paid_news_at: Option<Timestamp>,
    /// The earliest time of a refund or dispute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adjusted_at: Option<Timestamp>,

    // Lineage: IDs of the customer or subscription. They only help to match through an earlier
    // payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subscription: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) customer_account: Option<String>,
    /// The expired checkout that this one recovers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered_from: Option<String>,

    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_reference_id: Option<String>,
    /// The subscription's metadata, as copied to its invoice.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) subscription_metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presented: Option<Presented>,
    /// The facts of a conversion that was reported from outside Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reported: Option<Reported>,
}

/// The facts about a subscription itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Contract {
    pub(crate) account: String,
    /// `sub_…`.
    pub(crate) subscription: String,
    pub(crate) customer: Option<String>,
    pub(crate) customer_account: Option<String>,
    pub(crate) metadata: Metadata,
}

/// Keeps the greater of two values; a known value wins over an unknown one.
pub(super) fn later<T: Ord>(mine: &mut Option<T>, other: Option<T>) {
    if other > *mine {
        *mine = other;
    }
}

/// Keeps the smaller of two values; a known value wins over an unknown one.
pub(super) fn earlier<T: Ord>(mine: &mut Option<T>, other: Option<T>) {
    if let Some(other) = other
        && mine.as_ref().is_none_or(|mine| other < *mine)
    {
        *mine = Some(other);
    }
}

/// Keeps the greater value of each key.
pub(super) fn united(mine: &mut Metadata, other: Metadata) {
    for (key, value) in other {
        let mine = mine.entry(key).or_default();
        *mine = std::mem::take(mine).max(value);
    }
}

impl ObjectFacts {
    fn absorb(&mut self, other: Self) {
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

impl Payment {
    /// Adds what another event states about the same payment. Commutative, associative, idempotent.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.account = std::mem::take(&mut self.account).max(other.account);
        self.livemode |= other.livemode;
        earlier(&mut self.source_id, other.source_id);
        for (teller, facts) in other.facts {
            self.facts.entry(teller).or_default().absorb(facts);
        }
        later(&mut self.mode, other.mode);
        later(&mut self.billing_reason, other.billing_reason);
        self.is_manual_capture |= other.is_manual_capture;
        self.was_paid_outside_stripe |= other.was_paid_outside_stripe;
        earlier(&mut self.expired_at, other.expired_at);
        self.sessions.extend(other.sessions);
        self.invoices.extend(other.invoices);
        self.payment_intents.extend(other.payment_intents);
        for (id, charge) in other.charges {
            self.charges.entry(id).or_default().absorb(charge);
        }
        self.ties.extend(other.ties);
        for (id, refund) in other.refunds {
            self.refunds.entry(id).or_default().absorb(refund);
        }
        for (id, dispute) in other.disputes {
            self.disputes.entry(id).or_default().absorb(dispute);
        }
        earlier(&mut self.paid_news_at, other.paid_news_at);
        earlier(&mut self.adjusted_at, other.adjusted_at);
        later(&mut self.subscription, other.subscription);
        later(&mut self.customer, other.customer);
        later(&mut self.customer_account, other.customer_account);
        later(&mut self.recovered_from, other.recovered_from);
        later(&mut self.client_reference_id, other.client_reference_id);
        united(&mut self.subscription_metadata, other.subscription_metadata);
        later(&mut self.payment_link, other.payment_link);
        later(&mut self.presented, other.presented);
        match (&mut self.reported, other.reported) {
            (Some(mine), Some(other)) => mine.absorb(other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }

    /// IDs that belong to this payment only.
    pub(crate) fn identity(&self) -> BTreeSet<&str> {
        let sets = [&self.sessions, &self.invoices, &self.payment_intents, &self.ties];
        let adjustments = self.refunds.keys().chain(self.disputes.keys());
        sets.into_iter()
            .flatten()
            .chain(self.charges.keys())
            .chain(adjustments)
            .chain(self.reported.iter().map(|reported| &reported.key))
            .map(String::as_str)
            .collect()
    }

    /// IDs of the customer, the subscription, or an earlier checkout.
    pub(crate) fn lineage(&self) -> BTreeSet<&str> {
        [&self.subscription, &self.customer, &self.customer_account, &self.recovered_from]
            .into_iter()
            .filter_map(|id| id.as_deref())
            .collect()
    }

    /// The earliest time at which any object states that it is paid.
    pub(crate) fn stated_paid_at(&self) -> Option<Timestamp> {
        self.facts.values().filter_map(|facts| facts.paid_at).min()
    }

    /// The texts that may contain the click ID, most reliable first.
    pub(crate) fn references(&self) -> impl Iterator<Item = &str> {
        let second = self.reported.as_ref().and_then(|reported| reported.reference.as_deref());
        self.client_reference_id.as_deref().into_iter().chain(second)
    }

    /// The ID that every destination receives for this payment. It depends only on Stripe's
    /// objects, or on what was reported.
    pub(crate) fn transaction_id(&self) -> Option<&str> {
        if let Some(reported) = &self.reported {
            return Some(&reported.transaction_id);
        }
        self.sessions
            .first()
            .or_else(|| self.invoices.first())
            .or_else(|| self.payment_intents.first())
            .or_else(|| self.charges.keys().next())
            .or_else(|| self.refunds.keys().next())
            .or_else(|| self.disputes.keys().next())
            .map(String::as_str)
    }

    /// The value from the most reliable object that has one.
    pub(super) fn best<'a, T>(&'a self, of: impl Fn(&'a ObjectFacts) -> Option<T>) -> Option<T> {
        self.facts.values().find_map(of)
    }

    /// True if the checkout started a subscription.
    pub(super) fn is_subscription_checkout(&self) -> bool {
        match self.mode {
            Some(mode) => mode == Mode::Subscription,
            None => self.subscription.is_some(),
        }
    }

    /// True while only an invoice paid outside Stripe states this payment: then it may be the
    /// receipt of a checkout.
    pub(crate) fn may_be_receipt(&self) -> bool {
        self.was_paid_outside_stripe
            && self.sessions.is_empty()
            && self.payment_intents.is_empty()
            && self.charges.is_empty()
    }

    /// True if its authorization was released (canceled or expired) before anything was captured.
    pub(super) fn is_released(&self) -> bool {
        let fact =
            |teller| self.facts.get(&teller).map_or(PayFact::Unknown, |facts| facts.pay_fact);
        [ObjectKind::PaymentIntent, ObjectKind::Charge]
            .into_iter()
            .any(|of| fact(of) == PayFact::Failed)
            && self.facts.values().all(|facts| facts.pay_fact != PayFact::Paid)
    }

    /// The buyer's email address.
    pub(crate) fn email(&self) -> Option<&str> {
        self.best(|facts| facts.email.as_deref())
    }

    /// What was bought.
    pub(crate) fn description(&self) -> Option<&str> {
        self.best(|facts| facts.description.as_deref())
    }

    /// The metadata that may contain a click ID, most reliable first: session, payment intent,
    /// subscription (as its invoice copied it, then its own), invoice, charge.
    pub(crate) fn metadata<'a>(&'a self, contract: &'a Contract) -> Vec<&'a Metadata> {
        let of = |teller| self.facts.get(&teller).map(|facts| &facts.metadata);
        let order = [
            of(ObjectKind::Session),
            of(ObjectKind::PaymentIntent),
            Some(&self.subscription_metadata),
            Some(&contract.metadata),
            of(ObjectKind::Invoice),
            of(ObjectKind::Charge),
        ];
        order.into_iter().flatten().collect()
    }
}

impl Contract {
    /// Adds what another event states about the same subscription.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.account = std::mem::take(&mut self.account).max(other.account);
        self.subscription = std::mem::take(&mut self.subscription).max(other.subscription);
        later(&mut self.customer, other.customer);
        later(&mut self.customer_account, other.customer_account);
        united(&mut self.metadata, other.metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::money::Money;

    use crate::conversion::adjustment::DisputeState;

    fn any_facts() -> impl Strategy<Value = ObjectFacts> {
        let text = || proptest::option::of("[a-c]{1,2}");
        let fact = prop_oneof![
            Just(PayFact::Unknown),
            Just(PayFact::Pending),
            Just(PayFact::Authorized),
            Just(PayFact::Failed),
            Just(PayFact::Paid)
        ];
        let time = || proptest::option::of((0_i64..5).prop_map(Timestamp::from_ms));
        let usd = Currency::parse("usd").unwrap();
        let amounts = proptest::option::of(0_i64..9)
            .prop_map(move |minor| minor.map(|minor| Amounts::of(Money { minor, currency: usd })));
        let metadata = proptest::collection::btree_map("[a-b]", "[a-c]", 0..3);
        (fact, time(), time(), amounts, metadata, text()).prop_map(
            move |(pay_fact, stated_at, paid_at, amounts, metadata, email)| ObjectFacts {
                pay_fact,
                stated_at,
                paid_at,
                amounts,
                amounts_at: amounts.and(paid_at),
                authorized: amounts.map(|amounts| (amounts.total, usd)),
                metadata,
                email,
                ..ObjectFacts::default()
            },
        )
    }

    fn any_payment() -> impl Strategy<Value = Payment> {
        let text = || proptest::option::of("[a-c]{1,2}");
        let teller = prop_oneof![
            Just(ObjectKind::Session),
            Just(ObjectKind::Invoice),
            Just(ObjectKind::PaymentIntent),
            Just(ObjectKind::Charge)
        ];
        let usd = Currency::parse("usd").unwrap();
        let charge = proptest::option::of(0_i64..9).prop_map(move |minor| {
            minor.map(|minor| Charge {
                amount: Some((minor, usd)),
                captured: (minor % 2 == 0).then_some(minor / 2),
                refunded: minor / 2,
            })
        });
        let refund = proptest::option::of((0_i64..9, any::<bool>())).prop_map(move |refund| {
            refund.map(|(minor, has_failed)| Refund {
                amount: Some((minor, usd)),
                charge: None,
                has_failed,
                has_moved_money: minor % 2 == 0,
            })
        });
        let dispute = prop_oneof![
            Just(DisputeState::Inquiry),
            Just(DisputeState::Open),
            Just(DisputeState::Lost),
            Just(DisputeState::Won)
        ];
        let facts = proptest::collection::btree_map(teller, any_facts(), 0..3);
        let ids = proptest::collection::btree_set("[a-c]", 0..3);
        (facts, ids, charge, refund, dispute, text(), text(), any::<bool>()).prop_map(
            |(facts, sessions, charge, refund, state, reference, source_id, livemode)| Payment {
                facts,
                sessions,
                charges: charge.into_iter().map(|charge| ("ch".to_owned(), charge)).collect(),
                refunds: refund.into_iter().map(|refund| ("re".to_owned(), refund)).collect(),
                disputes: [("du".to_owned(), Dispute { state, ..Dispute::default() })].into(),
                client_reference_id: reference,
                source_id,
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

        #[test]
        fn facts_are_stored_as_they_are(payment in any_payment()) {
            let text = serde_json::to_string(&payment).unwrap();
            prop_assert_eq!(serde_json::from_str::<Payment>(&text).unwrap(), payment);
        }
    }

    #[test]
    fn a_late_pending_does_not_undo_paid() {
        let of = |pay_fact| {
            let facts = ObjectFacts { pay_fact, ..ObjectFacts::default() };
            Payment { facts: [(ObjectKind::Session, facts)].into(), ..Payment::default() }
        };
        let mut payment = of(PayFact::Paid);
        payment.absorb(of(PayFact::Pending));
        payment.absorb(of(PayFact::Failed));
        assert_eq!(payment.facts[&ObjectKind::Session].pay_fact, PayFact::Paid);
    }
}
