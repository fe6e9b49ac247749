//! Clickstamp: first-party click IDs for Stripe payment links, and a ledger that explains every
//! conversion.
//!
//! ```text
//! page ── GET /t/{site}.js ──▶ tag        mints a click ID, bakes it into the script
//!      ── POST /v ───────────▶ visit      durable row, then 204
//!      ── GET /p/{alias} ────▶ redirect   the same without a script, 302 to the payment link
//! Stripe ─ POST /webhooks/stripe/{source} ─▶ stripe        verify → store raw → 200, then process:
//!                                            └▶ conversion  payment + match + queued deliveries, one transaction
//!                                               └▶ delivery  claim → send → record the outcome ─▶ destination
//! postback ─ GET|POST /webhooks/custom/{token} ▶ custom    raw request + conversion, one transaction → 200
//! dashboard, api ◀─ report (read only)
//! alert ◀─ report: incidents ─▶ Slack, a webhook, a mailbox
//! ```
//!
//! A module imports only from modules further down the flow or from the base modules at the end of
//! this file. The one exception is `conversion`, which reads `visit` to match payments with visits.
//! No module imports `stripe`, `tag`, `api` or `dashboard`. Only modules with HTTP handlers use
//! `AppState`. `tests/it/architecture.rs` enforces these rules.

// The program: routes, server, workers, and the subcommands.
pub mod app;
pub mod command;
pub mod demo;
pub mod server;

// The flow, from the page to the destination.
mod conversion;
mod custom;
pub mod delivery;
pub mod destination;
mod redirect;
mod registration;
pub mod stripe;
mod tag;
mod visit;

// The read side.
mod alert;
mod api;
pub mod dashboard;
mod report;

// Shared by the HTTP handlers.
pub mod client;
pub mod state;

// The base: used everywhere, imports none of the modules above.
pub mod clock;
pub mod config;
pub mod domain;
pub mod error;
mod failpoint;
pub mod hosts;
pub mod ids;
mod json;
mod limit;
pub mod money;
mod outbound;
pub mod settings;
pub mod store;
