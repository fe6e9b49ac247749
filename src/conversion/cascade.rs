//! Re-matches the payments that depend on a payment that changed.
//! Takes a payment; writes it, every payment that is or could be matched through it, and those that
//! depend on these, until nothing changes anymore.
//! Guarantees that the order in which events and visits arrived does not matter. What is too much
//! for one transaction is noted and done in the next ones.

use std::collections::BTreeSet;

use anyhow::Result;

use super::join::Match;
use super::settle::{self, objects};
use super::table::{self, LaterPayments};
use super::{Ledger, Line, Record};
use crate::clock::Timestamp;
use crate::ids::ClickId;
use crate::store::AnyConnection;

/// Maximum number of other payments re-matched in one transaction, because it blocks all others of
/// its account.
pub(super) const REMATCHED_AT_ONCE: usize = 200;

/// The state of a payment before it is re-matched.
pub(super) struct Before {
    pub(super) line: Option<Line>,
    /// True if another payment turned out to be this one: others may have been matched through it,
    /// too.
    pub(super) was_merged: bool,
}

/// Re-matches a payment and everything that depends on it.
pub(super) async fn settle_with_dependents(
    tx: &mut AnyConnection,
    ledger: Ledger<'_>,
    record: &mut Record,
    before: &Before,
) -> Result<()> {
    let learned = settle::settle(tx, ledger, record).await?;
    let mut waiting = BTreeSet::new();
    if before.was_merged || affects_others(before.line.as_ref(), record, learned) {
        waiting = dependents(tx, record).await?;
    }
    let mut rematched = 0;
    while let Some(id) = waiting.pop_first() {
        if rematched == REMATCHED_AT_ONCE {
            waiting.insert(id);
            tracing::warn!(
                payment = record.id,
                rest = waiting.len(),
                "many payments depend on this one; the rest is re-matched next"
            );
            return table::settle_later(tx, &waiting).await;
        }
        rematched += 1;
        // It may have been merged into another payment since.
        let Some(mut dependent) = table::find(tx, &id).await? else { continue };
        let line = dependent.line.clone();
        let learned = settle::settle(tx, ledger, &mut dependent).await?;
        // Its own visit may have arrived too, and then other payments depend on it. The loop ends,
        // because only payments matched by their own facts and visits pass on a click ID.
        if affects_others(line.as_ref(), &dependent, learned) {
            waiting.extend(dependents(tx, &dependent).await?);
        }
    }
    Ok(())
}

/// True if other payments may have another match now.
fn affects_others(before: Option<&Line>, record: &Record, learned: bool) -> bool {
    let is_abandoned = record.line.is_none() && record.payment.expired_at.is_some();
    let (given, gives) = (given(before), given(record.line.as_ref()));
    is_abandoned || given != gives || (learned && gives.is_some())
}

/// What other payments can be matched by: nothing, unless this payment was matched by its own
/// reference.
fn given(line: Option<&Line>) -> Option<(&ClickId, Timestamp, &str)> {
    let line = line?;
    match &line.result {
        Match::Matched { by, click_id } if by.is_own() => {
            Some((click_id, line.occurred_at, &line.transaction_id))
        }
        Match::Matched { .. } | Match::Unmatched(_) => None,
    }
}

/// Payments that may be matched through this one: unmatched ones, and ones that are already matched
/// through an earlier payment.
async fn dependents(tx: &mut AnyConnection, record: &Record) -> Result<BTreeSet<String>> {
    let through: Vec<&str> = objects(record)
        .into_iter()
        .filter(|(id, role)| *role == "lineage" || record.payment.sessions.contains(*id))
        .map(|(id, _)| id)
        .collect();
    match table::later_payments(tx, record, &through, REMATCHED_AT_ONCE).await? {
        LaterPayments::Few(ids) => Ok(ids),
        LaterPayments::SettledLater => Ok(BTreeSet::new()),
    }
}
