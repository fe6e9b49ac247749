//! Re-computes a payment's conversion from all that is known.
//! Takes a payment's facts; writes its conversion, touchpoints, awaited visits, Stripe objects and
//! queued messages.
//! Guarantees that everything is computed from all facts each time, and written only where it
//! differs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::entry::Entry;
use super::join::{self, Found, Match, Origin, Reference};
use super::payment::{Mode, PayFact, Payment};
use super::{Ledger, Line, Record, enqueue, sums, table};
use crate::clock::Timestamp;
use crate::delivery;
use crate::domain::ConversionStatus;
use crate::ids::{ClickId, ClickIdKey};
use crate::money::Money;
use crate::settings::Source;
use crate::store::AnyConnection;
use crate::visit::{self, Visit};

/// How long a payment that its own reference matched waits for a checkout, which would change its
/// transaction ID.
const SHORT_HOLD: Duration = Duration::from_secs(3);
/// How long other payments without a checkout wait for it.
const LONG_HOLD: Duration = Duration::from_secs(60);

/// How long an unmatched first invoice of a subscription waits for its checkout: without the
/// checkout the destination gets no click ID, and Stripe may retry its webhook only after minutes.
/// With an API key, we ask Stripe after a minute, and its answer ends the wait.
const FIRST_INVOICE_HOLD: Duration = Duration::from_secs(60 * 60);

/// Returns the end of the hold. A hold can be shortened or ended, but never starts again.
fn held_until(line: Option<&Line>, until: Timestamp) -> Option<Timestamp> {
    match line {
        Some(line) if line.paid_at.is_some() => line.enqueue_after.map(|known| known.min(until)),
        Some(_) | None => Some(until),
    }
}

/// Every object ID that this payment can be found by, each with its role.
pub(super) fn objects(record: &Record) -> BTreeSet<(&str, &'static str)> {
    let (payment, contract) = (&record.payment, &record.contract);
    let identity = payment.identity().into_iter().map(|id| (id, "identity"));
    let lineage = payment.lineage().into_iter().map(|id| (id, "lineage"));
    let of_contract = [&contract.customer, &contract.customer_account]
        .into_iter()
        .filter_map(|id| Some((id.as_deref()?, "lineage")));
    identity.chain(lineage).chain(of_contract).collect()
}

/// Computes the payment's conversion and writes it with everything that follows. Returns true if
/// the payment can now be found by an object ID that did not lead to it before.
pub(super) async fn settle(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    record: &mut Record,
) -> Result<bool> {
    let source = record.payment.source_id.as_deref().and_then(|id| ledger.settings.source(id));
    let source = source.context("the payment's source is gone, or its events are being read")?;
    if let Some(subscription) = &record.payment.subscription {
        let contract = table::contract(tx, &record.payment.account, subscription).await?;
        record.contract = contract.unwrap_or_default();
    }
    table::save_payment(tx, record).await?;
    let learned = table::learn(tx, &record.payment.account, &record.id, &objects(record)).await?;
    let was_stored = std::mem::replace(&mut record.is_stored, true);
    match record.payment.entry(source) {
        Some(entry) => write(tx, ledger, source, record, entry, was_stored).await?,
        None => {
            unwrite(tx, ledger, record).await?;
            if let Some(expired_at) = record.payment.expired_at {
                count_abandoned(tx, ledger, source, record, expired_at).await?;
            }
        }
    }
    Ok(learned)
}

/// Removes a conversion that its facts no longer create, for example when a refund turned out to be
/// the release of an authorization. Keeps it if it has a delivery that was attempted, because the
/// delivery needs its conversion.
async fn unwrite(tx: &mut AnyConnection, ledger: Ledger<'_>, record: &mut Record) -> Result<()> {
    if record.line.is_none() || !delivery::delete_unattempted(tx, &record.id).await? {
        return Ok(());
    }
    let line = record.line.take();
    sums::unsum(tx, ledger.now, [line.as_ref(), None]).await?;
    table::forget_touches(tx, &record.id).await?;
    table::save_waits(tx, &record.id, &BTreeSet::new()).await?;
    table::remove_line(tx, &record.id).await
}

