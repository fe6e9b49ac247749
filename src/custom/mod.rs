//! Postbacks and the API for conversions: a drop-in replacement for AnyTrack's custom integration.
//! Takes requests of an existing Zap, scenario or affiliate postback; writes conversions to the
//! same ledger as Stripe's payments.
//! Guarantees that the raw request, the conversion, its match and its queued messages are one
//! transaction, committed before the response.

mod corrections;
mod currencies;
pub(crate) mod endpoint;
mod limit;
pub(crate) mod page;
mod parameters;
mod request;
mod statement;
mod table;
mod text;

use std::time::Duration;

use std::sync::Arc;

use anyhow::Result;

pub(crate) use limit::RequestLimit;
pub(crate) use parameters::Refusal;
pub(crate) use request::Request;

use self::request::Kept;
use self::statement::Statement;
use crate::clock::Timestamp;
use crate::conversion::reported::{Arrival, Reported};
use crate::conversion::{self, Ledger, Processed};
use crate::ids;
use crate::settings::Source;
use crate::store::{Store, Tx};

/// Number of refused requests that are kept for each source, for troubleshooting.
const REFUSED_KEPT: i64 = 200;

/// The result of a request.
pub(crate) struct Recorded {
    pub(crate) processed: Processed,
    /// Sentences for the sender.
    pub(crate) warnings: Vec<String>,
}

/// Records the conversion that a request states, in one transaction; stores a refused request for
/// troubleshooting.
pub(crate) async fn record(
    store: &Store,
    ledger: Ledger<'_>,
    source: &Source,
    request: Request,
) -> Result<Result<Recorded, Refusal>> {
    let mut kept = Kept {
        id: ids::new_record_id("crq_", ledger.now),
        source_id: source.id.clone(),
        received_at: ledger.now,
        request,
    };
    let mut statement = read(ledger, source, &kept);
    let (mut tx, settings) = ledger.begin(store).await?;
    if !Arc::ptr_eq(&settings, ledger.settings) {
        statement = read(ledger.with(&settings), source, &kept);
    }
    let statement = match statement {
        Ok(statement) => statement,
        Err(refusal) => {
            drop(tx);
            keep_refused(store, &kept, &refusal).await?;
            return Ok(Err(refusal));
        }
    };
    let ledger = ledger.with(&settings);
    let recorded = process(&mut tx, ledger, &mut kept, statement).await?;
    let state = if recorded.processed.is_repeat { "repeated" } else { "recorded" };
    let conversion_id = recorded.processed.conversion_id.as_deref();
    table::insert(&mut tx, &kept, state, conversion_id, &recorded.warnings).await?;
    tx.commit().await?;
    Ok(Ok(recorded))
}

/// Stores a request that states no conversion, and deletes the oldest ones.
pub(crate) async fn refuse(
    store: &Store,
    now: Timestamp,
    source: &Source,
    request: Request,
    refusal: &Refusal,
) -> Result<()> {
    let id = ids::new_record_id("crq_", now);
    let source_id = source.id.clone();
    keep_refused(store, &Kept { id, source_id, received_at: now, request }, refusal).await
}

async fn keep_refused(store: &Store, kept: &Kept, refusal: &Refusal) -> Result<()> {
    let mut tx = store.begin().await?;
    table::insert_refused(&mut tx, kept, refusal).await?;
    table::forget_refused(&mut tx, &kept.source_id, REFUSED_KEPT).await?;
    tx.commit().await
}

fn read(ledger: Ledger<'_>, source: &Source, kept: &Kept) -> Result<Statement, Refusal> {
    let request = &kept.request;
    let parameters = parameters::read(&request.query, &request.content_type, &request.body)?;
    statement::read(&parameters, ledger.settings.currency_of(source), kept.received_at)
}

async fn process(
    tx: &mut Tx,
    ledger: Ledger<'_>,
    kept: &mut Kept,
    statement: Statement,
) -> Result<Recorded> {
    let account = statement::account(&kept.source_id);
    let has_sale = match statement.key_of_sale() {
        Some(key) => conversion::reported(tx, &account, &key).await?.is_some(),
        None => false,
    };
    let says_paid = statement.is_paid_unsaid();
    let stated = |at| {
        let arrival = Arrival { at, request: kept.id.clone() };
        statement.clone().payment(&kept.source_id, arrival, has_sale)
    };
    let (mut payment, mut warnings) = stated(kept.received_at);
    if let Some(reported) = &payment.reported
        && let Some(known) = conversion::reported(tx, &account, &reported.key).await?
    {
        // Of two requests in one millisecond, the one recorded later is the correction. Its stored
        // time is moved, so that a replay uses the same order.
        let last = known.reported.as_ref().and_then(Reported::last_arrival);
        if let Some(last) = last.filter(|last| *last >= kept.received_at) {
            let after = last.plus(Duration::from_millis(1));
            (payment, warnings) = stated(after);
            kept.received_at = after;
        }
        warnings.extend(corrections::warnings(&known, &payment, says_paid));
    }
    let processed = conversion::process(tx, ledger, payment).await?;
    Ok(Recorded { processed, warnings })
}

/// The parameters of a request as they are read, for display.
pub(crate) fn listed(query: &str, content_type: &str, body: &[u8]) -> Vec<(String, String)> {
    let read = parameters::read(query, content_type, body).unwrap_or_default();
    read.all().map(|it| (it.name.clone(), it.value.clone())).collect()
}

/// A conversion as a sender would report it, marked as a test; without a click ID it has an email
/// address.
pub(crate) fn test_request(now: Timestamp, click_id: &str, value: &str) -> Request {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    match click_id {
        "" => query.append_pair("email", "test@example.com"),
        click_id => query.append_pair("click_id", click_id),
    };
    query.append_pair("value", value);
    query.append_pair("event_name", "Purchase");
    query.append_pair("transaction_id", &format!("test-{}", now.as_ms()));
    query.append_pair("test", "1");
    Request { method: "GET".to_owned(), query: query.finish(), ..Request::default() }
}

/// Shortens the token in a path for logs, because it is a credential.
pub(crate) fn hide_token(path: &str) -> String {
    const PREFIX: &str = "/webhooks/custom/";
    match path.split_once(PREFIX) {
        Some((before, token)) => {
            format!("{before}{PREFIX}{}…", token.chars().take(4).collect::<String>())
        }
        None => path.to_owned(),
    }
}

/// Records every stored request and page event again, oldest first, for a replay of the ledger.
/// Returns their number. A request that today's rules refuse, or whose source was deleted, creates
/// nothing.
pub(crate) async fn replay(store: &Store, ledger: Ledger<'_>) -> Result<usize> {
    let (mut count, mut after) = (page::replay(store, ledger).await?, None);
    while let Some(mut kept) = table::accepted_after(store, after.as_ref()).await? {
        if let Some(source) = ledger.settings.source(&kept.source_id)
            && let Ok(statement) = read(ledger, source, &kept)
        {
            let mut tx = store.begin().await?;
            process(&mut tx, ledger, &mut kept, statement).await?;
            tx.commit().await?;
        }
        count += 1;
        after = Some((kept.received_at, kept.id));
    }
    Ok(count)
}
