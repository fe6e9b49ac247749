//! The chart: visits as a line above, bars below, one time axis.
//! In: points with their texts. Out: an SVG. Promise: pure; bars start at zero, every text is escaped, and nothing needs a script.
//!
//! The SVG has no `viewBox`: x in per cent, y in pixels, so text keeps its size at every width. Lines live in a stretched inner SVG.

use std::fmt::Write as _;

/// Height in pixels; the lanes below are drawn for it.
const HEIGHT: i64 = 312;
/// The lane of the line, from its top to its zero.
const LINE: Lane = Lane { top: 26, zero: 106 };
/// The lane of the bars.
const BARS: Lane = Lane { top: 148, zero: 284 };

/// What is drawn.
pub(super) struct Chart {
    /// Says what it is.
    pub(super) title: String,
    /// Says the gist in a sentence.
    pub(super) gist: String,
    /// Name of the bars: `Net revenue, USD`.
    pub(super) bars_name: String,
    /// Oldest first.
    pub(super) points: Vec<Point>,
    /// A value of the bars, rounded for the axis.
    pub(super) bar_label: fn(i64, &Chart) -> String,
    /// Given to `bar_label` by the page, where the bars are money.
    pub(super) currency: crate::money::Currency,
    /// True when the last bucket is unfinished.
    pub(super) is_open: bool,
    /// True when there are earlier days to compare with.
    pub(super) compares: bool,
}

/// One bucket.
pub(super) struct Point {
    /// For the pointer: `Tue 27 Oct: $1,134.39, 1,435 visits. …`
    pub(super) note: String,
    /// Below the axis; empty for most.
    pub(super) label: String,
    pub(super) visits: i64,
    pub(super) visits_before: i64,
    pub(super) value: i64,
    pub(super) value_before: i64,
}

#[derive(Clone, Copy)]
struct Lane {
    top: i64,
    zero: i64,
}

impl Lane {
    /// Tenths of a pixel from the top of the picture.
    fn y(self, value: i64, largest: i64) -> i64 {
        let height = i128::from((self.zero - self.top) * 10);
        let up = i128::from(value.max(0)) * height / i128::from(largest.max(1));
        self.zero * 10 - i64::try_from(up).unwrap_or(0).min((self.zero - self.top) * 10)
    }
}

impl Chart {
    /// Draws it.
    pub(super) fn svg(&self) -> String {
        let mut svg = String::with_capacity(8 * 1024);
        let largest = |of: &dyn Fn(&Point) -> i64| self.points.iter().map(of).max().unwrap_or(0);
        let visits_top = nice_above(largest(&|p| p.visits.max(p.visits_before)).max(1));
        let bars_top = largest(&|p| p.value.max(p.value_before)).max(1);
        self.open(&mut svg);
        self.grid(&mut svg, visits_top, bars_top);
        for (at, point) in self.points.iter().enumerate() {
            self.bar(&mut svg, at, point, bars_top);
        }
        self.axis(&mut svg);
        self.lines(&mut svg, visits_top, bars_top);
        svg.push_str("</svg>");
        svg
    }

    fn open(&self, svg: &mut String) {
        put(
            svg,
            format_args!(
                "<svg height=\"{HEIGHT}\" role=\"img\" aria-labelledby=\"chart-title chart-gist\">\
             <title id=\"chart-title\">{}</title><desc id=\"chart-gist\">{}</desc>\
             <defs><pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect class=\"fill\" width=\"2\" height=\"5\"/></pattern></defs>",
                escape(&self.title),
                escape(&self.gist),
            ),
        );
    }

