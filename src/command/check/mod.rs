//! `clickstamp check URL`: checks whether a page's payment links will carry a click ID. Takes a
//! page's address; prints findings and exits with 0 if there is no problem, 1 if there are
//! problems, and 2 if the page could not be read. Guarantees that it changes nothing and opens no
//! database. It reads one page, and the page's scripts if the tag is not among them.

mod copies;
mod fetch;
mod find;
mod judge;
mod page;
mod policy;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Command};

use self::copies::TagCopy;
use self::find::to_look_into;
use self::judge::judge;
use self::page::Page;
use crate::config::Config;

/// Exit code if the page could not be read.
const NOT_READ: u8 = 2;

/// The command's arguments and help.
pub fn command() -> Command {
    Command::new("check")
        .about("Check a page: is the tag on it, do its payment links have the placeholder, does its Content Security Policy allow the tag?")
        .after_help(
            "Reads the page as served, and its scripts if the tag is not among them. Runs no scripts and needs no server. \
             Exit code 0: no problems, 1: problems found, 2: the page could not be read.",
        )
        .arg(Arg::new("url").required(true).value_name("URL").help("the page’s address"))
}

/// Runs the command.
pub async fn run(config: &Config, arguments: &ArgMatches) -> Result<ExitCode> {
    let url = arguments.get_one::<String>("url").context("the command line requires it")?;
    let answer = match fetch::page(url).await {
        Ok(answer) => answer,
        Err(fault) => {
            writeln!(std::io::stderr(), "clickstamp: {fault:#}").context("could not print")?;
            return Ok(ExitCode::from(NOT_READ));
        }
    };
    let ours = config.public_url.as_ref();
    let page = Page::read(&answer.html, &answer.url);
    let scripts = fetch::scripts(&to_look_into(&page, ours)).await?;
    let copies = scripts.into_iter().filter_map(|(address, text)| TagCopy::read(address, &text));
    let findings = judge(&answer, &page, &copies.collect::<Vec<_>>(), ours);
    let faults = findings.iter().filter(|finding| finding.is_fault).count();
    let mut said = format!("{}\n", answer.url);
    for finding in &findings {
        said.push_str(if finding.is_fault { "\n  ✗ " } else { "\n  ✓ " });
        said.push_str(&finding.text);
    }
    said.push_str(&match faults {
        0 => "\n\nNo problems found.".to_owned(),
        1 => "\n\n1 problem found.".to_owned(),
        _ => format!("\n\n{faults} problems found."),
    });
    writeln!(std::io::stdout(), "{said}").context("could not print")?;
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
