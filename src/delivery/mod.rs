//! Deliveries: messages about conversions, queued for destinations.
//! Takes a conversion that a destination should receive; stores a message and sends it until it is
//! accepted, or marks it as failed where users can see it.
//! Guarantees that a message is queued in the transaction that wrote its conversion, that its bytes
//! don't change after the first attempt unless a user rebuilds it, and that nothing is queued
//! twice.

mod breaker;
mod enqueue;
mod locked;
mod make;
mod message;
mod outcome;
mod pace;
mod polls;
mod schedule;
mod table;
mod under_way;
pub(crate) mod worker;

use anyhow::Result;

pub(crate) use enqueue::{enqueue, enqueue_anyway, enqueue_chargeback, enqueue_refund};
pub(crate) use make::make_messages;
pub(crate) use message::{Chosen, NewDelivery, Subject};

use self::message::{Existing, PAID};
use crate::clock::Timestamp;
use crate::destination::{self, Outgoing, Unsent};
use crate::domain::Word as _;
use crate::settings::{self, Destination, Settings};
use crate::store::{AnyConnection, Store, Tx};

/// Why a delivery can't be retried: its destination was deleted.
const DELETED: &str = "destination_deleted";

/// Schedules deliveries for now that a clock that was ahead had scheduled too late, and ends its
/// leases and pauses. Returns the number of deliveries.
pub(crate) async fn bring_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    table::breakers::bring_back(&mut tx, now).await?;
    let brought = table::bring_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

/// Deletes messages of a conversion that were never attempted. Returns true if no message is left.
pub(crate) async fn delete_unattempted(
    tx: &mut AnyConnection,
    conversion_id: &str,
) -> Result<bool> {
    table::delete_unattempted(tx, conversion_id).await
}

/// How far the messages of a conversion have come; a greater value wins when conversions are
/// merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// It has no message.
    Nothing,
    /// It has queued or skipped messages only.
    Queued,
    /// At least one message was attempted.
    Sent,
}

/// Returns how far the messages of a conversion have come.
pub(crate) async fn progress(tx: &mut AnyConnection, conversion_id: &str) -> Result<Progress> {
    let (rows, attempts) = table::count_of(tx, conversion_id).await?;
    Ok(match (rows, attempts) {
        (0, _) => Progress::Nothing,
        (_, 0) => Progress::Queued,
        _ => Progress::Sent,
    })
}

/// Moves the messages of one conversion to another that turned out to be the same. If both have the
/// same message, one that was never attempted is deleted; if both were attempted, both are kept and
/// shown.
pub(crate) async fn adopt(tx: &mut AnyConnection, from: &str, into: &str) -> Result<()> {
    table::adopt(tx, from, into).await
}

/// The result of a request to resend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is queued again and due now.
    Queued,
    /// There is no such delivery.
    NotFound,
    /// It can't be sent again in this state, or for this reason.
    NotRetryable(String),
}

/// Queues a failed delivery again: the same bytes, or new ones if its mapping failed. The retry
/// schedule restarts, and earlier attempts stay listed. A pending delivery becomes due now.
pub async fn retry(store: &Store, now: Timestamp, id: &str) -> Result<Retried> {
    let subject = table::subject(store, id).await?;
    let mut tx = store.begin().await?;
    if let Some(subject) = &subject {
        if settings::is_deleted(&mut tx, &subject.destination_id).await? {
            return Ok(Retried::NotRetryable(DELETED.to_owned()));
        }
        table::breakers::probe_now(&mut tx, now, &subject.destination_id).await?;
    }
    let retried = if table::requeue(&mut tx, now, id).await? {
        Retried::Queued
    } else {
        match table::state_of(&mut tx, id).await? {
            Some(state) => Retried::NotRetryable(state.as_str().to_owned()),
            None => Retried::NotFound,
        }
    };
    if retried == Retried::Queued {
        tx.commit().await?;
    }
    Ok(retried)
}

/// Begins a transaction that sends something again; `None` if the destination was deleted. A
/// breaker that is open sends its next probe at once.
async fn begin_retry(store: &Store, now: Timestamp, destination_id: &str) -> Result<Option<Tx>> {
    let mut tx = store.begin().await?;
    if settings::is_deleted(&mut tx, destination_id).await? {
        return Ok(None);
    }
    table::breakers::probe_now(&mut tx, now, destination_id).await?;
    Ok(Some(tx))
}

