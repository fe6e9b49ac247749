//! SQL of the table `registrations`. Private to this module.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::AnyConnection;

use super::{Claim, Visited};
use crate::clock::Timestamp;
use crate::ids;
use crate::settings::Destination;
use crate::store::{Store, insert_into, sql};
use crate::visit;

/// Visits from `from` to `to` that may be registered and are not yet, oldest first.
pub(super) async fn unregistered(
    store: &Store,
    destination: &Destination,
    from: Timestamp,
    to: Timestamp,
    limit: i64,
) -> Result<Vec<Visited>> {
    let rows = sql("select v.click_id, v.at_ms, v.url, v.referrer, v.details
           from visits v
          where v.click_id >= :first_click_id and v.click_id < :next_click_id and v.site_id = :site_id and (v.flags & :for_anytrack) <> 0 and v.received_at_ms <= :to
            and not exists (select 1 from visit_notes n where n.click_id = v.click_id)
            and not exists (select 1 from registrations r
                             where r.destination_id = :destination_id and r.click_id = v.click_id)
          order by v.click_id, v.at_ms
          limit :limit")
    .set("first_click_id", ids::first_click_id(from))
    .set("next_click_id", ids::first_click_id(to))
    .set("site_id", &destination.site_id)
    .set("for_anytrack", visit::flags::FOR_ANYTRACK)
    .set("to", to)
    .set("destination_id", &destination.id)
    .set("limit", limit)
    .fetch_all(store.pool())
    .await
    .context("could not read visits to register")?;
    let (mut visits, mut seen) = (Vec::new(), BTreeSet::new());
    for row in &rows {
        let details: String = row.get("details")?;
        let details: Value = serde_json::from_str(&details).context("a visit's details")?;
        let user_agent = details["user_agent"].as_str().unwrap_or_default();
        let click_id: String = row.get("click_id")?;
        if seen.insert(click_id.clone()) {
            visits.push(Visited {
                click_id,
                at: row.get("at_ms")?,
                url: row.get("url")?,
                referrer: row.get("referrer")?,
                user_agent: user_agent.to_owned(),
            });
        }
    }
    Ok(visits)
}

pub(super) async fn enqueue(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
    visit: &Visited,
    url: &str,
) -> Result<()> {
    insert_into("registrations")
        .set("destination_id", destination_id)
        .set("click_id", &visit.click_id)
        .set("url", url)
        .set("user_agent", &visit.user_agent)
        .set("state", "pending")
        .set("attempts", 0)
        .set("due_at_ms", now)
        .set("created_at_ms", now)
        .or_ignore()
        .execute(tx)
        .await
        .context("could not write a registration")?;
    Ok(())
}

pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
    destination_id: &str,
    limit: i64,
) -> Result<Vec<Claim>> {
    let due: i64 = sql("select count(*) from (select 1 as one from registrations
                                where destination_id = :destination_id and state = 'pending' and due_at_ms <= :now limit 1) as due")
    .set("destination_id", destination_id)
    .set("now", now)
    .value(store.pool())
    .await
    .context("could not check whether registrations are due")?;
    if due == 0 {
        return Ok(Vec::new());
    }
    let mut tx = store.begin().await?;
    let rows = sql("update registrations set claimed_until_ms = :claimed_until_ms, attempts = attempts + 1
          where destination_id = :destination_id and state = 'pending' and coalesce(claimed_until_ms, 0) <= :now
            and click_id in (select click_id from registrations
                              where destination_id = :destination_id and state = 'pending' and due_at_ms <= :now
                                and coalesce(claimed_until_ms, 0) <= :now
                              order by due_at_ms limit :limit)
         returning click_id, url, user_agent, attempts, created_at_ms")
    .set("claimed_until_ms", now.plus(lease))
    .set("destination_id", destination_id)
    .set("now", now)
    .set("limit", limit)
    .fetch_all(&mut *tx)
    .await
    .context("could not claim registrations")?;
    tx.commit().await?;
    rows.iter()
        .map(|row| {
            Ok(Claim {
                click_id: row.get("click_id")?,
                url: row.get("url")?,
                user_agent: row.get("user_agent")?,
                n: row.get("attempts")?,
                created_at: row.get("created_at_ms")?,
            })
        })
        .collect()
}

/// Deletes the registrations of click IDs from `from` to `to`, both included, that no longer have a
/// visit.
pub(super) async fn forget(tx: &mut AnyConnection, from: &str, to: &str) -> Result<()> {
    sql("delete from registrations
          where click_id >= :from and click_id <= :to
            and not exists (select 1 from visits v where v.click_id = registrations.click_id)")
    .set("from", from)
    .set("to", to)
    .execute(tx)
    .await
    .context("could not delete registrations")?;
    Ok(())
}

/// How an attempt ended.
pub(super) struct AttemptOutcome {
    pub(super) state: &'static str,
    pub(super) due: Timestamp,
    pub(super) status: Option<i64>,
    pub(super) error: Option<String>,
}

pub(super) async fn record_outcome(
    store: &Store,
    now: Timestamp,
    destination_id: &str,
    claim: &Claim,
    outcome: &AttemptOutcome,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update registrations
            set state = :state, due_at_ms = :due, claimed_until_ms = null, last_status = :status, last_error = :error, settled_at_ms = :settled_at_ms,
                url = case when :state = 'pending' then url else '' end,
                user_agent = case when :state = 'pending' then user_agent else '' end
          where destination_id = :destination_id and click_id = :click_id and (attempts = :n or :state = 'accepted')")
    .set("state", outcome.state)
    .set("due", outcome.due)
    .set("status", outcome.status)
    .set("error", &outcome.error)
    .set("settled_at_ms", (outcome.state != "pending").then_some(now.as_ms()))
    .set("destination_id", destination_id)
    .set("click_id", &claim.click_id)
    .set("n", claim.n)
    .execute(&mut *tx)
    .await
    .context("could not store the outcome of a registration")?;
    tx.commit().await
}

pub(super) async fn is_accepted(
    tx: &mut AnyConnection,
    destination_id: &str,
    click_id: &str,
) -> Result<bool> {
    let row = sql("select 1 as one from registrations where destination_id = :destination_id and click_id = :click_id and state = 'accepted'")
    .set("destination_id", destination_id)
    .set("click_id", click_id)
    .fetch_optional(tx)
    .await
    .context("could not check whether a visit was registered")?;
    Ok(row.is_some())
}
