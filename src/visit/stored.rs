//! Visits and page events as they are stored.
//! Takes rows of the table files; matching and the ledger read them.
//! Contains no behavior.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::clock::Timestamp;
use crate::ids::ClickId;

/// A stored event of a page.
#[derive(Clone, Debug)]
pub(crate) struct PageEvent {
    /// `pev_…`.
    pub(crate) id: String,
    pub(crate) site_id: String,
    /// The click ID as the page sent it.
    pub(crate) click_id: ClickId,
    /// The browser's time. With the click ID and the name, it identifies a repeat.
    pub(crate) sent_at_ms: i64,
    pub(crate) name: String,
    pub(crate) received_at: Timestamp,
    pub(crate) url: Option<String>,
    /// Values by name.
    pub(crate) properties: BTreeMap<String, String>,
}

/// The result of storing an event of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeptEvent {
    New,
    /// It was stored before.
    Known,
    /// Not stored: the site has too many events that do not count.
    TooMany,
}

/// Selects events of pages that do not count: no visit with their click ID counts, or they came
/// from another website.
#[derive(Clone, Copy, Default)]
pub(crate) struct ApartEvents<'a> {
    /// Of this site; by default of all.
    pub(crate) site_id: Option<&'a str>,
    /// Received at or after this time.
    pub(crate) from: Option<Timestamp>,
    /// Received before this time.
    pub(crate) until: Option<Timestamp>,
}

/// An event of a page that is not in the ledger yet.
pub(crate) struct WaitingEvent {
    /// `pev_…`.
    pub(crate) id: String,
    /// Number of attempts so far.
    pub(crate) attempts: i64,
    /// The event, or the error if its row cannot be read; it must not block the other events.
    pub(crate) event: Result<PageEvent>,
}

/// A stored visit with the fields that matching needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) click_id: ClickId,
    pub(crate) site_id: String,
    pub(crate) at: Timestamp,
    pub(crate) previous: Option<ClickId>,
    pub(crate) channel: String,
    pub(crate) source: Option<String>,
    pub(crate) medium: Option<String>,
    pub(crate) campaign: Option<String>,
    pub(crate) landing_path: Option<String>,
    pub(crate) device: String,
    /// Recorded from the request for the tag's script. The tag's own request may still arrive.
    pub(crate) is_provisional: bool,
}

/// The visitor's newest page view of the day on a site without cookies, and the click that it belongs to.
#[derive(Debug)]
pub(super) struct Earlier {
    pub(super) click_id: ClickId,
    pub(super) seen_at: Timestamp,
    /// The page and referrer of the click.
    pub(super) url: Option<String>,
    pub(super) referrer: Option<String>,
}

/// A click ID without recent visits.
pub(crate) struct OldClickId {
    pub(crate) click_id: String,
    pub(crate) site_id: String,
    pub(crate) visits: i64,
    pub(crate) first_at: Timestamp,
    pub(crate) last_at: Timestamp,
}
