//! SQL of the copies that the ledger has of a visit's names: touchpoints and abandoned checkouts.
//! Private to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::ids::ClickId;
use crate::store::sql;
use crate::visit::Visit;

/// Click IDs in one statement.
const AT_A_TIME: usize = 50;

/// Those of these click IDs that a customer journey or an abandoned checkout has.
pub(in crate::conversion) async fn named_click_ids(
    tx: &mut AnyConnection,
    click_ids: &[&str],
) -> Result<Vec<ClickId>> {
    let mut named = Vec::new();
    for some in click_ids.chunks(AT_A_TIME) {
        let found: Vec<String> = sql("select click_id from touches where click_id in (:click_ids)
              union
             select click_id from abandoned where click_id in (:click_ids)")
        .set_list("click_ids", some, AT_A_TIME)
        .values(&mut *tx)
        .await
        .context("could not look for the journeys of visits")?;
        named.extend(found.iter().filter_map(|text| ClickId::parse(text)));
    }
    named.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    named.dedup();
    Ok(named)
}

/// Copies the names of a visit.
pub(in crate::conversion) async fn rename_copies(
    tx: &mut AnyConnection,
    visit: &Visit,
) -> Result<()> {
    for statement in [
        "update touches set channel = :channel, source = :source, medium = :medium, campaign = :campaign
          where click_id = :click_id",
        "update abandoned set channel = :channel, source = :source, medium = :medium, campaign = :campaign
          where click_id = :click_id",
    ] {
        sql(statement)
            .set("channel", &visit.channel)
            .set("source", &visit.source)
            .set("medium", &visit.medium)
            .set("campaign", &visit.campaign)
            .set("click_id", visit.click_id.as_str())
            .execute(&mut *tx)
            .await
            .context("could not copy the names of a visit")?;
    }
    Ok(())
}

/// The conversions whose last touchpoint has this click ID: site, live or test, and when they
/// occurred.
pub(in crate::conversion) async fn paid_after(
    tx: &mut AnyConnection,
    click_id: &ClickId,
) -> Result<Vec<(String, bool, i64)>> {
    sql("select c.site_id, c.livemode, c.occurred_at_ms
           from touches t
           join conversions c on c.id = t.conversion_id
          where t.click_id = :click_id and t.is_last = 1 and c.paid_at_ms is not null")
    .set("click_id", click_id.as_str())
    .all(tx)
    .await
    .context("could not read the conversions of a visit")
}
