//! SQL of the redirect links.
//! In: records. Out: rows, and records again.

use anyhow::Result;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::clock::Timestamp;
use crate::ids;
use crate::settings::{Link, LinkDraft};

pub(super) fn read(row: &AnyRow) -> Result<Link> {
    Ok(Link {
        id: row.try_get("id")?,
        alias: row.try_get("alias")?,
        site_id: row.try_get("site_id")?,
        name: row.try_get("name")?,
        target: row.try_get("target")?,
        is_paused: row.try_get::<i64, _>("is_paused")? == 1,
    })
}

pub(in crate::settings) async fn insert_link(
    tx: &mut AnyConnection,
    now: Timestamp,
    draft: &LinkDraft,
) -> Result<bool> {
    let done = sqlx::query(
        "insert into links (id, alias, site_id, name, target, is_paused, created_at_ms)
         values ($1, $2, $3, $4, $5, 0, $6)
             on conflict do nothing",
    )
    .bind(ids::new_record_id("lnk_", now))
    .bind(&draft.alias)
    .bind(&draft.site_id)
    .bind(&draft.name)
    .bind(&draft.target)
    .bind(now.as_ms())
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub(in crate::settings) async fn update_link(tx: &mut AnyConnection, link: &Link) -> Result<()> {
    sqlx::query("update links set name = $1, target = $2, is_paused = $3 where id = $4")
        .bind(&link.name)
        .bind(&link.target)
        .bind(i64::from(link.is_paused))
        .bind(&link.id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::settings) async fn delete_link(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("delete from links where id = $1").bind(id).execute(tx).await?;
    Ok(())
}
