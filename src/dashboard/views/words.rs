//! States and reasons in the owner's words.
//! In: words as stored. Out: words as read, and the chip they stand in.
//! Promise: every word has an explanation, or this does not compile; no page claims that AnyTrack matched anything.

use axum::http::StatusCode;

use super::Chip;
use super::times::{Times, distance};
use crate::clock::Timestamp;
use crate::domain::{
    ConversionKind, ConversionStatus, DeliveryReason, DeliveryState, EventState, FailureReason,
    HeldReason, IgnoredReason, MatchRule, MatchState, SkipReason, UnmatchedReason, Word as _,
};
use crate::report::{ConversionRow, DeliveryRow, DeliverySummary};

/// Why nothing matched, as a short clause: `tag did not run`.
pub(in crate::dashboard) fn reason(reason: UnmatchedReason) -> &'static str {
    match reason {
        UnmatchedReason::NoReference => "no parameter",
        UnmatchedReason::PlaceholderNotReplaced => "tag did not run",
        UnmatchedReason::ForeignReference => "somebody else’s ID",
        UnmatchedReason::UnknownClickId => "visit never arrived",
        UnmatchedReason::ForgedClickId => "forged click ID",
        UnmatchedReason::FirstPaymentNotSeen => "began before Clickstamp",
        UnmatchedReason::NoObject => "nothing to join on",
    }
}

/// The same as a heading: what happened.
pub(in crate::dashboard) fn reason_heading(reason: UnmatchedReason) -> &'static str {
    match reason {
        UnmatchedReason::NoReference => "The link has no parameter",
        UnmatchedReason::PlaceholderNotReplaced => "The tag did not run",
        UnmatchedReason::ForeignReference => "It carried somebody else’s ID",
        UnmatchedReason::UnknownClickId => "The visit never arrived",
        UnmatchedReason::ForgedClickId => "The click ID was forged",
        UnmatchedReason::FirstPaymentNotSeen => "It began before Clickstamp",
        UnmatchedReason::NoObject => "There was nothing to join on",
    }
}

/// How it was matched: `Click ID`, `Earlier payment`.
pub(in crate::dashboard) fn matched_by(rule: MatchRule) -> &'static str {
    match rule {
        MatchRule::Manual => "By hand",
        MatchRule::ClickId => "Click ID",
        MatchRule::AnytrackClickId => "AnyTrack ID",
        MatchRule::Metadata => "Metadata",
        MatchRule::StripeObject => "Earlier payment",
    }
}

/// The chip of the match: how, or why not.
pub(in crate::dashboard) fn match_chip(row: &ConversionRow) -> Chip {
    match row.match_state {
        MatchState::Matched => Chip::ok(row.match_by.map_or("Matched", matched_by)),
        MatchState::Unmatched => {
            let why = row.match_reason.unwrap_or(UnmatchedReason::NoObject);
            Chip::open(format!("Unmatched: {}", reason(why)))
        }
    }
}

/// One chip per delivery: the destination's name, and the state only if it is not "accepted".
pub(in crate::dashboard) fn delivery_chip(
    delivery: &DeliverySummary,
    times: &Times,
    now: Timestamp,
) -> Chip {
    let name = &delivery.destination_name;
    match delivery.state {
        DeliveryState::Delivered => Chip::ok(name.clone()),
        DeliveryState::Pending if delivery.due_at > now => {
            Chip::wait(format!("{name}: next try {}", times.short(delivery.due_at, now).text))
        }
        DeliveryState::Pending => Chip::wait(format!("{name}: owed")),
        DeliveryState::GivenUp => Chip::bad(format!("{name}: given up")),
        DeliveryState::Held => Chip::quiet(format!("{name}: held")),
        DeliveryState::Skipped => Chip::quiet(format!("Not sent: {}", why(delivery.reason))),
    }
}

