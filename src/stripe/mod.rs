//! Stripe: what it told us, believed and kept raw, then read.
//! In: webhooks. Out: stored events, each in exactly one visible state, and payments handed down to the ledger.
//! Promise: an event is committed before Stripe gets its 200; an event we cannot read is `failed` with its error, never a 500.

pub(crate) mod endpoint;
mod event;
mod rejections;
pub(crate) mod signature;
mod table;
pub(crate) mod worker;

use anyhow::Result;

pub(crate) use rejections::Rejections;

use crate::clock::Timestamp;
use crate::store::Store;

/// Puts a failed or ignored event back to be processed again; false when there is none such.
///
/// # Errors
/// When the database cannot be written.
pub async fn rerun(store: &Store, now: Timestamp, id: &str) -> Result<bool> {
    let mut tx = store.begin().await?;
    let found = table::put_back(&mut tx, now, id).await?;
    tx.commit().await?;
    Ok(found)
}
