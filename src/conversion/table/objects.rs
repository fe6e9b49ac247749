//! SQL of `stripe_objects` and `waits`: what leads from one payment to another.
//! Takes IDs of Stripe objects, and click IDs without a visit; returns the payments that share
//! them, and the click IDs that payments may be matched by.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::conversion::Record;
use crate::ids::ClickId;
use crate::store::{Store, ToSql as _, sql};

/// IDs per statement.
const IDS_AT_A_TIME: usize = 8;
/// Objects per insert statement; a checkout names three or four.
const OBJECTS_AT_A_TIME: usize = 4;
/// The value in `waits` for a payment that is re-matched as soon as there is time.
const AGAIN: &str = "again:";

/// The payments that have these IDs, oldest first.
pub(in crate::conversion) async fn groups_of(
    tx: &mut AnyConnection,
    account: &str,
    ids: &BTreeSet<&str>,
) -> Result<BTreeSet<String>> {
    let ids: Vec<&str> = ids.iter().copied().collect();
    let mut found = BTreeSet::new();
    for eight in ids.chunks(IDS_AT_A_TIME) {
        let rows: Vec<String> = sql("select distinct conversion_id from stripe_objects
              where account = :account and role = 'identity' and object_id in (:ids)")
        .set("account", account)
        .set_list("ids", eight, IDS_AT_A_TIME)
        .values(&mut *tx)
        .await
        .context("could not look for a payment")?;
        found.extend(rows);
    }
    Ok(found)
}

/// Every object ID that a payment can be found by.
pub(in crate::conversion) async fn objects_of(
    tx: &mut AnyConnection,
    id: &str,
) -> Result<BTreeSet<String>> {
    let found: Vec<_> =
        sql("select object_id from stripe_objects where conversion_id = :conversion_id")
            .set("conversion_id", id)
            .values(tx)
            .await
            .context("could not read the object IDs of a payment")?;
    Ok(found.into_iter().collect())
}

/// What a set of IDs leads to.
#[derive(Default)]
pub(in crate::conversion) struct Kin {
    /// All object IDs of the payments that have these IDs; of every payment that shares a customer,
    /// a subscription or an earlier checkout with them, those shared IDs; and so on.
    pub(in crate::conversion) objects: BTreeSet<String>,
    /// The facts of their subscriptions, as JSON.
    pub(in crate::conversion) contracts: Vec<String>,
}

/// Returns what these IDs lead to; a little over `limit` objects at most.
pub(in crate::conversion) async fn kin(
    tx: &mut AnyConnection,
    account: &str,
    ids: &BTreeSet<String>,
    limit: usize,
) -> Result<Kin> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut kin = Kin::default();
    for eight in ids.chunks(IDS_AT_A_TIME) {
        let rows = sql("with recursive related (conversion_id) as (
                 select conversion_id from stripe_objects
                  where account = :account and object_id in (:ids)
                  union
                 select others.conversion_id
                   from related r
                   join stripe_objects mine on mine.conversion_id = r.conversion_id
                   join stripe_objects others on others.account = :account and others.object_id = mine.object_id
                    and others.role = 'lineage')
             select object_id, facts
               from (select distinct o.object_id, cast(null as text) as facts
                       from related r
                       join stripe_objects o on o.conversion_id = r.conversion_id
                      where o.role = 'lineage'
                         or o.conversion_id in (select conversion_id from stripe_objects
                                                 where account = :account and role = 'identity'
                                                   and object_id in (:ids))
                      limit :limit) objects
              union all
             select subscription_id, facts from subscriptions
              where account = :account and subscription_id in (:ids)")
        .set("account", account)
        .set("limit", i64::try_from(limit)?)
        .set_list("ids", eight, IDS_AT_A_TIME)
        .fetch_all(&mut *tx)
        .await;
        for row in rows.context("could not read what is related to a payment")? {
            kin.objects.insert(row.get("object_id")?);
            kin.contracts.extend(row.get::<Option<String>>("facts")?);
        }
    }
    Ok(kin)
}

