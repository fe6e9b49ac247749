//! Deliveries: what is owed to a destination, when, and how it ended.
//! In: a conversion that a destination should hear of. Out: a frozen message, sent until accepted or visibly given up.
//! Promise: what is owed is in the transaction that made it owed; after the first attempt its bytes never change; nothing is owed twice.

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

/// How long a first attempt waits for a visit that may still be on its way.
const WAIT_FOR_VISIT: Duration = Duration::from_secs(120);

/// What a conversion owes to one destination.
pub(crate) struct Owed<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) conversion_id: &'a str,
    pub(crate) outgoing: &'a Outgoing,
    /// True while the visit of a genuine click ID has not arrived.
    pub(crate) waits_for_visit: bool,
    /// From when on it was no news: its age counts from here.
    pub(crate) news_at: Timestamp,
}

impl Owed<'_> {
    /// When its message is not worth sending any more.
    fn expires_at(&self) -> Option<Timestamp> {
        self.destination.options.expires_after().map(|after| self.news_at.plus(after))
    }
}

/// What is told about a conversion first; refunds and disputes have keys of their own.
const PAID: &str = "paid";
/// Why a delivery is not retried: there is nowhere to send it.
const DELETED: &str = "destination_deleted";
/// A lost dispute; told once.
const DISPUTE: &str = "dispute";

/// Writes what is owed, or corrects what has not been tried yet. Idempotent.
pub(crate) async fn owe(tx: &mut AnyConnection, now: Timestamp, owed: &Owed<'_>) -> Result<()> {
    let too_old_after = owed.destination.options.max_age();
    let draft = if is_before(owed.news_at, owed.destination.created_at, now) {
        Err(SkipReason::BeforeDestination)
    } else if too_old_after.is_some_and(|age| owed.news_at.plus(age) < now) {
        Err(SkipReason::TooOld)
    } else {
        destination::draft(owed.destination, owed.outgoing)
    };
    write(tx, now, owed, &draft, &[SkipReason::NoIdentity, SkipReason::Unmatched]).await
}

/// Whether a conversion was no news any more when the destination was added. A destination of the future was added by a clock that was
/// ahead and has been set back since; then the times cannot be compared, and what arrives just now came after it.
fn is_before(news_at: Timestamp, added_at: Timestamp, now: Timestamp) -> bool {
    let arrives_now = now.since(news_at) < AHEAD;
    news_at < added_at && !(added_at > now && arrives_now)
}

/// Makes due what a clock that was ahead put off, and ends its leases and pauses. Answers how many deliveries.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn bring_back(store: &Store, now: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    table::breakers::bring_back(&mut tx, now).await?;
    let brought = table::bring_back(&mut tx, now).await?;
    tx.commit().await?;
    Ok(brought)
}

/// The same for what somebody asked for: its age is no reason.
pub(crate) async fn owe_anyway(
    tx: &mut AnyConnection,
    now: Timestamp,
    owed: &Owed<'_>,
) -> Result<()> {
    let draft = destination::draft(owed.destination, owed.outgoing);
    let cured = [
        SkipReason::NoIdentity,
        SkipReason::Unmatched,
        SkipReason::BeforeDestination,
        SkipReason::TooOld,
    ];
    write(tx, now, owed, &draft, &cured).await
}

/// `cured` are the reasons that no longer hold. A setting changed later changes nothing that was decided.
async fn write(
    tx: &mut AnyConnection,
    now: Timestamp,
    owed: &Owed<'_>,
    draft: &Result<Draft, SkipReason>,
    cured: &[SkipReason],
) -> Result<()> {
    let due = if owed.waits_for_visit { now.plus(WAIT_FOR_VISIT) } else { now };
    let is_cured = |reason: Option<DeliveryReason>| {
        cured.iter().any(|skip| reason == Some(DeliveryReason::Skipped(*skip)))
    };
    match table::find(tx, &owed.destination.id, owed.conversion_id, PAID).await? {
        None => table::insert(tx, now, due, PAID, owed, draft).await,
        Some(existing) => match (existing.state, draft) {
            (DeliveryState::Skipped, Ok(draft)) if is_cured(existing.reason) => {
                table::write_draft(tx, &existing.id, due, owed, draft).await
            }
            (DeliveryState::Pending | DeliveryState::Held, Ok(draft))
                if existing.is_untouched() && (!existing.says(draft) || existing.due > due) =>
            {
                table::write_draft(tx, &existing.id, due, owed, draft).await
            }
            _ => Ok(()),
        },
    }
}

