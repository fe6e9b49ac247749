//! The ledger: turns every payment into one conversion, matched to a visit or with the reason why
//! not.
//! Takes a `Payment` read from an event, a visit that arrived late, or a match made by hand; writes
//! the conversion, its match, its touchpoints and its queued messages in the caller's transaction.
//! Guarantees that processing the same input twice, or in another order, gives the same
//! conversions.

mod adjusted;
pub(crate) mod adjustment;
mod amounts;
mod by_hand;
mod cascade;
mod changes;
mod duplicate;
mod enqueue;
mod entry;
pub(crate) mod join;
pub(crate) mod merge;
mod missing;
pub(crate) mod object;
mod outgoing;
pub(crate) mod payment;
mod provisional;
mod rebuild;
mod record;
pub(crate) mod reported;
mod reread;
mod retention;
mod settle;
mod sums;
mod table;
mod turn;

use std::collections::BTreeSet;

use anyhow::Result;

pub(crate) use by_hand::{MatchedByHand, match_by_hand, take_back_match};
pub(crate) use duplicate::{count_again, count_once};
pub(crate) use missing::Missing;
pub(crate) use outgoing::{outgoing, queue_past, rebuild_delivery};
pub(crate) use provisional::{forget_unnamed, promote_named};
pub(crate) use rebuild::{BESIDE_THE_LEDGER, LEDGER, forget, remove_unless_sent, take_turn};
pub(crate) use record::Ledger;
pub(crate) use reread::{reading_again, step as read_visits_again};
pub(crate) use retention::prune;
pub use retention::{Prune, Pruned};
pub(crate) use sums::{sum_days, unsum_all};
pub(crate) use table::IS_DUE;

use self::cascade::Before;
use self::join::Match;
use self::payment::{Contract, Payment};
use self::record::{Line, Record};
use crate::clock::Timestamp;
use crate::delivery;
use crate::ids;
use crate::store::{AnyConnection, Store, Tx};

/// Payments re-matched in one call of [`rejoin`]; the others wait for the next call.
const REJOINS_AT_A_TIME: i64 = 100;

/// The result of processing an event.
#[derive(Clone, Debug)]
pub(crate) struct Processed {
    /// The conversion that the event belongs to, if there is one yet.
    pub(crate) conversion_id: Option<String>,
    /// What the event changed, as sentences for people; empty if it contained nothing new.
    pub(crate) changes: Vec<String>,
    /// True if the conversion existed before, and its status and amounts did not change.
    pub(crate) is_repeat: bool,
    /// The visit it is matched to, or the reason why there is none.
    pub(crate) result: Option<Match>,
    /// What to ask Stripe's API for, to complete the payment.
    pub(crate) missing: Vec<Missing>,
}

impl Processed {
    fn new(before: Option<&Line>, record: Record, changes: Vec<String>) -> Self {
        let state = |line: &Line| {
            let money = [line.refunded_minor, line.disputed_minor, line.lost_minor];
            (line.status, line.amount_minor, line.currency.clone(), money)
        };
        let Record { id, payment, line: now, .. } = record;
        Self {
            missing: now.as_ref().map(|line| missing::of(&payment, line)).unwrap_or_default(),
            is_repeat: before.is_some() && before.map(state) == now.as_ref().map(state),
            conversion_id: now.as_ref().map(|_| id),
            result: now.map(|line| line.result),
            changes,
        }
    }
}

/// The stored facts of a reported conversion with this key.
pub(crate) async fn reported(tx: &mut Tx, account: &str, key: &str) -> Result<Option<Payment>> {
    turn::take_account(tx, account).await?;
    match table::groups_of(tx, account, &BTreeSet::from([key])).await?.first() {
        Some(id) => Ok(table::find(tx, id).await?.map(|record| record.payment)),
        None => Ok(None),
    }
}

/// Processes a payment: writes its conversion, match, touchpoints, Stripe objects and queued
/// messages.
pub(crate) async fn process(
    tx: &mut Tx,
    ledger: Ledger<'_>,
    payment: Payment,
) -> Result<Processed> {
    let ids = payment.identity().into_iter().chain(payment.lineage());
    turn::take(tx, &payment.account, ids).await?;
    let known = table::groups_of(tx, &payment.account, &payment.identity()).await?;
    let (is_one, was_merged) = (known.len() == 1, known.len() > 1);
    let mut record = gather(tx, ledger, &payment.account, known).await?;
    let facts = record.payment.clone();
    record.payment.absorb(payment);
    if is_one && record.payment == facts {
        let before = record.line.clone();
        return Ok(Processed::new(before.as_ref(), record, Vec::new()));
    }
    let before = Before { line: record.line.clone(), was_merged };
    cascade::settle_with_dependents(tx, ledger, &mut record, &before).await?;
    let before = before.line.as_ref();
    let changes = changes::describe(ledger.settings, before, &facts, &record);
    Ok(Processed::new(before, record, changes))
}

