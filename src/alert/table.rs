//! SQL of `alert_targets`, `alert_settings`, `incidents` and `alert_messages`. Private to this module.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{Choices, Target, TargetKind};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::ids;
use crate::store::{Row, Store, sql};

/// Maximum number of incidents that are shown.
const SHOWN_INCIDENTS: i64 = 30;

pub(super) async fn targets(store: &Store) -> Result<Vec<Target>> {
    let rows = sql("select id, kind, name, address, secret, enabled from alert_targets order by created_at_ms, id")
    .fetch_all(store.pool())
    .await
    .context("could not read the recipients of alerts")?;
    rows.iter()
        .map(|row| {
            let kind: String = row.get("kind")?;
            Ok(Target {
                id: row.get("id")?,
                kind: TargetKind::parse(&kind).context("a recipient of an unknown kind")?,
                name: row.get("name")?,
                address: Secret::new(row.get::<String>("address")?),
                secret: Secret::new(row.get::<String>("secret")?),
                enabled: row.get::<bool>("enabled")?,
            })
        })
        .collect()
}

pub(super) async fn count_targets(tx: &mut AnyConnection) -> Result<usize> {
    let row = sql("select count(*) from alert_targets").fetch_one(tx).await?;
    Ok(usize::try_from(row.get::<i64>(0)?).unwrap_or(usize::MAX))
}

