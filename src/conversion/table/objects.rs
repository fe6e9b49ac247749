//! SQL of what leads from one payment to another: `stripe_objects` and `waits`.
//! In: IDs of Stripe's objects, click IDs that have no visit yet. Out: payments that share them, and what they lend each other.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use crate::clock::Timestamp;
use crate::conversion::Record;
use crate::ids::ClickId;
use crate::store::Store;

/// IDs asked for in one statement.
const IDS_AT_A_TIME: usize = 8;
/// Objects learned in one statement; a checkout names three or four.
const OBJECTS_AT_A_TIME: usize = 4;
/// Stands in `waits` for a payment that is judged again as soon as there is time.
const AGAIN: &str = "again:";

/// The payments that these identities name, oldest first.
pub(in crate::conversion) async fn groups_of(
    tx: &mut AnyConnection,
    account: &str,
    ids: &BTreeSet<&str>,
) -> Result<BTreeSet<String>> {
    let ids: Vec<&str> = ids.iter().copied().collect();
    let mut found = BTreeSet::new();
    for eight in ids.chunks(IDS_AT_A_TIME) {
        let mut query = sqlx::query(
            "select distinct conversion_id from stripe_objects
              where account = $1 and role = 'identity' and object_id in ($2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(account);
        // What is missing to eight repeats the first.
        for at in 0..IDS_AT_A_TIME {
            query = query.bind(*eight.get(at).unwrap_or(&eight[0]));
        }
        for row in query.fetch_all(&mut *tx).await.context("could not look for a payment")? {
            found.insert(row.try_get(0)?);
        }
    }
    Ok(found)
}

/// Every object that a payment is to be found by.
pub(in crate::conversion) async fn objects_of(
    tx: &mut AnyConnection,
    id: &str,
) -> Result<BTreeSet<String>> {
    let rows = sqlx::query("select object_id from stripe_objects where conversion_id = $1")
        .bind(id)
        .fetch_all(tx)
        .await
        .context("could not read what a payment is to be found by")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// What IDs lead to.
#[derive(Default)]
pub(in crate::conversion) struct Kin {
    /// All objects of the payments that they name, and what those and every payment that shares a customer, a subscription or a checkout
    /// before it are linked by, and so on.
    pub(in crate::conversion) objects: BTreeSet<String>,
    /// The facts of their subscriptions.
    pub(in crate::conversion) contracts: Vec<String>,
}

/// What these IDs lead to; no more than a little over `limit` objects.
pub(in crate::conversion) async fn kin(
    tx: &mut AnyConnection,
    account: &str,
    ids: &BTreeSet<String>,
    limit: usize,
) -> Result<Kin> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut kin = Kin::default();
    for eight in ids.chunks(IDS_AT_A_TIME) {
        let mut query = sqlx::query(
            "with recursive related (conversion_id) as (
                 select conversion_id from stripe_objects
                  where account = $1 and object_id in ($3, $4, $5, $6, $7, $8, $9, $10)
                  union
                 select others.conversion_id
                   from related r
                   join stripe_objects mine on mine.conversion_id = r.conversion_id
                   join stripe_objects others on others.account = $1 and others.object_id = mine.object_id
                    and others.role = 'lineage')
             select object_id, facts
               from (select distinct o.object_id, cast(null as text) as facts
                       from related r
                       join stripe_objects o on o.conversion_id = r.conversion_id
                      where o.role = 'lineage'
                         or o.conversion_id in (select conversion_id from stripe_objects
                                                 where account = $1 and role = 'identity'
                                                   and object_id in ($3, $4, $5, $6, $7, $8, $9, $10))
                      limit $2) objects
              union all
             select subscription_id, facts from subscriptions
              where account = $1 and subscription_id in ($3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(account)
        .bind(i64::try_from(limit)?);
        for at in 0..IDS_AT_A_TIME {
            query = query.bind(*eight.get(at).unwrap_or(&eight[0]));
        }
        let rows = query.fetch_all(&mut *tx).await;
        for row in rows.context("could not look for what is related to a payment")? {
            kin.objects.insert(row.try_get("object_id")?);
            kin.contracts.extend(row.try_get::<Option<String>, _>("facts")?);
        }
    }
    Ok(kin)
}

/// Remembers which payment these objects of Stripe's belong to, each in its role. True when any of them was not known to.
pub(in crate::conversion) async fn learn(
    tx: &mut AnyConnection,
    account: &str,
    id: &str,
    objects: &BTreeSet<(&str, &'static str)>,
) -> Result<bool> {
    let (objects, mut new): (Vec<_>, u64) = (objects.iter().copied().collect(), 0);
    for four in objects.chunks(OBJECTS_AT_A_TIME) {
        let mut query = sqlx::query(
            "insert into stripe_objects (account, conversion_id, object_id, role)
             values ($1, $2, $3, $4), ($1, $2, $5, $6), ($1, $2, $7, $8), ($1, $2, $9, $10)
                 on conflict do nothing",
        )
        .bind(account)
        .bind(id);
        // What is missing to four repeats the first.
        for at in 0..OBJECTS_AT_A_TIME {
            let (object_id, role) = *four.get(at).unwrap_or(&four[0]);
            query = query.bind(object_id).bind(role);
        }
        let done = query.execute(&mut *tx).await;
        new += done.context("could not remember an object of Stripe's")?.rows_affected();
    }
    Ok(new > 0)
}

/// A subscription lends the click ID of its first conversion.
const OF_SUBSCRIPTION: &str = "
    select c.click_id
      from stripe_objects o
      join conversions c on c.id = o.conversion_id
     where o.account = $1 and o.object_id = $2 and o.role = 'lineage'
       and c.id <> $3 and c.livemode = $4 and cast($5 as bigint) is not null
       and c.match_by in ('manual', 'click_id', 'anytrack_click_id', 'metadata')
     order by c.occurred_at_ms, c.transaction_id
     limit 1";
/// A customer lends that of the latest one that occurred no later.
const OF_CUSTOMER: &str = "
    select c.click_id
      from stripe_objects o
      join conversions c on c.id = o.conversion_id
     where o.account = $1 and o.object_id = $2 and o.role = 'lineage'
       and c.id <> $3 and c.livemode = $4 and c.occurred_at_ms <= $5
       and c.match_by in ('manual', 'click_id', 'anytrack_click_id', 'metadata')
     order by c.occurred_at_ms desc, c.transaction_id desc
     limit 1";
/// A checkout that this one goes on with lends its own, whether it was paid or expired.
const OF_CHECKOUT: &str = "
    select coalesce(c.click_id, a.click_id)
      from stripe_objects o
      left join conversions c on c.id = o.conversion_id
       and c.match_by in ('manual', 'click_id', 'anytrack_click_id', 'metadata')
      left join abandoned a on a.payment_id = o.conversion_id
     where o.account = $1 and o.object_id = $2 and o.role = 'identity'
       and o.conversion_id <> $3 and cast($4 as bigint) is not null and cast($5 as bigint) is not null
       and coalesce(c.click_id, a.click_id) is not null
     limit 1";

/// The click ID that another payment lends: an earlier checkout, the subscription's first, the customer's latest.
/// Only payments that are matched by themselves lend, so the answer does not depend on who borrowed first.
pub(in crate::conversion) async fn lent_click_id(
    tx: &mut AnyConnection,
    record: &Record,
    occurred_at: Timestamp,
) -> Result<Option<ClickId>> {
    let (payment, contract) = (&record.payment, &record.contract);
    let asked = [
        (&payment.recovered_from, OF_CHECKOUT),
        (&payment.subscription, OF_SUBSCRIPTION),
        (&payment.customer, OF_CUSTOMER),
        (&contract.customer, OF_CUSTOMER),
        (&payment.customer_account, OF_CUSTOMER),
        (&contract.customer_account, OF_CUSTOMER),
    ];
    let mut before = None;
    for (object_id, text) in asked {
        let Some(object_id) = object_id else { continue };
        if before.replace(object_id) == Some(object_id) {
            continue; // The subscription's customer is nearly always the payment's.
        }
        let row = sqlx::query(text)
            .bind(&payment.account)
            .bind(object_id)
            .bind(&record.id)
            .bind(i64::from(payment.livemode))
            .bind(occurred_at.as_ms())
            .fetch_optional(&mut *tx)
            .await
            .context("could not look for an earlier payment")?;
        if let Some(row) = row {
            return Ok(ClickId::parse(&row.try_get::<String, _>(0)?));
        }
    }
    Ok(None)
}

/// Conversions that may be matched through another one.
pub(in crate::conversion) enum Borrowers {
    /// These.
    Few(BTreeSet<String>),
    /// Too many for one transaction: noted, to be judged again in the next ones.
    SettledLater,
}

/// Other conversions that may borrow through these IDs: unmatched ones, and ones that borrowed already.
pub(in crate::conversion) async fn borrowers(
    tx: &mut AnyConnection,
    record: &Record,
    ids: &[&str],
    limit: usize,
) -> Result<Borrowers> {
    let mut found = BTreeSet::new();
    for eight in ids.chunks(IDS_AT_A_TIME) {
        let mut query = sqlx::query(
            "select c.id
               from stripe_objects o
               join conversions c on c.id = o.conversion_id
              where o.account = $1 and o.role = 'lineage' and c.id <> $2
                and o.object_id in ($4, $5, $6, $7, $8, $9, $10, $11)
                and coalesce(c.match_by, 'stripe_object') = 'stripe_object'
              limit $3",
        )
        .bind(&record.payment.account)
        .bind(&record.id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1));
        for at in 0..IDS_AT_A_TIME {
            query = query.bind(*eight.get(at).unwrap_or(&eight[0]));
        }
        let rows = query.fetch_all(&mut *tx).await;
        for row in rows.context("could not look for payments that borrow")? {
            found.insert(row.try_get(0)?);
        }
    }
    if found.len() <= limit {
        return Ok(Borrowers::Few(found));
    }
    for id in ids {
        sqlx::query(
            "insert into waits (awaited, conversion_id)
             select $1, c.id
               from stripe_objects o
               join conversions c on c.id = o.conversion_id
              where o.account = $2 and o.role = 'lineage' and c.id <> $3 and o.object_id = $4
                and coalesce(c.match_by, 'stripe_object') = 'stripe_object'
                 on conflict do nothing",
        )
        .bind(AGAIN)
        .bind(&record.payment.account)
        .bind(&record.id)
        .bind(*id)
        .execute(&mut *tx)
        .await
        .context("could not note which payments are judged again")?;
    }
    Ok(Borrowers::SettledLater)
}

/// Notes payments that are judged again as soon as there is time.
pub(in crate::conversion) async fn settle_later(
    tx: &mut AnyConnection,
    ids: &BTreeSet<String>,
) -> Result<()> {
    for id in ids {
        sqlx::query(
            "insert into waits (awaited, conversion_id) values ($1, $2) on conflict do nothing",
        )
        .bind(AGAIN)
        .bind(id)
        .execute(&mut *tx)
        .await
        .context("could not note which payments are judged again")?;
    }
    Ok(())
}

/// True while payments are noted that are judged again as soon as there is time.
pub(in crate::conversion) async fn has_unsettled(store: &Store) -> Result<bool> {
    let row = sqlx::query("select conversion_id from waits where awaited = $1 limit 1").bind(AGAIN);
    let row = row.fetch_optional(store.pool()).await;
    Ok(row.context("could not look for payments to judge again")?.is_some())
}

/// A payment was judged again.
pub(in crate::conversion) async fn is_settled(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("delete from waits where awaited = $1 and conversion_id = $2")
        .bind(AGAIN)
        .bind(id)
        .execute(tx)
        .await
        .context("could not note that a payment was judged again")?;
    Ok(())
}

/// Every payment of a subscription.
pub(in crate::conversion) async fn payments_of_subscription(
    tx: &mut AnyConnection,
    account: &str,
    subscription: &str,
) -> Result<BTreeSet<String>> {
    let rows = sqlx::query(
        "select conversion_id from stripe_objects
          where account = $1 and object_id = $2 and role = 'lineage'",
    )
    .bind(account)
    .bind(subscription)
    .fetch_all(tx)
    .await
    .context("could not look for a subscription's payments")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Notes what a source's new site changes: its payments without a visit, and the old site's abandoned checkouts without one.
pub(in crate::conversion) async fn move_with_source(
    tx: &mut AnyConnection,
    source_id: &str,
    from: &str,
) -> Result<()> {
    for statement in [
        "insert into waits (awaited, conversion_id)
         select $1, c.id from conversions c
          where c.source_id = $2 and c.site_id = $3 and c.match_state = 'unmatched'
             on conflict do nothing",
        "insert into waits (awaited, conversion_id)
         select $1, a.payment_id from abandoned a
          where cast($2 as text) is not null and a.site_id = $3 and a.click_id is null
             on conflict do nothing",
    ] {
        sqlx::query(statement)
            .bind(AGAIN)
            .bind(source_id)
            .bind(from)
            .execute(&mut *tx)
            .await
            .context("could not note which payments move with their source")?;
    }
    Ok(())
}

/// What is held because the checkout of this subscription may come is no longer held.
pub(in crate::conversion) async fn end_hold(
    tx: &mut AnyConnection,
    now: Timestamp,
    account: &str,
    subscription: &str,
) -> Result<()> {
    sqlx::query(
        "update conversions
            set owed_from_ms = $1
          where owed_from_ms > $1
            and id in (select conversion_id from stripe_objects
                        where account = $2 and object_id = $3 and role = 'lineage')",
    )
    .bind(now.as_ms())
    .bind(account)
    .bind(subscription)
    .execute(tx)
    .await
    .context("could not end the wait for a checkout")?;
    Ok(())
}

pub(in crate::conversion) async fn save_waits(
    tx: &mut AnyConnection,
    id: &str,
    awaited: &BTreeSet<String>,
) -> Result<()> {
    sqlx::query("delete from waits where conversion_id = $1").bind(id).execute(&mut *tx).await?;
    for awaited in awaited {
        sqlx::query(
            "insert into waits (awaited, conversion_id) values ($1, $2) on conflict do nothing",
        )
        .bind(awaited)
        .bind(id)
        .execute(&mut *tx)
        .await
        .context("could not note what a payment waits for")?;
    }
    Ok(())
}

/// What a payment waits for.
pub(in crate::conversion) async fn awaited_by(
    tx: &mut AnyConnection,
    id: &str,
) -> Result<BTreeSet<String>> {
    let rows = sqlx::query("select awaited from waits where conversion_id = $1")
        .bind(id)
        .fetch_all(tx)
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// What stands before a click ID of which only the first visit's own report is awaited: its landing is known already.
pub(in crate::conversion) const FIRST_REPORT: &str = "first:";

/// Provisional visits that payments name.
pub(in crate::conversion) async fn named_provisional(store: &Store) -> Result<Vec<String>> {
    named_provisional_in(&mut *store.connection().await?).await
}

/// The same, within a transaction.
pub(in crate::conversion) async fn named_provisional_in(
    tx: &mut AnyConnection,
) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "select distinct p.click_id
           from waits w
           join provisional_visits p on p.click_id = substr(w.awaited, 7)
          where substr(w.awaited, 1, 6) = 'first:'",
    )
    .fetch_all(tx)
    .await
    .context("could not look for provisional visits")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Click IDs between these two, both included, whose visits the ledger needs.
pub(in crate::conversion) async fn needed_click_ids(
    tx: &mut AnyConnection,
    from: &str,
    to: &str,
) -> Result<BTreeSet<String>> {
    let rows = sqlx::query(
        "select click_id from touches where click_id >= $1 and click_id <= $2
          union
         select click_id from conversions where click_id is not null and click_id >= $1 and click_id <= $2
          union
         select click_id from abandoned where click_id is not null and click_id >= $1 and click_id <= $2
          union
         select click_id from manual_matches where click_id >= $1 and click_id <= $2
          union
         select click_id from page_events where conversion_id is null and click_id >= $1 and click_id <= $2
          union
         select v.click_id
           from waits w
           join visits v on v.click_id = case when substr(w.awaited, 1, 6) = 'first:' then substr(w.awaited, 7)
                                              else w.awaited end
          where v.click_id >= $1 and v.click_id <= $2
          union
         select v.click_id
           from waits w
           join visits v on v.alias = w.awaited
          where v.click_id >= $1 and v.click_id <= $2
          union
         select v.click_id
           from waits w
           join visit_notes n on n.anytrack_click_id = w.awaited
           join visits v on v.click_id = n.click_id
          where v.click_id >= $1 and v.click_id <= $2
          union
         select v.click_id
           from waits w
           join visit_notes n on n.anytrack_click_id = w.awaited
           join visits v on v.alias = n.click_id
          where v.click_id >= $1 and v.click_id <= $2",
    )
    .bind(from)
    .bind(to)
    .fetch_all(tx)
    .await
    .context("could not look which visits are needed")?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Condition on a row `w` of `waits`: what the payment waited for is there now, so it is re-matched next.
pub(crate) const IS_DUE: &str =
    "(exists (select 1 from visits v where v.click_id = w.awaited)
             or (substr(w.awaited, 1, 4) = 'ck_z' and exists (select 1 from visits v where v.alias = w.awaited))
             or exists (select 1 from visit_notes n
                          join visits v on v.click_id = n.click_id
                         where n.anytrack_click_id = w.awaited)
             or exists (select 1 from visit_notes n
                          join visits v on v.alias = n.click_id
                         where n.anytrack_click_id = w.awaited and substr(n.click_id, 1, 4) = 'ck_z')
             or w.awaited = 'again:'
             or exists (select 1 from provisional_visits p where p.click_id = w.awaited)
             or exists (select 1 from visit_sessions s
                          join visits v on v.click_id = s.click_id
                         where s.session_id = w.awaited)
             or (substr(w.awaited, 1, 6) = 'first:'
                 and exists (select 1 from visits v
                              where v.click_id = substr(w.awaited, 7) and v.sent_at_ms >= 0
                                and v.previous_click_id is distinct from v.click_id)))";

/// Payments whose awaited visit or note is there now, and those whose checkout is no longer waited for: account and ID.
pub(in crate::conversion) async fn payments_to_settle(
    store: &Store,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    let rows = sqlx::query(AssertSqlSafe(format!(
        "select distinct p.account, p.id
           from waits w
           join payments p on p.id = w.conversion_id
          where {IS_DUE}
          limit $1",
    )))
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not look for late visits")?;
    let held = sqlx::query(
        "select account, id from conversions
          where owed_from_ms is not null and owed_from_ms <= $1
          order by owed_from_ms
          limit $2",
    )
    .bind(now.as_ms())
    .bind(limit)
    .fetch_all(store.pool())
    .await
    .context("could not look for conversions that were held")?;
    rows.iter().chain(&held).map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