/// Loads the payment that has these IDs: the stored one, a new one, or several stored ones merged
/// because they turned out to be one.
async fn gather(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    account: &str,
    known: BTreeSet<String>,
) -> Result<Record> {
    let mut ranked = Vec::new();
    for id in known {
        let record = table::load(tx, &id).await?;
        let facts = delivery::progress(tx, &id).await?;
        let has_session = !record.payment.sessions.is_empty();
        // Keep the one whose message was sent, else the one with a queued message, else the one
        // with a checkout, else the oldest.
        ranked.push(((std::cmp::Reverse((facts, has_session)), id), record));
    }
    ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut records = ranked.into_iter().map(|(_, record)| record);
    let Some(mut stays) = records.next() else {
        return Ok(Record {
            id: ids::new_record_id("cnv_", ledger.now),
            payment: Payment { account: account.to_owned(), ..Payment::default() },
            contract: Contract::default(),
            recorded_at: ledger.now,
            line: None,
            is_stored: false,
        });
    };
    for goes in records {
        delivery::adopt(tx, &goes.id, &stays.id).await?;
        sums::unsum(tx, ledger.now, [goes.line.as_ref(), None]).await?;
        table::merge(tx, &goes.id, &stays.id).await?;
        table::learn(tx, account, &stays.id, &settle::objects(&goes)).await?;
        stays.recorded_at = stays.recorded_at.min(goes.recorded_at);
        stays.payment.absorb(goes.payment);
    }
    Ok(stays)
}

/// Stores facts about a subscription and re-matches its payments. Returns what changed.
pub(crate) async fn learn_contract(
    tx: &mut Tx,
    ledger: Ledger<'_>,
    contract: Contract,
) -> Result<Vec<String>> {
    let customers = [&contract.customer, &contract.customer_account].into_iter().flatten();
    let ids = [&contract.subscription].into_iter().chain(customers).map(String::as_str);
    turn::take(tx, &contract.account, ids).await?;
    let known = table::contract(tx, &contract.account, &contract.subscription).await?;
    let before = known.unwrap_or_default();
    let mut after = before.clone();
    after.absorb(contract);
    if after == before {
        return Ok(Vec::new());
    }
    table::save_contract(tx, &after).await?;
    let payments = table::payments_of_subscription(tx, &after.account, &after.subscription).await?;
    if payments.len() > cascade::REMATCHED_AT_ONCE {
        table::settle_later(tx, &payments).await?;
    } else {
        for id in &payments {
            settle_again(tx, ledger, id).await?;
        }
    }
    Ok(vec![match payments.len() {
        0 => "Recorded the subscription’s customer. Its first payment has not arrived yet."
            .to_owned(),
        1 => "Recorded the subscription’s customer and matched its payment again.".to_owned(),
        n => format!("Recorded the subscription’s customer and matched its {n} payments again."),
    }])
}

/// True while payments wait to be re-matched because a payment that they depend on changed.
pub(crate) async fn has_unsettled(store: &Store) -> Result<bool> {
    table::has_unsettled(store).await
}

/// Re-matches payments whose awaited visit, AnyTrack click ID or checkout has arrived, or whose
/// wait is over. Returns how many it tried.
pub(crate) async fn rejoin(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let waiting = table::payments_to_settle(store, ledger.now, REJOINS_AT_A_TIME).await?;
    let mut first_error = None;
    for (account, id) in &waiting {
        match join_again(store, ledger, account, id).await {
            Ok(()) => {
                tracing::info!(
                    conversion = id,
                    "matched a payment again, because what it waited for has arrived"
                );
            }
            // One payment that cannot be read must not keep the others from being re-matched.
            Err(error) => {
                first_error.get_or_insert(error.context(format!("conversion {id}")));
            }
        }
    }
    first_error.map_or(Ok(waiting.len()), Err)
}

/// Moves the unmatched payments of a source to its new site. Only notes them; [`rejoin`] moves them
/// when it re-matches them.
pub(crate) async fn move_with_source(store: &Store, source_id: &str, from: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::move_with_source(&mut tx, source_id, from).await?;
    tx.commit().await
}

/// Ends the wait for this subscription's checkout, because Stripe says that there is none.
pub(crate) async fn end_hold(
    store: &Store,
    now: Timestamp,
    account: &str,
    subscription: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    turn::take(&mut tx, account, [subscription]).await?;
    table::end_hold(&mut tx, now, account, subscription).await?;
    tx.commit().await
}

/// Re-matches one payment in a transaction of its own, with everything that depends on it.
pub(crate) async fn join_again(
    store: &Store,
    ledger: Ledger<'_>,
    account: &str,
    id: &str,
) -> Result<()> {
    let (mut tx, settings) = ledger.begin(store).await?;
    let ledger = ledger.with(&settings);
    turn::take_around(&mut tx, account, id).await?;
    settle_again(&mut tx, ledger, id).await?;
    table::is_settled(&mut tx, id).await?;
    tx.commit().await
}

/// Re-matches a stored payment and the payments that depend on it.
async fn settle_again(tx: &mut AnyConnection, ledger: Ledger<'_>, id: &str) -> Result<()> {
    // It may have been merged into another payment since its ID was read.
    let Some(mut record) = table::find(tx, id).await? else { return Ok(()) };
    let before = Before { line: record.line.clone(), was_merged: false };
    cascade::settle_with_dependents(tx, ledger, &mut record, &before).await
}
