//! Describes in sentences what an event changed.
//! Takes a payment's conversion and facts before and after; returns sentences for the events page
//! and the customer journey, none if nothing was new.
//! Pure. A sentence about something that waits says what it waits for.

use super::join::Match;
use super::object::{ObjectKind, PayFact};
use super::payment::Payment;
use super::record::{Line, Record};
use crate::domain::{ConversionKind, MatchRule, UnmatchedReason, Word as _};
use crate::settings::Snapshot;

/// Returns what changed.
pub(super) fn describe(
    settings: &Snapshot,
    before: Option<&Line>,
    facts_before: &Payment,
    record: &Record,
) -> Vec<String> {
    let Some(line) = &record.line else { return vec![without_conversion(record)] };
    let mut sentences = Vec::new();
    match before {
        None => sentences.push(format!("Recorded a new {}{}.", named(&line.kind), amount_of(line))),
        Some(before) => compare(before, line, &mut sentences),
    }
    if before.is_none_or(|before| before.result != line.result) {
        sentences.push(match &line.result {
            Match::Matched { by, click_id } => {
                format!("Matched by {} to {}.", rule_text(*by), click_id.as_str())
            }
            Match::Unmatched(reason) => format!("Not matched: {}.", reason_text(*reason)),
        });
    }
    if line.paid_at.is_none() && record.payment.adjusted_at.is_some() && is_unstated(record) {
        sentences.push(
            "Its payment has not arrived yet. Until then it is listed, but it is not revenue and is not sent."
                .to_owned(),
        );
    }
    if line.enqueue_after.is_some()
        && before.is_none_or(|before| before.enqueue_after != line.enqueue_after)
    {
        sentences.push("Sending waits because the payment’s checkout may still arrive.".to_owned());
    }
    let is_enqueued = line.paid_at.is_some() && line.enqueue_after.is_none();
    let was_enqueued =
        before.is_some_and(|line| line.paid_at.is_some() && line.enqueue_after.is_none());
    if is_enqueued && !was_enqueued && has_no_destination(settings, line) {
        sentences.push("There is no destination to send it to.".to_owned());
    }
    if sentences.is_empty() {
        sentences.extend(new_ids(facts_before, &record.payment));
    }
    if sentences.is_empty() {
        sentences.push("Added new details of the payment.".to_owned());
    }
    sentences
}

fn has_no_destination(settings: &Snapshot, line: &Line) -> bool {
    let site = settings.site(&line.site_id);
    site.is_none_or(|site| settings.destinations_about(site).next().is_none())
}

fn is_unstated(record: &Record) -> bool {
    // A charge alone creates no conversion.
    let stated = record.payment.facts.iter().filter(|(teller, _)| **teller != ObjectKind::Charge);
    stated.map(|(_, facts)| facts.pay_fact).all(|fact| fact == PayFact::Unknown)
}

fn compare(before: &Line, line: &Line, sentences: &mut Vec<String>) {
    if before.transaction_id != line.transaction_id {
        sentences.push(format!(
            "Its transaction ID changed from {} to {}.",
            before.transaction_id, line.transaction_id
        ));
    }
    if before.kind != line.kind {
        sentences.push(format!(
            "Its type is now {}. Before, it was {}.",
            named(&line.kind),
            named(&before.kind)
        ));
    }
    if before.paid_at.is_none() && line.paid_at.is_some() {
        sentences.push(format!("The payment{} is now paid.", amount_of(line)));
    } else if (before.amount_minor, &before.currency) != (line.amount_minor, &line.currency) {
        let amount = line.amount_minor.map(|minor| format!(" {}", money(minor, line)));
        sentences.push(format!("Its amount is now{}.", amount.unwrap_or_default()));
    }
    let of_line = |minor| money(minor, line);
    if before.refunded_minor != line.refunded_minor {
        sentences.push(format!(
            "Refunded so far: {} (before: {}).",
            of_line(line.refunded_minor),
            of_line(before.refunded_minor)
        ));
    }
    if before.disputed_minor != line.disputed_minor || before.lost_minor != line.lost_minor {
        sentences.push(format!(
            "In dispute: {}; lost to disputes: {}.",
            of_line(line.disputed_minor),
            of_line(line.lost_minor)
        ));
    }
    if before.status != line.status {
        sentences.push(format!(
            "Its status changed from {} to {}.",
            before.status.as_str().replace('_', " "),
            line.status.as_str().replace('_', " ")
        ));
    }
}

/// Describes facts that create no conversion yet.
fn without_conversion(record: &Record) -> String {
    let payment = &record.payment;
    if payment.expired_at.is_some() {
        return "Counted as an abandoned checkout, not as a conversion.".to_owned();
    }
    let ids: Vec<&str> = payment.identity().into_iter().collect();
    if payment.is_released() {
        return format!(
            "The payment {} was canceled before any money was captured, so it is not a sale.",
            ids.join(", ")
        );
    }
    format!(
        "Not a sale on its own. Recorded that {} belong together. Waits for their checkout or invoice.",
        ids.join(", ")
    )
}

/// Returns IDs that are new to this payment.
fn new_ids(before: &Payment, after: &Payment) -> Option<String> {
    let known = before.identity();
    let new: Vec<&str> = after.identity().into_iter().filter(|id| !known.contains(id)).collect();
    (!new.is_empty()).then(|| format!("Recorded that {} belongs to this payment.", new.join(", ")))
}

fn named(kind: &ConversionKind) -> &str {
    if kind.as_str().is_empty() { "conversion" } else { kind.as_str() }
}

/// The rule after "Matched by ".
fn rule_text(rule: MatchRule) -> &'static str {
    match rule {
        MatchRule::Manual => "hand",
        MatchRule::ClickId => "its click ID",
        MatchRule::AnytrackClickId => "the AnyTrack click ID",
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
        UnmatchedReason::ForeignReference => "the reference is an ID of another tool",
        UnmatchedReason::UnknownClickId => "no visit with its click ID has arrived",
        UnmatchedReason::ForgedClickId => "its click ID was not created by this server",
        UnmatchedReason::FirstPaymentNotSeen => "its first payment was not received",
        UnmatchedReason::NoObject => "nothing in it leads to a visit",
    }
}

fn amount_of(line: &Line) -> String {
    line.amount_minor.map_or(String::new(), |minor| format!(" of {}", money(minor, line)))
}

fn money(minor: i64, line: &Line) -> String {
    match line.money(minor) {
        Some(money) => format!("{} {}", money.decimal(), money.currency),
        None => minor.to_string(),
    }
}
