//! AnyTrack's custom integration: the default message, and which click ID it contains.
//! Takes the facts about a conversion; returns one JSON object.
//! Pure. `clickid` is AnyTrack's own ID if one is known, unknown fields are left out instead of
//! sent empty, and the value keeps its digits.
//! Source: readme.anytrack.io, custom-integration-parameters and stripe.

use serde_json::Value;

use super::Outgoing;
use super::kind::Kind;
use super::mapping::encode;
use crate::domain::{ConversionStatus, SkipReason};
use crate::money::Money;
use crate::settings::{DestinationOptions, Encoding, Row, RowKind};

/// Lengths of AnyTrack's click IDs: property (12) and client (14), with or without an event (8).
const ANYTRACK_ID_CHARS: [usize; 2] = [26, 34];

pub(super) const KIND: Kind = Kind {
    name: "AnyTrack",
    url_is_on: "your custom integration’s page in AnyTrack",
    counts_repeats: true,
    is_signed: false,
    preset: "anytrack",
    // Nobody maps it to an ad platform.
    test_event: Some("ClickstampTest"),
    new_options: |_| DestinationOptions::default(),
    mapping_faults,
    admit,
    standard,
};

/// One field of the standard message: its name, its type, the expression by which a mapping gives
/// the same value, and the value itself as JSON.
struct Field(&'static str, RowKind, &'static str, fn(&Facts<'_>) -> Option<String>);

struct Facts<'a> {
    options: &'a DestinationOptions,
    outgoing: &'a Outgoing,
    event_name: &'a str,
}

const FIELDS: [Field; 9] = [
    Field("clickid", RowKind::Text, "conversion.anytrack_click_id or conversion.click_id", |it| {
        click_id(it.options, it.outgoing).map(text)
    }),
    // Digits unchanged: as a float, 102.60 would become 102.6.
    Field("value", RowKind::Number, "conversion.value", |it| {
        it.outgoing.sent_value().map(Money::decimal)
    }),
    Field("currency", RowKind::Text, "conversion.currency", |it| {
        it.outgoing.value.as_ref().map(|value| text(value.currency.code()))
    }),
    Field("email", RowKind::Text, "conversion.email", |it| {
        it.outgoing.conversion.email.as_deref().map(text)
    }),
    Field("status", RowKind::Text, "'paid' if conversion.status == 'paid'", |it| {
        (it.outgoing.status() == ConversionStatus::Paid).then(|| text("paid"))
    }),
    Field("transaction_id", RowKind::Text, "conversion.transaction_id", |it| {
        Some(text(&it.outgoing.transaction_id))
    }),
    Field("event_name", RowKind::Text, "conversion.event_name", |it| Some(text(it.event_name))),
    Field("ref_id", RowKind::Text, "conversion.ref_id", |it| {
        it.outgoing.click_id.as_deref().map(text)
    }),
    Field("refund_value", RowKind::Number, "conversion.refund_amount", |it| {
        it.outgoing.refund_amount().map(Money::decimal)
    }),
];

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

/// The message for a destination without a mapping.
fn standard(options: &DestinationOptions, outgoing: &Outgoing, event_name: &str) -> String {
    let facts = Facts { options, outgoing, event_name };
    let fields = FIELDS.iter().filter_map(|Field(name, _, _, value)| Some((*name, value(&facts)?)));
    encode(&fields.collect::<Vec<_>>(), Encoding::Json)
}

/// The mapping that gives the same message, and a field that is off.
pub(super) fn rows() -> Vec<Row> {
    let field = |Field(name, kind, expression, _): &Field| Row::new(name, *kind, expression);
    let brand = Row::new("brand_name", RowKind::Text, "payment.description");
    FIELDS.iter().map(field).chain([Row { is_on: false, ..brand }]).collect()
}

/// A conversion needs something by which AnyTrack can match it.
fn admit(options: &DestinationOptions, outgoing: &Outgoing) -> Result<(), SkipReason> {
    let has_identity = click_id(options, outgoing).is_some()
        || outgoing.click_id.is_some()
        || outgoing.conversion.email.is_some();
    if has_identity { Ok(()) } else { Err(SkipReason::NoIdentity) }
}

/// Checks that a mapping has the fields that AnyTrack needs.
fn mapping_faults(rows: &[Row]) -> Vec<&'static str> {
    // AnyTrack ignores case, `_` and `-` in these names.
    let is_there = |names: &[&str]| {
        let canonical = |row: &Row| row.field.to_lowercase().replace(['_', '-'], "");
        rows.iter().any(|row| row.is_on && names.contains(&canonical(row).as_str()))
    };
    let rules = [
        (
            is_there(&["clickid", "click", "refid", "ref", "email"]),
            "AnyTrack needs a field clickid, ref_id or email.",
        ),
        (
            is_there(&["transactionid"]),
            "AnyTrack needs a field transaction_id to recognize repeats.",
        ),
        (
            is_there(&["eventname"]),
            "AnyTrack needs a field event_name. Without it, a sale may count as a lead.",
        ),
        (!is_there(&["value"]) || is_there(&["currency"]), "A value needs a field currency."),
    ];
    rules.into_iter().filter(|(is_right, _)| !is_right).map(|(_, said)| said).collect()
}

