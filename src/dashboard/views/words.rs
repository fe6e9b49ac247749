//! States and reasons in the owner's words.
//! In: words as stored. Out: words as read, and the chip they stand in.
//! Promise: a word this version does not know is shown as it is, never hidden; nobody claims that AnyTrack matched anything.

use axum::http::StatusCode;

use super::Chip;
use super::times::{Times, distance};
use crate::clock::Timestamp;
use crate::report::{ConversionRow, DeliveryRow, DeliverySummary};

/// Why nothing matched, as a short clause: `tag did not run`.
pub(in crate::dashboard) fn reason(reason: &str) -> &str {
    match reason {
        "no_reference" => "no parameter",
        "placeholder_not_replaced" => "tag did not run",
        "foreign_reference" => "somebody else’s ID",
        "unknown_click_id" => "visit never arrived",
        "forged_click_id" => "forged click ID",
        "first_payment_not_seen" => "began before Clickstamp",
        "no_object" => "nothing to join on",
        other => other,
    }
}

/// The same as a heading: what happened.
pub(in crate::dashboard) fn reason_heading(reason: &str) -> &str {
    match reason {
        "no_reference" => "The link has no parameter",
        "placeholder_not_replaced" => "The tag did not run",
        "foreign_reference" => "It carried somebody else’s ID",
        "unknown_click_id" => "The visit never arrived",
        "forged_click_id" => "The click ID was forged",
        "first_payment_not_seen" => "It began before Clickstamp",
        "no_object" => "There was nothing to join on",
        other => other,
    }
}

/// How it was matched: `Click ID`, `Earlier payment`.
pub(in crate::dashboard) fn matched_by(by: &str) -> &str {
    match by {
        "manual" => "By hand",
        "click_id" => "Click ID",
        "anytrack_click_id" => "AnyTrack ID",
        "metadata" => "Metadata",
        "stripe_object" => "Earlier payment",
        "email" => "E-mail",
        other => other,
    }
}

/// The chip of the match: how, or why not.
pub(in crate::dashboard) fn match_chip(row: &ConversionRow) -> Chip {
    if row.match_state == "matched" {
        Chip::ok(matched_by(row.match_by.as_deref().unwrap_or("matched")))
    } else {
        Chip::open(format!(
            "Unmatched: {}",
            reason(row.match_reason.as_deref().unwrap_or("unknown"))
        ))
    }
}

/// One chip per delivery: the destination's name, and the state only if it is not "accepted".
pub(in crate::dashboard) fn delivery_chip(
    delivery: &DeliverySummary,
    times: &Times,
    now: Timestamp,
) -> Chip {
    let name = &delivery.destination_name;
    match delivery.state.as_str() {
        "delivered" => Chip::ok(name.clone()),
        "pending" if delivery.due_at > now => {
            Chip::wait(format!("{name}: next try {}", times.short(delivery.due_at, now).text))
        }
        "pending" => Chip::wait(format!("{name}: owed")),
        "given_up" => Chip::bad(format!("{name}: given up")),
        "held" => Chip::quiet(format!("{name}: held")),
        "skipped" => {
            Chip::quiet(format!("Not sent: {}", skipped(delivery.reason.as_deref().unwrap_or(""))))
        }
        other => Chip::quiet(format!("{name}: {other}")),
    }
}