/// The state of a delivery on a page where its destination stands beside it.
pub(in crate::dashboard) fn delivery_state(row: &DeliveryRow) -> Chip {
    match row.state {
        DeliveryState::Delivered => Chip::ok("Accepted"),
        DeliveryState::Pending => Chip::wait("Owed"),
        DeliveryState::GivenUp => Chip::bad("Given up"),
        DeliveryState::Held => Chip::quiet("Held"),
        DeliveryState::Skipped => Chip::quiet(format!("Not sent: {}", why(row.reason))),
    }
}

/// What somebody said, as a sentence: `it answered 410` is `It answered 410.`
pub(in crate::dashboard) fn sentence(said: &str) -> String {
    let said = said.trim();
    let mut letters = said.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if said.is_empty() || said.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// How long a delivery that is owed is still worth sending; `None` where it has no end, or has come to one.
pub(in crate::dashboard) fn expires(row: &DeliveryRow, now: Timestamp) -> Option<String> {
    let at = row
        .expires_at
        .filter(|_| matches!(row.state, DeliveryState::Pending | DeliveryState::Held))?;
    Some(if at > now {
        format!("expires in {}", distance(at.since(now)))
    } else {
        "expired".to_owned()
    })
}

/// Why a delivery failed or was not sent.
pub(in crate::dashboard) fn why(reason: Option<DeliveryReason>) -> &'static str {
    match reason {
        Some(DeliveryReason::Failed(reason)) => given_up(reason),
        Some(DeliveryReason::Skipped(reason)) => skipped(reason),
        None => "on purpose",
    }
}

/// Why a delivery was not sent on purpose.
pub(in crate::dashboard) fn skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::TestMode => "test mode",
        SkipReason::KindOff => "this kind is not told",
        SkipReason::NoIdentity => "no click ID and no e-mail",
        SkipReason::Unmatched => "not matched",
        SkipReason::ZeroValue => "no money",
        SkipReason::BelowMinimum => "less than the least value",
        SkipReason::Gpc => "the visitor asked for privacy",
        SkipReason::NoConsent => "the visitor is not known to have agreed",
        SkipReason::BeforeDestination => "older than the destination",
        SkipReason::SiteOff => "this site is not told",
        SkipReason::Echo => "it came from there",
        SkipReason::TooOld => "it came in too late to be told by itself",
    }
}

/// Why a delivery was given up.
pub(in crate::dashboard) fn given_up(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Exhausted => "no try of the whole schedule was accepted",
        FailureReason::Refused => "it was refused, and the same message would be refused again",
        FailureReason::BlockedAddress => "its address is private, where nothing is sent",
        FailureReason::MappingError => "its message could not be made from the rows",
        FailureReason::Expired => "it came too late to be worth sending",
        FailureReason::DestinationDeleted => "the destination was deleted",
    }
}

/// Where a payment stands.
pub(in crate::dashboard) fn status_chip(status: ConversionStatus) -> Chip {
    match status {
        ConversionStatus::Paid => Chip::ok("Paid"),
        ConversionStatus::Pending => Chip::wait("Payment under way"),
        ConversionStatus::Authorized => Chip::wait("Authorized, not captured yet"),
        ConversionStatus::Failed => Chip::quiet("Payment failed"),
        ConversionStatus::PartiallyRefunded => Chip::quiet("Partly refunded"),
        ConversionStatus::Refunded => Chip::quiet("Refunded"),
        ConversionStatus::Disputed => Chip::open("Disputed"),
        ConversionStatus::Duplicate => Chip::quiet("Duplicate (receipt)"),
    }
}

/// What to note below an amount; nothing when it was simply paid.
pub(in crate::dashboard) fn status_note(status: ConversionStatus) -> &'static str {
    match status {
        ConversionStatus::Paid => "",
        ConversionStatus::Pending => "under way",
        ConversionStatus::Authorized => "not captured yet",
        ConversionStatus::Failed => "failed",
        ConversionStatus::PartiallyRefunded => "partly refunded",
        ConversionStatus::Refunded => "refunded",
        ConversionStatus::Disputed => "disputed",
        ConversionStatus::Duplicate => "duplicate, not counted",
    }
}

