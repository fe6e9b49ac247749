//! Decides what to ask Stripe's API for, so that a payment becomes complete or matched.
//! Takes a payment and its conversion; returns the Stripe objects that would contain what is
//! missing.
//! Pure; the caller decides when to ask.

use super::join::Match;
use super::payment::Payment;
use super::record::Line;

/// A Stripe object that would complete a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The checkout that this payment intent paid for.
    CheckoutOfIntent(String),
    /// The checkout that started this subscription.
    CheckoutOfSubscription(String),
    /// Earlier checkouts of this customer.
    CheckoutsOfCustomer(String),
    /// The invoice that this payment intent paid.
    InvoiceOfIntent(String),
}

/// What is missing for a payment with this conversion.
pub(super) fn of(payment: &Payment, line: &Line) -> Vec<Missing> {
    let intent = || payment.payment_intents.first().cloned();
    let is_unmatched = matches!(line.result, Match::Unmatched(_));
    let has_no_checkout = payment.sessions.is_empty() && payment.reported.is_none();
    let mut missing = Vec::new();
    if is_unmatched && payment.may_have_checkout() {
        missing.extend(intent().map(Missing::CheckoutOfIntent));
    }
    if is_unmatched && has_no_checkout {
        missing.extend(payment.subscription.clone().map(Missing::CheckoutOfSubscription));
        missing.extend(payment.customer.clone().map(Missing::CheckoutsOfCustomer));
    }
    // Only a refund or dispute of it is known. Since API version 2025-03-31 these name no invoice.
    if line.paid_at.is_none() && has_no_checkout && payment.invoices.is_empty() {
        missing.extend(intent().map(Missing::InvoiceOfIntent));
    }
    missing
}
