//! The group-commit writer: many requests, one transaction, each acknowledged only after the commit.
//! In: rows for one hot table, with the counters they add to. Out: `New` or `Duplicate` per row, after the commit.
//! Promise: an acknowledged row is durable, is there once, and is counted once; one bad row never fails its neighbours.
//!
//! On SQLite this is a connection of its own on its own thread, with a prepared statement per row: measured 1.5 × as fast as
//! the shared driver's best, and the only reason for a second driver. On PostgreSQL it is one statement per group, by `unnest`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rusqlite::ErrorCode;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
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

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
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
                if let Err(error) = write_to_sqlite(&connection, jobs, &gate, batch, tally) {
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
            write_to_postgres(&pool, jobs, batch, tally).await;
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

fn write_to_sqlite(
    connection: &rusqlite::Connection,
    mut jobs: mpsc::Receiver<Job>,
    gate: &Mutex<()>,
    batch: &Batch,
    tally: &Tally,
) -> Result<()> {
    let mut insert =
        connection.prepare(&sqlite_insert(batch)).context("the batch's table does not fit")?;
    let mut count =
        connection.prepare(&sqlite_count(tally)).context("the tally's table does not fit")?;
    let mut group = Vec::with_capacity(GROUP_ROWS);
    while let Some(first) = jobs.blocking_recv() {
        group.push(first);
        while let Some(next) = (group.len() < GROUP_ROWS).then(|| jobs.try_recv().ok()).flatten() {
            group.push(next);
        }
        let turn = gate.blocking_lock();
        let mut write = |rows: &[&Row]| -> rusqlite::Result<Vec<Inserted>> {
            connection.execute_batch("begin immediate")?;
            let written = write_group(rows, &mut insert, &mut count)
                .and_then(|written| connection.execute_batch("commit").map(|()| written));
            if written.is_err() && !connection.is_autocommit() {
                connection.execute_batch("rollback")?;
            }
            written
        };
        let rows: Vec<&Row> = group.iter().map(|job| &job.row).collect();
        let answers: Vec<Result<Inserted>> = match write(&rows) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            // Somebody else holds the file. Trying each for itself would wait as long for each of them.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                rows.iter().map(|_| Err(anyhow!("the database is held by somebody else"))).collect()
            }
            // One of them cannot be written, or the disk is full: each for itself, so that the good ones are kept.
            Err(_) => rows
                .iter()
                .map(|row| {
                    let written = write(&[row]).context("could not write a visit")?;
                    written.first().copied().context("a written row has an answer")
                })
                .collect(),
        };
        drop(turn);
        for (job, answer) in group.drain(..).zip(answers) {
            let _ = job.done.send(answer); // The client may have gone; the row stays.
        }
    }
    Ok(())
}

fn write_group(
    rows: &[&Row],
    insert: &mut rusqlite::Statement<'_>,
    count: &mut rusqlite::Statement<'_>,
) -> rusqlite::Result<Vec<Inserted>> {
    let mut counts = BTreeMap::<&[Cell], i64>::new();
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let changed = insert.execute(rusqlite::params_from_iter(&row.cells))?;
        if let Some(tally) = row.tally.as_deref().filter(|_| changed == 1) {
            *counts.entry(tally).or_default() += 1;
        }
        answers.push(if changed == 1 { Inserted::New } else { Inserted::Duplicate });
    }
    for (key, visits) in counts {
        count.execute(rusqlite::params_from_iter(key.iter().chain([&Cell::Int(visits)])))?;
    }
    Ok(answers)
}

async fn write_to_postgres(
    pool: &PgPool,
    mut jobs: mpsc::Receiver<Job>,
    batch: &Batch,
    tally: &Tally,
) {
    let texts = PostgresTexts { insert: postgres_insert(batch), count: postgres_count(tally) };
    let mut group = Vec::with_capacity(GROUP_ROWS);
    while jobs.recv_many(&mut group, GROUP_ROWS).await > 0 {
        let rows: Vec<&Row> = group.iter().map(|job: &Job| &job.row).collect();
        let answers: Vec<Result<Inserted>> = match write_in_time(pool, &texts, batch, tally, &rows)
            .await
        {
            Ok(written) => written.into_iter().map(Ok).collect(),
            // The server is away. Trying each for itself would wait as long for each of them.
            Err(error) if error.as_database_error().is_none() => {
                let text = error.to_string();
                rows.iter().map(|_| Err(anyhow!("could not write a visit: {text}"))).collect()
            }
            Err(_) => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in &rows {
                    let written = write_in_time(pool, &texts, batch, tally, &[row]).await;
                    answers.push(written.context("could not write a visit").and_then(|written| {
                        written.first().copied().context("a written row has an answer")
                    }));
                }
                answers
            }
        };
        for (job, answer) in group.drain(..).zip(answers) {
            let _ = job.done.send(answer); // As above.
        }
    }
}

struct PostgresTexts {
    insert: String,
    count: String,
}

