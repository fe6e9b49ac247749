//! Asks Stripe for the checkout or invoice of payments that arrived without it.
//! Takes what a payment lacks; stores Stripe's response as events of origin `fetched`, which are
//! then read like any other.
//! Guarantees that no request is sent inside a transaction. Each object is requested once, then
//! daily for a week; the result is shown on the event's page.
//! Source: docs.stripe.com/api/checkout/sessions/list (payment_intent, subscription, customer),
//! docs.stripe.com/api/invoice-payment/list.

mod subject;
mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::subject::{Lookup, Subject};
use super::api::{Api, ApiError};
use super::apis::Apis;
use super::backfill::{self, Fetched};
use super::table::Waiting;
use crate::clock::{Clock, Timestamp};
use crate::conversion::{self, Missing};
use crate::domain::EventOrigin;
use crate::json;
use crate::settings::{Snapshot, Source};
use crate::store::{AnyConnection, Store};

/// Delay before the first request: usually the missing webhook arrives before that.
const FIRST_AFTER: Duration = Duration::from_secs(120);
/// The same for the checkout of a subscription, because its first invoice waits for the response.
const SUBSCRIPTION_AFTER: Duration = Duration::from_secs(60);
/// The same for the invoice of a refund, which is needed only if the payment had no checkout.
const INVOICE_AFTER: Duration = Duration::from_secs(180);
/// The same for other checkouts of a customer, which are needed only if nothing closer was found.
const CUSTOMER_AFTER: Duration = Duration::from_secs(240);
/// Time between two requests about the same object.
const DAY: Duration = Duration::from_secs(86_400);
/// Maximum number of requests about one object: one, then daily for a week.
const MAX_TRIES: i64 = 8;
/// Maximum duration of a request with all its tries; after that, another copy may claim it.
const LEASE: Duration = Duration::from_secs(15 * 60);
/// Maximum number of pages to read. A customer with more checkouts is a test, not a buyer.
const MAX_PAGES: usize = 10;

/// Records what a payment lacks after an event. A second event about the same object changes
/// nothing.
pub(super) async fn note(
    tx: &mut AnyConnection,
    now: Timestamp,
    event: &Waiting,
    missing: &Missing,
) -> Result<()> {
    let (subject, object_id, after) = match missing {
        Missing::CheckoutOfIntent(id) => (Subject::CheckoutOfIntent, id, FIRST_AFTER),
        Missing::CheckoutOfSubscription(id) => {
            (Subject::CheckoutOfSubscription, id, SUBSCRIPTION_AFTER)
        }
        Missing::CheckoutsOfCustomer(id) => (Subject::CheckoutsOfCustomer, id, CUSTOMER_AFTER),
        Missing::InvoiceOfIntent(id) => (Subject::InvoiceOfIntent, id, INVOICE_AFTER),
    };
    table::note(tx, event, subject, object_id, now.plus(after)).await
}

/// Sends one due request. Returns the number of requests handled; 0 means that nothing is due.
pub(crate) async fn round(
    store: &Store,
    apis: &Apis,
    settings: &Snapshot,
    clock: &Clock,
) -> Result<u64> {
    if !apis.any(settings) {
        return Ok(0);
    }
    let Some(lookup) = table::claim(store, clock.now(), LEASE).await? else { return Ok(0) };
    if !table::is_wanted(store, &lookup).await? {
        let said = match lookup.subject {
            Subject::InvoiceOfIntent => "Its invoice arrived, or it was completed in another way.",
            Subject::CheckoutOfIntent
            | Subject::CheckoutOfSubscription
            | Subject::CheckoutsOfCustomer => {
                "Its checkout arrived, or it was matched in another way."
            }
        };
        table::end(store, &lookup, None, said).await?;
        return Ok(1);
    }
    let source = settings.source(&lookup.source_id).context("the event's source is gone")?;
    let asked = match apis.of(settings, source) {
        Ok(api) => ask(&api, &lookup).await,
        Err(error) => Err(error),
    };
    let now = clock.now();
    let kept = match &asked {
        Ok(items) => keep(store, now, source, &lookup, items).await?,
        Err(_) => None,
    };
    if asked.is_ok() && kept.is_none() && lookup.subject == Subject::CheckoutOfSubscription {
        conversion::end_hold(store, now, &lookup.account, &lookup.object_id).await?;
    }
    let what = lookup.subject.plain();
    let (again, said) = match (asked, kept) {
        (_, Some(found)) => (None, format!("Stripe was asked for {what}: it is {found}.")),
        (Ok(_), None) => (Some(DAY), format!("Stripe was asked for {what}: there is none.")),
        (Err(error), None) => (Some(DAY), format!("Stripe was asked for {what}: {error}.")),
    };
    let due = again.filter(|_| lookup.tries < MAX_TRIES).map(|pause| now.plus(pause));
    let next = match due {
        Some(_) => " It will be asked again tomorrow.",
        None => "",
    };
    table::end(store, &lookup, due, &format!("{said}{next}")).await?;
    Ok(1)
}

async fn ask(api: &Api, lookup: &Lookup) -> Result<Vec<Box<RawValue>>, ApiError> {
    let (path, query) = lookup.subject.question(&lookup.object_id);
    let (mut pages, mut all) = (api.pages(&lookup.account, path, &query), Vec::new());
    for _ in 0..MAX_PAGES {
        match pages.next().await? {
            Some(items) => all.extend(items),
            None => break,
        }
    }
    Ok(all)
}

/// Stores the useful items of a response; returns the ID of one of them.
async fn keep(
    store: &Store,
    now: Timestamp,
    source: &Source,
    lookup: &Lookup,
    items: &[Box<RawValue>],
) -> Result<Option<String>> {
    let mut found = None;
    let mut tx = store.begin().await?;
    for item in items {
        let Some((kind, id)) = helps(item, lookup.subject, source) else { continue };
        let account = &lookup.account;
        let body = backfill::as_event(kind, account, item);
        let body = body.as_bytes();
        let fetched = Fetched { source, account, origin: EventOrigin::Fetched, body };
        backfill::store_body(&mut tx, now, &fetched).await?;
        found = Some(id);
    }
    tx.commit().await?;
    Ok(found)
}

/// The event type that would have stated an item, and the item's ID; `None` if the item is not
/// useful.
fn helps(item: &RawValue, subject: Subject, source: &Source) -> Option<(&'static str, String)> {
    #[derive(Deserialize)]
    struct Listed {
        id: String,
        status: Option<String>,
    }
    let listed: Listed = serde_json::from_str(item.get()).ok()?;
    let status = listed.status.as_deref();
    match subject {
        Subject::CheckoutOfIntent | Subject::CheckoutOfSubscription => {
            (status == Some("complete")).then_some(("checkout.session.completed", listed.id))
        }
        Subject::CheckoutsOfCustomer => {
            // A checkout without a reference can't match a payment, and other history is not
            // needed.
            let object = json::lenient(item.get().as_bytes()).ok()?.value;
            let names_visit = object["client_reference_id"].is_string()
                || object["metadata"][source.metadata_key.as_str()].is_string();
            (status == Some("complete") && names_visit)
                .then_some(("checkout.session.completed", listed.id))
        }
        Subject::InvoiceOfIntent => {
            (status == Some("paid")).then_some(("invoice_payment.paid", listed.id))
        }
    }
}