    fn grid(&self, svg: &mut String, visits_top: i64, bars_top: i64) {
        let mut line = |y: i64, label: &str| {
            put(
                svg,
                format_args!(
                    "<line class=\"grid\" x2=\"100%\" y1=\"{0}\" y2=\"{0}\"/><text x=\"-10\" y=\"{1}\" text-anchor=\"end\">{2}</text>",
                    Tenths(y),
                    Tenths(y + 40),
                    escape(label),
                ),
            );
        };
        line(LINE.top * 10, &super::views::numbers::count(visits_top));
        line(LINE.zero * 10, "0");
        let step = nice_below(bars_top);
        let lines = (bars_top / step).min(5);
        let step = if lines > 2 { step * 2 } else { step };
        for n in (1..=bars_top / step).rev() {
            line(BARS.y(step * n, bars_top), &(self.bar_label)(step * n, self));
        }
        line(BARS.zero * 10, "0");
        put(
            svg,
            format_args!(
                "<text class=\"name\" y=\"14\">Visits</text><text class=\"name\" y=\"136\">{}</text>",
                escape(&self.bars_name)
            ),
        );
    }

    fn bar(&self, svg: &mut String, at: usize, point: &Point, bars_top: i64) {
        let (x, width) = (self.x(at, 0), self.x(1, 0));
        let gap = width * 14 / 100;
        let y = BARS.y(point.value, bars_top);
        let form = if self.is_open && at + 1 == self.points.len() {
            "class=\"now\" fill=\"url(#hatch)\""
        } else {
            "class=\"fill\""
        };
        put(
            svg,
            format_args!(
                "<g><title>{}</title><rect class=\"hit\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
                escape(&point.note),
                PerCent(x),
                LINE.top,
                PerCent(width),
                BARS.zero - LINE.top,
            ),
        );
        let height = BARS.zero * 10 - y;
        if height > 0 {
            put(
                svg,
                format_args!(
                    "<rect {form} x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\"/>",
                    PerCent(x + gap),
                    Tenths(y),
                    PerCent(width - 2 * gap),
                    Tenths(height),
                ),
            );
        }
        svg.push_str("</g>");
    }

    fn axis(&self, svg: &mut String) {
        for (at, point) in
            self.points.iter().enumerate().filter(|(_, point)| !point.label.is_empty())
        {
            put(
                svg,
                format_args!(
                    "<text x=\"{}\" y=\"306\" text-anchor=\"middle\">{}</text>",
                    PerCent(self.x(at, 1)),
                    escape(&point.label),
                ),
            );
        }
    }

    fn lines(&self, svg: &mut String, visits_top: i64, bars_top: i64) {
        let count = self.points.len();
        put(
            svg,
            format_args!(
                "<svg viewBox=\"0 0 {count} {HEIGHT}\" height=\"{HEIGHT}\" preserveAspectRatio=\"none\">"
            ),
        );
        let mut line = |class: &str, range: std::ops::Range<usize>, y: &dyn Fn(&Point) -> i64| {
            if range.len() < 2 {
                return;
            }
            put(svg, format_args!("<polyline class=\"{class}\" points=\""));
            for at in range {
                put(svg, format_args!("{at}.5 {} ", Tenths(y(&self.points[at]))));
            }
            svg.push_str("\"/>");
        };
        if self.compares {
            line("prev", 0..count, &|point| BARS.y(point.value_before, bars_top));
            line("prev", 0..count, &|point| LINE.y(point.visits_before, visits_top));
        }
        let closed = if self.is_open { count.saturating_sub(1) } else { count };
        line("line", 0..closed, &|point| LINE.y(point.visits, visits_top));
        if self.is_open {
            let from = closed.saturating_sub(1);
            line("line open", from..count, &|point| LINE.y(point.visits, visits_top));
        }
        svg.push_str("</svg>");
    }

    /// Hundredths of a per cent: where a bucket begins, or its middle.
    fn x(&self, at: usize, halves: i64) -> i64 {
        let count = i64::try_from(self.points.len()).unwrap_or(1).max(1);
        let at = i64::try_from(at).unwrap_or(0);
        (2 * at + halves) * 10_000 / (2 * count)
    }
}

