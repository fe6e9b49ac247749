//! SQL of the ledger: `payments`, `conversions`, `touches`, `abandoned`, `subscriptions`, `manual_matches`.
//! In: facts and lines. Out: rows, and records again. Private to this room.

mod duplicates;
mod objects;
mod sums;

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

pub(super) use duplicates::{forget_duplicate, is_duplicate, save_duplicate};
pub(crate) use objects::IS_DUE;
pub(super) use objects::{
    Borrowers, FIRST_REPORT, awaited_by, borrowers, end_hold, groups_of, has_unsettled, is_settled,
    kin, learn, lent_click_id, move_with_source, named_provisional, named_provisional_in,
    needed_click_ids, objects_of, payments_of_subscription, payments_to_settle, save_waits,
    settle_later,
};
pub(super) use sums::{
    Stretch, first_conversion, is_summed, share_sums_turn, sum, summed, take_sums_turn, unsum,
    unsum_all, unsum_others,
};

use super::join::{By, Match, Reason};
use super::payment::{Contract, Payment};
use super::{Line, Record};
use crate::clock::Timestamp;
use crate::ids::ClickId;
use crate::json;
use crate::visit::Visit;

/// Objects whose event states a payment best, best first.
const STATING: [&str; 4] = ["checkout.session.%", "invoice.%", "payment_intent.%", "charge.%"];

/// The event that states a payment best, as Stripe sent it: of its checkout, else of its invoice, payment intent or charge; the newest, should
/// there be several. Null when it is not Stripe's.
pub(super) async fn stating_event(tx: &mut AnyConnection, payment: &Payment) -> Result<Value> {
    if payment.reported.is_some() {
        return Ok(Value::Null);
    }
    let (mut best, mut place) = (Value::Null, STATING.len());
    for object_id in payment.identity() {
        for (at, types) in STATING.iter().enumerate().take(place) {
            let row = sqlx::query(
                "select body from stripe_events
                  where account = $1 and object_id = $2 and type like $3 and state <> 'failed'
                  order by id desc
                  limit 1",
            )
            .bind(&payment.account)
            .bind(object_id)
            .bind(*types)
            .fetch_optional(&mut *tx)
            .await
            .context("could not read the event of a payment")?;
            let Some(row) = row else { continue };
            let body: Vec<u8> = row.try_get("body")?;
            if let Ok(event) = json::lenient(&body) {
                (best, place) = (event.value, at);
                break;
            }
        }
    }
    Ok(best)
}

/// A payment with its line, if it has one.
pub(super) async fn load(tx: &mut AnyConnection, id: &str) -> Result<Record> {
    find(tx, id).await?.context("a payment that should be there is not")
}

pub(super) async fn find(tx: &mut AnyConnection, id: &str) -> Result<Option<Record>> {
    let row = sqlx::query(
        "select p.id, p.facts, p.recorded_at_ms as known_since_ms, c.id as line_id, c.site_id, c.source_id, c.livemode,
                c.kind, c.status, c.occurred_at_ms, c.paid_at_ms, c.amount_minor, c.currency, c.refunded_minor,
                c.disputed_minor, c.lost_minor, c.transaction_id, c.client_reference_id, c.email, c.description,
                c.match_by, c.match_reason, c.click_id, c.owed_from_ms, c.recorded_at_ms, c.receipt_customer
           from payments p
           left join conversions c on c.id = p.id
          where p.id = $1 and p.merged_into is null",
    )
    .bind(id)
    .fetch_optional(tx)
    .await
    .context("could not read a payment")?;
    let Some(row) = row else { return Ok(None) };
    let facts: String = row.try_get("facts")?;
    let is_line = row.try_get::<Option<String>, _>("line_id")?.is_some();
    Ok(Some(Record {
        id: row.try_get("id")?,
        payment: serde_json::from_str(&facts).context("a stored payment cannot be read")?,
        contract: Contract::default(), // Read when it is needed.
        recorded_at: Timestamp::from_ms(row.try_get("known_since_ms")?),
        line: if is_line { Some(read_line(&row)?) } else { None },
        is_stored: true,
    }))
}

