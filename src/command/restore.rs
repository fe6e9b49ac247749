//! `clickstamp restore`: replaces the SQLite database with a backup.
//! Takes a copy that `clickstamp backup` made, and a confirmation; prints what the copy contains,
//! and where the replaced files are.
//! Guarantees that a damaged or unknown copy changes nothing, that no file is deleted, and that a
//! running server is not touched.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgMatches, Command};

use super::backup::file_time;
use super::flag;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::store::{Counted, Staged};

/// Rows by which people recognize an installation.
const COUNTED: &[Counted] = &[
    Counted { noun: "visits", of: "visits", at: "received_at_ms" },
    Counted { noun: "Stripe events", of: "stripe_events", at: "received_at_ms" },
    Counted { noun: "conversions", of: "conversions", at: "recorded_at_ms" },
    Counted { noun: "deliveries", of: "deliveries", at: "created_at_ms" },
];

/// The command's arguments and help.
pub fn command() -> Command {
    Command::new("restore")
        .about("Put a backup into the place of the SQLite database, while the server is stopped")
        .after_help(
            "Checks the backup, says what it holds and asks before anything changes. The present database is moved aside with its log, \
             never deleted. Deliveries that the backup holds as pending are sent again when the server starts, with the same transaction \
             IDs. PostgreSQL: use pg_restore.",
        )
        .arg(
            Arg::new("file")
                .required(true)
                .value_parser(clap::value_parser!(PathBuf))
                .help("the backup, such as data/backups/clickstamp-TIME.db"),
        )
        .arg(flag("yes", "do not ask, for scripts"))
}

/// Runs the command.
pub fn run(config: &Config, arguments: &ArgMatches) -> Result<()> {
    let Some(database) = config.database_url.expose().strip_prefix("sqlite://") else {
        bail!(
            "the database is on a PostgreSQL server, which has a tool of its own: pg_restore --clean --dbname=URL clickstamp.dump, \
             while no copy of the program runs"
        );
    };
    let copy = arguments.get_one::<PathBuf>("file").context("the command line requires it")?;
    let staged = Staged::prepare(Path::new(database), copy, COUNTED)?;
    let mut out = std::io::stdout();
    write!(out, "{}", describe(copy, &staged)).context("could not print")?;
    let now = file_time(Clock::system().now());
    if staged.replaces() {
        writeln!(
            out,
            "It replaces {database}, which is moved to {database}.before-restore-{now}."
        )?;
    }
    if !arguments.get_flag("yes") && !is_agreed(&mut out)? {
        bail!("nothing was changed");
    }
    let restored = staged.put_in_place(&now)?;
    for (from, to) in &restored.kept {
        writeln!(out, "Moved {} to {}", from.display(), to.display())?;
    }
    writeln!(out, "Restored {database}. Start the server now.").context("could not print")
}

fn describe(copy: &Path, staged: &Staged) -> String {
    let kib = staged.contents.bytes.div_ceil(1024);
    let mut text = format!("{} is a whole Clickstamp database ({kib} KiB):\n", copy.display());
    for (noun, count, newest) in &staged.contents.rows {
        let newest =
            newest.map(|at| format!(", the newest of {}", Timestamp::from_ms(at).to_rfc3339()));
        text.push_str(&format!("  {count} {noun}{}\n", newest.unwrap_or_default()));
    }
    text
}

fn is_agreed(out: &mut impl std::io::Write) -> Result<bool> {
    write!(out, "Restore it? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("could not read the answer")?;
    writeln!(out)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
