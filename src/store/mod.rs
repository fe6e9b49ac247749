//! The database: opening it, transactions, migrations, and the group-commit writer.
//! Takes a URL; returns one `Store` that behaves the same on SQLite and PostgreSQL.
//! Guarantees that an acknowledged commit survives `kill -9` and power loss. The two engines differ
//! only in this directory.

mod backup;
mod batch;
mod migrations;
mod postgres;
mod readiness;
mod shadow;
mod sql;
mod sqlite_file;
mod sqlite_lock;
pub(crate) mod turn;

use std::ops::{Deref, DerefMut};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::MigrateError;
use sqlx::{Any, AnyPool, Connection as _, Executor as _, Row as _, Transaction};
use tokio::sync::{Mutex, OwnedMutexGuard};

pub(crate) use backup::{clear_unfinished, copy_sqlite};
pub(crate) use batch::{Batch, Cell, Inserted, Kind, NewRow, Tally};
pub(crate) use shadow::Shadow;
pub(crate) use sql::{FromRow, FromSql, Row, Statement, Text, ToSql, Value, from_row, sql};
pub(crate) use sqlite_file::{Counted, Staged};
// Modules pass a connection to their tables; only tables run statements.
use migrations::MIGRATIONS;
use sqlite_file::Access;
pub(crate) use sqlx::AnyConnection;
pub(crate) use sqlx::error::BoxDynError;

/// Number of read connections to a SQLite file; more would not help.
const SQLITE_CONNECTIONS: u32 = 4;
/// Default number of connections to PostgreSQL: one writes visits, the others serve requests and
/// workers.
const POSTGRES_CONNECTIONS: u32 = 13;
/// How long an orderly stop waits for PostgreSQL to close its connections: a dead connection never
/// responds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file in the data directory; this process owns it.
    Sqlite,
    /// A server, shared by any number of replicas.
    Postgres,
}

/// Size and time of the last write, of the file and of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace([Option<(u64, i64, i64)>; 2]);

/// The address of a database.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    /// `sqlite://path` or `postgres://…`.
    pub(crate) url: &'a str,
    /// Maximum number of connections to PostgreSQL, at least 2.
    pub(crate) connections: u32,
}

impl<'a> From<&'a str> for Address<'a> {
    fn from(url: &'a str) -> Self {
        Self { url, connections: POSTGRES_CONNECTIONS }
    }
}

impl<'a> From<&'a String> for Address<'a> {
    fn from(url: &'a String) -> Self {
        url.as_str().into()
    }
}

/// An open database. Cloning is cheap; all clones are one database.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    /// The pool of write transactions. On SQLite it is a separate connection, so that slow reports
    /// never delay a webhook.
    writes: AnyPool,
    engine: Engine,
    /// The address; may contain a password.
    url: Arc<str>,
    /// The statement that begins a write transaction.
    begin: &'static str,
    /// SQLite has one writer: waiting for this lock is cheaper than `begin immediate` against each
    /// other, which polls.
    gate: Arc<Mutex<()>>,
    visits: batch::Writer,
    suspicion: Arc<postgres::Suspicion>,
    probe: Arc<readiness::Probe>,
    /// True after a write failed, until one succeeds.
    is_failing: Arc<AtomicBool>,
    /// New rows of the writer's table since the start.
    recorded: Arc<AtomicU64>,
    _lock: Option<Arc<sqlite_lock::DirectoryLock>>,
}

