//! The ledger: every payment becomes one conversion, matched or explained.
//! In: a `Payment` that an event states, or a visit that arrived late. Out: the conversion, its match, its touches and what is owed, in the caller's transaction.
//! Promise: running anything twice, or in another order, gives the same conversions.

pub(crate) mod join;
mod outgoing;
pub(crate) mod payment;
mod rebuild;
mod table;

use anyhow::{Context as _, Result};

pub(crate) use rebuild::{BESIDE_THE_LEDGER, LEDGER, forget, remove_unless_told, take_turn};

use self::join::{Found, Match, Reason, Reference};
use self::payment::{PayFact, Payment};
use crate::clock::Timestamp;
use crate::delivery::{self, Owed, Retried};
use crate::destination::Outgoing;
use crate::ids::{self, ClickId, ClickIdKey};
use crate::settings::{Destination, Snapshot, Source};
use crate::store::{AnyConnection, Store, Tx};
use crate::visit::{self, Visit};

/// Late visits joined in one go; the rest waits for the next round.
const REJOINS_AT_A_TIME: i64 = 100;

/// What the ledger works with.
#[derive(Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) keys: &'a ClickIdKey,
    pub(crate) settings: &'a Snapshot,
    pub(crate) now: Timestamp,
}

/// A conversion as stored, with what follows from it.
#[derive(Clone, Debug)]
struct Record {
    id: String,
    source_id: String,
    site_id: String,
    payment: Payment,
    result: Match,
    recorded_at: Timestamp,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A conversion is new.
    Recorded,
    /// Something more is known of one.
    Completed,
    /// Everything was known already.
    Nothing,
}

/// The outcome of processing a payment.
#[derive(Clone, Debug)]
pub(crate) struct Processed {
    pub(crate) conversion_id: String,
    pub(crate) change: Change,
}

/// Writes what a payment means: conversion, match, touches, learned objects, and what is owed.
pub(crate) async fn process(
    tx: &mut Tx,
    ledger: Ledger<'_>,
    source: &Source,
    payment: Payment,
) -> Result<Processed> {
    table::take_turn(tx, &payment.account).await?;
    let known = table::conversion_of(tx, &payment).await?;
    let (mut record, change) = match known {
        None => {
            let record = Record {
                id: ids::new_record_id("cnv_", ledger.now),
                source_id: source.id.clone(),
                site_id: source.site_id.clone(),
                payment,
                result: Match::Unmatched(Reason::NoReference),
                recorded_at: ledger.now,
            };
            (record, Change::Recorded)
        }
        Some(id) => {
            let mut record = table::load(tx, &id).await?;
            let before = record.payment.clone();
            record.payment.absorb(payment);
            let change = if record.payment == before { Change::Nothing } else { Change::Completed };
            (record, change)
        }
    };
    if change != Change::Nothing {
        settle(tx, ledger, &mut record).await?;
        settle_neighbours(tx, ledger, &record).await?;
    }
    Ok(Processed { conversion_id: record.id, change })
}

