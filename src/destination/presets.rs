//! Presets for mappings, and a sample conversion.
//! Takes the name of a preset; returns its fields and encoding, all of which users can edit, and a
//! sample for installations without conversions.
//! Guarantees that the first preset is the message that AnyTrack receives by default.

use serde_json::{Value, json};

use super::anytrack;
use crate::settings::{Encoding, Row, RowKind};

/// A preset that a mapping can start from.
pub(crate) struct Preset {
    /// The value in forms.
    pub(crate) word: &'static str,
    /// The name on the page.
    pub(crate) name: &'static str,
    /// Where the URL is found: the end of "Copy the full URL from".
    pub(crate) url_is_on: &'static str,
    pub(crate) encoding: Encoding,
    /// Status codes to retry in addition to the usual ones.
    pub(crate) retry_also: &'static [u16],
    rows: fn() -> Vec<Row>,
}

use RowKind::{Boolean, Integer, Number, Text};

/// All presets. The first one is AnyTrack's default.
pub(crate) const PRESETS: [Preset; 4] = [
    Preset {
        word: "anytrack",
        name: "AnyTrack",
        url_is_on: anytrack::KIND.url_is_on,
        encoding: Encoding::Json,
        retry_also: &[],
        rows: anytrack::rows,
    },
    Preset {
        word: "zapier",
        name: "Zapier, Make or n8n",
        url_is_on: "the webhook step in Zapier, Make or n8n",
        encoding: Encoding::Json,
        // Make returns 400 while its queue is full.
        retry_also: &[400],
        rows: || rows(ZAPIER),
    },
    Preset {
        word: "postback",
        name: "Query-string postback",
        url_is_on: "the network’s postback settings",
        encoding: Encoding::Query,
        retry_also: &[],
        rows: || rows(POSTBACK),
    },
    Preset {
        word: "slack",
        name: "Slack message per sale",
        url_is_on: "Slack, under Incoming Webhooks: it starts with https://hooks.slack.com/",
        encoding: Encoding::Json,
        retry_also: &[],
        rows: || rows(SLACK),
    },
];

const ZAPIER: &[(&str, RowKind, &str)] = &[
    ("event", Text, "conversion.event_name"),
    ("conversion_id", Text, "conversion.id"),
    ("transaction_id", Text, "conversion.transaction_id"),
    ("kind", Text, "conversion.kind"),
    ("status", Text, "conversion.status"),
    ("value", Number, "conversion.value"),
    ("amount_minor", Integer, "conversion.amount_minor"),
    ("currency", Text, "conversion.currency"),
    ("email", Text, "conversion.email"),
    ("name", Text, "payment.name"),
    ("country", Text, "payment.country"),
    ("click_id", Text, "conversion.ref_id"),
    ("anytrack_click_id", Text, "conversion.anytrack_click_id"),
    ("utm_source", Text, "visit.source"),
    ("utm_medium", Text, "visit.medium"),
    ("utm_campaign", Text, "visit.campaign"),
    ("utm_term", Text, "visit.term"),
    ("utm_content", Text, "visit.content"),
    ("gclid", Text, "visit.gclid"),
    ("fbclid", Text, "visit.fbclid"),
    ("ttclid", Text, "visit.ttclid"),
    ("msclkid", Text, "visit.msclkid"),
    ("landing_url", Text, "visit.url"),
    ("referrer", Text, "visit.referrer"),
    ("first_source", Text, "(touches | first).source"),
    ("first_campaign", Text, "(touches | first).campaign"),
    ("occurred_at", Text, "conversion.occurred_at"),
    ("match", Text, "conversion.match_state"),
    ("test", Boolean, "not conversion.livemode"),
];

const POSTBACK: &[(&str, RowKind, &str)] = &[
    ("clickid", Text, "conversion.anytrack_click_id or conversion.click_id"),
    ("value", Number, "conversion.value"),
    ("currency", Text, "conversion.currency"),
    ("txid", Text, "conversion.transaction_id"),
    ("event", Text, "conversion.event_name"),
];

/// A campaign's name comes from the URL of a visit, so all of it is escaped for Slack: otherwise
/// anybody could notify a channel.
const SLACK: &[(&str, RowKind, &str)] = &[(
    "text",
    Text,
    "(('' if conversion.livemode else 'Test mode: ') ~ conversion.event_name \
     ~ (': ' ~ (conversion.refund_amount if conversion.event_name == 'Refund' else conversion.amount if conversion.event_name == 'Chargeback' else conversion.value) \
     ~ ' ' ~ conversion.currency if conversion.amount else '') \
     ~ (' from ' ~ visit.source if visit.source else ' (no visit known)') ~ (', ' ~ visit.campaign if visit.campaign else '')) | slack",
)];

