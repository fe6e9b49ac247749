//! SQL of `provisional_visits`, and of what becomes of them. Private to this room.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::VISITS;
use crate::clock::Timestamp;
use crate::ids::{self, ClickId};
use crate::store::{Cell, Row, Store};
use crate::visit::flags;
use crate::visit::provisional::UNSENT_MS;

/// Click IDs between these two, both included, that have visits.
pub(in crate::visit) async fn reported_between(
    store: &Store,
    from: &str,
    to: &str,
) -> Result<HashSet<String>> {
    let rows = sqlx::query("select click_id from visits where click_id >= $1 and click_id <= $2")
        .bind(from)
        .bind(to)
        .fetch_all(store.pool())
        .await
        .context("could not look which visits were reported")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Writes a provisional visit. Its row is a visit's without the alias.
pub(in crate::visit) async fn insert_provisional(tx: &mut AnyConnection, row: &Row) -> Result<()> {
    let mut query = sqlx::query(
        "insert into provisional_visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url,
                                         referrer, channel, source, medium, campaign, landing_host, landing_path, device,
                                         flags, visitor, details)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
             on conflict do nothing",
    );
    for ((name, _), cell) in VISITS.columns.iter().zip(&row.cells) {
        query = match cell {
            _ if *name == "alias" => query,
            Cell::Null => query.bind(None::<String>),
            Cell::Int(number) => query.bind(*number),
            Cell::Text(text) => query.bind(text.clone().into_owned()),
        };
    }
    query.execute(tx).await.context("could not keep a provisional visit")?;
    Ok(())
}

/// Moves a provisional visit over to those that count, unless the report of that landing is there.
pub(in crate::visit) async fn promote(tx: &mut AnyConnection, click_id: &str) -> Result<()> {
    // Whoever replaces it waits for this row, and so sees what came of it.
    sqlx::query("update provisional_visits set flags = flags where click_id = $1")
        .bind(click_id)
        .execute(&mut *tx)
        .await
        .context("could not take hold of a provisional visit")?;
    let moved = sqlx::query(
        "insert into visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url, referrer, channel,
                             source, medium, campaign, landing_host, landing_path, device, flags, visitor, details)
         select click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url, referrer, channel, source, medium,
                campaign, landing_host, landing_path, device, flags, visitor, details
           from provisional_visits p
          where click_id = $1
            and not exists (select 1 from visits v
                             where v.click_id = $1 and v.previous_click_id is distinct from v.click_id)
             on conflict do nothing",
    )
    .bind(click_id)
    .execute(&mut *tx)
    .await
    .context("could not promote a provisional visit")?;
    if moved.rows_affected() == 1 {
        sqlx::query(
            "insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
             select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                    coalesce(landing_path, ''), device, 1
               from provisional_visits
              where click_id = $1 and (flags & $2) = 0
                 on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
                 do update set visits = visit_counts.visits + 1",
        )
        .bind(click_id)
        .bind(flags::UNKNOWN_HOST)
        .execute(&mut *tx)
        .await
        .context("could not count a promoted visit")?;
    }
    sqlx::query("delete from provisional_visits where click_id = $1")
        .bind(click_id)
        .execute(tx)
        .await
        .context("could not take away a promoted visit")?;
    Ok(())
}

/// Takes away the provisional visit of a landing whose report has come, counted or not.
pub(in crate::visit) async fn replace_provisional(store: &Store, click_id: &ClickId) -> Result<()> {
    let known = sqlx::query(
        "select click_id from provisional_visits where click_id = $1
          union all
         select click_id from visits where click_id = $1 and sent_at_ms = $2",
    )
    .bind(click_id.as_str())
    .bind(UNSENT_MS)
    .fetch_optional(store.pool())
    .await
    .context("could not look for a provisional visit")?;
    if known.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    sqlx::query("delete from provisional_visits where click_id = $1")
        .bind(click_id.as_str())
        .execute(&mut *tx)
        .await
        .context("could not take away a provisional visit")?;
    // Its report has another browser's time, but counts in the same quarter hour, under words of its own. The counter may have been folded
    // away: one below zero takes it back there.
    sqlx::query(
        "insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
         select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                coalesce(landing_path, ''), device, -1
           from visits
          where click_id = $1 and sent_at_ms = $2 and (flags & $3) = 0
             on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
             do update set visits = visit_counts.visits - 1",
    )
    .bind(click_id.as_str())
    .bind(UNSENT_MS)
    .bind(flags::UNKNOWN_HOST)
    .execute(&mut *tx)
    .await
    .context("could not count a visit once")?;
    sqlx::query("delete from visits where click_id = $1 and sent_at_ms = $2")
        .bind(click_id.as_str())
        .bind(UNSENT_MS)
        .execute(&mut *tx)
        .await
        .context("could not take away a promoted visit")?;
    tx.commit().await
}

/// Forgets provisional visits whose click ID was minted before.
pub(in crate::visit) async fn delete_provisional(
    tx: &mut AnyConnection,
    until: Timestamp,
) -> Result<u64> {
    let gone = sqlx::query("delete from provisional_visits where click_id < $1")
        .bind(ids::first_click_id(until))
        .execute(tx)
        .await
        .context("could not forget provisional visits")?;
    Ok(gone.rows_affected())
}
