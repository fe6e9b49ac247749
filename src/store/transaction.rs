//! A transaction on either engine.
//! Takes a transaction that the store began; modules pass it to their tables as a connection.
//! Guarantees that a commit is durable once it returns, and that dropping a transaction rolls it
//! back.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use sqlx::{Any, AnyConnection, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::address::Engine;
use super::postgres;

/// A transaction, with the write lock on SQLite.
pub(crate) struct Tx {
    pub(super) inner: Inner,
    pub(super) engine: Engine,
    pub(super) is_failing: Arc<AtomicBool>,
    pub(super) _turn: Option<OwnedMutexGuard<()>>,
}

pub(super) enum Inner {
    Sqlite(Transaction<'static, Any>),
    Postgres(postgres::Transaction),
}

/// Key of the lock on the settings among PostgreSQL's advisory locks: "clicksta" in ASCII.
const SETTINGS_LOCK: i64 = 0x636c_6963_6b73_7461;

impl Tx {
    /// Prevents all copies of the program from changing the settings until this transaction ends.
    /// Call it first; otherwise two transactions could wait for each other's locks. SQLite has one
    /// writer anyway.
    pub(crate) async fn keep_settings(&mut self) -> Result<()> {
        self.lock_settings("select cast(pg_advisory_xact_lock_shared($1) as text)").await
    }

    /// Waits until no transaction uses the settings, and blocks later ones until this one ends.
    /// Call it first. A copy that is frozen inside a transaction loses its lock after eight
    /// seconds, which is before this wait times out.
    pub(crate) async fn own_settings(&mut self) -> Result<()> {
        self.lock_settings("select cast(pg_advisory_xact_lock($1) as text)").await
    }

    async fn lock_settings(&mut self, statement: &'static str) -> Result<()> {
        match self.engine {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => {
                let lock = sqlx::query(statement).bind(SETTINGS_LOCK).execute(&mut **self);
                lock.await.map(drop).context("could not lock the settings")
            }
        }
    }

    /// Makes everything durable. Do not acknowledge anything before it returns.
    pub(crate) async fn commit(self) -> Result<()> {
        let is_failing = self.is_failing.clone();
        let committed = self.end().await;
        is_failing.store(committed.is_err(), Ordering::Relaxed);
        committed
    }

    /// Ends a read transaction.
    pub(crate) async fn end(self) -> Result<()> {
        match self.inner {
            Inner::Sqlite(inner) => inner.commit().await.context("could not commit"),
            Inner::Postgres(inner) => inner.commit().await,
        }
    }
}

impl Deref for Tx {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        match &self.inner {
            Inner::Sqlite(inner) => inner,
            Inner::Postgres(inner) => inner,
        }
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        match &mut self.inner {
            Inner::Sqlite(inner) => inner,
            Inner::Postgres(inner) => inner,
        }
    }
}
