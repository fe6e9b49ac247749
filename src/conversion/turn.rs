//! Locks on payments: makes several copies of the program write the ledger without conflicts.
//! Takes an account and the IDs that an event names; returns once no other transaction can write a
//! payment that they lead to.
//! Guarantees that two transactions never match the same payment, or a payment and one that depends
//! on it, at the same time. SQLite has one writer anyway.
//!
//! A transaction locks all IDs of the payment that it matches: its own, and those of its customer
//! and subscription. Its match may change the match of payments with the same customer or
//! subscription, and through these of others, so their IDs are locked too.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::payment::Contract;
use super::table;
use crate::store::AnyConnection;
use crate::store::turn::{self, Hold, Names};

/// Maximum number of IDs locked one by one. A customer with more locks the ledger of the whole
/// account.
const MOST_IDS: usize = 100;
/// Number of searches for further IDs before the account's ledger is locked. A search finds new IDs
/// only while other transactions add some.
const MOST_LOOKS: usize = 5;

/// Waits until no other transaction writes conversions of this account, and blocks others until
/// this transaction ends.
pub(super) async fn take_account(tx: &mut AnyConnection, account: &str) -> Result<()> {
    turn::take(tx, &of_account(account, Hold::Alone)).await
}

/// Waits until no transaction at all writes conversions, and blocks others until this transaction
/// ends. Fails within a second while a copy of the program is frozen: deleting can wait, but other
/// transactions that queue behind this one would wait too.
pub(super) async fn take_all(tx: &mut AnyConnection) -> Result<()> {
    turn::take_soon(tx, &Names::default().with(Hold::Alone, LEDGERS)).await
}

/// Waits until no other transaction writes a payment that these IDs lead to, and blocks those until
/// this transaction ends.
pub(super) async fn take<'a>(
    tx: &mut AnyConnection,
    account: &str,
    ids: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    if !turn::has_rivals(tx) {
        return Ok(());
    }
    let mut held: BTreeSet<String> = ids.into_iter().map(str::to_owned).collect();
    turn::mark(tx).await?;
    turn::take(tx, &of(account, &held)).await?;
    for _ in 0..MOST_LOOKS {
        let further = further(tx, account, &held).await?;
        if further.is_empty() {
            return Ok(());
        }
        if held.len() + further.len() > MOST_IDS {
            break;
        }
        let is_free = turn::try_take(tx, &of_ids(Names::default(), account, &further)).await?;
        held.extend(further);
        if !is_free {
            // A transaction that waits while it holds a lock must ask in order; otherwise two could
            // wait for each other forever.
            turn::give_back(tx).await?;
            turn::take(tx, &of(account, &held)).await?;
        }
    }
    turn::give_back(tx).await?;
    take_account(tx, account).await
}

/// The same for a payment that is stored.
pub(super) async fn take_around(tx: &mut AnyConnection, account: &str, id: &str) -> Result<()> {
    if !turn::has_rivals(tx) {
        return Ok(());
    }
    let ids = table::objects_of(tx, id).await?;
    take(tx, account, ids.iter().map(String::as_str)).await
}

/// The IDs that these IDs lead to, without the IDs themselves.
async fn further(
    tx: &mut AnyConnection,
    account: &str,
    held: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let kin = table::kin(tx, account, held, MOST_IDS).await?;
    let mut further = kin.objects;
    for facts in kin.contracts {
        let contract: Contract =
            serde_json::from_str(&facts).context("a stored subscription cannot be read")?;
        further.extend([contract.customer, contract.customer_account].into_iter().flatten());
    }
    further.retain(|id| !held.contains(id));
    Ok(further)
}

/// A lock that every transaction shares that writes conversions.
const LEDGERS: &str = "ledgers";

fn of_account(account: &str, hold: Hold) -> Names {
    Names::default().with(Hold::Shared, LEDGERS).with(hold, &format!("ledger {account}"))
}

fn of(account: &str, ids: &BTreeSet<String>) -> Names {
    of_ids(of_account(account, Hold::Shared), account, ids)
}

fn of_ids(names: Names, account: &str, ids: &BTreeSet<String>) -> Names {
    names.with_all(Hold::Alone, ids.iter().map(|id| format!("object {account} {id}")))
}
