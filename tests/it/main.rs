//! The integration tests: one binary, one file per module, each through its HTTP endpoints.
//! They run on SQLite, or on the PostgreSQL server that CLICKSTAMP_TEST_POSTGRES names; `tests/run`
//! does both.

mod harness;

mod alerts;
mod api;
mod architecture;
mod at_least_once;
mod check;
mod command;
mod conversion;
mod conversion_sums;
mod copies;
mod crash;
mod crash_matrix;
mod custom;
mod dashboard;
mod delivery;
mod demo;
mod destination;
mod docs;
mod held;
mod journey;
mod ledger;
mod login;
mod lookups;
mod mapping;
mod metrics;
mod nul;
mod odd_bodies;
mod outcomes;
mod page_events;
mod provisional;
mod ready;
mod realtime;
mod recipes;
mod reconcile;
mod reconcile_adjustments;
mod redirect;
mod registration;
mod replay;
mod replicas;
mod restore;
mod retention;
mod settings_changes;
mod setup;
mod sites;
mod sources;
mod startup;
mod stripe;
mod stripe_api;
mod tag;
mod thank_you;
mod visit;
mod visit_sums;
mod words;
