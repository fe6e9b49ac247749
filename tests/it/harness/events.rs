//! Stripe events, composed from Stripe's published shapes and signed at test time.

use clickstamp::ids;
use serde_json::{Value, json};

/// The signing secret of source `main` in tests.
pub(crate) const SECRET: &str = "whsec_test_secret";

/// `Stripe-Signature` for a body at a time in seconds.
pub(crate) fn sign(secret: &str, seconds: i64, body: &[u8]) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac =
        Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    format!("t={seconds},v1={}", ids::hex(&mac.finalize().into_bytes()))
}

/// A checkout session, and the events about it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    id: String,
    object: Value,
    created: i64,
}

impl Session {
    /// A paid one-time session of 102.60 USD (tests/fixtures/checkout.session.completed.json, API version 2026-08-26.dahlia).
    pub(crate) fn paid(id: &str) -> Self {
        let event: Value =
            serde_json::from_str(include_str!("../../fixtures/checkout.session.completed.json"))
                .expect("the fixture is JSON");
        let object = event["data"]["object"].clone();
        Self { id: id.to_owned(), object, created: 1_790_000_000 }
            .with(json!({"id": id, "payment_intent": format!("pi_{id}")}))
    }

    /// The same, with other values.
    pub(crate) fn with(mut self, values: Value) -> Self {
        for (key, value) in values.as_object().expect("an object of values") {
            self.object[key] = value.clone();
        }
        self
    }

    /// With a client reference.
    pub(crate) fn reference(self, reference: &str) -> Self {
        self.with(json!({"client_reference_id": reference}))
    }

    /// Created at another time, in seconds.
    pub(crate) fn at(mut self, seconds: i64) -> Self {
        self.created = seconds;
        self
    }

    /// An event about it; its ID follows from type and session, so that a repeat has the same one.
    pub(crate) fn event(&self, kind: &str) -> Value {
        json!({
            "id": format!("evt_{}_{}", kind.replace('.', "_"), self.id),
            "object": "event",
            "api_version": "2026-08-26.dahlia",
            "created": self.created,
            "livemode": self.object["livemode"],
            "type": kind,
            "data": {"object": self.object},
        })
    }

    /// `checkout.session.completed`.
    pub(crate) fn completed(&self) -> Value {
        self.event("checkout.session.completed")
    }
}

/// A full-size event of `tests/fixtures/stripe`, with a click ID in the place of `CLICK_ID`.
pub(crate) fn fixture(name: &str, click_id: &str) -> Value {
    let path = format!("{}/tests/fixtures/stripe/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text.replace("CLICK_ID", click_id)).expect("the fixture is JSON")
}
