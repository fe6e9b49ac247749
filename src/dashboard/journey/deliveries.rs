//! The deliveries of one payment. Takes deliveries with their attempts; returns steps with tables of attempts, and a
//! notice for each failed delivery. Pure.

use super::{Fact, Step, timed};
use crate::clock::Timestamp;
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::money;
use crate::dashboard::views::times::{Moment, distance, took};
use crate::dashboard::views::words;
use crate::domain::{AttemptOutcome, DeliveryState};
use crate::report::{Attempt, Conversion, Delivery, DeliveryRow};

/// One attempt as a table row.
pub(super) struct Try {
    pub(super) n: i64,
    pub(super) at: Moment,
    pub(super) took: String,
    pub(super) answer: String,
    /// What followed: `accepted`, `retry after 5 seconds`, `failed`.
    pub(super) so: String,
    /// Body of the response; may be empty.
    pub(super) said: String,
}

/// The notice about a failed delivery.
pub(super) struct Notice {
    pub(super) title: String,
    pub(super) text: String,
    /// The URL that a resend is posted to.
    pub(super) retry: String,
    /// The page to return to, without the public prefix.
    pub(super) back: String,
    /// Anchor of its step on this page.
    pub(super) anchor: String,
}

/// Maximum number of notices on a page.
const MAX_NOTICES: usize = 2;

/// One notice per failed delivery.
pub(super) fn notices(viewer: &Viewer, found: &Conversion) -> Vec<Notice> {
    let amount =
        found.row.amount.map_or_else(String::new, |amount| format!(" ({})", money(amount)));
    let given_up =
        found.deliveries.iter().filter(|delivery| delivery.row.state == DeliveryState::GivenUp);
    given_up
        .take(MAX_NOTICES)
        .map(|delivery| Notice {
            title: format!("{} didn’t receive this payment{amount}", delivery.row.destination_name),
            text: format!(
                "{} Fix that first, then resend. The same message is sent, so nothing is counted twice.",
                why(delivery)
            ),
            retry: viewer.link(&format!("/deliveries/{}/retry", delivery.row.id)).to_string(),
            back: viewer.back(&format!("/conversions/{}", found.row.id)).to_string(),
            anchor: format!("#{}", delivery.row.id),
        })
        .collect()
}

/// Why the delivery failed, with the destination's response.
fn why(delivery: &Delivery) -> String {
    let reason = words::why(delivery.row.reason);
    let last = delivery.tries.last();
    let said =
        last.and_then(|last| last.answer.as_deref()).map(str::trim).filter(|said| !said.is_empty());
    match (said, delivery.row.last_error.as_deref()) {
        (Some(said), _) => {
            format!("The delivery failed: {reason}. The response was “{}”.", shortened(said))
        }
        (None, Some(error)) => format!("The delivery failed: {reason} ({error})."),
        (None, None) => format!("The delivery failed: {reason}."),
    }
}

fn shortened(text: &str) -> String {
    const CHARS: usize = 200;
    if text.chars().count() <= CHARS {
        text.to_owned()
    } else {
        text.chars().take(CHARS).chain(['…']).collect()
    }
}

/// One step per delivery, in the order of their last attempts.
pub(super) fn steps(viewer: &Viewer, deliveries: &[Delivery]) -> Vec<Step> {
    let mut ordered: Vec<&Delivery> = deliveries.iter().collect();
    ordered.sort_by_key(|delivery| last_at(delivery));
    ordered.into_iter().map(|delivery| step(viewer, delivery)).collect()
}

fn last_at(delivery: &Delivery) -> Timestamp {
    delivery.tries.last().map_or(delivery.row.created_at, |last| last.started_at)
}

