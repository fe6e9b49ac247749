//! Events that their endpoint should not have received.
//! Takes an event and its endpoint's settings; returns why the event is held until the owner accepts it.
//! A secret of test mode is in more places than one of live mode, so a copy of it must not be enough to write live money. Nothing is lost:
//! a held event is stored, shown and counted, and processed as soon as it is accepted or the endpoint's settings fit it.

use anyhow::Result;

use super::event;
use super::table::{self, Waiting};
use crate::clock::Timestamp;
use crate::domain::HeldReason;
use crate::settings::{Source, SourceMode};
use crate::store::Store;

/// Why an event is held; `None` when it fits its endpoint, or the owner accepted it.
pub(super) fn why(source: &Source, waiting: &Waiting) -> Option<HeldReason> {
    if waiting.is_accepted {
        return None;
    }
    if source.mode == SourceMode::Test && waiting.livemode {
        return Some(HeldReason::LiveOnTest);
    }
    // What we asked Stripe for ourselves is of the account we asked for.
    if source.account.is_empty() || !waiting.is_webhook {
        return None;
    }
    let account = event::envelope(&waiting.body)?.account;
    (!account.is_empty() && account != source.account).then_some(HeldReason::OtherAccount)
}

/// Accepts the events of a source that are held and were received until then. Answers how many.
///
/// # Errors
/// When the database cannot be written.
pub async fn accept_held(
    store: &Store,
    now: Timestamp,
    source_id: &str,
    until: Timestamp,
) -> Result<u64> {
    let mut tx = store.begin().await?;
    let accepted = table::accept_held(&mut tx, now, source_id, until).await?;
    tx.commit().await?;
    Ok(accepted)
}

/// Judges the held events of a source again, because its settings changed.
///
/// # Errors
/// When the database cannot be written.
pub async fn judge_held(store: &Store, now: Timestamp, source_id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::put_back_held(&mut tx, now, source_id).await?;
    tx.commit().await
}