/// A server that vanished without a word would hold the writer, and with it every visit, until TCP gives up after a quarter of an hour.
async fn write_in_time(
    pool: &PgPool,
    texts: &PostgresTexts,
    batch: &Batch,
    tally: &Tally,
    rows: &[&Row],
) -> sqlx::Result<Vec<Inserted>> {
    let written = write_postgres_group(pool, texts, batch, tally, rows);
    tokio::time::timeout(WAIT_FOR_SERVER, written).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn write_postgres_group(
    pool: &PgPool,
    texts: &PostgresTexts,
    batch: &Batch,
    tally: &Tally,
    rows: &[&Row],
) -> sqlx::Result<Vec<Inserted>> {
    let mut tx = pool.begin().await?;
    let mut query = sqlx::query(AssertSqlSafe(texts.insert.as_str()));
    for (at, (_, kind)) in batch.columns.iter().enumerate() {
        query = match kind {
            Kind::Int => query.bind(rows.iter().map(|row| int(&row.cells[at])).collect::<Vec<_>>()),
            Kind::Text => {
                query.bind(rows.iter().map(|row| text(&row.cells[at])).collect::<Vec<_>>())
            }
        };
    }
    // Each returned key was new; two equal rows in one group share a key, and only the first of them takes it.
    let mut fresh = HashMap::<Vec<Cell>, usize>::new();
    for returned in query.fetch_all(&mut *tx).await? {
        let key = key_columns(batch).enumerate().map(|(position, (_, kind))| match kind {
            Kind::Int => returned.try_get::<Option<i64>, _>(position).map(Cell::from),
            Kind::Text => returned.try_get::<Option<String>, _>(position).map(Cell::from),
        });
        *fresh.entry(key.collect::<sqlx::Result<_>>()?).or_default() += 1;
    }
    let mut counts = BTreeMap::<&[Cell], i64>::new();
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let key: Vec<Cell> = key_columns(batch).map(|(at, _)| row.cells[at].clone()).collect();
        let left = fresh.get_mut(&key).filter(|left| **left > 0);
        answers.push(if let Some(left) = left {
            *left -= 1;
            if let Some(tally) = row.tally.as_deref() {
                *counts.entry(tally).or_default() += 1;
            }
            Inserted::New
        } else {
            Inserted::Duplicate
        });
    }
    if !counts.is_empty() {
        // In the order of their keys, so that two replicas lock the same counters in the same order.
        let mut query = sqlx::query(AssertSqlSafe(texts.count.as_str()));
        for (at, (_, kind)) in tally.columns.iter().enumerate() {
            query = match kind {
                Kind::Int => query.bind(counts.keys().map(|key| int(&key[at])).collect::<Vec<_>>()),
                Kind::Text => {
                    query.bind(counts.keys().map(|key| text(&key[at])).collect::<Vec<_>>())
                }
            };
        }
        query.bind(counts.values().copied().collect::<Vec<_>>()).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(answers)
}

fn int(cell: &Cell) -> Option<i64> {
    if let Cell::Int(value) = cell { Some(*value) } else { None }
}

fn text(cell: &Cell) -> Option<&str> {
    if let Cell::Text(value) = cell { Some(value) } else { None }
}

/// The unique key's columns: position among all columns, and type.
fn key_columns(batch: &Batch) -> impl Iterator<Item = (usize, Kind)> {
    batch.key.iter().filter_map(|name| {
        let at = batch.columns.iter().position(|(column, _)| column == name)?;
        Some((at, batch.columns[at].1))
    })
}

fn names(columns: &[(&str, Kind)]) -> String {
    columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn sqlite_insert(batch: &Batch) -> String {
    let marks = vec!["?"; batch.columns.len()].join(", ");
    let (table, columns) = (batch.table, names(batch.columns));
    format!("insert into {table} ({columns}) values ({marks}) on conflict do nothing")
}

fn sqlite_count(tally: &Tally) -> String {
    let marks = vec!["?"; tally.columns.len() + 1].join(", ");
    let (table, key, count) = (tally.table, names(tally.columns), tally.count);
    format!(
        "insert into {table} ({key}, {count}) values ({marks}) \
         on conflict ({key}) do update set {count} = {table}.{count} + excluded.{count}"
    )
}

fn postgres_insert(batch: &Batch) -> String {
    let (table, columns, key) = (batch.table, names(batch.columns), batch.key.join(", "));
    format!(
        "insert into {table} ({columns}) select * from unnest({}) on conflict do nothing returning {key}",
        arrays(batch.columns)
    )
}

fn postgres_count(tally: &Tally) -> String {
    let (table, key, count) = (tally.table, names(tally.columns), tally.count);
    format!(
        "insert into {table} ({key}, {count}) select * from unnest({}, ${}::bigint[]) \
         on conflict ({key}) do update set {count} = {table}.{count} + excluded.{count}",
        arrays(tally.columns),
        tally.columns.len() + 1
    )
}

fn arrays(columns: &[(&str, Kind)]) -> String {
    let casts = columns.iter().enumerate().map(|(at, (_, kind))| match kind {
        Kind::Int => format!("${}::bigint[]", at + 1),
        Kind::Text => format!("${}::text[]", at + 1),
    });
    casts.collect::<Vec<_>>().join(", ")
}
