//! Counts the visits of a period, from the rolled-up sums and from the counters that are not rolled
//! up yet. Takes a period; returns the SQL of one statement over both, and the bounds for its
//! parameters. Guarantees that every quarter hour of the period is read once, in the widest sum
//! that lies in the period. One statement reads one snapshot, so a concurrent rollup changes no
//! number.

use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::QueryAs;
use sqlx::{Any, FromRow};

use super::Period;

/// Widths of the sums above a quarter hour, in quarter hours: a day, eight days, sixty-four days.
/// `visit::fold` writes the same widths.
const WIDER: [i64; 3] = [96, 768, 6144];

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
/// the column of `visit_counts` from which it is rolled up. A name may occur in several rows. The
/// parameters `$1` to `$17` are bound by [`in_period`].
macro_rules! counted {
    ($dimension:literal, $column:literal) => {
        concat!(
            counted!(@sums $dimension, "1", "$2", "$3"),
            counted!(@sums $dimension, "1", "$4", "$5"),
            counted!(@sums $dimension, "96", "$6", "$7"),
            counted!(@sums $dimension, "96", "$8", "$9"),
            counted!(@sums $dimension, "768", "$10", "$11"),
            counted!(@sums $dimension, "768", "$12", "$13"),
            counted!(@sums $dimension, "6144", "$14", "$15"),
            "select ", $column, " as name, visits
               from visit_counts
              where site_id = $1 and quarter >= $16 and quarter < $17 and device <> 'bot'"
        )
    };
    (@sums $dimension:literal, $width:literal, $from:literal, $to:literal) => {
        concat!(
            "select name, visits
               from visit_sums
              where site = (select number from sites where id = $1)
                and dimension = ", $dimension, " and width = ", $width, "
                and quarter >= ", $from, " and quarter < ", $to, " and (dimension <> 5 or name <> 'bot')
              union all "
        )
    };
}
pub(super) use counted;

/// A query over `counted!` with its parameters.
pub(super) fn in_period<'q, R>(
    text: &'static str,
    site_id: &'q str,
    period: Period,
) -> QueryAs<'q, Any, R, AnyArguments>
where
    R: for<'r> FromRow<'r, AnyRow>,
{
    let (first, after) = period.quarters();
    let query = sqlx::query_as(text).bind(site_id);
    let all = ranges(first, after).into_iter().chain([(first, after)]);
    all.fold(query, |query, (from, to)| query.bind(from).bind(to))
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
        let steps = [1, 1, 96, 96, 768, 768, 6144];
        for (first, after) in rows {
            let mut read: Vec<i64> = Vec::new();
            let mut sums = 0;
            for ((from, to), width) in ranges(first, after).into_iter().zip(steps) {
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