fn read_line(row: &AnyRow) -> Result<Line> {
    let (by, reason): (Option<String>, Option<String>) =
        (row.try_get("match_by")?, row.try_get("match_reason")?);
    let click_id: Option<String> = row.try_get("click_id")?;
    let matched = by
        .as_deref()
        .and_then(By::of_word)
        .zip(click_id.as_deref().and_then(ClickId::parse))
        .map(|(by, click_id)| Match::Matched { by, click_id });
    // A word of another version is judged anew before anything is written.
    let unmatched = || reason.as_deref().and_then(Reason::of_word).unwrap_or(Reason::NoObject);
    let time = |ms: Option<i64>| ms.map(Timestamp::from_ms);
    Ok(Line {
        site_id: row.try_get("site_id")?,
        source_id: row.try_get("source_id")?,
        livemode: row.try_get::<i64, _>("livemode")? == 1,
        kind: row.try_get("kind")?,
        status: row.try_get("status")?,
        occurred_at: Timestamp::from_ms(row.try_get("occurred_at_ms")?),
        paid_at: time(row.try_get("paid_at_ms")?),
        amount_minor: row.try_get("amount_minor")?,
        currency: row.try_get("currency")?,
        refunded_minor: row.try_get("refunded_minor")?,
        disputed_minor: row.try_get("disputed_minor")?,
        lost_minor: row.try_get("lost_minor")?,
        transaction_id: row.try_get("transaction_id")?,
        client_reference_id: row.try_get("client_reference_id")?,
        email: row.try_get("email")?,
        description: row.try_get("description")?,
        receipt_customer: row.try_get("receipt_customer")?,
        result: matched.unwrap_or_else(|| Match::Unmatched(unmatched())),
        owed_from: time(row.try_get("owed_from_ms")?),
        recorded_at: Timestamp::from_ms(row.try_get("recorded_at_ms")?),
    })
}

pub(super) async fn save_payment(tx: &mut AnyConnection, record: &Record) -> Result<()> {
    sqlx::query(
        "insert into payments (id, account, facts, recorded_at_ms) values ($1, $2, $3, $4)
             on conflict (id) do update set facts = excluded.facts, recorded_at_ms = excluded.recorded_at_ms",
    )
    .bind(&record.id)
    .bind(&record.payment.account)
    .bind(serde_json::to_string(&record.payment).context("a payment serialises")?)
    .bind(record.recorded_at.as_ms())
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
    let (state, by, reason, click_id) = match &line.result {
        Match::Matched { by, click_id } => {
            ("matched", Some(by.word()), None, Some(click_id.as_str()))
        }
        Match::Unmatched(reason) => ("unmatched", None, Some(reason.word()), None),
    };
    sqlx::query(
        "insert into conversions (id, account, site_id, source_id, livemode, kind, status, occurred_at_ms, paid_at_ms,
                                  amount_minor, currency, refunded_minor, disputed_minor, lost_minor, transaction_id,
                                  client_reference_id, email, description, match_state, match_by, match_reason, click_id,
                                  owed_from_ms, recorded_at_ms, updated_at_ms, receipt_customer)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
                 $24, $25, $26)
             on conflict (id) do update
            set site_id = excluded.site_id, source_id = excluded.source_id, livemode = excluded.livemode,
                kind = excluded.kind, status = excluded.status, occurred_at_ms = excluded.occurred_at_ms,
                paid_at_ms = excluded.paid_at_ms, amount_minor = excluded.amount_minor, currency = excluded.currency,
                refunded_minor = excluded.refunded_minor, disputed_minor = excluded.disputed_minor,
                lost_minor = excluded.lost_minor, transaction_id = excluded.transaction_id,
                client_reference_id = excluded.client_reference_id, email = excluded.email,
                description = excluded.description, match_state = excluded.match_state, match_by = excluded.match_by,
                match_reason = excluded.match_reason, click_id = excluded.click_id,
                owed_from_ms = excluded.owed_from_ms, recorded_at_ms = excluded.recorded_at_ms,
                updated_at_ms = excluded.updated_at_ms, receipt_customer = excluded.receipt_customer",
    )
    .bind(&record.id)
    .bind(&record.payment.account)
    .bind(&line.site_id)
    .bind(&line.source_id)
    .bind(i64::from(line.livemode))
    .bind(&line.kind)
    .bind(&line.status)
    .bind(line.occurred_at.as_ms())
    .bind(line.paid_at.map(Timestamp::as_ms))
    .bind(line.amount_minor)
    .bind(line.currency.as_deref())
    .bind(line.refunded_minor)
    .bind(line.disputed_minor)
    .bind(line.lost_minor)
    .bind(&line.transaction_id)
    .bind(line.client_reference_id.as_deref())
    .bind(line.email.as_deref())
    .bind(line.description.as_deref())
    .bind(state)
    .bind(by)
    .bind(reason)
    .bind(click_id)
    .bind(line.owed_from.map(Timestamp::as_ms))
    .bind(line.recorded_at.as_ms())
    .bind(now.as_ms())
    .bind(line.receipt_customer.as_deref())
    .execute(tx)
    .await
    .context("could not write a conversion")?;
    Ok(())
}

