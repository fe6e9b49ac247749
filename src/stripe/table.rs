//! SQL of `stripe_events` and `stripe_rejections`.
//! Takes verified webhooks and the results of processing them; writes and reads their rows. Private
//! to this module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::event::Envelope;
use crate::clock::{AHEAD, Timestamp};
use crate::domain::{EventOrigin, EventState};
use crate::ids;
use crate::store::{Store, Text, insert_into, sql, turn};

/// A verified webhook to store.
pub(super) struct NewEvent<'a> {
    pub(super) source_id: &'a str,
    pub(super) envelope: &'a Envelope,
    pub(super) received_at: Timestamp,
    pub(super) signature: &'a str,
    /// Index of the secret that matched; `None` for events that we requested from the API.
    pub(super) secret_position: Option<usize>,
    pub(super) origin: EventOrigin,
    pub(super) body: &'a [u8],
}

/// Stores an event; returns false if it was stored before. The unique key decides, never an earlier
/// read.
pub(super) async fn insert(tx: &mut AnyConnection, event: &NewEvent<'_>) -> Result<bool> {
    let envelope = event.envelope;
    let inserted = insert_into("stripe_events")
        .set("id", ids::new_record_id("sev_", event.received_at))
        .set("account", &envelope.account)
        .set("event_id", &envelope.event_id)
        .set("source_id", event.source_id)
        .set("type", &envelope.kind)
        .set("object_id", &envelope.object_id)
        .set("livemode", envelope.livemode)
        .set("api_version", &envelope.api_version)
        .set("created_at_ms", envelope.created_at)
        .set("received_at_ms", event.received_at)
        .set("signature", event.signature)
        .set(
            "secret_position",
            event.secret_position.map_or(-1, |position| i64::try_from(position).unwrap_or(0)),
        )
        .set("origin", event.origin)
        .set("body", event.body)
        .set("state", "received")
        .set("attempts", 0)
        .set("due_at_ms", event.received_at)
        .set("repeats", 0)
        .or_ignore()
        .execute(tx)
        .await
        .context("could not store an event")?;
    Ok(inserted.rows_affected() == 1)
}

