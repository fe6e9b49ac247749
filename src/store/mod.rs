//! The database: opening it, transactions, migrations, and the group-commit writer.
//! In: a URL. Out: one `Store` that behaves the same on SQLite and PostgreSQL.
//! Promise: what a commit acknowledged survives `kill -9` and power loss; the two engines differ only in this folder.

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
// Rooms hand a connection on to their tables; only tables say anything to it.
use migrations::MIGRATIONS;
use sqlite_file::Access;
pub(crate) use sqlx::AnyConnection;
pub(crate) use sqlx::error::BoxDynError;

/// Connections to a SQLite file that read. It gains nothing from more.
const SQLITE_CONNECTIONS: u32 = 4;
/// Connections to PostgreSQL where nobody says how many: one writes visits, the others serve requests and workers.
const POSTGRES_CONNECTIONS: u32 = 13;
/// How long an ordered stop waits for PostgreSQL to take leave of its connections: a dead one never answers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Which database serves us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file in the data directory; this process owns it.
    Sqlite,
    /// A server, shared by any number of replicas.
    Postgres,
}

/// Length and time of the last write of the file and of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace([Option<(u64, i64, i64)>; 2]);

/// Where a database is.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    /// `sqlite://path` or `postgres://…`.
    pub(crate) url: &'a str,
    /// Most connections to PostgreSQL, at least 2.
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
    /// Where transactions that write begin. On SQLite a connection of its own, so that slow reports never hold up a webhook.
    writes: AnyPool,
    engine: Engine,
    /// Where it is; may hold a password.
    url: Arc<str>,
    /// How a transaction that writes begins.
    begin: &'static str,
    /// SQLite has one writer: taking turns here never waits busily, as `begin immediate` against each other would.
    gate: Arc<Mutex<()>>,
    visits: batch::Writer,
    suspicion: Arc<postgres::Suspicion>,
    probe: Arc<readiness::Probe>,
    /// True since something could not be written, until something could.
    in_trouble: Arc<AtomicBool>,
    /// New rows of the writer's table since the start.
    recorded: Arc<AtomicU64>,
    _lock: Option<Arc<sqlite_lock::DirectoryLock>>,
}

impl Store {
    /// Opens a database and brings its tables up to date.
    /// `visits` and `counts` say what the group-commit writer writes.
    ///
    /// # Errors
    /// When the URL is of another kind, the file is in use by another process, or the server cannot be reached.
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

    /// The same without owning the file: for commands that change one row beside a running server.
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
                in_trouble: Arc::default(),
                recorded: Arc::default(),
                _lock: None,
            })
        } else {
            bail!("CLICKSTAMP_DATABASE_URL must start with sqlite:// or postgres://");
        }
    }

    /// Opens a file that was examined, and makes it if there is none.
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
            in_trouble: Arc::default(),
            recorded: Arc::default(),
            _lock: None,
        })
    }

    /// Which database serves us.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// For single statements that read.
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// For several statements that read.
    pub(crate) async fn connection(&self) -> Result<sqlx::pool::PoolConnection<Any>> {
        self.pool.acquire().await.context("could not get a connection")
    }

    /// Begins a transaction that writes. On SQLite it waits for its turn, then holds the only write lock until it ends.
    /// Who began it commits it; dropping it undoes everything.
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

    /// Begins a transaction that only reads: all its statements see the database at one moment. End it with [`Tx::end`].
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
        Tx { inner, engine: self.engine, in_trouble: self.in_trouble.clone(), _turn: turn }
    }

    /// Adds one row to the group-commit writer's table and waits until it is durable.
    pub(crate) async fn insert(&self, row: NewRow) -> Result<Inserted> {
        let inserted = self.visits.insert(row).await;
        self.in_trouble.store(inserted.is_err(), Ordering::Relaxed);
        if inserted.is_err() {
            self.suspicion.raise();
        }
        if matches!(inserted, Ok(Inserted::New)) {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        }
        inserted
    }

    /// How many new rows the group-commit writer has written since the start.
    pub(crate) fn rows_recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Resolves when the group-commit writer has ended: by `close`, or because it broke, and then no visit can be stored any more.
    pub(crate) async fn writer_ended(&self) {
        self.visits.ended().await;
    }

    /// What a SQLite file looks like from outside: it differs once anybody, of whatever process, has written. `None` on PostgreSQL.
    pub(crate) fn trace(&self) -> Option<Trace> {
        let path = self.url.strip_prefix("sqlite://")?;
        let seen = |path: String| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.len(), found.mtime(), found.mtime_nsec()))
        };
        Some(Trace([seen(path.to_owned()), seen(format!("{path}-wal"))]))
    }

    /// The engine's own word for how durable a commit is: `2` (SQLite's FULL) or `on` (PostgreSQL).
    pub(crate) async fn durability(&self) -> Result<String> {
        let asked = match self.engine {
            Engine::Sqlite => "select cast(synchronous as text) from pragma_synchronous",
            Engine::Postgres => "select current_setting('synchronous_commit')",
        };
        let row = sqlx::query(asked)
            .fetch_one(&self.pool)
            .await
            .context("the database did not answer")?;
        Ok(row.try_get(0)?)
    }

    /// Writes what is still queued, then closes every connection.
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
                    tracing::warn!("PostgreSQL did not answer at the end; its connections are cut");
                }
            }
        }
    }
}

