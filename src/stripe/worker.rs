//! Processing stored events.
//! In: events in state `received`. Out: each `processed`, `ignored` or `failed`, in one transaction with all it changed.
//! Promise: an event that cannot be read, or panics the reader, fails alone and visibly; a hiccup of the database is tried again.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;

use super::event::{self, Reading};
use super::lookup;
use super::table::{self, Ended, Waiting};
use super::thin;
use crate::clock::Timestamp;
use crate::conversion::{self, Ledger};
use crate::failpoint;
use crate::store::{Store, Tx};

/// Events read in one look.
const EVENTS_AT_A_TIME: i64 = 50;
/// Tries before an event that keeps failing on our side is shown as failed: more than two hours of growing pauses.
const MAX_TRIES: i64 = 12;

/// Processes what is due. Answers how many events it ended; 0 means nothing is due right now.
pub(crate) async fn round(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let due = table::due(store, ledger.now, EVENTS_AT_A_TIME).await?;
    let mut ended = 0;
    for event in &due {
        // A panic in a parser unwinds to here: its transaction is undone, and the event is shown as failed.
        let processed = AssertUnwindSafe(process(store, ledger, event)).catch_unwind().await;
        match processed {
            Ok(Ok(())) => ended += 1,
            Ok(Err(error)) => {
                tracing::error!(
                    event = event.event_id,
                    error = format!("{error:#}"),
                    "could not process an event"
                );
                trouble(store, ledger.now, event, &format!("{error:#}")).await?;
            }
            Err(_) => {
                tracing::error!(event = event.event_id, "processing an event panicked");
                fail(
                    store,
                    ledger.now,
                    event,
                    "our code panicked while reading it; the log has the place",
                )
                .await?;
                ended += 1;
            }
        }
    }
    Ok(ended)
}

async fn process(store: &Store, ledger: Ledger<'_>, event: &Waiting) -> Result<()> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    if !table::take(&mut tx, &event.id).await? {
        return Ok(());
    }
    if let Some(thin) = thin::read(&event.body) {
        thin::settle(&mut tx, ledger.now, event, &thin).await?;
        return tx.commit().await;
    }
    thin::cover(&mut tx, ledger.now, event).await?;
    let (reading, summary) = event::read(&event.body, &event.source_id, event.received_at);
    let summary = summary.as_deref();
    match reading {
        Reading::Ignored(reason) => {
            let ended = Ended { reason: Some(reason), summary, ..Ended::as_("ignored") };
            table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        }
        Reading::Unreadable(error) => {
            let ended = Ended { error: Some(&error), ..Ended::as_("failed") };
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
            let ended =
                Ended { note: Some(&note), conversion_id, summary, ..Ended::as_("processed") };
            table::end(&mut tx, ledger.now, &event.id, &ended).await?;
        }
        Reading::Contract(mut contract) => {
            contract.account.clone_from(&event.account);
            let changes = conversion::learn_contract(&mut tx, ledger, *contract).await?;
            let note = note(&mut tx, event, changes).await?;
            let ended = Ended { note: Some(&note), summary, ..Ended::as_("processed") };
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
    let ended = Ended { error: Some(error), ..Ended::as_("failed") };
    table::end(&mut tx, now, &event.id, &ended).await?;
    tx.commit().await
}
