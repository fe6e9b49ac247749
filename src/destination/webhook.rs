//! The generic webhook: the conversion as the API shows it, signed as defined by Standard Webhooks
//! 1.0.0.
//! Takes a conversion; returns the body. For each attempt, takes the delivery's ID, the time and
//! the bytes; returns three headers.
//! Guarantees that the ID is the same on every retry, so receivers can recognize a repeat, and that
//! both signatures are sent while a secret is rotated. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Serialize;
use sha2::Sha256;

use super::facts::{Conversion, News, Outgoing};
use super::kind::Kind;
use super::presets::Preset;
use crate::clock::Timestamp;
use crate::domain::ConversionKind;
use crate::ids;
use crate::settings::{DestinationOptions, SigningSecret};

/// The prefix of every secret.
const PREFIX: &str = "whsec_";

pub(super) const KIND: Kind = Kind {
    name: "Webhook",
    url_is_on: "the program that receives the webhook",
    counts_repeats: false,
    is_signed: true,
    preset: "zapier",
    test_event: None,
    new_options,
    mapping_faults: |_| Vec::new(),
    admit: |_, _| Ok(()),
    standard: |_, outgoing, _| body(outgoing),
};

fn new_options(preset: &str) -> DestinationOptions {
    let mut options = DestinationOptions::default();
    // The default texts are AnyTrack's.
    options.sending.refuse_if_body_contains.clear();
    if let Some(preset) = Preset::find(preset) {
        options.message.rows = Some(preset.rows());
        options.message.encoding = preset.encoding;
        options.sending.retry_also = preset.retry_also.to_vec();
    }
    options
}

#[derive(Serialize)]
struct Envelope<'a> {
    r#type: String,
    timestamp: &'a str,
    data: &'a Conversion,
}

/// The body for a destination without a mapping.
fn body(outgoing: &Outgoing) -> String {
    let conversion = &outgoing.conversion;
    let envelope = Envelope {
        r#type: event_type(outgoing).to_owned(),
        timestamp: &conversion.occurred_at,
        data: conversion,
    };
    serde_json::to_string(&envelope).expect("texts and flags serialise")
}

/// `conversion.purchase`, …
fn event_type(outgoing: &Outgoing) -> &'static str {
    match (outgoing.news, &outgoing.conversion.kind) {
        (News::Refund(_), _) => "conversion.refunded",
        (News::Chargeback, _) => "conversion.disputed",
        (News::Paid, ConversionKind::Purchase) => "conversion.purchase",
        (News::Paid, ConversionKind::Renewal) => "conversion.renewal",
        (News::Paid, ConversionKind::Trial) => "conversion.trial",
        (News::Paid, ConversionKind::Lead) => "conversion.lead",
        (News::Paid, ConversionKind::Custom(_)) => "conversion.custom",
    }
}

/// Creates a secret: `whsec_` and 32 random bytes.
pub(crate) fn new_secret() -> String {
    format!("{PREFIX}{}", STANDARD.encode(ids::new_key()))
}

/// The headers of one attempt.
pub(super) fn headers(
    secrets: &[SigningSecret],
    id: &str,
    at: Timestamp,
    body: &str,
) -> Vec<(&'static str, String)> {
    let seconds = at.as_seconds();
    let message = format!("{id}.{seconds}.{body}");
    let live = secrets.iter().filter(|secret| secret.until.is_none_or(|until| until > at));
    let signatures: Vec<String> =
        live.filter_map(|secret| sign(secret.secret.expose(), message.as_bytes())).collect();
    if signatures.is_empty() {
        return Vec::new();
    }
    vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signatures.join(" ")),
    ]
}

fn sign(secret: &str, message: &[u8]) -> Option<String> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
    mac.update(message);
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Secret;

    fn now() -> Timestamp {
        let elapsed = std::time::UNIX_EPOCH.elapsed().unwrap();
        Timestamp::from_seconds(i64::try_from(elapsed.as_secs()).unwrap())
    }

    #[test]
    fn the_official_library_verifies_what_we_sign_with_either_secret() {
        let (new, old) = (new_secret(), new_secret());
        let until = Some(now().plus(Duration::from_secs(86_400)));
        let secrets = [
            SigningSecret { secret: Secret::new(new.clone()), until: None },
            SigningSecret { secret: Secret::new(old.clone()), until },
        ];
        let body = r#"{"type":"conversion.purchase"}"#;
        let mut headers = http::HeaderMap::new();
        for (name, value) in super::headers(&secrets, "dlv_1", now(), body) {
            headers.insert(name, value.parse().unwrap());
        }
        for secret in [&new, &old] {
            let webhook = standardwebhooks::Webhook::new(secret).unwrap();
            webhook.verify(body.as_bytes(), &headers).unwrap();
            assert!(webhook.verify(b"{}", &headers).is_err(), "any other byte is noticed");
        }
        let stranger = standardwebhooks::Webhook::new(&new_secret()).unwrap();
        assert!(stranger.verify(body.as_bytes(), &headers).is_err());
    }

    #[test]
    fn an_old_secret_is_not_used_after_its_end() {
        let secret = |until| SigningSecret { secret: Secret::new(new_secret()), until };
        let secrets = [secret(None), secret(Some(Timestamp::from_seconds(100)))];
        let count = |seconds| {
            let at = Timestamp::from_seconds(seconds);
            super::headers(&secrets, "dlv_1", at, "{}")[2].1.split(' ').count()
        };
        assert_eq!((count(99), count(100)), (2, 1));
    }
}
