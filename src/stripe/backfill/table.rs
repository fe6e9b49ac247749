//! SQL of `stripe_backfills`.
//! In: how far a list was read. Out: where to go on. Private to this room.

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::{Place, Stretch};
use crate::clock::Timestamp;
use crate::store::Store;

/// Where an earlier run was stopped.
pub(super) async fn unfinished(store: &Store, place: &Place<'_>) -> Result<Option<Stretch>> {
    let row = sqlx::query(
        "select from_ms, until_ms, cursor
           from stripe_backfills
          where source_id = $1 and account = $2 and list = $3",
    )
    .bind(&place.source.id)
    .bind(place.account)
    .bind(place.list.word())
    .fetch_optional(store.pool())
    .await
    .context("could not look for an earlier backfill")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Stretch {
        from: Timestamp::from_ms(row.try_get("from_ms")?),
        until: Timestamp::from_ms(row.try_get("until_ms")?),
        cursor: Some(row.try_get("cursor")?),
    }))
}

/// Notes how far a stretch was read, in the transaction that stored its items; its end removes the note.
pub(super) async fn note(
    tx: &mut AnyConnection,
    place: &Place<'_>,
    stretch: &Stretch,
) -> Result<()> {
    let Some(cursor) = &stretch.cursor else {
        sqlx::query(
            "delete from stripe_backfills where source_id = $1 and account = $2 and list = $3",
        )
        .bind(&place.source.id)
        .bind(place.account)
        .bind(place.list.word())
        .execute(tx)
        .await?;
        return Ok(());
    };
    sqlx::query(
        "insert into stripe_backfills (source_id, account, list, from_ms, until_ms, cursor)
         values ($1, $2, $3, $4, $5, $6)
             on conflict (source_id, account, list) do update
            set from_ms = excluded.from_ms, until_ms = excluded.until_ms, cursor = excluded.cursor",
    )
    .bind(&place.source.id)
    .bind(place.account)
    .bind(place.list.word())
    .bind(stretch.from.as_ms())
    .bind(stretch.until.as_ms())
    .bind(cursor)
    .execute(tx)
    .await
    .context("could not note how far the backfill is")?;
    Ok(())
}
