//! What a backfill reads: a list of an account, and a part of it.
//! Takes nothing and returns nothing: the reader and the table of progress share these values.

use crate::clock::Timestamp;
use crate::settings::Source;

/// A list of Stripe's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Events,
    Undelivered,
    /// Completed checkout sessions, for the time before the oldest event.
    Sessions,
}

impl List {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Undelivered => "undelivered",
            Self::Sessions => "sessions",
        }
    }

    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Events | Self::Undelivered => "/v1/events",
            Self::Sessions => "/v1/checkout/sessions",
        }
    }
}

/// A list of an account.
pub(super) struct Place<'a> {
    pub(super) source: &'a Source,
    pub(super) account: &'a str,
    pub(super) list: List,
}

/// A part of a list: items created from `from` to before `until`, after the cursor.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) cursor: Option<String>,
}