/// Writes that more money was given back than the destination was told of; `refunded` is all of it so far. Idempotent:
/// only growth is owed, so partial refunds add up in whatever order they come.
pub(crate) async fn owe_refund(
    tx: &mut AnyConnection,
    now: Timestamp,
    owed: &Owed<'_>,
    refunded: Money,
) -> Result<()> {
    let (destination_id, conversion_id) = (&owed.destination.id, owed.conversion_id);
    let Some(told_as) = table::transaction_told(tx, destination_id, conversion_id, PAID).await?
    else {
        return Ok(()); // It was never told of the payment.
    };
    let before = table::highest_refund(tx, destination_id, conversion_id).await?;
    if refunded.minor <= before {
        return Ok(());
    }
    let growth = Money { minor: refunded.minor - before, ..refunded };
    let outgoing = Outgoing {
        news: News::Refund(growth),
        transaction_id: format!("{told_as}-refund-{}", refunded.minor),
        original_transaction_id: told_as,
        ..owed.outgoing.clone()
    };
    let key = format!("refund:{}", refunded.minor);
    insert(tx, now, &key, &Owed { outgoing: &outgoing, news_at: now, ..*owed }).await
}

/// Writes that the money was lost to a dispute. Idempotent.
pub(crate) async fn owe_chargeback(
    tx: &mut AnyConnection,
    now: Timestamp,
    owed: &Owed<'_>,
) -> Result<()> {
    let (destination_id, conversion_id) = (&owed.destination.id, owed.conversion_id);
    let told_as = table::transaction_told(tx, destination_id, conversion_id, PAID).await?;
    let Some(told_as) = told_as else { return Ok(()) };
    if table::find(tx, destination_id, conversion_id, DISPUTE).await?.is_some() {
        return Ok(());
    }
    let outgoing = Outgoing {
        news: News::Chargeback,
        transaction_id: format!("{told_as}-dispute"),
        original_transaction_id: told_as,
        ..owed.outgoing.clone()
    };
    insert(tx, now, DISPUTE, &Owed { outgoing: &outgoing, news_at: now, ..*owed }).await
}

async fn insert(tx: &mut AnyConnection, now: Timestamp, key: &str, owed: &Owed<'_>) -> Result<()> {
    let draft = destination::draft(owed.destination, owed.outgoing);
    table::insert(tx, now, now, key, owed, &draft).await
}

/// Removes what was owed for a conversion and never tried. Answers whether nothing is left.
pub(crate) async fn forget_untold(tx: &mut AnyConnection, conversion_id: &str) -> Result<bool> {
    table::forget_untold(tx, conversion_id).await
}

/// How much destinations know of a conversion; the greater, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ToldOf {
    /// Nothing is owed for it.
    Nothing,
    /// A message waits, or was not meant to go.
    Owed,
    /// Somebody tried to send it.
    Sent,
}

/// How much destinations know of a conversion.
pub(crate) async fn told_of(tx: &mut AnyConnection, conversion_id: &str) -> Result<ToldOf> {
    let (rows, attempts) = table::count_of(tx, conversion_id).await?;
    Ok(match (rows, attempts) {
        (0, _) => ToldOf::Nothing,
        (_, 0) => ToldOf::Owed,
        _ => ToldOf::Sent,
    })
}

/// Gives one conversion's messages to another one that turned out to be the same. What nobody tried to send and the other owes as well goes;
/// what both sent stays, and can be seen.
pub(crate) async fn adopt(tx: &mut AnyConnection, from: &str, into: &str) -> Result<()> {
    table::adopt(tx, from, into).await
}

/// The row that is there already.
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

/// What became of a wish to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is owed again, due now, with the same bytes.
    Owed,
    /// There is no such delivery.
    NotFound,
    /// It cannot be sent again from this state.
    NotRetryable(String),
}

