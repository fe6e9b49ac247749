//! The SQLite file: its path, its creation, its URL.
//! Takes the path from the operator; returns one absolute path that every connection of every
//! process uses.
//! Guarantees that a path is never read as a URL, and that a new file is complete and private
//! before it has its final name.

mod examine;
mod restore;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::Connection;

pub(super) use examine::{ensure_opens, ensure_undamaged};
pub(crate) use restore::{Counted, Staged};

/// The settings of every SQLite connection. `full` because commits must survive power loss; with
/// grouped commits it costs nothing over `normal`.
pub(super) const PRAGMAS: &[&str] = &[
    "pragma busy_timeout = 10000",
    "pragma journal_mode = wal",
    "pragma synchronous = full",
    "pragma foreign_keys = on",
    "pragma temp_store = memory",
    "pragma cache_size = -4000",
];

/// All characters except the separators of directories and extensions.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_').remove(b'-');

/// How a connection may use the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The canonical path of a database, whatever links or `..` lead to it. The file need not exist,
/// but its directory must.
pub(super) fn locate(path: &Path) -> Result<PathBuf> {
    let located = match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name =
                path.file_name().with_context(|| format!("{} is no file", path.display()))?;
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let directory = directory.unwrap_or(Path::new("."));
            directory.canonicalize().map(|directory| directory.join(name))
        }
        found => found,
    };
    let located =
        located.with_context(|| format!("could not open the database file {}", path.display()))?;
    if located.to_str().is_none() {
        bail!(
            "{} cannot be used: its name is not UTF-8; choose another CLICKSTAMP_DATA_DIR",
            located.display()
        );
    }
    Ok(located)
}

/// The URL with which the shared driver opens exactly this file: it decodes what is between
/// `sqlite://` and `?`.
pub(super) fn url(path: &Path, access: Access) -> Result<String> {
    let path = path.to_str().context("a located path is UTF-8")?;
    let mode = match access {
        Access::Read => "ro",
        Access::Write => "rw",
    };
    Ok(format!("sqlite://{}?mode={mode}", utf8_percent_encode(path, IN_A_PATH)))
}

/// Creates an empty database unless there is one. It gets its name only when it is complete,
/// because an empty file would look like a lost database.
pub(super) fn create(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let unfinished = beside(path, &format!(".new-{}", std::process::id()));
    private(OpenOptions::new().write(true).truncate(true), &unfinished)
        .with_context(|| format!("could not create {}", unfinished.display()))?;
    let created = (|| {
        let connection = Connection::open(&unfinished)?;
        connection.execute_batch("pragma journal_mode = wal; pragma user_version = 0;")?;
        connection.close().map_err(|(_, error)| error)?;
        // Unlike a rename, a link never replaces a file that another process created meanwhile.
        match std::fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
            _ => sync_directory(path),
        }
    })();
    let _ = std::fs::remove_file(&unfinished); // A leftover is an empty database with a name that nothing reads.
    created.with_context(|| format!("could not create the database {}", path.display()))
}

/// Opens a file that only its owner may read, and creates it if necessary.
pub(super) fn private(options: &mut OpenOptions, path: &Path) -> std::io::Result<File> {
    options.create(true).mode(0o600).open(path)
}

/// Appends a suffix to a path: `clickstamp.db-wal`.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Makes a new name in the file's directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = File::open(directory.unwrap_or(Path::new(".")))?;
    directory.sync_all().context("could not sync the directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_not_read_as_a_url() {
        let url = url(Path::new("/a b/50%20?x#y/ü/clickstamp.db"), Access::Write).unwrap();
        assert_eq!(url, "sqlite:///a%20b/50%2520%3Fx%23y/%C3%BC/clickstamp.db?mode=rw");
    }
}
