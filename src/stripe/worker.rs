//! Processing stored events.
//! In: events in state `received`. Out: each `processed`, `ignored` or `failed`, in one transaction with all it changed.
//! Promise: an event that cannot be read, or panics the reader, fails alone and visibly; a hiccup of the database is tried again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;

use super::event::{self, Reading};
use super::held;
use super::lookup;
use super::table::{self, Ended, Waiting};
use super::thin;
use crate::clock::Timestamp;
use crate::conversion::{self, Ledger};
use crate::domain::{EventState, Word as _};
use crate::failpoint;
use crate::store::{Store, Tx};

/// Events read in one look.
const EVENTS_AT_A_TIME: usize = 50;
/// Events that other copies had taken before this one looks again.
const MEETINGS: usize = 8;
/// Tries before an event that keeps failing on our side is shown as failed: more than two hours of growing pauses.
const MAX_TRIES: i64 = 12;

/// Since when the event has been due that waits longest, if one is due.
pub(crate) async fn waiting_since(store: &Store, now: Timestamp) -> Result<Option<Timestamp>> {
    table::waiting_since(store, now).await
}

/// Processes what is due. Answers how many events it ended; 0 means nothing is due right now.
///
/// Copies of the program see the same events. Where one meets an event that another has in hand it goes on elsewhere among them, so that
/// they spread; where most are taken it ends, and the next round sees others.
pub(crate) async fn round(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let mut due = table::due(store, ledger.now, EVENTS_AT_A_TIME).await?;
    let (mut ended, mut met, mut at, mut unused) = (0, 0, 0, None);
    while !due.is_empty() && met < MEETINGS {
        let id = due.remove(at % due.len());
        let (mut tx, settings) = match unused.take() {
            Some(begun) => begun,
            None => ledger.begin(store).await?,
        };
        match table::take(&mut tx, &id).await? {
            Some(event) => {
                let ledger = ledger.with(&settings);
                ended += usize::from(process_alone(tx, store, ledger, &event).await?);
            }
            None => {
                (met, unused) = (met + 1, Some((tx, settings)));
                at = rand::random_range(0..EVENTS_AT_A_TIME);
            }
        }
    }
    if let Some((tx, _)) = unused {
        tx.commit().await?; // Nothing was done in it.
    }
    Ok(ended)
}

/// Processes an event that was taken. False when it has to be tried again.
async fn process_alone(tx: Tx, store: &Store, ledger: Ledger<'_>, event: &Waiting) -> Result<bool> {
    // A panic in a parser unwinds to here: its transaction is undone, and the event is shown as failed.
    let processed = AssertUnwindSafe(process(tx, ledger, event)).catch_unwind().await;
    match processed {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) => {
            let error = format!("{error:#}");
            tracing::error!(event = event.event_id, error, "could not process an event");
            trouble(store, ledger.now, event, &error).await?;
            Ok(false)
        }
        Err(_) => {
            tracing::error!(event = event.event_id, "processing an event panicked");
            let error = "our code panicked while reading it; the log has the place";
            fail(store, ledger.now, event, error).await?;
            Ok(true)
        }
    }
}

async fn process(mut tx: Tx, ledger: Ledger<'_>, event: &Waiting) -> Result<()> {
    if let Some(thin) = thin::read(&event.body) {
        thin::settle(&mut tx, ledger.now, event, &thin).await?;
        return tx.commit().await;
    }
    thin::cover(&mut tx, ledger.now, event).await?;
    let (reading, summary) = event::read(&event.body, &event.source_id, event.received_at);
    let summary = summary.as_deref();
    let states_something = matches!(reading, Reading::Payment(_) | Reading::Contract(_));
    let source = ledger.settings.source(&event.source_id);
    if states_something && let Some(held) = source.and_then(|source| held::why(source, event)) {
        let ended = Ended { reason: Some(held.as_str()), summary, ..Ended::as_(EventState::Held) };
        table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        return tx.commit().await;
    }
    match reading {
        Reading::Ignored(reason) => {
            let ended =
                Ended { reason: Some(reason.as_str()), summary, ..Ended::as_(EventState::Ignored) };
            table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        }
        Reading::Unreadable(error) => {
            let ended = Ended { error: Some(&error), ..Ended::as_(EventState::Failed) };
            table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        }
        Reading::Payment(mut payment) => {
            // What we list of a connected account does not name it.
            payment.account.clone_from(&event.account);
            payment.paid_news_at = payment.stated_paid_at().map(|paid_at| match event.is_webhook {
                true => event.received_at, // Stripe's clock may be a test's; it never meets ours.
                false => paid_at,
            });
            let processed = conversion::process(&mut tx, ledger, *payment).await?;
            for missing in &processed.missing {
                lookup::note(&mut tx, ledger.now, event, missing).await?;
            }
            let note = note(&mut tx, event, processed.changes).await?;
            let conversion_id = processed.conversion_id.as_deref();
            let ended = Ended {
                note: Some(&note),
                conversion_id,
                summary,
                ..Ended::as_(EventState::Processed)
            };
            table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        }
        Reading::Contract(mut contract) => {
            contract.account.clone_from(&event.account);
            let changes = conversion::learn_contract(&mut tx, ledger, *contract).await?;
            let note = note(&mut tx, event, changes).await?;
            let ended = Ended { note: Some(&note), summary, ..Ended::as_(EventState::Processed) };
            table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        }
    }
    failpoint::pass("processing").await;
    tx.commit().await
}

/// What the event changed, in sentences for the events page; where nothing, why.
async fn note(tx: &mut Tx, event: &Waiting, changes: Vec<String>) -> Result<String> {
    if !changes.is_empty() {
        return Ok(changes.join(" "));
    }
    Ok(match table::earlier_of_same_object(tx, event).await? {
        Some(earlier) => format!("Changed nothing: it repeats {earlier}."),
        None => "Changed nothing: all of it was known from other events.".to_owned(),
    })
}

/// Something of ours failed: growing pauses, and visible as failed when it does not end.
async fn trouble(store: &Store, now: Timestamp, event: &Waiting, error: &str) -> Result<()> {
    if event.attempts + 1 >= MAX_TRIES {
        return fail(store, now, event, error).await;
    }
    let pause = Duration::from_secs(1 << event.attempts.clamp(0, 11));
    let mut tx = store.begin().await?;
    table::postpone(&mut tx, &event.id, now.plus(pause)).await?;
    tx.commit().await
}

async fn fail(store: &Store, now: Timestamp, event: &Waiting, error: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    let ended = Ended { error: Some(error), ..Ended::as_(EventState::Failed) };
    table::end(&mut tx, now, &event.id, &ended).await?;
    tx.commit().await
}
