//! `clickstamp replay`: compares the ledger with what the stored events say.
//! Takes a range of days, or everything; prints a table of differences, and corrects them with
//! `--apply`.
//! Guarantees that nothing is written without `--apply`, and that nothing that was delivered is
//! sent again with it.

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Arg, ArgMatches, Command};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;

use super::{flag, print};
use crate::app::App;
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::settings::{Site, Snapshot};
use crate::stripe::replay::{Difference, Replayed, Wanted, What};

/// Maximum number of lines of the table; `--json` prints all.
const MAX_ROWS: usize = 200;

/// The command's arguments and help.
pub fn command() -> Command {
    Command::new("replay")
        .about("Rebuild the conversions from the raw events and visits, and print what differs")
        .after_help(
            "Needs no network. Matches made by hand stay, and nothing that was delivered is sent again. Also reads events that an \
             earlier version ignored. With --apply, run it beside the server or without one: \
             conversions that the server changes meanwhile, or is about to match to a visit that just arrived, are left out and counted.",
        )
        .arg(flag("apply", "correct what differs"))
        .args(days())
        .arg(flag("json", "print JSON"))
}

/// `--from` and `--to`, both days included.
pub(crate) fn days() -> [Arg; 2] {
    let day =
        |text: &str| text.parse::<Date>().map_err(|_| "use a date such as 2026-09-21".to_owned());
    let arg = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("DAY").value_parser(day).help(help)
    };
    [
        arg("from", "the first day, in the site's time zone"),
        arg("to", "the last day, in the site's time zone"),
    ]
}

/// The range in time: from the start of the first day until the end of the last one.
pub(crate) fn range(
    arguments: &ArgMatches,
    snapshot: &Snapshot,
) -> Result<(Option<Timestamp>, Option<Timestamp>)> {
    let zone = snapshot.sites.first().map_or(TimeZone::UTC, Site::zone);
    let start = |day: Date| {
        Timestamp::start_of(day, &zone).context("a day that the calendar does not have")
    };
    let from = arguments.get_one::<Date>("from").copied();
    let to = arguments.get_one::<Date>("to").copied();
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err(anyhow!("--from is after --to"));
    }
    let after = to.map(|to| to.tomorrow().context("the calendar ends there")).transpose()?;
    Ok((from.map(start).transpose()?, after.map(start).transpose()?))
}

/// Runs the command.
pub async fn run(config: Config, arguments: &ArgMatches) -> Result<ExitCode> {
    let app = App::beside(config, Clock::system()).await?;
    let (from, until) = range(arguments, &app.state().settings.current())?;
    let wanted = Wanted { from, until, apply: arguments.get_flag("apply") };
    let replayed = app.replay(&wanted).await;
    app.close().await;
    let replayed = replayed?;
    let said =
        if arguments.get_flag("json") { json!(replayed).to_string() } else { tell(&replayed) };
    print(&said)?;
    Ok(ExitCode::SUCCESS)
}

fn tell(replayed: &Replayed) -> String {
    let mut said =
        format!("{} events make {} conversions.\n", replayed.events, replayed.conversions);
    for (what, count) in &replayed.events_changed {
        said.push_str(&format!("{count} × {what}\n"));
    }
    match replayed.moved {
        0 => {}
        1 => said.push_str(
            "1 conversion was left out: the server changed it meanwhile, or is about to match it again.\n",
        ),
        n => said.push_str(&format!(
            "{n} conversions were left out: the server changed them meanwhile, or is about to match them again.\n"
        )),
    }
    if replayed.differences.is_empty() {
        said.push_str("The ledger has no differences.");
        return said;
    }
    let rows: Vec<[String; 5]> =
        replayed.differences.iter().flat_map(rows).take(MAX_ROWS).collect();
    said.push('\n');
    said.push_str(&table(&rows));
    let count = replayed.differences.len();
    said.push_str(&format!(
        "\n{count} {}{}.",
        if count == 1 { "conversion differs" } else { "conversions differ" },
        if replayed.applied { "; corrected" } else { "; --apply corrects it" }
    ));
    let kept = replayed.differences.iter().any(|found| found.what == What::Unfounded);
    if replayed.applied && kept {
        said.push_str(" Conversions that no event creates were removed, unless one of their deliveries was attempted.");
    }
    said
}

/// One line per differing field; a conversion that exists on one side only gets one line.
fn rows(found: &Difference) -> Vec<[String; 5]> {
    let id = found.conversion_id.clone().unwrap_or_else(|| "–".to_owned());
    let row = |field: &str, here: &str, rebuilt: &str| {
        let shown = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        [id.clone(), found.transaction_id.clone(), field.to_owned(), shown(here), shown(rebuilt)]
    };
    let summary = |here: bool| {
        let value = |name: &str| {
            let field = found.fields.iter().find(|(field, _, _)| field == name);
            field
                .map(|(_, ours, rebuilt)| if here { ours } else { rebuilt }.clone())
                .unwrap_or_default()
        };
        let words = ["kind", "status", "amount_minor", "currency", "match_by", "match_reason"];
        words.map(value).into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    match found.what {
        What::Missing => vec![row("(missing here)", "", &summary(false))],
        What::Unfounded => vec![row("(no event makes it)", &summary(true), "")],
        What::Changed => {
            found.fields.iter().map(|(field, here, rebuilt)| row(field, here, rebuilt)).collect()
        }
    }
}

fn table(rows: &[[String; 5]]) -> String {
    let head = ["conversion", "transaction", "what", "here", "rebuilt"].map(str::to_owned);
    let all: Vec<&[String; 5]> = std::iter::once(&head).chain(rows).collect();
    let width = |at: usize| all.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3), 0];
    let mut text = String::new();
    for row in all {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
