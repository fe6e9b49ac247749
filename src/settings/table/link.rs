//! SQL of the redirect links.
//! Takes records; writes their rows, and reads them back.

use anyhow::Result;
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::ids;
use crate::settings::{Link, LinkDraft};
use crate::store::{Row, insert_into, sql};

pub(super) fn read(row: &Row) -> Result<Link> {
    Ok(Link {
        id: row.get("id")?,
        alias: row.get("alias")?,
        site_id: row.get("site_id")?,
        name: row.get("name")?,
        target: row.get("target")?,
        is_paused: row.get::<bool>("is_paused")?,
    })
}

pub(in crate::settings) async fn insert_link(
    tx: &mut AnyConnection,
    now: Timestamp,
    draft: &LinkDraft,
) -> Result<bool> {
    let done = insert_into("links")
        .set("id", ids::new_record_id("lnk_", now))
        .set("alias", &draft.alias)
        .set("site_id", &draft.site_id)
        .set("name", &draft.name)
        .set("target", &draft.target)
        .set("is_paused", 0)
        .set("created_at_ms", now)
        .or_ignore()
        .execute(tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(in crate::settings) async fn update_link(tx: &mut AnyConnection, link: &Link) -> Result<()> {
    sql("update links set name = :name, target = :target, is_paused = :is_paused where id = :id")
        .set("name", &link.name)
        .set("target", &link.target)
        .set("is_paused", link.is_paused)
        .set("id", &link.id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::settings) async fn delete_link(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sql("delete from links where id = :id").set("id", id).execute(tx).await?;
    Ok(())
}