/// Takes a group out of the ledger that turned out to be part of another one; its story goes on there.
pub(super) async fn merge(tx: &mut AnyConnection, from: &str, into: &str) -> Result<()> {
    forget(tx, from).await?;
    sqlx::query("delete from conversions where id = $1")
        .bind(from)
        .execute(&mut *tx)
        .await
        .context("could not take a merged payment out of the ledger")?;
    sqlx::query(
        "update payments set merged_into = $1, facts = case when id = $2 then '{}' else facts end
          where id = $2 or merged_into = $2",
    )
    .bind(into)
    .bind(from)
    .execute(tx)
    .await
    .context("could not say where a merged payment went")?;
    Ok(())
}

/// Forgets what hangs on a payment: touches, waits, objects, that it was abandoned.
pub(super) async fn forget(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for statement in [
        "delete from touches where conversion_id = $1",
        "delete from waits where conversion_id = $1",
        "delete from stripe_objects where conversion_id = $1",
        "delete from abandoned where payment_id = $1",
    ] {
        sqlx::query(statement)
            .bind(id)
            .execute(&mut *tx)
            .await
            .context("could not forget what hangs on a payment")?;
    }
    Ok(())
}

/// Removes a conversion whose payment no longer makes one; the payment's facts stay.
pub(super) async fn remove_line(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("delete from conversions where id = $1")
        .bind(id)
        .execute(tx)
        .await
        .context("could not take a conversion out of the ledger")?;
    Ok(())
}

/// Removes a payment that was forgotten.
pub(super) async fn remove(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for statement in ["delete from conversions where id = $1", "delete from payments where id = $1"]
    {
        sqlx::query(statement)
            .bind(id)
            .execute(&mut *tx)
            .await
            .context("could not remove a conversion")?;
    }
    Ok(())
}

pub(super) async fn forget_touches(tx: &mut AnyConnection, conversion_id: &str) -> Result<()> {
    sqlx::query("delete from touches where conversion_id = $1")
        .bind(conversion_id)
        .execute(tx)
        .await
        .context("could not forget touches")?;
    Ok(())
}

pub(super) async fn save_touches(
    tx: &mut AnyConnection,
    conversion_id: &str,
    way: &[Visit],
) -> Result<()> {
    for (position, visit) in (0_i64..).zip(way) {
        sqlx::query(
            "insert into touches (conversion_id, position, is_last, click_id, at_ms, channel, source, medium, campaign,
                                  landing_path, device)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(conversion_id)
        .bind(position)
        .bind(i64::from(way.last().is_some_and(|last| last.click_id == visit.click_id)))
        .bind(visit.click_id.as_str())
        .bind(visit.at.as_ms())
        .bind(&visit.channel)
        .bind(visit.source.as_deref())
        .bind(visit.medium.as_deref())
        .bind(visit.campaign.as_deref())
        .bind(visit.landing_path.as_deref())
        .bind(&visit.device)
        .execute(&mut *tx)
        .await
        .context("could not write a touch")?;
    }
    Ok(())
}

