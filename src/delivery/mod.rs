//! Deliveries: what is owed to a destination, when, and how it ended.
//! In: a conversion that a destination should hear of. Out: a frozen message, sent until accepted or visibly given up.
//! Promise: what is owed is in the transaction that made it owed; after the first attempt its bytes never change; nothing is owed twice.

mod breaker;
mod pace;
mod schedule;
mod table;
pub(crate) mod worker;

use std::time::Duration;

use anyhow::Result;

use crate::clock::Timestamp;
use crate::destination::{self, Message, Outgoing, Skip};
use crate::settings::Destination;
use crate::store::{AnyConnection, Store};

/// How long a first attempt waits for a visit that may still be on its way.
const WAIT_FOR_VISIT: Duration = Duration::from_secs(120);

/// What a conversion owes to one destination.
pub(crate) struct Owed<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) conversion_id: &'a str,
    pub(crate) outgoing: &'a Outgoing,
    /// True while the visit of a genuine click ID has not arrived.
    pub(crate) waits_for_visit: bool,
}

/// What is told about a conversion; more kinds (refunds, disputes) have keys of their own.
const PAID: &str = "paid";

/// Writes what is owed, or corrects what has not been tried yet. Idempotent.
pub(crate) async fn owe(tx: &mut AnyConnection, now: Timestamp, owed: &Owed<'_>) -> Result<()> {
    let composed = destination::compose(owed.destination, owed.outgoing);
    let due = if owed.waits_for_visit { now.plus(WAIT_FOR_VISIT) } else { now };
    match table::find(tx, &owed.destination.id, owed.conversion_id, PAID).await? {
        None => table::insert(tx, now, due, PAID, owed, &composed).await,
        Some(existing) => match (existing.state.as_str(), &composed) {
            ("skipped", Ok(message)) if existing.may_become_owed() => {
                table::freeze(tx, &existing.id, due, owed.destination, message).await
            }
            ("pending" | "held", Ok(message))
                if existing.is_untouched()
                    && (existing.request != message.body || existing.due > due) =>
            {
                table::freeze(tx, &existing.id, due, owed.destination, message).await
            }
            _ => Ok(()),
        },
    }
}

/// Removes what was owed for a conversion and never tried. Answers whether nothing is left.
pub(crate) async fn forget_untold(tx: &mut AnyConnection, conversion_id: &str) -> Result<bool> {
    table::forget_untold(tx, conversion_id).await
}

/// The row that is there already.
struct Existing {
    id: String,
    state: String,
    reason: Option<String>,
    request: String,
    attempts: i64,
    due: Timestamp,
}

impl Existing {
    fn is_untouched(&self) -> bool {
        self.attempts == 0
    }

    /// A match can only cure these; a setting changed later changes nothing that was decided.
    fn may_become_owed(&self) -> bool {
        [Skip::NoIdentity, Skip::Unmatched]
            .iter()
            .any(|skip| self.reason.as_deref() == Some(skip.word()))
    }
}

/// The frozen text and the reason, as the row has them.
fn frozen(
    composed: &Result<Message, Skip>,
) -> (&'static str, Option<&'static str>, Option<&Message>) {
    match composed {
        Ok(message) => ("pending", None, Some(message)),
        Err(skip) => ("skipped", Some(skip.word()), None),
    }
}

/// What became of a wish to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    /// It is owed again, due now, with the same bytes.
    Owed,
    /// There is no such delivery.
    NotFound,
    /// It cannot be sent again from this state.
    NotRetryable(String),
}

/// Makes a given-up delivery owed again: the same bytes, a fresh schedule, earlier attempts stay listed. A pending one becomes due now.
///
/// # Errors
/// When the database cannot be written.
pub async fn retry(store: &Store, now: Timestamp, id: &str) -> Result<Retried> {
    let mut tx = store.begin().await?;
    let retried = if table::owe_again(&mut tx, now, id).await? {
        Retried::Owed
    } else {
        match table::state_of(&mut tx, id).await? {
            Some(state) => Retried::NotRetryable(state),
            None => Retried::NotFound,
        }
    };
    tx.commit().await?;
    Ok(retried)
}

/// Makes everything given up for a destination owed again; answers how many. For the button beside a corrected URL.
///
/// # Errors
/// When the database cannot be written.
pub async fn retry_all(store: &Store, now: Timestamp, destination_id: &str) -> Result<u64> {
    let mut tx = store.begin().await?;
    let count = table::owe_all_again(&mut tx, now, destination_id).await?;
    tx.commit().await?;
    Ok(count)
}
