//! SQL of `ledgers`, `conversions`, `touches`, `waits` and `stripe_objects`.
//! In: settled records. Out: rows, and records again. Private to this room.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::join::{Match, Reason};
use super::payment::Payment;
use super::{Record, transaction_id};
use crate::clock::Timestamp;
use crate::ids::ClickId;
use crate::store::Store;
use crate::visit::Visit;

/// Conversions of one buyer that one event may touch.
const MAX_NEIGHBOURS: i64 = 500;

/// Waits until no other transaction writes conversions of this account, and keeps them waiting until this one ends.
pub(super) async fn take_turn(tx: &mut AnyConnection, account: &str) -> Result<()> {
    sqlx::query(
        "insert into ledgers (account, turn) values ($1, 0) on conflict (account) do nothing",
    )
    .bind(account)
    .execute(&mut *tx)
    .await?;
    sqlx::query("update ledgers set turn = turn + 1 where account = $1")
        .bind(account)
        .execute(tx)
        .await?;
    Ok(())
}

/// The conversion that one of this payment's identities names.
pub(super) async fn conversion_of(
    tx: &mut AnyConnection,
    payment: &Payment,
) -> Result<Option<String>> {
    for object_id in
        [&payment.session, &payment.invoice, &payment.payment_intent].into_iter().flatten()
    {
        let row = sqlx::query(
            "select conversion_id from stripe_objects where account = $1 and object_id = $2 and role = 'identity'",
        )
        .bind(&payment.account)
        .bind(object_id)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = row {
            return Ok(Some(row.try_get(0)?));
        }
    }
    Ok(None)
}

pub(super) async fn exists(tx: &mut AnyConnection, id: &str) -> Result<bool> {
    let row = sqlx::query("select id from conversions where id = $1").bind(id).fetch_optional(tx);
    Ok(row.await.context("could not look for a conversion")?.is_some())
}

pub(super) async fn load(tx: &mut AnyConnection, id: &str) -> Result<Record> {
    let row = sqlx::query(
        "select id, source_id, site_id, payment, recorded_at_ms from conversions where id = $1",
    )
    .bind(id)
    .fetch_one(tx)
    .await
    .context("could not read a conversion")?;
    let payment: String = row.try_get("payment")?;
    Ok(Record {
        id: row.try_get("id")?,
        source_id: row.try_get("source_id")?,
        site_id: row.try_get("site_id")?,
        payment: serde_json::from_str(&payment).context("a stored payment cannot be read")?,
        result: Match::Unmatched(Reason::NoReference), // Judged anew before anything is written.
        recorded_at: Timestamp::from_ms(row.try_get("recorded_at_ms")?),
    })
}

pub(super) async fn save(tx: &mut AnyConnection, now: Timestamp, record: &Record) -> Result<()> {
    let payment = &record.payment;
    let (state, by, reason, click_id) = match &record.result {
        Match::Matched { by, click_id } => {
            ("matched", Some(by.word()), None, Some(click_id.as_str()))
        }
        Match::Unmatched(reason) => ("unmatched", None, Some(reason.word()), None),
    };
    sqlx::query(
        "insert into conversions (id, account, site_id, source_id, livemode, kind, status, occurred_at_ms, paid_at_ms,
                                  amount_minor, currency, refunded_minor, transaction_id, client_reference_id, email,
                                  description, match_state, match_by, match_reason, click_id, payment, recorded_at_ms,
                                  updated_at_ms)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)
             on conflict (id) do update
            set site_id = excluded.site_id, livemode = excluded.livemode, kind = excluded.kind, status = excluded.status,
                occurred_at_ms = excluded.occurred_at_ms, paid_at_ms = excluded.paid_at_ms,
                amount_minor = excluded.amount_minor, currency = excluded.currency,
                transaction_id = excluded.transaction_id, client_reference_id = excluded.client_reference_id,
                email = excluded.email, description = excluded.description, match_state = excluded.match_state,
                match_by = excluded.match_by, match_reason = excluded.match_reason, click_id = excluded.click_id,
                payment = excluded.payment, updated_at_ms = excluded.updated_at_ms",
    )
    .bind(&record.id)
    .bind(&payment.account)
    .bind(&record.site_id)
    .bind(&record.source_id)
    .bind(i64::from(payment.livemode))
    .bind(payment.kind())
    .bind(payment.status())
    .bind(payment.occurred_at.unwrap_or(record.recorded_at).as_ms())
    .bind(payment.paid_at.map(Timestamp::as_ms))
    .bind(payment.amount().map(|amount| amount.minor))
    .bind(payment.amount().map(|amount| amount.currency.code().to_owned()))
    .bind(transaction_id(payment)?)
    .bind(payment.client_reference_id.as_deref())
    .bind(payment.email.as_deref())
    .bind(payment.description.as_deref())
    .bind(state)
    .bind(by)
    .bind(reason)
    .bind(click_id)
    .bind(serde_json::to_string(payment).context("a payment serialises")?)
    .bind(record.recorded_at.as_ms())
    .bind(now.as_ms())
    .execute(tx)
    .await
    .context("could not write a conversion")?;
    Ok(())
}