impl Store {
    /// Opens a database and runs its migrations. `visits` and `counts` define what the
    /// group-commit writer writes.
    ///
    /// # Errors
    /// Fails if the URL is of another kind, the file is in use by another process, or the server
    /// can't be reached.
    pub(crate) async fn open<'a>(
        address: impl Into<Address<'a>>,
        visits: &'static Batch,
        counts: &'static Tally,
    ) -> Result<Self> {
        let address = address.into();
        let Some(path) = address.url.strip_prefix("sqlite://").map(Path::new) else {
            return Self::open_beside(address, visits, counts).await;
        };
        let lock = Arc::new(sqlite_lock::DirectoryLock::take(path)?);
        let path = sqlite_file::locate(path)?;
        sqlite_file::ensure_opens(&path)?;
        sqlite_file::ensure_undamaged(&path)?;
        Ok(Self { _lock: Some(lock), ..Self::open_sqlite_beside(&path, visits, counts).await? })
    }

    /// The same without locking the file: for commands that change one row beside a running server.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub(crate) async fn open_beside<'a>(
        address: impl Into<Address<'a>>,
        visits: &'static Batch,
        counts: &'static Tally,
    ) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let Address { url, connections } = address.into();
        let (gate, url) = (Arc::new(Mutex::new(())), Arc::<str>::from(url));
        if let Some(path) = url.strip_prefix("sqlite://") {
            let path = sqlite_file::locate(Path::new(path))?;
            sqlite_file::ensure_opens(&path)?;
            Self::open_sqlite_beside(&path, visits, counts).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let suspicion = Arc::default();
            postgres::prepare(&url, connections, &MIGRATIONS).await?;
            let pool = postgres::pool(&url, connections - 1, &suspicion)?;
            let writer = batch::Writer::on_postgres(&url, visits, counts)?;
            let writes = pool.clone();
            let engine = Engine::Postgres;
            Ok(Self {
                pool,
                writes,
                engine,
                url,
                begin: "begin",
                gate,
                visits: writer,
                suspicion,
                probe: Arc::default(),
                is_failing: Arc::default(),
                recorded: Arc::default(),
                _lock: None,
            })
        } else {
            bail!("CLICKSTAMP_DATABASE_URL must start with sqlite:// or postgres://");
        }
    }

    /// Opens a checked file, and creates it if there is none.
    async fn open_sqlite_beside(
        path: &Path,
        visits: &'static Batch,
        counts: &'static Tally,
    ) -> Result<Self> {
        sqlx::any::install_default_drivers();
        sqlite_file::create(path)?;
        let gate = Arc::new(Mutex::new(()));
        let pool = open_sqlite(path, SQLITE_CONNECTIONS).await?;
        let writes = open_sqlite(path, 1).await?;
        migrate(&pool).await?;
        Ok(Self {
            pool,
            writes,
            engine: Engine::Sqlite,
            url: format!("sqlite://{}", path.display()).into(),
            begin: "begin immediate",
            visits: batch::Writer::on_sqlite(path, gate.clone(), visits, counts)?,
            gate,
            suspicion: Arc::default(),
            probe: Arc::new(readiness::Probe::of_files(path)),
            is_failing: Arc::default(),
            recorded: Arc::default(),
            _lock: None,
        })
    }

    /// Which database serves us.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// The pool for single read statements.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// A connection for several read statements.
    pub(crate) async fn connection(&self) -> Result<sqlx::pool::PoolConnection<Any>> {
        self.pool.acquire().await.context("could not get a connection")
    }

    /// Begins a write transaction. On SQLite it waits for the lock, then holds the only write lock
    /// until it ends. Dropping it rolls everything back.
    pub(crate) async fn begin(&self) -> Result<Tx> {
        let (inner, turn) = match self.engine {
            Engine::Sqlite => {
                let turn = self.gate.clone().lock_owned().await;
                let begun = self.writes.begin_with(self.begin).await;
                (Inner::Sqlite(begun.context("could not begin a transaction")?), Some(turn))
            }
            Engine::Postgres => {
                let begun =
                    postgres::Transaction::begin(&self.writes, &self.suspicion, self.begin).await?;
                (Inner::Postgres(begun), None)
            }
        };
        Ok(self.transaction(inner, turn))
    }

    /// Begins a read transaction: all its statements see the database as of one moment. End it with
    /// [`Tx::end`].
    pub(crate) async fn begin_reading(&self) -> Result<Tx> {
        let inner = match self.engine {
            Engine::Sqlite => {
                let begun = self.pool.begin_with("begin deferred").await;
                Inner::Sqlite(begun.context("could not begin to read")?)
            }
            Engine::Postgres => {
                let begin = "begin isolation level repeatable read, read only";
                Inner::Postgres(
                    postgres::Transaction::begin(&self.pool, &self.suspicion, begin).await?,
                )
            }
        };
        Ok(self.transaction(inner, None))
    }

    fn transaction(&self, inner: Inner, turn: Option<OwnedMutexGuard<()>>) -> Tx {
        Tx { inner, engine: self.engine, is_failing: self.is_failing.clone(), _turn: turn }
    }

    /// Adds one row to the group-commit writer's table and waits until it is durable.
    pub(crate) async fn insert(&self, row: NewRow) -> Result<Inserted> {
        let inserted = self.visits.insert(row).await;
        self.is_failing.store(inserted.is_err(), Ordering::Relaxed);
        if inserted.is_err() {
            self.suspicion.raise();
        }
        if matches!(inserted, Ok(Inserted::New)) {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        }
        inserted
    }

    /// The number of new rows that the group-commit writer has written since the start.
    pub(crate) fn rows_recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Resolves when the group-commit writer has ended: after `close`, or because it failed, and
    /// then no visit can be stored anymore.
    pub(crate) async fn writer_ended(&self) {
        self.visits.ended().await;
    }

    /// The size and time stamps of a SQLite file: they change when any process writes. `None` on
    /// PostgreSQL.
    pub(crate) fn trace(&self) -> Option<Trace> {
        let path = self.url.strip_prefix("sqlite://")?;
        let seen = |path: String| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.len(), found.mtime(), found.mtime_nsec()))
        };
        Some(Trace([seen(path.to_owned()), seen(format!("{path}-wal"))]))
    }

    /// How durable the engine says a commit is: `2` (SQLite's FULL) or `on` (PostgreSQL).
    pub(crate) async fn durability(&self) -> Result<String> {
        let asked = match self.engine {
            Engine::Sqlite => "select cast(synchronous as text) from pragma_synchronous",
            Engine::Postgres => "select current_setting('synchronous_commit')",
        };
        let row = sqlx::query(asked)
            .fetch_one(&self.pool)
            .await
            .context("the database did not respond")?;
        Ok(row.try_get(0)?)
    }

    /// Writes queued rows, then closes every connection.
    pub(crate) async fn close(&self) {
        let closed = async {
            self.visits.close().await;
            self.writes.close().await;
            self.pool.close().await;
        };
        match self.engine {
            Engine::Sqlite => closed.await,
            Engine::Postgres => {
                if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
                    tracing::warn!(
                        "PostgreSQL did not respond during the stop; cutting its connections"
                    );
                }
            }
        }
    }
}

