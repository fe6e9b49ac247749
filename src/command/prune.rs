//! `clickstamp prune`: deletes old visits that led to no conversion. Takes
//! CLICKSTAMP_RETENTION_DAYS; prints for each site how many visits were deleted and their dates.
//! Guarantees that visits which a conversion needs are kept, and that `--dry-run` writes nothing.

use anyhow::{Result, bail};
use clap::{ArgMatches, Command};
use jiff::tz::TimeZone;

use super::{flag, print};
use crate::app::App;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
pub use crate::conversion::{Prune, Pruned};
use crate::settings::Site;

/// The command's arguments and help.
pub fn command() -> Command {
    Command::new("prune")
        .about("Delete visits that led to no conversion and are older than CLICKSTAMP_RETENTION_DAYS")
        .after_help(
            "The server does the same once a day. Visits that a conversion, an abandoned checkout or a waiting payment needs are kept. \
             The numbers of the reports do not change. The server may keep running.",
        )
        .arg(flag("dry-run", "only print what would be deleted"))
}

/// Runs the command.
pub async fn run(config: Config, arguments: &ArgMatches) -> Result<()> {
    let Some(days) = config.retention_days else {
        bail!("visits are kept forever; set CLICKSTAMP_RETENTION_DAYS, or --retention-days 400");
    };
    let is_dry = arguments.get_flag("dry-run");
    let app = App::beside(config, Clock::system()).await?;
    let pruned = app.prune(if is_dry { Prune::Count } else { Prune::Delete }).await;
    let settings = app.state().settings.current();
    let zone = |key: &str| settings.site_by_key(key).map_or(TimeZone::UTC, Site::zone);
    app.close().await;
    let mut text = String::new();
    let verb = if is_dry { "would be deleted" } else { "deleted" };
    let pruned = pruned?;
    for (key, of_site) in &pruned {
        text.push_str(&line(key, of_site, verb, &zone(key)));
    }
    if pruned.is_empty() {
        text = format!("No visit without a conversion is older than {days} days.\n");
    }
    print(text.trim_end())
}

fn line(key: &str, pruned: &Pruned, verb: &str, zone: &TimeZone) -> String {
    let day = |at: Timestamp| at.in_zone(zone).date().to_string();
    let (visits, noun) = (pruned.visits, if pruned.visits == 1 { "visit" } else { "visits" });
    format!("{key}: {visits} {noun} {verb}, {} to {}\n", day(pruned.oldest), day(pruned.newest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_number_and_dates_in_the_sites_time_zone() {
        let (oldest, newest) = ("2026-01-01T23:30:00Z", "2026-02-01T12:00:00Z");
        let at = |text| Timestamp::parse(text).unwrap();
        let pruned = Pruned { visits: 2, oldest: at(oldest), newest: at(newest) };
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let expected = "main: 2 visits would be deleted, 2026-01-02 to 2026-02-01\n";
        assert_eq!(line("main", &pruned, "would be deleted", &zone), expected);
    }
}
