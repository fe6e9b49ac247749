//! Reading a Stripe event.
//! In: the raw body. Out: its envelope, and the `Payment` it states, or why it states none.
//! Promise: absent, null and empty mean the same; unknown words are never an error; only what is truly needed and unreadable
//! fails the event, and then names the path. Pure. Source: docs.stripe.com/api/events and /checkout/sessions/object.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::conversion::payment::{Amounts, Mode, PayFact, Payment, Presented};
use crate::ids;
use crate::money::Currency;

/// Longest envelope text kept; Stripe's are far shorter.
const MAX_TEXT_CHARS: usize = 200;
/// Longest metadata value kept; Stripe allows 500.
const MAX_METADATA_CHARS: usize = 500;
/// Most digits of an amount: Stripe documents twelve at most.
const MAX_AMOUNT: i64 = 999_999_999_999_999;

/// What the event says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) account: String,
    pub(crate) event_id: String,
    pub(crate) kind: String,
    pub(crate) object_id: String,
    pub(crate) livemode: bool,
    pub(crate) api_version: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
}

/// What an event comes to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// It states a payment, or more about one.
    Payment(Box<Payment>),
    /// It states nothing we keep a ledger of.
    Ignored(&'static str),
    /// It should state a payment but cannot be read; the text names the path.
    Unreadable(String),
}

/// Reads the envelope. `None` when the body is not a JSON object.
pub(crate) fn envelope(body: &[u8]) -> Option<Envelope> {
    let event: Value = serde_json::from_slice(body).ok()?;
    event.is_object().then(|| read_envelope(&event, body))
}

fn read_envelope(event: &Value, body: &[u8]) -> Envelope {
    let object = &event["data"]["object"];
    let object_id =
        text(&object["id"]).or_else(|| text(&event["related_object"]["id"])).unwrap_or_default();
    let in_context = |context: String| {
        context.split('/').rfind(|part| part.starts_with("acct_")).map(str::to_owned)
    };
    let account = text(&event["account"]).or_else(|| text(&event["context"]).and_then(in_context));
    let by_form = !object_id.starts_with("cs_test_");
    Envelope {
        account: account.unwrap_or_default(),
        // A body without an ID is named by its bytes, so that a retry of the same bytes is a repeat.
        event_id: text(&event["id"])
            .unwrap_or_else(|| format!("body_{}", &ids::sha256_hex(body)[..32])),
        kind: text(&event["type"]).unwrap_or_default(),
        livemode: event["livemode"]
            .as_bool()
            .or_else(|| object["livemode"].as_bool())
            .unwrap_or(by_form),
        object_id,
        api_version: text(&event["api_version"]),
        created_at: event["created"].as_i64().map(Timestamp::from_seconds),
    }
}

/// Reads what an event states. `received_at` stands in for a missing `created`.
pub(crate) fn read(body: &[u8], received_at: Timestamp) -> Reading {
    let Ok(event) = serde_json::from_slice::<Value>(body) else {
        return Reading::Unreadable("the body is not JSON".to_owned());
    };
    let envelope = read_envelope(&event, body);
    if event["object"] == "v2.core.event" {
        return match envelope.kind.as_str() {
            "v2.core.event_destination.ping" => Reading::Ignored("ping"),
            _ => Reading::Unreadable(
                "thin_event_needs_api_key: set the payload style of this endpoint to snapshot in Stripe".to_owned(),
            ),
        };
    }
    // The kind of object comes from the event's type, never from an ID's prefix.
    let fact = match envelope.kind.as_str() {
        "checkout.session.completed" => None,
        "checkout.session.async_payment_succeeded" => Some(PayFact::Paid),
        "checkout.session.async_payment_failed" => Some(PayFact::Failed),
        _ => return Reading::Ignored("unsupported_type"),
    };
    match session(&event["data"]["object"], &envelope, fact, received_at) {
        Ok(payment) => Reading::Payment(Box::new(payment)),
        Err(error) => Reading::Unreadable(error),
    }
}

