//! Queues the messages about a conversion.
//! Takes a conversion and a destination; writes a delivery in the caller's transaction, or corrects
//! one that was not attempted yet.
//! Guarantees that nothing is queued twice, and that a decision to skip stays, unless what caused
//! it is cured.

use std::time::Duration;

use anyhow::Result;

use super::message::{NewDelivery, PAID};
use super::table;
use crate::clock::{AHEAD, Timestamp};
use crate::destination::{self, Draft, News, Outgoing};
use crate::domain::{DeliveryReason, DeliveryState, SkipReason};
use crate::money::Money;
use crate::store::AnyConnection;

/// How long the first attempt waits for a visit that may still arrive.
const WAIT_FOR_VISIT: Duration = Duration::from_secs(120);

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
