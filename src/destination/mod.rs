//! Destinations: what leaves, in which form, and what an answer means.
//! In: a conversion as the outside may know it. Out: a message to freeze, or a reason why none; later, an outcome per answer.
//! Promise: the message is a pure function of what is known, and nothing is ever sent to a private address unless the operator allows it.

mod anytrack;
mod guard;
mod send;

pub use guard::check_url;
pub(crate) use send::{Answer, Parcel, Sender};

use crate::money::Money;
use crate::settings::{Destination, DestinationKind};

/// What there is to tell of a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It was paid.
    Paid,
    /// So much more was given back.
    Refund(Money),
    /// A dispute took it.
    Chargeback,
}

/// A conversion as destinations may know it. `conversion` fills it in; nothing else of ours leaves.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) news: News,
    /// `purchase`, `renewal`, `trial`, `lead` or a custom name.
    pub(crate) kind: String,
    /// `paid`, … as in the API.
    pub(crate) status: String,
    pub(crate) livemode: bool,
    pub(crate) is_matched: bool,
    pub(crate) value: Option<Money>,
    pub(crate) email: Option<String>,
    pub(crate) transaction_id: String,
    /// What came back from Stripe, whatever it is.
    pub(crate) reference: Option<String>,
    /// True when that equals an AnyTrack click ID captured with a visit.
    pub(crate) reference_was_captured: bool,
    /// Our genuine click ID, if one is known.
    pub(crate) click_id: Option<String>,
    /// The AnyTrack click ID captured with the matched visit.
    pub(crate) anytrack_click_id: Option<String>,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) event_name: String,
    pub(crate) transaction_id: String,
    pub(crate) body: String,
    pub(crate) content_type: &'static str,
}

/// Why nothing is sent. The closed list that the journey page answers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    /// A test-mode payment, and the destination does not want those.
    TestMode,
    /// The destination does not want this kind.
    KindOff,
    /// Neither a click ID nor an e-mail: it could only be refused.
    NoIdentity,
    /// Unmatched, and the destination wants matched ones only.
    Unmatched,
    /// The value is zero, which is no purchase.
    ZeroValue,
}

impl Skip {
    /// The reason as stored.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::TestMode => "test_mode",
            Self::KindOff => "kind_off",
            Self::NoIdentity => "no_identity",
            Self::Unmatched => "unmatched",
            Self::ZeroValue => "zero_value",
        }
    }
}

/// The message for a destination, or why there is none.
pub(crate) fn compose(destination: &Destination, outgoing: &Outgoing) -> Result<Message, Skip> {
    if !outgoing.livemode && !destination.accepts_test {
        return Err(Skip::TestMode);
    }
    match destination.kind {
        DestinationKind::AnyTrack => anytrack::compose(&destination.options, outgoing),
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The destination took it. Not more: AnyTrack does not say whether it matched.
    Accepted,
    /// It may take it later.
    Retry,
    /// It will never take it as it is.
    Refused,
    /// We refuse to send there.
    Blocked,
}

impl Outcome {
    /// The outcome as stored with the attempt.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry => "retry",
            Self::Refused => "refused",
            Self::Blocked => "blocked",
        }
    }
}

/// What an answer means, and the sentence for people where it is not an acceptance.
pub(crate) fn judge(destination: &Destination, answer: &Answer) -> (Outcome, Option<String>) {
    match answer {
        Answer::Blocked(why) => (Outcome::Blocked, Some(why.clone())),
        Answer::Nothing(why) => (Outcome::Retry, Some(why.clone())),
        Answer::Http { status, location, body, .. } => {
            let said = |text: &str| body.to_lowercase().contains(&text.to_lowercase());
            let refusal =
                destination.options.refuse_if_body_contains.iter().find(|text| said(text));
            match (status, refusal) {
                (200..=299, Some(text)) => {
                    (Outcome::Refused, Some(format!("it answered {status}, but said: {text}")))
                }
                (200..=299, None) => (Outcome::Accepted, None),
                (408 | 425 | 429 | 500..=599, _) => {
                    (Outcome::Retry, Some(format!("it answered {status}")))
                }
                (status, _) if destination.options.retry_also.contains(status) => {
                    (Outcome::Retry, Some(format!("it answered {status}")))
                }
                (300..=399, _) => {
                    let to = location.as_deref().unwrap_or("another address");
                    (Outcome::Refused, Some(format!("it moved to {to}: put the new URL in")))
                }
                _ => (Outcome::Refused, Some(format!("it answered {status}"))),
            }
        }
    }
}

/// An answer with our own secrets taken out: some destinations repeat what they were asked.
pub(crate) fn hide_secrets(destination: &Destination, answer: &str) -> String {
    answer.replace(destination.url.expose(), "***")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::settings::DestinationOptions;

    pub(crate) fn destination() -> Destination {
        Destination {
            id: "dst_1".to_owned(),
            key: "anytrack".to_owned(),
            site_id: "site_1".to_owned(),
            kind: DestinationKind::AnyTrack,
            name: "AnyTrack".to_owned(),
            url: Secret::new("https://t1.anytrack.io/x/collect/y"),
            enabled: true,
            accepts_test: false,
            options: DestinationOptions::default(),
            revision: 1,
            from_environment: false,
        }
    }

    #[test]
    fn every_answer_has_its_outcome() {
        let http = |status, body: &str| Answer::Http {
            status,
            body: body.to_owned(),
            location: None,
            retry_after: None,
        };
        let rows = [
            ("200", http(200, "ok"), Outcome::Accepted),
            ("204", http(204, ""), Outcome::Accepted),
            (
                "200 that refuses",
                http(200, "{\"error\":\"missing CLICK_ID, ref_id and email\"}"),
                Outcome::Refused,
            ),
            ("200 without a match", http(200, "No match found"), Outcome::Refused),
            (
                "200 of a dead property",
                http(200, "console.log('property not exists anymore')"),
                Outcome::Refused,
            ),
            ("302", http(302, ""), Outcome::Refused),
            ("400", http(400, ""), Outcome::Refused),
            ("401", http(401, ""), Outcome::Refused),
            ("404", http(404, ""), Outcome::Refused),
            ("408", http(408, ""), Outcome::Retry),
            ("425", http(425, ""), Outcome::Retry),
            ("429", http(429, ""), Outcome::Retry),
            ("500", http(500, ""), Outcome::Retry),
            ("503 with a refusing text", http(503, "No match found"), Outcome::Retry),
            ("599", http(599, ""), Outcome::Retry),
            ("101", http(101, ""), Outcome::Refused),
            ("nothing", Answer::Nothing("no answer within 20 s".to_owned()), Outcome::Retry),
            ("blocked", Answer::Blocked("private".to_owned()), Outcome::Blocked),
        ];
        for (name, answer, expected) in rows {
            let (outcome, error) = judge(&destination(), &answer);
            assert_eq!(outcome, expected, "{name}");
            assert_eq!(error.is_none(), expected == Outcome::Accepted, "{name}");
        }
    }

    #[test]
    fn test_mode_stays_here_unless_wanted() {
        let mut destination = destination();
        let outgoing = anytrack::tests::purchase();
        let test = Outgoing { livemode: false, ..outgoing };
        assert_eq!(compose(&destination, &test), Err(Skip::TestMode));
        destination.accepts_test = true;
        assert!(compose(&destination, &test).is_ok());
    }
}
