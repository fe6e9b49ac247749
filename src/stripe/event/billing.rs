//! Reads invoices, their payments, and subscriptions.
//! Takes an object of an `invoice.*`, `invoice_payment.*` or `customer.subscription.*` event, in
//! any API version; returns the facts that it states.
//! Guarantees that a newer field is read first, then the older one; the version itself is never
//! checked.
//! Source: docs.stripe.com/api/invoices/object, /api/invoice-payment/object, /changelog/basil.

use serde_json::Value;

use super::Around;
use super::fields::{
    email, metadata, needed_amount, needed_currency, needed_id, one, reference, side_amount, text,
};
use crate::conversion::payment::{Amounts, Contract, ObjectFacts, ObjectKind, PayFact, Payment};
use crate::money::share;

/// Reads a paid invoice; `None` if nothing was paid, whatever its total, and it starts no
/// subscription. The invoice of a downgrade has a negative total; that Stripe sends it as paid with
/// 0 was not confirmed on a live account.
pub(super) fn read_invoice(object: &Value, around: &Around) -> Result<Option<Payment>, String> {
    let reason = text(&object["billing_reason"]);
    let amounts = invoice_amounts(object)?;
    if amounts.total == 0 && reason.as_deref() != Some("subscription_create") {
        return Ok(None);
    }
    let parent = &object["parent"]["subscription_details"];
    let address = &object["customer_address"];
    let facts = ObjectFacts {
        pay_fact: PayFact::Paid,
        stated_at: Some(around.at),
        paid_at: Some(around.at),
        amounts: Some(amounts),
        amounts_at: Some(around.at),
        metadata: metadata(&object["metadata"]),
        email: email(&object["customer_email"]),
        name: text(&object["customer_name"]),
        phone: text(&object["customer_phone"]),
        country: text(&address["country"]),
        city: text(&address["city"]),
        postal_code: text(&address["postal_code"]),
        description: text(&object["lines"]["data"][0]["description"])
            .or_else(|| text(&object["description"])),
        ..ObjectFacts::default()
    };
    let mut subscription_metadata = metadata(&parent["metadata"]);
    if subscription_metadata.is_empty() {
        subscription_metadata = metadata(&object["subscription_details"]["metadata"]);
    }
    Ok(Some(Payment {
        was_paid_outside_stripe: was_paid_outside_stripe(object, reason.as_deref()),
        facts: [(ObjectKind::Invoice, facts)].into(),
        // An invoice without a reason is still an invoice.
        billing_reason: Some(reason.unwrap_or_else(|| "unknown".to_owned())),
        invoices: one(Some(needed_id(object)?)),
        payment_intents: one(reference(&object["payment_intent"])),
        charges: reference(&object["charge"])
            .map(|id| (id, Default::default()))
            .into_iter()
            .collect(),
        subscription: reference(&parent["subscription"])
            .or_else(|| reference(&object["subscription"]))
            .or_else(|| of_lines(object)),
        customer: reference(&object["customer"]),
        customer_account: reference(&object["customer_account"]),
        subscription_metadata,
        ..around.payment()
    }))
}

/// The subscription that an invoice's lines name.
fn of_lines(object: &Value) -> Option<String> {
    object["lines"]["data"].as_array()?.iter().find_map(|line| {
        reference(&line["parent"]["subscription_item_details"]["subscription"])
            .or_else(|| reference(&line["subscription"]))
    })
}

/// True for an invoice that was created by hand and paid without any attempt by Stripe to charge
/// for it.
fn was_paid_outside_stripe(object: &Value, reason: Option<&str>) -> bool {
    let has_payment =
        reference(&object["payment_intent"]).is_some() || reference(&object["charge"]).is_some();
    let was_never_tried = object["attempt_count"].as_i64() == Some(0);
    let is_outside = was_never_tried || object["paid_out_of_band"] == true;
    reason == Some("manual") && is_outside && !has_payment
}

/// The amounts that were paid. Up to API version 2025-02-24, `amount_paid` lacks money paid outside
/// Stripe; `amount_due` is the total without the part paid from the customer's balance.
fn invoice_amounts(object: &Value) -> Result<Amounts, String> {
    let currency = needed_currency(object)?;
    let whole = side_amount(object, "total");
    let paid = if object["paid_out_of_band"] == true {
        match side_amount(object, "amount_due") {
            Some(due) => due,
            None => needed_amount(object, "total")?,
        }
    } else {
        needed_amount(object, "amount_paid")?
    };
    let without_tax = side_amount(object, "total_excluding_tax");
    let net_of_tax = match (without_tax, whole) {
        (Some(without_tax), Some(whole)) if paid == whole => Some(without_tax),
        (Some(without_tax), Some(whole)) if whole > 0 => Some(share(paid, without_tax, whole)),
        _ => None,
    };
    let tax = whole.zip(without_tax).map(|(whole, without_tax)| (whole - without_tax).max(0));
    Ok(Amounts {
        total: paid,
        currency,
        subtotal: side_amount(object, "subtotal"),
        net_of_tax,
        tax,
        shipping: None,
        discount: None,
    })
}

/// Reads which payment intent or charge paid an invoice.
pub(super) fn read_invoice_payment(object: &Value, around: &Around) -> Result<Payment, String> {
    let invoice = reference(&object["invoice"]).ok_or("data.object.invoice is missing")?;
    let payment = &object["payment"];
    Ok(Payment {
        ties: one(text(&object["id"])),
        invoices: one(Some(invoice)),
        payment_intents: one(reference(&payment["payment_intent"])),
        charges: reference(&payment["charge"])
            .map(|id| (id, Default::default()))
            .into_iter()
            .collect(),
        ..around.payment()
    })
}

/// Reads a subscription and its customer.
pub(super) fn read_subscription(object: &Value, around: &Around) -> Result<Contract, String> {
    Ok(Contract {
        account: around.account.clone(),
        subscription: needed_id(object)?,
        customer: reference(&object["customer"]),
        customer_account: reference(&object["customer_account"]),
        metadata: metadata(&object["metadata"]),
    })
}
