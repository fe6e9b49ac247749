//! Gathers what destinations may receive about a conversion, queues past conversions, and rebuilds
//! messages on request.
//! Takes a conversion; returns the facts that messages are made of, or queues deliveries.
//! Guarantees that gathering only reads.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::join::{self, Match, Reference};
use super::object::ObjectFacts;
use super::payment::Payment;
use super::record::{Ledger, Line, Sendable};
use super::table;
use crate::clock::Timestamp;
use crate::delivery::{self, NewDelivery, Retried};
use crate::destination::{News, Outgoing, facts, mapping};
use crate::domain::MatchRule;
use crate::money::Money;
use crate::registration;
use crate::settings::{Destination, ValueOption};
use crate::store::{AnyConnection, Store};
use crate::visit::{self, Visit};

/// Gathers what destinations may receive about a conversion. `wants_event` adds the Stripe event
/// that stated it.
pub(super) async fn gather(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    sendable: &Sendable<'_>,
    wants_event: bool,
) -> Result<Outgoing> {
    let Sendable { record, line, genuine } = *sendable;
    let payment = &record.payment;
    let (matched, by) = match &line.result {
        Match::Matched { by, click_id } => (Some(click_id), Some(*by)),
        Match::Unmatched(_) => (None, None),
    };
    let (mut way, mut anytrack_click_id, mut visit) = (Vec::new(), None, Value::Null);
    if let Some(click_id) = matched {
        anytrack_click_id = visit::anytrack_id_of(tx, click_id).await?;
        visit = visit::facts(tx, click_id).await?;
        if let Some(last) = visit::find(tx, click_id).await? {
            way = visit::way_to(tx, last).await?.0;
        }
    }
    let site = ledger.settings.site(&line.site_id).context("the conversion's site is gone")?;
    let source = ledger.settings.source(&line.source_id);
    let stripe = if wants_event { table::stating_event(tx, payment).await? } else { Value::Null };
    let amount = line.amount_minor.and_then(|minor| line.money(minor));
    Ok(Outgoing {
        news: News::Paid,
        transaction_id: line.transaction_id.clone(),
        conversion: facts::Conversion {
            site: site.key.clone(),
            source: source.map(|source| source.key.clone()).unwrap_or_default(),
            touches: way.iter().map(touch).collect(),
            ..of_line(&record.id, line)
        },
        amount,
        value: payment.value(ValueOption::Total).or(amount),
        reference_was_captured: by == Some(MatchRule::AnytrackClickId),
        click_id: matched.or(genuine).map(|id| id.as_str().to_owned()),
        anytrack_click_id,
        registered_click_id: None,
        wants_privacy: visit["gpc"] == true,
        has_agreed: visit["agreed"] == true,
        occurred_at_s: line.occurred_at.as_seconds(),
        payment: facts_of(payment),
        visit,
        site: json!({
            "key": site.key, "name": site.name, "currency": site.currency.code(), "timezone": site.timezone,
        }),
        stripe,
        never_to: source.map(|source| source.never_to.clone()).unwrap_or_default(),
        taken: facts::Taken {
            refunded: line.refunded_minor,
            disputed: line.disputed_minor,
            lost: line.lost_minor,
        },
        original_transaction_id: line.transaction_id.clone(),
    })
}

/// What the ledger's row alone says.
fn of_line(id: &str, line: &Line) -> facts::Conversion {
    let decimal = |minor| line.money(minor).map(Money::decimal);
    let (by, reason, click_id) = match &line.result {
        Match::Matched { by, click_id } => (Some(*by), None, Some(click_id.as_str().to_owned())),
        Match::Unmatched(reason) => (None, Some(*reason), None),
    };
    facts::Conversion {
        id: id.to_owned(),
        site: String::new(),
        source: String::new(),
        kind: line.kind.clone(),
        status: line.status,
        livemode: line.livemode,
        occurred_at: line.occurred_at.to_rfc3339(),
        amount: line.amount_minor.and_then(decimal),
        currency: line.currency.clone(),
        refunded: decimal(line.refunded_minor),
        disputed: decimal(line.disputed_minor),
        lost: decimal(line.lost_minor),
        paid_at: line.paid_at.map(Timestamp::to_rfc3339),
        transaction_id: line.transaction_id.clone(),
        client_reference_id: line.client_reference_id.clone(),
        email: line.email.clone(),
        joined: facts::Match { state: line.result.state(), by, reason, click_id },
        touches: Vec::new(),
    }
}

/// AnyTrack's click ID of the matched visit, where we registered it there.
pub(super) async fn registered(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    destination: &Destination,
    line: &Line,
) -> Result<Option<String>> {
    match &line.result {
        Match::Matched { click_id, .. } => {
            let click_id = click_id.as_str();
            registration::anytrack_click_id(tx, ledger.keys, destination, click_id).await
        }
        Match::Unmatched(_) => Ok(None),
    }
}

