//! The ledger: every payment becomes one conversion, matched or explained.
//! In: a `Payment` that an event states, a visit that arrived late, a match made by hand. Out: the conversion, its match, its touches and what
//! is owed, in the caller's transaction.
//! Promise: running anything twice, or in another order, gives the same conversions.

pub(crate) mod adjustment;
mod amounts;
mod by_hand;
mod cascade;
mod changes;
mod duplicate;
mod entry;
pub(crate) mod join;
mod missing;
mod outgoing;
mod owed;
pub(crate) mod payment;
mod provisional;
mod rebuild;
pub(crate) mod reported;
mod retention;
mod settle;
mod sums;
mod table;
mod turn;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;

pub(crate) use by_hand::{MatchedByHand, match_by_hand, take_back_match};
pub(crate) use duplicate::{count_again, count_once};
pub(crate) use missing::Missing;
pub(crate) use outgoing::{outgoing, queue_past, rebuild_delivery};
pub(crate) use provisional::{forget_unnamed, promote_named};
pub(crate) use rebuild::{BESIDE_THE_LEDGER, LEDGER, forget, remove_unless_told, take_turn};

pub(crate) use retention::prune;
pub use retention::{Prune, Pruned};
pub(crate) use sums::{sum_days, unsum_all};
pub(crate) use table::IS_DUE;

use self::cascade::Before;
use self::join::Match;
use self::payment::{Contract, Payment};
use crate::clock::Timestamp;
use crate::delivery;
use crate::ids::{self, ClickIdKey};
use crate::settings::{Settings, Snapshot};
use crate::store::{AnyConnection, Store, Tx};

/// Payments settled in one go; the rest waits for the next round.
const REJOINS_AT_A_TIME: i64 = 100;

/// What the ledger works with.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) keys: &'a ClickIdKey,
    pub(crate) settings: &'a Arc<Snapshot>,
    /// Where later settings come from; `None` keeps the ones above, whatever changes meanwhile: for a ledger that is rebuilt in scratch tables.
    pub(crate) later: Option<&'a Settings>,
    pub(crate) now: Timestamp,
}

impl Ledger<'_> {
    /// Begins a transaction that writes conversions and what follows from them, and returns the settings of that moment: work with these, see
    /// [`Ledger::with`]. On PostgreSQL nobody changes settings until it ends.
    pub(crate) async fn begin(&self, store: &Store) -> Result<(Tx, Arc<Snapshot>)> {
        match self.later {
            Some(settings) => settings.begin(store).await,
            None => Ok((store.begin().await?, self.settings.clone())),
        }
    }

    /// The same with other settings.
    pub(crate) fn with<'b>(&'b self, settings: &'b Arc<Snapshot>) -> Ledger<'b> {
        Ledger { settings, ..*self }
    }
}

/// A payment in hand: its facts, and the ledger's line as it was written last.
#[derive(Clone, Debug)]
struct Record {
    id: String,
    payment: Payment,
    /// What is known of its subscription.
    contract: Contract,
    /// When we first heard of it.
    recorded_at: Timestamp,
    /// None while its facts only teach.
    line: Option<Line>,
    is_stored: bool,
}

/// A line of the ledger, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    site_id: String,
    source_id: String,
    livemode: bool,
    kind: String,
    status: String,
    occurred_at: Timestamp,
    paid_at: Option<Timestamp>,
    amount_minor: Option<i64>,
    currency: Option<String>,
    refunded_minor: i64,
    disputed_minor: i64,
    lost_minor: i64,
    transaction_id: String,
    client_reference_id: Option<String>,
    email: Option<String>,
    description: Option<String>,
    /// Whose receipt it may be.
    receipt_customer: Option<String>,
    result: Match,
    /// Nothing is owed before: its checkout may still come.
    owed_from: Option<Timestamp>,
    recorded_at: Timestamp,
}

