//! Reads the objects in Stripe's lists.
//! Takes an object as the API returned it; returns the payment, refund or dispute in it, if one counts.
//! Shares no code with the reader of events, so a mistake there shows as a difference here. Pure.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Part;
use crate::clock::Timestamp;
use crate::json;
use crate::money::{Currency, Money};

/// A payment in Stripe's records.
#[derive(Debug)]
pub(super) struct Paid {
    /// The list it is from.
    pub(super) part: Part,
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) money: Money,
    /// The invoice of a checkout, which is the same payment.
    pub(super) invoice: Option<String>,
    /// The payment intents it was paid by.
    pub(super) intents: Vec<String>,
    pub(super) raw: Box<RawValue>,
}

impl Paid {
    /// The type of event that reports it.
    pub(super) fn event(&self) -> &'static str {
        match self.part {
            Part::Invoices => "invoice.paid",
            Part::PaymentIntents => "payment_intent.succeeded",
            Part::Checkouts | Part::Refunds | Part::Disputes => "checkout.session.completed",
        }
    }

    /// Of an invoice: what connects it with a payment intent that paid it.
    pub(super) fn invoice_payment(&self, intent: &str) -> Option<Box<RawValue>> {
        let object = json::lenient(self.raw.get().as_bytes()).ok()?.value;
        let payments = object["payments"]["data"].as_array()?;
        let its = |payment: &&Value| {
            reference(&payment["payment"]["payment_intent"]).as_deref() == Some(intent)
        };
        let payment = payments.iter().find(its)?;
        RawValue::from_string(payment.to_string()).ok()
    }
}

/// A completed checkout session, paid or not.
pub(super) struct Session {
    /// Its payment intent, which is no payment of its own.
    pub(super) intent: Option<String>,
    /// `None` if nothing was paid in it, not even zero.
    pub(super) paid: Option<Paid>,
}

/// A payment intent that succeeded.
pub(super) struct Intent {
    pub(super) paid: Paid,
    /// Its metadata has a value for the key that the seller uses.
    pub(super) has_metadata: bool,
    /// It names an invoice, as old API versions do.
    pub(super) is_of_invoice: bool,
}

/// What a refund or dispute is about.
#[derive(Debug, Default)]
pub(super) struct About {
    pub(super) charge: Option<String>,
    pub(super) intent: Option<String>,
}

/// A refund in Stripe's records.
#[derive(Debug)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) money: Money,
    pub(super) about: About,
    /// Stripe's own word: `succeeded`, `pending`, `failed`, …
    pub(super) status: String,
    /// It only releases an authorization that was not captured, so nobody got money back.
    pub(super) is_release: bool,
    /// All refunds of its charge so far, as the charge has it.
    pub(super) refunded_of_charge: Option<i64>,
    pub(super) raw: Box<RawValue>,
}

impl Refund {
    /// It failed or was canceled: the seller has the money.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.status.as_str(), "failed" | "canceled")
    }
}

/// What a dispute does to the seller's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// None: it is won, or only a question of the bank.
    None,
    /// The money is withheld until it is decided.
    Withheld,
    /// The money is gone.
    Lost,
}

/// A dispute in Stripe's records.
#[derive(Debug)]
pub(super) struct Dispute {
    pub(super) id: String,
    pub(super) created: Timestamp,
    pub(super) money: Money,
    pub(super) about: About,
    /// Stripe's own word: `needs_response`, `lost`, …
    pub(super) status: String,
    pub(super) effect: Effect,
    pub(super) raw: Box<RawValue>,
}

/// Reads a completed session.
pub(super) fn session(raw: Box<RawValue>) -> Option<Session> {
    let object = json::lenient(raw.get().as_bytes()).ok()?.value;
    let intent = reference(&object["payment_intent"]);
    Some(Session { paid: paid_session(&object, intent.clone(), raw), intent })
}

fn paid_session(object: &Value, intent: Option<String>, raw: Box<RawValue>) -> Option<Paid> {
    if object["payment_status"] == "unpaid" {
        return None;
    }
    // In the old form of adaptive pricing the session is in the buyer's currency, and the seller's is a field of its own.
    let converted = &object["currency_conversion"];
    let total = money(&converted["amount_total"], &converted["source_currency"])
        .or_else(|| money(&object["amount_total"], &object["currency"]))?;
    let money = really_paid(object, total);
    let (id, created) = named(object)?;
    let invoice = reference(&object["invoice"]);
    let intents = intent.into_iter().collect();
    Some(Paid { part: Part::Checkouts, id, created, money, invoice, intents, raw })
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
    let payments = object["payments"]["data"].as_array().into_iter().flatten();
    let intents = payments
        .map(|payment| &payment["payment"]["payment_intent"])
        .chain([&object["payment_intent"]])
        .filter_map(reference)
        .collect();
    Some(Paid { part: Part::Invoices, id, created, money, invoice: None, intents, raw })
}

/// Reads a payment intent; `None` if nothing was received for it.
pub(super) fn intent(raw: Box<RawValue>, metadata_key: &str) -> Option<Intent> {
    let object = json::lenient(raw.get().as_bytes()).ok()?.value;
    let received = money(&object["amount_received"], &object["currency"])?;
    if object["status"] != "succeeded" || received.minor == 0 {
        return None;
    }
    let (id, created) = named(&object)?;
    let has_metadata =
        object["metadata"][metadata_key].as_str().is_some_and(|value| !value.trim().is_empty());
    let is_of_invoice = reference(&object["invoice"]).is_some();
    let (part, intents) = (Part::PaymentIntents, vec![id.clone()]);
    let paid = Paid { part, id, created, money: received, invoice: None, intents, raw };
    Some(Intent { paid, has_metadata, is_of_invoice })
}

