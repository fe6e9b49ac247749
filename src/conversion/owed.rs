//! What is owed because of a conversion.
//! In: a line of the ledger. Out: messages for each destination of its site, in the same transaction.
//! Promise: nothing is owed before it is paid and its transaction ID is final; refunds and lost disputes only where a destination asks for them.

use anyhow::Result;

use super::entry::Entry;
use super::join::{By, Match, Reason};
use super::payment::PayFact;
use super::{Ledger, Line, Record};
use crate::delivery::{self, Owed};
use crate::destination::{News, Outgoing};
use crate::ids::ClickId;
use crate::money::Money;
use crate::store::AnyConnection;
use crate::visit;

pub(super) async fn owe(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    record: &Record,
    line: &Line,
    entry: &Entry,
    genuine: Option<&ClickId>,
) -> Result<()> {
    if entry.pay_fact != PayFact::Paid {
        return Ok(());
    }
    // An unknown amount is never told as 0; only what is reported can lack one.
    let is_sale = matches!(entry.kind.as_str(), "purchase" | "renewal");
    if record.payment.reported.is_some() && entry.amount.is_none() && is_sale {
        return Ok(());
    }
    let matched = match &line.result {
        Match::Matched { click_id, .. } => Some(click_id),
        Match::Unmatched(_) => None,
    };
    let anytrack_click_id = match matched {
        Some(click_id) => visit::anytrack_id_of(tx, click_id).await?,
        None => None,
    };
    let is_captured = matches!(line.result, Match::Matched { by: By::AnytrackClickId, .. });
    for destination in ledger.settings.destinations_of(&line.site_id) {
        let outgoing = Outgoing {
            news: News::Paid,
            kind: line.kind.clone(),
            status: line.status.clone(),
            livemode: line.livemode,
            is_matched: matched.is_some(),
            value: record.payment.value(destination.options.value),
            email: line.email.clone(),
            transaction_id: line.transaction_id.clone(),
            reference: line.client_reference_id.clone(),
            reference_was_captured: is_captured,
            click_id: matched.or(genuine).map(|id| id.as_str().to_owned()),
            anytrack_click_id: anytrack_click_id.clone(),
        };
        let owed = Owed {
            destination,
            conversion_id: &record.id,
            outgoing: &outgoing,
            waits_for_visit: line.result == Match::Unmatched(Reason::UnknownClickId),
        };
        delivery::owe(tx, ledger.now, &owed).await?;
        let currency = entry.amount.map(|amount| amount.currency);
        if let Some(currency) = currency
            && destination.options.sends_refunds
            && entry.adjusted.refunded > 0
        {
            let refunded = Money { minor: entry.adjusted.refunded, currency };
            delivery::owe_refund(tx, ledger.now, &owed, refunded).await?;
        }
        if destination.options.sends_disputes && entry.adjusted.lost > 0 {
            delivery::owe_chargeback(tx, ledger.now, &owed).await?;
        }
    }
    Ok(())
}