pub(super) async fn save_touches(
    tx: &mut AnyConnection,
    conversion_id: &str,
    way: &[Visit],
) -> Result<()> {
    sqlx::query("delete from touches where conversion_id = $1")
        .bind(conversion_id)
        .execute(&mut *tx)
        .await?;
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

pub(super) async fn save_waits(
    tx: &mut AnyConnection,
    conversion_id: &str,
    awaited: impl Iterator<Item = &String>,
) -> Result<()> {
    sqlx::query("delete from waits where conversion_id = $1")
        .bind(conversion_id)
        .execute(&mut *tx)
        .await?;
    for awaited in awaited {
        sqlx::query(
            "insert into waits (awaited, conversion_id) values ($1, $2) on conflict do nothing",
        )
        .bind(awaited)
        .bind(conversion_id)
        .execute(&mut *tx)
        .await
        .context("could not note what a conversion waits for")?;
    }
    Ok(())
}

/// Remembers which conversion this payment's objects belong to.
pub(super) async fn learn(tx: &mut AnyConnection, record: &Record) -> Result<()> {
    let identity = record.payment.identity().into_iter().map(|id| (id, "identity"));
    let lineage = record.payment.lineage().into_iter().map(|id| (id, "lineage"));
    for (object_id, role) in identity.chain(lineage) {
        sqlx::query(
            "insert into stripe_objects (account, object_id, conversion_id, role) values ($1, $2, $3, $4)
                 on conflict do nothing",
        )
        .bind(&record.payment.account)
        .bind(object_id)
        .bind(&record.id)
        .bind(role)
        .execute(&mut *tx)
        .await
        .context("could not remember an object of Stripe's")?;
    }
    Ok(())
}

const FIRST_LENDER: &str = "
    select c.click_id
      from stripe_objects o
      join conversions c on c.id = o.conversion_id
     where o.account = $1 and o.object_id = $2 and o.role = 'lineage'
       and c.id <> $3 and c.livemode = $4 and c.occurred_at_ms <= $5
       and c.match_by in ('click_id', 'anytrack_click_id', 'metadata')
     order by c.occurred_at_ms, c.transaction_id
     limit 1";
const LATEST_LENDER: &str = "
    select c.click_id
      from stripe_objects o
      join conversions c on c.id = o.conversion_id
     where o.account = $1 and o.object_id = $2 and o.role = 'lineage'
       and c.id <> $3 and c.livemode = $4 and c.occurred_at_ms <= $5
       and c.match_by in ('click_id', 'anytrack_click_id', 'metadata')
     order by c.occurred_at_ms desc, c.transaction_id desc
     limit 1";

/// The click ID that an earlier payment of the same subscription, else customer, lends. Only directly matched payments lend,
/// so the answer does not depend on who borrowed first; of those that occurred no later, a subscription's first and a customer's latest.
pub(super) async fn lent_click_id(
    tx: &mut AnyConnection,
    id: &str,
    payment: &Payment,
) -> Result<Option<ClickId>> {
    let at = payment.occurred_at.map_or(i64::MAX, Timestamp::as_ms);
    let asked = [
        (&payment.subscription, FIRST_LENDER),
        (&payment.customer, LATEST_LENDER),
        (&payment.customer_account, LATEST_LENDER),
    ];
    for (object_id, text) in asked {
        let Some(object_id) = object_id else { continue };
        let row = sqlx::query(text)
            .bind(&payment.account)
            .bind(object_id)
            .bind(id)
            .bind(i64::from(payment.livemode))
            .bind(at)
            .fetch_optional(&mut *tx)
            .await?;
        if let Some(row) = row {
            let click_id: String = row.try_get(0)?;
            return Ok(ClickId::parse(&click_id));
        }
    }
    Ok(None)
}

/// Other conversions of the same buyer that are not matched by themselves.
pub(super) async fn borrowers(
    tx: &mut AnyConnection,
    id: &str,
    payment: &Payment,
) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for object_id in payment.lineage() {
        let rows = sqlx::query(
            "select c.id
               from stripe_objects o
               join conversions c on c.id = o.conversion_id
              where o.account = $1 and o.object_id = $2 and o.role = 'lineage' and c.id <> $3
                and coalesce(c.match_by, 'stripe_object') = 'stripe_object'
              order by c.occurred_at_ms
              limit $4",
        )
        .bind(&payment.account)
        .bind(object_id)
        .bind(id)
        .bind(MAX_NEIGHBOURS)
        .fetch_all(&mut *tx)
        .await?;
        for row in rows {
            found.insert(row.try_get(0)?);
        }
    }
    Ok(found)
}

/// Conversions whose awaited visit or note is there now: account and ID.
pub(super) async fn conversions_no_longer_waiting(
    store: &Store,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query(
        "select distinct c.account, c.id
           from waits w
           join conversions c on c.id = w.conversion_id
          where exists (select 1 from visits v where v.click_id = w.awaited)
             or (substr(w.awaited, 1, 4) = 'ck_z' and exists (select 1 from visits v where v.alias = w.awaited))
             or exists (select 1 from visit_notes n
                          join visits v on v.click_id = n.click_id
                         where n.anytrack_click_id = w.awaited)
             or exists (select 1 from visit_notes n
                          join visits v on v.alias = n.click_id
                         where n.anytrack_click_id = w.awaited and substr(n.click_id, 1, 4) = 'ck_z')
          limit $1",
    )
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not look for late visits")?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Forgets the touches, the waits and the objects of a conversion.
pub(super) async fn forget(tx: &mut AnyConnection, id: &str) -> Result<()> {
    for statement in [
        "delete from touches where conversion_id = $1",
        "delete from waits where conversion_id = $1",
        "delete from stripe_objects where conversion_id = $1",
    ] {
        sqlx::query(statement)
            .bind(id)
            .execute(&mut *tx)
            .await
            .context("could not forget what hangs on a conversion")?;
    }
    Ok(())
}

/// Removes a conversion that was forgotten.
pub(super) async fn remove(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("delete from conversions where id = $1")
        .bind(id)
        .execute(tx)
        .await
        .context("could not remove a conversion")?;
    Ok(())
}
