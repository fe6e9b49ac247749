//! Payments that came without their checkout: Stripe is asked for it.
//! In: a payment intent of an unmatched payment. Out: the checkout, stored as an event of origin `fetched` and then read like any other.
//! Promise: nothing is asked inside a transaction; once per payment intent, then daily for a week; what came of it stands on the event's page.
//! Source: docs.stripe.com/api/checkout/sessions/list (payment_intent).

mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::api::{Apis, Page};
use super::backfill;
use super::table::{Origin, Waiting};
use crate::clock::{Clock, Timestamp};
use crate::settings::{Snapshot, Source};
use crate::store::{AnyConnection, Store};

/// The webhook of the checkout is nearly always on its way.
const FIRST_AFTER: Duration = Duration::from_secs(120);
/// Between two questions about the same payment.
const DAY: Duration = Duration::from_secs(86_400);
/// Questions about one payment: at once, then daily for a week.
const MAX_TRIES: i64 = 8;
/// How long a question may take with all its tries; then another replica may ask.
const LEASE: Duration = Duration::from_secs(15 * 60);

/// A payment to ask about.
struct Lookup {
    account: String,
    payment_intent: String,
    source_id: String,
    tries: i64,
}

/// Notes that an event left a payment without its checkout. A second event about it changes nothing.
pub(super) async fn note(
    tx: &mut AnyConnection,
    now: Timestamp,
    event: &Waiting,
    payment_intent: &str,
) -> Result<()> {
    table::note(tx, event, payment_intent, now.plus(FIRST_AFTER)).await
}

/// Asks about one payment. Answers how many it asked about; 0 means that nothing is due.
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
        table::end(store, &lookup, None, "Its checkout arrived, or it was matched otherwise.")
            .await?;
        return Ok(1);
    }
    let source = settings.source(&lookup.source_id).context("the event's source is gone")?;
    let query = [("payment_intent", lookup.payment_intent.clone())];
    let asked = match apis.of(settings, source) {
        Ok(api) => api.page(&lookup.account, "/v1/checkout/sessions", &query, None).await,
        Err(error) => Err(error),
    };
    let now = clock.now();
    let kept = match &asked {
        Ok(page) => keep(store, now, source, &lookup, page).await?,
        Err(_) => None,
    };
    let (again, said) = match (asked, kept) {
        (_, Some(session)) => {
            (None, format!("Stripe was asked for its checkout: it is {session}."))
        }
        (Ok(_), None) => {
            (Some(DAY), "Stripe was asked for its checkout, and knows of none.".to_owned())
        }
        (Err(error), None) => (Some(DAY), format!("Stripe was asked for its checkout: {error}.")),
    };
    let due = again.filter(|_| lookup.tries < MAX_TRIES).map(|pause| now.plus(pause));
    let next = match due {
        Some(_) => " It is asked again tomorrow.",
        None => "",
    };
    table::end(store, &lookup, due, &format!("{said}{next}")).await?;
    Ok(1)
}

/// Stores the completed checkouts of an answer; names one of them.
async fn keep(
    store: &Store,
    now: Timestamp,
    source: &Source,
    lookup: &Lookup,
    page: &Page,
) -> Result<Option<String>> {
    #[derive(Deserialize)]
    struct Listed {
        id: String,
        status: Option<String>,
    }
    let mut found = None;
    let mut tx = store.begin().await?;
    for item in &page.data {
        let Ok(listed) = serde_json::from_str::<Listed>(item.get()) else { continue };
        if listed.status.as_deref() != Some("complete") {
            continue;
        }
        let account = &lookup.account;
        let body = backfill::as_event("checkout.session.completed", account, item);
        let body = body.as_bytes();
        backfill::store_body(&mut tx, now, source, account, Origin::Fetched, body).await?;
        found = Some(listed.id);
    }
    tx.commit().await?;
    Ok(found)
}