/// What kind of conversion.
pub(in crate::dashboard) fn kind(kind: &ConversionKind) -> String {
    capital(kind.as_str())
}

/// Where a visit came from, in general.
pub(in crate::dashboard) fn channel(channel: &str) -> String {
    if channel.is_empty() { "Unknown".to_owned() } else { capital(channel) }
}

/// The state of a Stripe event.
pub(in crate::dashboard) fn event_chip(state: EventState) -> Chip {
    match state {
        EventState::Received => Chip::wait("Waiting"),
        EventState::Processed => Chip::ok("Read"),
        EventState::Ignored => Chip::quiet("Not needed"),
        EventState::Failed => Chip::bad("Failed"),
        EventState::Held => Chip::wait("On hold"),
    }
}

/// Why an event is on hold, or was not needed; what this version does not know is shown as it is.
pub(in crate::dashboard) fn event_reason(reason: &str) -> &str {
    match (HeldReason::parse(reason), IgnoredReason::parse(reason)) {
        (Some(held), _) => self::held(held),
        (None, Some(ignored)) => self::ignored(ignored),
        (None, None) => reason,
    }
}

fn held(reason: HeldReason) -> &'static str {
    match reason {
        HeldReason::LiveOnTest => {
            "live money, sent to a webhook for test mode; accept it on the webhook’s page"
        }
        HeldReason::OtherAccount => {
            "of another Stripe account than the webhook’s; accept it on the webhook’s page"
        }
    }
}

fn ignored(reason: IgnoredReason) -> &'static str {
    match reason {
        IgnoredReason::UnsupportedType => "this type says nothing about a payment we count",
        IgnoredReason::Ping => "Stripe’s own test of the connection",
        IgnoredReason::ZeroAmount => "nothing was paid, so no payment was recorded",
        IgnoredReason::CoveredBySnapshot => "an ordinary event says the same",
    }
}

/// Why a webhook was not believed.
pub(in crate::dashboard) fn rejected(reason: &str) -> &str {
    match reason {
        "config" => "no signing secret is set here",
        "missing" => "it had no signature",
        "malformed" => "its signature could not be read",
        "no_v1" => "its signature was of another kind",
        "mismatch" => "its signature did not fit our signing secret",
        "too_old" => "it was signed too long ago",
        "too_new" => "it was signed in the future: a clock is wrong",
        "json" => "its signature was right, but it was no JSON object",
        other => other,
    }
}

/// `503 Service Unavailable`.
pub(in crate::dashboard) fn http_status(status: i64) -> String {
    let known = u16::try_from(status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    match known.and_then(|code| code.canonical_reason()) {
        Some(words) => format!("{status} {words}"),
        None => status.to_string(),
    }
}

/// `google / cpc`, `direct`.
pub(in crate::dashboard) fn origin(
    source: Option<&str>,
    medium: Option<&str>,
    channel: &str,
) -> String {
    match (source, medium) {
        (Some(source), Some(medium)) => format!("{source} / {medium}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) => channel.to_owned(),
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_version_does_not_know_is_shown_as_it_is() {
        assert!(event_reason("other_account").contains("another Stripe account"));
        assert!(event_reason("ping").contains("test"));
        assert_eq!(event_reason("new_reason"), "new_reason");
    }

    #[test]
    fn statuses_are_named() {
        assert_eq!(http_status(503), "503 Service Unavailable");
        assert_eq!(http_status(799), "799");
        assert_eq!(channel("paid search"), "Paid search");
        assert_eq!(origin(Some("google"), Some("cpc"), "paid search"), "google / cpc");
        assert_eq!(origin(None, None, "direct"), "direct");
    }
}