/// Counts a repeat. The repeat of a failed event queues it again, so that "Resend" in Stripe's
/// dashboard reprocesses it.
pub(super) async fn count_repeat(tx: &mut AnyConnection, event: &NewEvent<'_>) -> Result<()> {
    let (now, envelope) = (event.received_at, event.envelope);
    take_over_held(tx, event).await?;
    sql("update stripe_events
            set repeats = repeats + 1,
                due_at_ms = case when state = 'failed' then :now else due_at_ms end,
                error = case when state = 'failed' then null else error end,
                state = case when state = 'failed' then 'received' else state end
          where account = :account and event_id = :event_id")
    .set("now", now)
    .set("account", &envelope.account)
    .set("event_id", &envelope.event_id)
    .execute(tx)
    .await
    .context("could not count a repeat")?;
    Ok(())
}

/// Moves a held event to another endpoint that received it too, with the bytes that arrived there:
/// the first ones may be forged by somebody who knows only the first endpoint's secret.
async fn take_over_held(tx: &mut AnyConnection, event: &NewEvent<'_>) -> Result<()> {
    let envelope = event.envelope;
    sql("update stripe_events
            set source_id = :source_id, type = :kind, object_id = :object_id, livemode = :livemode, api_version = :api_version, created_at_ms = :created_at,
                signature = :signature, secret_position = :secret_position, origin = :origin, body = :body, received_at_ms = :received_at, due_at_ms = :received_at,
                state = 'received', reason = null
          where account = :account and event_id = :event_id and state = 'held' and source_id <> :source_id")
    .set("source_id", event.source_id)
    .set("kind", &envelope.kind)
    .set("object_id", &envelope.object_id)
    .set("livemode", envelope.livemode)
    .set("api_version", &envelope.api_version)
    .set("created_at", envelope.created_at)
    .set("signature", event.signature)
    .set("secret_position", event.secret_position.map_or(-1, |position| i64::try_from(position).unwrap_or(0)))
    .set("origin", event.origin)
    .set("body", event.body)
    .set("received_at", event.received_at)
    .set("account", &envelope.account)
    .set("event_id", &envelope.event_id)
    .execute(tx)
    .await
    .context("could not move a held event to another endpoint")?;
    Ok(())
}

/// Accepts the held events of a source that were received until the given time.
pub(super) async fn accept_held(
    tx: &mut AnyConnection,
    now: Timestamp,
    source_id: &str,
    until: Timestamp,
) -> Result<u64> {
    let done = sql("update stripe_events
            set state = 'received', reason = null, due_at_ms = :now, accepted_at_ms = :now
          where source_id = :source_id and state = 'held' and received_at_ms <= :until")
    .set("now", now)
    .set("source_id", source_id)
    .set("until", until)
    .execute(tx)
    .await
    .context("could not accept held events")?;
    Ok(done.rows_affected())
}

/// Queues the held events of a source to be checked again.
pub(super) async fn put_back_held(
    tx: &mut AnyConnection,
    now: Timestamp,
    source_id: &str,
) -> Result<()> {
    sql("update stripe_events
            set state = 'received', reason = null, due_at_ms = :now
          where source_id = :source_id and state = 'held'")
    .set("now", now)
    .set("source_id", source_id)
    .execute(tx)
    .await
    .context("could not queue held events")?;
    Ok(())
}

/// An event that waits to be processed.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: String,
    pub(super) event_id: String,
    pub(super) account: String,
    pub(super) kind: String,
    pub(super) object_id: String,
    pub(super) source_id: String,
    pub(super) received_at: Timestamp,
    /// False for events that we requested from the API.
    pub(super) is_webhook: bool,
    pub(super) livemode: bool,
    /// True if a user accepted it although its endpoint should not have received it.
    pub(super) is_accepted: bool,
    pub(super) body: Vec<u8>,
    /// Tries before this one.
    pub(super) attempts: i64,
}

/// The IDs of the oldest due events.
pub(super) async fn due(store: &Store, now: Timestamp, limit: usize) -> Result<Vec<String>> {
    let found: Vec<_> = sql("select id
           from stripe_events
          where state = 'received' and due_at_ms <= :now and fetch_path is null
          order by due_at_ms, id
          limit :limit")
    .set("now", now)
    .set("limit", i64::try_from(limit)?)
    .values(store.pool())
    .await
    .context("could not look for events")?;
    Ok(found.into_iter().collect())
}

/// When the event that has waited longest became due, if one is due.
pub(super) async fn waiting_since(store: &Store, now: Timestamp) -> Result<Option<Timestamp>> {
    let row = sql("select due_at_ms
           from stripe_events
          where state = 'received' and due_at_ms <= :now and fetch_path is null
          order by due_at_ms
          limit 1")
    .set("now", now)
    .fetch_optional(store.pool())
    .await
    .context("could not look for events that wait")?;
    Ok(row.map(|row| row.get(0).map(Timestamp::from_ms)).transpose()?)
}

/// Locks an event for this transaction; `None` if another copy is processing it or has ended it.
pub(super) async fn take(tx: &mut AnyConnection, id: &str) -> Result<Option<Waiting>> {
    let free = turn::free_rows(tx);
    let row = sql(Text::from(
        "update stripe_events
            set attempts = attempts + 1
          where id = (select id from stripe_events where id = :id and state = 'received'",
    ) + free
        + ")
      returning id, event_id, account, type, object_id, source_id, received_at_ms, origin, livemode,
                accepted_at_ms, body, attempts")
    .set("id", id)
    .fetch_optional(tx)
    .await
    .context("could not lock an event")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Waiting {
        id: row.get("id")?,
        event_id: row.get("event_id")?,
        account: row.get("account")?,
        kind: row.get("type")?,
        object_id: row.get("object_id")?,
        source_id: row.get("source_id")?,
        received_at: row.get("received_at_ms")?,
        is_webhook: row.get::<EventOrigin>("origin")? == EventOrigin::Webhook,
        livemode: row.get::<bool>("livemode")?,
        is_accepted: row.get::<Option<i64>>("accepted_at_ms")?.is_some(),
        body: row.get("body")?,
        attempts: row.get::<i64>("attempts")? - 1,
    }))
}

/// The result of processing an event.
pub(super) struct Ended<'a> {
    pub(super) state: EventState,
    /// Why it was ignored or is held.
    pub(super) reason: Option<&'static str>,
    pub(super) error: Option<&'a str>,
    /// What was read.
    pub(super) summary: Option<&'a str>,
    /// What it changed.
    pub(super) note: Option<&'a str>,
    pub(super) conversion_id: Option<&'a str>,
}

impl Ended<'_> {
    /// A result with a state and no texts.
    pub(super) fn as_(state: EventState) -> Self {
        Self { state, reason: None, error: None, summary: None, note: None, conversion_id: None }
    }
}

pub(super) async fn end(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    ended: &Ended<'_>,
) -> Result<()> {
    sql("update stripe_events
            set state = :state, reason = :reason, error = :error, note = :note, conversion_id = coalesce(:conversion_id, conversion_id),
                processed_at_ms = :now, summary = :summary
          where id = :id and state = 'received'  -- another replica may have been faster than our trouble with it
       ")
    .set("state", ended.state)
    .set("reason", ended.reason)
    .set("error", ended.error)
    .set("note", ended.note)
    .set("conversion_id", ended.conversion_id)
    .set("now", now)
    .set("summary", ended.summary)
    .set("id", id)
    .execute(tx)
    .await
    .context("could not write the result of an event")?;
    Ok(())
}

/// Makes events due that were received while the clock was ahead, and would wait until that time.
/// Returns their number.
pub(super) async fn bring_back(tx: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let done = sql("update stripe_events set due_at_ms = :now
          where state = 'received' and due_at_ms > :now and received_at_ms > :received_at_ms")
    .set("now", now)
    .set("received_at_ms", now.plus(AHEAD))
    .execute(tx)
    .await
    .context("could not reschedule events after a clock was set back")?;
    Ok(done.rows_affected())
}

/// Schedules a retry after a database error, which is not the event's fault.
pub(super) async fn postpone(tx: &mut AnyConnection, id: &str, due: Timestamp) -> Result<()> {
    sql("update stripe_events set attempts = attempts + 1, due_at_ms = :due where id = :id and state = 'received'")
        .set("due", due)
        .set("id", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// The first processed event of the same type about the same object, if there is one.
pub(super) async fn earlier_of_same_object(
    tx: &mut AnyConnection,
    event: &Waiting,
) -> Result<Option<String>> {
    let row = sql("select event_id from stripe_events
          where account = :account and type = :kind and object_id = :object_id and id <> :id and state = 'processed'
          order by received_at_ms, id
          limit 1")
    .set("account", &event.account)
    .set("kind", &event.kind)
    .set("object_id", &event.object_id)
    .set("id", &event.id)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.get(0)).transpose()?)
}

pub(super) async fn put_back(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let changed = sql("update stripe_events
            set state = 'received', reason = null, error = null, due_at_ms = :now
          where id = :id and state in ('failed', 'ignored')")
    .set("now", now)
    .set("id", id)
    .execute(tx)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Source, day since 1970 in UTC, reason.
pub(super) type Rejected = (String, i64, &'static str);

pub(super) async fn add_rejections(
    tx: &mut AnyConnection,
    key: &Rejected,
    count: i64,
    last: Timestamp,
) -> Result<()> {
    let (source_id, day, reason) = key;
    insert_into("stripe_rejections")
        .set("source_id", source_id)
        .set("day", *day)
        .set("reason", *reason)
        .set("rejected", count)
        .set("last_at_ms", last)
        .then(
            "on conflict (source_id, day, reason)
             do update set rejected = stripe_rejections.rejected + excluded.rejected,
                           last_at_ms = excluded.last_at_ms",
        )
        .execute(tx)
        .await
        .context("could not count rejected webhooks")?;
    Ok(())
}
