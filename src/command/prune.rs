//! `clickstamp prune`: lets old visits go that led to nothing.
//! In: CLICKSTAMP_RETENTION_DAYS. Out: per site how many, and from when they were.
//! Promise: with `--dry-run` nothing is written; what a conversion needs never goes.

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use jiff::tz::TimeZone;

use crate::app::App;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
pub use crate::conversion::{Prune, Pruned};

/// How it is called.
pub fn command() -> Command {
    Command::new("prune")
        .about("Delete visits that led to no conversion and are older than CLICKSTAMP_RETENTION_DAYS")
        .after_help(
            "The server does the same once a day. Whatever a conversion, an abandoned checkout or a waiting payment needs stays, \
             and so do the numbers of the reports. Works beside a running server.",
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("only print what would go"),
        )
}

/// Runs it.
///
/// # Errors
/// A sentence for the operator.
pub async fn run(config: Config, arguments: &ArgMatches) -> Result<()> {
    let Some(days) = config.retention_days else {
        bail!("visits are kept for ever; set CLICKSTAMP_RETENTION_DAYS, or --retention-days 400");
    };
    let is_dry = arguments.get_flag("dry-run");
    let app = App::beside(config, Clock::system()).await?;
    let pruned = app.prune(if is_dry { Prune::Count } else { Prune::Delete }).await;
    let settings = app.state().settings.current();
    let zone = |key: &str| {
        let site = settings.site_by_key(key);
        site.and_then(|site| TimeZone::get(&site.timezone).ok()).unwrap_or(TimeZone::UTC)
    };
    app.close().await;
    let mut text = String::new();
    let verb = if is_dry { "would go" } else { "went" };
    let pruned = pruned?;
    for (key, of_site) in &pruned {
        text.push_str(&line(key, of_site, verb, &zone(key)));
    }
    if pruned.is_empty() {
        text = format!("No visit without a conversion is older than {days} days.\n");
    }
    std::io::stdout().write_all(text.as_bytes()).context("could not print")
}

fn line(key: &str, pruned: &Pruned, verb: &str, zone: &TimeZone) -> String {
    let day = |at: Timestamp| {
        let at = jiff::Timestamp::from_millisecond(at.as_ms()).unwrap_or_default();
        zone.to_datetime(at).date().to_string()
    };
    let (visits, noun) = (pruned.visits, if pruned.visits == 1 { "visit" } else { "visits" });
    format!("{key}: {visits} {noun} {verb}, {} to {}\n", day(pruned.oldest), day(pruned.newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_many_and_from_when_in_the_sites_days() {
        let (oldest, newest) = ("2026-01-01T23:30:00Z", "2026-02-01T12:00:00Z");
        let at = |text| Timestamp::parse(text).unwrap();
        let pruned = Pruned { visits: 2, oldest: at(oldest), newest: at(newest) };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let expected = "main: 2 visits would go, 2026-01-02 to 2026-02-01\n";
        assert_eq!(line("main", &pruned, "would go", &zone), expected);
    }
}
