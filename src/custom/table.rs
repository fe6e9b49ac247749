//! SQL of `custom_requests`.
//! In: requests, and what became of them. Out: rows. Private to this room.

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::{Kept, Refusal, Request};
use crate::clock::Timestamp;
use crate::store::Store;

const INSERT: &str = "
    insert into custom_requests (id, source_id, received_at_ms, method, query, content_type, body, state, conversion_id,
                                 error, parameter, warnings)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

pub(super) async fn insert(
    tx: &mut AnyConnection,
    kept: &Kept,
    state: &str,
    conversion_id: Option<&str>,
    warnings: &[String],
) -> Result<()> {
    let request = &kept.request;
    sqlx::query(INSERT)
        .bind(&kept.id)
        .bind(&kept.source_id)
        .bind(kept.received_at.as_ms())
        .bind(&request.method)
        .bind(&request.query)
        .bind(&request.content_type)
        .bind(request.body.as_slice())
        .bind(state)
        .bind(conversion_id)
        .bind(None::<&str>)
        .bind(None::<&str>)
        .bind(warnings.join("\n"))
        .execute(tx)
        .await
        .context("could not keep a custom request")?;
    Ok(())
}

pub(super) async fn insert_refused(
    tx: &mut AnyConnection,
    kept: &Kept,
    refusal: &Refusal,
) -> Result<()> {
    let request = &kept.request;
    sqlx::query(INSERT)
        .bind(&kept.id)
        .bind(&kept.source_id)
        .bind(kept.received_at.as_ms())
        .bind(&request.method)
        .bind(&request.query)
        .bind(&request.content_type)
        .bind(request.body.as_slice())
        .bind("refused")
        .bind(None::<&str>)
        .bind(&refusal.error)
        .bind(refusal.parameter.as_deref())
        .bind("")
        .execute(tx)
        .await
        .context("could not keep a refused request")?;
    Ok(())
}

/// Forgets all but the newest refused requests of a source.
pub(super) async fn forget_refused(
    tx: &mut AnyConnection,
    source_id: &str,
    kept: i64,
) -> Result<()> {
    sqlx::query(
        "delete from custom_requests
          where source_id = $1 and state = 'refused'
            and id in (select id from custom_requests
                        where source_id = $1 and state = 'refused'
                        order by id desc
                        limit 1000 offset $2)",
    )
    .bind(source_id)
    .bind(kept)
    .execute(tx)
    .await
    .context("could not forget old refused requests")?;
    Ok(())
}

/// The next request that made or repeated a conversion.
pub(super) async fn accepted_after(
    store: &Store,
    after: Option<&(Timestamp, String)>,
) -> Result<Option<Kept>> {
    let (at, id) = after.map_or((i64::MIN, ""), |(at, id)| (at.as_ms(), id.as_str()));
    let row = sqlx::query(
        "select id, source_id, received_at_ms, method, query, content_type, body
           from custom_requests
          where state <> 'refused' and (received_at_ms, id) > ($1, $2)
          order by received_at_ms, id
          limit 1",
    )
    .bind(at)
    .bind(id)
    .fetch_optional(store.pool())
    .await
    .context("could not read the custom requests")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Kept {
        id: row.try_get("id")?,
        source_id: row.try_get("source_id")?,
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        request: Request {
            method: row.try_get("method")?,
            query: row.try_get("query")?,
            content_type: row.try_get("content_type")?,
            body: row.try_get("body")?,
        },
    }))
}
