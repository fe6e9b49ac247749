//! AnyTrack's custom integration: the default mapping and the identity rule.
//! In: a conversion as the outside may know it. Out: one JSON object, or why none can be sent.
//! Promise: `clickid` is AnyTrack's own ID wherever one is known; unknown fields are left out, never sent empty; the value keeps its digits. Pure.
//! Source: readme.anytrack.io, custom-integration-parameters and stripe.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Message, News, Outgoing, Skip};
use crate::money::Money;
use crate::settings::DestinationOptions;

/// Lengths of AnyTrack's click IDs: property (12) and client (14), with or without an event (8).
const ANYTRACK_ID_CHARS: [usize; 2] = [26, 34];

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    clickid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    transaction_id: &'a str,
    event_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ref_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refund_value: Option<Box<RawValue>>,
}

pub(super) fn compose(options: &DestinationOptions, outgoing: &Outgoing) -> Result<Message, Skip> {
    let event_name = match (outgoing.news, outgoing.kind.as_str()) {
        (News::Refund(_), _) if options.sends_refunds => "Refund",
        (News::Chargeback, _) if options.sends_disputes => "Chargeback",
        (News::Paid, "purchase" | "renewal") => "Purchase",
        (News::Paid, "trial") if options.sends_trials => "Lead",
        (News::Paid, "lead") if options.sends_leads => "Lead",
        _ => return Err(Skip::KindOff),
    };
    if event_name == "Purchase" && outgoing.value.is_some_and(|value| value.minor == 0) {
        return Err(Skip::ZeroValue);
    }
    if !outgoing.is_matched && !options.sends_unmatched {
        return Err(Skip::Unmatched);
    }
    let ours = outgoing.click_id.as_deref();
    let anytracks = came_back(options, outgoing).or(outgoing.anytrack_click_id.as_deref());
    let clickid = anytracks.or(ours.filter(|_| options.falls_back_to_our_click_id));
    let email = outgoing.email.as_deref();
    if clickid.is_none() && ours.is_none() && email.is_none() {
        return Err(Skip::NoIdentity);
    }
    // Digits as they are: through a float, 102.60 would become 102.6.
    let digits = |value: Money| RawValue::from_string(value.decimal()).ok();
    // AnyTrack counts every positive value as revenue, so what was given back stands in a field of its own.
    let value = match outgoing.news {
        News::Paid => outgoing.value,
        News::Refund(_) | News::Chargeback => {
            outgoing.value.map(|value| Money { minor: 0, ..value })
        }
    };
    let refund_value = match outgoing.news {
        News::Refund(growth) => digits(growth),
        News::Paid | News::Chargeback => None,
    };
    let currency = value.map(|value| value.currency);
    let body = Body {
        clickid,
        value: value.and_then(digits),
        currency: currency.as_ref().map(|currency| currency.code()),
        email,
        status: (outgoing.news == News::Paid && outgoing.status == "paid").then_some("paid"),
        transaction_id: &outgoing.transaction_id,
        event_name,
        ref_id: ours,
        refund_value,
    };
    Ok(Message {
        event_name: event_name.to_owned(),
        transaction_id: outgoing.transaction_id.clone(),
        body: serde_json::to_string(&body).expect("text and numbers serialise"),
        content_type: "application/json",
    })
}

