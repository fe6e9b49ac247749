//! The group-commit writer: many requests share one transaction, and each is acknowledged after the
//! commit.
//! Takes rows for one frequently written table, with the counters that they increase; returns `New`
//! or `Duplicate` for each row, after the commit.
//! Guarantees that an acknowledged row is durable, stored once and counted once, and that one
//! invalid row does not fail others.
//!
//! One task collects rows and acknowledges them; `sqlite` and `postgres` write groups in their own
//! ways. The task runs on the runtime of the requests on purpose: waking another thread for each
//! row and each response cost as much as the insert.

mod postgres;
mod row;
mod sqlite;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

pub(crate) use self::row::{Batch, Cell, Inserted, Kind, NewRow, Tally};

/// Maximum number of rows in a transaction: enough to make the commit's cost negligible, few enough
/// that nobody waits long.
const GROUP_ROWS: usize = 256;
/// While a group of at least this size was written, others queued, so the next group waits for
/// [`LINGER`].
const BUSY_ROWS: usize = 8;
/// How long to wait for a larger group: enough for clients that just got a response to send again,
/// and short compared to the commit that it saves.
const LINGER: Duration = Duration::from_millis(2);
/// Maximum number of queued rows. Beyond it, requests wait before they queue theirs, which limits
/// memory during a flood.
const QUEUE_ROWS: usize = 4096;

struct Job {
    row: NewRow,
    done: oneshot::Sender<Result<Inserted>>,
}

/// Sends rows to the task that writes them.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Arc<std::sync::Mutex<Option<mpsc::Sender<Job>>>>,
    /// Closed when the writer has ended for any reason: its sender lives as long as the writer.
    ended: watch::Receiver<()>,
}

impl Writer {
    /// Starts the writer on a SQLite file.
    pub(super) fn on_sqlite(
        path: &Path,
        gate: Arc<Mutex<()>>,
        batch: &'static Batch,
        tally: &'static Tally,
    ) -> Result<Self> {
        Ok(Self::start(Engine::Sqlite(sqlite::Thread::start(path, gate, batch, tally)?)))
    }

    /// Starts the writer on a PostgreSQL server, with a connection of its own.
    pub(super) fn on_postgres(
        url: &str,
        batch: &'static Batch,
        tally: &'static Tally,
    ) -> Result<Self> {
        Ok(Self::start(Engine::Postgres(Box::new(postgres::Connection::new(url, batch, tally)?))))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the writer belongs to the store, which stops it in close()"
    )]
    fn start(engine: Engine) -> Self {
        let (sender, jobs) = mpsc::channel(QUEUE_ROWS);
        let (end, ended) = watch::channel(());
        tokio::spawn(async move {
            if let Err(error) = gather(jobs, &engine).await {
                tracing::error!(error = format!("{error:#}"), "the visit writer ended");
            }
            engine.close().await;
            drop(end); // A panic drops it too.
        });
        Self { jobs: Arc::new(std::sync::Mutex::new(Some(sender))), ended }
    }

    /// Queues a row and waits until its group is committed.
    pub(super) async fn insert(&self, row: NewRow) -> Result<Inserted> {
        let sender = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.context("the visit writer is closed")?;
        let (done, answer) = oneshot::channel();
        sender.send(Job { row, done }).await.map_err(|_| anyhow!("the visit writer has ended"))?;
        answer.await.context("the visit writer ended before it responded")?
    }

    /// Lets the writer finish queued rows, and waits for its end.
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

/// How a group is written.
enum Engine {
    Sqlite(sqlite::Thread),
    Postgres(Box<postgres::Connection>),
}

impl Engine {
    /// Writes a group; returns a result for each row, after the commit. An error ends the writer.
    async fn write(&self, rows: Vec<NewRow>) -> Result<Vec<Result<Inserted>>> {
        match self {
            Self::Sqlite(thread) => thread.write(rows).await,
            Self::Postgres(connection) => Ok(connection.write(&rows).await),
        }
    }

    /// Resolves when it can't write anymore.
    async fn broken(&self) {
        match self {
            Self::Sqlite(thread) => thread.ended().await,
            Self::Postgres(_) => std::future::pending().await, // It reconnects.
        }
    }

    async fn close(self) {
        match self {
            Self::Sqlite(thread) => thread.close().await,
            Self::Postgres(connection) => connection.close().await,
        }
    }
}

/// Writes queued rows in groups and acknowledges them, until nothing can be queued anymore.
async fn gather(mut jobs: mpsc::Receiver<Job>, engine: &Engine) -> Result<()> {
    let mut group = Vec::with_capacity(GROUP_ROWS);
    let mut last_rows = 0;
    loop {
        let queued = tokio::select! {
            biased;
            queued = jobs.recv_many(&mut group, GROUP_ROWS) => queued,
            () = engine.broken() => bail!("its thread has ended"),
        };
        if queued == 0 {
            return Ok(());
        }
        if last_rows >= BUSY_ROWS {
            linger(&mut jobs, &mut group, last_rows).await;
        }
        last_rows = group.len();
        let (rows, waiting): (Vec<_>, Vec<_>) =
            group.drain(..).map(|job| (job.row, job.done)).unzip();
        for (done, answer) in waiting.into_iter().zip(engine.write(rows).await?) {
            let _ = done.send(answer); // The client may have disconnected; the row stays.
        }
    }
}

/// Waits a moment for a group as large as the last one. A single request is never delayed.
async fn linger(jobs: &mut mpsc::Receiver<Job>, group: &mut Vec<Job>, rows: usize) {
    let mut moment = std::pin::pin!(tokio::time::sleep(LINGER));
    while group.len() < rows {
        let room = GROUP_ROWS - group.len();
        let more = tokio::select! {
            biased;
            more = jobs.recv_many(group, room) => more,
            () = &mut moment => 0,
        };
        if more == 0 {
            return;
        }
    }
}
