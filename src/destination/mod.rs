//! Destinations: what leaves, in which form, and what an answer means.
//! In: a conversion as the outside may know it. Out: a message to freeze, or a reason why none; later, an outcome per answer.
//! Promise: the message is a pure function of what is known, and nothing is ever sent to a private address unless the operator allows it.

mod anytrack;
mod example;
pub(crate) mod facts;
mod guard;
mod mail;
pub(crate) mod mapping;
pub(crate) mod presets;
mod send;
mod webhook;

pub(crate) use example::{Tried, try_out};
pub(crate) use facts::{News, Outgoing};
pub use guard::{Lookup, check_url};
pub(crate) use mail::{Letter, MailServer, Security, check_recipients};
pub use send::Network;
pub(crate) use send::{Answer, Parcel, Sender};
pub(crate) use webhook::new_secret;

use serde_json::Value;

use crate::money::Money;
use crate::settings::{Destination, DestinationKind, DestinationOptions, Discretion, Encoding};

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
    /// The value is less than the destination wants to hear of.
    BelowMinimum,
    /// The visitor's browser asked for privacy.
    Gpc,
    /// The visitor is not known to have agreed.
    NoConsent,
    /// It came before the destination was added.
    BeforeDestination,
    /// The destination does not hear of this site.
    SiteOff,
    /// It came from there.
    Echo,
    /// It is older than the destination wants to hear of.
    TooOld,
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
            Self::BelowMinimum => "below_minimum",
            Self::Gpc => "gpc",
            Self::NoConsent => "no_consent",
            Self::BeforeDestination => "before_destination",
            Self::SiteOff => "site_off",
            Self::Echo => "echo",
            Self::TooOld => "too_old",
        }
    }
}

/// Why there is no message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// It is not wanted.
    Skipped(Skip),
    /// The mapping fails on this conversion: which field, and why.
    Broken(String),
}

impl From<Skip> for Unsent {
    fn from(skip: Skip) -> Self {
        Self::Skipped(skip)
    }
}

/// Content type of a message that stands in the URL.
pub(crate) const IN_THE_URL: &str = "query";

/// The message for a destination, or why there is none.
pub(crate) fn compose(destination: &Destination, outgoing: &Outgoing) -> Result<Message, Unsent> {
    let options = &destination.options;
    admit(destination, outgoing)?;
    let event_name = event_name(outgoing);
    let is_discreet = |asks: bool, choice| asks && choice == Discretion::WithoutPersonal;
    let less = (is_discreet(outgoing.wants_privacy, options.gpc)
        || is_discreet(!outgoing.has_agreed, options.consent))
    .then(|| outgoing.without_personal());
    let outgoing = less.as_ref().unwrap_or(outgoing);
    let has_identity = anytrack::click_id(options, outgoing).is_some()
        || outgoing.click_id.is_some()
        || outgoing.conversion.email.is_some();
    if destination.kind == DestinationKind::AnyTrack && !has_identity {
        return Err(Skip::NoIdentity.into());
    }
    let body = match (&options.rows, destination.kind) {
        (Some(rows), _) => {
            let broken = |fault: mapping::Fault| {
                let field = rows.get(fault.row).map_or("", |row| row.field.as_str());
                Unsent::Broken(format!("the mapping of “{field}” fails: {}", fault.message))
            };
            mapping::build(rows, &names(options, outgoing), options.encoding).map_err(broken)?
        }
        (None, DestinationKind::AnyTrack) => anytrack::body(options, outgoing, event_name),
        (None, DestinationKind::Webhook) => webhook::body(outgoing),
    };
    let encoding = if options.rows.is_some() { options.encoding } else { Encoding::Json };
    Ok(Message {
        event_name: event_name.to_owned(),
        transaction_id: outgoing.transaction_id.clone(),
        body,
        content_type: match encoding {
            Encoding::Json => "application/json",
            Encoding::Form => "application/x-www-form-urlencoded",
            Encoding::Query => IN_THE_URL,
        },
    })
}

/// The names that a destination's rows may use for a conversion.
pub(crate) fn names(options: &DestinationOptions, outgoing: &Outgoing) -> Value {
    let anytracks = anytrack::anytracks(options, outgoing);
    let ours = outgoing.click_id.as_deref().filter(|_| options.falls_back_to_our_click_id);
    outgoing.names(event_name(outgoing), anytracks, ours)
}

