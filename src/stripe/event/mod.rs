//! Reads Stripe events.
//! Takes the raw body; returns its envelope, and the payment or subscription that it states, or why
//! there is none.
//! Pure. Unknown words are never an error, and the API version is never checked. An event fails
//! only if a required field can't be read; the error names its path. Source:
//! docs.stripe.com/api/events.

mod billing;
mod charge;
mod fields;
mod session;
mod summary;

use serde_json::{Value, json};

use self::fields::{text, time};
use crate::clock::Timestamp;
use crate::conversion::payment::{Contract, PayFact, Payment};
use crate::domain::IgnoredReason;
use crate::ids;
use crate::json;

/// The metadata of an event.
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

/// What an event states.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reading {
    /// Facts about a payment.
    Payment(Box<Payment>),
    /// Facts about a subscription.
    Contract(Box<Contract>),
    /// Nothing that the ledger uses.
    Ignored(IgnoredReason),
    /// It should state a payment but can't be read; the text names the path.
    Unreadable(String),
}

/// The event's metadata that is needed to read its object.
struct Around {
    kind: String,
    account: String,
    livemode: bool,
    source_id: String,
    /// When it happened by Stripe's clock, else when it was received.
    at: Timestamp,
}

impl Around {
    /// A payment with its origin and no other facts.
    fn payment(&self) -> Payment {
        Payment {
            account: self.account.clone(),
            livemode: self.livemode,
            source_id: Some(self.source_id.clone()),
            ..Payment::default()
        }
    }
}

/// Reads the envelope. Returns `None` if the body does not begin like a JSON object; if it is
/// invalid further on, reads what is readable.
pub(crate) fn envelope(body: &[u8]) -> Option<Envelope> {
    let begin = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    begin.starts_with(b"{").then(|| match json::lenient(body) {
        Ok(read) => read_envelope(&read.value, body),
        Err(_) => broken_envelope(body),
    })
}

/// The envelope of a body that is not JSON. It keeps the event's ID if that can be found, so that a
/// repeat is recognized.
pub(super) fn broken_envelope(body: &[u8]) -> Envelope {
    let known = |key: &str| json::text_of(body, key).map(Value::from).unwrap_or_default();
    let event = json!({"id": known("id"), "type": known("type"), "account": known("account")});
    read_envelope(&event, body)
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
        // Without an ID, use a hash of the body, so that a retry of the same bytes is recognized.
        event_id: text(&event["id"])
            .unwrap_or_else(|| format!("body_{}", &ids::sha256_hex(body)[..32])),
        kind: text(&event["type"]).unwrap_or_default(),
        livemode: event["livemode"]
            .as_bool()
            .or_else(|| object["livemode"].as_bool())
            .unwrap_or(by_form),
        object_id,
        api_version: text(&event["api_version"]),
        created_at: time(&event["created"]),
    }
}

/// Reads what an event of a source states, and summarizes it in a sentence. `received_at` replaces
/// a missing `created`.
pub(crate) fn read(
    body: &[u8],
    source_id: &str,
    received_at: Timestamp,
) -> (Reading, Option<String>) {
    let (event, repairs) = match json::lenient(body) {
        Ok(read) if read.value.is_object() => (read.value, read.repairs.join(", ")),
        Ok(_) => return (Reading::Unreadable("the body is not a JSON object".to_owned()), None),
        Err(place) => return (Reading::Unreadable(format!("the body is not JSON: {place}")), None),
    };
    let envelope = read_envelope(&event, body);
    let object = &event["data"]["object"];
    let around = Around {
        at: envelope.created_at.unwrap_or(received_at),
        account: envelope.account,
        livemode: envelope.livemode,
        source_id: source_id.to_owned(),
        kind: envelope.kind,
    };
    match read_object(object, &around) {
        Ok(reading) => {
            let mut summary = summary::of(object, &around, &reading);
            if let Some(summary) = summary.as_mut().filter(|_| !repairs.is_empty()) {
                summary.push_str(&format!(
                    " The body is not valid JSON ({repairs}); the rest was read."
                ));
            }
            (reading, summary)
        }
        Err(error) if repairs.is_empty() => (Reading::Unreadable(error), None),
        Err(error) => {
            (Reading::Unreadable(format!("{error}. The body is not valid JSON: {repairs}")), None)
        }
    }
}

