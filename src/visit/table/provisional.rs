//! SQL of `provisional_visits`: inserts them, turns them into visits, replaces and deletes them.
//! Private to this module.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::VISITS;
use crate::clock::Timestamp;
use crate::ids::{self, ClickId};
use crate::store::{NewRow, Store, sql};
use crate::visit::flags;
use crate::visit::request::UNSENT_MS;

/// Click IDs from `from` to `to`, both included, that have visits.
pub(in crate::visit) async fn reported_between(
    store: &Store,
    from: &str,
    to: &str,
) -> Result<HashSet<String>> {
    let found: Vec<_> =
        sql("select click_id from visits where click_id >= :from and click_id <= :to
              union all
             select alias from visits where alias >= :from and alias <= :to")
        .set("from", from)
        .set("to", to)
        .values(store.pool())
        .await
        .context("could not read which visits were reported")?;
    Ok(found.into_iter().collect())
}

/// Inserts a provisional visit. Its row is that of a visit without the alias.
pub(in crate::visit) async fn insert_provisional(
    tx: &mut AnyConnection,
    row: &NewRow,
) -> Result<()> {
    let mut statement = sql("insert into provisional_visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url,
                                         referrer, channel, source, medium, campaign, landing_host, landing_path, device,
                                         flags, visitor, details)
         values (:click_id, :sent_at_ms, :site_id, :at_ms, :received_at_ms, :previous_click_id, :url,
                 :referrer, :channel, :source, :medium, :campaign, :landing_host, :landing_path, :device,
                 :flags, :visitor, :details)
             on conflict do nothing");
    for ((name, kind), cell) in VISITS.columns.iter().zip(&row.cells) {
        statement = statement.set(name, cell.stored_as(*kind));
    }
    statement.execute(tx).await.context("could not store a provisional visit")?;
    Ok(())
}

/// Moves a provisional visit to `visits` and counts it, unless the tag's own report of that landing
/// has arrived.
pub(in crate::visit) async fn promote(tx: &mut AnyConnection, click_id: &str) -> Result<()> {
    // Locks the row, so that a concurrent `replace_provisional` waits and then sees the result.
    sql("update provisional_visits set flags = flags where click_id = :click_id")
        .set("click_id", click_id)
        .execute(&mut *tx)
        .await
        .context("could not lock a provisional visit")?;
    let moved = sql("insert into visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url, referrer, channel,
                             source, medium, campaign, landing_host, landing_path, device, flags, visitor, details)
         select click_id, sent_at_ms, site_id, at_ms, received_at_ms, previous_click_id, url, referrer, channel, source, medium,
                campaign, landing_host, landing_path, device, flags, visitor, details
           from provisional_visits p
          where click_id = :click_id
            and not exists (select 1 from visits v
                             where v.click_id = :click_id and v.previous_click_id is distinct from v.click_id)
             on conflict do nothing")
    .set("click_id", click_id)
    .execute(&mut *tx)
    .await
    .context("could not promote a provisional visit")?;
    if moved.rows_affected() == 1 {
        sql("insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
             select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                    coalesce(landing_path, ''), device, 1
               from provisional_visits
              where click_id = :click_id and (flags & :unknown_host) = 0
                 on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
                 do update set visits = visit_counts.visits + 1")
        .set("click_id", click_id)
        .set("unknown_host", flags::UNKNOWN_HOST)
        .execute(&mut *tx)
        .await
        .context("could not count a promoted visit")?;
    }
    sql("delete from provisional_visits where click_id = :click_id")
        .set("click_id", click_id)
        .execute(tx)
        .await
        .context("could not take away a promoted visit")?;
    Ok(())
}

/// Deletes the provisional visit of a landing whose report has arrived. If it was moved to
/// `visits`, it also corrects the count.
pub(in crate::visit) async fn replace_provisional(store: &Store, click_id: &ClickId) -> Result<()> {
    let known = sql("select click_id from provisional_visits where click_id = :click_id
          union all
         select click_id from visits where click_id = :click_id and sent_at_ms = :unsent_ms")
    .set("click_id", click_id.as_str())
    .set("unsent_ms", UNSENT_MS)
    .fetch_optional(store.pool())
    .await
    .context("could not read a provisional visit")?;
    if known.is_none() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    sql("delete from provisional_visits where click_id = :click_id")
        .set("click_id", click_id.as_str())
        .execute(&mut *tx)
        .await
        .context("could not delete a provisional visit")?;
    // Locks the row, so that its names do not change before it is deleted.
    sql("update visits set flags = flags where click_id = :click_id and sent_at_ms = :unsent_ms")
        .set("click_id", click_id.as_str())
        .set("unsent_ms", UNSENT_MS)
        .execute(&mut *tx)
        .await
        .context("could not lock a promoted visit")?;
    // The report is counted in the same quarter hour, possibly with other values. This takes the
    // provisional count back. If its counter was rolled up already, a new one of -1 corrects the
    // sums at the next rollup.
    sql("insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
         select site_id, at_ms / 900000, channel, coalesce(source, ''), coalesce(medium, ''), coalesce(campaign, ''),
                coalesce(landing_path, ''), device, -1
           from visits
          where click_id = :click_id and sent_at_ms = :unsent_ms and (flags & :unknown_host) = 0
             on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
             do update set visits = visit_counts.visits - 1")
    .set("click_id", click_id.as_str())
    .set("unsent_ms", UNSENT_MS)
    .set("unknown_host", flags::UNKNOWN_HOST)
    .execute(&mut *tx)
    .await
    .context("could not correct the count of a promoted visit")?;
    sql("delete from visits where click_id = :click_id and sent_at_ms = :unsent_ms")
        .set("click_id", click_id.as_str())
        .set("unsent_ms", UNSENT_MS)
        .execute(&mut *tx)
        .await
        .context("could not take away a promoted visit")?;
    tx.commit().await
}

/// Deletes provisional visits whose click ID was minted before `until`.
pub(in crate::visit) async fn delete_provisional(
    tx: &mut AnyConnection,
    until: Timestamp,
) -> Result<u64> {
    let gone = sql("delete from provisional_visits where click_id < :click_id")
        .set("click_id", ids::first_click_id(until))
        .execute(tx)
        .await
        .context("could not delete provisional visits")?;
    Ok(gone.rows_affected())
}
