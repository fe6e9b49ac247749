//! States and reasons as the pages show them. Takes the stored enums; returns text and chips.
//! Every value has a text, because every `match` is exhaustive. No text claims that AnyTrack matched a conversion.

use axum::http::StatusCode;

use super::Chip;
use super::times::{Times, distance};
use crate::clock::Timestamp;
use crate::domain::{
    ApartReason, ConversionKind, ConversionStatus, DeliveryReason, DeliveryState, EventState,
    FailureReason, HeldReason, IgnoredReason, MatchRule, MatchState, SkipReason, UnmatchedReason,
    Word as _,
};
use crate::report::{ConversionRow, DeliveryRow, DeliverySummary, StripeEventRow};

/// Why nothing matched, as a short clause: `tag didn’t run`.
pub(in crate::dashboard) fn reason(reason: UnmatchedReason) -> &'static str {
    match reason {
        UnmatchedReason::NoReference => "no click ID in the link",
        UnmatchedReason::PlaceholderNotReplaced => "tag didn’t run",
        UnmatchedReason::ForeignReference => "another tool’s ID",
        UnmatchedReason::UnknownClickId => "visit never arrived",
        UnmatchedReason::ForgedClickId => "forged click ID",
        UnmatchedReason::FirstPaymentNotSeen => "first payment before Clickstamp",
        UnmatchedReason::NoObject => "no ID to match",
    }
}

/// The same reason as a heading.
pub(in crate::dashboard) fn reason_heading(reason: UnmatchedReason) -> &'static str {
    match reason {
        UnmatchedReason::NoReference => "The link has no click ID parameter",
        UnmatchedReason::PlaceholderNotReplaced => "The tag didn’t run",
        UnmatchedReason::ForeignReference => "Another tool’s ID was in the link",
        UnmatchedReason::UnknownClickId => "The visit never arrived",
        UnmatchedReason::ForgedClickId => "The click ID was forged",
        UnmatchedReason::FirstPaymentNotSeen => "The first payment was before Clickstamp",
        UnmatchedReason::NoObject => "No ID to match",
    }
}

/// The rule that matched it: `Click ID`, `Earlier payment`.
pub(in crate::dashboard) fn matched_by(rule: MatchRule) -> &'static str {
    match rule {
        MatchRule::Manual => "By hand",
        MatchRule::ClickId => "Click ID",
        MatchRule::AnytrackClickId => "AnyTrack ID",
        MatchRule::Metadata => "Metadata",
        MatchRule::StripeObject => "Earlier payment",
    }
}

/// The chip of the match: the rule, or the reason why nothing matched.
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
            Chip::wait(format!("{name}: next attempt {}", times.short(delivery.due_at, now).text))
        }
        DeliveryState::Pending => Chip::wait(format!("{name}: queued")),
        DeliveryState::GivenUp => Chip::bad(format!("{name}: failed")),
        DeliveryState::Held => Chip::quiet(format!("{name}: paused")),
        DeliveryState::Skipped => Chip::quiet(format!("Not sent: {}", why(delivery.reason))),
    }
}

/// The state of a delivery, for pages that show its destination separately.
pub(in crate::dashboard) fn delivery_state(row: &DeliveryRow) -> Chip {
    match row.state {
        DeliveryState::Delivered => Chip::ok("Accepted"),
        DeliveryState::Pending => Chip::wait("Pending"),
        DeliveryState::GivenUp => Chip::bad("Failed"),
        DeliveryState::Held => Chip::quiet("Paused"),
        DeliveryState::Skipped => Chip::quiet(format!("Not sent: {}", why(row.reason))),
    }
}

/// Turns an error message into a sentence: `it answered 410` becomes `It answered 410.`
pub(in crate::dashboard) fn sentence(said: &str) -> String {
    let said = said.trim();
    let mut letters = said.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if said.is_empty() || said.ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", letters.as_str())
}

/// When a pending or paused delivery expires. `None` if it never does or its outcome is final.
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
        None => "no reason recorded",
    }
}

/// A reason in a menu: `Failed: it expired before it was accepted`.
pub(in crate::dashboard) fn reason_label(reason: DeliveryReason) -> String {
    match reason {
        DeliveryReason::Failed(reason) => format!("Failed: {}", given_up(reason)),
        DeliveryReason::Skipped(reason) => format!("Not sent: {}", skipped(reason)),
    }
}

/// The last response, or the error instead of one; empty before the first attempt.
pub(in crate::dashboard) fn last_response(row: &DeliveryRow) -> String {
    match row.last_status {
        Some(status) => http_status(status),
        None => row.last_error.clone().unwrap_or_default(),
    }
}

/// The label of the button that sends a delivery again, if its state allows that.
pub(in crate::dashboard) fn resend(state: DeliveryState) -> Option<&'static str> {
    match state {
        DeliveryState::Pending => Some("Send now"),
        DeliveryState::GivenUp => Some("Resend"),
        DeliveryState::Delivered | DeliveryState::Held | DeliveryState::Skipped => None,
    }
}

/// Why a delivery was skipped.
pub(in crate::dashboard) fn skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::TestMode => "test mode",
        SkipReason::KindOff => "this event type is turned off",
        SkipReason::NoIdentity => "no click ID and no email",
        SkipReason::Unmatched => "not matched",
        SkipReason::ZeroValue => "the amount is zero",
        SkipReason::BelowMinimum => "below the minimum amount",
        SkipReason::Gpc => "the visitor’s browser asked for privacy (GPC)",
        SkipReason::NoConsent => "the visitor gave no consent",
        SkipReason::BeforeDestination => "paid before the destination was added",
        SkipReason::SiteOff => "this site is turned off for the destination",
        SkipReason::Echo => "the conversion came from this destination",
        SkipReason::TooOld => "older than the maximum age",
    }
}

