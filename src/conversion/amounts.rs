//! The amount of a payment.
//! Takes what each of its objects states; returns the total that was really paid, with its parts.
//! Guarantees that neither the order of events nor their repetition changes it. Pure.

use serde::{Deserialize, Serialize};

use super::payment::{ObjectKind, Payment};
use super::reported::Reported;
use crate::money::{Currency, Money, share};

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

    /// The same purchase with another total: each part is scaled by its share.
    fn with_total(self, total: i64) -> Self {
        if total == self.total {
            return self;
        }
        if self.total == 0 {
            return Self::of(Money { minor: total, currency: self.currency });
        }
        let part = |minor: Option<i64>| minor.map(|minor| share(minor, total, self.total));
        Self {
            total,
            currency: self.currency,
            subtotal: part(self.subtotal),
            net_of_tax: part(self.net_of_tax),
            tax: part(self.tax),
            shipping: part(self.shipping),
            discount: part(self.discount),
        }
    }
}

impl Payment {
    /// The amounts from the most reliable object, with the total that was really paid.
    pub(crate) fn amounts(&self) -> Option<Amounts> {
        if let Some(reported) = self.reported.as_ref().and_then(Reported::amount) {
            return Some(Amounts::of(reported));
        }
        if let Some(session) = self.facts.get(&ObjectKind::Session).and_then(|facts| facts.amounts)
        {
            return Some(session.with_total(self.paid_of_session(session)));
        }
        let authorized = || {
            let (minor, currency) = self.best(|facts| facts.authorized)?;
            Some(Amounts::of(Money { minor, currency }))
        };
        self.best(|facts| facts.amounts).or_else(authorized)
    }

    /// The part of a checkout's total that was paid. Stripe's session keeps its total after a
    /// smaller capture, and ignores a customer's credit balance; neither was confirmed on a live
    /// account.
    fn paid_of_session(&self, session: Amounts) -> i64 {
        let of = |teller| {
            let amounts = self.facts.get(&teller).and_then(|facts| facts.amounts);
            amounts.filter(|amounts| amounts.currency == session.currency)
        };
        if self.is_subscription_checkout()
            && let Some(invoice) = of(ObjectKind::Invoice)
        {
            return invoice.total;
        }
        let intent = of(ObjectKind::PaymentIntent).filter(|_| self.is_manual_capture);
        let captured = match intent {
            Some(intent) => Some(intent.total),
            None => self.partly_captured(session),
        };
        captured.map_or(session.total, |captured| captured.min(session.total))
    }

    /// The amount captured by the payment's only charge, if it is less than authorized, which
    /// happens only with manual capture. A charge in another currency counts by its share.
    fn partly_captured(&self, session: Amounts) -> Option<i64> {
        let mut charges = self.charges.values();
        let (charge, None) = (charges.next()?, charges.next()) else { return None };
        let (captured, authorized, currency) = charge.captured_in_part()?;
        Some(match currency == session.currency {
            true => captured,
            false => share(session.total, captured, authorized),
        })
    }
}