/// An expired checkout without a payment, and the visit that led to it.
pub(super) async fn save_abandoned(
    tx: &mut AnyConnection,
    record: &Record,
    site_id: &str,
    expired_at: Timestamp,
    last: Option<&Visit>,
) -> Result<()> {
    let amounts = record.payment.amounts();
    sqlx::query(
        "insert into abandoned (payment_id, site_id, livemode, expired_at_ms, amount_minor, currency, click_id, channel,
                                source, medium, campaign, landing_path)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
             on conflict (payment_id) do update
            set site_id = excluded.site_id, livemode = excluded.livemode, expired_at_ms = excluded.expired_at_ms,
                amount_minor = excluded.amount_minor, currency = excluded.currency, click_id = excluded.click_id,
                channel = excluded.channel, source = excluded.source, medium = excluded.medium,
                campaign = excluded.campaign, landing_path = excluded.landing_path",
    )
    .bind(&record.id)
    .bind(site_id)
    .bind(i64::from(record.payment.livemode))
    .bind(expired_at.as_ms())
    .bind(amounts.map(|amounts| amounts.total))
    .bind(amounts.map(|amounts| amounts.currency.code().to_owned()))
    .bind(last.map(|visit| visit.click_id.as_str()))
    .bind(last.map(|visit| visit.channel.as_str()))
    .bind(last.and_then(|visit| visit.source.as_deref()))
    .bind(last.and_then(|visit| visit.medium.as_deref()))
    .bind(last.and_then(|visit| visit.campaign.as_deref()))
    .bind(last.and_then(|visit| visit.landing_path.as_deref()))
    .execute(tx)
    .await
    .context("could not count an abandoned checkout")?;
    Ok(())
}

pub(super) async fn forget_abandoned(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("delete from abandoned where payment_id = $1").bind(id).execute(tx).await?;
    Ok(())
}

/// What is known of a subscription.
pub(super) async fn contract(
    tx: &mut AnyConnection,
    account: &str,
    subscription: &str,
) -> Result<Option<Contract>> {
    let row =
        sqlx::query("select facts from subscriptions where account = $1 and subscription_id = $2")
            .bind(account)
            .bind(subscription)
            .fetch_optional(tx)
            .await?;
    let Some(row) = row else { return Ok(None) };
    let facts: String = row.try_get(0)?;
    Ok(Some(serde_json::from_str(&facts).context("a stored subscription cannot be read")?))
}

pub(super) async fn save_contract(tx: &mut AnyConnection, contract: &Contract) -> Result<()> {
    sqlx::query(
        "insert into subscriptions (account, subscription_id, facts) values ($1, $2, $3)
             on conflict (account, subscription_id) do update set facts = excluded.facts",
    )
    .bind(&contract.account)
    .bind(&contract.subscription)
    .bind(serde_json::to_string(contract).context("a subscription serialises")?)
    .execute(tx)
    .await
    .context("could not write a subscription")?;
    Ok(())
}

/// The click ID that somebody matched this payment to; the latest, should several of its objects have one.
pub(super) async fn manual_click_id(tx: &mut AnyConnection, id: &str) -> Result<Option<ClickId>> {
    let row = sqlx::query(
        "select m.click_id
           from stripe_objects o
           join manual_matches m on m.account = o.account and m.object_id = o.object_id
          where o.conversion_id = $1 and o.role = 'identity'
          order by m.made_at_ms desc, m.object_id
          limit 1",
    )
    .bind(id)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(ClickId::parse(&row.try_get::<String, _>(0)?))
}

pub(super) async fn save_manual_match(
    tx: &mut AnyConnection,
    now: Timestamp,
    record: &Record,
    click_id: &ClickId,
    made_by: &str,
) -> Result<()> {
    let object_id = record.payment.transaction_id().context("a payment has an identity")?;
    sqlx::query(
        "insert into manual_matches (account, object_id, click_id, made_by, made_at_ms) values ($1, $2, $3, $4, $5)
             on conflict (account, object_id) do update
            set click_id = excluded.click_id, made_by = excluded.made_by, made_at_ms = excluded.made_at_ms",
    )
    .bind(&record.payment.account)
    .bind(object_id)
    .bind(click_id.as_str())
    .bind(made_by)
    .bind(now.as_ms())
    .execute(tx)
    .await
    .context("could not write a match made by hand")?;
    Ok(())
}

/// Forgets what somebody matched this payment to; false when nobody did.
pub(super) async fn forget_manual_match(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let forgotten = sqlx::query(
        "delete from manual_matches
          where (account, object_id) in (select account, object_id from stripe_objects
                                          where conversion_id = $1 and role = 'identity')",
    )
    .bind(id)
    .execute(tx)
    .await
    .context("could not forget a match made by hand")?;
    Ok(forgotten.rows_affected() > 0)
}
