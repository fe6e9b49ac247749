//! SQL of `duplicates`.
//! Takes payments; returns which of them somebody called the receipt of another one. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::Record;
use crate::clock::Timestamp;

/// True when somebody said that this payment is the receipt of another one.
pub(in crate::conversion) async fn is_duplicate(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let row = sqlx::query(
        "select d.object_id
           from stripe_objects o
           join duplicates d on d.account = o.account and d.object_id = o.object_id
          where o.conversion_id = $1 and o.role = 'identity'
          limit 1",
    )
    .bind(id)
    .fetch_optional(tx)
    .await
    .context("could not look for a duplicate")?;
    Ok(row.is_some())
}

/// Writes who said so; the first who did stays.
pub(in crate::conversion) async fn save_duplicate(
    tx: &mut AnyConnection,
    now: Timestamp,
    record: &Record,
    made_by: &str,
) -> Result<()> {
    let object_id = record.payment.transaction_id().context("a payment has an identity")?;
    sqlx::query(
        "insert into duplicates (account, object_id, made_by, made_at_ms) values ($1, $2, $3, $4)
             on conflict (account, object_id) do nothing",
    )
    .bind(&record.payment.account)
    .bind(object_id)
    .bind(made_by)
    .bind(now.as_ms())
    .execute(tx)
    .await
    .context("could not write a duplicate")?;
    Ok(())
}

/// Forgets that somebody said so; false when nobody did.
pub(in crate::conversion) async fn forget_duplicate(
    tx: &mut AnyConnection,
    id: &str,
) -> Result<bool> {
    let forgotten = sqlx::query(
        "delete from duplicates
          where (account, object_id) in (select account, object_id from stripe_objects
                                          where conversion_id = $1 and role = 'identity')",
    )
    .bind(id)
    .execute(tx)
    .await
    .context("could not forget a duplicate")?;
    Ok(forgotten.rows_affected() > 0)
}
