//! `clickstamp backfill`: fetches missed events from Stripe.
//! Takes the number of days to go back; stores and processes missed events, and prints how many
//! there were.
//! Guarantees that a second run changes nothing, and that a run that was interrupted says so; the
//! next one continues where it stopped.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use super::{flag, print};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::stripe::ApiError;
use crate::stripe::backfill::{Backfilled, EVENT_DAYS, Wanted};

/// The exit code if a request to Stripe failed.
const NO_ANSWER: u8 = 2;
/// The default number of days.
const DEFAULT_DAYS: &str = "30";

/// The command's arguments and help.
pub fn command() -> Command {
    Command::new("backfill")
        .about("Fetch events that Stripe could not deliver, and process them like webhooks")
        .after_help(
            "Needs a restricted key that may read Events and Checkout Sessions: CLICKSTAMP_STRIPE_API_KEY, or that of the source \
             under Settings. Runs beside a running server. Stripe keeps events for 30 days; from before, paid checkout sessions are fetched instead.",
        )
        .arg(
            Arg::new("days")
                .long("days")
                .value_name("N")
                .default_value(DEFAULT_DAYS)
                .value_parser(value_parser!(u32).range(1..=3650))
                .help("how many days back"),
        )
        .arg(flag("undelivered", "only events that Stripe could not deliver to at least one endpoint"))
        .args(whose())
}

/// Arguments of every command that calls Stripe.
pub(crate) fn whose() -> [Arg; 3] {
    [
        Arg::new("source")
            .long("source")
            .value_name("KEY")
            .default_value("main")
            .help("the source it belongs to, as in the webhook's address"),
        Arg::new("account")
            .long("account")
            .value_name("ACCT")
            .default_value("")
            .value_parser(account)
            .hide_default_value(true)
            .help("a connected account (acct_…) instead of the key's own"),
        flag("json", "print JSON"),
    ]
}

fn account(text: &str) -> Result<String, String> {
    let fits = text.is_empty()
        || (text.starts_with("acct_")
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    if fits { Ok(text.to_owned()) } else { Err("an account starts with acct_".to_owned()) }
}

/// Runs the command.
///
/// # Errors
/// With a message for the operator: what is wrong with the database or the source.
pub async fn run(config: Config, arguments: &ArgMatches) -> Result<ExitCode> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned().unwrap_or_default();
    let wanted = Wanted {
        days: *arguments.get_one("days").context("it has a default")?,
        source: text("source"),
        account: text("account"),
        undelivered: arguments.get_flag("undelivered"),
    };
    let app = App::beside(config, Clock::system()).await?;
    let done = app.backfill(&wanted).await;
    app.close().await;
    let (said, code) = match &done {
        Ok(done) if arguments.get_flag("json") => (json!(done).to_string(), ExitCode::SUCCESS),
        Ok(done) => (tell(&wanted, done), ExitCode::SUCCESS),
        Err(_) => return no_answer(done.map(|_| ())),
    };
    print(&said)?;
    Ok(code)
}

/// Prints the error of a failed request to Stripe, which has its own exit code.
pub(crate) fn no_answer(done: Result<()>) -> Result<ExitCode> {
    let Err(error) = done else { return Ok(ExitCode::SUCCESS) };
    let Some(api) = error.downcast_ref::<ApiError>() else { return Err(error) };
    let mut stderr = std::io::stderr();
    writeln!(stderr, "clickstamp: {api}").context("could not print")?;
    if matches!(api, ApiError::NoAnswer(_)) {
        writeln!(stderr, "Nothing is lost: run the command again to continue.")
            .context("could not print")?;
    }
    Ok(ExitCode::from(NO_ANSWER))
}

fn tell(wanted: &Wanted, done: &Backfilled) -> String {
    let mut said = String::new();
    if done.resumed {
        said.push_str("Continued an earlier run.\n");
    }
    said.push_str(&format!("Stripe listed {} events", done.events));
    if wanted.days > EVENT_DAYS && !wanted.undelivered {
        said.push_str(&format!(
            " of the last {EVENT_DAYS} days and {} completed sessions from before",
            done.sessions
        ));
    }
    let known = (done.events + done.sessions).saturating_sub(done.stored);
    said.push_str(&format!(
        ": {} were missing here and are processed, {known} were known.",
        done.stored
    ));
    if !done.unreadable.is_empty() {
        said.push_str(&format!(
            "\n{} could not be read. They are stored as they came, and shown as failed on the events page: {}",
            done.unreadable.len(),
            done.unreadable.join(", ")
        ));
    }
    said
}