async fn write(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    source: &Source,
    record: &mut Record,
    entry: Entry,
    was_stored: bool,
) -> Result<()> {
    let recorded_at = record.line.as_ref().map_or(ledger.now, |line| line.recorded_at);
    let occurred_at = entry.occurred_at.unwrap_or(recorded_at);
    let mut looked = look(tx, ledger.keys, source, record).await?;
    looked.found.by_hand = match table::manual_click_id(tx, &record.id).await? {
        // A payment can be matched to recorded visits only.
        Some(click_id) => visit::find(tx, &click_id).await?.map(|visit| visit.click_id),
        None => None,
    };
    if !looked.found.has_own() {
        looked.found.by_stripe_object = match came_back(tx, record, &mut looked.awaited).await? {
            Some(click_id) => Some(click_id),
            None => table::earlier_click_id(tx, record, occurred_at).await?,
        };
    }
    let origin = origin(&record.payment, &entry);
    let found = std::mem::take(&mut looked.found);
    let result = join::decide(looked.judged.as_ref(), origin, found);
    let last = visit_of(tx, &mut looked, &result).await?;
    let site_id = site_of(ledger, source, last.as_ref(), looked.genuine.as_ref());
    let (way, gap) = match last {
        Some(last) => visit::way_to(tx, last).await?,
        None => (Vec::new(), None),
    };
    let gap = gap.filter(|id| id.is_client_made() || ledger.keys.read(id).is_some());
    looked.awaited.extend(gap.map(|id| id.as_str().to_owned()));
    looked.awaited.extend(way.iter().filter_map(first_report));

    let is_own = matches!(result, Match::Matched { by, .. } if by.is_own());
    let begins_subscription =
        record.payment.billing_reason.as_deref() == Some("subscription_create");
    let hold = match result {
        _ if is_own => SHORT_HOLD,
        Match::Unmatched(_) if begins_subscription => FIRST_INVOICE_HOLD,
        Match::Matched { .. } | Match::Unmatched(_) => LONG_HOLD,
    };
    let enqueue_after = held_until(record.line.as_ref(), recorded_at.plus(hold))
        .filter(|from| entry.may_have_checkout && entry.paid_at.is_some() && *from > ledger.now);
    let payment = &record.payment;
    let is_receipt = payment.may_be_receipt();
    let is_duplicate = is_receipt && table::is_duplicate(tx, &record.id).await?;
    let amount = entry.amount.or_else(|| nothing_to_pay(ledger, &site_id, payment));
    let currency = amount.map(|amount| amount.currency).or(entry.adjusted.currency);
    let line = Line {
        site_id,
        source_id: source.id.clone(),
        livemode: payment.livemode,
        kind: entry.kind.clone(),
        status: if is_duplicate { ConversionStatus::Duplicate } else { entry.status },
        occurred_at,
        // A duplicate counts in no report.
        paid_at: entry.paid_at.filter(|_| !is_duplicate),
        amount_minor: amount.map(|amount| amount.minor),
        currency: currency.map(|currency| currency.code().to_owned()),
        refunded_minor: entry.adjusted.refunded,
        disputed_minor: entry.adjusted.disputed,
        lost_minor: entry.adjusted.lost,
        transaction_id: entry.transaction_id.clone(),
        client_reference_id: payment.client_reference_id.clone(),
        email: payment.email().map(str::to_owned),
        description: payment.description().map(str::to_owned),
        receipt_customer: payment.customer.clone().filter(|_| is_receipt),
        result,
        enqueue_after,
        recorded_at,
    };
    sums::unsum(tx, ledger.now, [record.line.as_ref(), Some(&line)]).await?;
    let is_new = record.line.is_none();
    if record.line.as_ref() != Some(&line) {
        table::save_line(tx, ledger.now, record, &line).await?;
    }
    if is_new && payment.expired_at.is_some() {
        table::forget_abandoned(tx, &record.id).await?;
    }
    if !is_new {
        table::forget_touches(tx, &record.id).await?;
    }
    table::save_touches(tx, &record.id, &way).await?;
    wait_for(tx, record, was_stored, &looked.awaited).await?;
    record.line = Some(line.clone());
    if is_duplicate {
        // Messages that were already sent stay; queued ones are removed.
        delivery::delete_unattempted(tx, &record.id).await?;
    } else if enqueue_after.is_none() {
        enqueue::enqueue(tx, ledger, record, &line, &entry, looked.genuine.as_ref()).await?;
    }
    Ok(())
}

