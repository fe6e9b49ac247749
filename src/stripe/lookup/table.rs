//! SQL of `stripe_lookups`.
//! In: payments to ask about, and what came of it. Out: the next one to ask about. Private to this room.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::{AnyConnection, Row as _};

use super::{Lookup, Subject, Waiting};
use crate::clock::Timestamp;
use crate::store::Store;

pub(super) async fn note(
    tx: &mut AnyConnection,
    event: &Waiting,
    subject: Subject,
    object_id: &str,
    due: Timestamp,
) -> Result<()> {
    sqlx::query(
        "insert into stripe_lookups (account, subject, object_id, source_id, event_id, due_at_ms, tries, said)
         values ($1, $6, $2, $3, $4, $5, 0, $7)
             on conflict do nothing",
    )
    .bind(&event.account)
    .bind(object_id)
    .bind(&event.source_id)
    .bind(&event.id)
    .bind(due.as_ms())
    .bind(subject.word())
    .bind(format!("It came without {}. Stripe is asked for it, if there is an API key.", subject.plain()))
    .execute(tx)
    .await
    .context("could not note what to ask Stripe for")?;
    Ok(())
}

/// Claims the oldest payment to ask about, for as long as `lease`.
pub(super) async fn claim(
    store: &Store,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<Lookup>> {
    // Asked often, so it must not cost a transaction.
    let waiting = sqlx::query("select tries from stripe_lookups where due_at_ms <= $1 limit 1");
    if waiting.bind(now.as_ms()).fetch_optional(store.pool()).await?.is_none() {
        return Ok(None);
    }
    let mut tx = store.begin().await?;
    let row = sqlx::query(
        "update stripe_lookups
            set due_at_ms = $2, tries = tries + 1
          where (account, subject, object_id) = (select account, subject, object_id from stripe_lookups
                                                  where due_at_ms <= $1
                                                  order by due_at_ms
                                                  limit 1)
            and due_at_ms <= $1
      returning account, subject, object_id, source_id, tries",
    )
    .bind(now.as_ms())
    .bind(now.plus(lease).as_ms())
    .fetch_optional(&mut *tx)
    .await
    .context("could not look for what to ask Stripe")?;
    tx.commit().await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Lookup {
        account: row.try_get("account")?,
        subject: Subject::of_word(&row.try_get::<String, _>("subject")?)
            .context("a question of another version")?,
        object_id: row.try_get("object_id")?,
        source_id: row.try_get("source_id")?,
        tries: row.try_get("tries")?,
    }))
}

/// True while a payment lacks what is asked for.
pub(super) async fn is_wanted(store: &Store, lookup: &Lookup) -> Result<bool> {
    let text = match lookup.subject {
        Subject::CheckoutOfIntent => {
            "select c.id
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = $1 and o.object_id = $2 and o.role = 'identity' and c.match_state = 'unmatched'
            and not exists (select 1 from stripe_events e
                             where e.conversion_id = c.id and substr(e.type, 1, 17) = 'checkout.session.')"
        }
        Subject::CheckoutOfSubscription | Subject::CheckoutsOfCustomer => {
            "select c.id
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = $1 and o.object_id = $2 and o.role = 'lineage' and c.match_state = 'unmatched'
          limit 1"
        }
        Subject::InvoiceOfIntent => {
            "select c.id
           from stripe_objects o
           join conversions c on c.id = o.conversion_id
          where o.account = $1 and o.object_id = $2 and o.role = 'identity' and c.paid_at_ms is null"
        }
    };
    let row = sqlx::query(text)
        .bind(&lookup.account)
        .bind(&lookup.object_id)
        .fetch_optional(store.pool())
        .await
        .context("could not see whether it arrived")?;
    Ok(row.is_some())
}

pub(super) async fn end(
    store: &Store,
    lookup: &Lookup,
    due: Option<Timestamp>,
    said: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sqlx::query(
        "update stripe_lookups set due_at_ms = $1, said = $2 where account = $3 and object_id = $4 and subject = $5",
    )
    .bind(due.map(Timestamp::as_ms))
    .bind(said)
    .bind(&lookup.account)
    .bind(&lookup.object_id)
    .bind(lookup.subject.word())
    .execute(&mut *tx)
    .await
    .context("could not note what Stripe said")?;
    tx.commit().await
}
