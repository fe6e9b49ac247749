//! SQL of `custom_requests`.
//! Takes requests and their results; writes and reads their rows. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{Kept, Refusal, Request};
use crate::clock::Timestamp;
use crate::store::{Store, sql};

const INSERT: &str = "
    insert into custom_requests (id, source_id, received_at_ms, method, query, content_type, body, state, conversion_id,
                                 error, parameter, warnings)
    values (:id, :source_id, :received_at, :method, :query, :content_type, :body, :state, :conversion_id, :error, :parameter, :warnings)";

pub(super) async fn insert(
    tx: &mut AnyConnection,
    kept: &Kept,
    state: &str,
    conversion_id: Option<&str>,
    warnings: &[String],
) -> Result<()> {
    let request = &kept.request;
    sql(INSERT)
        .set("id", &kept.id)
        .set("source_id", &kept.source_id)
        .set("received_at", kept.received_at)
        .set("method", &request.method)
        .set("query", &request.query)
        .set("content_type", &request.content_type)
        .set("body", request.body.as_slice())
        .set("state", state)
        .set("conversion_id", conversion_id)
        .set("error", None::<&str>)
        .set("parameter", None::<&str>)
        .set("warnings", warnings.join("\n"))
        .execute(tx)
        .await
        .context("could not store a postback")?;
    Ok(())
}

pub(super) async fn insert_refused(
    tx: &mut AnyConnection,
    kept: &Kept,
    refusal: &Refusal,
) -> Result<()> {
    let request = &kept.request;
    sql(INSERT)
        .set("id", &kept.id)
        .set("source_id", &kept.source_id)
        .set("received_at", kept.received_at)
        .set("method", &request.method)
        .set("query", &request.query)
        .set("content_type", &request.content_type)
        .set("body", request.body.as_slice())
        .set("state", "refused")
        .set("conversion_id", None::<&str>)
        .set("error", &refusal.error)
        .set("parameter", &refusal.parameter)
        .set("warnings", "")
        .execute(tx)
        .await
        .context("could not store a refused postback")?;
    Ok(())
}

/// Deletes all but the newest refused requests of a source.
pub(super) async fn forget_refused(
    tx: &mut AnyConnection,
    source_id: &str,
    kept: i64,
) -> Result<()> {
    sql("delete from custom_requests
          where source_id = :source_id and state = 'refused'
            and id in (select id from custom_requests
                        where source_id = :source_id and state = 'refused'
                        order by id desc
                        limit 1000 offset :kept)")
    .set("source_id", source_id)
    .set("kept", kept)
    .execute(tx)
    .await
    .context("could not delete old refused postbacks")?;
    Ok(())
}

/// The next request that created or repeated a conversion.
pub(super) async fn accepted_after(
    store: &Store,
    after: Option<&(Timestamp, String)>,
) -> Result<Option<Kept>> {
    let (at, id) = after.map_or((i64::MIN, ""), |(at, id)| (at.as_ms(), id.as_str()));
    let row = sql("select id, source_id, received_at_ms, method, query, content_type, body
           from custom_requests
          where state <> 'refused' and (received_at_ms, id) > (:at, :id)
          order by received_at_ms, id
          limit 1")
    .set("at", at)
    .set("id", id)
    .fetch_optional(store.pool())
    .await
    .context("could not read the postbacks")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Kept {
        id: row.get("id")?,
        source_id: row.get("source_id")?,
        received_at: row.get("received_at_ms")?,
        request: Request {
            method: row.get("method")?,
            query: row.get("query")?,
            content_type: row.get("content_type")?,
            body: row.get("body")?,
        },
    }))
}