/// A checkout that only saves a card states no amount: record 0 in the site's currency.
fn nothing_to_pay(ledger: Ledger<'_>, site_id: &str, payment: &Payment) -> Option<Money> {
    let site = ledger.settings.site(site_id).filter(|_| payment.mode == Some(Mode::Setup))?;
    Some(Money { minor: 0, currency: site.currency })
}

/// Records an expired checkout. It is no conversion, but reports show which campaign led to it.
async fn count_abandoned(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    source: &Source,
    record: &Record,
    expired_at: Timestamp,
) -> Result<()> {
    let mut looked = look(tx, ledger.keys, source, record).await?;
    let found = std::mem::take(&mut looked.found);
    let result = join::decide(looked.judged.as_ref(), Origin::Checkout, found);
    let last = visit_of(tx, &mut looked, &result).await?;
    let site_id = site_of(ledger, source, last.as_ref(), looked.genuine.as_ref());
    table::save_abandoned(tx, record, &site_id, expired_at, last.as_ref()).await?;
    wait_for(tx, record, true, &looked.awaited).await
}

async fn wait_for(
    tx: &mut AnyConnection,
    record: &Record,
    was_stored: bool,
    awaited: &BTreeSet<String>,
) -> Result<()> {
    let before = match was_stored {
        true => table::awaited_by(tx, &record.id).await?,
        false => BTreeSet::new(),
    };
    if before == *awaited {
        return Ok(());
    }
    table::save_waits(tx, &record.id, awaited).await
}

/// What the payment's own references and metadata lead to.
#[derive(Default)]
struct Looked {
    found: Found,
    /// The classified reference from Stripe.
    judged: Option<Reference>,
    /// Our click ID, if Stripe returned one.
    genuine: Option<ClickId>,
    /// References for which a visit or an AnyTrack click ID may still arrive.
    awaited: BTreeSet<String>,
    /// Visits that were read during the search.
    visits: Vec<Visit>,
}

/// Looks up the references, then the metadata, most reliable first.
async fn look(
    tx: &mut AnyConnection,
    keys: &ClickIdKey,
    source: &Source,
    record: &Record,
) -> Result<Looked> {
    let payment = &record.payment;
    let mut looked = Looked::default();
    for text in payment.references() {
        let reference = look_up(tx, keys, Some(text)).await?;
        looked.found.by_click_id = looked.found.by_click_id.or(reference.visit_of_ours);
        looked.found.by_anytrack_id = looked.found.by_anytrack_id.or(reference.visit_of_note);
        looked.awaited.extend(reference.awaited);
        looked.visits.extend(reference.visit);
        // Our own click ID is a better explanation than another tool's ID before it.
        let is_ours = |judged: &Option<Reference>| matches!(judged, Some(Reference::Genuine(_)));
        if looked.judged.is_none() || (is_ours(&reference.judged) && !is_ours(&looked.judged)) {
            looked.judged = reference.judged;
        }
    }
    let texts: Vec<&String> = payment
        .metadata(&record.contract)
        .into_iter()
        .filter_map(|metadata| metadata.get(&source.metadata_key))
        .collect();
    for (at, text) in texts.iter().enumerate() {
        if looked.found.by_metadata.is_some() || texts[..at].contains(text) {
            continue;
        }
        let tagged = look_up(tx, keys, Some(text)).await?;
        looked.found.by_metadata = tagged.visit_of_ours.or(tagged.visit_of_note);
        looked.awaited.extend(tagged.awaited);
        looked.visits.extend(tagged.visit);
        looked.judged = looked.judged.or(tagged.judged);
    }
    looked.genuine = match &looked.judged {
        Some(Reference::Genuine(id)) if !id.is_client_made() => Some(id.clone()),
        _ => None,
    };
    Ok(looked)
}

