//! Counters of visits and the sums that reports read, as values.
//! Takes nothing and returns nothing: the rollup and its table share them.

/// A counter that was deleted from its table.
pub(super) struct Counter {
    pub(super) quarter: i64,
    pub(super) channel: String,
    pub(super) source: String,
    pub(super) campaign: String,
    pub(super) landing_path: String,
    pub(super) device: String,
    /// May be negative, which corrects a visit that was counted before and is replaced.
    pub(super) visits: i64,
}

/// Key of a sum: dimension, width, first quarter hour, name. All replicas write rows in this order,
/// so that they do not deadlock.
pub(super) type SumKey = (i64, i64, i64, String);
