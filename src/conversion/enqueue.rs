//! Queues the messages about a conversion for each destination of its site.
//! Takes a conversion; writes deliveries in the same transaction.
//! Guarantees that nothing is queued before the payment is paid and its transaction ID is final,
//! and that refunds and lost disputes are queued only where a destination asks for them. If a new
//! match changes the site, the new site's destinations get messages too; those for the old site's
//! stay.

use anyhow::{Context as _, Result};

use super::entry::Entry;
use super::join::Match;
use super::object::PayFact;
use super::outgoing;
use super::record::{Ledger, Sendable};
use crate::delivery::{self, NewDelivery};
use crate::destination::{Outgoing, mapping};
use crate::domain::UnmatchedReason;
use crate::money::Money;
use crate::settings::Destination;
use crate::store::AnyConnection;

pub(super) async fn enqueue(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    sendable: &Sendable<'_>,
    entry: &Entry,
) -> Result<()> {
    let Sendable { record, line, .. } = *sendable;
    if entry.pay_fact != PayFact::Paid {
        return Ok(());
    }
    // Never send an unknown amount as 0. Only a reported conversion can lack its amount.
    if record.payment.reported.is_some() && entry.amount.is_none() && entry.kind.is_sale() {
        return Ok(());
    }
    let site = ledger.settings.site(&line.site_id).context("the conversion's site is gone")?;
    let destinations: Vec<_> = ledger.settings.destinations_about(site).collect();
    if destinations.is_empty() {
        return Ok(());
    }
    let asks = |to: &&Destination| mapping::ask_for_stripe(to.options.message.rows.as_deref());
    let wants_event = destinations.iter().any(asks);
    let gathered = outgoing::gather(tx, ledger, sendable, wants_event).await?;
    for destination in destinations {
        let value = record.payment.value(destination.options.message.value).or(gathered.amount);
        let registered_click_id = outgoing::registered(tx, ledger, destination, line).await?;
        let outgoing = Outgoing { value, registered_click_id, ..gathered.clone() };
        let new = NewDelivery {
            destination,
            conversion_id: &record.id,
            outgoing: &outgoing,
            waits_for_visit: line.result == Match::Unmatched(UnmatchedReason::UnknownClickId),
            news_at: record.payment.paid_news_at.unwrap_or(line.recorded_at),
        };
        delivery::enqueue(tx, ledger.now, &new).await?;
        let currency = entry.amount.map(|amount| amount.currency);
        if let Some(currency) = currency
            && destination.options.events.sends_refunds
            && entry.adjusted.refunded > 0
        {
            let refunded = Money { minor: entry.adjusted.refunded, currency };
            delivery::enqueue_refund(tx, ledger.now, &new, refunded).await?;
        }
        if destination.options.events.sends_disputes && entry.adjusted.lost > 0 {
            delivery::enqueue_chargeback(tx, ledger.now, &new).await?;
        }
    }
    Ok(())
}
