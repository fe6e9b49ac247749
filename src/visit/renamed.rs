//! Stored visits with the names of their source and channel, as stored and by the current rules.
//! Takes rows of the table file; the file that reads visits again compares them.
//! Contains no behavior.

/// What the rules read from a visit's URL and referrer, as reports show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) channel: String,
    pub(super) source: Option<String>,
    pub(super) medium: Option<String>,
    pub(super) campaign: Option<String>,
}

/// The stored parts of a visit that the rules read and write.
pub(super) struct StoredLanding {
    pub(super) click_id: String,
    pub(super) sent_at_ms: i64,
    pub(super) site_id: String,
    pub(super) at_ms: i64,
    pub(super) url: Option<String>,
    pub(super) referrer: Option<String>,
    pub(super) names: Names,
    pub(super) landing_path: Option<String>,
    pub(super) device: String,
    pub(super) flags: i64,
    pub(super) details: String,
    /// In `provisional_visits`, which are not counted.
    pub(super) is_provisional: bool,
}

/// A visit that has other names by the current rules.
pub(crate) struct Renamed {
    pub(super) stored: StoredLanding,
    pub(super) names: Names,
    pub(super) details: String,
}

/// The key of a counter: site, quarter hour, channel, source, medium, campaign, landing path,
/// device.
pub(super) type CounterKey = (String, i64, [String; 6]);
