//! Provisional visits: known only from the request for the tag's script.
//! Takes what payments wait for; promotes such visits to counted ones, and deletes those that no
//! payment named in time.
//! Guarantees that no provisional visit is deleted that a payment names.

use anyhow::Result;

use super::{table, turn};
use crate::clock::Timestamp;
use crate::store::Store;
use crate::visit;

/// Promotes provisional visits that payments name. Returns their number.
pub(crate) async fn promote_named(store: &Store) -> Result<usize> {
    let named = table::named_provisional(store).await?;
    for click_id in &named {
        let mut tx = store.begin().await?;
        visit::promote(&mut tx, click_id).await?;
        tx.commit().await?;
        tracing::info!(
            click_id,
            "counting a visit whose report never arrived, because a payment names it"
        );
    }
    Ok(named.len())
}

/// Deletes provisional visits that no payment named in time. Returns their number.
pub(crate) async fn forget_unnamed(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    // No payment may be matched between the check and the deletion.
    turn::take_all(&mut tx).await?;
    for click_id in table::named_provisional_in(&mut tx).await? {
        visit::promote(&mut tx, &click_id).await?;
    }
    let forgotten = visit::forget_provisional(&mut tx, now).await?;
    tx.commit().await?;
    Ok(forgotten)
}
