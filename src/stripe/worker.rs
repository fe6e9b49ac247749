//! Processes stored events.
//! Takes events in state `received`; makes each `processed`, `ignored`, `held` or `failed`, in one
//! transaction with everything that it changed.
//! Guarantees that an event that can't be read, or that panics the reader, fails alone and visibly,
//! and that a database error is retried.

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

/// Events per batch.
const EVENTS_AT_A_TIME: usize = 50;
/// Number of events taken by other copies after which this copy ends its batch.
const MEETINGS: usize = 8;
/// Tries before an event that fails because of our own errors is shown as failed: more than two
/// hours with growing pauses.
const MAX_TRIES: i64 = 12;

/// When the event that has waited longest became due, if one is due.
pub(crate) async fn waiting_since(store: &Store, now: Timestamp) -> Result<Option<Timestamp>> {
    table::waiting_since(store, now).await
}

/// Processes due events. Returns how many were ended; 0 means that nothing is due now.
///
/// Copies of the program read the same events. If another copy is processing an event, this one
/// continues at a random place in its batch, so that the copies spread out. If most are taken, it
/// ends, and the next batch reads others.
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
        tx.commit().await?; // The transaction is empty.
    }
    Ok(ended)
}

/// Processes an event that this copy has locked. Returns false if it must be retried.
async fn process_alone(tx: Tx, store: &Store, ledger: Ledger<'_>, event: &Waiting) -> Result<bool> {
    // A panic in a parser is caught here: the transaction is rolled back, and the event is shown as
    // failed.
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
            let error = "Clickstamp panicked while it read the event; see the log";
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
    let (sentences, conversion_id, unreadable);
    let ended = match reading {
        Reading::Ignored(reason) => {
            Ended { reason: Some(reason.as_str()), summary, ..Ended::as_(EventState::Ignored) }
        }
        Reading::Unreadable(error) => {
            unreadable = error;
            Ended { error: Some(&unreadable), ..Ended::as_(EventState::Failed) }
        }
        Reading::Payment(mut payment) => {
            // The events that we list for a connected account do not name it.
            payment.account.clone_from(&event.account);
            // Stripe's time may be that of a test clock, so it is not compared with ours.
            let news_at = |paid_at| if event.is_webhook { event.received_at } else { paid_at };
            payment.paid_news_at = payment.stated_paid_at().map(news_at);
            let processed = conversion::process(&mut tx, ledger, *payment).await?;
            for missing in &processed.missing {
                lookup::note(&mut tx, ledger.now, event, missing).await?;
            }
            sentences = note(&mut tx, event, processed.changes).await?;
            conversion_id = processed.conversion_id;
            let conversion_id = conversion_id.as_deref();
            let note = Some(sentences.as_str());
            Ended { note, conversion_id, summary, ..Ended::as_(EventState::Processed) }
        }
        Reading::Contract(mut contract) => {
            contract.account.clone_from(&event.account);
            let changes = conversion::learn_contract(&mut tx, ledger, *contract).await?;
            sentences = note(&mut tx, event, changes).await?;
            Ended { note: Some(&sentences), summary, ..Ended::as_(EventState::Processed) }
        }
    };
    table::end(&mut tx, ledger.now, &event.id, &ended).await?;
    failpoint::pass("processing").await;
    tx.commit().await
}

/// What the event changed, as sentences for the events page; if nothing, why.
async fn note(tx: &mut Tx, event: &Waiting, changes: Vec<String>) -> Result<String> {
    if !changes.is_empty() {
        return Ok(changes.join(" "));
    }
    Ok(match table::earlier_of_same_object(tx, event).await? {
        Some(earlier) => format!("Changed nothing: it repeats {earlier}."),
        None => "Changed nothing: other events contained the same facts.".to_owned(),
    })
}

/// Schedules a retry after one of our own errors, with growing pauses; in the end the event is
/// shown as failed.
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