/// The destination's name for what happened.
fn event_name(outgoing: &Outgoing) -> &str {
    match (outgoing.news, outgoing.conversion.kind.as_str()) {
        (News::Refund(_), _) => "Refund",
        (News::Chargeback, _) => "Chargeback",
        (News::Paid, "purchase" | "renewal") => "Purchase",
        (News::Paid, "trial" | "lead") => "Lead",
        // A page's own event must not pass for a refund.
        (News::Paid, custom) if custom.eq_ignore_ascii_case("refund") => "CustomRefund",
        (News::Paid, custom) if custom.eq_ignore_ascii_case("chargeback") => "CustomChargeback",
        (News::Paid, custom) => custom,
    }
}

/// The owner's conditions.
fn admit(destination: &Destination, outgoing: &Outgoing) -> Result<(), Skip> {
    let options = &destination.options;
    let conversion = &outgoing.conversion;
    let is_wanted = match (outgoing.news, conversion.kind.as_str()) {
        (News::Refund(_), _) => options.sends_refunds,
        (News::Chargeback, _) => options.sends_disputes,
        (News::Paid, "purchase") => options.sends_purchases,
        (News::Paid, "renewal") => options.sends_renewals,
        (News::Paid, "trial") => options.sends_trials,
        (News::Paid, "lead") => options.sends_leads,
        (News::Paid, _) => options.sends_custom,
    };
    let is_paid = outgoing.news == News::Paid;
    let is_purchase = event_name(outgoing) == "Purchase";
    let minimum = options.minimum_value.as_deref();
    let is_less = |value: Money| {
        let minimum = minimum.and_then(|text| Money::parse(text, value.currency));
        minimum.is_some_and(|minimum| value.minor < minimum.minor)
    };
    if !conversion.livemode && !destination.accepts_test {
        Err(Skip::TestMode)
    } else if outgoing.never_to.contains(&destination.id) {
        Err(Skip::Echo)
    } else if !options.sites.is_empty() && !options.sites.contains(&conversion.site) {
        Err(Skip::SiteOff)
    } else if !is_wanted {
        Err(Skip::KindOff)
    } else if is_purchase && outgoing.value.is_some_and(|value| value.minor == 0) {
        Err(Skip::ZeroValue)
    } else if is_paid && outgoing.value.is_some_and(is_less) {
        Err(Skip::BelowMinimum)
    } else if outgoing.wants_privacy && options.gpc == Discretion::Skip {
        Err(Skip::Gpc)
    } else if !outgoing.has_agreed && options.consent == Discretion::Skip {
        Err(Skip::NoConsent)
    } else if !outgoing.is_matched() && !options.sends_unmatched {
        Err(Skip::Unmatched)
    } else {
        Ok(())
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
    let options = &destination.options;
    judge_by(&options.refuse_if_body_contains, &options.retry_also, answer)
}

/// The same by the statuses and texts that mean something else than usual.
pub(crate) fn judge_by(
    refusals: &[String],
    retry_also: &[u16],
    answer: &Answer,
) -> (Outcome, Option<String>) {
    match answer {
        Answer::Blocked(why) => (Outcome::Blocked, Some(why.clone())),
        Answer::Nothing(why) => (Outcome::Retry, Some(why.clone())),
        Answer::Http { status, location, body, .. } => {
            let said = |text: &str| body.to_lowercase().contains(&text.to_lowercase());
            let refusal = refusals.iter().find(|text| said(text));
            match (status, refusal) {
                (200..=299, Some(text)) => {
                    (Outcome::Refused, Some(format!("it answered {status}, but said: {text}")))
                }
                (200..=299, None) => (Outcome::Accepted, None),
                (408 | 425 | 429 | 500..=599, _) => {
                    (Outcome::Retry, Some(format!("it answered {status}")))
                }
                (status, _) if retry_also.contains(status) => {
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
    let headers = destination.options.headers.iter().map(|header| header.value.as_str());
    let secrets =
        [destination.url.expose()].into_iter().chain(headers).filter(|text| text.len() > 3);
    secrets.fold(answer.to_owned(), |answer, secret| answer.replace(secret, "***"))
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
            secrets: Vec::new(),
            created_at: crate::clock::Timestamp::from_ms(0),
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
        let mut test = anytrack::tests::purchase();
        test.conversion.livemode = false;
        assert_eq!(compose(&destination, &test), Err(Skip::TestMode.into()));
        destination.accepts_test = true;
        assert!(compose(&destination, &test).is_ok());
    }
}
