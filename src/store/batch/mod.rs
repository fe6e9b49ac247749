//! The group-commit writer: many requests, one transaction, each acknowledged only after the commit.
//! In: rows for one hot table, with the counters they add to. Out: `New` or `Duplicate` per row, after the commit.
//! Promise: an acknowledged row is durable, is there once, and is counted once; one bad row never fails its neighbours.
//!
//! On SQLite this is a connection of its own on its own thread, with a prepared statement per row: measured 1.5 × as fast as
//! the shared driver's best, and the only reason for a second driver. On PostgreSQL it is one statement per group, by `unnest`.

mod postgres;
mod sqlite;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use sqlx::Executor as _;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

/// What every SQLite connection is told. `full` because the first promise includes power loss; once commits are grouped it
/// costs nothing over `normal`.
pub(super) const SQLITE_PRAGMAS: &[&str] = &[
    "pragma busy_timeout = 10000",
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "pragma foreign_keys = on",
    "pragma temp_store = memory",
    "pragma cache_size = -4000",
];

/// What every PostgreSQL connection is told, whatever the server's own default is.
pub(super) const POSTGRES_SETTINGS: &[&str] =
    &["set synchronous_commit = on", "set lock_timeout = '10s'"];

/// Most rows in one transaction: enough that the commit's cost disappears, few enough that nobody waits long behind it.
const GROUP_ROWS: usize = 256;
/// Rows that may wait. Beyond it the request waits at the door, which bounds memory in a flood.
const QUEUE_ROWS: usize = 4096;

/// How long the writer waits for a server that does not answer; longer than a lock may take, shorter than a request may.
const WAIT_FOR_SERVER: Duration = Duration::from_secs(15);

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
}

/// The table the writer fills: its columns in order, and which of them are its unique key.
pub(crate) struct Batch {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// Names of the unique key's columns. A row that any unique key of the table refuses is a duplicate.
    pub(crate) key: &'static [&'static str],
}

/// The counters it keeps beside: one row per distinct key, and the column that counts.
pub(crate) struct Tally {
    pub(crate) table: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    pub(crate) count: &'static str,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row, and the counter it adds one to when it is new, if any.
pub(crate) struct Row {
    pub(crate) cells: Vec<Cell>,
    pub(crate) tally: Option<Vec<Cell>>,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Duplicate,
}

struct Job {
    row: Row,
    done: oneshot::Sender<Result<Inserted>>,
}

/// Hands rows to the one place that writes them.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Arc<std::sync::Mutex<Option<mpsc::Sender<Job>>>>,
    /// Closed when the writer has ended, in whatever way: its sender lives as long as the writer.
    ended: watch::Receiver<()>,
}

impl Writer {
    /// Starts the writer's thread on a SQLite file.
    pub(super) fn on_sqlite(
        path: &Path,
        gate: Arc<Mutex<()>>,
        batch: &'static Batch,
        tally: &'static Tally,
    ) -> Result<Self> {
        let connection = rusqlite::Connection::open(path)
            .context("could not open the visit writer's connection")?;
        connection
            .execute_batch(&SQLITE_PRAGMAS.join(";"))
            .context("could not prepare the visit writer")?;
        let (sender, jobs) = mpsc::channel(QUEUE_ROWS);
        let (end, ended) = watch::channel(());
        std::thread::Builder::new()
            .name("visit-writer".to_owned())
            .spawn(move || {
                if let Err(error) = sqlite::write(&connection, jobs, &gate, batch, tally) {
                    tracing::error!(error = format!("{error:#}"), "the visit writer ended");
                }
                drop(end); // A panic drops it too.
            })
            .context("could not start the visit writer's thread")?;
        Ok(Self::new(sender, ended))
    }

    /// Starts the writer's task on a PostgreSQL server, with a connection of its own.
    #[expect(
        clippy::disallowed_methods,
        reason = "the writer belongs to the store, which stops it in close()"
    )]
    pub(super) async fn on_postgres(
        url: &str,
        batch: &'static Batch,
        tally: &'static Tally,
    ) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WAIT_FOR_SERVER)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for setting in POSTGRES_SETTINGS {
                        connection.execute(*setting).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await
            .context("could not open the visit writer's connection")?;
        let (sender, jobs) = mpsc::channel(QUEUE_ROWS);
        let (end, ended) = watch::channel(());
        tokio::spawn(async move {
            postgres::write(&pool, jobs, batch, tally).await;
            pool.close().await;
            drop(end); // As above.
        });
        Ok(Self::new(sender, ended))
    }

    fn new(sender: mpsc::Sender<Job>, ended: watch::Receiver<()>) -> Self {
        Self { jobs: Arc::new(std::sync::Mutex::new(Some(sender))), ended }
    }

    /// Queues a row and waits until its group is committed.
    pub(super) async fn insert(&self, row: Row) -> Result<Inserted> {
        let sender = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.context("the visit writer is closed")?;
        let (done, answer) = oneshot::channel();
        sender.send(Job { row, done }).await.map_err(|_| anyhow!("the visit writer is gone"))?;
        answer.await.context("the visit writer ended before it answered")?
    }

    /// Lets the writer finish what is queued and waits for its end.
    pub(super) async fn close(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.ended().await;
    }

    /// Resolves when the writer has ended.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

fn names(columns: &[(&str, Kind)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
