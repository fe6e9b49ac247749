//! Deliveries: messages about conversions, queued for destinations.
//! Takes a conversion that a destination should receive; stores a message and sends it until it is
//! accepted, or marks it as failed where users can see it.
//! Guarantees that a message is queued in the transaction that wrote its conversion, that its bytes
//! don't change after the first attempt unless a user rebuilds it, and that nothing is queued
//! twice.

mod breaker;
mod make;
mod pace;
mod schedule;
mod table;
pub(crate) mod worker;

pub(crate) use make::make_messages;

use std::time::Duration;

use anyhow::Result;

use crate::clock::{AHEAD, Timestamp};
use crate::destination::{self, Content, Draft, News, Outgoing, Unsent};
use crate::domain::{DeliveryReason, DeliveryState, SkipReason, Word as _};
use crate::money::Money;
use crate::settings::{self, Destination, Settings};
use crate::store::{AnyConnection, Store};

/// How long the first attempt waits for a visit that may still arrive.
const WAIT_FOR_VISIT: Duration = Duration::from_secs(120);

/// A conversion to queue for one destination.
pub(crate) struct NewDelivery<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) conversion_id: &'a str,
    pub(crate) outgoing: &'a Outgoing,
    /// True while the visit of our own click ID has not arrived.
    pub(crate) waits_for_visit: bool,
    /// When the conversion became known; its age counts from here.
    pub(crate) news_at: Timestamp,
}

impl NewDelivery<'_> {
    /// When its message becomes too old to send.
    fn expires_at(&self) -> Option<Timestamp> {
        self.destination.options.limits.expires_after().map(|after| self.news_at.plus(after))
    }
}

/// Idempotency key of the first message. Refunds and disputes use their own keys.
const PAID: &str = "paid";
/// Why a delivery can't be retried: its destination was deleted.
const DELETED: &str = "destination_deleted";
/// Idempotency key of a lost dispute; at most one message per conversion.
const DISPUTE: &str = "dispute";

/// Queues a message, or corrects a queued one that was not attempted yet. Idempotent.
pub(crate) async fn enqueue(
    tx: &mut AnyConnection,
    now: Timestamp,
    new: &NewDelivery<'_>,
) -> Result<()> {
    let too_old_after = new.destination.options.limits.max_age();
    let draft = if is_before(new.news_at, new.destination.created_at, now) {
        Err(SkipReason::BeforeDestination)
    } else if too_old_after.is_some_and(|age| new.news_at.plus(age) < now) {
        Err(SkipReason::TooOld)
    } else {
        destination::draft(new.destination, new.outgoing)
    };
    write(tx, now, new, &draft, &[SkipReason::NoIdentity, SkipReason::Unmatched]).await
}

/// True if the conversion became known before the destination was added. If the destination's time
/// is in the future, the clock was ahead then and has been set back since; the times can't be
/// compared, and a conversion that arrives now counts as later.
fn is_before(news_at: Timestamp, added_at: Timestamp, now: Timestamp) -> bool {
    let arrives_now = now.since(news_at) < AHEAD;
    news_at < added_at && !(added_at > now && arrives_now)
}

/// Schedules deliveries for now that a clock that was ahead had scheduled too late, and ends its
/// leases and pauses. Returns the number of deliveries.
///
/// # Errors
/// Fails if the database can't be written.
pub(crate) async fn bring_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    table::breakers::bring_back(&mut tx, now).await?;
    let brought = table::bring_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

/// The same for a conversion that a user asked to send: its age is ignored.
pub(crate) async fn enqueue_anyway(
    tx: &mut AnyConnection,
    now: Timestamp,
    new: &NewDelivery<'_>,
) -> Result<()> {
    let draft = destination::draft(new.destination, new.outgoing);
    let cured = [
        SkipReason::NoIdentity,
        SkipReason::Unmatched,
        SkipReason::BeforeDestination,
        SkipReason::TooOld,
    ];
    write(tx, now, new, &draft, &cured).await
}

