//! Payments that a user marked as the receipt of another payment.
//! Takes a conversion and the user; stops counting it, or counts it again.
//! Guarantees that nothing is deleted, that the mark survives later matching and replays, and that
//! it can be undone.

use anyhow::Result;

use super::{Ledger, settle_again, table, turn};
use crate::store::Store;

/// Stops counting a conversion, because it is the receipt of another payment. Returns false if
/// there is no such conversion, or it can't be a receipt.
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
    turn::take_around(&mut tx, &record.payment.account, id).await?;
    table::save_duplicate(&mut tx, ledger.now, &record, made_by).await?;
    settle_again(&mut tx, ledger, id).await?;
    tx.commit().await?;
    Ok(true)
}

/// Counts a conversion again. Returns false if it was not marked as a receipt.
pub(crate) async fn count_again(store: &Store, ledger: Ledger<'_>, id: &str) -> Result<bool> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    let Some(record) = table::find(&mut tx, id).await? else { return Ok(false) };
    turn::take_around(&mut tx, &record.payment.account, id).await?;
    let found = table::forget_duplicate(&mut tx, id).await?;
    if found {
        settle_again(&mut tx, ledger, id).await?;
        tx.commit().await?;
    }
    Ok(found)
}