/// The smallest of 1, 2, 5 × 10ⁿ that is not below a number.
fn nice_above(number: i64) -> i64 {
    let mut power = 1_i64;
    loop {
        for digit in [1, 2, 5] {
            if power.saturating_mul(digit) >= number {
                return power.saturating_mul(digit);
            }
        }
        power = power.saturating_mul(10);
    }
}

/// The largest of 1, 2, 5 × 10ⁿ that fits twice into a number, or once into a small one.
fn nice_below(number: i64) -> i64 {
    let half = (number / 2).max(1);
    let above = nice_above(half);
    if above == half {
        return half;
    }
    let digits_of_five = above.to_string().starts_with('5');
    if digits_of_five { above / 5 * 2 } else { above / 2 }
}

/// Tenths as a decimal.
struct Tenths(i64);

impl std::fmt::Display for Tenths {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0 / 10, self.0 % 10)
    }
}

/// Hundredths of a per cent as a length.
struct PerCent(i64);

impl std::fmt::Display for PerCent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}%", self.0 / 100, self.0 % 100)
    }
}

fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    svg.write_fmt(text).expect("a string takes everything");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashboard::views::numbers::axis_money;
    use crate::money::{Currency, Money};

    fn chart(values: &[(i64, i64)]) -> Chart {
        let point = |(at, (visits, value)): (usize, &(i64, i64))| Point {
            note: format!("day {at} <b>"),
            label: if at == 0 { "1 & 2".to_owned() } else { String::new() },
            visits: *visits,
            visits_before: 0,
            value: *value,
            value_before: 0,
        };
        Chart {
            title: "Visits".to_owned(),
            gist: "They rose.".to_owned(),
            bars_name: "Net revenue, USD".to_owned(),
            points: values.iter().enumerate().map(point).collect(),
            bar_label: |minor, chart| axis_money(Money { minor, currency: chart.currency }),
            currency: Currency::parse("usd").unwrap(),
            is_open: true,
            compares: true,
        }
    }

    #[test]
    fn bars_start_at_zero_and_the_largest_fills_its_lane() {
        let svg = chart(&[(10, 100_000), (20, 50_000), (5, 0)]).svg();
        assert!(svg.contains("y=\"148.0\" width=\"24.01%\" height=\"136.0\""), "{svg}");
        assert!(svg.contains("y=\"216.0\" width=\"24.01%\" height=\"68.0\""), "{svg}");
        assert!(!svg.contains("class=\"now\""), "an empty last day has no bar");
        assert!(svg.contains(">$500</text>") && svg.contains(">$1,000</text>"), "{svg}");
    }

    #[test]
    fn the_unfinished_bucket_is_hatched_and_its_line_dotted() {
        let svg = chart(&[(10, 1), (20, 2), (5, 2)]).svg();
        assert!(svg.contains("class=\"now\" fill=\"url(#hatch)\""));
        assert!(svg.contains("class=\"line\" points=\"0.5 66.0 1.5 26.0 \""), "{svg}");
        assert!(svg.contains("class=\"line open\" points=\"1.5 26.0 2.5 86.0 \""), "{svg}");
    }

    #[test]
    fn every_text_is_escaped() {
        let svg = chart(&[(1, 1)]).svg();
        assert!(
            svg.contains("day 0 &lt;b&gt;") && svg.contains("1 &amp; 2") && !svg.contains("<b>")
        );
    }

    #[test]
    fn nothing_and_absurd_amounts_do_not_panic() {
        for values in [vec![], vec![(0, 0)], vec![(i64::MAX, i64::MAX), (-5, i64::MIN)]] {
            assert!(chart(&values).svg().ends_with("</svg></svg>"));
        }
    }

    #[test]
    fn axes_have_round_numbers() {
        for (number, above) in [(1, 1), (3, 5), (1849, 2000), (5000, 5000), (5001, 10_000)] {
            assert_eq!(nice_above(number), above);
        }
        for (number, below) in [(1, 1), (222_523, 100_000), (100_000, 50_000), (7, 2), (9000, 2000)]
        {
            assert_eq!(nice_below(number), below, "{number}");
        }
    }
}
