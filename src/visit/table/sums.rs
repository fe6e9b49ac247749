//! SQL of the rollup: takes counters from `visit_counts` and adds them to `visit_sums`. Private to
//! this module.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::store::{Store, ToSql as _, sql};
use crate::visit::counter::{Counter, SumKey};

/// Number of rows that one statement inserts. The remaining rows are inserted one by one.
const ROWS: usize = 16;

pub(in crate::visit) async fn has_counters(
    store: &Store,
    site_id: &str,
    (from, until): (i64, i64),
) -> Result<bool> {
    let first = sql("select 1 from visit_counts where site_id = :site_id and quarter >= :from and quarter < :until limit 1")
    .set("site_id", site_id)
    .set("from", from)
    .set("until", until)
    .fetch_optional(store.pool())
    .await
    .context("could not check for counters to roll up")?;
    Ok(first.is_some())
}

/// Deletes and returns a site's oldest counters from quarter hour `from` until before `until`. It
/// returns exactly the rows it deletes.
pub(in crate::visit) async fn take_counters(
    tx: &mut AnyConnection,
    site_id: &str,
    (from, until): (i64, i64),
    limit: i64,
) -> Result<Vec<Counter>> {
    // Reads the key at which the batch ends, and deletes by range. With a list of keys, PostgreSQL
    // would scan the whole table.
    let end = sql("select quarter, channel, source, medium, campaign, landing_path, device
           from visit_counts
          where site_id = :site_id and quarter >= :from and quarter < :until
          order by quarter, channel, source, medium, campaign, landing_path, device
          limit 1 offset :limit")
    .set("site_id", site_id)
    .set("from", from)
    .set("until", until)
    .set("limit", limit)
    .fetch_optional(&mut *tx)
    .await
    .context("could not read which counters to roll up")?;
    let rows = match end {
        Some(end) => {
            let mut end_of_range = vec![end.get::<i64>("quarter")?.to_sql()];
            for column in ["channel", "source", "medium", "campaign", "landing_path", "device"] {
                end_of_range.push(end.get::<String>(column)?.to_sql());
            }
            sql("delete from visit_counts
                  where site_id = :site_id and quarter >= :from
                    and (quarter, channel, source, medium, campaign, landing_path, device) < :end
                 returning quarter, channel, source, campaign, landing_path, device, visits")
            .set("site_id", site_id)
            .set("from", from)
            .set_rows("end", vec![end_of_range])
            .fetch_all(tx)
            .await
        }
        None => {
            sql("delete from visit_counts
                  where site_id = :site_id and quarter >= :from and quarter < :until
                 returning quarter, channel, source, campaign, landing_path, device, visits")
            .set("site_id", site_id)
            .set("from", from)
            .set("until", until)
            .fetch_all(tx)
            .await
        }
    };
    let rows = rows.context("could not take counters to roll up")?;
    rows.iter()
        .map(|row| {
            Ok(Counter {
                quarter: row.get("quarter")?,
                channel: row.get("channel")?,
                source: row.get("source")?,
                campaign: row.get("campaign")?,
                landing_path: row.get("landing_path")?,
                device: row.get("device")?,
                visits: row.get("visits")?,
            })
        })
        .collect()
}

/// Adds visits to a site's sums.
pub(in crate::visit) async fn add_sums(
    tx: &mut AnyConnection,
    site: i64,
    sums: &BTreeMap<SumKey, i64>,
) -> Result<()> {
    let sums: Vec<_> = sums.iter().collect();
    let (many, rest) = sums.as_chunks::<ROWS>();
    let statements = many.iter().map(|rows| rows.as_slice()).chain(rest.chunks(1));
    for rows in statements {
        let rows = rows.iter().map(|((dimension, width, quarter, name), visits)| {
            vec![
                site.to_sql(),
                dimension.to_sql(),
                width.to_sql(),
                quarter.to_sql(),
                name.to_sql(),
                visits.to_sql(),
            ]
        });
        sql("insert into visit_sums (site, dimension, width, quarter, name, visits)
             values :rows
                 on conflict (site, dimension, width, quarter, name)
              do update set visits = visit_sums.visits + excluded.visits")
        .set_rows("rows", rows.collect())
        .execute(&mut *tx)
        .await
        .context("could not add to the sums of visits")?;
    }
    Ok(())
}
