//! What is compared, whose records are used, and what was found so far.
//! Takes the ledger's side of a payment, refund or dispute; the comparisons and the table share
//! these values.
//! Changes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::result::{NotCompared, Part};
use super::sheet::Sheet;
use crate::clock::{Clock, Timestamp};
use crate::money::Money;
use crate::settings::Source;
use crate::store::Store;
use crate::stripe::api::Api;

/// From an object's creation to its last event: a checkout lives a day, an invoice may be paid weeks later.
pub(super) const PAID_WITHIN: Duration = Duration::from_secs(35 * 86_400);

/// A payment's conversion.
pub(super) struct Here {
    pub(super) id: String,
    pub(super) transaction_id: String,
    pub(super) status: String,
    pub(super) money: Option<Money>,
    pub(super) is_paid: bool,
}

/// The last event about an object.
pub(super) struct Arrived {
    pub(super) id: String,
    pub(super) event_id: String,
    pub(super) state: String,
    pub(super) error: Option<String>,
}

/// A payment here that Stripe's list may lack.
pub(super) struct Candidate {
    pub(super) event: String,
    pub(super) source_id: String,
    pub(super) part: Part,
    pub(super) here: Here,
}

/// A refund or dispute here that Stripe's list may lack.
pub(super) struct Adjustment {
    pub(super) event: String,
    pub(super) part: Part,
}

/// Whose records are compared, and how.
pub(crate) struct Comparing<'a> {
    pub(crate) api: Api,
    /// The sources whose payments this account's list should have.
    pub(crate) sources: BTreeSet<String>,
    /// What is missing is recorded under this one of them.
    pub(crate) source: &'a Source,
    pub(crate) clock: &'a Clock,
    /// Days are the site's.
    pub(crate) zone: TimeZone,
}

/// From an instant until another, exclusive.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

impl Range {
    pub(super) fn contains(self, at: Timestamp) -> bool {
        at >= self.from && at < self.until
    }
}

/// One comparison.
pub(super) struct Comparison<'a> {
    pub(super) store: &'a Store,
    pub(super) records: &'a Comparing<'a>,
    /// The connected account; empty for the key's own.
    pub(super) account: &'a str,
    pub(super) range: Range,
}

/// What a comparison found so far.
pub(super) struct Outcome<'a> {
    pub(super) sheet: Sheet<'a>,
    /// Events that would have reported what is missing here.
    pub(super) missing: Vec<String>,
    pub(super) not_compared: Vec<NotCompared>,
}

/// The start of the day a week before, where a comparison begins that does not say.
pub(super) fn week_before(at: Timestamp, zone: &TimeZone) -> Timestamp {
    let earlier = at.minus(Duration::from_secs(7 * 86_400));
    Timestamp::start_of(earlier.in_zone(zone).date(), zone).unwrap_or(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_begins_with_a_day() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = Timestamp::parse("2026-09-21T14:00:00Z").unwrap();
        assert_eq!(week_before(at, &zone).to_rfc3339(), "2026-09-13T22:00:00Z");
    }
}
