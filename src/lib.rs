//! Clickstamp: first-party click IDs for Stripe payment links, and a ledger that explains every conversion.
//!
//! ```text
//! page ── GET /t/{site}.js ──▶ tag        mints a click ID, bakes it into the script
//!      ── POST /v ───────────▶ visit      durable row, then 204
//!      ── GET /p/{alias} ────▶ redirect   the same without a script, 302 to the payment link
//! Stripe ─ POST /webhooks/stripe/{source} ─▶ stripe        verify → store raw → 200, then process:
//!                                            └▶ conversion  payment + match + what is owed, one transaction
//!                                               └▶ delivery  claim → send → settle ─▶ destination
//! Zap ──── GET|POST /webhooks/custom/{token} ─▶ custom    raw request + conversion, one transaction → 200
//! dashboard, api ◀─ report (read only)
//! alert ◀─ report: what goes wrong ─▶ Slack, a webhook, a mailbox
//! ```
//!
//! Imports point down the flow or to the ground. `conversion` looks back at `visit`: that is what joining is.
//! Nothing looks back at `stripe`, `tag`, `api` or `dashboard`. Only doors know `AppState`. A test enforces it.

// The whole: routes, server, workers; and the commands beside it.
pub mod app;
pub mod command;
pub mod demo;
pub mod server;

// The flow: page → destination.
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

// What doors share.
pub mod client;
pub mod state;

// The ground: knows no room.
pub mod clock;
pub mod config;
pub mod error;
mod failpoint;
pub mod hosts;
pub mod ids;
mod limit;
pub mod money;
pub mod settings;
pub mod store;