/// The ID that AnyTrack receives as `clickid`.
fn click_id<'a>(options: &DestinationOptions, outgoing: &'a Outgoing) -> Option<&'a str> {
    let ours = outgoing.click_id.as_deref().filter(|_| options.anytrack.falls_back_to_our_click_id);
    anytracks(options, outgoing).or(ours)
}

/// AnyTrack's own click ID, if one is known.
pub(super) fn anytracks<'a>(
    options: &DestinationOptions,
    outgoing: &'a Outgoing,
) -> Option<&'a str> {
    let captured = outgoing.anytrack_click_id.as_deref();
    came_back(options, outgoing).or(captured).or(outgoing.registered_click_id.as_deref())
}

/// The reference that Stripe returned, if it is an AnyTrack click ID: AnyTrack's tag replaced the
/// placeholder before ours did.
fn came_back<'a>(options: &DestinationOptions, outgoing: &'a Outgoing) -> Option<&'a str> {
    let reference = outgoing.conversion.client_reference_id.as_deref()?;
    let is_alphanumeric = reference.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_theirs =
        match options.anytrack.property.as_deref().filter(|property| !property.is_empty()) {
            Some(property) => is_alphanumeric && reference.starts_with(property),
            None => is_alphanumeric && ANYTRACK_ID_CHARS.contains(&reference.len()),
        };
    (outgoing.reference_was_captured || is_theirs).then_some(reference)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::destination::facts::{Conversion, Match};
    use crate::destination::{Content, News, draft, map};
    use crate::domain::{ConversionKind, MatchRule, MatchState, SkipReason};
    use crate::money::{Currency, Money};
    use crate::settings::{Destination, Discretion};

    const OURS: &str = "ck_0123456789abcdefghjkmnpqrstvwxyz";
    const THEIRS: &str = "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys";

    pub(crate) fn purchase() -> Outgoing {
        Outgoing {
            news: News::Paid,
            transaction_id: "cs_live_1".to_owned(),
            amount: Some(Money { minor: 10_260, currency: Currency::parse("usd").unwrap() }),
            conversion: Conversion {
                id: "cnv_1".to_owned(),
                site: "main".to_owned(),
                source: "main".to_owned(),
                kind: ConversionKind::Purchase,
                status: ConversionStatus::Paid,
                livemode: true,
                occurred_at: "2026-09-21T14:13:20Z".to_owned(),
                amount: Some("102.60".to_owned()),
                currency: Some("USD".to_owned()),
                refunded: Some("0.00".to_owned()),
                disputed: Some("0.00".to_owned()),
                lost: Some("0.00".to_owned()),
                paid_at: Some("2026-09-21T14:13:20Z".to_owned()),
                transaction_id: "cs_live_1".to_owned(),
                client_reference_id: Some(OURS.to_owned()),
                email: Some("jenny.rosen@example.com".to_owned()),
                joined: Match {
                    state: MatchState::Matched,
                    by: Some(MatchRule::ClickId),
                    reason: None,
                    click_id: Some(OURS.to_owned()),
                },
                touches: Vec::new(),
            },
            value: Some(Money { minor: 10_260, currency: Currency::parse("usd").unwrap() }),
            reference_was_captured: false,
            click_id: Some(OURS.to_owned()),
            anytrack_click_id: None,
            registered_click_id: None,
            wants_privacy: false,
            has_agreed: false,
            occurred_at_s: 1_790_000_000,
            payment: serde_json::Value::Null,
            visit: serde_json::Value::Null,
            site: serde_json::Value::Null,
            stripe: serde_json::Value::Null,
            taken: crate::destination::facts::Taken::default(),
            original_transaction_id: "cs_live_1".to_owned(),
            never_to: Vec::new(),
        }
    }

    fn with(change: impl FnOnce(&mut Outgoing)) -> Outgoing {
        let mut outgoing = purchase();
        change(&mut outgoing);
        outgoing
    }

    fn with_options(change: impl FnOnce(&mut DestinationOptions)) -> DestinationOptions {
        let mut options = DestinationOptions::default();
        change(&mut options);
        options
    }

    /// Builds the body directly and by the mapping, and checks that both are the same.
    fn composed(options: &DestinationOptions, outgoing: &Outgoing) -> Result<String, SkipReason> {
        let mut destination = crate::destination::tests::destination();
        destination.options = options.clone();
        let made = |destination: &Destination| {
            draft(destination, outgoing).map(|draft| match draft.content {
                Content::Made(made) => made,
                Content::Facts(facts) => map(&destination.options, &facts).unwrap(),
            })
        };
        let fixed = made(&destination);
        destination.options.message.rows = Some(rows());
        assert_eq!(fixed, made(&destination));
        fixed.map(|message| message.body)
    }

    fn body(options: &DestinationOptions, outgoing: &Outgoing) -> String {
        composed(options, outgoing).unwrap()
    }

    #[test]
    fn the_documented_case_is_exact_to_the_byte() {
        let expected = format!(
            r#"{{"clickid":"{OURS}","value":102.60,"currency":"USD","email":"jenny.rosen@example.com","status":"paid","transaction_id":"cs_live_1","event_name":"Purchase","ref_id":"{OURS}"}}"#
        );
        assert_eq!(body(&DestinationOptions::default(), &purchase()), expected);
    }

    #[test]
    fn refunds_and_chargebacks_are_sent_only_where_wanted_and_never_as_revenue() {
        let options = with_options(|options| {
            options.events.sends_refunds = true;
            options.events.sends_disputes = true;
        });
        let growth = Money { minor: 2_600, currency: Currency::parse("usd").unwrap() };
        let refund = with(|found| found.news = News::Refund(growth));
        let lost = with(|found| found.news = News::Chargeback);
        for news in [&refund, &lost] {
            assert_eq!(composed(&DestinationOptions::default(), news), Err(SkipReason::KindOff));
        }
        let text = body(&options, &refund);
        assert!(
            text.contains(r#""value":0.00,"#) && text.contains(r#""event_name":"Refund""#),
            "{text}"
        );
        assert!(text.contains(r#""refund_value":26.00"#) && !text.contains("status"), "{text}");
        let text = body(&options, &lost);
        assert!(
            text.contains(r#""value":0.00,"#) && text.contains(r#""event_name":"Chargeback""#),
            "{text}"
        );
    }

    #[test]
    fn values_keep_their_currencys_digits() {
        for (code, minor, digits) in
            [("jpy", 12_800, "12800"), ("kwd", 7_250, "7.250"), ("usd", 5_000, "50.00")]
        {
            let value = Some(Money { minor, currency: Currency::parse(code).unwrap() });
            let outgoing = with(|found| {
                found.value = value;
                found.conversion.currency = Some(code.to_uppercase());
            });
            let text = body(&DestinationOptions::default(), &outgoing);
            assert!(text.contains(&format!("\"value\":{digits},")), "{text}");
        }
    }

    #[test]
    fn the_click_id_follows_the_identity_rule() {
        let options = DestinationOptions::default();
        let none = with_options(|options| options.anytrack.falls_back_to_our_click_id = false);
        let property = with_options(|options| {
            options.anytrack.property = Some("p8qkMansHXKG".to_owned());
        });
        let referred = |reference: &str| {
            with(|found| {
                found.conversion.client_reference_id = Some(reference.to_owned());
                found.click_id = None;
            })
        };
        let theirs = referred(THEIRS);
        let captured = with(|found| found.anytrack_click_id = Some(THEIRS.to_owned()));
        let odd = referred("aff2291");
        let rows = [
            ("came back from Stripe, also unmatched", &options, &theirs, Some(THEIRS), None),
            ("begins with the property", &property, &theirs, Some(THEIRS), None),
            ("captured with the visit", &options, &captured, Some(THEIRS), Some(OURS)),
            ("ours", &options, &purchase(), Some(OURS), Some(OURS)),
            ("ours, fallback off", &none, &purchase(), None, Some(OURS)),
            ("of another tool", &options, &odd, None, None),
            (
                "captured, of odd form",
                &options,
                &Outgoing { reference_was_captured: true, ..odd.clone() },
                Some("aff2291"),
                None,
            ),
        ];
        for (name, options, outgoing, clickid, ref_id) in rows {
            let read: serde_json::Value = serde_json::from_str(&body(options, outgoing)).unwrap();
            assert_eq!(read.get("clickid").and_then(|v| v.as_str()), clickid, "{name}");
            assert_eq!(read.get("ref_id").and_then(|v| v.as_str()), ref_id, "{name}");
        }
    }

    #[test]
    fn what_can_not_or_must_not_be_sent_has_a_reason() {
        let options = DestinationOptions::default();
        let strict = with_options(|options| options.limits.sends_unmatched = false);
        let nobody = with(|found| {
            found.conversion.client_reference_id = Some("--CLICK-ID--".to_owned());
            found.conversion.email = None;
            found.conversion.joined.state = MatchState::Unmatched;
            found.click_id = None;
        });
        let zero = Some(Money { minor: 0, currency: Currency::parse("usd").unwrap() });
        let kind = |kind: &str| with(|found| found.conversion.kind = ConversionKind::parse(kind));
        let private = with(|found| found.wants_privacy = true);
        let dear = with_options(|options| options.limits.minimum_value = Some("102.61".to_owned()));
        let shy = with_options(|options| options.limits.gpc = Discretion::Skip);
        let asking = with_options(|options| options.limits.consent = Discretion::Skip);
        let unmatched = with(|found| found.conversion.joined.state = MatchState::Unmatched);
        let rows = [
            ("no identity", &options, nobody.clone(), SkipReason::NoIdentity),
            ("unmatched, not wanted", &strict, unmatched, SkipReason::Unmatched),
            ("trial", &options, kind("trial"), SkipReason::KindOff),
            ("lead", &options, kind("lead"), SkipReason::KindOff),
            ("custom", &options, kind("Webinar"), SkipReason::KindOff),
            ("zero", &options, with(|found| found.value = zero), SkipReason::ZeroValue),
            ("too little", &dear, purchase(), SkipReason::BelowMinimum),
            ("privacy", &shy, private.clone(), SkipReason::Gpc),
            ("nobody agreed", &asking, purchase(), SkipReason::NoConsent),
        ];
        for (name, options, outgoing, skip) in rows {
            assert_eq!(composed(options, &outgoing), Err(skip), "{name}");
        }
        let less = with_options(|options| options.limits.gpc = Discretion::WithoutPersonal);
        assert!(!body(&less, &private).contains("jenny"));
        assert!(body(&less, &purchase()).contains("jenny"));
        let agreed = with(|found| found.has_agreed = true);
        assert!(composed(&asking, &agreed).is_ok());
        let less = with_options(|options| options.limits.consent = Discretion::WithoutPersonal);
        assert!(!body(&less, &purchase()).contains("jenny"));
        assert!(body(&less, &agreed).contains("jenny"));
        let mut mail_only = nobody;
        mail_only.conversion.email = Some("a@b.example".to_owned());
        assert!(!body(&options, &mail_only).contains("CLICK-ID"));
    }
}
