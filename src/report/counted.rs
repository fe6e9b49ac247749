//! Counts the visits of a period, from the rolled-up sums and from the counters that are not rolled
//! up yet. Takes a period; returns the SQL of one statement over both, and the bounds for its
//! parameters. Guarantees that every quarter hour of the period is read once, in the widest sum
//! that lies in the period. One statement reads one snapshot, so a concurrent rollup changes no
//! number.

use super::Period;
use crate::domain::WIDER;
use crate::store::{Statement, Text, sql};

/// A half-open range of quarter hours; empty if both are equal.
type Range = (i64, i64);

/// The ranges to read. For each width but the widest: the range before and the range after those of
/// the wider sums. Then the range of the widest.
fn ranges(first: i64, after: i64) -> [Range; 7] {
    let (mut from, mut to, mut ranges) = (first, after, [(0, 0); 7]);
    for (at, wider) in WIDER.into_iter().enumerate() {
        let (inner_from, inner_to) = (round_up(from, wider), to.div_euclid(wider) * wider);
        if inner_from >= inner_to {
            ranges[2 * at] = (from, to.max(from));
            return ranges;
        }
        ranges[2 * at] = (from, inner_from);
        ranges[2 * at + 1] = (inner_to, to);
        (from, to) = (inner_from, inner_to);
    }
    ranges[6] = (from, to);
    ranges
}

fn round_up(quarter: i64, width: i64) -> i64 {
    quarter.saturating_add(width - 1).div_euclid(width) * width
}

/// SQL that returns rows of `name` and `visits`, without bots, for a dimension of `visit_sums` and
/// the column of `visit_counts` from which it is rolled up. A name may occur in several rows. Its
/// values are set by [`in_period`].
pub(super) fn counted(dimension: i64, column: &'static str) -> Text {
    let mut text = Text::from("");
    for (at, (from, to)) in BOUNDS.into_iter().enumerate() {
        text = text
            + "select name, visits
                 from visit_sums
                where site = (select number from sites where id = :site_id)
                  and dimension = "
            + dimension
            + " and width = "
            + STEPS[at]
            + " and quarter >= "
            + from
            + " and quarter < "
            + to
            + " and (dimension <> 5 or name <> 'bot')
                union all ";
    }
    text + "select "
        + column
        + " as name, visits
             from visit_counts
            where site_id = :site_id and quarter >= :first and quarter < :after and device <> 'bot'"
}

/// Widths of the sums that the seven [`ranges`] are read from.
const STEPS: [i64; 7] = [1, 1, WIDER[0], WIDER[0], WIDER[1], WIDER[1], WIDER[2]];

/// Names of the bounds of the seven [`ranges`].
const BOUNDS: [(&str, &str); 7] = [
    (":from_1", ":to_1"),
    (":from_2", ":to_2"),
    (":from_3", ":to_3"),
    (":from_4", ":to_4"),
    (":from_5", ":to_5"),
    (":from_6", ":to_6"),
    (":from_7", ":to_7"),
];

/// A statement over [`counted`] with its values.
pub(super) fn in_period(text: Text, site_id: &str, period: Period) -> Statement {
    let (first, after) = period.quarters();
    let whole = sql(text).set("site_id", site_id).set("first", first).set("after", after);
    BOUNDS.into_iter().zip(ranges(first, after)).fold(whole, |statement, (names, (from, to))| {
        statement.set(&names.0[1..], from).set(&names.1[1..], to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quarter_hour_is_read_once_and_long_periods_read_few_sums() {
        let rows = [
            (0, 0),
            (5, 5),
            (7, 3),
            (5, 9),
            (0, 96),
            (1, 191),
            (95, 97),
            (96, 6144),
            (0, 6144),
            (1, 12289),
            (6143, 12287),
            (1_990_000, 1_990_000 + 90 * 96 + 13),
            (-700, 700),
            (1_955_421, 1_955_421 + 365 * 96),
        ];
        for (first, after) in rows {
            let mut read: Vec<i64> = Vec::new();
            let mut sums = 0;
            for ((from, to), width) in ranges(first, after).into_iter().zip(STEPS) {
                assert!(from <= to, "{first} {after}: {from} {to}");
                if from < to {
                    assert_eq!((from.rem_euclid(width), to.rem_euclid(width)), (0, 0));
                    sums += (to - from) / width;
                    read.extend(from..to);
                }
            }
            read.sort_unstable();
            assert_eq!(read, (first..after).collect::<Vec<_>>(), "{first} {after}");
            assert!(sums <= 2 * (95 + 7 + 7) + 8, "{first} {after}: {sums}");
        }
    }
}
