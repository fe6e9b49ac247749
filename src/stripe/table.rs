//! SQL of `stripe_events` and `stripe_rejections`.
//! In: believed webhooks, and what processing made of them. Out: rows. Private to this room.

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::event::Envelope;
use crate::clock::{AHEAD, Timestamp};
use crate::ids;
use crate::store::{Store, turn};

/// A believed webhook on its way into the table.
pub(super) struct NewEvent<'a> {
    pub(super) source_id: &'a str,
    pub(super) envelope: &'a Envelope,
    pub(super) received_at: Timestamp,
    pub(super) signature: &'a str,
    /// Which secret fitted; `None` for what we asked Stripe for ourselves.
    pub(super) secret_position: Option<usize>,
    pub(super) origin: Origin,
    pub(super) body: &'a [u8],
}

/// How an event came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Stripe sent it.
    Webhook,
    /// We listed what we had missed.
    Backfill,
    /// We fetched what a thin event names.
    Fetched,
}

impl Origin {
    fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
            Self::Fetched => "fetched",
        }
    }
}

/// Stores an event; false when it was there. The unique key decides, never a read before it.
pub(super) async fn insert(tx: &mut AnyConnection, event: &NewEvent<'_>) -> Result<bool> {
    let envelope = event.envelope;
    let inserted = sqlx::query(
        "insert into stripe_events (id, account, event_id, source_id, type, object_id, livemode, api_version, created_at_ms,
                                    received_at_ms, signature, secret_position, origin, body, state, attempts, due_at_ms,
                                    repeats)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'received', 0, $10, 0)
             on conflict (account, event_id) do nothing",
    )
    .bind(ids::new_record_id("sev_", event.received_at))
    .bind(&envelope.account)
    .bind(&envelope.event_id)
    .bind(event.source_id)
    .bind(&envelope.kind)
    .bind(&envelope.object_id)
    .bind(i64::from(envelope.livemode))
    .bind(envelope.api_version.as_deref())
    .bind(envelope.created_at.map(Timestamp::as_ms))
    .bind(event.received_at.as_ms())
    .bind(event.signature)
    .bind(event.secret_position.map_or(-1, |position| i64::try_from(position).unwrap_or(0)))
    .bind(event.origin.word())
    .bind(event.body)
    .execute(tx)
    .await
    .context("could not store an event")?;
    Ok(inserted.rows_affected() == 1)
}

/// Counts a repeat; one of a failed event puts it back, so that "Resend" in Stripe's dashboard runs it again.
pub(super) async fn count_repeat(tx: &mut AnyConnection, event: &NewEvent<'_>) -> Result<()> {
    let (now, envelope) = (event.received_at, event.envelope);
    take_over_held(tx, event).await?;
    sqlx::query(
        "update stripe_events
            set repeats = repeats + 1,
                due_at_ms = case when state = 'failed' then $1 else due_at_ms end,
                error = case when state = 'failed' then null else error end,
                state = case when state = 'failed' then 'received' else state end
          where account = $2 and event_id = $3",
    )
    .bind(now.as_ms())
    .bind(&envelope.account)
    .bind(&envelope.event_id)
    .execute(tx)
    .await
    .context("could not count a repeat")?;
    Ok(())
}

/// An event that is held because of its endpoint has come to another one, too. It counts as that one's, with the bytes that came there: the first
/// ones may be made up by somebody who has only the first endpoint's secret.
async fn take_over_held(tx: &mut AnyConnection, event: &NewEvent<'_>) -> Result<()> {
    let envelope = event.envelope;
    sqlx::query(
        "update stripe_events
            set source_id = $1, type = $2, object_id = $3, livemode = $4, api_version = $5, created_at_ms = $6,
                signature = $7, secret_position = $8, origin = $9, body = $10, received_at_ms = $11, due_at_ms = $11,
                state = 'received', reason = null
          where account = $12 and event_id = $13 and state = 'held' and source_id <> $1",
    )
    .bind(event.source_id)
    .bind(&envelope.kind)
    .bind(&envelope.object_id)
    .bind(i64::from(envelope.livemode))
    .bind(envelope.api_version.as_deref())
    .bind(envelope.created_at.map(Timestamp::as_ms))
    .bind(event.signature)
    .bind(event.secret_position.map_or(-1, |position| i64::try_from(position).unwrap_or(0)))
    .bind(event.origin.word())
    .bind(event.body)
    .bind(event.received_at.as_ms())
    .bind(&envelope.account)
    .bind(&envelope.event_id)
    .execute(tx)
    .await
    .context("could not hand a held event to another endpoint")?;
    Ok(())
}

