//! What Stripe's own lists say was paid.
//! In: a session or an invoice as its API wrote it. Out: the payment in it, if one counts. Pure.
//! Promise: read apart from the reader of events, so that a mistake there shows as a gap here.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::json;
use crate::money::{Currency, Money};

/// Which list it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Session,
    Invoice,
}

impl Kind {
    /// The event that tells of it.
    pub(super) fn event(self) -> &'static str {
        match self {
            Self::Session => "checkout.session.completed",
            Self::Invoice => "invoice.paid",
        }
    }
}

/// A payment in Stripe's books.
#[derive(Debug)]
pub(super) struct Paid {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) money: Money,
    /// Of a session: the invoice that is the same payment.
    pub(super) invoice: Option<String>,
    pub(super) raw: Box<RawValue>,
}

/// Reads a completed session; `None` when nothing was paid in it, not even zero.
pub(super) fn session(raw: Box<RawValue>) -> Option<Paid> {
    let object = json::lenient(raw.get().as_bytes()).ok()?.value;
    if object["payment_status"] == "unpaid" {
        return None;
    }
    // In the old form of adaptive pricing the session is in the buyer's currency, and the seller's stands apart.
    let converted = &object["currency_conversion"];
    let total = money(&converted["amount_total"], &converted["source_currency"])
        .or_else(|| money(&object["amount_total"], &object["currency"]))?;
    let money = really_paid(&object, total);
    let invoice = &object["invoice"];
    let invoice = invoice.as_str().or_else(|| invoice["id"].as_str()).map(str::to_owned);
    let (id, created) = named(&object)?;
    Some(Paid { kind: Kind::Session, id, created, money, invoice, raw })
}

/// What was paid of a session's total, where its payment intent or its invoice was expanded: less may have been captured, and a subscription's
/// customer may have a credit balance.
fn really_paid(session: &Value, total: Money) -> Money {
    let intent = &session["payment_intent"];
    let is_manual = |received: &Money| {
        let is_in_part = intent["amount"].as_i64().is_some_and(|amount| received.minor < amount);
        intent["capture_method"] == "manual" || is_in_part
    };
    let captured = money(&intent["amount_received"], &intent["currency"])
        .filter(|it| is_manual(it) && it.currency == total.currency);
    let invoice = &session["invoice"];
    let invoiced = money(&invoice["amount_paid"], &invoice["currency"])
        .filter(|it| session["mode"] == "subscription" && it.currency == total.currency);
    let captured = captured.filter(|it| it.minor < total.minor);
    invoiced.or(captured).unwrap_or(total)
}

/// Reads a paid invoice; `None` for one over nothing.
pub(super) fn invoice(raw: Box<RawValue>) -> Option<Paid> {
    let object = json::lenient(raw.get().as_bytes()).ok()?.value;
    let money = money(&object["amount_paid"], &object["currency"]).filter(|paid| paid.minor > 0)?;
    let (id, created) = named(&object)?;
    Some(Paid { kind: Kind::Invoice, id, created, money, invoice: None, raw })
}

fn named(object: &Value) -> Option<(String, Timestamp)> {
    Some((object["id"].as_str()?.to_owned(), Timestamp::from_seconds(object["created"].as_i64()?)))
}

fn money(amount: &Value, currency: &Value) -> Option<Money> {
    Some(Money { minor: amount.as_i64()?, currency: Currency::parse(currency.as_str()?)? })
}

/// When the object of a stored event was created.
pub(super) fn created_in(body: &[u8]) -> Option<Timestamp> {
    let event = json::lenient(body).ok()?.value;
    event["data"]["object"]["created"].as_i64().map(Timestamp::from_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(object: &Value) -> Box<RawValue> {
        RawValue::from_string(object.to_string()).unwrap()
    }

    #[test]
    fn what_counts_is_read_with_the_sellers_money() {
        let base = json!({"id": "cs_1", "created": 5, "amount_total": 100, "currency": "usd", "payment_status": "paid"});
        let with = |key: &str, value: Value| {
            let mut object = base.clone();
            object[key] = value;
            session(raw(&object))
                .map(|paid| format!("{} {}", paid.money.minor, paid.money.currency))
        };
        let rows = [
            ("mode", json!("payment"), Some("100 USD")),
            ("payment_status", json!("unpaid"), None),
            ("payment_status", json!("a word of tomorrow"), Some("100 USD")),
            ("amount_total", json!(0), Some("0 USD")),
            ("amount_total", json!(null), None),
            (
                "payment_intent",
                json!({"capture_method": "manual", "amount_received": 60, "currency": "usd"}),
                Some("60 USD"),
            ),
            (
                "payment_intent",
                json!({"capture_method": "automatic", "amount": 100, "amount_received": 70, "currency": "usd"}),
                Some("70 USD"),
            ),
            ("payment_intent", json!("pi_1"), Some("100 USD")),
            (
                "currency_conversion",
                json!({"amount_total": 90, "source_currency": "eur"}),
                Some("90 EUR"),
            ),
        ];
        for (key, value, expected) in rows {
            assert_eq!(with(key, value.clone()).as_deref(), expected, "{key} {value}");
        }
        assert!(
            invoice(raw(&json!({"id": "in_1", "created": 5, "amount_paid": 0, "currency": "usd"})))
                .is_none()
        );
        assert!(
            invoice(raw(&json!({"id": "in_1", "created": 5, "amount_paid": 7, "currency": "usd"})))
                .is_some()
        );
    }
}
