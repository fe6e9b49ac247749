//! One process per SQLite file.
//! In: the database's path. Out: a lock that lives as long as the process.
//! Promise: a second server on the same data directory refuses to start instead of sharing leases with the first.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Held by the process that owns the data directory; the operating system frees it when the process dies, however it dies.
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held, never read")] File);

impl DirectoryLock {
    /// Creates the directory if need be and takes its lock.
    pub(super) fn take(database: &Path) -> Result<Self> {
        if let Some(directory) = database.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).with_context(|| {
                format!("could not create the data directory {}", directory.display())
            })?;
        }
        let path = database.with_extension("lock");
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("could not open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => bail!(
                "{} is in use by another clickstamp process; stop it first, or choose another CLICKSTAMP_DATA_DIR",
                database.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("could not lock {}", path.display()))
            }
        }
    }
}
