//! Summarizes an event in one sentence for users.
//! Takes the object and what was read from it; returns a sentence with the IDs and amounts that
//! matter.
//! Pure.

use serde_json::Value;

use super::fields::{currency, reference, side_amount, text};
use super::reading::{Around, Reading};
use crate::domain::IgnoredReason;
use crate::money::Money;

/// Returns the sentence; `None` for events that are not read.
pub(super) fn of(object: &Value, around: &Around, reading: &Reading) -> Option<String> {
    if matches!(reading, Reading::Ignored(IgnoredReason::UnsupportedType) | Reading::Unreadable(_))
    {
        return None;
    }
    let about = |key: &str| reference(&object[key]).unwrap_or_else(|| "unknown".to_owned());
    let word = |key: &str| text(&object[key]).unwrap_or_else(|| "no status".to_owned());
    let words = |key: &str| word(key).replace('_', " ");
    let money = |key: &str| money(object, key);
    let id = text(&object["id"]).unwrap_or_else(|| "without an ID".to_owned());
    let (amount, total) = (money("amount"), money("amount_total"));
    let (charge, intent, status) = (about("charge"), about("payment_intent"), word("status"));
    let is_authorized_only = object["captured"] == false;
    Some(match around.kind.as_str() {
        "checkout.session.completed" => {
            format!("Checkout {id}: {total}, {}, {}.", words("payment_status"), came_with(object))
        }
        "checkout.session.async_payment_succeeded" => format!("Checkout {id} was paid: {total}."),
        "checkout.session.async_payment_failed" => {
            format!("The payment of checkout {id} failed: {total}.")
        }
        "checkout.session.expired" => {
            format!("Checkout {id} for {total} expired unpaid, with {}.", came_with(object))
        }
        "invoice.paid" => {
            format!("Invoice {id} ({}): {} paid.", words("billing_reason"), money("amount_paid"))
        }
        "invoice_payment.paid" => {
            let payment = &object["payment"];
            let by = reference(&payment["payment_intent"])
                .or_else(|| reference(&payment["charge"]))
                .unwrap_or_else(|| "a payment outside Stripe".to_owned());
            format!("Invoice {} was paid by {by}.", about("invoice"))
        }
        "customer.subscription.created" => {
            format!("Subscription {id} belongs to customer {}.", about("customer"))
        }
        "payment_intent.succeeded" => {
            format!("Payment intent {id}: {} received.", money("amount_received"))
        }
        "payment_intent.amount_capturable_updated" => {
            let amount = money("amount_capturable");
            format!("Payment intent {id}: {amount} authorized and not captured yet.")
        }
        "payment_intent.canceled" => format!("Payment intent {id} for {amount} was canceled."),
        "charge.captured" => {
            let captured = money("amount_captured");
            format!("Charge {id} of payment intent {intent}: {captured} of {amount} captured.")
        }
        "charge.succeeded" if is_authorized_only => format!(
            "Charge {id} of payment intent {intent}: {amount} authorized and not captured yet."
        ),
        "charge.succeeded" => format!("Charge {id} of payment intent {intent}: {amount}."),
        "charge.refunded" if is_authorized_only => format!(
            "The authorization of charge {id} for {amount} was released; no money was taken."
        ),
        "charge.refunded" => {
            format!("Charge {id}: {} of {amount} refunded so far.", money("amount_refunded"))
        }
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            format!("Refund {id} of charge {charge}: {amount}, {status}.")
        }
        kind if kind.starts_with("charge.dispute.") => {
            format!("Dispute {id} about charge {charge}: {amount}, {}.", words("status"))
        }
        _ => return None,
    })
}

fn came_with(object: &Value) -> String {
    text(&object["client_reference_id"])
        .map_or_else(|| "no reference".to_owned(), |reference| format!("reference {reference}"))
}

fn money(object: &Value, key: &str) -> String {
    match side_amount(object, key).zip(currency(&object["currency"])) {
        Some((minor, currency)) => {
            format!("{} {currency}", Money { minor, currency }.decimal())
        }
        None => "no amount".to_owned(),
    }
}
