//! Whether the database takes what is written.
//! Takes a store and the time; returns nothing, or the reason in one sentence for the operator.
//! The answer comes from a row that was written and is durable, so neither a full disk nor a read-only, empty or replaced database passes.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use sqlx::Executor as _;
use tokio::sync::Mutex;

use super::{Engine, Store};
use crate::clock::Timestamp;

/// How long a database may take to write one row; supervisors ask with little patience.
const PATIENCE: Duration = Duration::from_secs(4);
/// A good answer is given again for this long: anybody may ask, and each look writes.
const GOOD_FOR: Duration = Duration::from_secs(1);

const WRITE: &str = "insert into readiness (id, probes) values (1, 1)
                         on conflict (id) do update set probes = readiness.probes + 1";

/// Why the database cannot be used: a sentence for the operator, and the cause for the log.
#[derive(Debug)]
pub(crate) struct Unready {
    pub(crate) sentence: &'static str,
    pub(crate) cause: Option<Error>,
}

/// When the database last passed, and the files it lies in.
#[derive(Debug, Default)]
pub(super) struct Probe {
    passed_at: Mutex<Option<Timestamp>>,
    /// SQLite's files as they were at the start.
    files: Vec<FileSeen>,
}

impl Probe {
    /// Remembers which files a SQLite database is.
    pub(super) fn of_files(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let files = [database.to_owned(), PathBuf::from(log)];
        let files = files.into_iter().filter_map(FileSeen::now);
        Self { passed_at: Mutex::default(), files: files.collect() }
    }
}

/// A file, known by what the system calls it.
#[derive(Debug, PartialEq, Eq)]
struct FileSeen {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileSeen {
    fn now(path: PathBuf) -> Option<Self> {
        let found = std::fs::metadata(&path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }

    fn is_there(&self) -> bool {
        Self::now(self.path.clone()).as_ref() == Some(self)
    }
}

impl Store {
    /// Why the database cannot be used; nothing when it can.
    pub(crate) async fn unready(&self, now: Timestamp) -> Option<Unready> {
        // One check at a time, however many ask.
        let mut passed_at = self.probe.passed_at.lock().await;
        let is_fresh = passed_at.is_some_and(|at| now.since(at) < GOOD_FOR && at <= now);
        if is_fresh && !self.in_trouble.load(Ordering::Relaxed) {
            return None;
        }
        *passed_at = None;
        if let Some(gone) = self.probe.files.iter().find(|file| !file.is_there()) {
            return Some(files_gone(&gone.path));
        }
        let looked = tokio::time::timeout(PATIENCE, self.write_a_row());
        let unready = match looked.await {
            Ok(Ok(())) => {
                self.in_trouble.store(false, Ordering::Relaxed);
                *passed_at = Some(now);
                return None;
            }
            Ok(Err(cause)) => Unready { sentence: sentence(&cause), cause: Some(cause) },
            Err(_) => Unready { sentence: "the database does not answer", cause: None },
        };
        self.suspicion.raise();
        Some(unready)
    }

    async fn write_a_row(&self) -> Result<()> {
        if self.engine == Engine::Sqlite {
            let mut tx = self.begin().await?;
            tx.execute(WRITE).await.context("could not write")?;
            return tx.commit().await;
        }
        let Err(error) = self.writes.execute(WRITE).await else { return Ok(()) };
        // The session may be worse than the database: read-only since before that was put right, or dead.
        self.suspicion.raise();
        if error.as_database_error().is_some_and(|error| error.code().as_deref() == Some("42P01")) {
            return Err(error).context("could not write");
        }
        self.writes.execute(WRITE).await.context("could not write")?;
        Ok(())
    }
}

fn files_gone(path: &Path) -> Unready {
    let cause = format!("{} is gone, or another file than at the start", path.display());
    Unready {
        sentence: "the data file was deleted or replaced while the server ran: what is recorded now is lost, so stop it, put the file back, \
                   and start it again",
        cause: Some(Error::msg(cause)),
    }
}

/// The sentence for the operator. The codes are those of PostgreSQL and of SQLite.
fn sentence(cause: &Error) -> &'static str {
    let error = cause.downcast_ref::<sqlx::Error>();
    let database = error.and_then(sqlx::Error::as_database_error);
    let code = database.and_then(|error| error.code());
    let text = database.map(|error| error.message()).unwrap_or_default();
    match code.as_deref() {
        Some("25006" | "8") => "the database is read-only",
        Some("42P01") => {
            "the database has no tables of this program: it is empty, or another one than at the start"
        }
        _ if text.starts_with("no such table") => {
            "the database has no tables of this program: it is empty, or another one than at the start"
        }
        Some("53100" | "13") => "the disk of the database is full",
        Some("53300") => "PostgreSQL has no connection left",
        _ if database.is_none() => "the database does not answer",
        _ => "the database takes nothing that is written",
    }
}