/// Joins again what waited for a visit or a note that has arrived since. Answers how many conversions it looked at.
pub(crate) async fn rejoin(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let waiting = table::conversions_no_longer_waiting(store, REJOINS_AT_A_TIME).await?;
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

/// Judges a conversion again, with everything that follows.
pub(crate) async fn join_again(
    store: &Store,
    ledger: Ledger<'_>,
    account: &str,
    id: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::take_turn(&mut tx, account).await?;
    let mut record = table::load(&mut tx, id).await?;
    settle(&mut tx, ledger, &mut record).await?;
    settle_neighbours(&mut tx, ledger, &record).await?;
    tx.commit().await
}

/// What is known of a conversion's visitor.
struct Judged {
    /// Our genuine click ID that came back from Stripe.
    genuine: Option<ClickId>,
    /// The visitor's way, first touch first.
    way: Vec<Visit>,
    /// IDs whose visit or note may still arrive.
    awaited: Vec<String>,
}

/// Judges a conversion from all that is known, and writes it with everything that follows.
async fn settle(tx: &mut AnyConnection, ledger: Ledger<'_>, record: &mut Record) -> Result<()> {
    let judged = judge(tx, ledger, record).await?;
    table::save(tx, ledger.now, record).await?;
    table::save_touches(tx, &record.id, &judged.way).await?;
    table::save_waits(tx, &record.id, judged.awaited.iter()).await?;
    table::learn(tx, record).await?;
    owe(tx, ledger, record, &judged).await
}

/// Which visit led to a conversion, and which site it so belongs to. Reads only.
async fn judge(tx: &mut AnyConnection, ledger: Ledger<'_>, record: &mut Record) -> Result<Judged> {
    let source =
        ledger.settings.source(&record.source_id).context("the conversion's source is gone")?;
    let payment = &record.payment;
    let metadata = payment.metadata.get(&source.metadata_key);
    let reference = look_up(tx, ledger.keys, payment.client_reference_id.as_deref()).await?;
    let tagged = look_up(tx, ledger.keys, metadata.map(String::as_str)).await?;
    let mut found = Found {
        by_click_id: reference.visit_of_ours,
        by_anytrack_id: reference.visit_of_note,
        by_metadata: tagged.visit_of_ours.or(tagged.visit_of_note),
        by_stripe_object: None,
    };
    if found.by_click_id.is_none() && found.by_anytrack_id.is_none() && found.by_metadata.is_none()
    {
        found.by_stripe_object = table::lent_click_id(tx, &record.id, payment).await?;
    }
    record.result = join::decide(reference.judged.as_ref(), found);
    let last = match &record.result {
        Match::Matched { click_id, .. } => visit::find(tx, click_id).await?,
        Match::Unmatched(_) => None,
    };
    let genuine = match reference.judged {
        Some(Reference::Genuine(id)) if !id.is_client_made() => Some(id),
        _ => None,
    };
    record.site_id = site_of(ledger, source, last.as_ref(), genuine.as_ref());
    let (way, gap) = match last {
        Some(last) => visit::way_to(tx, last).await?,
        None => (Vec::new(), None),
    };
    let gap = gap.filter(|id| id.is_client_made() || ledger.keys.read(id).is_some());
    let gap = gap.map(|id| id.as_str().to_owned());
    let awaited = [reference.awaited, tagged.awaited, gap].into_iter().flatten().collect();
    Ok(Judged { genuine, way, awaited })
}

/// What a text from Stripe leads to.
#[derive(Default)]
struct LookedUp {
    judged: Option<Reference>,
    visit_of_ours: Option<ClickId>,
    visit_of_note: Option<ClickId>,
    /// The text itself, when a visit or a note may still arrive for it.
    awaited: Option<String>,
}

async fn look_up(
    tx: &mut AnyConnection,
    keys: &ClickIdKey,
    text: Option<&str>,
) -> Result<LookedUp> {
    let Some(text) = text else { return Ok(LookedUp::default()) };
    let judged = join::judge(keys, text);
    let signed = |visit: Visit| visit.click_id;
    let (mut ours, mut note) = (None, None);
    match &judged {
        Reference::Genuine(id) => ours = visit::find(tx, id).await?.map(signed),
        Reference::Foreign => note = visit::find_by_anytrack_id(tx, text).await?.map(signed),
        Reference::Placeholder | Reference::Forged => {}
    }
    let may_arrive = matches!(judged, Reference::Genuine(_))
        || (judged == Reference::Foreign && text.bytes().all(|b| b.is_ascii_alphanumeric()));
    let awaited = (may_arrive && ours.is_none() && note.is_none()).then(|| text.to_owned());
    Ok(LookedUp { judged: Some(judged), visit_of_ours: ours, visit_of_note: note, awaited })
}

/// The visit's site; else the one its click ID was minted for; else the source's.
fn site_of(
    ledger: Ledger<'_>,
    source: &Source,
    visit: Option<&Visit>,
    genuine: Option<&ClickId>,
) -> String {
    let minted = || {
        let minted = ledger.keys.read(genuine?)?;
        ledger.settings.site_by_number(minted.site_number).map(|site| site.id.clone())
    };
    visit
        .map(|visit| visit.site_id.clone())
        .or_else(minted)
        .unwrap_or_else(|| source.site_id.clone())
}

/// What is owed because of this conversion. Nothing is owed before it is paid. A site that changed by joining again owes to the new
/// site's destinations too; what the old one's were told, or are owed, stays as it is.
async fn owe(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    record: &Record,
    judged: &Judged,
) -> Result<()> {
    let mut destinations = ledger.settings.destinations_of(&record.site_id).peekable();
    if record.payment.pay_fact != PayFact::Paid || destinations.peek().is_none() {
        return Ok(());
    }
    let outgoing = outgoing::gather(tx, ledger, record, judged).await?;
    for destination in destinations {
        let owed = Owed {
            destination,
            conversion_id: &record.id,
            outgoing: &outgoing,
            waits_for_visit: record.result == Match::Unmatched(Reason::UnknownClickId),
            recorded_at: record.recorded_at,
        };
        delivery::owe(tx, ledger.now, &owed).await?;
    }
    Ok(())
}

/// What destinations may know of a conversion today; `None` when there is no such conversion.
pub(crate) async fn outgoing(
    store: &Store,
    ledger: Ledger<'_>,
    id: &str,
) -> Result<Option<Outgoing>> {
    let mut connection = store.connection().await?;
    if !table::exists(&mut connection, id).await? {
        return Ok(None);
    }
    let mut record = table::load(&mut connection, id).await?;
    let judged = judge(&mut connection, ledger, &mut record).await?;
    outgoing::gather(&mut connection, ledger, &record, &judged).await.map(Some)
}

/// Owes a destination a paid conversion of the time before it existed. Answers false when there is nothing to owe.
pub(crate) async fn owe_past(
    store: &Store,
    ledger: Ledger<'_>,
    destination: &Destination,
    id: &str,
) -> Result<bool> {
    let Some(outgoing) = outgoing(store, ledger, id).await? else { return Ok(false) };
    let owed = Owed {
        destination,
        conversion_id: id,
        outgoing: &outgoing,
        waits_for_visit: false,
        recorded_at: ledger.now, // Asked for now, so its age is no reason.
    };
    let mut tx = store.begin().await?;
    delivery::owe_anyway(&mut tx, ledger.now, &owed).await?;
    tx.commit().await?;
    Ok(true)
}

/// Makes a delivery's message anew from today's mapping and match, and owes it again. Its transaction ID stays what it was.
pub(crate) async fn rebuild_delivery(
    store: &Store,
    ledger: Ledger<'_>,
    delivery_id: &str,
) -> Result<Retried> {
    let Some((destination_id, conversion_id)) = delivery::subject(store, delivery_id).await? else {
        return Ok(Retried::NotFound);
    };
    let Some(destination) = ledger.settings.destination(&destination_id) else {
        return Ok(Retried::NotRetryable("destination_deleted".to_owned()));
    };
    let Some(outgoing) = outgoing(store, ledger, &conversion_id).await? else {
        return Ok(Retried::NotFound);
    };
    delivery::rebuild(store, ledger.now, delivery_id, destination, &outgoing).await
}

fn transaction_id(payment: &Payment) -> Result<&str> {
    payment.transaction_id().context("a payment has at least one identity")
}

/// Judges again what may borrow from this conversion: unmatched ones, and ones that borrowed already, of the same buyer.
async fn settle_neighbours(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    record: &Record,
) -> Result<()> {
    for id in table::borrowers(tx, &record.id, &record.payment).await? {
        let mut neighbour = table::load(tx, &id).await?;
        settle(tx, ledger, &mut neighbour).await?;
    }
    Ok(())
}
