//! A copy of the SQLite file while it is in use.
//! In: the database's file, a place for the copy. Out: one whole file, as of one moment.
//! Promise: nobody waits for it, and what stands at the place is a whole copy that was checked and synced, or nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};

/// Copies `database` to `copy` and answers the copy's size in bytes. Its directory is made if need be.
pub(crate) fn copy_sqlite(database: &Path, copy: &Path) -> Result<u64> {
    ensure!(database.is_file(), "there is no database at {}", database.display());
    ensure!(!copy.exists(), "{} is there already; a copy replaces nothing", copy.display());
    let directory = copy.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("could not create {}", directory.display()))?;
    let mut unfinished = copy.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = Path::new(&unfinished);
    let written = write(database, unfinished).and_then(|bytes| {
        // A hard link, unlike a renaming, never replaces what somebody else has put there meanwhile.
        std::fs::hard_link(unfinished, copy)
            .with_context(|| format!("could not put {} into its place", copy.display()))?;
        File::open(directory)?.sync_all().context("could not sync the directory")?;
        Ok(bytes)
    });
    let _ = std::fs::remove_file(unfinished); // A leftover is named for what it is.
    written
}

fn write(database: &Path, unfinished: &Path) -> Result<u64> {
    // SQLite takes an empty file as no file, and would make one that everybody may read.
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(unfinished)
        .with_context(|| format!("could not write {}", unfinished.display()))?;
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
