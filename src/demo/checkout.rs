//! Stripe's checkout events for the demo. Takes a sale; returns the event's JSON and a signature
//! like Stripe's. The JSON has Stripe's form (`checkout.session`, API version 2026-08-26.dahlia)
//! with all fields that Clickstamp reads. Pure.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::stripe::signature;

/// A product.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: &'static str,
    pub(super) usd_minor: i64,
    pub(super) eur_minor: i64,
}

/// A buyer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buyer {
    pub(super) name: String,
    pub(super) email: String,
    pub(super) city: &'static str,
    pub(super) country: &'static str,
}

/// When a checkout was opened and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) created: Timestamp,
    pub(super) completed: Timestamp,
}

/// One checkout. `R` is the type of its references before they become text: a
/// [`Reference`](super::story::Reference) in the story, `()` otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sale<R> {
    /// `cs_live_…` or `cs_test_…`.
    pub(super) session: String,
    pub(super) reference: R,
    pub(super) metadata_click_id: Option<R>,
    /// `cus_…`, for buyers with an account.
    pub(super) customer: Option<String>,
    pub(super) item: &'static Item,
    pub(super) currency: &'static str,
    pub(super) minor: i64,
    pub(super) buyer: Buyer,
    pub(super) livemode: bool,
    pub(super) method: &'static str,
    /// False for a bank debit, which is paid days later.
    pub(super) is_paid: bool,
    pub(super) times: Times,
    /// The simulated AnyTrack's responses before it accepts the conversion.
    pub(super) answers: &'static [(u16, &'static str)],
}

impl<R> Sale<R> {
    /// This sale with its references as text.
    pub(super) fn with_references(
        &self,
        reference: Option<String>,
        metadata_click_id: Option<String>,
    ) -> Referenced<'_, R> {
        Referenced { sale: self, reference, metadata_click_id }
    }
}

/// A sale with its references as text.
pub(super) struct Referenced<'a, R> {
    sale: &'a Sale<R>,
    reference: Option<String>,
    metadata_click_id: Option<String>,
}

const FIRST_NAMES: [&str; 23] = [
    "Amara", "Ben", "Chloe", "Daniel", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kira",
    "Liam", "Mara", "Noah", "Olive", "Pavel", "Quinn", "Rosa", "Sam", "Tess", "Umar", "Vera",
    "Wes",
];
const LAST_NAMES: [&str; 19] = [
    "Abbott", "Brandt", "Castro", "Dufour", "Ekman", "Fischer", "Garcia", "Hayes", "Ivanov",
    "Jansen", "Keller", "Larsen", "Meyer", "Novak", "Okafor", "Price", "Reyes", "Sato", "Weaver",
];
const CITIES: [(&str, &str); 5] =
    [("Portland", "US"), ("Denver", "US"), ("Toronto", "CA"), ("Bristol", "GB"), ("Austin", "US")];
const EURO_CITIES: [(&str, &str); 4] =
    [("Utrecht", "NL"), ("Berlin", "DE"), ("Lyon", "FR"), ("Vienna", "AT")];

impl Buyer {
    /// The n-th buyer. Names repeat after several hundred, the address never does.
    pub(super) fn number(n: usize, is_european: bool) -> Self {
        let (first, last) = (FIRST_NAMES[n % FIRST_NAMES.len()], LAST_NAMES[n % LAST_NAMES.len()]);
        let (city, country) =
            if is_european { EURO_CITIES[n % EURO_CITIES.len()] } else { CITIES[n % CITIES.len()] };
        let host = ["example.com", "example.net", "example.org"][n % 3];
        Self {
            name: format!("{first} {last}"),
            email: format!("{}.{}@{host}", first.to_lowercase(), last.to_lowercase()),
            city,
            country,
        }
    }
}

/// Builds an event of the type `kind` about a sale, created at `at`.
pub(super) fn event<R>(referenced: &Referenced<'_, R>, kind: &str, at: Timestamp) -> Value {
    let sale = referenced.sale;
    let id = ids::sha256_hex(format!("{kind} {}", sale.session).as_bytes());
    let is_paid = sale.is_paid || kind.ends_with("succeeded");
    let is_expired = kind.ends_with("expired");
    json!({
        "id": format!("evt_{}", &id[..24]),
        "object": "event",
        "api_version": "2026-08-26.dahlia",
        "created": at.as_seconds(),
        "livemode": sale.livemode,
        "pending_webhooks": 1,
        "request": {"id": null, "idempotency_key": null},
        "type": kind,
        "data": {"object": session(referenced, is_paid, is_expired)},
    })
}

fn session<R>(referenced: &Referenced<'_, R>, is_paid: bool, is_expired: bool) -> Value {
    let sale = referenced.sale;
    let named = |prefix: &str| {
        format!(
            "{prefix}{}",
            &ids::sha256_hex(format!("{prefix}{}", sale.session).as_bytes())[..24]
        )
    };
    let metadata = match &referenced.metadata_click_id {
        Some(click_id) => json!({"click_id": click_id}),
        None => json!({}),
    };
    json!({
        "id": sale.session,
        "object": "checkout.session",
        "amount_subtotal": sale.minor,
        "amount_total": sale.minor,
        "client_reference_id": referenced.reference,
        "created": sale.times.created.as_seconds(),
        "currency": sale.currency,
        "currency_conversion": null,
        "customer": sale.customer,
        "customer_details": {
            "address": {"city": sale.buyer.city, "country": sale.buyer.country, "line1": null, "line2": null, "postal_code": null, "state": null},
            "email": sale.buyer.email,
            "name": sale.buyer.name,
            "phone": null,
            "tax_exempt": "none",
            "tax_ids": [],
        },
        "customer_email": null,
        "expires_at": sale.times.created.as_seconds() + 86_400,
        "invoice": null,
        "line_items": {"object": "list", "data": [{"object": "item", "description": sale.item.name, "quantity": 1}]},
        "livemode": sale.livemode,
        "locale": "auto",
        "metadata": metadata,
        "mode": "payment",
        "payment_intent": if is_expired { Value::Null } else { named("pi_").into() },
        "payment_link": "plink_1NorthlightDemo",
        "payment_method_types": [sale.method],
        "payment_status": if is_paid && !is_expired { "paid" } else { "unpaid" },
        "recovered_from": null,
        "status": if is_expired { "expired" } else { "complete" },
        "subscription": null,
        "success_url": null,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": null,
    })
}

/// The `Stripe-Signature` header of a body, signed at `now`.
pub(super) fn sign(secret: &Secret, now: Timestamp, body: &[u8]) -> String {
    let time = now.as_seconds().to_string();
    format!("t={time},v1={}", signature::sign(secret, &time, body))
}
