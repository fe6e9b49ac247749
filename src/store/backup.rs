//! Copies the SQLite file while it is in use.
//! Takes the database's file and the path of the copy; writes one complete file, as of one moment.
//! Guarantees that nobody waits for it, and that the path has a complete, checked and synced copy,
//! or nothing.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};

use super::sqlite_file::{beside, locate, private, sync_directory};

/// The suffix of an incomplete copy's name.
const UNFINISHED: &str = ".unfinished";

/// Copies `database` to `copy` and returns the copy's size in bytes. Creates the directory if
/// necessary.
pub(crate) fn copy_sqlite(database: &Path, copy: &Path) -> Result<u64> {
    ensure!(database.is_file(), "there is no database at {}", database.display());
    ensure!(!copy.exists(), "{} is there already; a copy replaces nothing", copy.display());
    let database = locate(database)?;
    let directory = copy.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("could not create {}", directory.display()))?;
    let copy = &locate(copy)?;
    clear_unfinished(directory)?;
    let unfinished = beside(copy, UNFINISHED);
    let being_written = claim(&unfinished)?;
    let written = write(&database, &unfinished).and_then(|bytes| {
        // Unlike a rename, a hard link never replaces a file that another process created
        // meanwhile.
        std::fs::hard_link(&unfinished, copy)
            .with_context(|| format!("could not create {}", copy.display()))?;
        sync_directory(copy)?;
        Ok(bytes)
    });
    let _ = std::fs::remove_file(&unfinished); // The next backup or start removes a leftover.
    drop(being_written);
    written
}

/// Removes the incomplete copies of killed backups. The copy of a running backup is locked, and
/// stays.
pub(crate) fn clear_unfinished(directory: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) }; // No backups yet.
    for entry in entries {
        let path = entry.with_context(|| format!("could not read {}", directory.display()))?.path();
        let name = path.file_name().map(|name| name.as_encoded_bytes().to_vec());
        let is_unfinished = name.is_some_and(|name| name.ends_with(b".db.unfinished"));
        if !is_unfinished || !path.is_file() {
            continue;
        }
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("could not open {}", path.display()))?;
        if file.try_lock().is_ok() {
            std::fs::remove_file(&path)
                .with_context(|| format!("could not remove {}", path.display()))?;
            tracing::info!(file = %path.display(), "removed what a backup left that did not finish");
        }
    }
    Ok(())
}

/// Creates the file and locks it, so that nobody takes it for a leftover. SQLite would treat an
/// empty file as missing, and create one that everybody can read.
fn claim(unfinished: &Path) -> Result<File> {
    loop {
        let file = private(OpenOptions::new().append(true), unfinished)
            .with_context(|| format!("could not write {}", unfinished.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("another backup is writing {} right now", unfinished.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).context("could not lock the copy");
            }
        }
        // Another process may have removed it as a leftover between the two steps.
        let is_there = unfinished.metadata().is_ok_and(|found| {
            file.metadata().is_ok_and(|ours| (found.dev(), found.ino()) == (ours.dev(), ours.ino()))
        });
        if is_there {
            file.set_len(0).context("could not empty the copy")?;
            return Ok(file);
        }
    }
}

fn write(database: &Path, unfinished: &Path) -> Result<u64> {
    let source = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .with_context(|| format!("could not open {}", database.display()))?;
    source.busy_timeout(std::time::Duration::from_secs(10))?;
    let target = unfinished.to_str().context("the copy's path must be UTF-8")?;
    source.execute("vacuum into ?1", [target]).context("could not copy the database")?;
    drop(source);
    let copied = Connection::open_with_flags(unfinished, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let verdict: String = copied.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
    drop(copied);
    if verdict != "ok" {
        bail!("the copy is damaged, and so may be the database: {verdict}");
    }
    let file = File::open(unfinished)?;
    file.sync_all().context("could not sync the copy")?;
    Ok(file.metadata()?.len())
}
