//! SQL of `breakers`.
//! Takes a destination; returns its circuit breaker, locked until the transaction ends.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::{AHEAD, Timestamp};
use crate::delivery::breaker::{Breaker, LONGEST_PROBE};
use crate::delivery::schedule::asked_pause;
use crate::store::{Row, insert_into, sql};

/// Reads and locks the circuit breaker of a destination. Replicas that claim or record outcomes for
/// it wait for each other here.
pub(crate) async fn take_turn(tx: &mut AnyConnection, destination_id: &str) -> Result<Breaker> {
    let row = insert_into("breakers")
        .set("destination_id", destination_id)
        .set("failures", 0)
        .set("wrong_answers", 0)
        .set("probes", 0)
        .then(
            "on conflict (destination_id)
             do update set failures = breakers.failures
             returning failures, wrong_answers, held_at_ms, probes, probe_at_ms, slots,
                       paused_until_ms, last_error",
        )
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
    sql("update breakers
            set failures = :failures, wrong_answers = :wrong_answers, held_at_ms = :held_at_ms, probes = :probes, probe_at_ms = :probe_at_ms, slots = :slots,
                paused_until_ms = :paused_until_ms, last_error = :last_error
          where destination_id = :destination_id")
    .set("failures", breaker.failures)
    .set("wrong_answers", breaker.wrong_answers)
    .set("held_at_ms", ms(breaker.held_since))
    .set("probes", breaker.probes)
    .set("probe_at_ms", ms(breaker.probe_at))
    .set("slots", breaker.slots)
    .set("paused_until_ms", ms(breaker.paused_until))
    .set("last_error", &breaker.last_error)
    .set("destination_id", destination_id)
    .execute(tx)
    .await
    .context("could not write a destination's breaker")?;
    Ok(())
}

fn read(row: &Row) -> Result<Breaker> {
    let at = |column: &str| -> Result<Option<Timestamp>> { Ok(row.get(column)?) };
    Ok(Breaker {
        failures: row.get("failures")?,
        wrong_answers: row.get("wrong_answers")?,
        held_since: at("held_at_ms")?,
        probes: row.get("probes")?,
        probe_at: at("probe_at_ms")?,
        slots: row.get("slots")?,
        paused_until: at("paused_until_ms")?,
        last_error: row.get("last_error")?,
    })
}

/// Makes the next probe of an open breaker due now, because a user wants the destination to be
/// tried. Call this before touching any of its deliveries, in the same order as the worker.
pub(crate) async fn probe_now(
    tx: &mut AnyConnection,
    now: Timestamp,
    destination_id: &str,
) -> Result<()> {
    sql(
        "update breakers set probe_at_ms = :now
          where destination_id = :destination_id and held_at_ms is not null and probe_at_ms > :now",
    )
    .set("now", now)
    .set("destination_id", destination_id)
    .execute(tx)
    .await
    .context("could not schedule a probe")?;
    Ok(())
}

pub(crate) async fn reset(tx: &mut AnyConnection, destination_id: &str) -> Result<()> {
    sql("delete from breakers where destination_id = :destination_id")
        .set("destination_id", destination_id)
        .execute(tx)
        .await
        .context("could not reset a destination's breaker")?;
    Ok(())
}

/// Shortens waits that are longer than any breaker can set: a clock that was ahead had set them.
pub(crate) async fn bring_back(tx: &mut AnyConnection, now: Timestamp) -> Result<()> {
    let longest_pause = now.plus(asked_pause(Duration::MAX)).plus(AHEAD);
    for (text, latest) in [
        (
            "update breakers set probe_at_ms = :now where probe_at_ms > :latest",
            now.plus(LONGEST_PROBE).plus(AHEAD),
        ),
        (
            "update breakers set paused_until_ms = :now where paused_until_ms > :latest",
            longest_pause,
        ),
    ] {
        sql(text)
            .set("now", now)
            .set("latest", latest)
            .execute(&mut *tx)
            .await
            .context("could not shorten a breaker's wait")?;
    }
    Ok(())
}
