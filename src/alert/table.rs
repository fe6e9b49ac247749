//! SQL of `alert_targets`, `alert_settings`, `incidents` and `alert_messages`. Private to this room.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::{Choices, Target, TargetKind};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::store::Store;

/// Incidents that are over and still shown.
const SHOWN_INCIDENTS: i64 = 30;

pub(super) async fn targets(store: &Store) -> Result<Vec<Target>> {
    let rows = sqlx::query(
        "select id, kind, name, address, secret, enabled from alert_targets order by created_at_ms, id",
    )
    .fetch_all(store.pool())
    .await
    .context("could not read who is told of alerts")?;
    rows.iter()
        .map(|row| {
            let kind: String = row.try_get("kind")?;
            Ok(Target {
                id: row.try_get("id")?,
                kind: TargetKind::parse(&kind).context("a target of an unknown kind")?,
                name: row.try_get("name")?,
                address: Secret::new(row.try_get::<String, _>("address")?),
                secret: Secret::new(row.try_get::<String, _>("secret")?),
                enabled: row.try_get::<i64, _>("enabled")? == 1,
            })
        })
        .collect()
}

pub(super) async fn count_targets(tx: &mut AnyConnection) -> Result<usize> {
    let row = sqlx::query("select count(*) from alert_targets").fetch_one(tx).await?;
    Ok(usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX))
}

pub(super) async fn insert_target(
    tx: &mut AnyConnection,
    now: Timestamp,
    target: &Target,
) -> Result<()> {
    sqlx::query(
        "insert into alert_targets (id, kind, name, address, secret, enabled, created_at_ms)
         values ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&target.id)
    .bind(target.kind.word())
    .bind(&target.name)
    .bind(target.address.expose())
    .bind(target.secret.expose())
    .bind(i64::from(target.enabled))
    .bind(now.as_ms())
    .execute(tx)
    .await
    .context("could not add a target of alerts")?;
    Ok(())
}

pub(super) async fn set_enabled(tx: &mut AnyConnection, id: &str, enabled: bool) -> Result<()> {
    sqlx::query("update alert_targets set enabled = $1 where id = $2")
        .bind(i64::from(enabled))
        .bind(id)
        .execute(tx)
        .await
        .context("could not turn a target of alerts on or off")?;
    Ok(())
}

pub(super) async fn delete_target(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for text in [
        "delete from alert_messages where target_id = $1",
        "delete from alert_targets where id = $1",
    ] {
        sqlx::query(text)
            .bind(id)
            .execute(&mut *tx)
            .await
            .context("could not delete a target of alerts")?;
    }
    Ok(())
}

pub(super) async fn choices(store: &Store) -> Result<Choices> {
    let rows = sqlx::query("select name, value from alert_settings")
        .fetch_all(store.pool())
        .await
        .context("could not read the settings of alerts")?;
    let mut choices = Choices::default();
    for row in &rows {
        let (name, value): (String, String) = (row.try_get("name")?, row.try_get("value")?);
        match name.as_str() {
            "rules" => {
                choices.rules = serde_json::from_str(&value).context("the rules of alerts")?
            }
            "mail" => choices.mail = serde_json::from_str(&value).context("the mail server")?,
            _ => choices.base = serde_json::from_str(&value).context("the dashboard's address")?,
        }
    }
    Ok(choices)
}

pub(super) async fn set(tx: &mut AnyConnection, name: &str, value: &str) -> Result<()> {
    sqlx::query(
        "insert into alert_settings (name, value) values ($1, $2)
             on conflict (name) do update set value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(tx)
    .await
    .context("could not save a setting of alerts")?;
    Ok(())
}

/// A trouble that is not over, or was told of.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) headline: String,
    pub(crate) raised_at: Timestamp,
    pub(crate) told_at: Timestamp,
    pub(crate) newest_at: Timestamp,
    pub(crate) gone_at: Option<Timestamp>,
    pub(crate) resolved_at: Option<Timestamp>,
}

const COLUMNS: &str = "select id, subject, headline, raised_at_ms, told_at_ms, newest_at_ms, gone_at_ms, resolved_at_ms from incidents";

fn incident(row: &sqlx::any::AnyRow) -> Result<Incident> {
    let at = |column: &str| -> Result<Option<Timestamp>> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_ms))
    };
    Ok(Incident {
        id: row.try_get("id")?,
        subject: row.try_get("subject")?,
        headline: row.try_get("headline")?,
        raised_at: at("raised_at_ms")?.unwrap_or_default(),
        told_at: at("told_at_ms")?.unwrap_or_default(),
        newest_at: at("newest_at_ms")?.unwrap_or_default(),
        gone_at: at("gone_at_ms")?,
        resolved_at: at("resolved_at_ms")?,
    })
}