/// What came back from Stripe, if it is an AnyTrack click ID: their tag replaced the placeholder before ours did.
fn came_back<'a>(options: &DestinationOptions, outgoing: &'a Outgoing) -> Option<&'a str> {
    let reference = outgoing.reference.as_deref()?;
    let is_alphanumeric = reference.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_theirs =
        match options.anytrack_property.as_deref().filter(|property| !property.is_empty()) {
            Some(property) => is_alphanumeric && reference.starts_with(property),
            None => is_alphanumeric && ANYTRACK_ID_CHARS.contains(&reference.len()),
        };
    (outgoing.reference_was_captured || is_theirs).then_some(reference)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::money::{Currency, Money};

    const OURS: &str = "ck_0123456789abcdefghjkmnpqrstvwxyz";
    const THEIRS: &str = "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys";

    pub(crate) fn purchase() -> Outgoing {
        Outgoing {
            news: News::Paid,
            kind: "purchase".to_owned(),
            status: "paid".to_owned(),
            livemode: true,
            is_matched: true,
            value: Some(Money { minor: 10_260, currency: Currency::parse("usd").unwrap() }),
            email: Some("jenny.rosen@example.com".to_owned()),
            transaction_id: "cs_live_1".to_owned(),
            reference: Some(OURS.to_owned()),
            reference_was_captured: false,
            click_id: Some(OURS.to_owned()),
            anytrack_click_id: None,
        }
    }

    fn body(options: &DestinationOptions, outgoing: &Outgoing) -> String {
        compose(options, outgoing).unwrap().body
    }

    #[test]
    fn the_documented_case_is_exact_to_the_byte() {
        let expected = format!(
            r#"{{"clickid":"{OURS}","value":102.60,"currency":"USD","email":"jenny.rosen@example.com","status":"paid","transaction_id":"cs_live_1","event_name":"Purchase","ref_id":"{OURS}"}}"#
        );
        assert_eq!(body(&DestinationOptions::default(), &purchase()), expected);
    }

    #[test]
    fn refunds_and_chargebacks_are_told_only_where_wanted_and_never_as_revenue() {
        let options = DestinationOptions {
            sends_refunds: true,
            sends_disputes: true,
            ..DestinationOptions::default()
        };
        let growth = Money { minor: 2_600, currency: Currency::parse("usd").unwrap() };
        let refund = Outgoing { news: News::Refund(growth), ..purchase() };
        let lost = Outgoing { news: News::Chargeback, ..purchase() };
        for news in [&refund, &lost] {
            assert_eq!(compose(&DestinationOptions::default(), news), Err(Skip::KindOff));
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
            let text = body(&DestinationOptions::default(), &Outgoing { value, ..purchase() });
            assert!(text.contains(&format!("\"value\":{digits},")), "{text}");
        }
    }

    #[test]
    fn the_click_id_follows_the_identity_rule() {
        let options = DestinationOptions::default();
        let none = DestinationOptions {
            falls_back_to_our_click_id: false,
            ..DestinationOptions::default()
        };
        let property = DestinationOptions {
            anytrack_property: Some("p8qkMansHXKG".to_owned()),
            ..DestinationOptions::default()
        };
        let theirs = Outgoing {
            reference: Some(THEIRS.to_owned()),
            click_id: None,
            is_matched: false,
            ..purchase()
        };
        let captured = Outgoing { anytrack_click_id: Some(THEIRS.to_owned()), ..purchase() };
        let odd = Outgoing { reference: Some("aff2291".to_owned()), click_id: None, ..purchase() };
        let rows = [
            ("came back from Stripe, also unmatched", &options, &theirs, Some(THEIRS), None),
            ("begins with the property", &property, &theirs, Some(THEIRS), None),
            ("captured with the visit", &options, &captured, Some(THEIRS), Some(OURS)),
            ("ours", &options, &purchase(), Some(OURS), Some(OURS)),
            ("ours, fallback off", &none, &purchase(), None, Some(OURS)),
            ("somebody else's", &options, &odd, None, None),
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
    fn what_cannot_or_must_not_be_sent_says_why() {
        let options = DestinationOptions::default();
        let strict = DestinationOptions { sends_unmatched: false, ..DestinationOptions::default() };
        let nobody = Outgoing {
            reference: Some("--CLICK-ID--".to_owned()),
            click_id: None,
            email: None,
            is_matched: false,
            ..purchase()
        };
        let zero = Some(Money { minor: 0, currency: Currency::parse("usd").unwrap() });
        let rows = [
            ("no identity", &options, nobody.clone(), Skip::NoIdentity),
            (
                "unmatched, not wanted",
                &strict,
                Outgoing { is_matched: false, ..purchase() },
                Skip::Unmatched,
            ),
            ("trial", &options, Outgoing { kind: "trial".to_owned(), ..purchase() }, Skip::KindOff),
            ("lead", &options, Outgoing { kind: "lead".to_owned(), ..purchase() }, Skip::KindOff),
            ("zero", &options, Outgoing { value: zero, ..purchase() }, Skip::ZeroValue),
        ];
        for (name, options, outgoing, skip) in rows {
            assert_eq!(compose(options, &outgoing), Err(skip), "{name}");
        }
        let mail_only = Outgoing { email: Some("a@b.example".to_owned()), ..nobody };
        assert!(!body(&options, &mail_only).contains("CLICK-ID"));
    }
}
