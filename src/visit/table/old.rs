//! SQL that finds and deletes old visits. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use crate::clock::Timestamp;
use crate::ids;
use crate::visit::OldClickId;

pub(in crate::visit) async fn last_seen_before(
    tx: &mut AnyConnection,
    until: Timestamp,
    after: &str,
    limit: i64,
) -> Result<Vec<OldClickId>> {
    let rows = sqlx::query(
        "select click_id, min(site_id) as site_id, count(*) as visits, min(at_ms) as first_ms, max(at_ms) as last_ms
           from visits
          where click_id > $1 and click_id < $2
          group by click_id
         having max(at_ms) < $3
          order by click_id
          limit $4",
    )
    .bind(after)
    .bind(ids::first_click_id(until))
    .bind(until.as_ms())
    .bind(limit)
    .fetch_all(tx)
    .await
    .context("could not read old visits")?;
    rows.iter()
        .map(|row| {
            Ok(OldClickId {
                click_id: row.try_get("click_id")?,
                site_id: row.try_get("site_id")?,
                visits: row.try_get("visits")?,
                first_at: Timestamp::from_ms(row.try_get("first_ms")?),
                last_at: Timestamp::from_ms(row.try_get("last_ms")?),
            })
        })
        .collect()
}

pub(in crate::visit) async fn delete_old(
    tx: &mut AnyConnection,
    until: Timestamp,
    from: &str,
    to: &str,
) -> Result<()> {
    // The range also contains click IDs with later visits; each statement leaves them out.
    for statement in [
        "delete from visit_notes
          where click_id in (select click_id from visits
                              where click_id >= $1 and click_id <= $2
                              group by click_id
                             having max(at_ms) < $3)",
        "delete from visit_sessions
          where click_id in (select click_id from visits
                              where click_id >= $1 and click_id <= $2
                              group by click_id
                             having max(at_ms) < $3)",
        "delete from visit_notes
          where click_id in (select alias from visits v
                              where v.click_id >= $1 and v.click_id <= $2 and v.alias is not null
                                and not exists (select 1 from visits w
                                                 where w.click_id = v.click_id and w.at_ms >= $3))",
        "delete from visits
          where click_id in (select click_id from visits
                              where click_id >= $1 and click_id <= $2
                              group by click_id
                             having max(at_ms) < $3)",
    ] {
        sqlx::query(statement)
            .bind(from)
            .bind(to)
            .bind(until.as_ms())
            .execute(&mut *tx)
            .await
            .context("could not delete old visits")?;
    }
    Ok(())
}
