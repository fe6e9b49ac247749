//! Checks whether the database accepts writes.
//! Takes a store and the time; returns nothing, or the reason as a sentence for the operator.
//! Guarantees that the check has written a durable row, so a full disk and a read-only, empty or
//! replaced database fail it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Error, Result};
use sqlx::Executor as _;
use tokio::sync::Mutex;

use super::{Engine, Store};
use crate::clock::Timestamp;

/// Time limit for writing one row; supervisors do not wait long.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a good result is reused: anybody may ask, and each check writes.
const GOOD_FOR: Duration = Duration::from_secs(1);

const WRITE: &str = "insert into readiness (id, probes) values (1, 1)
                         on conflict (id) do update set probes = readiness.probes + 1";

/// Why the database can't be used: a sentence for the operator, and the cause for the log.
#[derive(Debug)]
pub(crate) struct Unready {
    pub(crate) sentence: &'static str,
    pub(crate) cause: Option<Error>,
}

/// When the check last succeeded, and the database's files.
#[derive(Debug, Default)]
pub(super) struct Probe {
    passed_at: Mutex<Option<Timestamp>>,
    /// SQLite's files as of the start.
    files: Vec<FileSeen>,
}

impl Probe {
    /// Records which files a SQLite database consists of.
    pub(super) fn of_files(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        let files = [database.to_owned(), PathBuf::from(log)];
        let files = files.into_iter().filter_map(FileSeen::now);
        Self { passed_at: Mutex::default(), files: files.collect() }
    }
}

/// A file, identified as the operating system does.
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
    /// Returns why the database can't be used; `None` if it can.
    pub(crate) async fn unready(&self, now: Timestamp) -> Option<Unready> {
        // One check at a time, however many clients ask.
        let mut passed_at = self.probe.passed_at.lock().await;
        let is_fresh = passed_at.is_some_and(|at| now.since(at) < GOOD_FOR && at <= now);
        if is_fresh && !self.is_failing.load(Ordering::Relaxed) {
            return None;
        }
        *passed_at = None;
        if let Some(gone) = self.probe.files.iter().find(|file| !file.is_there()) {
            return Some(files_gone(&gone.path));
        }
        let looked = tokio::time::timeout(PATIENCE, self.write_a_row());
        let unready = match looked.await {
            Ok(Ok(())) => {
                self.is_failing.store(false, Ordering::Relaxed);
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
        // The session may be broken although the database is not: read-only since an earlier
        // problem, or dead.
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

/// The sentence for the operator. The codes are PostgreSQL's and SQLite's.
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
