//! SQL of the ledger: `payments`, `conversions`, `touches`, `abandoned`, `subscriptions`,
//! `manual_matches`.
//! Takes payments and conversions; writes their rows, and reads them back. Private to this module.

mod duplicates;
mod objects;
mod reread;
mod sums;
mod waits;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::AnyConnection;

pub(super) use duplicates::{forget_duplicate, is_duplicate, save_duplicate};
pub(super) use objects::{
    LaterPayments, earlier_click_id, groups_of, kin, later_payments, learn, objects_of,
};
pub(super) use reread::{named_click_ids, paid_after, rename_copies};
pub(super) use sums::{
    Stretch, first_conversion, is_summed, share_sums_turn, sum, summed, take_sums_turn, unsum,
    unsum_all, unsum_others,
};
pub(crate) use waits::IS_DUE;
pub(super) use waits::{
    FIRST_REPORT, awaited_by, end_hold, has_unsettled, is_settled, move_with_source,
    named_provisional, named_provisional_in, needed_click_ids, payments_of_subscription,
    payments_to_settle, save_waits, settle_later,
};

use super::join::Match;
use super::payment::{Contract, Payment};
use super::{Line, Record};
use crate::clock::Timestamp;
use crate::domain::{MatchRule, UnmatchedReason, Word as _};
use crate::ids::ClickId;
use crate::json;
use crate::store::{Row, insert_into, sql};
use crate::visit::Visit;

/// Types of events that state a payment, most reliable first.
const STATING: [&str; 4] = ["checkout.session.%", "invoice.%", "payment_intent.%", "charge.%"];

