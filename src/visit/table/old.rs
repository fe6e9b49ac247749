//! SQL that finds and deletes old visits. Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::ids;
use crate::store::sql;
use crate::visit::OldClickId;

pub(in crate::visit) async fn last_seen_before(
    tx: &mut AnyConnection,
    until: Timestamp,
    after: &str,
    limit: i64,
) -> Result<Vec<OldClickId>> {
    let rows = sql("select click_id, min(site_id) as site_id, count(*) as visits, min(at_ms) as first_ms, max(at_ms) as last_ms
           from visits
          where click_id > :after and click_id < :click_id
          group by click_id
         having max(at_ms) < :until
          order by click_id
          limit :limit")
    .set("after", after)
    .set("click_id", ids::first_click_id(until))
    .set("until", until)
    .set("limit", limit)
    .fetch_all(tx)
    .await
    .context("could not read old visits")?;
    rows.iter()
        .map(|row| {
            Ok(OldClickId {
                click_id: row.get("click_id")?,
                site_id: row.get("site_id")?,
                visits: row.get("visits")?,
                first_at: row.get("first_ms")?,
                last_at: row.get("last_ms")?,
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
                              where click_id >= :from and click_id <= :to
                              group by click_id
                             having max(at_ms) < :until)",
        "delete from visit_sessions
          where click_id in (select click_id from visits
                              where click_id >= :from and click_id <= :to
                              group by click_id
                             having max(at_ms) < :until)",
        "delete from visit_notes
          where click_id in (select alias from visits v
                              where v.click_id >= :from and v.click_id <= :to and v.alias is not null
                                and not exists (select 1 from visits w
                                                 where w.click_id = v.click_id and w.at_ms >= :until))",
        "delete from visits
          where click_id in (select click_id from visits
                              where click_id >= :from and click_id <= :to
                              group by click_id
                             having max(at_ms) < :until)",
    ] {
        sql(statement)
            .set("from", from)
            .set("to", to)
            .set("until", until.as_ms())
            .execute(&mut *tx)
            .await
            .context("could not delete old visits")?;
    }
    Ok(())
}