/// The state of a delivery on a page where its destination stands beside it.
pub(in crate::dashboard) fn delivery_state(row: &DeliveryRow) -> Chip {
    match row.state.as_str() {
        "delivered" => Chip::ok("Accepted"),
        "pending" => Chip::wait("Owed"),
        "given_up" => Chip::bad("Given up"),
        "held" => Chip::quiet("Held"),
        "skipped" => {
            Chip::quiet(format!("Not sent: {}", skipped(row.reason.as_deref().unwrap_or(""))))
        }
        other => Chip::quiet(other),
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
    let at = row.expires_at.filter(|_| matches!(row.state.as_str(), "pending" | "held"))?;
    Some(if at > now {
        format!("expires in {}", distance(at.since(now)))
    } else {
        "expired".to_owned()
    })
}

/// Why a delivery was not sent on purpose.
pub(in crate::dashboard) fn skipped(reason: &str) -> &str {
    match reason {
        "test_mode" => "test mode",
        "kind_off" => "this kind is not told",
        "no_identity" => "no click ID and no e-mail",
        "unmatched" => "not matched",
        "zero_value" => "no money",
        "below_minimum" => "less than the least value",
        "gpc" => "the visitor asked for privacy",
        "no_consent" => "the visitor is not known to have agreed",
        "before_destination" => "older than the destination",
        "site_off" => "this site is not told",
        "echo" => "it came from there",
        "too_old" => "it came in too late to be told by itself",
        "" => "on purpose",
        other => other,
    }
}

/// Why a delivery was given up.
pub(in crate::dashboard) fn given_up(reason: &str) -> &str {
    match reason {
        "exhausted" => "no try of the whole schedule was accepted",
        "refused" => "it was refused, and the same message would be refused again",
        "blocked_address" => "its address is private, where nothing is sent",
        "mapping_error" => "its message could not be made from the rows",
        "expired" => "it came too late to be worth sending",
        "destination_deleted" => "the destination was deleted",
        other => other,
    }
}

/// Where a payment stands.
pub(in crate::dashboard) fn status_chip(status: &str) -> Chip {
    match status {
        "paid" => Chip::ok("Paid"),
        "pending" => Chip::wait("Payment under way"),
        "authorized" => Chip::wait("Authorized, not captured yet"),
        "failed" => Chip::quiet("Payment failed"),
        "partially_refunded" => Chip::quiet("Partly refunded"),
        "refunded" => Chip::quiet("Refunded"),
        "disputed" => Chip::open("Disputed"),
        "duplicate" => Chip::quiet("Duplicate (receipt)"),
        other => Chip::quiet(other),
    }
}

/// What to note below an amount; nothing when it was simply paid.
pub(in crate::dashboard) fn status_note(status: &str) -> &str {
    match status {
        "paid" => "",
        "pending" => "under way",
        "authorized" => "not captured yet",
        "failed" => "failed",
        "partially_refunded" => "partly refunded",
        "refunded" => "refunded",
        "disputed" => "disputed",
        "duplicate" => "duplicate, not counted",
        other => other,
    }
}

/// What kind of conversion.
pub(in crate::dashboard) fn kind(kind: &str) -> String {
    capital(kind)
}

/// Where a visit came from, in general.
pub(in crate::dashboard) fn channel(channel: &str) -> String {
    if channel.is_empty() { "Unknown".to_owned() } else { capital(channel) }
}

/// The state of a Stripe event.
pub(in crate::dashboard) fn event_chip(state: &str) -> Chip {
    match state {
        "received" => Chip::wait("Waiting"),
        "processed" => Chip::ok("Read"),
        "ignored" => Chip::quiet("Not needed"),
        "failed" => Chip::bad("Failed"),
        other => Chip::quiet(other),
    }
}

/// Why an event was not needed.
pub(in crate::dashboard) fn ignored(reason: &str) -> &str {
    match reason {
        "unsupported_type" => "this type says nothing about a payment we count",
        "ping" => "Stripe’s own test of the connection",
        "zero_amount" => "nothing was paid, so no payment was recorded",
        "covered_by_snapshot" => "an ordinary event says the same",
        "setup_mode" => "a card was saved, nothing was paid",
        other => other,
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
    fn every_reason_has_plain_words() {
        let codes = [
            "no_reference",
            "placeholder_not_replaced",
            "foreign_reference",
            "unknown_click_id",
            "forged_click_id",
            "first_payment_not_seen",
            "no_object",
        ];
        for code in codes {
            assert!(!reason(code).contains('_'), "{code}");
        }
        assert_eq!(reason("new_reason"), "new_reason");
    }

    #[test]
    fn every_reason_of_an_ignored_event_is_a_sentence() {
        for code in ["unsupported_type", "ping", "zero_amount", "covered_by_snapshot"] {
            let said = ignored(code);
            assert!(said.contains(' ') && !said.contains('_'), "{code}: {said}");
        }
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
