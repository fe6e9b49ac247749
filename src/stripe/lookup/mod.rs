//! Payments that came without their checkout or their invoice: Stripe is asked for it.
//! Takes what is missing of a payment; stores what Stripe answers as events of origin `fetched`, which are then read like any other.
//! Nothing is asked inside a transaction; once per object, then daily for a week; what came of it is shown on the event's page.
//! Source: docs.stripe.com/api/checkout/sessions/list (payment_intent, subscription, customer), docs.stripe.com/api/invoice-payment/list.

mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Api, ApiError, Apis};
use super::backfill;
use super::table::Waiting;
use crate::clock::{Clock, Timestamp};
use crate::conversion::{self, Missing};
use crate::domain::EventOrigin;
use crate::json;
use crate::settings::{Snapshot, Source};
use crate::store::{AnyConnection, Store};

/// The webhook of what is missing is nearly always on its way.
const FIRST_AFTER: Duration = Duration::from_secs(120);
/// The same for the checkout of a subscription, whose first invoice waits for the answer.
const SUBSCRIPTION_AFTER: Duration = Duration::from_secs(60);
/// The same for the invoice of a refund, which is only needed when it was no checkout's.
const INVOICE_AFTER: Duration = Duration::from_secs(180);
/// The same for other checkouts of a customer, which are only needed when nothing nearer was found.
const CUSTOMER_AFTER: Duration = Duration::from_secs(240);
/// Between two questions about the same object.
const DAY: Duration = Duration::from_secs(86_400);
/// Questions about one object: at once, then daily for a week.
const MAX_TRIES: i64 = 8;
/// How long a question may take with all its tries; then another copy may ask.
const LEASE: Duration = Duration::from_secs(15 * 60);
/// Pages of one answer that are read. A customer with more checkouts than that is no buyer but a test.
const MAX_PAGES: usize = 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// The checkout that a payment intent paid.
    CheckoutOfIntent,
    /// The checkout that began a subscription.
    CheckoutOfSubscription,
    /// The checkouts of a customer that may name a visit.
    CheckoutsOfCustomer,
    /// The invoice that a payment intent paid.
    InvoiceOfIntent,
}

impl Subject {
    const ALL: [Self; 4] = [
        Self::CheckoutOfIntent,
        Self::CheckoutOfSubscription,
        Self::CheckoutsOfCustomer,
        Self::InvoiceOfIntent,
    ];

    /// As stored.
    fn word(self) -> &'static str {
        match self {
            Self::CheckoutOfIntent => "checkout_of_intent",
            Self::CheckoutOfSubscription => "checkout_of_subscription",
            Self::CheckoutsOfCustomer => "checkouts_of_customer",
            Self::InvoiceOfIntent => "invoice_of_intent",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|subject| subject.word() == word)
    }

    /// After "Stripe was asked for ".
    fn plain(self) -> &'static str {
        match self {
            Self::CheckoutOfIntent => "its checkout",
            Self::CheckoutOfSubscription => "the checkout of its subscription",
            Self::CheckoutsOfCustomer => "an earlier checkout of its customer",
            Self::InvoiceOfIntent => "the invoice of its payment",
        }
    }

    /// The list, and what of it is asked for.
    fn question(self, object_id: &str) -> (&'static str, Vec<(&'static str, String)>) {
        let sessions = "/v1/checkout/sessions";
        let id = object_id.to_owned();
        match self {
            Self::CheckoutOfIntent => (sessions, vec![("payment_intent", id)]),
            Self::CheckoutOfSubscription => (sessions, vec![("subscription", id)]),
            Self::CheckoutsOfCustomer => (sessions, vec![("customer", id)]),
            Self::InvoiceOfIntent => (
                "/v1/invoice_payments",
                vec![
                    ("payment[type]", "payment_intent".to_owned()),
                    ("payment[payment_intent]", id),
                ],
            ),
        }
    }
}

/// A question to Stripe.
struct Lookup {
    account: String,
    subject: Subject,
    /// The payment intent, subscription or customer.
    object_id: String,
    source_id: String,
    tries: i64,
}

/// Notes what an event left missing. A second event about the same changes nothing.
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

/// Asks one question. Answers how many it asked; 0 means that nothing is due.
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
            Subject::InvoiceOfIntent => "Its invoice is known, or it was completed otherwise.",
            Subject::CheckoutOfIntent
            | Subject::CheckoutOfSubscription
            | Subject::CheckoutsOfCustomer => "Its checkout arrived, or it was matched otherwise.",
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
        (Ok(_), None) => (Some(DAY), format!("Stripe was asked for {what}, and knows of none.")),
        (Err(error), None) => (Some(DAY), format!("Stripe was asked for {what}: {error}.")),
    };
    let due = again.filter(|_| lookup.tries < MAX_TRIES).map(|pause| now.plus(pause));
    let next = match due {
        Some(_) => " It is asked again tomorrow.",
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

/// Stores what helps of an answer; names one of it.
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
        backfill::store_body(&mut tx, now, source, account, EventOrigin::Fetched, body).await?;
        found = Some(id);
    }
    tx.commit().await?;
    Ok(found)
}

/// The type of event that would have told of an item, and its ID; `None` when it does not help.
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
            // A checkout that names no visit has nothing to lend, and history is not fetched for its own sake.
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