/// `cured` are the skip reasons that a new draft overrides. Other decisions stay, even if a setting
/// changed since.
async fn write(
    tx: &mut AnyConnection,
    now: Timestamp,
    new: &NewDelivery<'_>,
    draft: &Result<Draft, SkipReason>,
    cured: &[SkipReason],
) -> Result<()> {
    let due = if new.waits_for_visit { now.plus(WAIT_FOR_VISIT) } else { now };
    let is_cured = |reason: Option<DeliveryReason>| {
        cured.iter().any(|skip| reason == Some(DeliveryReason::Skipped(*skip)))
    };
    match table::find(tx, &new.destination.id, new.conversion_id, PAID).await? {
        None => table::insert(tx, now, due, PAID, new, draft).await,
        Some(existing) => match (existing.state, draft) {
            (DeliveryState::Skipped, Ok(draft)) if is_cured(existing.reason) => {
                table::write_draft(tx, &existing.id, due, new, draft).await
            }
            (DeliveryState::Pending | DeliveryState::Held, Ok(draft))
                if existing.is_untouched() && (!existing.says(draft) || existing.due > due) =>
            {
                table::write_draft(tx, &existing.id, due, new, draft).await
            }
            _ => Ok(()),
        },
    }
}

/// Queues a refund if more was refunded than earlier messages stated; `refunded` is the total so
/// far. Idempotent: only the increase is queued, so partial refunds add up in whatever order they
/// arrive.
pub(crate) async fn enqueue_refund(
    tx: &mut AnyConnection,
    now: Timestamp,
    new: &NewDelivery<'_>,
    refunded: Money,
) -> Result<()> {
    let (destination_id, conversion_id) = (&new.destination.id, new.conversion_id);
    let Some(sent_as) = table::transaction_sent(tx, destination_id, conversion_id, PAID).await?
    else {
        return Ok(()); // No message about the payment itself was queued for it.
    };
    let before = table::highest_refund(tx, destination_id, conversion_id).await?;
    if refunded.minor <= before {
        return Ok(());
    }
    let growth = Money { minor: refunded.minor - before, ..refunded };
    let outgoing = Outgoing {
        news: News::Refund(growth),
        transaction_id: format!("{sent_as}-refund-{}", refunded.minor),
        original_transaction_id: sent_as,
        ..new.outgoing.clone()
    };
    let key = format!("refund:{}", refunded.minor);
    insert(tx, now, &key, &NewDelivery { outgoing: &outgoing, news_at: now, ..*new }).await
}

/// Queues a message that the money was lost to a dispute. Idempotent.
pub(crate) async fn enqueue_chargeback(
    tx: &mut AnyConnection,
    now: Timestamp,
    new: &NewDelivery<'_>,
) -> Result<()> {
    let (destination_id, conversion_id) = (&new.destination.id, new.conversion_id);
    let sent_as = table::transaction_sent(tx, destination_id, conversion_id, PAID).await?;
    let Some(sent_as) = sent_as else { return Ok(()) };
    if table::find(tx, destination_id, conversion_id, DISPUTE).await?.is_some() {
        return Ok(());
    }
    let outgoing = Outgoing {
        news: News::Chargeback,
        transaction_id: format!("{sent_as}-dispute"),
        original_transaction_id: sent_as,
        ..new.outgoing.clone()
    };
    insert(tx, now, DISPUTE, &NewDelivery { outgoing: &outgoing, news_at: now, ..*new }).await
}