/// Stores which payment these Stripe objects belong to, each with its role. Returns true if any of
/// them is new.
pub(in crate::conversion) async fn learn(
    tx: &mut AnyConnection,
    account: &str,
    id: &str,
    objects: &BTreeSet<(&str, &'static str)>,
) -> Result<bool> {
    let (objects, mut new): (Vec<_>, u64) = (objects.iter().copied().collect(), 0);
    for four in objects.chunks(OBJECTS_AT_A_TIME) {
        // Always four rows, so that the statement's text stays the same: the first row is repeated.
        let padded = four.iter().chain(std::iter::repeat(&four[0])).take(OBJECTS_AT_A_TIME);
        let rows = padded.map(|(object_id, role)| {
            vec![account.to_sql(), id.to_sql(), object_id.to_sql(), role.to_sql()]
        });
        let done = sql("insert into stripe_objects (account, conversion_id, object_id, role)
             values :rows
                 on conflict do nothing")
        .set_rows("rows", rows.collect())
        .execute(&mut *tx)
        .await;
        new += done.context("could not write a Stripe object of a payment")?.rows_affected();
    }
    Ok(new > 0)
}

/// The click ID of a subscription's first conversion.
const OF_SUBSCRIPTION: &str = "
    select c.click_id
      from stripe_objects o
      join conversions c on c.id = o.conversion_id
     where o.account = :account and o.object_id = :object_id and o.role = 'lineage'
       and c.id <> :id and c.livemode = :livemode
       and c.match_by in ('manual', 'click_id', 'anytrack_click_id', 'metadata')
     order by c.occurred_at_ms, c.transaction_id
     limit 1";
/// The click ID of a customer's latest conversion that occurred no later than the payment.
const OF_CUSTOMER: &str = "
    select c.click_id
      from stripe_objects o
      join conversions c on c.id = o.conversion_id
     where o.account = :account and o.object_id = :object_id and o.role = 'lineage'
       and c.id <> :id and c.livemode = :livemode and c.occurred_at_ms <= :occurred_at
       and c.match_by in ('manual', 'click_id', 'anytrack_click_id', 'metadata')
     order by c.occurred_at_ms desc, c.transaction_id desc
     limit 1";
/// The click ID of the checkout that this one recovers, whether it was paid or expired.
const OF_CHECKOUT: &str = "
    select coalesce(c.click_id, a.click_id)
      from stripe_objects o
      left join conversions c on c.id = o.conversion_id
       and c.match_by in ('manual', 'click_id', 'anytrack_click_id', 'metadata')
      left join abandoned a on a.payment_id = o.conversion_id
     where o.account = :account and o.object_id = :object_id and o.role = 'identity'
       and o.conversion_id <> :id
       and coalesce(c.click_id, a.click_id) is not null
     limit 1";

/// The click ID of another payment: of the checkout that this one recovers, of the subscription's
/// first conversion, or of the customer's latest. Uses only payments that are matched by their own
/// reference, so the result does not depend on which payment was matched first.
pub(in crate::conversion) async fn earlier_click_id(
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
            continue; // The subscription's customer is usually the payment's, too.
        }
        let row = sql(text)
            .set("account", &payment.account)
            .set("object_id", object_id)
            .set("id", &record.id)
            .set("livemode", payment.livemode)
            .set("occurred_at", occurred_at)
            .fetch_optional(&mut *tx)
            .await
            .context("could not look for an earlier payment")?;
        if let Some(row) = row {
            return Ok(ClickId::parse(&row.get::<String>(0)?));
        }
    }
    Ok(None)
}

/// Conversions that may be matched through another payment.
pub(in crate::conversion) enum LaterPayments {
    /// These.
    Few(BTreeSet<String>),
    /// Too many for one transaction: they are noted, and re-matched in the next ones.
    SettledLater,
}