pub(super) async fn open_incidents(store: &Store) -> Result<Vec<Incident>> {
    let text = sqlx::AssertSqlSafe(format!("{COLUMNS} where resolved_at_ms is null order by id"));
    let rows = sqlx::query(text)
        .fetch_all(store.pool())
        .await
        .context("could not read what is going wrong")?;
    rows.iter().map(incident).collect()
}

pub(super) async fn incidents(store: &Store) -> Result<Vec<Incident>> {
    let text = sqlx::AssertSqlSafe(format!(
        "{COLUMNS} order by case when resolved_at_ms is null then 0 else 1 end, id desc limit $1"
    ));
    let rows = sqlx::query(text)
        .bind(SHOWN_INCIDENTS)
        .fetch_all(store.pool())
        .await
        .context("could not read what went wrong")?;
    rows.iter().map(incident).collect()
}

/// Opens an incident; false when another copy of the program was faster.
pub(super) async fn raise(tx: &mut AnyConnection, incident: &Incident, what: &str) -> Result<bool> {
    let inserted = sqlx::query(
        "insert into incidents (id, subject, what, headline, raised_at_ms, told_at_ms, newest_at_ms)
         values ($1, $2, $3, $4, $5, $5, $6)
             on conflict do nothing",
    )
    .bind(&incident.id)
    .bind(&incident.subject)
    .bind(what)
    .bind(&incident.headline)
    .bind(incident.raised_at.as_ms())
    .bind(incident.newest_at.as_ms())
    .execute(tx)
    .await
    .context("could not note what goes wrong")?;
    Ok(inserted.rows_affected() == 1)
}

/// Notes that it is told again; false when another copy of the program was faster.
pub(super) async fn remind(
    tx: &mut AnyConnection,
    now: Timestamp,
    incident: &Incident,
    headline: &str,
    newest_at: Timestamp,
) -> Result<bool> {
    let done = sqlx::query(
        "update incidents set told_at_ms = $1, newest_at_ms = $2, headline = $3, gone_at_ms = null
          where id = $4 and told_at_ms = $5 and resolved_at_ms is null",
    )
    .bind(now.as_ms())
    .bind(newest_at.as_ms())
    .bind(headline)
    .bind(&incident.id)
    .bind(incident.told_at.as_ms())
    .execute(tx)
    .await
    .context("could not note that something still goes wrong")?;
    Ok(done.rows_affected() == 1)
}

/// Notes since when it is not seen any more, or that it is seen again.
pub(super) async fn set_gone(
    tx: &mut AnyConnection,
    id: &str,
    gone_at: Option<Timestamp>,
) -> Result<()> {
    sqlx::query("update incidents set gone_at_ms = $1 where id = $2 and resolved_at_ms is null")
        .bind(gone_at.map(Timestamp::as_ms))
        .bind(id)
        .execute(tx)
        .await
        .context("could not note whether something still goes wrong")?;
    Ok(())
}

/// It is over; false when another copy of the program was faster.
pub(super) async fn resolve(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let done = sqlx::query(
        "update incidents set resolved_at_ms = $1 where id = $2 and resolved_at_ms is null",
    )
    .bind(now.as_ms())
    .bind(id)
    .execute(tx)
    .await
    .context("could not note that something is over")?;
    Ok(done.rows_affected() == 1)
}

/// Takes back what nobody has tried to send about an incident, and answers which targets may have heard of it.
pub(super) async fn take_back(tx: &mut AnyConnection, incident_id: &str) -> Result<Vec<String>> {
    sqlx::query(
        "delete from alert_messages where incident_id = $1 and state = 'pending' and attempts = 0",
    )
    .bind(incident_id)
    .execute(&mut *tx)
    .await
    .context("could not take back what is over")?;
    let rows = sqlx::query("select distinct target_id from alert_messages where incident_id = $1")
        .bind(incident_id)
        .fetch_all(tx)
        .await
        .context("could not see who heard of it")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// What is to be sent to a target.
pub(super) struct NewMessage<'a> {
    pub(super) target_id: &'a str,
    pub(super) incident_id: &'a str,
    pub(super) id: &'a str,
    pub(super) phase: &'static str,
    pub(super) headline: &'a str,
    pub(super) body: &'a str,
}

pub(super) async fn owe(
    tx: &mut AnyConnection,
    now: Timestamp,
    message: &NewMessage<'_>,
) -> Result<()> {
    sqlx::query(
        "insert into alert_messages (id, target_id, incident_id, phase, headline, body, state, attempts, due_at_ms, created_at_ms)
         values ($1, $2, $3, $4, $5, $6, 'pending', 0, $7, $7)",
    )
    .bind(message.id)
    .bind(message.target_id)
    .bind(message.incident_id)
    .bind(message.phase)
    .bind(message.headline)
    .bind(message.body)
    .bind(now.as_ms())
    .execute(tx)
    .await
    .context("could not write an alert")?;
    Ok(())
}

