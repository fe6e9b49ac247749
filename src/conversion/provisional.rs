//! Visits that nobody reported, once a payment names them.
//! In: what payments wait for. Out: such visits promoted to ones that count; forgotten where nobody named them in time.
//! Promise: none is forgotten that a payment names.

use anyhow::Result;

use super::{table, turn};
use crate::clock::Timestamp;
use crate::store::Store;
use crate::visit;

/// Promotes provisional visits that payments name. Answers how many.
pub(crate) async fn promote_named(store: &Store) -> Result<usize> {
    let named = table::named_provisional(store).await?;
    for click_id in &named {
        let mut tx = store.begin().await?;
        visit::promote(&mut tx, click_id).await?;
        tx.commit().await?;
        tracing::info!(click_id, "a payment names a visit whose report never came; it counts now");
    }
    Ok(named.len())
}

/// Forgets provisional visits that nobody named in time. Answers how many.
pub(crate) async fn forget_unnamed(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    // No payment may be judged between the look and the deletion.
    turn::take_all(&mut tx).await?;
    for click_id in table::named_provisional_in(&mut tx).await? {
        visit::promote(&mut tx, &click_id).await?;
    }
    let forgotten = visit::forget_provisional(&mut tx, now).await?;
    tx.commit().await?;
    Ok(forgotten)
}