/// Makes a given-up delivery owed again: the same bytes, or new ones where its mapping failed; a fresh schedule, earlier attempts stay listed. A pending one becomes due now.
///
/// # Errors
/// When the database cannot be written.
pub async fn retry(store: &Store, now: Timestamp, id: &str) -> Result<Retried> {
    let subject = table::subject(store, id).await?;
    let mut tx = store.begin().await?;
    if let Some(subject) = &subject {
        if settings::is_deleted(&mut tx, &subject.destination_id).await? {
            return Ok(Retried::NotRetryable(DELETED.to_owned()));
        }
        table::breakers::probe_now(&mut tx, now, &subject.destination_id).await?;
    }
    let retried = if table::owe_again(&mut tx, now, id).await? {
        Retried::Owed
    } else {
        match table::state_of(&mut tx, id).await? {
            Some(state) => Retried::NotRetryable(state.as_str().to_owned()),
            None => Retried::NotFound,
        }
    };
    if retried == Retried::Owed {
        tx.commit().await?;
    }
    Ok(retried)
}

/// Which given-up deliveries of a destination to owe again.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// `dst_…`.
    pub(crate) destination_id: String,
    /// Only those given up for this reason.
    pub(crate) reason: Option<String>,
    /// Only those owed since then.
    pub(crate) since: Timestamp,
}

/// Makes what was given up for a destination owed again; answers how many. The rate limit spreads them.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn retry_all(store: &Store, now: Timestamp, chosen: &Chosen) -> Result<u64> {
    let mut tx = store.begin().await?;
    if settings::is_deleted(&mut tx, &chosen.destination_id).await? {
        return Ok(0);
    }
    table::breakers::probe_now(&mut tx, now, &chosen.destination_id).await?;
    let count = table::owe_all_again(&mut tx, now, chosen).await?;
    tx.commit().await?;
    Ok(count)
}

/// What a delivery is about.
pub(crate) struct Subject {
    pub(crate) destination_id: String,
    pub(crate) conversion_id: String,
    pub(crate) transaction_id: String,
    /// False for refunds and disputes.
    pub(crate) tells_of_payment: bool,
    /// Whether its row still holds what its mapping used.
    pub(crate) has_facts: bool,
}

/// What a delivery is about.
pub(crate) async fn subject(store: &Store, id: &str) -> Result<Option<Subject>> {
    table::subject(store, id).await
}

/// Lets a message be made again by today's mapping, from the facts that it was made of. False while somebody is sending it.
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
    Ok(if is_done { Retried::Owed } else { Retried::NotRetryable("sending".to_owned()) })
}

/// Freezes a message anew, whatever was sent before; the earlier body is kept beside it.
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
    Ok(if is_done { Retried::Owed } else { Retried::NotRetryable("sending".to_owned()) })
}

/// Disables a destination: what is owed to it waits as `held`, and so does what is still to come. Enabling makes all of it due, oldest first.
///
/// # Errors
/// When the database cannot be written.
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
    tracing::info!(destination_id, enabled, at = now.to_rfc3339(), "a destination was switched");
    settings.reload(store).await
}

/// Deletes a destination. What is owed to it is given up, visibly.
///
/// # Errors
/// When the database cannot be written.
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

/// Gives up, visibly, what still waits for destinations that were deleted: earlier versions could leave such rows. At start.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn give_up_for_deleted(store: &Store, now: Timestamp) -> Result<()> {
    let mut tx = store.begin().await?;
    for destination_id in settings::deleted_destinations(&mut tx).await? {
        table::give_up_all(&mut tx, now, &destination_id).await?;
    }
    tx.commit().await
}

/// Forgets that a destination was down: its address or credential was changed, so it is tried at once.
///
/// # Errors
/// When the database cannot be written.
pub(crate) async fn reset_breaker(store: &Store, destination_id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::breakers::reset(&mut tx, destination_id).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_no_sale_older_than_its_destination() {
        let added = Timestamp::from_seconds(1_790_000_000);
        let hour = std::time::Duration::from_secs(3600);
        assert!(is_before(added.minus(hour), added, added.plus(hour)), "an old sale");
        assert!(!is_before(added, added, added.plus(hour)));
        let now = added.minus(hour);
        assert!(!is_before(now, added, now), "set back by an hour since");
        assert!(is_before(now.minus(hour), added, now), "an old sale is old all the same");
    }
}
