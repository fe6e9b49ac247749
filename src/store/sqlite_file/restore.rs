//! Replaces the database with a backup.
//! Takes the database's path and a copy; returns what the copy contains, and where the replaced
//! files are after the replacement.
//! Guarantees that nothing is deleted, that exactly the checked copy is put in place, and that a
//! crash leaves either the old database, the new one, or a start that refuses with an explanation.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::Connection;

use super::super::migrations::MIGRATIONS;
use super::super::sqlite_lock::DirectoryLock;
use super::examine::{STAGED, find_fault, has_content, quick_check};
use super::{beside, locate, private, sync_directory};

/// Rows to report before a restore: their name, their table, and the column with their time.
pub(crate) struct Counted {
    pub(crate) noun: &'static str,
    pub(crate) of: &'static str,
    pub(crate) at: &'static str,
}

/// The contents of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) bytes: u64,
    /// Name, number, and the newest time in milliseconds.
    pub(crate) rows: Vec<(&'static str, i64, Option<i64>)>,
}

/// A checked copy beside the database. Dropping it removes it.
pub(crate) struct Staged {
    database: PathBuf,
    file: PathBuf,
    pub(crate) contents: Contents,
    /// True from the first moved file on: then a start must find the staged copy, so it is not
    /// removed.
    is_under_way: bool,
    _lock: DirectoryLock,
}

/// The replaced files: their old and new paths.
pub(crate) struct Restored {
    pub(crate) kept: Vec<(PathBuf, PathBuf)>,
}

impl Staged {
    /// Copies `copy` beside the database and checks it there. The copy itself is only read.
    ///
    /// # Errors
    /// If a server uses the database, or the copy is damaged, empty, or not a database of a known
    /// Clickstamp version.
    pub(crate) fn prepare(database: &Path, copy: &Path, counted: &[Counted]) -> Result<Self> {
        ensure!(copy.is_file(), "there is no file {}", copy.display());
        let lock = DirectoryLock::take(database)?;
        let database = locate(database)?;
        ensure!(
            copy.canonicalize()? != database,
            "{} is the database itself; name a copy of it",
            copy.display()
        );
        if let Some(fault) = find_fault(copy)? {
            bail!("{}. Nothing was changed. Choose another copy", fault.what);
        }
        let mut staged = Self {
            file: beside(&database, STAGED),
            database,
            contents: Contents { bytes: 0, rows: Vec::new() },
            is_under_way: false,
            _lock: lock,
        };
        staged.fill(copy)?;
        staged.contents = staged.check(counted).with_context(|| {
            format!("{} cannot be restored; nothing was changed", copy.display())
        })?;
        Ok(staged)
    }

    /// True if there are files that would be replaced.
    pub(crate) fn replaces(&self) -> bool {
        self.database.exists()
    }

    /// Copies the file, and its log if it has one: a manual copy of a database
    /// in use consists of two files.
    fn fill(&self, copy: &Path) -> Result<()> {
        for ending in ["", "-wal"] {
            let (from, to) = (beside(copy, ending), beside(&self.file, ending));
            if ending.is_empty() || has_content(&from) {
                let mut source = File::open(&from)
                    .with_context(|| format!("could not read {}", from.display()))?;
                let mut target = private(OpenOptions::new().write(true).truncate(true), &to)
                    .with_context(|| format!("could not write {}", to.display()))?;
                std::io::copy(&mut source, &mut target)
                    .with_context(|| format!("could not copy {}", from.display()))?;
            } else if to.exists() {
                std::fs::remove_file(&to)?; // Left by an earlier restore that did not finish.
            }
        }
        Ok(())
    }

    fn check(&self, counted: &[Counted]) -> Result<Contents> {
        // Merges the log into the file, so that one file is all there is.
        let connection = Connection::open(&self.file)?;
        let folded = connection.execute_batch("pragma journal_mode = delete;");
        folded.context("it is damaged")?;
        if let Some(damage) = quick_check(&self.file, None)? {
            bail!("it is damaged ({damage})");
        }
        let mut versions = connection
            .prepare("select version from _sqlx_migrations order by version")
            .context("it is not a database of Clickstamp")?;
        for version in versions.query_map([], |row| row.get::<_, i64>(0))? {
            let version = version?;
            if !MIGRATIONS.version_exists(version) {
                bail!(
                    "it was written by a newer version of clickstamp (its tables are at {version}), and this is an older program"
                );
            }
        }
        drop(versions);
        let mut rows = Vec::with_capacity(counted.len());
        for Counted { noun, of, at } in counted {
            let asked = format!("select count(*), max({at}) from {of}");
            let (count, newest) = connection
                .query_row(&asked, [], |row| Ok((row.get(0)?, row.get(1)?)))
                .context("it is not a database of Clickstamp")?;
            rows.push((*noun, count, newest));
        }
        connection.close().map_err(|(_, error)| error)?;
        let file = File::open(&self.file)?;
        file.sync_all().context("could not sync the copy")?;
        Ok(Contents { bytes: file.metadata()?.len(), rows })
    }

    /// Moves the database and its side files to names with `suffix`, and the copy into its place.
    ///
    /// # Errors
    /// If a file can't be moved; the error says where the moved ones are.
    pub(crate) fn put_in_place(mut self, suffix: &str) -> Result<Restored> {
        let aside = beside(&self.database, &format!(".before-restore-{suffix}"));
        ensure!(
            !aside.exists(),
            "{} is there already; wait a second and try again",
            aside.display()
        );
        let mut kept = Vec::new();
        self.is_under_way = true;
        // The database first: a log without it refuses a start. In the other order, an old database
        // without its newest rows could be served.
        for ending in ["", "-wal", "-shm"] {
            let (from, to) = (beside(&self.database, ending), beside(&aside, ending));
            if from.exists() {
                std::fs::rename(&from, &to).with_context(|| {
                    format!("could not move {} to {}", from.display(), to.display())
                })?;
                sync_directory(&self.database)?;
                kept.push((from, to));
            }
        }
        std::fs::rename(&self.file, &self.database).with_context(|| {
            format!("could not move {} to {}", self.file.display(), self.database.display())
        })?;
        sync_directory(&self.database)?;
        Ok(Restored { kept })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for ending in ["", "-wal", "-shm", "-journal"] {
            if self.is_under_way && ending.is_empty() {
                continue;
            }
            // It no longer exists once it is in place; a leftover does not prevent another restore.
            let _ = std::fs::remove_file(beside(&self.file, ending));
        }
    }
}