/// What one text from Stripe leads to.
#[derive(Default)]
struct LookedUp {
    judged: Option<Reference>,
    visit_of_ours: Option<ClickId>,
    visit_of_note: Option<ClickId>,
    /// The text itself, if a visit or an AnyTrack click ID may still arrive for it.
    awaited: Option<String>,
    /// The visit that was found.
    visit: Option<Visit>,
}

async fn look_up(
    tx: &mut AnyConnection,
    keys: &ClickIdKey,
    text: Option<&str>,
) -> Result<LookedUp> {
    let Some(text) = text else { return Ok(LookedUp::default()) };
    let judged = join::judge(keys, text);
    let (mut ours, mut note) = (None, None);
    match &judged {
        Reference::Genuine(id) => ours = visit::find(tx, id).await?,
        Reference::Foreign => note = visit::find_by_anytrack_id(tx, text).await?,
        Reference::Placeholder | Reference::Forged => {}
    }
    let may_arrive = matches!(judged, Reference::Genuine(_))
        || (judged == Reference::Foreign && text.bytes().all(|b| b.is_ascii_alphanumeric()));
    let awaited = match ours.as_ref().or(note.as_ref()) {
        Some(visit) => first_report(visit),
        None => may_arrive.then(|| text.to_owned()),
    };
    let signed = |visit: &Visit| visit.click_id.clone();
    let visit_of_ours = ours.as_ref().map(signed);
    let visit_of_note = note.as_ref().map(signed);
    let visit = ours.or(note);
    Ok(LookedUp { judged: Some(judged), visit_of_ours, visit_of_note, awaited, visit })
}

/// The visit of a match; usually it was already read during the search.
async fn visit_of(
    tx: &mut AnyConnection,
    looked: &mut Looked,
    result: &Match,
) -> Result<Option<Visit>> {
    let Match::Matched { click_id, .. } = result else { return Ok(None) };
    match looked.visits.iter().position(|visit| visit.click_id == *click_id) {
        Some(at) => Ok(Some(looked.visits.swap_remove(at))),
        None => visit::find(tx, click_id).await,
    }
}

/// Returns the visit whose browser returned from this payment's checkout to the thank-you page. If
/// there is none yet, adds the checkout to what the payment waits for.
async fn came_back(
    tx: &mut AnyConnection,
    record: &Record,
    awaited: &mut BTreeSet<String>,
) -> Result<Option<ClickId>> {
    for session in &record.payment.sessions {
        if let Some(visit) = visit::find_by_session(tx, session).await? {
            return Ok(Some(visit.click_id));
        }
    }
    awaited.extend(record.payment.sessions.iter().cloned());
    Ok(None)
}

/// What to wait for while a visit is known only from the request for the tag's script: its first
/// report.
fn first_report(visit: &Visit) -> Option<String> {
    let awaited = || format!("{}{}", table::FIRST_REPORT, visit.click_id);
    visit.is_provisional.then(awaited)
}

/// Where a payment without a reference should have got one from. Refunds and disputes count only
/// while their payment has not been seen.
fn origin(payment: &Payment, entry: &Entry) -> Origin {
    let is_unseen = entry.pay_fact == PayFact::Unknown;
    if !payment.sessions.is_empty() || payment.reported.is_some() {
        Origin::Checkout
    } else if is_unseen || (!payment.invoices.is_empty() && payment.subscription.is_some()) {
        Origin::Earlier
    } else {
        Origin::Nothing
    }
}

/// The site of the visit; else the site that the click ID was created for; else the source's.
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
