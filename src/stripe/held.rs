//! Holds events that their endpoint should not have received.
//! Takes an event and its endpoint's settings; returns why the event is held until a user accepts
//! it.
//! A test-mode secret is stored in more places than a live one, so a copy of it must not be enough
//! to record live payments. Nothing is lost: a held event is stored, shown and counted, and
//! processed once it is accepted or the endpoint's settings allow it.

use anyhow::Result;

use super::event;
use super::table::{self, Waiting};
use crate::clock::Timestamp;
use crate::domain::HeldReason;
use crate::settings::{Source, SourceMode};
use crate::store::Store;

/// Returns why an event is held; `None` if its endpoint may receive it, or a user accepted it.
pub(super) fn why(source: &Source, waiting: &Waiting) -> Option<HeldReason> {
    if waiting.is_accepted {
        return None;
    }
    if source.mode == SourceMode::Test && waiting.livemode {
        return Some(HeldReason::LiveOnTest);
    }
    // An event that we requested from the API belongs to the account that we requested it for.
    if source.account.is_empty() || !waiting.is_webhook {
        return None;
    }
    let account = event::envelope(&waiting.body)?.account;
    (!account.is_empty() && account != source.account).then_some(HeldReason::OtherAccount)
}

/// Accepts the held events of a source that were received until the given time. Returns their
/// number.
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

/// Checks the held events of a source again, because its settings changed.
pub async fn judge_held(store: &Store, now: Timestamp, source_id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::put_back_held(&mut tx, now, source_id).await?;
    tx.commit().await
}
