//! The parts of this module that a replay uses to write the ledger again.
//! Takes conversions that were rebuilt elsewhere; removes what they replace here.
//! Guarantees that a conversion with a delivery that was attempted is never removed.

use anyhow::Result;

use super::{table, turn};
use crate::delivery;
use crate::store::{AnyConnection, Tx};

/// The tables that are written from events, each with the column of the conversion's ID, in the
/// order of writing.
pub(crate) const LEDGER: [(&str, &str); 6] = [
    ("payments", "id"),
    ("conversions", "id"),
    ("touches", "conversion_id"),
    ("waits", "conversion_id"),
    ("stripe_objects", "conversion_id"),
    ("abandoned", "payment_id"),
];

/// Tables that are written along with the ledger, by this module or by those it calls.
pub(crate) const BESIDE_THE_LEDGER: [&str; 5] =
    ["subscriptions", "conversion_days", "conversion_sums", "deliveries", "attempts"];

/// Waits until no other transaction writes conversions of this account, and blocks others until
/// this transaction ends.
pub(crate) async fn take_turn(tx: &mut Tx, account: &str) -> Result<()> {
    turn::take_account(tx, account).await
}

/// Deletes the rows that belong to a conversion, so that it can be written again.
pub(crate) async fn forget(tx: &mut AnyConnection, id: &str) -> Result<()> {
    table::forget(tx, id).await
}

/// Removes a conversion that no event creates, unless one of its deliveries was attempted.
pub(crate) async fn remove_unless_sent(tx: &mut AnyConnection, id: &str) -> Result<()> {
    if delivery::delete_unattempted(tx, id).await? {
        table::remove(tx, id).await?;
    }
    Ok(())
}