/// A claimed message.
pub(super) struct Claim {
    pub(super) id: String,
    pub(super) headline: String,
    pub(super) body: String,
    pub(super) created_at: Timestamp,
    /// Number of this attempt, from 1.
    pub(super) n: i64,
}

/// Claims the oldest message due for a target, unless it was sent `per_hour` in the last hour.
pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
    target_id: &str,
    per_hour: u32,
) -> Result<Option<Claim>> {
    let due = sqlx::query(
        "select id from alert_messages
          where target_id = $1 and state = 'pending' and due_at_ms <= $2 and coalesce(claimed_until_ms, 0) <= $2
            and (select count(*) from alert_messages s
                  where s.target_id = $1 and s.settled_at_ms > $3 and s.state = 'sent') < $4
          order by due_at_ms, id
          limit 1",
    )
    .bind(target_id)
    .bind(now.as_ms())
    .bind(now.minus(Duration::from_secs(3600)).as_ms())
    .bind(i64::from(per_hour))
    .fetch_optional(store.pool())
    .await
    .context("could not see which alerts are due")?;
    let Some(due) = due else { return Ok(None) };
    let mut tx = store.begin().await?;
    let row = sqlx::query(
        "update alert_messages set claimed_until_ms = $1, attempts = attempts + 1
          where id = $2 and state = 'pending' and coalesce(claimed_until_ms, 0) <= $3
         returning id, headline, body, created_at_ms, attempts",
    )
    .bind(now.plus(lease).as_ms())
    .bind(due.try_get::<String, _>(0)?)
    .bind(now.as_ms())
    .fetch_optional(&mut *tx)
    .await
    .context("could not claim an alert")?;
    let Some(row) = row else { return Ok(None) };
    let claim = Claim {
        id: row.try_get("id")?,
        headline: row.try_get("headline")?,
        body: row.try_get("body")?,
        created_at: Timestamp::from_ms(row.try_get("created_at_ms")?),
        n: row.try_get("attempts")?,
    };
    tx.commit().await?;
    Ok(Some(claim))
}

/// How a try ended: `due` is set where there will be another one.
pub(super) async fn settle(
    store: &Store,
    now: Timestamp,
    claim: &Claim,
    state: &str,
    due: Timestamp,
    said: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "update alert_messages
            set state = $1, due_at_ms = $2, claimed_until_ms = null, said = $3, settled_at_ms = $4
          where id = $5 and (attempts = $6 or $1 = 'sent')",
    )
    .bind(state)
    .bind(due.as_ms())
    .bind(said)
    .bind((state != "pending").then_some(now.as_ms()))
    .bind(&claim.id)
    .bind(claim.n)
    .execute(&mut *tx)
    .await
    .context("could not settle an alert")?;
    tx.commit().await
}

/// Forgets what was over before then.
pub(super) async fn forget(tx: &mut AnyConnection, before: Timestamp) -> Result<()> {
    for text in [
        "delete from alert_messages
          where incident_id in (select id from incidents where resolved_at_ms < $1) and state <> 'pending'",
        "delete from incidents
          where resolved_at_ms < $1
            and not exists (select 1 from alert_messages m where m.incident_id = incidents.id)",
    ] {
        sqlx::query(text)
            .bind(before.as_ms())
            .execute(&mut *tx)
            .await
            .context("could not forget old alerts")?;
    }
    Ok(())
}

/// What a target was told last, and what it is owed.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) target_id: String,
    pub(crate) state: String,
    /// The newest message of this state.
    pub(crate) headline: String,
    pub(crate) said: Option<String>,
    pub(crate) at: Timestamp,
    pub(crate) messages: i64,
}

pub(super) async fn told(store: &Store) -> Result<Vec<Told>> {
    let rows = sqlx::query(
        "select m.target_id, m.state, m.headline, m.said, coalesce(m.settled_at_ms, m.created_at_ms) as at_ms, n.messages
           from (select target_id, state, max(id) as newest, count(*) as messages
                   from alert_messages group by target_id, state) as n
           join alert_messages m on m.id = n.newest
          order by m.target_id, m.state",
    )
    .fetch_all(store.pool())
    .await
    .context("could not read what was told")?;
    rows.iter()
        .map(|row| {
            Ok(Told {
                target_id: row.try_get("target_id")?,
                state: row.try_get("state")?,
                headline: row.try_get("headline")?,
                said: row.try_get("said")?,
                at: Timestamp::from_ms(row.try_get("at_ms")?),
                messages: row.try_get("messages")?,
            })
        })
        .collect()
}

/// The ID of a new message.
pub(super) fn new_message_id(now: Timestamp) -> String {
    ids::new_record_id("alm_", now)
}
