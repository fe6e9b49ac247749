//! SQL of `duplicates`.
//! Takes payments; stores and returns which of them a user marked as the receipt of another
//! payment. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::Record;
use crate::clock::Timestamp;
use crate::store::{insert_into, sql};

/// True if a user marked this payment as the receipt of another payment.
pub(in crate::conversion) async fn is_duplicate(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let row = sql("select d.object_id
           from stripe_objects o
           join duplicates d on d.account = o.account and d.object_id = o.object_id
          where o.conversion_id = :conversion_id and o.role = 'identity'
          limit 1")
    .set("conversion_id", id)
    .fetch_optional(tx)
    .await
    .context("could not look for a duplicate")?;
    Ok(row.is_some())
}

/// Stores the mark and who set it; the first one is kept.
pub(in crate::conversion) async fn save_duplicate(
    tx: &mut AnyConnection,
    now: Timestamp,
    record: &Record,
    made_by: &str,
) -> Result<()> {
    let object_id = record.payment.transaction_id().context("a payment has an identity")?;
    insert_into("duplicates")
        .set("account", &record.payment.account)
        .set("object_id", object_id)
        .set("made_by", made_by)
        .set("made_at_ms", now)
        .or_ignore()
        .execute(tx)
        .await
        .context("could not write a duplicate")?;
    Ok(())
}

/// Removes the mark; returns false if there was none.
pub(in crate::conversion) async fn forget_duplicate(
    tx: &mut AnyConnection,
    id: &str,
) -> Result<bool> {
    let forgotten = sql("delete from duplicates
          where (account, object_id) in (select account, object_id from stripe_objects
                                          where conversion_id = :conversion_id and role = 'identity')")
    .set("conversion_id", id)
    .execute(tx)
    .await
    .context("could not delete a duplicate")?;
    Ok(forgotten.rows_affected() > 0)
}