impl Preset {
    /// The preset with this form value.
    pub(crate) fn find(word: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.word == word)
    }

    /// The preset's fields.
    pub(crate) fn rows(&self) -> Vec<Row> {
        (self.rows)()
    }
}

fn rows(rows: &[(&str, RowKind, &str)]) -> Vec<Row> {
    rows.iter().map(|(field, kind, expression)| Row::new(field, *kind, expression)).collect()
}

/// A fictional conversion with a value for every name.
pub(crate) fn sample() -> Value {
    json!({
        "conversion": {
            "id": "cnv_sample", "kind": "purchase", "status": "paid", "event_name": "Purchase",
            "transaction_id": "cs_live_sample", "value": "102.60", "amount": "102.60", "amount_minor": 10260,
            "currency": "USD", "refunded": "0.00", "refund_amount": "26.00",
            "refunded_minor": 2600, "disputed_minor": 0, "lost_minor": 0, "net_minor": 7660, "net": "76.60",
            "remaining_value": "76.60", "original_transaction_id": "cs_live_sample", "occurred_at": "2026-09-21T14:13:20Z",
            "occurred_at_s": 1_790_000_000, "livemode": true,
            "client_reference_id": "ck_0123456789abcdefghjkmnpqrstvwxyz", "email": "jenny.rosen@example.com",
            "click_id": "ck_0123456789abcdefghjkmnpqrstvwxyz", "ref_id": "ck_0123456789abcdefghjkmnpqrstvwxyz",
            "anytrack_click_id": "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys",
            "match_state": "matched", "match_by": "click_id", "match_reason": "none",
        },
        "payment": {
            "session_id": "cs_live_sample", "charge_id": "ch_sample", "payment_intent_id": "pi_sample", "invoice_id": "in_sample",
            "subscription_id": "sub_sample", "customer_id": "cus_sample", "payment_link_id": "plink_sample",
            "name": "Jenny Rosen", "email": "jenny.rosen@example.com", "phone": "+4366012345", "country": "AT",
            "city": "Vienna", "postal_code": "1010", "description": "Annual plan",
            "subtotal_minor": 10260, "tax_minor": 1710, "shipping_minor": 0, "discount_minor": 0,
            "metadata": {"plan": "annual"},
        },
        "visit": {
            "click_id": "ck_0123456789abcdefghjkmnpqrstvwxyz", "at": "2026-09-21T14:03:20Z",
            "url": "https://www.example.com/offer?utm_source=google&gclid=Cj0K", "landing_path": "/offer",
            "referrer": "https://www.google.com/", "channel": "paid_search", "source": "google", "medium": "cpc",
            "campaign": "spring", "term": "shoes", "content": "ad1", "device": "phone", "language": "de-AT",
            "gpc": false, "agreed": true, "gclid": "Cj0K", "gbraid": "0AAA", "wbraid": "Cj8K", "fbclid": "IwAR", "ttclid": "E.C.P",
            "msclkid": "0a1b", "fbp": "fb.1.1.2", "fbc": "fb.1.1.IwAR", "ttp": "2fG",
        },
        "touches": [{
            "click_id": "ck_0123456789abcdefghjkmnpqrstvwxyz", "at": "2026-09-21T14:03:20Z", "source": "google",
            "medium": "cpc", "campaign": "spring", "landing_path": "/offer",
        }],
        "stripe": {
            "id": "evt_sample", "type": "checkout.session.completed", "created": 1_790_000_000, "livemode": true,
            "data": {"object": {
                "id": "cs_live_sample", "object": "checkout.session", "mode": "payment", "payment_status": "paid",
                "client_reference_id": "ck_0123456789abcdefghjkmnpqrstvwxyz", "locale": "de",
                "custom_fields": [{"key": "size", "type": "text", "text": {"value": "M"}}],
                "customer_details": {"email": "jenny.rosen@example.com", "name": "Jenny Rosen"},
                "metadata": {"plan": "annual"},
            }},
        },
        "site": {"key": "main", "name": "My site", "currency": "USD", "timezone": "UTC"},
    })
}
