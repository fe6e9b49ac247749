//! What a ledger written anew needs of this room.
//! In: conversions that are rebuilt elsewhere. Out: room for them here.
//! Promise: nothing that a destination was told of is ever removed.

use anyhow::Result;

use super::{table, turn};
use crate::delivery;
use crate::store::{AnyConnection, Tx};

/// The tables that hold what events say, with the column that holds the conversion's ID, in the order they are written.
pub(crate) const LEDGER: [(&str, &str); 6] = [
    ("payments", "id"),
    ("conversions", "id"),
    ("touches", "conversion_id"),
    ("waits", "conversion_id"),
    ("stripe_objects", "conversion_id"),
    ("abandoned", "payment_id"),
];

/// Tables that are written beside it, by this room or by those it calls.
pub(crate) const BESIDE_THE_LEDGER: [&str; 5] =
    ["subscriptions", "conversion_days", "conversion_sums", "deliveries", "attempts"];

/// Waits until no other transaction writes conversions of this account, and keeps them waiting until this one ends.
pub(crate) async fn take_turn(tx: &mut Tx, account: &str) -> Result<()> {
    turn::take_account(tx, account).await
}

/// Forgets what hangs on a conversion, so that it can be written anew.
pub(crate) async fn forget(tx: &mut AnyConnection, id: &str) -> Result<()> {
    table::forget(tx, id).await
}

/// Removes a conversion that no event makes, unless a destination heard of it.
pub(crate) async fn remove_unless_told(tx: &mut AnyConnection, id: &str) -> Result<()> {
    if delivery::forget_untold(tx, id).await? {
        table::remove(tx, id).await?;
    }
    Ok(())
}