/// Accepts the held events of a source that were received until then.
pub(super) async fn accept_held(
    tx: &mut AnyConnection,
    now: Timestamp,
    source_id: &str,
    until: Timestamp,
) -> Result<u64> {
    let done = sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, due_at_ms = $1, accepted_at_ms = $1
          where source_id = $2 and state = 'held' and received_at_ms <= $3",
    )
    .bind(now.as_ms())
    .bind(source_id)
    .bind(until.as_ms())
    .execute(tx)
    .await
    .context("could not accept held events")?;
    Ok(done.rows_affected())
}

/// Lets the held events of a source be judged again.
pub(super) async fn put_back_held(
    tx: &mut AnyConnection,
    now: Timestamp,
    source_id: &str,
) -> Result<()> {
    sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, due_at_ms = $1
          where source_id = $2 and state = 'held'",
    )
    .bind(now.as_ms())
    .bind(source_id)
    .execute(tx)
    .await
    .context("could not put held events back")?;
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
    /// False for what we asked Stripe for ourselves.
    pub(super) is_webhook: bool,
    pub(super) livemode: bool,
    /// True when the owner said that it may count although it does not fit its endpoint.
    pub(super) is_accepted: bool,
    pub(super) body: Vec<u8>,
    /// Tries before this one.
    pub(super) attempts: i64,
}

/// The oldest events that are due, by their IDs.
pub(super) async fn due(store: &Store, now: Timestamp, limit: usize) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "select id
           from stripe_events
          where state = 'received' and due_at_ms <= $1 and fetch_path is null
          order by due_at_ms, id
          limit $2",
    )
    .bind(now.as_ms())
    .bind(i64::try_from(limit)?)
    .fetch_all(store.pool())
    .await
    .context("could not look for events")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Since when the event has been due that waits longest, if one is due.
pub(super) async fn waiting_since(store: &Store, now: Timestamp) -> Result<Option<Timestamp>> {
    let row = sqlx::query(
        "select due_at_ms
           from stripe_events
          where state = 'received' and due_at_ms <= $1 and fetch_path is null
          order by due_at_ms
          limit 1",
    )
    .bind(now.as_ms())
    .fetch_optional(store.pool())
    .await
    .context("could not look for events that wait")?;
    Ok(row.map(|row| row.try_get(0).map(Timestamp::from_ms)).transpose()?)
}

/// Takes an event for this transaction; `None` when another copy has it in hand, or is done with it.
pub(super) async fn take(tx: &mut AnyConnection, id: &str) -> Result<Option<Waiting>> {
    let free = turn::free_rows(tx);
    let row = sqlx::query(AssertSqlSafe(format!(
        "update stripe_events
            set attempts = attempts + 1
          where id = (select id from stripe_events where id = $1 and state = 'received'{free})
      returning id, event_id, account, type, object_id, source_id, received_at_ms, origin, livemode,
                accepted_at_ms, body, attempts"
    )))
    .bind(id)
    .fetch_optional(tx)
    .await
    .context("could not take an event")?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Waiting {
        id: row.try_get("id")?,
        event_id: row.try_get("event_id")?,
        account: row.try_get("account")?,
        kind: row.try_get("type")?,
        object_id: row.try_get("object_id")?,
        source_id: row.try_get("source_id")?,
        received_at: Timestamp::from_ms(row.try_get("received_at_ms")?),
        is_webhook: row.try_get::<String, _>("origin")? == Origin::Webhook.word(),
        livemode: row.try_get::<i64, _>("livemode")? == 1,
        is_accepted: row.try_get::<Option<i64>, _>("accepted_at_ms")?.is_some(),
        body: row.try_get("body")?,
        attempts: row.try_get::<i64, _>("attempts")? - 1,
    }))
}