fn touch(visit: &Visit) -> facts::Touch {
    facts::Touch {
        click_id: visit.click_id.as_str().to_owned(),
        at: visit.at.to_rfc3339(),
        source: visit.source.clone(),
        medium: visit.medium.clone(),
        campaign: visit.campaign.clone(),
        landing_path: visit.landing_path.clone(),
    }
}

fn facts_of(payment: &Payment) -> Value {
    let amounts = payment.amounts();
    let text = |of: fn(&ObjectFacts) -> Option<&String>| payment.facts.values().find_map(of);
    let metadata =
        payment.facts.values().map(|facts| &facts.metadata).find(|found| !found.is_empty());
    json!({
        "session_id": payment.sessions.first(),
        "payment_intent_id": payment.payment_intents.first(),
        "invoice_id": payment.invoices.first(),
        "charge_id": payment.charges.keys().next(),
        "subscription_id": payment.subscription,
        "customer_id": payment.customer,
        "payment_link_id": payment.payment_link,
        "name": text(|facts| facts.name.as_ref()),
        "email": payment.email(),
        "phone": text(|facts| facts.phone.as_ref()),
        "country": text(|facts| facts.country.as_ref()),
        "city": text(|facts| facts.city.as_ref()),
        "postal_code": text(|facts| facts.postal_code.as_ref()),
        "description": payment.description(),
        "subtotal_minor": amounts.and_then(|amounts| amounts.subtotal),
        "tax_minor": amounts.and_then(|amounts| amounts.tax),
        "shipping_minor": amounts.and_then(|amounts| amounts.shipping),
        "discount_minor": amounts.and_then(|amounts| amounts.discount),
        "metadata": metadata,
        "params": payment.reported.as_ref().map(|reported| &reported.params),
    })
}

/// The facts that a destination may receive about a conversion today; `None` if there is no such
/// conversion.
pub(crate) async fn outgoing(
    store: &Store,
    ledger: Ledger<'_>,
    destination: &Destination,
    id: &str,
) -> Result<Option<Outgoing>> {
    let mut connection = store.connection().await?;
    let Some(record) = table::find(&mut connection, id).await? else { return Ok(None) };
    let Some(line) = &record.line else { return Ok(None) };
    let judged = line.client_reference_id.as_deref().map(|text| join::judge(ledger.keys, text));
    let genuine = match judged {
        Some(Reference::Genuine(id)) if !id.is_client_made() => Some(id),
        _ => None,
    };
    let wants_event = mapping::ask_for_stripe(destination.options.message.rows.as_deref());
    let sendable = Sendable { record: &record, line, genuine: genuine.as_ref() };
    let mut outgoing = gather(&mut connection, ledger, &sendable, wants_event).await?;
    outgoing.value = record.payment.value(destination.options.message.value).or(outgoing.amount);
    outgoing.registered_click_id = registered(&mut connection, ledger, destination, line).await?;
    Ok(Some(outgoing))
}

/// Queues paid conversions from before a destination existed, all in one transaction. Their facts
/// are read before it begins, so it lasts only as long as writing the rows takes.
pub(crate) async fn queue_past(
    store: &Store,
    ledger: Ledger<'_>,
    destination: &Destination,
    ids: &[String],
) -> Result<()> {
    let mut gathered = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(outgoing) = outgoing(store, ledger, destination, id).await? {
            gathered.push((id, outgoing));
        }
    }
    let (mut tx, settings) = ledger.begin(store).await?;
    let Some(destination) = settings.destination(&destination.id) else { return Ok(()) };
    for (id, outgoing) in &gathered {
        let new = NewDelivery {
            destination,
            conversion_id: id,
            outgoing,
            waits_for_visit: false,
            news_at: ledger.now, // Requested now, so it is not skipped as too old.
        };
        delivery::enqueue_anyway(&mut tx, ledger.now, &new).await?;
    }
    tx.commit().await
}

/// Rebuilds a delivery's message from today's mapping and match, and queues it again with the same
/// transaction ID.
pub(crate) async fn rebuild_delivery(
    store: &Store,
    ledger: Ledger<'_>,
    delivery_id: &str,
) -> Result<Retried> {
    let Some(subject) = delivery::subject(store, delivery_id).await? else {
        return Ok(Retried::NotFound);
    };
    let Some(destination) = ledger.settings.destination(&subject.destination_id) else {
        return Ok(Retried::NotRetryable("destination_deleted".to_owned()));
    };
    if !subject.tells_of_payment && subject.has_facts && destination.options.message.rows.is_some()
    {
        return delivery::make_again(store, ledger.now, delivery_id, destination).await;
    }
    if !subject.tells_of_payment {
        return Ok(Retried::NotRetryable("adjustment".to_owned()));
    }
    let found = outgoing(store, ledger, destination, &subject.conversion_id).await?;
    let Some(mut outgoing) = found else { return Ok(Retried::NotFound) };
    outgoing.transaction_id = subject.transaction_id;
    delivery::rebuild(store, ledger.now, delivery_id, destination, &outgoing).await
}