/// What came of an event.
#[derive(Clone, Debug)]
pub(crate) struct Processed {
    /// The conversion it belongs to, if there is one yet.
    pub(crate) conversion_id: Option<String>,
    /// What it changed, in sentences; empty when all of it was known.
    pub(crate) changes: Vec<String>,
    /// True when the conversion was there before, and its status and money stayed what they were.
    pub(crate) is_repeat: bool,
    /// Which visit it is matched to, or why to none.
    pub(crate) result: Option<Match>,
    /// What Stripe can be asked for to complete it.
    pub(crate) missing: Vec<Missing>,
}

impl Processed {
    fn new(before: Option<&Line>, record: Record, changes: Vec<String>) -> Self {
        let state = |line: &Line| {
            let money = [line.refunded_minor, line.disputed_minor, line.lost_minor];
            (line.status.clone(), line.amount_minor, line.currency.clone(), money)
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

/// What is known of a reported conversion with this key.
pub(crate) async fn reported(tx: &mut Tx, account: &str, key: &str) -> Result<Option<Payment>> {
    turn::take_account(tx, account).await?;
    match table::groups_of(tx, account, &BTreeSet::from([key])).await?.first() {
        Some(id) => Ok(table::find(tx, id).await?.map(|record| record.payment)),
        None => Ok(None),
    }
}

/// Writes what a payment means: conversion, match, touches, learned objects, and what is owed.
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
    let changes = changes::told(ledger.settings, before, &facts, &record);
    Ok(Processed::new(before, record, changes))
}

/// The one payment that these groups are: the stored one, a new one, or several that turn out to be one.
async fn gather(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    account: &str,
    known: BTreeSet<String>,
) -> Result<Record> {
    let mut ranked = Vec::new();
    for id in known {
        let record = table::load(tx, &id).await?;
        let told = delivery::told_of(tx, &id).await?;
        let has_session = !record.payment.sessions.is_empty();
        // The one that was sent stays, else the one that is owed, else the one with a checkout, else the oldest.
        ranked.push(((std::cmp::Reverse((told, has_session)), id), record));
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

/// Learns what an event says of a subscription itself, and judges its payments again. Answers what changed.
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
        0 => "Learned whose subscription it is. Waits for its first payment.".to_owned(),
        1 => "Learned whose subscription it is; its payment was judged again.".to_owned(),
        n => format!("Learned whose subscription it is; its {n} payments were judged again."),
    }])
}

/// True while payments are noted to be judged again because others, on which they depend, changed.
pub(crate) async fn has_unsettled(store: &Store) -> Result<bool> {
    table::has_unsettled(store).await
}

/// Joins again what waited for a visit, a note or a checkout. Answers how many payments it looked at.
pub(crate) async fn rejoin(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let waiting = table::payments_to_settle(store, ledger.now, REJOINS_AT_A_TIME).await?;
    let mut first_trouble = None;
    for (account, id) in &waiting {
        match join_again(store, ledger, account, id).await {
            Ok(()) => {
                tracing::info!(conversion = id, "joined again: what it waited for has arrived");
            }
            // The others must not wait behind one that cannot be read.
            Err(error) => {
                first_trouble.get_or_insert(error.context(format!("conversion {id}")));
            }
        }
    }
    first_trouble.map_or(Ok(waiting.len()), Err)
}

/// A source was moved from a site to another one: its payments that no visit gives a site move with it, as soon as they are judged again.
pub(crate) async fn move_with_source(store: &Store, source_id: &str, from: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::move_with_source(&mut tx, source_id, from).await?;
    tx.commit().await
}

/// Sends what waits for the checkout of this subscription: there is none.
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

/// Judges a payment again, with everything that follows.
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

/// Judges a stored payment again, and what depends on it.
async fn settle_again(tx: &mut AnyConnection, ledger: Ledger<'_>, id: &str) -> Result<()> {
    // It may have been merged into another one since somebody read its ID.
    let Some(mut record) = table::find(tx, id).await? else { return Ok(()) };
    let before = Before { line: record.line.clone(), was_merged: false };
    cascade::settle_with_dependents(tx, ledger, &mut record, &before).await
}