async fn insert(
    tx: &mut AnyConnection,
    now: Timestamp,
    key: &str,
    new: &NewDelivery<'_>,
) -> Result<()> {
    let draft = destination::draft(new.destination, new.outgoing);
    table::insert(tx, now, now, key, new, &draft).await
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

/// A stored delivery.
struct Existing {
    id: String,
    state: DeliveryState,
    reason: Option<DeliveryReason>,
    request: String,
    facts: Option<String>,
    attempts: i64,
    due: Timestamp,
}

impl Existing {
    fn is_untouched(&self) -> bool {
        self.attempts == 0
    }

    fn says(&self, draft: &Draft) -> bool {
        match &draft.content {
            Content::Made(made) => self.facts.is_none() && self.request == made.body,
            Content::Facts(facts) => self.facts.as_ref() == Some(facts),
        }
    }
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
///
/// # Errors
/// Fails if the database can't be written.
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

/// Selects the failed deliveries of a destination to queue again.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// `dst_…`.
    pub(crate) destination_id: String,
    /// Only those that failed for this reason.
    pub(crate) reason: Option<String>,
    /// Only those created since then.
    pub(crate) since: Timestamp,
}

/// Queues a destination's failed deliveries again; returns their number. The rate limit spreads
/// them over time.
///
/// # Errors
/// Fails if the database can't be written.
pub(crate) async fn retry_all(store: &Store, now: Timestamp, chosen: &Chosen) -> Result<u64> {
    let mut tx = store.begin().await?;
    if settings::is_deleted(&mut tx, &chosen.destination_id).await? {
        return Ok(0);
    }
    table::breakers::probe_now(&mut tx, now, &chosen.destination_id).await?;
    let count = table::requeue_all(&mut tx, now, chosen).await?;
    tx.commit().await?;
    Ok(count)
}

/// The destination and conversion of a delivery.
pub(crate) struct Subject {
    pub(crate) destination_id: String,
    pub(crate) conversion_id: String,
    pub(crate) transaction_id: String,
    /// False for refunds and disputes.
    pub(crate) tells_of_payment: bool,
    /// True if its row still has the facts that its mapping used.
    pub(crate) has_facts: bool,
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
    let mut tx = store.begin().await?;
    if settings::is_deleted(&mut tx, &destination.id).await? {
        return Ok(Retried::NotRetryable(DELETED.to_owned()));
    }
    table::breakers::probe_now(&mut tx, now, &destination.id).await?;
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
    let mut tx = store.begin().await?;
    if settings::is_deleted(&mut tx, &destination.id).await? {
        return Ok(Retried::NotRetryable(DELETED.to_owned()));
    }
    table::breakers::probe_now(&mut tx, now, &destination.id).await?;
    let is_done = table::refreeze(&mut tx, now, id, destination, &message).await?;
    tx.commit().await?;
    Ok(if is_done { Retried::Queued } else { Retried::NotRetryable("sending".to_owned()) })
}

/// Enables or disables a destination. While it is disabled, its queued messages wait as `held`, and
/// so do new ones. Enabling makes all of them due, oldest first.
///
/// # Errors
/// Fails if the database can't be written.
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
///
/// # Errors
/// Fails if the database can't be written.
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
///
/// # Errors
/// Fails if the database can't be written.
pub(crate) async fn give_up_for_deleted(store: &Store, now: Timestamp) -> Result<()> {
    let mut tx = store.begin().await?;
    for destination_id in settings::deleted_destinations(&mut tx).await? {
        table::give_up_all(&mut tx, now, &destination_id).await?;
    }
    tx.commit().await
}

/// Closes the circuit breaker of a destination whose address or credential was changed, so that it
/// is tried at once.
///
/// # Errors
/// Fails if the database can't be written.
pub(crate) async fn reset_breaker(store: &Store, destination_id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::breakers::reset(&mut tx, destination_id).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_does_not_make_a_new_sale_too_old() {
        let added = Timestamp::from_seconds(1_790_000_000);
        let hour = std::time::Duration::from_secs(3600);
        assert!(is_before(added.minus(hour), added, added.plus(hour)), "an old sale");
        assert!(!is_before(added, added, added.plus(hour)));
        let now = added.minus(hour);
        assert!(!is_before(now, added, now), "set back by an hour since");
        assert!(is_before(now.minus(hour), added, now), "an old sale is still too old");
    }
}
