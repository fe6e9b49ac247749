//! The subcommands beside `serve` and `demo`, a file each.
//! In: what the command line says, and the configuration. Out: what people read, and an exit code.

pub mod backfill;
pub mod backup;
pub mod check;
pub mod healthcheck;
pub mod prune;
pub mod reconcile;
pub mod replay;
pub mod restore;
pub mod user;
