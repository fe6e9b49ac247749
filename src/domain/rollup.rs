//! How visits and conversions are rolled up: `visit` and `conversion` write such sums, `report` reads
//! them.

/// Length of a quarter hour. SQL groups by it instead of by day, because the days of every time
/// zone, also with a clock change, consist of whole quarter hours.
pub(crate) const QUARTER_MS: i64 = 900_000;
/// Quarter hours of a day without a clock change.
pub(crate) const QUARTERS_A_DAY: i64 = 96;
/// Widths of the sums of visits above a quarter hour, in quarter hours: a day, eight days,
/// sixty-four days.
pub(crate) const WIDER: [i64; 3] = [QUARTERS_A_DAY, 8 * QUARTERS_A_DAY, 64 * QUARTERS_A_DAY];
