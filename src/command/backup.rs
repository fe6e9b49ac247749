//! `clickstamp backup`: copies the database while the server runs.
//! Takes the SQLite file of this configuration; writes one file, by default in `backups` of the
//! data directory, and prints its name.
//! Guarantees that the copy is complete and as of one moment, and that no existing file is
//! replaced.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Arg, ArgMatches, Command};

use super::print;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::store;

/// The command's arguments and help.
pub fn command() -> Command {
    Command::new("backup")
        .about("Copy the SQLite database into one file, also while the server runs")
        .after_help(
            "The copy holds everything, the key of the click IDs and all secrets included. To restore it, stop the server and run \
             `clickstamp restore FILE`. PostgreSQL: use pg_dump.",
        )
        .arg(
            Arg::new("file")
                .value_parser(clap::value_parser!(PathBuf))
                .help("where to [default: backups/clickstamp-TIME.db in the data directory]"),
        )
}

/// Runs the command.
pub fn run(config: &Config, arguments: &ArgMatches) -> Result<()> {
    let Some(database) = config.database_url.expose().strip_prefix("sqlite://") else {
        bail!(
            "the database is on a PostgreSQL server, which has a tool of its own: pg_dump --format=custom --file=clickstamp.dump, \
             with the URL of CLICKSTAMP_DATABASE_URL; pg_restore puts it back"
        );
    };
    let copy = match arguments.get_one::<PathBuf>("file") {
        Some(file) => file.clone(),
        None => config.data_dir.join("backups").join(name(Clock::system().now())),
    };
    let bytes = store::copy_sqlite(Path::new(database), &copy)?;
    let kib = bytes.div_ceil(1024);
    print(&format!("{} ({kib} KiB)", copy.display()))
}

/// `clickstamp-20260921T141320Z.db`.
fn name(now: Timestamp) -> String {
    format!("clickstamp-{}.db", file_time(now))
}

/// `20260921T141320Z`: a time for file names that sorts.
pub(super) fn file_time(now: Timestamp) -> String {
    let text = now.to_rfc3339();
    let second = text.split(['.', '+', 'Z']).next().unwrap_or_default();
    format!("{}Z", second.replace(['-', ':'], ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_named_by_their_time() {
        assert_eq!(name(Timestamp::from_seconds(1_790_000_000)), "clickstamp-20260921T141320Z.db");
    }
}