/// Other conversions that may be matched through these IDs: unmatched ones, and ones that are
/// already matched through an earlier payment.
pub(in crate::conversion) async fn later_payments(
    tx: &mut AnyConnection,
    record: &Record,
    ids: &[&str],
    limit: usize,
) -> Result<LaterPayments> {
    let mut found = BTreeSet::new();
    for eight in ids.chunks(IDS_AT_A_TIME) {
        let rows: Vec<String> = sql("select c.id
               from stripe_objects o
               join conversions c on c.id = o.conversion_id
              where o.account = :account and o.role = 'lineage' and c.id <> :id
                and o.object_id in (:ids)
                and coalesce(c.match_by, 'stripe_object') = 'stripe_object'
              limit :limit")
        .set("account", &record.payment.account)
        .set("id", &record.id)
        .set("limit", i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
        .set_list("ids", eight, IDS_AT_A_TIME)
        .values(&mut *tx)
        .await
        .context("could not look for payments to match through an earlier one")?;
        found.extend(rows);
    }
    if found.len() <= limit {
        return Ok(LaterPayments::Few(found));
    }
    for id in ids {
        sql("insert into waits (awaited, conversion_id)
             select :awaited, c.id
               from stripe_objects o
               join conversions c on c.id = o.conversion_id
              where o.account = :account and o.role = 'lineage' and c.id <> :id and o.object_id = :object_id
                and coalesce(c.match_by, 'stripe_object') = 'stripe_object'
                 on conflict do nothing")
        .set("awaited", AGAIN)
        .set("account", &record.payment.account)
        .set("id", &record.id)
        .set("object_id", *id)
        .execute(&mut *tx)
        .await
        .context("could not note which payments to match again")?;
    }
    Ok(LaterPayments::SettledLater)
}

/// Notes payments to be re-matched as soon as there is time.
pub(in crate::conversion) async fn settle_later(
    tx: &mut AnyConnection,
    ids: &BTreeSet<String>,
) -> Result<()> {
    for id in ids {
        sql("insert into waits (awaited, conversion_id) values (:awaited, :conversion_id) on conflict do nothing")
        .set("awaited", AGAIN)
        .set("conversion_id", id)
        .execute(&mut *tx)
        .await
        .context("could not note which payments to match again")?;
    }
    Ok(())
}

/// True while there are payments noted by [`settle_later`].
pub(in crate::conversion) async fn has_unsettled(store: &Store) -> Result<bool> {
    let row =
        sql("select conversion_id from waits where awaited = :again limit 1").set("again", AGAIN);
    let row = row.fetch_optional(store.pool()).await;
    Ok(row.context("could not look for payments to match again")?.is_some())
}

/// Removes the note that a payment waits to be re-matched.
pub(in crate::conversion) async fn is_settled(tx: &mut AnyConnection, id: &str) -> Result<()> {
    sql("delete from waits where awaited = :again and conversion_id = :conversion_id")
        .set("again", AGAIN)
        .set("conversion_id", id)
        .execute(tx)
        .await
        .context("could not note that a payment was matched again")?;
    Ok(())
}

/// Every payment of a subscription.
pub(in crate::conversion) async fn payments_of_subscription(
    tx: &mut AnyConnection,
    account: &str,
    subscription: &str,
) -> Result<BTreeSet<String>> {
    let found: Vec<_> = sql("select conversion_id from stripe_objects
          where account = :account and object_id = :subscription and role = 'lineage'")
    .set("account", account)
    .set("subscription", subscription)
    .values(tx)
    .await
    .context("could not look for a subscription's payments")?;
    Ok(found.into_iter().collect())
}

/// Notes what changes with a source's new site: its unmatched payments, and abandoned checkouts of
/// the old site without a visit.
pub(in crate::conversion) async fn move_with_source(
    tx: &mut AnyConnection,
    source_id: &str,
    from: &str,
) -> Result<()> {
    for statement in [
        "insert into waits (awaited, conversion_id)
         select :again, c.id from conversions c
          where c.source_id = :source_id and c.site_id = :from and c.match_state = 'unmatched'
             on conflict do nothing",
        "insert into waits (awaited, conversion_id)
         select :again, a.payment_id from abandoned a
          where a.site_id = :from and a.click_id is null
             on conflict do nothing",
    ] {
        sql(statement)
            .set("again", AGAIN)
            .set("source_id", source_id)
            .set("from", from)
            .execute(&mut *tx)
            .await
            .context("could not note which payments move with their source")?;
    }
    Ok(())
}

/// Ends the hold of payments that wait for the checkout of this subscription.
pub(in crate::conversion) async fn end_hold(
    tx: &mut AnyConnection,
    now: Timestamp,
    account: &str,
    subscription: &str,
) -> Result<()> {
    sql("update conversions
            set owed_from_ms = :now
          where owed_from_ms > :now
            and id in (select conversion_id from stripe_objects
                        where account = :account and object_id = :subscription and role = 'lineage')")
    .set("now", now)
    .set("account", account)
    .set("subscription", subscription)
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
    sql("delete from waits where conversion_id = :conversion_id")
        .set("conversion_id", id)
        .execute(&mut *tx)
        .await?;
    for awaited in awaited {
        sql("insert into waits (awaited, conversion_id) values (:awaited, :conversion_id) on conflict do nothing")
        .set("awaited", awaited)
        .set("conversion_id", id)
        .execute(&mut *tx)
        .await
        .context("could not note what a payment waits for")?;
    }
    Ok(())
}

/// The values in `waits` of a payment.
pub(in crate::conversion) async fn awaited_by(
    tx: &mut AnyConnection,
    id: &str,
) -> Result<BTreeSet<String>> {
    let rows = sql("select awaited from waits where conversion_id = :conversion_id")
        .set("conversion_id", id)
        .fetch_all(tx)
        .await?;
    rows.iter().map(|row| Ok(row.get(0)?)).collect()
}

/// The prefix in `waits` of a click ID whose visit is provisional: its landing page is known
/// already, and only its first report is awaited.
pub(in crate::conversion) const FIRST_REPORT: &str = "first:";

/// Provisional visits that payments name.
pub(in crate::conversion) async fn named_provisional(store: &Store) -> Result<Vec<String>> {
    named_provisional_in(&mut *store.connection().await?).await
}

/// The same within a transaction.
pub(in crate::conversion) async fn named_provisional_in(
    tx: &mut AnyConnection,
) -> Result<Vec<String>> {
    let found: Vec<_> = sql("select distinct p.click_id
           from waits w
           join provisional_visits p on p.click_id = substr(w.awaited, 7)
          where substr(w.awaited, 1, 6) = 'first:'")
    .values(tx)
    .await
    .context("could not look for provisional visits")?;
    Ok(found.into_iter().collect())
}

/// Click IDs from `from` to `to`, both included, whose visits the ledger needs.
pub(in crate::conversion) async fn needed_click_ids(
    tx: &mut AnyConnection,
    from: &str,
    to: &str,
) -> Result<BTreeSet<String>> {
    let found: Vec<_> = sql("select click_id from touches where click_id >= :from and click_id <= :to
          union
         select click_id from conversions where click_id is not null and click_id >= :from and click_id <= :to
          union
         select click_id from abandoned where click_id is not null and click_id >= :from and click_id <= :to
          union
         select click_id from manual_matches where click_id >= :from and click_id <= :to
          union
         select click_id from page_events where conversion_id is null and click_id >= :from and click_id <= :to
          union
         select v.click_id
           from waits w
           join visits v on v.click_id = case when substr(w.awaited, 1, 6) = 'first:' then substr(w.awaited, 7)
                                              else w.awaited end
          where v.click_id >= :from and v.click_id <= :to
          union
         select v.click_id
           from waits w
           join visits v on v.alias = w.awaited
          where v.click_id >= :from and v.click_id <= :to
          union
         select v.click_id
           from waits w
           join visit_notes n on n.anytrack_click_id = w.awaited
           join visits v on v.click_id = n.click_id
          where v.click_id >= :from and v.click_id <= :to
          union
         select v.click_id
           from waits w
           join visit_notes n on n.anytrack_click_id = w.awaited
           join visits v on v.alias = n.click_id
          where v.click_id >= :from and v.click_id <= :to")
    .set("from", from)
    .set("to", to)
    .values(tx)
    .await
    .context("could not read which visits are needed")?;
    Ok(found.into_iter().collect())
}

/// A condition on a row `w` of `waits`, true once what the payment waits for has arrived, so that
/// it is re-matched next.
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

/// Payments whose awaited visit or AnyTrack click ID has arrived, and those whose hold is over:
/// account and ID.
pub(in crate::conversion) async fn payments_to_settle(
    store: &Store,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<(String, String)>> {
    let due = sql("select distinct p.account, p.id
           from waits w
           join payments p on p.id = w.conversion_id
          where");
    let rows = due
        .then(IS_DUE)
        .then("limit :limit")
        .set("limit", limit)
        .fetch_all(store.pool())
        .await
        .context("could not look for late visits")?;
    let held = sql("select account, id from conversions
          where owed_from_ms is not null and owed_from_ms <= :now
          order by owed_from_ms
          limit :limit")
    .set("now", now)
    .set("limit", limit)
    .fetch_all(store.pool())
    .await
    .context("could not look for conversions whose hold is over")?;
    rows.iter().chain(&held).map(|row| Ok((row.get(0)?, row.get(1)?))).collect()
}