/// Queues a destination's failed deliveries again; returns their number. The rate limit spreads
/// them over time.
pub(crate) async fn retry_all(store: &Store, now: Timestamp, chosen: &Chosen) -> Result<u64> {
    let Some(mut tx) = begin_retry(store, now, &chosen.destination_id).await? else { return Ok(0) };
    let count = table::requeue_all(&mut tx, now, chosen).await?;
    tx.commit().await?;
    Ok(count)
}

/// Returns the destination and conversion of a delivery.
pub(crate) async fn subject(store: &Store, id: &str) -> Result<Option<Subject>> {
    table::subject(store, id).await
}

/// Lets today's mapping build a message again from the facts that it was built from. Not possible
/// while it is being sent.
pub(crate) async fn make_again(
    store: &Store,
    now: Timestamp,
    id: &str,
    destination: &Destination,
) -> Result<Retried> {
    let Some(mut tx) = begin_retry(store, now, &destination.id).await? else {
        return Ok(Retried::NotRetryable(DELETED.to_owned()));
    };
    let is_done = table::unmake(&mut tx, now, id, destination).await?;
    tx.commit().await?;
    Ok(if is_done { Retried::Queued } else { Retried::NotRetryable("sending".to_owned()) })
}

/// Replaces a message by a new one, whatever was sent before; the earlier body is kept. Not
/// possible while it is being sent.
pub(crate) async fn rebuild(
    store: &Store,
    now: Timestamp,
    id: &str,
    destination: &Destination,
    outgoing: &Outgoing,
) -> Result<Retried> {
    let message = match destination::compose(destination, outgoing).await {
        Ok(message) => message,
        Err(Unsent::Skipped(skip)) => return Ok(Retried::NotRetryable(skip.as_str().to_owned())),
        Err(Unsent::Broken(error)) => return Ok(Retried::NotRetryable(error)),
    };
    let Some(mut tx) = begin_retry(store, now, &destination.id).await? else {
        return Ok(Retried::NotRetryable(DELETED.to_owned()));
    };
    let is_done = table::refreeze(&mut tx, now, id, destination, &message).await?;
    tx.commit().await?;
    Ok(if is_done { Retried::Queued } else { Retried::NotRetryable("sending".to_owned()) })
}

/// Enables or disables a destination. While it is disabled, its queued messages wait as `held`, and
/// so do new ones. Enabling makes all of them due, oldest first.
pub(crate) async fn set_enabled(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    destination_id: &str,
    enabled: bool,
) -> Result<()> {
    let mut tx = settings::begin_change(store).await?;
    settings::set_enabled(&mut tx, destination_id, enabled).await?;
    if enabled {
        table::release(&mut tx, destination_id).await?;
        table::breakers::reset(&mut tx, destination_id).await?;
    } else {
        table::hold(&mut tx, destination_id).await?;
    }
    tx.commit().await?;
    tracing::info!(
        destination_id,
        enabled,
        at = now.to_rfc3339(),
        "enabled or disabled a destination"
    );
    settings.reload(store).await
}

/// Deletes a destination and marks its queued messages as failed.
pub(crate) async fn delete_destination(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    destination_id: &str,
) -> Result<()> {
    let mut tx = settings::begin_change(store).await?;
    settings::delete_destination(&mut tx, now, destination_id).await?;
    table::give_up_all(&mut tx, now, destination_id).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Marks messages as failed that still wait for deleted destinations: earlier versions could leave
/// such rows. Called at start.
pub(crate) async fn give_up_for_deleted(store: &Store, now: Timestamp) -> Result<()> {
    let mut tx = store.begin().await?;
    for destination_id in settings::deleted_destinations(&mut tx).await? {
        table::give_up_all(&mut tx, now, &destination_id).await?;
    }
    tx.commit().await
}

/// Closes the circuit breaker of a destination whose address or credential was changed, so that it
/// is tried at once.
pub(crate) async fn reset_breaker(store: &Store, destination_id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::breakers::reset(&mut tx, destination_id).await?;
    tx.commit().await
}
