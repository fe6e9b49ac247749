//! SQL of what payments wait for: a visit, the end of a hold, or their turn to be matched again.
//! Takes payments and the click IDs that they wait for; returns the payments to match again.
//! Guarantees that a note is removed only in the transaction that matches its payment.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::clock::Timestamp;
use crate::store::{Store, insert_into, sql};

/// The value in `waits` for a payment that is re-matched as soon as there is time.
pub(super) const AGAIN: &str = "again:";

/// Notes payments to be re-matched as soon as there is time.
pub(in crate::conversion) async fn settle_later(
    tx: &mut AnyConnection,
    ids: &BTreeSet<String>,
) -> Result<()> {
    for id in ids {
        insert_into("waits")
            .set("awaited", AGAIN)
            .set("conversion_id", id)
            .or_ignore()
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
        insert_into("waits")
            .set("awaited", awaited)
            .set("conversion_id", id)
            .or_ignore()
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
             or exists (select 1 from visits v
                         where v.alias = w.awaited and (substr(v.alias, 1, 4) = 'ck_z' or (v.flags & 33536) = 32768))
             or exists (select 1 from visit_notes n
                          join visits v on v.click_id = n.click_id
                         where n.anytrack_click_id = w.awaited)
             or exists (select 1 from visit_notes n
                          join visits v on v.alias = n.click_id
                         where n.anytrack_click_id = w.awaited and (substr(v.alias, 1, 4) = 'ck_z' or (v.flags & 33536) = 32768))
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
