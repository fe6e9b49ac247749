//! Checks whether a file can be the database before anything is written to it.
//! Takes the file and its side files; returns nothing, or a sentence with the problem and the fix.
//! Guarantees a result within a second for a file of any size, and changes neither the database nor
//! its log.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::beside;

/// The suffix of a copy that is checked before it becomes the database.
pub(super) const STAGED: &str = ".restoring";
/// Time limit for checking the pages; of a large file only the first part is checked.
const PATIENCE: Duration = Duration::from_millis(500);
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The first bytes of a write-ahead log; the last bit is the byte order of its checksums.
const LOG_MAGIC: u32 = 0x377f_0682;
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

const RESTORE: &str = "Put a backup in its place with `clickstamp restore FILE`";

/// The fields of a database's first page that identify it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    page_bytes: u64,
    /// `None` if another program wrote the file and did not update the count.
    pages: Option<u64>,
    /// Increases with every change of the tables, and when a copy is made.
    schema: u32,
}

/// What a write-ahead log contains about its database.
struct Log {
    page_bytes: u64,
    /// From the newest first page in it.
    schema: Option<u32>,
}

/// Why a file can't be the database.
pub(super) struct Fault {
    pub(super) what: String,
    advice: String,
}

/// Refuses a file that is not a database, is truncated, or has the log of another database. A
/// missing file is a new installation.
pub(crate) fn ensure_opens(path: &Path) -> Result<()> {
    if !path.exists() {
        return ensure_new(path);
    }
    match find_fault(path)? {
        Some(Fault { what, advice }) => bail!("{what}. Nothing was changed. {advice}"),
        None => Ok(()),
    }
}

/// Returns what is wrong with the first page, the length or the log of an existing file.
pub(super) fn find_fault(path: &Path) -> Result<Option<Fault>> {
    let (log_path, shown) = (beside(path, "-wal"), path.display());
    let fault = |what, advice| Ok(Some(Fault { what, advice }));
    let bytes = path.metadata().with_context(|| format!("could not open {shown}"))?.len();
    if bytes == 0 {
        let advice = format!("{RESTORE}, or delete the file to begin a new installation");
        return fault(format!("{shown} is empty (0 bytes): its content was lost"), advice);
    }
    let Some(header) = read_header(path)? else {
        let advice = format!("{RESTORE}, or choose another CLICKSTAMP_DATA_DIR");
        return fault(format!("{shown} is not a SQLite database"), advice);
    };
    let has_log = has_content(&log_path);
    let whole = header.pages.map(|pages| pages.saturating_mul(header.page_bytes));
    // With a log, a file may be shorter than its header says: the rest is in the log.
    if let Some(whole) = whole.filter(|whole| !has_log && bytes < *whole) {
        let what = format!("{shown} is damaged: it has {bytes} bytes of {whole}");
        return fault(what, RESTORE.to_owned());
    }
    if has_log && let Some(log) = read_log(&log_path)? {
        let is_older = log.schema.is_some_and(|schema| schema < header.schema);
        if log.page_bytes != header.page_bytes || is_older {
            let log = log_path.display();
            return fault(
                format!(
                    "{log} belongs to another database than {shown}: the file was replaced and the old log was left"
                ),
                format!(
                    "Move {log} away if {shown} is the copy to use, or run `clickstamp restore FILE`, which does that"
                ),
            );
        }
    }
    Ok(None)
}

pub(super) fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.len() > 0)
}

/// Without a file, the side files show whether this is a new installation or a lost database.
fn ensure_new(path: &Path) -> Result<()> {
    let shown = path.display();
    if has_content(&beside(path, STAGED)) {
        bail!("a restore of {shown} did not finish. Run `clickstamp restore FILE` again");
    }
    if has_content(&beside(path, "-wal")) {
        bail!(
            "{shown} is missing, but its log {shown}-wal is there: the database was deleted or moved. Put it back, \
             restore a backup with `clickstamp restore FILE`, or move the log away to begin a new installation"
        );
    }
    Ok(())
}

/// Checks the tables and, as far as time allows, every page. Only for a file that nobody has open:
/// the log is read into memory first.
pub(crate) fn ensure_undamaged(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let verdict = quick_check(path, Some(PATIENCE))?;
    if let Some(damage) = verdict {
        bail!(
            "{} is damaged ({damage}). Nothing was changed. {RESTORE}; what is in the damaged file and not in the backup may \
             still be read with SQLite's own `.recover`",
            path.display()
        );
    }
    Ok(())
}

