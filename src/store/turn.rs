//! Named locks between copies of the program.
//! Takes names, and whether others may share them; returns once this transaction holds them, until
//! it ends.
//! On SQLite this does nothing, because there is one writer. On PostgreSQL these are advisory
//! locks, which are granted in order and released when a session is lost.

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use sqlx::{AnyConnection, AssertSqlSafe, Executor as _, Row as _};

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Others may hold it too, unless they want it exclusively.
    Shared,
    /// Exclusively.
    Alone,
}

/// Names to lock, in the order in which they are requested.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(Vec<(Hold, i64)>);

impl Names {
    /// Adds a name. All transactions must add names of different kinds in the same order; names of
    /// one kind are sorted.
    pub(crate) fn with(mut self, hold: Hold, name: &str) -> Self {
        self.0.push((hold, key(name)));
        self
    }

    /// Adds several names of one kind.
    pub(crate) fn with_all(mut self, hold: Hold, names: impl IntoIterator<Item = String>) -> Self {
        let mut keys: Vec<i64> = names.into_iter().map(|name| key(&name)).collect();
        keys.sort_unstable();
        keys.dedup();
        self.0.extend(keys.into_iter().map(|key| (hold, key)));
        self
    }
}

/// True if several copies of the program may write at the same time.
pub(crate) fn has_rivals(connection: &AnyConnection) -> bool {
    connection.backend_name() == "PostgreSQL"
}

/// Waits until this transaction holds the locks.
pub(crate) async fn take(tx: &mut AnyConnection, names: &Names) -> Result<()> {
    if names.0.is_empty() || !has_rivals(tx) {
        return Ok(());
    }
    let asked = names.0.iter().map(|(hold, key)| match hold {
        Hold::Shared => format!("select cast(pg_advisory_xact_lock_shared({key}) as text);"),
        Hold::Alone => format!("select cast(pg_advisory_xact_lock({key}) as text);"),
    });
    // Numbers only, and in one message, so that any number of names costs one round trip.
    let asked: String = asked.collect();
    tx.execute(AssertSqlSafe(asked)).await.context("could not wait for other copies")?;
    Ok(())
}

/// The same for work that can wait: gives up after a second, because others would queue behind it.
pub(crate) async fn take_soon(tx: &mut AnyConnection, names: &Names) -> Result<()> {
    if !has_rivals(tx) {
        return Ok(());
    }
    tx.execute("set local lock_timeout = '1s'").await?;
    take(tx, names).await.context("another copy of the program holds a lock")?;
    tx.execute("set local lock_timeout = '10s'").await?;
    Ok(())
}

/// Takes the locks if they are free; returns false if one is not. The ones taken so far stay held.
pub(crate) async fn try_take(tx: &mut AnyConnection, names: &Names) -> Result<bool> {
    if names.0.is_empty() || !has_rivals(tx) {
        return Ok(true);
    }
    let asked: Vec<String> = names
        .0
        .iter()
        .map(|(hold, key)| match hold {
            Hold::Shared => format!("pg_try_advisory_xact_lock_shared({key})"),
            Hold::Alone => format!("pg_try_advisory_xact_lock({key})"),
        })
        .collect();
    let asked = format!("select case when {} then 'held' else 'taken' end", asked.join(" and "));
    let row = tx.fetch_one(AssertSqlSafe(asked)).await.context("could not take a lock")?;
    Ok(row.try_get::<String, _>(0)? == "held")
}

/// Sets a savepoint, so that the transaction can release the locks that it takes from here on.
pub(crate) async fn mark(tx: &mut AnyConnection) -> Result<()> {
    if has_rivals(tx) {
        tx.execute("savepoint turn").await.context("could not set a savepoint")?;
    }
    Ok(())
}

/// Releases the locks taken since the savepoint.
pub(crate) async fn give_back(tx: &mut AnyConnection) -> Result<()> {
    if has_rivals(tx) {
        tx.execute("rollback to savepoint turn").await.context("could not release locks")?;
    }
    Ok(())
}

/// Returns a clause for statements that select rows to work on: it skips rows that another copy has
/// locked.
pub(crate) fn free_rows(connection: &AnyConnection) -> &'static str {
    if has_rivals(connection) { " for update skip locked" } else { "" }
}

fn key(name: &str) -> i64 {
    let hash = Sha256::digest(name.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    i64::from_be_bytes(first)
}