/// The event that states a payment most reliably, as Stripe sent it: of its checkout, else of its
/// invoice, payment intent or charge; the newest if there are several. Null if the payment is not
/// Stripe's.
pub(super) async fn stating_event(tx: &mut AnyConnection, payment: &Payment) -> Result<Value> {
    if payment.reported.is_some() {
        return Ok(Value::Null);
    }
    let (mut best, mut place) = (Value::Null, STATING.len());
    for object_id in payment.identity() {
        for (at, types) in STATING.iter().enumerate().take(place) {
            let row = sql("select body from stripe_events
                  where account = :account and object_id = :object_id and type like :types and state <> 'failed'
                  order by id desc
                  limit 1")
            .set("account", &payment.account)
            .set("object_id", object_id)
            .set("types", *types)
            .fetch_optional(&mut *tx)
            .await
            .context("could not read the event of a payment")?;
            let Some(row) = row else { continue };
            let body: Vec<u8> = row.get("body")?;
            if let Ok(event) = json::lenient(&body) {
                (best, place) = (event.value, at);
                break;
            }
        }
    }
    Ok(best)
}

/// A payment with its conversion, if it has one.
pub(super) async fn load(tx: &mut AnyConnection, id: &str) -> Result<Record> {
    find(tx, id).await?.context("a payment is missing in the database")
}

pub(super) async fn find(tx: &mut AnyConnection, id: &str) -> Result<Option<Record>> {
    let row = sql("select p.id, p.facts, p.recorded_at_ms as known_since_ms, c.id as line_id, c.site_id, c.source_id, c.livemode,
                c.kind, c.status, c.occurred_at_ms, c.paid_at_ms, c.amount_minor, c.currency, c.refunded_minor,
                c.disputed_minor, c.lost_minor, c.transaction_id, c.client_reference_id, c.email, c.description,
                c.match_by, c.match_reason, c.click_id, c.owed_from_ms, c.recorded_at_ms, c.receipt_customer
           from payments p
           left join conversions c on c.id = p.id
          where p.id = :id and p.merged_into is null")
    .set("id", id)
    .fetch_optional(tx)
    .await
    .context("could not read a payment")?;
    let Some(row) = row else { return Ok(None) };
    let facts: String = row.get("facts")?;
    let is_line = row.get::<Option<String>>("line_id")?.is_some();
    Ok(Some(Record {
        id: row.get("id")?,
        payment: serde_json::from_str(&facts).context("a stored payment cannot be read")?,
        contract: Contract::default(), // Read later, where it is needed.
        recorded_at: row.get("known_since_ms")?,
        line: if is_line { Some(read_line(&row)?) } else { None },
        is_stored: true,
    }))
}

fn read_line(row: &Row) -> Result<Line> {
    // A rule written by another version is decided again before anything is written.
    let rule = row.get::<Option<String>>("match_by")?.as_deref().and_then(MatchRule::parse);
    let reason: Option<String> = row.get("match_reason")?;
    let click_id: Option<String> = row.get("click_id")?;
    let matched = rule
        .zip(click_id.as_deref().and_then(ClickId::parse))
        .map(|(by, click_id)| Match::Matched { by, click_id });
    let unmatched = || UnmatchedReason::or_no_object(reason.as_deref());
    let time = |ms: Option<i64>| ms.map(Timestamp::from_ms);
    Ok(Line {
        site_id: row.get("site_id")?,
        source_id: row.get("source_id")?,
        livemode: row.get::<bool>("livemode")?,
        kind: row.get("kind")?,
        status: row.get("status")?,
        occurred_at: row.get("occurred_at_ms")?,
        paid_at: time(row.get("paid_at_ms")?),
        amount_minor: row.get("amount_minor")?,
        currency: row.get("currency")?,
        refunded_minor: row.get("refunded_minor")?,
        disputed_minor: row.get("disputed_minor")?,
        lost_minor: row.get("lost_minor")?,
        transaction_id: row.get("transaction_id")?,
        client_reference_id: row.get("client_reference_id")?,
        email: row.get("email")?,
        description: row.get("description")?,
        receipt_customer: row.get("receipt_customer")?,
        result: matched.unwrap_or_else(|| Match::Unmatched(unmatched())),
        enqueue_after: time(row.get("owed_from_ms")?),
        recorded_at: row.get("recorded_at_ms")?,
    })
}

pub(super) async fn save_payment(tx: &mut AnyConnection, record: &Record) -> Result<()> {
    insert_into("payments")
        .set("id", &record.id)
        .set("account", &record.payment.account)
        .set("facts", serde_json::to_string(&record.payment).context("a payment serialises")?)
        .set("recorded_at_ms", record.recorded_at)
        .or_replace("id")
        .execute(tx)
        .await
        .context("could not write a payment")?;
    Ok(())
}

pub(super) async fn save_line(
    tx: &mut AnyConnection,
    now: Timestamp,
    record: &Record,
    line: &Line,
) -> Result<()> {
    let (rule, reason, click_id) = match &line.result {
        Match::Matched { by, click_id } => (Some(by), None, Some(click_id)),
        Match::Unmatched(reason) => (None, Some(reason), None),
    };
    insert_into("conversions")
        .set("id", &record.id)
        .set("account", &record.payment.account)
        .set("site_id", &line.site_id)
        .set("source_id", &line.source_id)
        .set("livemode", line.livemode)
        .set("kind", &line.kind)
        .set("status", line.status)
        .set("occurred_at_ms", line.occurred_at)
        .set("paid_at_ms", line.paid_at)
        .set("amount_minor", line.amount_minor)
        .set("currency", &line.currency)
        .set("refunded_minor", line.refunded_minor)
        .set("disputed_minor", line.disputed_minor)
        .set("lost_minor", line.lost_minor)
        .set("transaction_id", &line.transaction_id)
        .set("client_reference_id", &line.client_reference_id)
        .set("email", &line.email)
        .set("description", &line.description)
        .set("match_state", line.result.state())
        .set("match_by", rule)
        .set("match_reason", reason)
        .set("click_id", click_id)
        .set("owed_from_ms", line.enqueue_after)
        .set("recorded_at_ms", line.recorded_at)
        .set("updated_at_ms", now)
        .set("receipt_customer", &line.receipt_customer)
        .or_replace("id")
        .execute(tx)
        .await
        .context("could not write a conversion")?;
    Ok(())
}

/// Removes a payment that turned out to be part of another one, and stores which one.
pub(super) async fn merge(tx: &mut AnyConnection, from: &str, into: &str) -> Result<()> {
    forget(tx, from).await?;
    sql("delete from conversions where id = :from")
        .set("from", from)
        .execute(&mut *tx)
        .await
        .context("could not remove a merged payment from the ledger")?;
    sql("update payments set merged_into = :into, facts = case when id = :from then '{}' else facts end
          where id = :from or merged_into = :from")
    .set("into", into)
    .set("from", from)
    .execute(tx)
    .await
    .context("could not store what a payment was merged into")?;
    Ok(())
}

/// Deletes the rows that belong to a payment: touchpoints, waits, objects, abandoned checkout.
pub(super) async fn forget(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for statement in [
        "delete from touches where conversion_id = :id",
        "delete from waits where conversion_id = :id",
        "delete from stripe_objects where conversion_id = :id",
        "delete from abandoned where payment_id = :id",
    ] {
        sql(statement)
            .set("id", id)
            .execute(&mut *tx)
            .await
            .context("could not delete the rows of a payment")?;
    }
    Ok(())
}

/// Deletes a conversion that its payment no longer creates; the payment's facts stay.
pub(super) async fn remove_line(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sql("delete from conversions where id = :id")
        .set("id", id)
        .execute(tx)
        .await
        .context("could not delete a conversion")?;
    Ok(())
}

/// Deletes a payment whose other rows were deleted before.
pub(super) async fn remove(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for statement in
        ["delete from conversions where id = :id", "delete from payments where id = :id"]
    {
        sql(statement)
            .set("id", id)
            .execute(&mut *tx)
            .await
            .context("could not remove a conversion")?;
    }
    Ok(())
}

pub(super) async fn forget_touches(tx: &mut AnyConnection, conversion_id: &str) -> Result<()> {
    sql("delete from touches where conversion_id = :conversion_id")
        .set("conversion_id", conversion_id)
        .execute(tx)
        .await
        .context("could not delete touchpoints")?;
    Ok(())
}

pub(super) async fn save_touches(
    tx: &mut AnyConnection,
    conversion_id: &str,
    way: &[Visit],
) -> Result<()> {
    for (position, visit) in (0_i64..).zip(way) {
        insert_into("touches")
            .set("conversion_id", conversion_id)
            .set("position", position)
            .set("is_last", way.last().is_some_and(|last| last.click_id == visit.click_id))
            .set("click_id", visit.click_id.as_str())
            .set("at_ms", visit.at)
            .set("channel", &visit.channel)
            .set("source", &visit.source)
            .set("medium", &visit.medium)
            .set("campaign", &visit.campaign)
            .set("landing_path", &visit.landing_path)
            .set("device", &visit.device)
            .execute(&mut *tx)
            .await
            .context("could not write a touchpoint")?;
    }
    Ok(())
}

/// Stores an expired checkout without a payment, and the visit that led to it.
pub(super) async fn save_abandoned(
    tx: &mut AnyConnection,
    record: &Record,
    site_id: &str,
    expired_at: Timestamp,
    last: Option<&Visit>,
) -> Result<()> {
    let amounts = record.payment.amounts();
    insert_into("abandoned")
        .set("payment_id", &record.id)
        .set("site_id", site_id)
        .set("livemode", record.payment.livemode)
        .set("expired_at_ms", expired_at)
        .set("amount_minor", amounts.map(|amounts| amounts.total))
        .set("currency", amounts.map(|amounts| amounts.currency.code().to_owned()))
        .set("click_id", last.map(|visit| visit.click_id.as_str()))
        .set("channel", last.map(|visit| visit.channel.as_str()))
        .set("source", last.and_then(|visit| visit.source.as_deref()))
        .set("medium", last.and_then(|visit| visit.medium.as_deref()))
        .set("campaign", last.and_then(|visit| visit.campaign.as_deref()))
        .set("landing_path", last.and_then(|visit| visit.landing_path.as_deref()))
        .or_replace("payment_id")
        .execute(tx)
        .await
        .context("could not write an abandoned checkout")?;
    Ok(())
}

pub(super) async fn forget_abandoned(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sql("delete from abandoned where payment_id = :payment_id")
        .set("payment_id", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// The facts about a subscription.
pub(super) async fn contract(
    tx: &mut AnyConnection,
    account: &str,
    subscription: &str,
) -> Result<Option<Contract>> {
    let row =
        sql("select facts from subscriptions where account = :account and subscription_id = :subscription")
            .set("account", account)
            .set("subscription", subscription)
            .fetch_optional(tx)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let facts: String = row.get(0)?;
    Ok(Some(serde_json::from_str(&facts).context("a stored subscription cannot be read")?))
}

pub(super) async fn save_contract(tx: &mut AnyConnection, contract: &Contract) -> Result<()> {
    insert_into("subscriptions")
        .set("account", &contract.account)
        .set("subscription_id", &contract.subscription)
        .set("facts", serde_json::to_string(contract).context("a subscription serialises")?)
        .or_replace("account, subscription_id")
        .execute(tx)
        .await
        .context("could not write a subscription")?;
    Ok(())
}

/// The click ID that a user matched this payment to; the latest if several of its objects have one.
pub(super) async fn manual_click_id(tx: &mut AnyConnection, id: &str) -> Result<Option<ClickId>> {
    let row = sql("select m.click_id
           from stripe_objects o
           join manual_matches m on m.account = o.account and m.object_id = o.object_id
          where o.conversion_id = :conversion_id and o.role = 'identity'
          order by m.made_at_ms desc, m.object_id
          limit 1")
    .set("conversion_id", id)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(ClickId::parse(&row.get::<String>(0)?))
}

pub(super) async fn save_manual_match(
    tx: &mut AnyConnection,
    now: Timestamp,
    record: &Record,
    click_id: &ClickId,
    made_by: &str,
) -> Result<()> {
    let object_id = record.payment.transaction_id().context("a payment has an identity")?;
    insert_into("manual_matches")
        .set("account", &record.payment.account)
        .set("object_id", object_id)
        .set("click_id", click_id.as_str())
        .set("made_by", made_by)
        .set("made_at_ms", now)
        .or_replace("account, object_id")
        .execute(tx)
        .await
        .context("could not write a match made by hand")?;
    Ok(())
}

/// Deletes the match that a user made for this payment; returns false if there was none.
pub(super) async fn forget_manual_match(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let forgotten = sql("delete from manual_matches
          where (account, object_id) in (select account, object_id from stripe_objects
                                          where conversion_id = :conversion_id and role = 'identity')")
    .set("conversion_id", id)
    .execute(tx)
    .await
    .context("could not delete a match made by hand")?;
    Ok(forgotten.rows_affected() > 0)
}
