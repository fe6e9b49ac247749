//! SQL of the rollup: takes counters from `visit_counts` and adds them to `visit_sums`. Private to
//! this module.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use crate::store::Store;
use crate::visit::fold::{Counter, SumKey};

/// Number of rows that one statement inserts. The remaining rows are inserted one by one.
const ROWS: usize = 16;

pub(in crate::visit) async fn has_counters(
    store: &Store,
    site_id: &str,
    (from, until): (i64, i64),
) -> Result<bool> {
    let first = sqlx::query(
        "select 1 from visit_counts where site_id = $1 and quarter >= $2 and quarter < $3 limit 1",
    )
    .bind(site_id)
    .bind(from)
    .bind(until)
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
    let end = sqlx::query(
        "select quarter, channel, source, medium, campaign, landing_path, device
           from visit_counts
          where site_id = $1 and quarter >= $2 and quarter < $3
          order by quarter, channel, source, medium, campaign, landing_path, device
          limit 1 offset $4",
    )
    .bind(site_id)
    .bind(from)
    .bind(until)
    .bind(limit)
    .fetch_optional(&mut *tx)
    .await
    .context("could not read which counters to roll up")?;
    let rows = match end {
        Some(end) => {
            let mut query = sqlx::query(
                "delete from visit_counts
                  where site_id = $1 and quarter >= $2
                    and (quarter, channel, source, medium, campaign, landing_path, device) < ($3, $4, $5, $6, $7, $8, $9)
                 returning quarter, channel, source, campaign, landing_path, device, visits",
            )
            .bind(site_id)
            .bind(from)
            .bind(end.try_get::<i64, _>("quarter")?);
            for column in ["channel", "source", "medium", "campaign", "landing_path", "device"] {
                query = query.bind(end.try_get::<String, _>(column)?);
            }
            query.fetch_all(tx).await
        }
        None => {
            sqlx::query(
                "delete from visit_counts
                  where site_id = $1 and quarter >= $2 and quarter < $3
                 returning quarter, channel, source, campaign, landing_path, device, visits",
            )
            .bind(site_id)
            .bind(from)
            .bind(until)
            .fetch_all(tx)
            .await
        }
    };
    let rows = rows.context("could not take counters to roll up")?;
    rows.iter()
        .map(|row| {
            Ok(Counter {
                quarter: row.try_get("quarter")?,
                channel: row.try_get("channel")?,
                source: row.try_get("source")?,
                campaign: row.try_get("campaign")?,
                landing_path: row.try_get("landing_path")?,
                device: row.try_get("device")?,
                visits: row.try_get("visits")?,
            })
        })
        .collect()
}

macro_rules! add {
    ($rows:literal) => {
        concat!(
            "insert into visit_sums (site, dimension, width, quarter, name, visits) values ",
            $rows,
            " on conflict (site, dimension, width, quarter, name)
              do update set visits = visit_sums.visits + excluded.visits"
        )
    };
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
        let text = if rows.len() == ROWS {
            add!(
                "($1, $2, $3, $4, $5, $6), ($1, $7, $8, $9, $10, $11), ($1, $12, $13, $14, $15, $16),
                 ($1, $17, $18, $19, $20, $21), ($1, $22, $23, $24, $25, $26), ($1, $27, $28, $29, $30, $31),
                 ($1, $32, $33, $34, $35, $36), ($1, $37, $38, $39, $40, $41), ($1, $42, $43, $44, $45, $46),
                 ($1, $47, $48, $49, $50, $51), ($1, $52, $53, $54, $55, $56), ($1, $57, $58, $59, $60, $61),
                 ($1, $62, $63, $64, $65, $66), ($1, $67, $68, $69, $70, $71), ($1, $72, $73, $74, $75, $76),
                 ($1, $77, $78, $79, $80, $81)"
            )
        } else {
            add!("($1, $2, $3, $4, $5, $6)")
        };
        let mut query = sqlx::query(text).bind(site);
        for ((dimension, width, quarter, name), visits) in rows {
            query = query.bind(*dimension).bind(*width).bind(*quarter).bind(name).bind(**visits);
        }
        query.execute(&mut *tx).await.context("could not add to the sums of visits")?;
    }
    Ok(())
}
