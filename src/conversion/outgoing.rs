//! What destinations may know of a conversion, gathered.
//! In: a judged record. Out: the facts that messages are made of. It reads, and writes nothing.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::join::{By, Match};
use super::payment::Payment;
use super::{Judged, Ledger, Record, transaction_id};
use crate::destination::{self, Outgoing};
use crate::money::Money;
use crate::store::AnyConnection;
use crate::visit::{self, Visit};

pub(super) async fn gather(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    record: &Record,
    judged: &Judged,
) -> Result<Outgoing> {
    let payment = &record.payment;
    let (matched, by, reason) = match &record.result {
        Match::Matched { by, click_id } => (Some(click_id), Some(by.word()), None),
        Match::Unmatched(reason) => (None, None, Some(reason.word())),
    };
    let (anytrack_click_id, visit) = match matched {
        Some(click_id) => {
            (visit::anytrack_id_of(tx, click_id).await?, visit::facts(tx, click_id).await?)
        }
        None => (None, Value::Null),
    };
    let site = ledger.settings.site(&record.site_id).context("the conversion's site is gone")?;
    let source = ledger.settings.source(&record.source_id);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let occurred_at = payment.occurred_at.unwrap_or(record.recorded_at);
    let amount = payment.amount();
    let conversion = destination::facts::Conversion {
        id: record.id.clone(),
        site: site.key.clone(),
        source: source.map(|source| source.key.clone()).unwrap_or_default(),
        kind: payment.kind().to_owned(),
        status: payment.status().to_owned(),
        livemode: payment.livemode,
        occurred_at: occurred_at.to_rfc3339(),
        amount: amount.map(Money::decimal),
        currency: amount.map(|amount| amount.currency.code().to_owned()),
        refunded: amount.map(|amount| Money { minor: 0, ..amount }.decimal()),
        transaction_id: transaction_id(payment)?.to_owned(),
        client_reference_id: payment.client_reference_id.clone(),
        email: payment.email.clone(),
        joined: destination::facts::Match {
            state: if matched.is_some() { "matched" } else { "unmatched" }.to_owned(),
            by: owned(by),
            reason: owned(reason),
            click_id: matched.map(|id| id.as_str().to_owned()),
        },
        touches: judged.way.iter().map(touch).collect(),
    };
    Ok(Outgoing {
        conversion,
        value: amount,
        reference_was_captured: matches!(
            record.result,
            Match::Matched { by: By::AnytrackClickId, .. }
        ),
        click_id: matched.or(judged.genuine.as_ref()).map(|id| id.as_str().to_owned()),
        anytrack_click_id,
        wants_privacy: visit["gpc"] == true,
        occurred_at_s: occurred_at.as_seconds(),
        payment: facts_of(payment),
        visit,
        site: json!({
            "key": site.key, "name": site.name, "currency": site.currency.code(), "timezone": site.timezone,
        }),
    })
}

fn touch(visit: &Visit) -> destination::facts::Touch {
    destination::facts::Touch {
        click_id: visit.click_id.as_str().to_owned(),
        at: visit.at.to_rfc3339(),
        source: visit.source.clone(),
        medium: visit.medium.clone(),
        campaign: visit.campaign.clone(),
        landing_path: visit.landing_path.clone(),
    }
}

fn facts_of(payment: &Payment) -> Value {
    let amounts = payment.amounts;
    json!({
        "session_id": payment.session,
        "payment_intent_id": payment.payment_intent,
        "invoice_id": payment.invoice,
        "subscription_id": payment.subscription,
        "customer_id": payment.customer,
        "payment_link_id": payment.payment_link,
        "name": payment.name,
        "email": payment.email,
        "phone": payment.phone,
        "country": payment.country,
        "city": payment.city,
        "postal_code": payment.postal_code,
        "description": payment.description,
        "subtotal_minor": amounts.and_then(|amounts| amounts.subtotal),
        "tax_minor": amounts.and_then(|amounts| amounts.tax),
        "shipping_minor": amounts.and_then(|amounts| amounts.shipping),
        "discount_minor": amounts.and_then(|amounts| amounts.discount),
        "metadata": payment.metadata,
    })
}
