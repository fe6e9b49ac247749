//! `clickstamp reconcile`: compares the ledger with Stripe's records.
//! Takes a range of days; prints a line per day, kind and currency, every difference, and what was not compared. Exit code 0 without differences, 1 with some, 2 without an answer.
//! Changes nothing; with `--repair` it fetches what is missing and compares again.

use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgMatches, Command};
use serde_json::json;

use super::backfill::{no_answer, whose};
use super::replay::{days, range};
use super::{flag, print};
use crate::app::App;
use crate::clock::Clock;
use crate::config::Config;
use crate::stripe::reconcile::{Reconciled, Sums, Wanted};

/// How it is called.
pub fn command() -> Command {
    Command::new("reconcile")
        .about("Compare the payments, refunds and disputes in the ledger with Stripe's records")
        .after_help(
            "Needs a restricted key that may read Checkout Sessions, Invoices, PaymentIntents, Charges and Refunds, and Disputes: \
             CLICKSTAMP_STRIPE_API_KEY, or that of the source under Settings. What the key may not read is not compared, and the output says so. \
             Without days it compares the last seven and today until ten minutes ago; the server does the same every night. \
             Exit code: 0 no difference, 1 a difference, 2 no answer from Stripe.",
        )
        .args(days())
        .arg(flag("repair", "fetch what is missing here, and compare again"))
        .args(whose())
}

/// Runs it.
///
/// # Errors
/// A sentence for the operator: what is wrong with the database or the source.
pub async fn run(config: Config, arguments: &ArgMatches) -> Result<ExitCode> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned().unwrap_or_default();
    let app = App::beside(config, Clock::system()).await?;
    let (from, until) = range(arguments, &app.state().settings.current())?;
    let (source, account) = (text("source"), text("account"));
    let wanted = Wanted { source, account, from, until, repair: arguments.get_flag("repair") };
    let found = app.reconcile(&wanted).await;
    app.close().await;
    let found = match found {
        Ok(found) => found,
        Err(error) => return no_answer(Err(error)),
    };
    let said = if arguments.get_flag("json") { json!(found).to_string() } else { report(&found) };
    print(&said)?;
    Ok(if found.gap == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(found: &Reconciled) -> String {
    let mut said = String::new();
    if !found.livemode {
        said.push_str("Test mode: the key sees no live payment.\n");
    }
    if found.repaired > 0 {
        said.push_str(&format!("Fetched {} that were missing.\n", found.repaired));
    }
    for sums in &found.days {
        said.push_str(&line(sums));
    }
    for sums in &found.totals {
        said.push_str(&line(sums));
    }
    if found.totals.is_empty() {
        said.push_str("Neither side has anything in these days; gap 0\n");
    }
    for difference in &found.differences {
        let none = "nothing".to_owned();
        said.push_str(&format!(
            "\n{} {} {} · Stripe: {} · here: {}{}\n  {}.\n",
            difference.day,
            difference.kind,
            difference.stripe_id,
            difference.stripe.as_ref().unwrap_or(&none),
            difference.here.as_ref().unwrap_or(&none),
            difference.conversion_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default(),
            difference.fix
        ));
    }
    let left_out = found.left_out();
    if !left_out.is_empty() {
        said.push_str(&format!("\n{left_out}"));
    }
    said
}

fn line(sums: &Sums) -> String {
    let day = if sums.day.is_empty() { "all       " } else { &sums.day };
    format!("{day}  {sums}\n")
}
