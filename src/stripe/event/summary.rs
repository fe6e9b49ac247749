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
    let id = text(&object["id"]).unwrap_or_else(|| "without an ID".to_owned());
    let about = |key: &str| reference(&object[key]).unwrap_or_else(|| "unknown".to_owned());
    let word = |key: &str| text(&object[key]).unwrap_or_else(|| "no status".to_owned());
    let sentence = match around.kind.as_str() {
        "checkout.session.completed" => format!(
            "Checkout {id}: {}, {}, {}.",
            money(object, "amount_total"),
            word("payment_status").replace('_', " "),
            came_with(object)
        ),
        "checkout.session.async_payment_succeeded" => {
            format!("Checkout {id} was paid: {}.", money(object, "amount_total"))
        }
        "checkout.session.async_payment_failed" => {
            format!("The payment of checkout {id} failed: {}.", money(object, "amount_total"))
        }
        "checkout.session.expired" => format!(
            "Checkout {id} for {} expired unpaid, with {}.",
            money(object, "amount_total"),
            came_with(object)
        ),
        "invoice.paid" => format!(
            "Invoice {id} ({}): {} paid.",
            word("billing_reason").replace('_', " "),
            money(object, "amount_paid")
        ),
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
            format!("Payment intent {id}: {} received.", money(object, "amount_received"))
        }
        "payment_intent.amount_capturable_updated" => format!(
            "Payment intent {id}: {} authorized and not captured yet.",
            money(object, "amount_capturable")
        ),
        "payment_intent.canceled" => {
            format!("Payment intent {id} for {} was canceled.", money(object, "amount"))
        }
        "charge.captured" => format!(
            "Charge {id} of payment intent {}: {} of {} captured.",
            about("payment_intent"),
            money(object, "amount_captured"),
            money(object, "amount")
        ),
        "charge.succeeded" if object["captured"] == false => format!(
            "Charge {id} of payment intent {}: {} authorized and not captured yet.",
            about("payment_intent"),
            money(object, "amount")
        ),
        "charge.succeeded" => {
            format!(
                "Charge {id} of payment intent {}: {}.",
                about("payment_intent"),
                money(object, "amount")
            )
        }
        "charge.refunded" if object["captured"] == false => format!(
            "The authorization of charge {id} for {} was released; no money was taken.",
            money(object, "amount")
        ),
        "charge.refunded" => format!(
            "Charge {id}: {} of {} refunded so far.",
            money(object, "amount_refunded"),
            money(object, "amount")
        ),
        kind if kind.contains("refund") => {
            format!(
                "Refund {id} of charge {}: {}, {}.",
                about("charge"),
                money(object, "amount"),
                word("status")
            )
        }
        _ => format!(
            "Dispute {id} about charge {}: {}, {}.",
            about("charge"),
            money(object, "amount"),
            word("status").replace('_', " ")
        ),
    };
    Some(sentence)
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