/// Returns SQLite's verdict on a file; `None` if it is fine, or the time limit was reached.
pub(super) fn quick_check(path: &Path, patience: Option<Duration>) -> Result<Option<String>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .with_context(|| format!("could not open {}", path.display()))?;
    connection.busy_timeout(Duration::from_secs(10))?;
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watch = patience.map(|patience| {
        let handle = connection.get_interrupt_handle();
        std::thread::spawn(move || {
            if is_done.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                handle.interrupt();
            }
        })
    });
    let found = connection.query_row("pragma quick_check(1)", [], |row| row.get::<_, String>(0));
    drop(done);
    if let Some(watch) = watch {
        let _ = watch.join(); // It can't panic, and a late interrupt has no effect.
    }
    match found {
        Ok(verdict) => Ok((verdict != "ok").then(|| one_line(&verdict))),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Ok(None),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Ok(Some(one_line(&error.to_string())))
            }
            _ => Err(error).with_context(|| format!("could not check {}", path.display())),
        },
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `None` if it does not begin like a SQLite database.
fn read_header(path: &Path) -> Result<Option<Header>> {
    let mut file =
        File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let mut bytes = Vec::with_capacity(100);
    file.by_ref().take(100).read_to_end(&mut bytes).context("could not read the database file")?;
    Ok(header(&bytes))
}

fn header(bytes: &[u8]) -> Option<Header> {
    if bytes.len() < 100 || !bytes.starts_with(MAGIC) {
        return None;
    }
    let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        bytes if bytes.is_power_of_two() && bytes >= 512 => u64::from(bytes),
        _ => return None,
    };
    let is_counted = number(bytes, 24) == number(bytes, 92);
    let pages = number(bytes, 28).filter(|pages| is_counted && *pages > 0).map(u64::from);
    Some(Header { page_bytes, pages, schema: number(bytes, 40)? })
}

/// `None` if it is not a log, or an empty one, which SQLite ignores.
fn read_log(path: &Path) -> Result<Option<Log>> {
    let mut file =
        File::open(path).with_context(|| format!("could not open {}", path.display()))?;
    let bytes = file.metadata()?.len();
    let mut start = [0; 32];
    if bytes < LOG_HEADER || file.read_exact(&mut start).is_err() {
        return Ok(None);
    }
    let page_bytes = number(&start, 8).map_or(0, u64::from);
    if number(&start, 0).is_none_or(|magic| magic & !1 != LOG_MAGIC) || page_bytes < 512 {
        return Ok(None);
    }
    let mut log = Log { page_bytes, schema: None };
    let mut at = LOG_HEADER;
    while at + FRAME_HEADER + page_bytes <= bytes {
        let mut frame = [0; 124]; // The frame's header, and the first hundred bytes of its page.
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut frame).context("could not read the database's log")?;
        // Frames with other salts are left from before the log was restarted.
        if frame[8..16] != start[16..24] {
            break;
        }
        if number(&frame, 0) == Some(1)
            && let Some(first_page) = header(&frame[24..])
        {
            log.schema = Some(first_page.schema);
        }
        at += FRAME_HEADER + page_bytes;
    }
    Ok(Some(log))
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_page_is_read() {
        let mut bytes = MAGIC.to_vec();
        bytes.resize(100, 0);
        bytes[16..18].copy_from_slice(&4096_u16.to_be_bytes());
        bytes[28..32].copy_from_slice(&7_u32.to_be_bytes());
        bytes[40..44].copy_from_slice(&3_u32.to_be_bytes());
        let expected = Header { page_bytes: 4096, pages: Some(7), schema: 3 };
        assert_eq!(header(&bytes), Some(expected));
        bytes[24..28].copy_from_slice(&1_u32.to_be_bytes());
        assert_eq!(header(&bytes), Some(Header { pages: None, ..expected }), "a stale count");
        bytes[16..18].copy_from_slice(&4097_u16.to_be_bytes());
        assert_eq!(header(&bytes), None);
        assert_eq!(header(MAGIC), None);
    }
}