/// Runs the migrations.
async fn migrate(pool: &AnyPool) -> Result<()> {
    MIGRATIONS.run(pool).await.map_err(not_migrated)
}

/// Explains why the migrations failed.
fn not_migrated(error: MigrateError) -> anyhow::Error {
    if let MigrateError::VersionMissing(version) = error {
        return anyhow!(
            "the database was written by a newer version of clickstamp (its tables are at {version}), and this is an older \
             program. Nothing was changed. Start the newer version again, or restore a backup from before the update"
        );
    }
    anyhow::Error::new(error).context("could not run the migrations")
}

async fn open_sqlite(path: &Path, connections: u32) -> Result<AnyPool> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .after_connect(|connection, _| Box::pin(async move { prepare_sqlite(connection).await }))
        .after_release(|connection, _| Box::pin(async move { is_whole(connection).await }))
        .connect(&sqlite_file::url(path, Access::Write)?)
        .await
        .with_context(|| format!("could not open the database file {}", path.display()))
}

async fn prepare_sqlite(connection: &mut AnyConnection) -> sqlx::Result<()> {
    for pragma in batch::SQLITE_PRAGMAS {
        connection.execute(*pragma).await?;
    }
    Ok(())
}

/// Returns false for a connection that wrongly believes to be in a transaction. SQLite ends one on
/// its own when the disk is full; the driver then can't roll it back, and would refuse every later
/// transaction.
async fn is_whole(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    connection.ping().await?; // Rolls back a dropped transaction first.
    Ok(!connection.is_in_transaction())
}