fn session(
    object: &Value,
    envelope: &Envelope,
    fact: Option<PayFact>,
    received_at: Timestamp,
) -> Result<Payment, String> {
    let id = text(&object["id"]).ok_or("data.object.id is missing")?;
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
    let at = envelope.created_at.unwrap_or(received_at);
    Ok(Payment {
        account: envelope.account.clone(),
        livemode: envelope.livemode,
        pay_fact,
        mode,
        amounts: amounts(object, mode)?,
        presented: presented(object),
        session: Some(id),
        payment_intent: reference(&object["payment_intent"]),
        invoice: reference(&object["invoice"]),
        subscription: reference(&object["subscription"]),
        customer: reference(&object["customer"]),
        customer_account: reference(&object["customer_account"]),
        payment_link: reference(&object["payment_link"]),
        recovered_from: reference(&object["recovered_from"]),
        client_reference_id: text(&object["client_reference_id"]),
        metadata: metadata(&object["metadata"]),
        email: email(&details["email"]).or_else(|| email(&object["customer_email"])),
        name: text(&details["name"]),
        phone: text(&details["phone"]),
        country: text(&address["country"]),
        city: text(&address["city"]),
        postal_code: text(&address["postal_code"]),
        description: description(object),
        occurred_at: Some(at),
        paid_at: (pay_fact == PayFact::Paid).then_some(at),
    })
}

/// The seller's amounts. Null is fine only where nothing could be paid.
fn amounts(object: &Value, mode: Option<Mode>) -> Result<Option<Amounts>, String> {
    let total = amount(object, "amount_total")?;
    let Some(total) = total else {
        return if mode == Some(Mode::Setup) {
            Ok(None)
        } else {
            Err("data.object.amount_total is missing".to_owned())
        };
    };
    let currency =
        currency(&object["currency"]).ok_or("data.object.currency is no currency code")?;
    let totals = &object["total_details"];
    let tax = amount(totals, "amount_tax")?;
    // The old form of adaptive pricing: the session is in the buyer's currency, and the seller's stands apart.
    let conversion = &object["currency_conversion"];
    if let Some(converted) = amount(conversion, "amount_total")? {
        let seller = self::currency(&conversion["source_currency"])
            .ok_or("data.object.currency_conversion.source_currency is no currency code")?;
        return Ok(Some(Amounts {
            total: converted,
            currency: seller,
            subtotal: amount(conversion, "amount_subtotal")?,
            tax: tax.map(|tax| scale(tax, converted, total)),
            shipping: None,
            discount: None,
        }));
    }
    Ok(Some(Amounts {
        total,
        currency,
        subtotal: amount(object, "amount_subtotal")?,
        tax,
        shipping: amount(totals, "amount_shipping")?,
        discount: amount(totals, "amount_discount")?,
    }))
}

/// `part × to ÷ whole`, rounded half up; the part itself where there is no whole.
fn scale(part: i64, to: i64, whole: i64) -> i64 {
    if whole == 0 {
        return part;
    }
    let (part, to, whole) = (i128::from(part), i128::from(to), i128::from(whole));
    i64::try_from((part * to * 2 + whole) / (whole * 2)).unwrap_or(i64::MAX)
}

/// What the buyer saw and paid in, where that is not the seller's currency.
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

/// A whole, non-negative number of minor units; absent and null are `None`.
fn amount(object: &Value, key: &str) -> Result<Option<i64>, String> {
    match &object[key] {
        Value::Null => Ok(None),
        Value::Number(number) => match number.as_i64() {
            Some(minor) if (0..=MAX_AMOUNT).contains(&minor) => Ok(Some(minor)),
            _ => Err(format!("{key} is {number}, not an amount in minor units")),
        },
        other @ (Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("{key} is {}, not a number", kind_of(other)))
        }
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn currency(value: &Value) -> Option<Currency> {
    value.as_str().and_then(Currency::parse)
}

/// Text, cut, without the NUL that PostgreSQL cannot store; absent, null, empty and other types are `None`.
fn text(value: &Value) -> Option<String> {
    let text = value.as_str().map(str::trim).filter(|text| !text.is_empty())?;
    Some(cut(text, MAX_TEXT_CHARS))
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).map(|char| if char == '\0' { '\u{fffd}' } else { char }).collect()
}

