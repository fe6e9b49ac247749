//! What an event changed, told in sentences.
//! In: a payment's line and facts before and after. Out: sentences for the events page and the journey; none when all was known.
//! Promise: plain words; whatever waits for something says for what. Pure.

use super::join::Match;
use super::payment::{PayFact, Payment, Teller};
use super::{Line, Record};
use crate::domain::{ConversionKind, MatchRule, UnmatchedReason, Word as _};
use crate::money::{Currency, Money};
use crate::settings::Snapshot;

/// What changed.
pub(super) fn told(
    settings: &Snapshot,
    before: Option<&Line>,
    facts_before: &Payment,
    record: &Record,
) -> Vec<String> {
    let Some(line) = &record.line else { return vec![taught(record)] };
    let mut told = Vec::new();
    match before {
        None => told.push(format!("Recorded a new {}{}.", named(&line.kind), amount_of(line))),
        Some(before) => compare(before, line, &mut told),
    }
    if before.is_none_or(|before| before.result != line.result) {
        told.push(match &line.result {
            Match::Matched { by, click_id } => {
                format!("Matched by {} to {}.", rule_text(*by), click_id.as_str())
            }
            Match::Unmatched(reason) => format!("Not matched: {}.", reason_text(*reason)),
        });
    }
    if line.paid_at.is_none() && record.payment.adjusted_at.is_some() && is_unstated(record) {
        told.push(
            "Its payment has not been seen yet: it is listed, but counts as no revenue and is sent nowhere until the payment comes."
                .to_owned(),
        );
    }
    if line.owed_from.is_some() && before.is_none_or(|before| before.owed_from != line.owed_from) {
        told.push(
            "Nothing is sent for up to a minute, because its checkout may still come.".to_owned(),
        );
    }
    let is_owed = line.paid_at.is_some() && line.owed_from.is_none();
    let was_owed = before.is_some_and(|line| line.paid_at.is_some() && line.owed_from.is_none());
    if is_owed && !was_owed && has_no_destination(settings, line) {
        told.push("There is no destination to send it to.".to_owned());
    }
    if told.is_empty() {
        told.extend(learned(facts_before, &record.payment));
    }
    if told.is_empty() {
        told.push("Added details of the payment that were not known.".to_owned());
    }
    told
}

fn has_no_destination(settings: &Snapshot, line: &Line) -> bool {
    let site = settings.site(&line.site_id);
    site.is_none_or(|site| settings.destinations_about(site).next().is_none())
}

fn is_unstated(record: &Record) -> bool {
    // What a charge alone states makes no conversion.
    let stated = record.payment.told.iter().filter(|(teller, _)| **teller != Teller::Charge);
    stated.map(|(_, told)| told.pay_fact).all(|fact| fact == PayFact::Unknown)
}

fn compare(before: &Line, line: &Line, told: &mut Vec<String>) {
    if before.transaction_id != line.transaction_id {
        told.push(format!(
            "Belongs to one payment with {}, now known as {}.",
            before.transaction_id, line.transaction_id
        ));
    }
    if before.kind != line.kind {
        told.push(format!(
            "It is a {} now, no longer a {}.",
            named(&line.kind),
            named(&before.kind)
        ));
    }
    if before.paid_at.is_none() && line.paid_at.is_some() {
        told.push(format!("The payment{} is paid now.", amount_of(line)));
    } else if (before.amount_minor, &before.currency) != (line.amount_minor, &line.currency) {
        told.push(format!("Its amount is{} now.", amount_of(line).replace(" of", "")));
    }
    let of_line = |minor| money(minor, line);
    if before.refunded_minor != line.refunded_minor {
        told.push(format!(
            "Given back so far: {} (before: {}).",
            of_line(line.refunded_minor),
            of_line(before.refunded_minor)
        ));
    }
    if before.disputed_minor != line.disputed_minor || before.lost_minor != line.lost_minor {
        told.push(format!(
            "In dispute: {}; lost to disputes: {}.",
            of_line(line.disputed_minor),
            of_line(line.lost_minor)
        ));
    }
    if before.status != line.status {
        told.push(format!(
            "Its status went from {} to {}.",
            before.status.as_str().replace('_', " "),
            line.status.as_str().replace('_', " ")
        ));
    }
}

/// Facts that make no line yet.
fn taught(record: &Record) -> String {
    let payment = &record.payment;
    if payment.expired_at.is_some() {
        return "Counted as an abandoned checkout; it is no conversion.".to_owned();
    }
    let ids: Vec<&str> = payment.identity().into_iter().collect();
    if payment.is_released() {
        return format!(
            "The payment {} was canceled before any money was captured, so it is no sale.",
            ids.join(", ")
        );
    }
    format!(
        "States no sale by itself. Remembered that {} belong together; waits for the checkout or invoice they are part of.",
        ids.join(", ")
    )
}

/// IDs that were not known to belong to this payment.
fn learned(before: &Payment, after: &Payment) -> Option<String> {
    let known = before.identity();
    let new: Vec<&str> = after.identity().into_iter().filter(|id| !known.contains(id)).collect();
    (!new.is_empty()).then(|| format!("Learned that {} belongs to this payment.", new.join(", ")))
}

fn named(kind: &ConversionKind) -> &str {
    if kind.as_str().is_empty() { "conversion" } else { kind.as_str() }
}

/// The rule after "Matched by ".
fn rule_text(rule: MatchRule) -> &'static str {
    match rule {
        MatchRule::Manual => "hand",
        MatchRule::ClickId => "its click ID",
        MatchRule::AnytrackClickId => "AnyTrack’s click ID",
        MatchRule::Metadata => "the click ID in its metadata",
        MatchRule::StripeObject => "the buyer’s thank-you page or earlier payment",
    }
}

/// The reason after "Not matched: ".
fn reason_text(reason: UnmatchedReason) -> &'static str {
    match reason {
        UnmatchedReason::NoReference => "the payment came without a reference",
        UnmatchedReason::PlaceholderNotReplaced => {
            "the placeholder came back, so the tag did not run"
        }
        UnmatchedReason::ForeignReference => "the reference is somebody else’s",
        UnmatchedReason::UnknownClickId => "the visit of its click ID has not arrived",
        UnmatchedReason::ForgedClickId => "its click ID is none that we made",
        UnmatchedReason::FirstPaymentNotSeen => "the first payment it belongs to was not seen",
        UnmatchedReason::NoObject => "it names nothing that leads to a visit",
    }
}

fn amount_of(line: &Line) -> String {
    line.amount_minor.map_or(String::new(), |minor| format!(" of {}", money(minor, line)))
}

fn money(minor: i64, line: &Line) -> String {
    match line.currency.as_deref().and_then(Currency::parse) {
        Some(currency) => format!("{} {currency}", Money { minor, currency }.decimal()),
        None => minor.to_string(),
    }
}