pub(super) async fn insert_target(
    tx: &mut AnyConnection,
    now: Timestamp,
    target: &Target,
) -> Result<()> {
    sql("insert into alert_targets (id, kind, name, address, secret, enabled, created_at_ms)
         values (:id, :kind, :name, :address, :secret, :enabled, :created_at_ms)")
    .set("id", &target.id)
    .set("kind", target.kind.word())
    .set("name", &target.name)
    .set("address", target.address.expose())
    .set("secret", target.secret.expose())
    .set("enabled", target.enabled)
    .set("created_at_ms", now)
    .execute(tx)
    .await
    .context("could not add a recipient of alerts")?;
    Ok(())
}

pub(super) async fn set_enabled(tx: &mut AnyConnection, id: &str, enabled: bool) -> Result<()> {
    sql("update alert_targets set enabled = :enabled where id = :id")
        .set("enabled", enabled)
        .set("id", id)
        .execute(tx)
        .await
        .context("could not turn a recipient of alerts on or off")?;
    Ok(())
}

pub(super) async fn delete_target(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for text in [
        "delete from alert_messages where target_id = :id",
        "delete from alert_targets where id = :id",
    ] {
        sql(text)
            .set("id", id)
            .execute(&mut *tx)
            .await
            .context("could not delete a recipient of alerts")?;
    }
    Ok(())
}

pub(super) async fn choices(store: &Store) -> Result<Choices> {
    let rows = sql("select name, value from alert_settings")
        .fetch_all(store.pool())
        .await
        .context("could not read the settings of alerts")?;
    let mut choices = Choices::default();
    for row in &rows {
        let (name, value): (String, String) = (row.get("name")?, row.get("value")?);
        match name.as_str() {
            "rules" => {
                choices.rules = serde_json::from_str(&value).context("the rules of alerts")?
            }
            "mail" => choices.mail = serde_json::from_str(&value).context("the mail server")?,
            _ => choices.base = serde_json::from_str(&value).context("the dashboard's URL")?,
        }
    }
    Ok(choices)
}

pub(super) async fn set(tx: &mut AnyConnection, name: &str, value: &str) -> Result<()> {
    sql("insert into alert_settings (name, value) values (:name, :value)
             on conflict (name) do update set value = excluded.value")
    .set("name", name)
    .set("value", value)
    .execute(tx)
    .await
    .context("could not save a setting of alerts")?;
    Ok(())
}

/// An incident, open or resolved.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) id: String,
    pub(crate) subject: String,
    pub(crate) headline: String,
    pub(crate) raised_at: Timestamp,
    pub(crate) sent_at: Timestamp,
    pub(crate) newest_at: Timestamp,
    pub(crate) gone_at: Option<Timestamp>,
    pub(crate) resolved_at: Option<Timestamp>,
}

const COLUMNS: &str = "select id, subject, headline, raised_at_ms, told_at_ms, newest_at_ms, gone_at_ms, resolved_at_ms from incidents";

fn incident(row: &Row) -> Result<Incident> {
    let at = |column: &str| -> Result<Option<Timestamp>> { Ok(row.get(column)?) };
    Ok(Incident {
        id: row.get("id")?,
        subject: row.get("subject")?,
        headline: row.get("headline")?,
        raised_at: at("raised_at_ms")?.unwrap_or_default(),
        sent_at: at("told_at_ms")?.unwrap_or_default(),
        newest_at: at("newest_at_ms")?.unwrap_or_default(),
        gone_at: at("gone_at_ms")?,
        resolved_at: at("resolved_at_ms")?,
    })
}

pub(super) async fn open_incidents(store: &Store) -> Result<Vec<Incident>> {
    let rows = sql(COLUMNS)
        .then("where resolved_at_ms is null order by id")
        .fetch_all(store.pool())
        .await
        .context("could not read open incidents")?;
    rows.iter().map(incident).collect()
}

pub(super) async fn incidents(store: &Store) -> Result<Vec<Incident>> {
    let rows = sql(COLUMNS)
        .then("order by case when resolved_at_ms is null then 0 else 1 end, id desc limit :limit")
        .set("limit", SHOWN_INCIDENTS)
        .fetch_all(store.pool())
        .await
        .context("could not read incidents")?;
    rows.iter().map(incident).collect()
}

/// Opens an incident; `false` if another process did so first.
pub(super) async fn raise(tx: &mut AnyConnection, incident: &Incident, what: &str) -> Result<bool> {
    let inserted = sql("insert into incidents (id, subject, what, headline, raised_at_ms, told_at_ms, newest_at_ms)
         values (:id, :subject, :what, :headline, :raised_at_ms, :raised_at_ms, :newest_at_ms)
             on conflict do nothing")
    .set("id", &incident.id)
    .set("subject", &incident.subject)
    .set("what", what)
    .set("headline", &incident.headline)
    .set("raised_at_ms", incident.raised_at)
    .set("newest_at_ms", incident.newest_at)
    .execute(tx)
    .await
    .context("could not open an incident")?;
    Ok(inserted.rows_affected() == 1)
}

/// Records a reminder; `false` if another process did so first.
pub(super) async fn remind(
    tx: &mut AnyConnection,
    now: Timestamp,
    incident: &Incident,
    headline: &str,
    newest_at: Timestamp,
) -> Result<bool> {
    let done = sql("update incidents set told_at_ms = :now, newest_at_ms = :newest_at, headline = :headline, gone_at_ms = null
          where id = :id and told_at_ms = :sent_at and resolved_at_ms is null")
    .set("now", now)
    .set("newest_at", newest_at)
    .set("headline", headline)
    .set("id", &incident.id)
    .set("sent_at", incident.sent_at)
    .execute(tx)
    .await
    .context("could not record the reminder of an incident")?;
    Ok(done.rows_affected() == 1)
}

/// Records since when the problem is gone, or that it is seen again.
pub(super) async fn set_gone(
    tx: &mut AnyConnection,
    id: &str,
    gone_at: Option<Timestamp>,
) -> Result<()> {
    sql("update incidents set gone_at_ms = :gone_at where id = :id and resolved_at_ms is null")
        .set("gone_at", gone_at)
        .set("id", id)
        .execute(tx)
        .await
        .context("could not record whether an incident still exists")?;
    Ok(())
}

/// Resolves an incident; `false` if another process did so first.
pub(super) async fn resolve(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let done =
        sql("update incidents set resolved_at_ms = :now where id = :id and resolved_at_ms is null")
            .set("now", now)
            .set("id", id)
            .execute(tx)
            .await
            .context("could not resolve an incident")?;
    Ok(done.rows_affected() == 1)
}

/// Deletes an incident's messages that were never attempted. Returns the recipients that may have received others.
pub(super) async fn take_back(tx: &mut AnyConnection, incident_id: &str) -> Result<Vec<String>> {
    sql("delete from alert_messages where incident_id = :incident_id and state = 'pending' and attempts = 0")
    .set("incident_id", incident_id)
    .execute(&mut *tx)
    .await
    .context("could not delete the messages of a resolved incident")?;
    let found: Vec<_> =
        sql("select distinct target_id from alert_messages where incident_id = :incident_id")
            .set("incident_id", incident_id)
            .values(tx)
            .await
            .context("could not read the recipients of an incident")?;
    Ok(found.into_iter().collect())
}

/// A message for a recipient.
pub(super) struct NewMessage<'a> {
    pub(super) target_id: &'a str,
    pub(super) incident_id: &'a str,
    pub(super) id: &'a str,
    pub(super) phase: &'static str,
    pub(super) headline: &'a str,
    pub(super) body: &'a str,
}

pub(super) async fn enqueue(
    tx: &mut AnyConnection,
    now: Timestamp,
    message: &NewMessage<'_>,
) -> Result<()> {
    sql("insert into alert_messages (id, target_id, incident_id, phase, headline, body, state, attempts, due_at_ms, created_at_ms)
         values (:id, :target_id, :incident_id, :phase, :headline, :body, 'pending', 0, :due_at_ms, :due_at_ms)")
    .set("id", message.id)
    .set("target_id", message.target_id)
    .set("incident_id", message.incident_id)
    .set("phase", message.phase)
    .set("headline", message.headline)
    .set("body", message.body)
    .set("due_at_ms", now)
    .execute(tx)
    .await
    .context("could not store an alert")?;
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

/// Claims the oldest due message of a recipient, unless it already received `per_hour` in the last hour.
pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
    target_id: &str,
    per_hour: u32,
) -> Result<Option<Claim>> {
    let due = sql("select id from alert_messages
          where target_id = :target_id and state = 'pending' and due_at_ms <= :now and coalesce(claimed_until_ms, 0) <= :now
            and (select count(*) from alert_messages s
                  where s.target_id = :target_id and s.settled_at_ms > :settled_at_ms and s.state = 'sent') < :per_hour
          order by due_at_ms, id
          limit 1")
    .set("target_id", target_id)
    .set("now", now)
    .set("settled_at_ms", now.minus(Duration::from_secs(3600)))
    .set("per_hour", per_hour)
    .fetch_optional(store.pool())
    .await
    .context("could not read the alerts that are due")?;
    let Some(due) = due else { return Ok(None) };
    let mut tx = store.begin().await?;
    let row = sql(
        "update alert_messages set claimed_until_ms = :claimed_until_ms, attempts = attempts + 1
          where id = :id and state = 'pending' and coalesce(claimed_until_ms, 0) <= :now
         returning id, headline, body, created_at_ms, attempts",
    )
    .set("claimed_until_ms", now.plus(lease))
    .set("id", due.get::<String>(0)?)
    .set("now", now)
    .fetch_optional(&mut *tx)
    .await
    .context("could not claim an alert")?;
    let Some(row) = row else { return Ok(None) };
    let claim = Claim {
        id: row.get("id")?,
        headline: row.get("headline")?,
        body: row.get("body")?,
        created_at: row.get("created_at_ms")?,
        n: row.get("attempts")?,
    };
    tx.commit().await?;
    Ok(Some(claim))
}

/// Records the outcome of an attempt. `due` is set if there will be another one.
pub(super) async fn settle(
    store: &Store,
    now: Timestamp,
    claim: &Claim,
    state: &str,
    due: Timestamp,
    said: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update alert_messages
            set state = :state, due_at_ms = :due, claimed_until_ms = null, said = :said, settled_at_ms = :settled_at_ms
          where id = :id and (attempts = :n or :state = 'sent')")
    .set("state", state)
    .set("due", due)
    .set("said", said)
    .set("settled_at_ms", (state != "pending").then_some(now.as_ms()))
    .set("id", &claim.id)
    .set("n", claim.n)
    .execute(&mut *tx)
    .await
    .context("could not record the outcome of an alert")?;
    tx.commit().await
}

/// Deletes incidents that were resolved before a time.
pub(super) async fn forget(tx: &mut AnyConnection, before: Timestamp) -> Result<()> {
    for text in [
        "delete from alert_messages
          where incident_id in (select id from incidents where resolved_at_ms < :before) and state <> 'pending'",
        "delete from incidents
          where resolved_at_ms < :before
            and not exists (select 1 from alert_messages m where m.incident_id = incidents.id)",
    ] {
        sql(text)
            .set("before", before)
            .execute(&mut *tx)
            .await
            .context("could not delete old alerts")?;
    }
    Ok(())
}

/// The messages of a recipient in one state.
#[derive(Clone, Debug)]
pub(crate) struct SentMessages {
    pub(crate) target_id: String,
    pub(crate) state: String,
    /// The newest message of this state.
    pub(crate) headline: String,
    pub(crate) said: Option<String>,
    pub(crate) at: Timestamp,
    pub(crate) messages: i64,
}

pub(super) async fn sent(store: &Store) -> Result<Vec<SentMessages>> {
    let rows = sql("select m.target_id, m.state, m.headline, m.said, coalesce(m.settled_at_ms, m.created_at_ms) as at_ms, n.messages
           from (select target_id, state, max(id) as newest, count(*) as messages
                   from alert_messages group by target_id, state) as n
           join alert_messages m on m.id = n.newest
          order by m.target_id, m.state")
    .fetch_all(store.pool())
    .await
    .context("could not read the messages of alerts")?;
    rows.iter()
        .map(|row| {
            Ok(SentMessages {
                target_id: row.get("target_id")?,
                state: row.get("state")?,
                headline: row.get("headline")?,
                said: row.get("said")?,
                at: row.get("at_ms")?,
                messages: row.get("messages")?,
            })
        })
        .collect()
}

/// The ID of a new message.
pub(super) fn new_message_id(now: Timestamp) -> String {
    ids::new_record_id("alm_", now)
}