/// A transaction, with the write lock on SQLite.
pub(crate) struct Tx {
    inner: Inner,
    engine: Engine,
    is_failing: Arc<AtomicBool>,
    _turn: Option<OwnedMutexGuard<()>>,
}

enum Inner {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    static BATCH: Batch =
        Batch { table: "visits", columns: &[("click_id", Kind::Text)], key: &["click_id"] };
    static TALLY: Tally =
        Tally { table: "visit_counts", columns: &[("site_id", Kind::Text)], count: "visits" };

    #[tokio::test]
    async fn a_writer_that_fails_is_noticed() {
        static BROKEN: Batch =
            Batch { table: "nowhere", columns: &[("id", Kind::Text)], key: &["id"] };
        let directory = std::env::temp_dir().join(format!("store_{}", crate::ids::new_secret()));
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let store = Store::open(&url, &BROKEN, &TALLY).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(2), store.writer_ended()).await;
        assert!(ended.is_ok());
        store.close().await;
        let _ = std::fs::remove_dir_all(directory); // As below.
    }

    #[tokio::test]
    async fn a_transaction_that_the_database_ended_does_not_break_later_ones() {
        let directory = std::env::temp_dir().join(format!("store_{}", crate::ids::new_secret()));
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let store = Store::open(&url, &BATCH, &TALLY).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        // As SQLite does when the disk is full.
        tx.execute("rollback").await.unwrap();
        assert!(tx.commit().await.is_err());
        let tx = store.begin().await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;
        let _ = std::fs::remove_dir_all(directory); // As above.
    }

    #[tokio::test]
    async fn a_database_that_refuses_writes_is_not_ready() {
        let directory = std::env::temp_dir().join(format!("store_{}", crate::ids::new_secret()));
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let store = Store::open(&url, &BATCH, &TALLY).await.unwrap();
        let now = Timestamp::from_seconds(1_790_000_000);
        assert!(store.unready(now).await.is_none());
        let mut tx = store.begin().await.unwrap();
        tx.execute("rollback").await.unwrap();
        assert!(tx.commit().await.is_err());
        store.writes.execute("pragma query_only = on").await.unwrap();
        for _ in 0..2 {
            assert_eq!(store.unready(now).await.unwrap().sentence, "the database is read-only");
        }
        store.writes.execute("pragma query_only = off").await.unwrap();
        assert!(store.unready(now).await.is_none());
        assert!(!store.is_failing.load(Ordering::Relaxed));
        store.close().await;
        let _ = std::fs::remove_dir_all(directory); // As above.
    }

    #[tokio::test]
    async fn readers_that_use_every_connection_do_not_delay_a_writer() {
        let directory = std::env::temp_dir().join(format!("store_{}", crate::ids::new_secret()));
        let url = format!("sqlite://{}/clickstamp.db", directory.display());
        let store = Store::open(&url, &BATCH, &TALLY).await.unwrap();
        let mut readers = Vec::new();
        for _ in 0..SQLITE_CONNECTIONS {
            readers.push(store.pool().acquire().await.unwrap());
        }
        let begun = tokio::time::timeout(Duration::from_secs(2), store.begin()).await;
        assert!(begun.is_ok_and(|tx| tx.is_ok()));
        drop(readers);
        store.close().await;
        let _ = std::fs::remove_dir_all(directory); // Leftover temporary files do no harm.
    }
}
