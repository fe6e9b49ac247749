//! SQL that reads stored visits in the order of their key, and writes their new names. Private to
//! this module.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::store::{Store, from_row, sql};
use crate::visit::renamed::{CounterKey, Names, Renamed, StoredLanding};

from_row!(StoredLanding |row| {
    click_id, sent_at_ms, site_id, at_ms, url, referrer, landing_path, device, flags, details,
    is_provisional: row.get::<i64>("is_provisional")? == 1,
    names: Names {
        channel: row.get("channel")?,
        source: row.get("source")?,
        medium: row.get("medium")?,
        campaign: row.get("campaign")?,
    },
});

pub(in crate::visit) async fn stored_landings(
    store: &Store,
    (click_id, sent_at_ms): (&str, i64),
    limit: i64,
) -> Result<Vec<StoredLanding>> {
    sql("select *
           from (select click_id, sent_at_ms, site_id, at_ms, url, referrer, channel, source, medium, campaign,
                        landing_path, device, flags, details, 0 as is_provisional
                   from visits
                  where (click_id, sent_at_ms) > (:click_id, :sent_at_ms) and flags & 65536 = 0
                  order by click_id, sent_at_ms
                  limit :limit) as reported
          union all
         select *
           from (select click_id, sent_at_ms, site_id, at_ms, url, referrer, channel, source, medium, campaign,
                        landing_path, device, flags, details, 1 as is_provisional
                   from provisional_visits
                  where (click_id, sent_at_ms) > (:click_id, :sent_at_ms)
                  order by click_id, sent_at_ms
                  limit :limit) as unreported
          order by click_id, sent_at_ms
          limit :limit")
    .set("click_id", click_id)
    .set("sent_at_ms", sent_at_ms)
    .set("limit", limit)
    .all(store.pool())
    .await
    .context("could not read stored visits")
}

const RENAME: &str = "update visits
    set channel = :channel, source = :source, medium = :medium, campaign = :campaign, details = :details
  where click_id = :click_id and sent_at_ms = :sent_at_ms and flags = :flags and channel = :old_channel
    and source is not distinct from :old_source and medium is not distinct from :old_medium
    and campaign is not distinct from :old_campaign";

const RENAME_PROVISIONAL: &str = "update provisional_visits
    set channel = :channel, source = :source, medium = :medium, campaign = :campaign, details = :details
  where click_id = :click_id and sent_at_ms = :sent_at_ms and flags = :flags and channel = :old_channel
    and source is not distinct from :old_source and medium is not distinct from :old_medium
    and campaign is not distinct from :old_campaign";

/// Writes the new names of a visit. Returns false if it is not as it was read.
pub(in crate::visit) async fn rename(tx: &mut AnyConnection, visit: &Renamed) -> Result<bool> {
    let Renamed { stored, names, details } = visit;
    let done = sql(if stored.is_provisional { RENAME_PROVISIONAL } else { RENAME })
        .set("channel", &names.channel)
        .set("source", &names.source)
        .set("medium", &names.medium)
        .set("campaign", &names.campaign)
        .set("details", details)
        .set("click_id", &stored.click_id)
        .set("sent_at_ms", stored.sent_at_ms)
        .set("flags", stored.flags)
        .set("old_channel", &stored.names.channel)
        .set("old_source", &stored.names.source)
        .set("old_medium", &stored.names.medium)
        .set("old_campaign", &stored.names.campaign)
        .execute(tx)
        .await
        .context("could not write the new names of a visit")?;
    Ok(done.rows_affected() == 1)
}

/// Adds to counters. A counter may become negative until it is rolled up, if its visits were rolled
/// up already.
pub(in crate::visit) async fn add_to_counters(
    tx: &mut AnyConnection,
    counters: &BTreeMap<CounterKey, i64>,
) -> Result<()> {
    for ((site_id, quarter, names), visits) in counters {
        let [channel, source, medium, campaign, landing_path, device] = names;
        sql("insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
             values (:site_id, :quarter, :channel, :source, :medium, :campaign, :landing_path, :device, :visits)
                 on conflict (site_id, quarter, channel, source, medium, campaign, landing_path, device)
                 do update set visits = visit_counts.visits + excluded.visits")
        .set("site_id", site_id)
        .set("quarter", quarter)
        .set("channel", channel)
        .set("source", source)
        .set("medium", medium)
        .set("campaign", campaign)
        .set("landing_path", landing_path)
        .set("device", device)
        .set("visits", visits)
        .execute(&mut *tx)
        .await
        .context("could not count visits by their new names")?;
    }
    Ok(())
}