/// A reference: its text, or the `id` of the expanded object.
fn reference(value: &Value) -> Option<String> {
    text(value).or_else(|| text(&value["id"]))
}

/// Text that is an address. Anything else (a web page's mask, say) is left out and harms nothing.
fn email(value: &Value) -> Option<String> {
    text(value).filter(|text| {
        text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
            && !text.contains(|char: char| {
                char.is_whitespace() || char.is_control() || matches!(char, '[' | ']')
            })
    })
}

fn metadata(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((cut(key, 40), cut(value.as_str()?, MAX_METADATA_CHARS))))
        .take(50)
        .collect()
}

/// What was bought, where the event says so (only when line items were expanded by the sender, or the session is described).
fn description(object: &Value) -> Option<String> {
    let item = &object["line_items"]["data"][0];
    text(&item["description"]).or_else(|| text(&object["description"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn event(kind: &str, object: &Value) -> Vec<u8> {
        json!({"id": "evt_1", "object": "event", "type": kind, "created": 1_790_000_000, "livemode": true, "data": {"object": object}})
            .to_string()
            .into_bytes()
    }

    fn paid(extra: Value) -> Value {
        let mut object = json!({"id": "cs_live_1", "amount_total": 10_260, "currency": "usd", "payment_status": "paid", "mode": "payment"});
        for (key, value) in extra.as_object().unwrap() {
            object[key] = value.clone();
        }
        object
    }

    fn payment(kind: &str, object: &Value) -> Payment {
        match read(&event(kind, object), Timestamp::from_ms(7)) {
            Reading::Payment(payment) => *payment,
            other @ (Reading::Ignored(_) | Reading::Unreadable(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn pay_facts_follow_type_and_status() {
        let rows = [
            ("checkout.session.completed", "paid", PayFact::Paid),
            ("checkout.session.completed", "no_payment_required", PayFact::Paid),
            ("checkout.session.completed", "unpaid", PayFact::Pending),
            ("checkout.session.completed", "a word of tomorrow", PayFact::Pending),
            ("checkout.session.async_payment_succeeded", "unpaid", PayFact::Paid),
            ("checkout.session.async_payment_failed", "unpaid", PayFact::Failed),
        ];
        for (kind, status, expected) in rows {
            let found = payment(kind, &paid(json!({"payment_status": status})));
            assert_eq!(found.pay_fact, expected, "{kind} {status}");
            assert_eq!(found.paid_at.is_some(), expected == PayFact::Paid, "{kind} {status}");
        }
    }

    #[test]
    fn references_may_be_text_or_objects_and_empty_means_absent() {
        let found = payment(
            "checkout.session.completed",
            &paid(
                json!({"payment_intent": {"id": "pi_1"}, "customer": "cus_1", "invoice": "", "subscription": null,
                         "client_reference_id": "", "customer_details": {"email": "[email protected]"}}),
            ),
        );
        assert_eq!(found.payment_intent.as_deref(), Some("pi_1"));
        assert_eq!(found.customer.as_deref(), Some("cus_1"));
        assert_eq!(
            (found.invoice, found.subscription, found.client_reference_id, found.email),
            (None, None, None, None)
        );
    }

    #[test]
    fn adaptive_pricing_counts_the_sellers_money() {
        let new = payment(
            "checkout.session.completed",
            &paid(
                json!({"amount_total": 5000, "presentment_details": {"presentment_amount": 7421, "presentment_currency": "jpy"}}),
            ),
        );
        assert_eq!(new.amount().unwrap().decimal(), "50.00");
        assert_eq!(new.presented.unwrap().minor, 7421);
        let old = payment(
            "checkout.session.completed",
            &paid(
                json!({"amount_total": 4600, "currency": "eur", "total_details": {"amount_tax": 460},
                         "currency_conversion": {"source_currency": "usd", "amount_total": 5000, "amount_subtotal": 4500}}),
            ),
        );
        let amounts = old.amounts.unwrap();
        assert_eq!(
            (amounts.total, amounts.currency.code(), amounts.subtotal, amounts.tax),
            (5000, "USD", Some(4500), Some(500))
        );
        assert_eq!(old.presented.unwrap().currency.code(), "EUR");
    }

    #[test]
    fn what_is_needed_and_unreadable_names_its_path() {
        let rows = [
            ("no amount", paid(json!({"amount_total": null})), "data.object.amount_total"),
            ("negative", paid(json!({"amount_total": -1})), "amount_total is -1"),
            ("fractional", paid(json!({"amount_total": 10.5})), "amount_total is 10.5"),
            ("text", paid(json!({"amount_total": "100"})), "amount_total is text"),
            ("overflow", paid(json!({"amount_total": u64::MAX})), "amount_total"),
            ("no currency", paid(json!({"currency": 7})), "data.object.currency"),
            ("no id", paid(json!({"id": null})), "data.object.id"),
        ];
        for (name, object, path) in rows {
            match read(&event("checkout.session.completed", &object), Timestamp::default()) {
                Reading::Unreadable(error) => assert!(error.contains(path), "{name}: {error}"),
                other @ (Reading::Payment(_) | Reading::Ignored(_)) => panic!("{name}: {other:?}"),
            }
        }
        let setup = paid(json!({"mode": "setup", "amount_total": null, "currency": null}));
        assert_eq!(payment("checkout.session.completed", &setup).kind(), "lead");
    }

    #[test]
    fn other_types_are_ignored_not_failed() {
        for kind in ["invoice.paid", "charge.refunded", "", "a.type.of.tomorrow"] {
            assert_eq!(
                read(&event(kind, &json!({})), Timestamp::default()),
                Reading::Ignored("unsupported_type"),
                "{kind}"
            );
        }
        let ping = br#"{"object":"v2.core.event","type":"v2.core.event_destination.ping"}"#;
        assert_eq!(read(ping, Timestamp::default()), Reading::Ignored("ping"));
    }

    #[test]
    fn the_seed_documents_own_payload_is_read() {
        let body = br#"{"request": {"idempotency_key": null,"id": null},
            "data": {"object": {"client_reference_id": "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys","amount_total": 10000,"currency": "usd",
            "payment_status": "paid","customer_details": {"email": "[email protected]"},"id": "evt_1M5sv6JhmZq84NMqbCfCcgRL"}},
            "type": "checkout.session.completed"}"#;
        let found = envelope(body).unwrap();
        assert!(found.event_id.starts_with("body_") && found.event_id.len() == 37);
        assert_eq!(
            (found.object_id.as_str(), found.livemode, found.created_at),
            ("evt_1M5sv6JhmZq84NMqbCfCcgRL", true, None)
        );
        let Reading::Payment(payment) = read(body, Timestamp::from_ms(7)) else {
            panic!("a payment")
        };
        assert_eq!(payment.amount().unwrap().decimal(), "100.00");
        assert_eq!(
            (payment.kind(), payment.status(), payment.email.as_deref()),
            ("purchase", "paid", None)
        );
        assert_eq!(payment.transaction_id(), Some("evt_1M5sv6JhmZq84NMqbCfCcgRL"));
        assert_eq!(payment.paid_at, Some(Timestamp::from_ms(7)));
    }

    #[test]
    fn envelopes_name_the_account_and_the_mode() {
        let of = |text: &str| envelope(text.as_bytes()).unwrap();
        assert_eq!(of(r#"{"account":"acct_1"}"#).account, "acct_1");
        assert_eq!(of(r#"{"context":"org_1/acct_2/acct_3"}"#).account, "acct_3");
        assert!(!of(r#"{"data":{"object":{"id":"cs_test_1"}}}"#).livemode);
        assert!(!of(r#"{"data":{"object":{"livemode":false}}}"#).livemode);
        for junk in ["", "[]", "\"text\"", "{"] {
            assert_eq!(envelope(junk.as_bytes()), None, "{junk}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(text in ".{0,200}") {
            let _ = read(text.as_bytes(), Timestamp::default());
            let object = json!({"id": text, "amount_total": 1, "currency": text, "metadata": {text.clone(): text}, "customer_details": text});
            let _ = read(&event("checkout.session.completed", &object), Timestamp::default());
        }
    }
}
