//! `clickstamp prune`: deletes old visits that led to no conversion, and old page events that do not
//! count. Takes CLICKSTAMP_RETENTION_DAYS; prints for each site how many were deleted, and the dates
//! of the visits.
//! Guarantees that visits which a conversion needs are kept, and that `--dry-run` writes nothing.

use std::fmt::Write as _;

use anyhow::Result;
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
        .about("Delete visits without a conversion that are older than CLICKSTAMP_RETENTION_DAYS, and old page events without a visit")
        .after_help(
            "The server does the same once a day. Page events that no counted visit belongs to are deleted after 30 days. Visits that a conversion, an abandoned checkout or a waiting payment needs are kept. \
             The numbers of the reports do not change. The server may keep running.",
        )
        .arg(flag("dry-run", "only print what would be deleted"))
}

/// Runs the command.
pub async fn run(config: Config, arguments: &ArgMatches) -> Result<()> {
    let days = config.retention_days;
    let is_dry = arguments.get_flag("dry-run");
    let app = App::beside(config, Clock::system()).await?;
    let wanted = if is_dry { Prune::Count } else { Prune::Delete };
    let (events, pruned) = (app.prune_events(wanted).await, app.prune(wanted).await);
    let settings = app.state().settings.current();
    let zone = |key: &str| settings.site_by_key(key).map_or(TimeZone::UTC, Site::zone);
    app.close().await;
    let (mut text, pruned) = (String::new(), pruned?);
    let verb = if is_dry { "would be deleted" } else { "deleted" };
    for (key, events) in events? {
        let noun = if events == 1 { "page event" } else { "page events" };
        let _ = writeln!(text, "{key}: {events} {noun} without a counted visit {verb}");
    }
    for (key, of_site) in &pruned {
        text.push_str(&line(key, of_site, verb, &zone(key)));
    }
    match days {
        None => text.push_str(
            "Visits are kept forever; set CLICKSTAMP_RETENTION_DAYS, or --retention-days 400.\n",
        ),
        Some(days) if pruned.is_empty() => {
            let _ = writeln!(text, "No visit without a conversion is older than {days} days.");
        }
        Some(_) => {}
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
