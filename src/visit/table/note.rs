//! SQL of `visit_notes` (AnyTrack click IDs) and `visit_sessions` (checkout sessions), which the
//! tag sends after the visit. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::click_id;
use crate::clock::Timestamp;
use crate::ids::ClickId;
use crate::store::sql;

const MAX_NOTES: i64 = 20;
/// Maximum number of checkout sessions per click ID. A buyer has a few; the limit stops an attacker
/// from storing thousands.
const MAX_SESSIONS: i64 = 50;

pub(in crate::visit) async fn insert_note(
    tx: &mut AnyConnection,
    now: Timestamp,
    click_id: &ClickId,
    anytrack_click_id: &str,
) -> Result<()> {
    sql("insert into visit_notes (anytrack_click_id, click_id, at_ms)
         select :anytrack_click_id, :click_id, :at_ms
          where (select count(*) from visit_notes where click_id = :click_id) < :max_notes
             on conflict do nothing")
    .set("anytrack_click_id", anytrack_click_id)
    .set("click_id", click_id.as_str())
    .set("at_ms", now)
    .set("max_notes", MAX_NOTES)
    .execute(tx)
    .await
    .context("could not store an AnyTrack click ID")?;
    Ok(())
}

pub(in crate::visit) async fn click_id_of_note(
    tx: &mut AnyConnection,
    anytrack_click_id: &str,
) -> Result<Option<ClickId>> {
    // Only notes whose visit has arrived. The search for late visits in `conversion` uses the same
    // condition.
    let row = sql("select n.click_id
           from visit_notes n
          where n.anytrack_click_id = :anytrack_click_id
            and (exists (select 1 from visits v where v.click_id = n.click_id)
                 or exists (select 1 from visits v
                             where v.alias = n.click_id and (substr(v.alias, 1, 4) = 'ck_z' or (v.flags & 33536) = 32768)))
          order by n.at_ms, n.click_id
          limit 1")
    .set("anytrack_click_id", anytrack_click_id)
    .fetch_optional(tx)
    .await?;
    row.map(|row| self::click_id(&row, "click_id")).transpose()
}

pub(in crate::visit) async fn insert_session(
    tx: &mut AnyConnection,
    now: Timestamp,
    click_id: &ClickId,
    session_id: &str,
) -> Result<()> {
    sql("insert into visit_sessions (session_id, click_id, at_ms)
         select :session_id, :click_id, :at_ms
          where (select count(*) from visit_sessions where click_id = :click_id) < :max_sessions
             on conflict do nothing")
    .set("session_id", session_id)
    .set("click_id", click_id.as_str())
    .set("at_ms", now)
    .set("max_sessions", MAX_SESSIONS)
    .execute(tx)
    .await
    .context("could not store the visitor of a checkout session")?;
    Ok(())
}

pub(in crate::visit) async fn click_id_of_session(
    tx: &mut AnyConnection,
    session_id: &str,
) -> Result<Option<ClickId>> {
    let row = sql("select click_id from visit_sessions where session_id = :session_id order by at_ms, click_id limit 1")
    .set("session_id", session_id)
    .fetch_optional(tx)
    .await
    .context("could not read the visitor of a checkout session")?;
    row.map(|row| self::click_id(&row, "click_id")).transpose()
}

pub(in crate::visit) async fn note_of(
    tx: &mut AnyConnection,
    click_id: &ClickId,
) -> Result<Option<String>> {
    let row = sql("select anytrack_click_id
           from visit_notes
          where click_id = :click_id
             or click_id in (select v.alias from visits v where v.click_id = :click_id and (substr(v.alias, 1, 4) = 'ck_z' or (v.flags & 33536) = 32768))
          order by at_ms, anytrack_click_id
          limit 1")
    .set("click_id", click_id.as_str())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}
