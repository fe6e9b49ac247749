//! SQL of `stripe_lookups`.
//! Takes requests and their results; returns the next one to send. Private to this module.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use super::{Lookup, Subject, Waiting};
use crate::clock::Timestamp;
use crate::store::{Store, insert_into, sql};

pub(super) async fn note(
    tx: &mut AnyConnection,
    event: &Waiting,
    subject: Subject,
    object_id: &str,
    due: Timestamp,
) -> Result<()> {
    insert_into("stripe_lookups")
        .set("account", &event.account)
        .set("subject", subject.word())
        .set("object_id", object_id)
        .set("source_id", &event.source_id)
        .set("event_id", &event.id)
        .set("due_at_ms", due)
        .set("tries", 0)
        .set(
            "said",
            format!(
                "It came without {}. Stripe is asked for it if there is an API key.",
                subject.plain()
            ),
        )
        .or_ignore()
        .execute(tx)
        .await
        .context("could not record what to ask Stripe for")?;
    Ok(())
}

/// Claims the oldest due request until `lease` ends.
pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<Lookup>> {
    // This is called often, so check without a transaction first.
    let waiting = sql("select tries from stripe_lookups where due_at_ms <= :now limit 1");
    if waiting.set("now", now).fetch_optional(store.pool()).await?.is_none() {
        return Ok(None);
    }
    let mut tx = store.begin().await?;
    let row = sql("update stripe_lookups
            set due_at_ms = :due_at_ms, tries = tries + 1
          where (account, subject, object_id) = (select account, subject, object_id from stripe_lookups
                                                  where due_at_ms <= :now
                                                  order by due_at_ms
                                                  limit 1)
            and due_at_ms <= :now
      returning account, subject, object_id, source_id, tries")
    .set("now", now)
    .set("due_at_ms", now.plus(lease))
    .fetch_optional(&mut *tx)
    .await
    .context("could not look for what to ask Stripe")?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Lookup {
        account: row.get("account")?,
        subject: Subject::of_word(&row.get::<String>("subject")?)
            .context("a lookup of an unknown kind")?,
        object_id: row.get("object_id")?,
        source_id: row.get("source_id")?,
        tries: row.get("tries")?,
    }))
}

/// True while a payment still lacks the object.
pub(super) async fn is_wanted(store: &Store, lookup: &Lookup) -> Result<bool> {
    let text = match lookup.subject {
        Subject::CheckoutOfIntent => {
            "select c.id
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = :account and o.object_id = :object_id and o.role = 'identity' and c.match_state = 'unmatched'
            and not exists (select 1 from stripe_events e
                             where e.conversion_id = c.id and substr(e.type, 1, 17) = 'checkout.session.')"
        }
        Subject::CheckoutOfSubscription | Subject::CheckoutsOfCustomer => {
            "select c.id
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = :account and o.object_id = :object_id and o.role = 'lineage' and c.match_state = 'unmatched'
          limit 1"
        }
        Subject::InvoiceOfIntent => {
            "select c.id
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = :account and o.object_id = :object_id and o.role = 'identity' and c.paid_at_ms is null"
        }
    };
    let row = sql(text)
        .set("account", &lookup.account)
        .set("object_id", &lookup.object_id)
        .fetch_optional(store.pool())
        .await
        .context("could not check whether it arrived")?;
    Ok(row.is_some())
}

pub(super) async fn end(
    store: &Store,
    lookup: &Lookup,
    due: Option<Timestamp>,
    said: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update stripe_lookups set due_at_ms = :due, said = :said where account = :account and object_id = :object_id and subject = :subject")
    .set("due", due)
    .set("said", said)
    .set("account", &lookup.account)
    .set("object_id", &lookup.object_id)
    .set("subject", lookup.subject.word())
    .execute(&mut *tx)
    .await
    .context("could not record the result of a lookup")?;
    tx.commit().await
}