fn step(viewer: &Viewer, delivery: &Delivery) -> Step {
    let row = &delivery.row;
    let name = &row.destination_name;
    let tries = delivery.tries.len();
    let heading = match row.state {
        DeliveryState::Delivered => format!("{name} accepted it on the {} attempt", ordinal(tries)),
        DeliveryState::GivenUp if tries == 0 => format!("Failed: nothing was sent to {name}"),
        DeliveryState::GivenUp => format!("Failed: {name} didn’t accept it, {}", attempts(tries)),
        DeliveryState::Pending if tries == 0 => format!("Queued for {name}"),
        DeliveryState::Pending => format!("Pending for {name}, {} so far", attempts(tries)),
        DeliveryState::Held => format!("Paused because {name} is disabled"),
        DeliveryState::Skipped => format!("Not sent to {name}"),
    };
    let note = match row.state {
        DeliveryState::Delivered if row.destination_kind == "anytrack" => {
            format!(
                "{name} doesn’t report whether it matched. Look there for the transaction above."
            )
        }
        DeliveryState::Delivered => {
            "The destination’s own log shows what it did with the message.".to_owned()
        }
        DeliveryState::GivenUp => {
            format!("{} It isn’t retried until you resend it.", why(delivery))
        }
        DeliveryState::Pending if row.down_since.is_some() => {
            let since = row.down_since.unwrap_or_default();
            let since = viewer.times.short(since, viewer.now).text;
            format!(
                "{name} has accepted nothing since {since}. The message is sent automatically once it recovers.{}",
                expires(viewer, row)
            )
        }
        DeliveryState::Pending => {
            format!("The next attempt is {}.{}", due(viewer, row.due_at), expires(viewer, row))
        }
        DeliveryState::Held => expires(viewer, row).trim_start().to_owned(),
        DeliveryState::Skipped => {
            format!("Reason: {}.", words::why(row.reason))
        }
    };
    let mut facts = Vec::new();
    if !row.event_name.is_empty() {
        facts.push(Fact::text("Sent as", row.event_name.clone()));
    }
    if row.state == DeliveryState::Skipped {
        facts.push(Fact {
            href: Some(viewer.link(&format!("/deliveries/{}", row.id)).to_string()),
            ..Fact::text("To send it anyway", "open the delivery")
        });
    }
    if let Some(reason) = row.reason {
        facts.push(Fact::code("Code", reason.to_string()));
    }
    Step {
        id: row.id.clone(),
        class: match row.state {
            DeliveryState::Delivered => "ok",
            DeliveryState::GivenUp => "bad",
            DeliveryState::Pending | DeliveryState::Held | DeliveryState::Skipped => "",
        },
        kind: format!("Delivery to {name}"),
        heading,
        facts,
        tries: delivery
            .tries
            .iter()
            .enumerate()
            .map(|(at, _)| attempt(viewer, delivery, at))
            .collect(),
        note,
        sent: delivery.request.clone(),
        ..timed(viewer, last_at(delivery))
    }
}

/// ` It expires in 6 hours.`; empty if it does not expire.
fn expires(viewer: &Viewer, row: &DeliveryRow) -> String {
    words::expires(row, viewer.now).map_or_else(String::new, |text| format!(" It {text}."))
}

fn due(viewer: &Viewer, at: Timestamp) -> String {
    if at <= viewer.now {
        "now".to_owned()
    } else {
        format!(
            "in {}, at {}",
            distance(at.since(viewer.now)),
            viewer.times.short_second(at, viewer.now).text
        )
    }
}

fn attempt(viewer: &Viewer, delivery: &Delivery, at: usize) -> Try {
    let attempt = &delivery.tries[at];
    let answer = match (attempt.status, attempt.error.as_deref()) {
        (Some(status), _) => words::http_status(status),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "no response".to_owned(),
    };
    Try {
        n: attempt.n,
        at: viewer.times.second(attempt.started_at),
        took: attempt.took_ms.map_or_else(String::new, took),
        answer,
        so: so(delivery, attempt, delivery.tries.get(at + 1)),
        said: attempt.answer.clone().unwrap_or_default().trim().to_owned(),
    }
}

/// What followed an attempt.
fn so(delivery: &Delivery, attempt: &Attempt, next: Option<&Attempt>) -> String {
    if attempt.outcome == Some(AttemptOutcome::Accepted) {
        return "accepted".to_owned();
    }
    if let Some(next) = next {
        let took = std::time::Duration::from_millis(
            attempt.took_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        );
        let pause = next.started_at.since(attempt.started_at.plus(took));
        return format!("retry after {}", distance(pause));
    }
    match (attempt.outcome, delivery.row.state) {
        (_, DeliveryState::GivenUp) => "failed".to_owned(),
        (None, _) => "unknown: it was interrupted".to_owned(),
        (_, DeliveryState::Pending) => "retry later".to_owned(),
        (Some(outcome), _) => outcome.to_string(),
    }
}

fn attempts(number: usize) -> String {
    if number == 1 { "1 attempt".to_owned() } else { format!("{number} attempts") }
}

fn ordinal(number: usize) -> String {
    const WORDS: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "sixth"];
    let word = number.checked_sub(1).and_then(|at| WORDS.get(at));
    word.map_or_else(
        || {
            let ending = match (number % 10, number % 100) {
                (1, tens) if tens != 11 => "st",
                (2, tens) if tens != 12 => "nd",
                (3, tens) if tens != 13 => "rd",
                _ => "th",
            };
            format!("{number}{ending}")
        },
        |word| (*word).to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_in_words() {
        for (number, word) in
            [(1, "first"), (6, "sixth"), (11, "11th"), (21, "21st"), (112, "112th")]
        {
            assert_eq!(ordinal(number), word);
        }
    }

    #[test]
    fn long_answers_are_shortened_in_sentences() {
        assert_eq!(shortened(&"ä".repeat(300)).chars().count(), 201);
        assert_eq!(shortened("no"), "no");
    }
}
