//! Allows one process per SQLite file.
//! Takes the database's path; returns a lock that lives as long as the process.
//! Guarantees that a second server on the same data directory refuses to start, even if a user
//! removed the lock file.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::sqlite_file::{locate, private};

/// The database name that locks the directory, too: a directory can have only one.
const USUAL_NAME: &str = "clickstamp.db";

/// Held by the process that owns the data directory. The operating system releases it when the
/// process dies.
pub(super) struct DirectoryLock {
    _file: File,
    /// The lock file can be removed while it is locked; the directory can't, as long as it contains
    /// a database.
    _directory: Option<File>,
}

impl DirectoryLock {
    /// Creates the directory if necessary, and locks it.
    pub(super) fn take(database: &Path) -> Result<Self> {
        if let Some(directory) = database.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(|| {
                format!("could not create the data directory {}", directory.display())
            })?;
        }
        let database = locate(database)?;
        let path = database.with_extension("lock");
        let file = private(OpenOptions::new().append(true), &path);
        let file = file.with_context(|| format!("could not open {}", path.display()))?;
        lock(&file, &path, &database)?;
        let directory = match database.parent().filter(|_| database.ends_with(USUAL_NAME)) {
            Some(path) => {
                let directory = File::open(path)
                    .with_context(|| format!("could not open {}", path.display()))?;
                // Not every network file system can lock a directory, but the lock file is locked
                // already.
                match directory.try_lock() {
                    Err(TryLockError::WouldBlock) => return Err(in_use(&database)),
                    Ok(()) | Err(TryLockError::Error(_)) => Some(directory),
                }
            }
            None => None,
        };
        Ok(Self { _file: file, _directory: directory })
    }
}

fn lock(file: &File, path: &Path, database: &Path) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(in_use(database)),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("could not lock {}", path.display()))
        }
    }
}

fn in_use(database: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is in use by another clickstamp process; stop it first, or choose another CLICKSTAMP_DATA_DIR",
        database.display()
    )
}