/// Brings the tables up to date.
async fn migrate(pool: &AnyPool) -> Result<()> {
    MIGRATIONS.run(pool).await.map_err(not_migrated)
}

/// Why the tables could not be brought up to date.
fn not_migrated(error: MigrateError) -> anyhow::Error {
    if let MigrateError::VersionMissing(version) = error {
        return anyhow!(
            "the database was written by a newer version of clickstamp (its tables are at {version}), and this is an older \
             program. Nothing was changed. Start the newer version again, or restore a backup from before the update"
        );
    }
    anyhow::Error::new(error).context("could not bring the tables up to date")
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

/// False for a connection that believes to be in a transaction still: SQLite ends one by itself when the disk is full, the driver
/// cannot roll back what is over, and would refuse every later transaction.
async fn is_whole(connection: &mut AnyConnection) -> sqlx::Result<bool> {
    connection.ping().await?; // Rolls back first what was dropped.
    Ok(!connection.is_in_transaction())
}

/// A transaction that writes, and on SQLite the turn that goes with it.
pub(crate) struct Tx {
    inner: Inner,
    engine: Engine,
    in_trouble: Arc<AtomicBool>,
    _turn: Option<OwnedMutexGuard<()>>,
}

enum Inner {
    Sqlite(Transaction<'static, Any>),
    Postgres(postgres::Transaction),
}

/// Key of the lock on the settings among PostgreSQL's advisory locks: "clicksta" in ASCII.
const SETTINGS_LOCK: i64 = 0x636c_6963_6b73_7461;

impl Tx {
    /// Keeps the settings as they are until this transaction ends, on all copies of the program. Call it first: whoever holds another lock may be
    /// waited for by the holder of this one. On SQLite there is one writer at a time anyway.
    pub(crate) async fn keep_settings(&mut self) -> Result<()> {
        self.lock_settings("select cast(pg_advisory_xact_lock_shared($1) as text)").await
    }

    /// Waits until no transaction uses the settings, and keeps later ones waiting until this one ends. Call it first.
    /// A copy that is frozen inside a transaction loses its lock after eight seconds, before the wait for it ends.
    pub(crate) async fn own_settings(&mut self) -> Result<()> {
        self.lock_settings("select cast(pg_advisory_xact_lock($1) as text)").await
    }

    async fn lock_settings(&mut self, statement: &'static str) -> Result<()> {
        match self.engine {
            Engine::Sqlite => Ok(()),
            Engine::Postgres => {
                let lock = sqlx::query(statement).bind(SETTINGS_LOCK).execute(&mut **self);
                lock.await.map(drop).context("could not get the settings to itself")
            }
        }
    }

    /// Makes everything durable. Until it returns, nothing may be promised to anybody.
    pub(crate) async fn commit(self) -> Result<()> {
        let in_trouble = self.in_trouble.clone();
        let committed = self.end().await;
        in_trouble.store(committed.is_err(), Ordering::Relaxed);
        committed
    }

    /// Ends a transaction that only read.
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
    async fn a_writer_that_breaks_is_noticed() {
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
    async fn a_transaction_that_the_database_ended_by_itself_spoils_no_later_one() {
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
    async fn a_database_that_takes_nothing_is_not_ready() {
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
        assert!(!store.in_trouble.load(Ordering::Relaxed));
        store.close().await;
        let _ = std::fs::remove_dir_all(directory); // As above.
    }

    #[tokio::test]
    async fn readers_that_hold_every_connection_do_not_hold_up_a_writer() {
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
        let _ = std::fs::remove_dir_all(directory); // A left-over in the temporary folder harms nobody.
    }
}
