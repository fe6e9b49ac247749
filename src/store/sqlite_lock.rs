//! One process per SQLite file.
//! In: the database's path. Out: a lock that lives as long as the process.
//! Promise: a second server on the same data directory refuses to start, and a new database is readable for its owner only.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Held by the process that owns the data directory; the operating system frees it when the process dies, however it dies.
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held, never read")] File);

impl DirectoryLock {
    /// Creates the directory if need be and takes its lock.
    pub(super) fn take(database: &Path) -> Result<Self> {
        if let Some(directory) = database.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(|| {
                format!("could not create the data directory {}", directory.display())
            })?;
        }
        let path = database.with_extension("lock");
        let file = create_private(&path);
        let file = file.with_context(|| format!("could not open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                // SQLite would make it readable for everybody; its side files take over the mode of this one.
                create_private(database)
                    .with_context(|| format!("could not open {}", database.display()))?;
                Ok(Self(file))
            }
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

/// Opens a file to write; a new one belongs to its owner alone.
fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