/// Why a delivery failed.
pub(in crate::dashboard) fn given_up(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::Exhausted => "all attempts in the retry schedule failed",
        FailureReason::Refused => {
            "the destination rejected it, and would reject the same message again"
        }
        FailureReason::BlockedAddress => {
            "its URL points to a private network, and nothing is sent there"
        }
        FailureReason::MappingError => "the message could not be built from the mapping",
        FailureReason::Expired => "it expired before it was accepted",
        FailureReason::DestinationDeleted => "the destination was deleted",
    }
}

/// The status of a payment.
pub(in crate::dashboard) fn status_chip(status: ConversionStatus) -> Chip {
    match status {
        ConversionStatus::Paid => Chip::ok("Paid"),
        ConversionStatus::Pending => Chip::wait("Payment processing"),
        ConversionStatus::Authorized => Chip::wait("Authorized, not captured yet"),
        ConversionStatus::Failed => Chip::quiet("Payment failed"),
        ConversionStatus::PartiallyRefunded => Chip::quiet("Partly refunded"),
        ConversionStatus::Refunded => Chip::quiet("Refunded"),
        ConversionStatus::Disputed => Chip::open("Disputed"),
        ConversionStatus::Duplicate => Chip::quiet("Duplicate (receipt)"),
    }
}

/// A note below an amount; empty for an ordinary paid payment.
pub(in crate::dashboard) fn status_note(status: ConversionStatus) -> &'static str {
    match status {
        ConversionStatus::Paid => "",
        ConversionStatus::Pending => "processing",
        ConversionStatus::Authorized => "not captured yet",
        ConversionStatus::Failed => "failed",
        ConversionStatus::PartiallyRefunded => "partly refunded",
        ConversionStatus::Refunded => "refunded",
        ConversionStatus::Disputed => "disputed",
        ConversionStatus::Duplicate => "duplicate, not counted",
    }
}

/// The kind of a conversion: `Purchase`.
pub(in crate::dashboard) fn kind(kind: &ConversionKind) -> String {
    capital(kind.as_str())
}

/// The channel of a visit: `Paid search`.
pub(in crate::dashboard) fn channel(channel: &str) -> String {
    match channel {
        "" => "Unknown".to_owned(),
        "ai" => "AI assistants".to_owned(),
        channel => capital(channel),
    }
}

/// The state of a Stripe event.
pub(in crate::dashboard) fn event_chip(state: EventState) -> Chip {
    match state {
        EventState::Received => Chip::wait("Queued"),
        EventState::Processed => Chip::ok("Processed"),
        EventState::Ignored => Chip::quiet("Ignored"),
        EventState::Failed => Chip::bad("Failed"),
        EventState::Held => Chip::wait("On hold"),
    }
}

/// Stripe's type of an event.
pub(in crate::dashboard) fn event_type(row: &StripeEventRow) -> &str {
    if row.kind.is_empty() { "unnamed" } else { &row.kind }
}

/// What an event changed, why it was ignored or is on hold, or why it failed.
pub(in crate::dashboard) fn event_result(row: &StripeEventRow) -> &str {
    match row.state {
        EventState::Held | EventState::Ignored => {
            event_reason(row.reason.as_deref().unwrap_or_default())
        }
        EventState::Failed => row.error.as_deref().unwrap_or_default(),
        EventState::Received | EventState::Processed => row.note.as_deref().unwrap_or_default(),
    }
}

/// Why an event is on hold or was ignored. A reason that this version does not know is returned unchanged.
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
            "a live payment was sent to a test-mode webhook; accept it on the webhook’s page"
        }
        HeldReason::OtherAccount => {
            "sent by another Stripe account than this webhook’s; accept it on the webhook’s page"
        }
    }
}

fn ignored(reason: IgnoredReason) -> &'static str {
    match reason {
        IgnoredReason::UnsupportedType => "this event type isn’t used",
        IgnoredReason::Ping => "Stripe’s connection test",
        IgnoredReason::ZeroAmount => "the amount was zero, so no payment was recorded",
        IgnoredReason::CoveredBySnapshot => "another event already covers it",
    }
}

/// Why a page event does not count, as a tab.
pub(in crate::dashboard) fn apart(reason: ApartReason) -> &'static str {
    match reason {
        ApartReason::NoVisit => "No visit",
        ApartReason::OtherWebsite => "Other website",
    }
}

/// Why a webhook request was rejected.
pub(in crate::dashboard) fn rejected(reason: &str) -> &str {
    match reason {
        "config" => "no signing secret is set",
        "missing" => "it had no signature header",
        "malformed" => "its signature header could not be read",
        "no_v1" => "its signature uses an unsupported version",
        "mismatch" => "its signature doesn’t match the signing secret",
        "too_old" => "its signature is too old",
        "too_new" => "its signature is from the future: check the server’s clock",
        "json" => "its signature was valid, but the body isn’t a JSON object",
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

/// With a capital at its beginning.
pub(in crate::dashboard) fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_reasons_are_shown_unchanged() {
        assert!(event_reason("other_account").contains("another Stripe account"));
        assert!(event_reason("ping").contains("test"));
        assert_eq!(event_reason("new_reason"), "new_reason");
    }

    #[test]
    fn only_what_has_not_ended_well_can_be_sent_again() {
        let can = |state: &&DeliveryState| resend(**state).is_some();
        let can: Vec<_> = DeliveryState::ALL.iter().filter(can).collect();
        assert_eq!(can, [&DeliveryState::Pending, &DeliveryState::GivenUp]);
        let reason = DeliveryReason::Skipped(SkipReason::TestMode);
        assert_eq!(reason_label(reason), "Not sent: test mode");
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
