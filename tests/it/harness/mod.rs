//! The test harness: an app that tests drive step by step, fake destinations, and events signed
//! like Stripe's.
//! No test sleeps or polls: workers run when a test calls them, and time moves only with `advance`.

mod app;
mod database;
mod destination;
mod events;
mod http;
mod line;
mod mail;
mod owner;
mod server;
mod stripe_api;
mod wire;

pub(crate) use app::{Conversion, TestApp};
pub(crate) use database::Database;
pub(crate) use destination::{FakeDestination, Reaction};
pub(crate) use events::{SECRET, Session, fixture, sign};
pub(crate) use http::{Reply, request};
pub(crate) use line::Line;
pub(crate) use mail::{FakeMail, MAIL_CERTIFICATE, MailTls};
pub(crate) use owner::Owner;
pub(crate) use server::{Server, program};
pub(crate) use stripe_api::{FakeStripe, KEY, OTHER_KEY, TEST_KEY, Trouble};
pub(crate) use wire::Wire;
