//! What destinations were told about one payment.
//! In: deliveries with every try. Out: steps with tables of tries, and a notice for what needs somebody. Pure.

use super::{Fact, Step, timed};
use crate::clock::Timestamp;
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::money;
use crate::dashboard::views::times::{Moment, distance, took};
use crate::dashboard::views::words;
use crate::domain::{AttemptOutcome, DeliveryState};
use crate::report::{Attempt, Conversion, Delivery, DeliveryRow};

/// One try as a row.
pub(super) struct Try {
    pub(super) n: i64,
    pub(super) at: Moment,
    pub(super) took: String,
    pub(super) answer: String,
    /// What followed: `accepted`, `again in 5 seconds`, `given up`.
    pub(super) so: String,
    /// What it said, word for word; may be empty.
    pub(super) said: String,
}

/// A delivery that needs somebody.
pub(super) struct Notice {
    pub(super) title: String,
    pub(super) text: String,
    /// Where to post the wish to send again.
    pub(super) retry: String,
    /// The page to come back to, without the public prefix.
    pub(super) back: String,
    /// Where its step stands on this page.
    pub(super) anchor: String,
}

/// Most notices on a page.
const MAX_NOTICES: usize = 2;

/// One notice per delivery that was given up.
pub(super) fn notices(viewer: &Viewer, found: &Conversion) -> Vec<Notice> {
    let amount =
        found.row.amount.map_or_else(String::new, |amount| format!(" ({})", money(amount)));
    let given_up =
        found.deliveries.iter().filter(|delivery| delivery.row.state == DeliveryState::GivenUp);
    given_up
        .take(MAX_NOTICES)
        .map(|delivery| Notice {
            title: format!("{} did not get this payment{amount}", delivery.row.destination_name),
            text: format!(
                "{} Mend that first, then send again. The same message goes out, so nothing is counted twice.",
                why(delivery)
            ),
            retry: viewer.link(&format!("/deliveries/{}/retry", delivery.row.id)).to_string(),
            back: viewer.back(&format!("/conversions/{}", found.row.id)).to_string(),
            anchor: format!("#{}", delivery.row.id),
        })
        .collect()
}

/// Why it was given up, with what the destination said.
fn why(delivery: &Delivery) -> String {
    let reason = words::why(delivery.row.reason);
    let last = delivery.tries.last();
    let said =
        last.and_then(|last| last.answer.as_deref()).map(str::trim).filter(|said| !said.is_empty());
    match (said, delivery.row.last_error.as_deref()) {
        (Some(said), _) => format!("It was given up: {reason}. It said: “{}”.", shortened(said)),
        (None, Some(error)) => format!("It was given up: {reason} ({error})."),
        (None, None) => format!("It was given up: {reason}."),
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

/// One step per delivery, in the order of their last tries.
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
        DeliveryState::Delivered => format!("{name} accepted it at the {} try", ordinal(tries)),
        DeliveryState::GivenUp if tries == 0 => format!("Given up: nothing was sent to {name}"),
        DeliveryState::GivenUp => format!("Given up: {name} did not take it, {}", tried(tries)),
        DeliveryState::Pending if tries == 0 => format!("{name} is owed this message"),
        DeliveryState::Pending => format!("{name} is owed this message, {} so far", tried(tries)),
        DeliveryState::Held => format!("{name} is switched off: the message waits"),
        DeliveryState::Skipped => format!("{name} was not told, on purpose"),
    };
    let note = match row.state {
        DeliveryState::Delivered if row.destination_kind == "anytrack" => {
            format!(
                "{name} does not tell us whether it matched. Look there for the transaction above."
            )
        }
        DeliveryState::Delivered => {
            "What it made of the message, only its own log says.".to_owned()
        }
        DeliveryState::GivenUp => {
            format!("{} Nothing more is tried until you send again.", why(delivery))
        }
        DeliveryState::Pending if row.down_since.is_some() => {
            let since = row.down_since.unwrap_or_default();
            let since = viewer.times.short(since, viewer.now).text;
            format!(
                "{name} takes nothing since {since}. It goes out by itself once that is over.{}",
                expires(viewer, row)
            )
        }
        DeliveryState::Pending => {
            format!("The next try is due {}.{}", due(viewer, row.due_at), expires(viewer, row))
        }
        DeliveryState::Held => expires(viewer, row).trim_start().to_owned(),
        DeliveryState::Skipped => {
            format!("Why: {}.", words::why(row.reason))
        }
    };
    let mut facts = Vec::new();
    if !row.event_name.is_empty() {
        facts.push(Fact::text("Told as", row.event_name.clone()));
    }
    if row.state == DeliveryState::Skipped {
        facts.push(Fact {
            href: Some(viewer.link(&format!("/deliveries/{}", row.id)).to_string()),
            ..Fact::text("To send it anyway", "its own page")
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

/// ` It expires in 6 hours.`; nothing where it has no end.
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
        (None, None) => "no answer".to_owned(),
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

/// What followed a try.
fn so(delivery: &Delivery, attempt: &Attempt, next: Option<&Attempt>) -> String {
    if attempt.outcome == Some(AttemptOutcome::Accepted) {
        return "accepted".to_owned();
    }
    if let Some(next) = next {
        let took = std::time::Duration::from_millis(
            attempt.took_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0),
        );
        let pause = next.started_at.since(attempt.started_at.plus(took));
        return format!("again after {}", distance(pause));
    }
    match (attempt.outcome, delivery.row.state) {
        (_, DeliveryState::GivenUp) => "given up".to_owned(),
        (None, _) => "not known: it was cut off".to_owned(),
        (_, DeliveryState::Pending) => "again later".to_owned(),
        (Some(outcome), _) => outcome.to_string(),
    }
}

fn tried(tries: usize) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
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
    fn tries_are_counted_in_words() {
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
