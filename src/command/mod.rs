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
