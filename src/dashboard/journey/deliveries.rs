//! The deliveries of one payment. Takes deliveries with their attempts; returns steps with tables of attempts, and a
//! notice for each failed delivery. Pure.

use super::{Fact, Step, timed};
use crate::clock::Timestamp;
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::times::distance;
use crate::dashboard::views::words;
use crate::domain::{AttemptOutcome, DeliveryState};
use crate::report::{Attempt, Conversion, Delivery, DeliveryRow};

/// Maximum number of notices on a page.
const MAX_NOTICES: usize = 2;

/// The failed deliveries that have a notice.
pub(super) fn failed(found: &Conversion) -> impl Iterator<Item = &Delivery> {
    let all = found.deliveries.iter();
    all.filter(|delivery| delivery.row.state == DeliveryState::GivenUp).take(MAX_NOTICES)
}

/// Why the delivery failed, with the destination's response.
pub(super) fn why(delivery: &Delivery) -> String {
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
pub(super) fn steps<'a>(viewer: &Viewer, deliveries: &'a [Delivery]) -> Vec<Step<'a>> {
    let mut ordered: Vec<&Delivery> = deliveries.iter().collect();
    ordered.sort_by_key(|delivery| last_at(delivery));
    ordered.into_iter().map(|delivery| step(viewer, delivery)).collect()
}

fn last_at(delivery: &Delivery) -> Timestamp {
    delivery.tries.last().map_or(delivery.row.created_at, |last| last.started_at)
}

fn step<'a>(viewer: &Viewer, delivery: &'a Delivery) -> Step<'a> {
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
        delivery: Some(delivery),
        note,
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

/// The response to an attempt, or the error instead of one.
pub(super) fn response(attempt: &Attempt) -> String {
    match (attempt.status, attempt.error.as_deref()) {
        (Some(status), _) => words::http_status(status),
        (None, Some(error)) => error.to_owned(),
        (None, None) => "no response".to_owned(),
    }
}

/// What followed an attempt: `accepted`, `retry after 5 seconds`, `failed`.
pub(super) fn result(delivery: &Delivery, at: usize) -> String {
    let (attempt, next) = (&delivery.tries[at], delivery.tries.get(at + 1));
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