/// Reads the object of an event. Its kind is taken from the event's type, never from an ID's prefix
/// or the object's own field.
fn read_object(object: &Value, around: &Around) -> Result<Reading, String> {
    let payment = match around.kind.as_str() {
        "checkout.session.completed" => session::read(object, around, None)?,
        "checkout.session.async_payment_succeeded" => {
            session::read(object, around, Some(PayFact::Paid))?
        }
        "checkout.session.async_payment_failed" => {
            session::read(object, around, Some(PayFact::Failed))?
        }
        "checkout.session.expired" => session::read_expired(object, around)?,
        "invoice.paid" => match billing::read_invoice(object, around)? {
            Some(payment) => payment,
            None => return Ok(Reading::Ignored(IgnoredReason::ZeroAmount)),
        },
        "invoice_payment.paid" => billing::read_invoice_payment(object, around)?,
        "customer.subscription.created" => {
            let contract = billing::read_subscription(object, around)?;
            return Ok(Reading::Contract(Box::new(contract)));
        }
        "payment_intent.succeeded"
        | "payment_intent.canceled"
        | "payment_intent.amount_capturable_updated" => {
            charge::read_payment_intent(object, around)?
        }
        "charge.succeeded" | "charge.captured" | "charge.refunded" => {
            charge::read_charge(object, around)?
        }
        "refund.created" | "refund.updated" | "refund.failed" | "charge.refund.updated" => {
            charge::read_refund(object, around)?
        }
        "charge.dispute.created"
        | "charge.dispute.updated"
        | "charge.dispute.closed"
        | "charge.dispute.funds_withdrawn"
        | "charge.dispute.funds_reinstated" => charge::read_dispute(object, around)?,
        _ => return Ok(Reading::Ignored(IgnoredReason::UnsupportedType)),
    };
    Ok(Reading::Payment(Box::new(payment)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ConversionKind, ConversionStatus};
    use proptest::prelude::*;

    use crate::conversion::payment::{ObjectFacts, ObjectKind};
    use crate::settings::ValueOption;
    use crate::stripe::EVENT_TYPES;

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

    fn reading(body: &[u8]) -> Reading {
        read(body, "src_1", Timestamp::from_ms(7)).0
    }

    fn payment(kind: &str, object: &Value) -> Payment {
        match reading(&event(kind, object)) {
            Reading::Payment(payment) => *payment,
            other @ (Reading::Contract(_) | Reading::Ignored(_) | Reading::Unreadable(_)) => {
                panic!("{kind}: {other:?}")
            }
        }
    }

    fn session(payment: &Payment) -> &ObjectFacts {
        &payment.facts[&ObjectKind::Session]
    }

    #[test]
    fn pay_facts_follow_type_and_status() {
        let rows = [
            ("checkout.session.completed", "paid", PayFact::Paid),
            ("checkout.session.completed", "no_payment_required", PayFact::Paid),
            ("checkout.session.completed", "unpaid", PayFact::Pending),
            ("checkout.session.completed", "a status of a later version", PayFact::Pending),
            ("checkout.session.async_payment_succeeded", "unpaid", PayFact::Paid),
            ("checkout.session.async_payment_failed", "unpaid", PayFact::Failed),
        ];
        for (kind, status, expected) in rows {
            let found = payment(kind, &paid(json!({"payment_status": status})));
            let found = session(&found);
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
        assert!(found.payment_intents.contains("pi_1"));
        assert_eq!(found.customer.as_deref(), Some("cus_1"));
        assert_eq!(
            (found.email(), &found.subscription, &found.client_reference_id),
            (None, &None, &None)
        );
        assert!(found.invoices.is_empty());
    }

    #[test]
    fn adaptive_pricing_counts_the_sellers_money() {
        let new = payment(
            "checkout.session.completed",
            &paid(
                json!({"amount_total": 5000, "presentment_details": {"presentment_amount": 7421, "presentment_currency": "jpy"}}),
            ),
        );
        assert_eq!(new.value(ValueOption::Total).unwrap().decimal(), "50.00");
        assert_eq!(new.presented.unwrap().minor, 7421);
        let old = payment(
            "checkout.session.completed",
            &paid(
                json!({"amount_total": 4600, "currency": "eur", "total_details": {"amount_tax": 460},
                         "currency_conversion": {"source_currency": "usd", "amount_total": 5000, "amount_subtotal": 4500}}),
            ),
        );
        let amounts = old.amounts().unwrap();
        assert_eq!(
            (amounts.total, amounts.currency.code(), amounts.subtotal, amounts.tax),
            (5000, "USD", Some(4500), Some(500))
        );
        assert_eq!(old.presented.unwrap().currency.code(), "EUR");
    }

    #[test]
    fn an_unreadable_required_field_is_named_with_its_path() {
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
            match reading(&event("checkout.session.completed", &object)) {
                Reading::Unreadable(error) => assert!(error.contains(path), "{name}: {error}"),
                other @ (Reading::Payment(_) | Reading::Contract(_) | Reading::Ignored(_)) => {
                    panic!("{name}: {other:?}")
                }
            }
        }
        let setup = paid(json!({"mode": "setup", "amount_total": null, "currency": null}));
        let setup = payment("checkout.session.completed", &setup);
        assert_eq!(
            setup.entry(&crate::settings::Source::sample("click_id")).unwrap().kind,
            ConversionKind::Lead
        );
    }

    #[test]
    fn other_types_are_ignored_not_failed() {
        for kind in ["invoice.payment_succeeded", "payout.paid", "", "a.type.of.a.later.version"] {
            let found = reading(&event(kind, &json!({})));
            assert_eq!(found, Reading::Ignored(IgnoredReason::UnsupportedType), "{kind}");
        }
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
        let Reading::Payment(payment) = reading(body) else { panic!("a payment") };
        let entry = payment.entry(&crate::settings::Source::sample("click_id")).unwrap();
        assert_eq!(payment.value(ValueOption::Total).unwrap().decimal(), "100.00");
        assert_eq!(
            (entry.kind, entry.status, payment.email()),
            (ConversionKind::Purchase, ConversionStatus::Paid, None)
        );
        assert_eq!(payment.transaction_id(), Some("evt_1M5sv6JhmZq84NMqbCfCcgRL"));
        assert_eq!(entry.paid_at, Some(Timestamp::from_ms(7)));
    }

    #[test]
    fn envelopes_name_the_account_and_the_mode() {
        let of = |text: &str| envelope(text.as_bytes()).unwrap();
        assert_eq!(of(r#"{"account":"acct_1"}"#).account, "acct_1");
        assert_eq!(of(r#"{"context":"org_1/acct_2/acct_3"}"#).account, "acct_3");
        assert!(!of(r#"{"data":{"object":{"id":"cs_test_1"}}}"#).livemode);
        assert!(!of(r#"{"data":{"object":{"livemode":false}}}"#).livemode);
        for junk in ["", "[]", "\"text\"", "hello"] {
            assert_eq!(envelope(junk.as_bytes()), None, "{junk}");
        }
    }

    proptest! {
        #[test]
        fn no_body_panics(text in ".{0,200}") {
            let _ = reading(text.as_bytes());
            let object = json!({"id": text, "amount_total": 1, "currency": text, "metadata": {text.clone(): text}, "customer_details": text,
                                "lines": text, "parent": [text], "payment": text, "charge": {"id": text}, "status": text});
            for kind in EVENT_TYPES {
                let _ = reading(&event(kind, &object));
            }
        }
    }
}