/// What processing made of an event.
pub(super) struct Ended<'a> {
    /// `processed`, `ignored` or `failed`.
    pub(super) state: &'static str,
    pub(super) reason: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    /// What was read.
    pub(super) summary: Option<&'a str>,
    /// What it changed.
    pub(super) note: Option<&'a str>,
    pub(super) conversion_id: Option<&'a str>,
}

impl Ended<'_> {
    /// An end in a state, of which nothing more is said.
    pub(super) fn as_(state: &'static str) -> Self {
        Self { state, reason: None, error: None, summary: None, note: None, conversion_id: None }
    }
}

pub(super) async fn end(
    tx: &mut AnyConnection,
    now: Timestamp,
    id: &str,
    ended: &Ended<'_>,
) -> Result<()> {
    sqlx::query(
        "update stripe_events
            set state = $1, reason = $2, error = $3, note = $4, conversion_id = coalesce($5, conversion_id),
                processed_at_ms = $6, summary = $7
          where id = $8 and state = 'received'  -- another replica may have been faster than our trouble with it
       ",
    )
    .bind(ended.state)
    .bind(ended.reason)
    .bind(ended.error)
    .bind(ended.note)
    .bind(ended.conversion_id)
    .bind(now.as_ms())
    .bind(ended.summary)
    .bind(id)
    .execute(tx)
    .await
    .context("could not end an event")?;
    Ok(())
}

/// Makes due what was received while the clock was ahead and would wait until it is that late. Answers how many.
pub(super) async fn bring_back(tx: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let done = sqlx::query(
        "update stripe_events set due_at_ms = $1
          where state = 'received' and due_at_ms > $1 and received_at_ms > $2",
    )
    .bind(now.as_ms())
    .bind(now.plus(AHEAD).as_ms())
    .execute(tx)
    .await
    .context("could not bring back events that a clock put off")?;
    Ok(done.rows_affected())
}

/// Tries again later: the database hiccuped, the event itself is not to blame.
pub(super) async fn postpone(tx: &mut AnyConnection, id: &str, due: Timestamp) -> Result<()> {
    sqlx::query("update stripe_events set attempts = attempts + 1, due_at_ms = $1 where id = $2 and state = 'received'")
        .bind(due.as_ms())
        .bind(id)
        .execute(tx)
        .await?;
    Ok(())
}

/// The first event of the same type about the same object, if there was one before this.
pub(super) async fn earlier_of_same_object(
    tx: &mut AnyConnection,
    event: &Waiting,
) -> Result<Option<String>> {
    let row = sqlx::query(
        "select event_id from stripe_events
          where account = $1 and type = $2 and object_id = $3 and id <> $4 and state = 'processed'
          order by received_at_ms, id
          limit 1",
    )
    .bind(&event.account)
    .bind(&event.kind)
    .bind(&event.object_id)
    .bind(&event.id)
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn put_back(tx: &mut AnyConnection, now: Timestamp, id: &str) -> Result<bool> {
    let changed = sqlx::query(
        "update stripe_events
            set state = 'received', reason = null, error = null, due_at_ms = $1
          where id = $2 and state in ('failed', 'ignored')",
    )
    .bind(now.as_ms())
    .bind(id)
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
    sqlx::query(
        "insert into stripe_rejections (source_id, day, reason, rejected, last_at_ms) values ($1, $2, $3, $4, $5)
             on conflict (source_id, day, reason) do update
            set rejected = stripe_rejections.rejected + excluded.rejected, last_at_ms = excluded.last_at_ms",
    )
    .bind(source_id)
    .bind(*day)
    .bind(*reason)
    .bind(count)
    .bind(last.as_ms())
    .execute(tx)
    .await
    .context("could not count rejected webhooks")?;
    Ok(())
}
