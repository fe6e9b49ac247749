//! Reads payment intents, charges, refunds and disputes.
//! Takes an object of such an event, in any API version; returns the facts that it states.
//! Guarantees that a refund or dispute is linked to its payment by charge and payment intent only,
//! never by amount.
//! Source: docs.stripe.com/api/payment_intents/object, /api/charges/object, /api/refunds/object,
//! /api/disputes/object.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Around;
use super::fields::{
    amount, currency, email, metadata, needed_amount, needed_currency, needed_id, one, reference,
    side_amount, text,
};
use crate::conversion::adjustment::{Charge, Dispute, DisputeState, Refund};
use crate::conversion::payment::{Amounts, ObjectFacts, ObjectKind, PayFact, Payment};
use crate::money::{Currency, Money};

/// Reads a payment intent that succeeded, was canceled, or was authorized and not captured yet.
pub(super) fn read_payment_intent(object: &Value, around: &Around) -> Result<Payment, String> {
    let facts = match around.kind.as_str() {
        "payment_intent.canceled" => {
            ObjectFacts { pay_fact: PayFact::Failed, ..ObjectFacts::default() }
        }
        "payment_intent.amount_capturable_updated" => authorized(object, around)?,
        _ => received(object, around)?,
    };
    let facts = ObjectFacts {
        metadata: metadata(&object["metadata"]),
        email: email(&object["receipt_email"]),
        description: text(&object["description"]),
        ..facts
    };
    Ok(Payment {
        facts: [(ObjectKind::PaymentIntent, facts)].into(),
        is_manual_capture: is_captured_by_hand(object, around),
        payment_intents: one(Some(needed_id(object)?)),
        charges: bare(reference(&object["latest_charge"])),
        invoices: one(reference(&object["invoice"])),
        customer: reference(&object["customer"]),
        customer_account: reference(&object["customer_account"]),
        ..around.payment()
    })
}

/// True if the seller captures the money later. A checkout may set this for one payment method
/// only, and then the intent does not say so.
fn is_captured_by_hand(object: &Value, around: &Around) -> bool {
    let is_in_part = side_amount(object, "amount_received")
        .zip(side_amount(object, "amount"))
        .is_some_and(|(received, amount)| received < amount);
    object["capture_method"] == "manual"
        || around.kind == "payment_intent.amount_capturable_updated"
        || (around.kind == "payment_intent.succeeded" && is_in_part)
}

fn received(object: &Value, around: &Around) -> Result<ObjectFacts, String> {
    let minor = match amount(object, "amount_received")? {
        Some(received) => received,
        None => needed_amount(object, "amount")?,
    };
    Ok(ObjectFacts {
        pay_fact: PayFact::Paid,
        stated_at: Some(around.at),
        paid_at: Some(around.at),
        amounts: Some(Amounts::of(Money { minor, currency: needed_currency(object)? })),
        amounts_at: Some(around.at),
        ..ObjectFacts::default()
    })
}

/// Reads an authorization; states nothing once all of it was captured.
fn authorized(object: &Value, around: &Around) -> Result<ObjectFacts, String> {
    if side_amount(object, "amount_capturable") == Some(0) {
        return Ok(ObjectFacts::default());
    }
    Ok(ObjectFacts {
        pay_fact: PayFact::Authorized,
        stated_at: Some(around.at),
        authorized: Some((needed_amount(object, "amount")?, needed_currency(object)?)),
        ..ObjectFacts::default()
    })
}