/// Reads a refund; its charge may be expanded.
pub(super) fn refund(raw: Box<RawValue>) -> Option<Refund> {
    let object = json::lenient(raw.get().as_bytes()).ok()?.value;
    let money = money(&object["amount"], &object["currency"])?;
    let (id, created) = named(&object)?;
    let charge = &object["charge"];
    let is_uncaptured = charge["captured"] == false || charge["amount_captured"] == 0;
    let released = charge["amount"]
        .as_i64()
        .zip(charge["amount_captured"].as_i64())
        .map(|(authorized, captured)| authorized - captured);
    let has_moved_money = reference(&object["balance_transaction"]).is_some();
    let is_rest = !has_moved_money && money.minor > 0 && released == Some(money.minor);
    Some(Refund {
        id,
        created,
        money,
        about: about(&object),
        status: object["status"].as_str().unwrap_or_default().to_owned(),
        is_release: is_uncaptured || is_rest,
        refunded_of_charge: charge["amount_refunded"].as_i64(),
        raw,
    })
}

/// Reads a dispute.
pub(super) fn dispute(raw: Box<RawValue>) -> Option<Dispute> {
    let object = json::lenient(raw.get().as_bytes()).ok()?.value;
    let money = money(&object["amount"], &object["currency"])?;
    let (id, created) = named(&object)?;
    let status = object["status"].as_str().unwrap_or_default().to_owned();
    let effect = match status.as_str() {
        "won" | "prevented" | "charge_refunded" => Effect::None,
        "lost" => Effect::Lost,
        word if word.starts_with("warning_") => Effect::None,
        _ => Effect::Withheld,
    };
    Some(Dispute { id, created, money, about: about(&object), status, effect, raw })
}

fn about(object: &Value) -> About {
    let charge = &object["charge"];
    About {
        charge: reference(charge),
        intent: reference(&object["payment_intent"])
            .or_else(|| reference(&charge["payment_intent"])),
    }
}

fn named(object: &Value) -> Option<(String, Timestamp)> {
    Some((object["id"].as_str()?.to_owned(), Timestamp::from_seconds(object["created"].as_i64()?)))
}

/// An ID, or that of the expanded object.
fn reference(value: &Value) -> Option<String> {
    let id = value.as_str().or_else(|| value["id"].as_str());
    id.filter(|id| !id.is_empty()).map(str::to_owned)
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
                .and_then(|session| session.paid)
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

    #[test]
    fn refunds_are_read_with_what_their_charge_says() {
        let read = |status: &str, charge: Value, transaction: Value| {
            refund(raw(&json!({"id": "re_1", "created": 5, "amount": 40, "currency": "usd", "status": status,
                               "charge": charge, "payment_intent": "pi_1", "balance_transaction": transaction})))
            .map(|refund| (refund.has_failed(), refund.is_release, refund.about.charge))
        };
        let charge = |captured: i64| json!({"id": "ch_1", "amount": 100, "amount_captured": captured, "amount_refunded": 40});
        let one = || Some("ch_1".to_owned());
        let rows = [
            ("succeeded", json!("ch_1"), json!("txn_1"), Some((false, false, one()))),
            ("pending", charge(100), json!(null), Some((false, false, one()))),
            ("failed", charge(100), json!("txn_1"), Some((true, false, one()))),
            ("canceled", json!(null), json!(null), Some((true, false, None))),
            ("succeeded", charge(0), json!(null), Some((false, true, one()))),
            ("succeeded", charge(60), json!(null), Some((false, true, one()))),
            ("succeeded", charge(60), json!("txn_1"), Some((false, false, one()))),
        ];
        for (status, charge, transaction, expected) in rows {
            assert_eq!(read(status, charge.clone(), transaction), expected, "{status} {charge}");
        }
        assert!(refund(raw(&json!({"id": "re_1", "created": 5, "amount": "40"}))).is_none());
    }

    #[test]
    fn disputes_are_read_by_what_they_do_to_the_money() {
        let rows = [
            ("warning_needs_response", Effect::None),
            ("prevented", Effect::None),
            ("won", Effect::None),
            ("needs_response", Effect::Withheld),
            ("appeal_under_review", Effect::Withheld),
            ("a_new_status", Effect::Withheld),
            ("lost", Effect::Lost),
        ];
        for (status, effect) in rows {
            let object = json!({"id": "du_1", "created": 5, "amount": 9, "currency": "eur", "status": status, "charge": "ch_1"});
            assert_eq!(dispute(raw(&object)).unwrap().effect, effect, "{status}");
        }
    }

    #[test]
    fn payment_intents_are_read_once_they_succeeded() {
        let read = |status: &str, received: i64, metadata: Value| {
            let object = json!({"id": "pi_1", "created": 5, "amount": 100, "amount_received": received, "currency": "usd",
                                "status": status, "metadata": metadata});
            intent(raw(&object), "click_id").map(|it| (it.paid.money.minor, it.has_metadata))
        };
        assert_eq!(read("succeeded", 60, json!({})), Some((60, false)));
        assert_eq!(read("succeeded", 100, json!({"click_id": "ck_1"})), Some((100, true)));
        assert_eq!(read("succeeded", 100, json!({"click_id": " "})), Some((100, false)));
        assert_eq!(read("requires_capture", 0, json!({})), None);
        assert_eq!(read("processing", 0, json!({})), None);
    }
}
