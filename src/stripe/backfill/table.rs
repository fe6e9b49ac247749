//! SQL of `stripe_backfills`.
//! Takes how far a list was read; returns where to continue. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{Place, Stretch};
use crate::store::{Store, insert_into, sql};

/// Where an earlier run stopped.
pub(super) async fn unfinished(store: &Store, place: &Place<'_>) -> Result<Option<Stretch>> {
    let row = sql("select from_ms, until_ms, cursor
           from stripe_backfills
          where source_id = :source_id and account = :account and list = :list")
    .set("source_id", &place.source.id)
    .set("account", place.account)
    .set("list", place.list.word())
    .fetch_optional(store.pool())
    .await
    .context("could not look for an earlier backfill")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Stretch {
        from: row.get("from_ms")?,
        until: row.get("until_ms")?,
        cursor: Some(row.get("cursor")?),
    }))
}

/// Records how far a stretch was read, in the transaction that stored its items. The end of the
/// stretch deletes the record.
pub(super) async fn note(
    tx: &mut AnyConnection,
    place: &Place<'_>,
    stretch: &Stretch,
) -> Result<()> {
    let Some(cursor) = &stretch.cursor else {
        sql("delete from stripe_backfills where source_id = :source_id and account = :account and list = :list")
        .set("source_id", &place.source.id)
        .set("account", place.account)
        .set("list", place.list.word())
        .execute(tx)
        .await?;
        return Ok(());
    };
    insert_into("stripe_backfills")
        .set("source_id", &place.source.id)
        .set("account", place.account)
        .set("list", place.list.word())
        .set("from_ms", stretch.from)
        .set("until_ms", stretch.until)
        .set("cursor", cursor)
        .or_replace("source_id, account, list")
        .execute(tx)
        .await
        .context("could not record how far the backfill is")?;
    Ok(())
}