/// Reads a charge. It creates no conversion, but links objects and states what was captured,
/// released and refunded.
pub(super) fn read_charge(object: &Value, around: &Around) -> Result<Payment, String> {
    let (id, whole) = (needed_id(object)?, needed_amount(object, "amount")?);
    let currency = needed_currency(object)?;
    let refunded = amount(object, "amount_refunded")?.unwrap_or(0);
    let captured = captured(object)?;
    // The part that was never captured was released, which is no refund.
    let is_given_back = refunded > captured.map_or(0, |captured| (whole - captured).max(0));
    let details = &object["billing_details"];
    let address = &details["address"];
    let paid = Money { minor: captured.unwrap_or(whole), currency };
    let amounts = (captured != Some(0)).then(|| Amounts::of(paid));
    let facts = ObjectFacts {
        pay_fact: match captured {
            Some(0) if refunded > 0 || object["refunded"] == true => PayFact::Failed,
            Some(0) => PayFact::Authorized,
            Some(_) | None => PayFact::Unknown,
        },
        amounts,
        amounts_at: amounts.map(|_| around.at),
        metadata: metadata(&object["metadata"]),
        email: email(&details["email"]).or_else(|| email(&object["receipt_email"])),
        name: text(&details["name"]),
        phone: text(&details["phone"]),
        country: text(&address["country"]),
        city: text(&address["city"]),
        postal_code: text(&address["postal_code"]),
        description: text(&object["description"]),
        ..ObjectFacts::default()
    };
    Ok(Payment {
        facts: [(ObjectKind::Charge, facts)].into(),
        charges: [(id, Charge { amount: Some((whole, currency)), captured, refunded })].into(),
        payment_intents: one(reference(&object["payment_intent"])),
        invoices: one(reference(&object["invoice"])),
        customer: reference(&object["customer"]),
        customer_account: reference(&object["customer_account"]),
        adjusted_at: is_given_back.then_some(around.at),
        ..around.payment()
    })
}

/// The captured amount of a charge; `None` if it is not stated, which means all of it.
fn captured(object: &Value) -> Result<Option<i64>, String> {
    let amount = amount(object, "amount_captured")?;
    Ok(match object["captured"].as_bool() {
        Some(false) => Some(amount.unwrap_or(0)),
        // A delayed payment method may be marked as captured before the amount is stated.
        Some(true) => amount.filter(|captured| *captured > 0),
        None => amount,
    })
}

/// Reads a refund.
pub(super) fn read_refund(object: &Value, around: &Around) -> Result<Payment, String> {
    let amount = (needed_amount(object, "amount")?, needed_currency(object)?);
    let charge = reference(&object["charge"]);
    let refund = Refund {
        amount: Some(amount),
        charge: charge.clone(),
        has_failed: around.kind == "refund.failed"
            || matches!(object["status"].as_str(), Some("failed" | "canceled")),
        has_moved_money: reference(&object["balance_transaction"]).is_some(),
    };
    let refunds = [(needed_id(object)?, refund)].into();
    Ok(Payment { refunds, ..adjustment(object, charge, around)? })
}

/// Reads a dispute.
pub(super) fn read_dispute(object: &Value, around: &Around) -> Result<Payment, String> {
    let charge = reference(&object["charge"]);
    let dispute = Dispute {
        state: match object["status"].as_str() {
            // The older status of a dispute that ended because the charge had been refunded: it
            // takes nothing.
            Some("won" | "charge_refunded") => DisputeState::Won,
            Some("lost") => DisputeState::Lost,
            Some("prevented") => DisputeState::Inquiry,
            Some(word) if word.starts_with("warning_") => DisputeState::Inquiry,
            _ => DisputeState::Open,
        },
        amount: sum(object)?,
        charge: charge.clone(),
        reason: text(&object["reason"]),
    };
    let disputes = [(needed_id(object)?, dispute)].into();
    Ok(Payment { disputes, ..adjustment(object, charge, around)? })
}

/// An amount with its currency, if both are stated.
fn sum(object: &Value) -> Result<Option<(i64, Currency)>, String> {
    Ok(amount(object, "amount")?.zip(currency(&object["currency"])))
}

/// The payment that a refund or dispute is about. Both references may be expanded objects, which
/// contain more.
fn adjustment(object: &Value, charge: Option<String>, around: &Around) -> Result<Payment, String> {
    let intent = reference(&object["payment_intent"])
        .or_else(|| reference(&object["charge"]["payment_intent"]));
    if charge.is_none() && intent.is_none() {
        return Err("data.object.charge and data.object.payment_intent are missing".to_owned());
    }
    Ok(Payment {
        charges: bare(charge),
        payment_intents: one(intent),
        adjusted_at: Some(around.at),
        ..around.payment()
    })
}

/// A charge with an ID and no other facts.
fn bare(id: Option<String>) -> BTreeMap<String, Charge> {
    id.map(|id| (id, Charge::default())).into_iter().collect()
}
