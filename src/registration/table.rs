//! SQL of the table `registrations`. Private to this module.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::{AnyConnection, Row as _};

use super::{Claim, Visited};
use crate::clock::Timestamp;
use crate::ids;
use crate::settings::Destination;
use crate::store::Store;
use crate::visit;

/// Visits from `from` to `to` that may be registered and are not yet, oldest first.
pub(super) async fn unregistered(
    store: &Store,
    destination: &Destination,
    from: Timestamp,
    to: Timestamp,
    limit: i64,
) -> Result<Vec<Visited>> {
    let rows = sqlx::query(
        "select v.click_id, v.at_ms, v.url, v.referrer, v.details
           from visits v
          where v.click_id >= $1 and v.click_id < $2 and v.site_id = $3 and (v.flags & $4) <> 0 and v.received_at_ms <= $5
            and not exists (select 1 from visit_notes n where n.click_id = v.click_id)
            and not exists (select 1 from registrations r
                             where r.destination_id = $6 and r.click_id = v.click_id)
          order by v.click_id, v.at_ms
          limit $7",
    )
    .bind(ids::first_click_id(from))
    .bind(ids::first_click_id(to))
    .bind(&destination.site_id)
    .bind(visit::flags::FOR_ANYTRACK)
    .bind(to.as_ms())
    .bind(&destination.id)
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not read visits to register")?;
    let (mut visits, mut seen) = (Vec::new(), BTreeSet::new());
    for row in &rows {
        let details: String = row.try_get("details")?;
        let details: Value = serde_json::from_str(&details).context("a visit's details")?;
        let user_agent = details["user_agent"].as_str().unwrap_or_default();
        let click_id: String = row.try_get("click_id")?;
        if seen.insert(click_id.clone()) {
            visits.push(Visited {
                click_id,
                at: Timestamp::from_ms(row.try_get("at_ms")?),
                url: row.try_get("url")?,
                referrer: row.try_get("referrer")?,
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
    sqlx::query(
        "insert into registrations (destination_id, click_id, url, user_agent, state, attempts, due_at_ms, created_at_ms)
         values ($1, $2, $3, $4, 'pending', 0, $5, $5)
             on conflict do nothing",
    )
    .bind(destination_id)
    .bind(&visit.click_id)
    .bind(url)
    .bind(&visit.user_agent)
    .bind(now.as_ms())
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
    let (due,): (i64,) = sqlx::query_as(
        "select count(*) from (select 1 as one from registrations
                                where destination_id = $1 and state = 'pending' and due_at_ms <= $2 limit 1) as due",
    )
    .bind(destination_id)
    .bind(now.as_ms())
    .fetch_one(store.pool())
    .await
    .context("could not check whether registrations are due")?;
    if due == 0 {
        return Ok(Vec::new());
    }
    let mut tx = store.begin().await?;
    let rows = sqlx::query(
        "update registrations set claimed_until_ms = $1, attempts = attempts + 1
          where destination_id = $2 and state = 'pending' and coalesce(claimed_until_ms, 0) <= $3
            and click_id in (select click_id from registrations
                              where destination_id = $2 and state = 'pending' and due_at_ms <= $3
                                and coalesce(claimed_until_ms, 0) <= $3
                              order by due_at_ms limit $4)
         returning click_id, url, user_agent, attempts, created_at_ms",
    )
    .bind(now.plus(lease).as_ms())
    .bind(destination_id)
    .bind(now.as_ms())
    .bind(limit)
    .fetch_all(&mut *tx)
    .await
    .context("could not claim registrations")?;
    tx.commit().await?;
    rows.iter()
        .map(|row| {
            Ok(Claim {
                click_id: row.try_get("click_id")?,
                url: row.try_get("url")?,
                user_agent: row.try_get("user_agent")?,
                n: row.try_get("attempts")?,
                created_at: Timestamp::from_ms(row.try_get("created_at_ms")?),
            })
        })
        .collect()
}

/// Deletes the registrations of click IDs from `from` to `to`, both included, that no longer have a
/// visit.
pub(super) async fn forget(tx: &mut AnyConnection, from: &str, to: &str) -> Result<()> {
    sqlx::query(
        "delete from registrations
          where click_id >= $1 and click_id <= $2
            and not exists (select 1 from visits v where v.click_id = registrations.click_id)",
    )
    .bind(from)
    .bind(to)
    .execute(tx)
    .await
    .context("could not delete registrations")?;
    Ok(())
}

/// How an attempt ended.
pub(super) struct Outcome {
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
    outcome: &Outcome,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "update registrations
            set state = $1, due_at_ms = $2, claimed_until_ms = null, last_status = $3, last_error = $4, settled_at_ms = $5,
                url = case when $1 = 'pending' then url else '' end,
                user_agent = case when $1 = 'pending' then user_agent else '' end
          where destination_id = $6 and click_id = $7 and (attempts = $8 or $1 = 'accepted')",
    )
    .bind(outcome.state)
    .bind(outcome.due.as_ms())
    .bind(outcome.status)
    .bind(outcome.error.as_deref())
    .bind((outcome.state != "pending").then_some(now.as_ms()))
    .bind(destination_id)
    .bind(&claim.click_id)
    .bind(claim.n)
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
    let row = sqlx::query(
        "select 1 as one from registrations where destination_id = $1 and click_id = $2 and state = 'accepted'",
    )
    .bind(destination_id)
    .bind(click_id)
    .fetch_optional(tx)
    .await
    .context("could not check whether a visit was registered")?;
    Ok(row.is_some())
}
