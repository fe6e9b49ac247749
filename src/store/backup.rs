//! A copy of the SQLite file while it is in use.
//! In: the database's file, a place for the copy. Out: one whole file, as of one moment.
//! Guarantees that nobody waits for it, and that the place has a whole copy that was checked and synced, or nothing.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};

use super::sqlite_file::{beside, locate, private, sync_directory};

/// The ending of a copy's name until it is whole.
const UNFINISHED: &str = ".unfinished";

/// Copies `database` to `copy` and answers the copy's size in bytes. Its directory is made if need be.
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
        // A hard link, unlike a renaming, never replaces what somebody else has put there meanwhile.
        std::fs::hard_link(&unfinished, copy)
            .with_context(|| format!("could not put {} into its place", copy.display()))?;
        sync_directory(copy)?;
        Ok(bytes)
    });
    let _ = std::fs::remove_file(&unfinished); // The next backup, or start, removes what stays behind.
    drop(being_written);
    written
}

/// Removes what killed backups left in a directory. What a living one writes is locked and stays.
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

/// Makes the file and locks it, so that nobody takes it for left over. SQLite takes an empty file as no file, and would make one that
/// everybody may read.
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
        // Between the two steps somebody may have removed it as left over.
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
