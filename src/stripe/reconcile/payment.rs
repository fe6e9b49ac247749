//! Compares payments: completed checkouts, paid invoices, and payment intents without either.
//! Takes Stripe's records; adds each payment and its conversion to the outcome, and the conversions that Stripe does not list.
//! A checkout, its invoice and its payment intent are one payment and counted once.

use std::collections::BTreeSet;

use anyhow::Result;

use super::comparison::{Comparison, Here, Outcome, PAID_WITHIN};
use super::list::{self, Records};
use super::object::{self, Paid};
use super::result::{Kind, NotCompared, Part};
use super::sheet::{Found, Item, shown};
use super::{fix, table};
use crate::stripe::api::ApiError;
use crate::stripe::backfill;

/// Moves the payment intents that count as payments of their own into the payments, and says which were not compared.
pub(super) async fn add_bare_intents(
    comparison: &Comparison<'_>,
    records: &mut Records,
    outcome: &mut Outcome<'_>,
) -> Result<()> {
    let left_out = |why: String| NotCompared::all(Part::PaymentIntents, why);
    if !records.complete.contains(&Part::PaymentIntents) {
        return Ok(());
    }
    if !(records.complete.contains(&Part::Checkouts) && records.complete.contains(&Part::Invoices))
    {
        records.complete.remove(&Part::PaymentIntents);
        let why = "without checkouts and invoices it is not known which payments these are";
        outcome.not_compared.push(left_out(why.to_owned()));
        return Ok(());
    }
    let source = comparison.records.source;
    if !source.record_bare_payment_intents {
        outcome.not_compared.push(left_out(format!(
            "the webhook “{}” records only those with the metadata “{}”",
            source.key, source.metadata_key
        )));
    }
    for intent in std::mem::take(&mut records.intents) {
        let id = &intent.paid.id;
        records.owned.insert(id.clone());
        let here = table::here(comparison.store, comparison.account, id).await?;
        let is_recorded = source.record_bare_payment_intents || intent.has_metadata;
        match here {
            Some(here) if here.transaction_id != *id => continue, // Its checkout or invoice is older than the range.
            Some(here) if here.is_paid => {}
            _ if !is_recorded || intent.is_of_invoice => continue,
            _ => match list::has_owner(comparison, id).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(ApiError::Denied(why)) => {
                    outcome.not_compared.push(left_out(why));
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            },
        }
        records.paid.push(intent.paid);
    }
    Ok(())
}

/// Compares every payment in Stripe's records.
pub(super) async fn compare(
    comparison: &Comparison<'_>,
    records: &Records,
    outcome: &mut Outcome<'_>,
) -> Result<()> {
    let (store, account) = (comparison.store, comparison.account);
    let of_sessions: BTreeSet<&String> =
        records.paid.iter().filter_map(|paid| paid.invoice.as_ref()).collect();
    for paid in &records.paid {
        let here = table::here(store, account, &paid.id).await?;
        let is_of_session = here.as_ref().is_some_and(|here| here.transaction_id != paid.id);
        if paid.part == Part::Invoices && (of_sessions.contains(&paid.id) || is_of_session) {
            continue; // It is its checkout's payment, and counted there.
        }
        if here.as_ref().is_some_and(|here| here.status == "duplicate") {
            continue; // Its owner said that it is the receipt of a payment that is counted.
        }
        let counted = here.as_ref().filter(|here| here.is_paid).and_then(|here| here.money);
        let mut difference = None;
        if counted != Some(paid.money) {
            let arrived = table::arrived(store, account, &paid.id).await?;
            difference = Some(Found {
                conversion_id: here.as_ref().map(|here| here.id.clone()),
                stripe: Some(shown(paid.money)),
                here: here.as_ref().map(shown_here),
                fix: fix::payment(here.as_ref(), arrived.as_ref()),
            });
            if here.is_none_or(|here| !here.is_paid) {
                outcome.missing.push(backfill::as_event(paid.event(), account, &paid.raw));
            }
        }
        outcome.sheet.add(Item {
            kind: Kind::Payment,
            id: &paid.id,
            created: paid.created,
            stripe: Some(paid.money),
            here: counted,
            difference,
        });
    }
    surplus(comparison, records, outcome).await
}

fn shown_here(here: &Here) -> String {
    match here.money {
        Some(money) if here.is_paid => shown(money),
        Some(money) => format!("{}, {}", shown(money), here.status),
        None => here.status.clone(),
    }
}

/// Adds conversions whose payment Stripe does not list, or lists as a part of another one.
async fn surplus(
    comparison: &Comparison<'_>,
    records: &Records,
    outcome: &mut Outcome<'_>,
) -> Result<()> {
    let (store, account, range) = (comparison.store, comparison.account, comparison.range);
    let listed: BTreeSet<&String> = records.paid.iter().map(|Paid { id, .. }| id).collect();
    let payers = records.payers();
    let late = range.until.plus(PAID_WITHIN);
    for (id, candidate) in table::candidates(comparison, late).await? {
        let part = candidate.part;
        let is_of_session = part != Part::Checkouts && candidate.here.transaction_id != id;
        let is_others = !comparison.records.sources.contains(&candidate.source_id);
        let Some(money) = candidate.here.money else { continue };
        let is_nothing = part != Part::Checkouts && money.minor == 0;
        let is_known = listed.contains(&id) || !records.complete.contains(&part);
        if is_known || is_of_session || is_others || is_nothing {
            continue;
        }
        let mut fix = fix::surplus("payment", &candidate.here.id);
        if records.owned.contains(&id) {
            let Some(payer) = payers.get(id.as_str()) else { continue };
            let counted = table::here(store, account, &payer.id).await?.filter(|it| it.is_paid);
            if counted.is_none_or(|it| it.id == candidate.here.id) {
                continue; // Its checkout or invoice is missing, which is a difference of its own.
            }
            fix = fix::counted_twice(&payer.id);
            let tie = payer.invoice_payment(&id);
            let event = tie.map(|tie| backfill::as_event("invoice_payment.paid", account, &tie));
            outcome.missing.extend(event);
        }
        let body = table::body(store, &candidate.event).await?;
        let Some(created) = object::created_in(&body).filter(|at| range.contains(*at)) else {
            continue;
        };
        outcome.sheet.add(Item {
            kind: Kind::Payment,
            id: &id,
            created,
            stripe: None,
            here: Some(money),
            difference: Some(Found {
                conversion_id: Some(candidate.here.id.clone()),
                stripe: None,
                here: Some(shown(money)),
                fix,
            }),
        });
    }
    Ok(())
}
