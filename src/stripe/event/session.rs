//! Reads checkout sessions.
//! Takes a session of a `checkout.session.*` event; returns the payment that it states, or the
//! abandoned checkout.
//! Pure. Source: docs.stripe.com/api/checkout/sessions/object.

use serde_json::Value;

use super::Around;
use super::fields::{
    amount, currency, email, metadata, needed_currency, needed_id, one, reference, side_amount,
    text,
};
use crate::conversion::payment::{
    Amounts, Mode, ObjectFacts, ObjectKind, PayFact, Payment, Presented,
};
use crate::money::share;

/// Reads a session; `fact` is the payment status that the event's type states, `None` if the
/// session's own status counts.
pub(super) fn read(
    object: &Value,
    around: &Around,
    fact: Option<PayFact>,
) -> Result<Payment, String> {
    let pay_fact = fact.unwrap_or_else(|| match object["payment_status"].as_str() {
        Some("paid" | "no_payment_required") => PayFact::Paid,
        _ => PayFact::Pending,
    });
    let mode = match object["mode"].as_str() {
        Some("payment") => Some(Mode::Payment),
        Some("setup") => Some(Mode::Setup),
        Some("subscription") => Some(Mode::Subscription),
        _ => None,
    };
    let details = &object["customer_details"];
    let address = &details["address"];
    let amounts = read_amounts(object, mode)?;
    let facts = ObjectFacts {
        pay_fact,
        stated_at: Some(around.at),
        paid_at: (pay_fact == PayFact::Paid).then_some(around.at),
        amounts,
        amounts_at: amounts.map(|_| around.at),
        metadata: metadata(&object["metadata"]),
        email: email(&details["email"]).or_else(|| email(&object["customer_email"])),
        name: text(&details["name"]),
        phone: text(&details["phone"]),
        country: text(&address["country"]),
        city: text(&address["city"]),
        postal_code: text(&address["postal_code"]),
        description: description(object),
        ..ObjectFacts::default()
    };
    Ok(Payment {
        mode,
        facts: [(ObjectKind::Session, facts)].into(),
        sessions: one(Some(needed_id(object)?)),
        payment_intents: one(reference(&object["payment_intent"])),
        invoices: one(reference(&object["invoice"])),
        subscription: reference(&object["subscription"]),
        customer: reference(&object["customer"]),
        customer_account: reference(&object["customer_account"]),
        payment_link: reference(&object["payment_link"]),
        recovered_from: reference(&object["recovered_from"]),
        client_reference_id: text(&object["client_reference_id"]),
        presented: presented(object),
        ..around.payment()
    })
}

/// Reads an expired session: it states no payment, but which checkout was abandoned.
pub(super) fn read_expired(object: &Value, around: &Around) -> Result<Payment, String> {
    // The amount is informative only; an unreadable one must not hide the abandoned checkout.
    let amounts = read_amounts(object, None).ok().flatten();
    let facts = ObjectFacts {
        amounts,
        amounts_at: amounts.map(|_| around.at),
        metadata: metadata(&object["metadata"]),
        ..ObjectFacts::default()
    };
    Ok(Payment {
        facts: [(ObjectKind::Session, facts)].into(),
        sessions: one(Some(needed_id(object)?)),
        expired_at: Some(around.at),
        recovered_from: reference(&object["recovered_from"]),
        client_reference_id: text(&object["client_reference_id"]),
        payment_link: reference(&object["payment_link"]),
        ..around.payment()
    })
}

/// The seller's amounts. They may be null only where nothing could be paid.
fn read_amounts(object: &Value, mode: Option<Mode>) -> Result<Option<Amounts>, String> {
    let total = amount(object, "amount_total")?;
    let Some(total) = total else {
        return if mode == Some(Mode::Setup) {
            Ok(None)
        } else {
            Err("data.object.amount_total is missing".to_owned())
        };
    };
    let bought_in = needed_currency(object)?;
    let totals = &object["total_details"];
    let tax = side_amount(totals, "amount_tax");
    // The older form of adaptive pricing: the session is in the buyer's currency, and the seller's
    // amounts are separate.
    let conversion = &object["currency_conversion"];
    if let Some(converted) = amount(conversion, "amount_total")? {
        let seller = currency(&conversion["source_currency"])
            .ok_or("data.object.currency_conversion.source_currency is not a currency code")?;
        let tax = tax.map(|tax| if total == 0 { tax } else { share(converted, tax, total) });
        return Ok(Some(Amounts {
            total: converted,
            currency: seller,
            subtotal: side_amount(conversion, "amount_subtotal"),
            net_of_tax: tax.map(|tax| (converted - tax).max(0)),
            tax,
            shipping: None,
            discount: None,
        }));
    }
    Ok(Some(Amounts {
        total,
        currency: bought_in,
        subtotal: side_amount(object, "amount_subtotal"),
        net_of_tax: tax.map(|tax| (total - tax).max(0)),
        tax,
        shipping: side_amount(totals, "amount_shipping"),
        discount: side_amount(totals, "amount_discount"),
    }))
}

/// The amount in the buyer's currency, if it is not the seller's.
fn presented(object: &Value) -> Option<Presented> {
    let details = &object["presentment_details"];
    let new =
        details["presentment_amount"].as_i64().zip(currency(&details["presentment_currency"]));
    let old = || {
        object["currency_conversion"].is_object().then_some(())?;
        object["amount_total"].as_i64().zip(currency(&object["currency"]))
    };
    new.or_else(old).map(|(minor, currency)| Presented { minor, currency })
}

/// What was bought, if the event says so (only if the sender expanded the line items, or the
/// session has a description).
fn description(object: &Value) -> Option<String> {
    let item = &object["line_items"]["data"][0];
    text(&item["description"]).or_else(|| text(&object["description"]))
}
