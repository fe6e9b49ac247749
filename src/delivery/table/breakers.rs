//! SQL of `breakers`.
//! In: a destination. Out: its breaker, locked until the transaction ends.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::clock::{AHEAD, Timestamp};
use crate::delivery::breaker::{Breaker, LONGEST_PROBE};
use crate::delivery::schedule::asked_pause;

/// The breaker of a destination. Replicas that claim or settle for it wait here for each other.
pub(crate) async fn take_turn(tx: &mut AnyConnection, destination_id: &str) -> Result<Breaker> {
    let row = sqlx::query(
        "insert into breakers (destination_id, failures, wrong_answers, probes)
         values ($1, 0, 0, 0)
             on conflict (destination_id) do update set failures = breakers.failures
         returning failures, wrong_answers, held_at_ms, probes, probe_at_ms, slots, paused_until_ms,
                   last_error",
    )
    .bind(destination_id)
    .fetch_one(tx)
    .await
    .context("could not lock a destination's breaker")?;
    read(&row)
}

pub(crate) async fn save(
    tx: &mut AnyConnection,
    destination_id: &str,
    breaker: &Breaker,
) -> Result<()> {
    let ms = |at: Option<Timestamp>| at.map(Timestamp::as_ms);
    sqlx::query(
        "update breakers
            set failures = $1, wrong_answers = $2, held_at_ms = $3, probes = $4, probe_at_ms = $5, slots = $6,
                paused_until_ms = $7, last_error = $8
          where destination_id = $9",
    )
    .bind(breaker.failures)
    .bind(breaker.wrong_answers)
    .bind(ms(breaker.held_since))
    .bind(breaker.probes)
    .bind(ms(breaker.probe_at))
    .bind(breaker.slots)
    .bind(ms(breaker.paused_until))
    .bind(breaker.last_error.as_deref())
    .bind(destination_id)
    .execute(tx)
    .await
    .context("could not write a destination's breaker")?;
    Ok(())
}

fn read(row: &AnyRow) -> Result<Breaker> {
    let at = |column: &str| -> Result<Option<Timestamp>> {
        Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_ms))
    };
    Ok(Breaker {
        failures: row.try_get("failures")?,
        wrong_answers: row.try_get("wrong_answers")?,
        held_since: at("held_at_ms")?,
        probes: row.try_get("probes")?,
        probe_at: at("probe_at_ms")?,
        slots: row.try_get("slots")?,
        paused_until: at("paused_until_ms")?,
        last_error: row.try_get("last_error")?,
    })
}

/// Somebody wants a destination to be tried: if it is held, its next probe goes now. Comes before any delivery of it is touched, as the
/// worker's own turns do.
pub(crate) async fn probe_now(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
) -> Result<()> {
    sqlx::query(
        "update breakers set probe_at_ms = $1
          where destination_id = $2 and held_at_ms is not null and probe_at_ms > $1",
    )
    .bind(now.as_ms())
    .bind(destination_id)
    .execute(tx)
    .await
    .context("could not bring a probe forward")?;
    Ok(())
}

pub(crate) async fn reset(tx: &mut AnyConnection, destination_id: &str) -> Result<()> {
    sqlx::query("delete from breakers where destination_id = $1")
        .bind(destination_id)
        .execute(tx)
        .await
        .context("could not reset a destination's breaker")?;
    Ok(())
}

/// What a destination's breaker waits for counts from when it was written, so what was noted in the future waits no longer.
pub(crate) async fn bring_back(tx: &mut AnyConnection, now: Timestamp) -> Result<()> {
    let longest_pause = now.plus(asked_pause(Duration::MAX)).plus(AHEAD);
    for (text, latest) in [
        (
            "update breakers set probe_at_ms = $1 where probe_at_ms > $2",
            now.plus(LONGEST_PROBE).plus(AHEAD),
        ),
        ("update breakers set paused_until_ms = $1 where paused_until_ms > $2", longest_pause),
    ] {
        sqlx::query(text)
            .bind(now.as_ms())
            .bind(latest.as_ms())
            .execute(&mut *tx)
            .await
            .context("could not bring a breaker's probe back")?;
    }
    Ok(())
}
