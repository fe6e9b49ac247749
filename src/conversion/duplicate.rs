//! Payments that somebody says are only the receipt of another one.
//! Takes a conversion and who says so; counts it for nothing, or counts it again.
//! Guarantees that nothing is deleted, that it survives re-joins and replays, and that it can be undone.

use anyhow::Result;

use super::{Ledger, settle_again, table};
use crate::store::Store;

/// Stops counting a conversion, because it is the receipt of another payment. False when there is no such conversion that may be one.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn count_once(
    store: &Store,
    ledger: Ledger<'_>,
    id: &str,
    made_by: &str,
) -> Result<bool> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    let found = table::find(&mut tx, id).await?;
    let Some(record) = found.filter(|it| it.line.is_some() && it.payment.may_be_receipt()) else {
        return Ok(false);
    };
    table::take_turn(&mut tx, &record.payment.account).await?;
    table::save_duplicate(&mut tx, ledger.now, &record, made_by).await?;
    settle_again(&mut tx, ledger, id).await?;
    tx.commit().await?;
    Ok(true)
}

/// Counts a conversion again. False when nobody had said that it is a receipt.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn count_again(store: &Store, ledger: Ledger<'_>, id: &str) -> Result<bool> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    let Some(record) = table::find(&mut tx, id).await? else { return Ok(false) };
    table::take_turn(&mut tx, &record.payment.account).await?;
    let found = table::forget_duplicate(&mut tx, id).await?;
    if found {
        settle_again(&mut tx, ledger, id).await?;
        tx.commit().await?;
    }
    Ok(found)
}
