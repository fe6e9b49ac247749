//! The subcommands except `serve` and `demo`, one file each.
//! Takes the command line and the configuration; prints text for people, and returns an exit code.

pub mod backfill;
pub mod backup;
pub mod check;
pub mod healthcheck;
pub mod prune;
pub mod reconcile;
pub mod replay;
pub mod restore;
pub mod user;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgAction};

/// The argument `--name`, which is there or not.
fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Prints a line.
fn print(said: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{said}").context("could not print")
}
