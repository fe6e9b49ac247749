//! What the check for readiness remembers: when it last succeeded, and the database's files.
//! Takes the path of a database; returns whether its files are still the same ones.
//! Reads only the file system.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::Mutex;

use crate::clock::Timestamp;

/// When the check last succeeded, and the database's files.
#[derive(Debug, Default)]
pub(super) struct Probe {
    pub(super) passed_at: Mutex<Option<Timestamp>>,
    /// SQLite's files as of the start.
    pub(super) files: Vec<FileSeen>,
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
pub(super) struct FileSeen {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
}

impl FileSeen {
    fn now(path: PathBuf) -> Option<Self> {
        let found = std::fs::metadata(&path).ok()?;
        Some(Self { path, device: found.dev(), inode: found.ino() })
    }

    pub(super) fn is_there(&self) -> bool {
        Self::now(self.path.clone()).as_ref() == Some(self)
    }
}
