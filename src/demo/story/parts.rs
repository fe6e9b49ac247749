//! The parts of the sample story: visits, sales, steps, and what the shop sells.
//! Takes nothing and returns nothing: only values and constants.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::demo::checkout::{Item, Sale};

/// The whole story.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Story {
    /// The first instant of the first day.
    pub(crate) begins: Timestamp,
    pub(crate) visits: Vec<Visit>,
    pub(crate) sales: Vec<Sale<Reference>>,
    /// In the order of time.
    pub(crate) steps: Vec<Step>,
}

/// One visit, as the tag would send it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) at: Timestamp,
    pub(crate) url: String,
    pub(crate) referrer: Option<&'static str>,
    pub(crate) agent: &'static str,
    pub(crate) language: &'static str,
    pub(crate) address: [u8; 4],
    /// Index of the visitor's previous visit.
    pub(crate) previous: Option<usize>,
    /// True if the visitor came back directly and keeps the click ID.
    pub(crate) keeps_click_id: bool,
    pub(crate) is_automated: bool,
    pub(crate) wants_privacy: bool,
    pub(crate) ad_cookies: Option<String>,
    /// True for a click on the redirect link: no page, no tag.
    pub(crate) is_by_link: bool,
    /// AnyTrack's click ID, if its tag is on the page too.
    pub(crate) anytrack_click_id: Option<String>,
}

/// The value of a payment's `client_reference_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The link has no such parameter.
    None,
    /// The tag did not run.
    Placeholder,
    /// Any other text.
    Text(String),
    /// The click ID of a visit.
    ClickIdOf(usize),
    /// The click ID of a visit with its last character changed.
    ForgedFrom(usize),
}

/// A step of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Timestamp,
    pub(crate) what: What,
}

/// What happens in a step. Numbers are indexes into the story's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A tag reports a visit.
    VisitArrives(usize),
    /// Stripe sends an event about a sale.
    Webhook(usize, &'static str),
    /// Nothing new; the workers run once.
    Quiet,
}

/// Host of the shop; `.example` names cannot be registered.
pub(crate) const SHOP: &str = "www.northlight.example";

/// The path of the redirect link.
pub(crate) const LINK: &str = "/p/card";
/// The alias of the redirect link.
pub(crate) const LINK_ALIAS: &str = "card";

/// The shop's products.
pub(crate) const ITEMS: [Item; 4] = [
    Item { name: "Northlight desk lamp", usd_minor: 12_900, eur_minor: 11_900 },
    Item { name: "Northlight floor lamp", usd_minor: 28_900, eur_minor: 26_900 },
    Item { name: "Two Northlight desk lamps", usd_minor: 23_800, eur_minor: 21_900 },
    Item { name: "Daylight bulbs, set of four", usd_minor: 2_400, eur_minor: 2_200 },
];

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
