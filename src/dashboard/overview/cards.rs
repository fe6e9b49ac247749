//! The six cards of the overview. Takes the numbers of a period, and of the one before if Clickstamp recorded all of
//! it; returns cards ready to show. Pure. Four cards select what the chart shows; the last two link to the rows
//! that need attention.

use crate::dashboard::conversions::unmatched;
use crate::dashboard::frame::Viewer;
use crate::dashboard::period::Span;
use crate::dashboard::views::Link;
use crate::dashboard::views::numbers::{
    self, Change, More, NONE, change, count, counted, in_order, money, per_visit, points,
};
use crate::money::{Currency, Money, Totals};
use crate::report::{Overview, Share};

/// The most characters of a large number; a longer one would not fit beside five other cards.
const LONG: usize = 8;

/// What the chart's bars show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Net,
    Conversions,
    Rate,
    PerVisit,
}

pub(super) const METRICS: [(Metric, &str); 4] = [
    (Metric::Net, ""),
    (Metric::Conversions, "conversions"),
    (Metric::Rate, "rate"),
    (Metric::PerVisit, "per_visit"),
];

impl Metric {
    /// Reads the query parameter; anything unknown is net revenue.
    pub(super) fn read(word: Option<&str>) -> Self {
        let word = word.unwrap_or_default();
        METRICS.iter().find(|(_, known)| *known == word).map_or(Self::Net, |(metric, _)| *metric)
    }

    fn word(self) -> &'static str {
        METRICS.iter().find(|(metric, _)| *metric == self).map_or("", |(_, word)| *word)
    }
}

/// One card.
pub(super) struct Card {
    pub(super) href: String,
    pub(super) label: &'static str,
    /// `$35,169` and `.10`.
    pub(super) big: String,
    pub(super) small: String,
    /// A number of a million or more is shown smaller so that it fits.
    pub(super) is_long: bool,
    /// Other currencies: `and €4,457.00`; may be empty.
    pub(super) also: String,
    pub(super) change: Option<Change>,
    pub(super) is_current: bool,
}

/// What the cards show.
pub(super) struct Cards<'a> {
    pub(super) viewer: &'a Viewer,
    /// The page with its selections.
    pub(super) here: &'a Link,
    pub(super) span: &'a Span,
    pub(super) now: &'a Overview,
    /// `None` if nothing is comparable.
    pub(super) before: Option<&'a Overview>,
    pub(super) currency: Currency,
    /// What the chart shows.
    pub(super) metric: Metric,
}

impl Cards<'_> {
    /// The six cards, in their order.
    pub(super) fn all(&self) -> Vec<Card> {
        let unmatched = unmatched(self.viewer, self.span).to_string();
        let leaks = self.span.on(&self.viewer.link("/leaks")).to_string();
        let mut cards = vec![
            self.amount("Net revenue", self.chart(Metric::Net), |of| &of.net, More::IsGood),
            self.conversions(),
            self.share(
                ("Conversion rate", format!("of {} visits", count(self.now.visits))),
                self.chart(Metric::Rate),
                Overview::conversion_rate,
            ),
            self.per_visit(),
            self.share(
                ("Match rate", format!("{} not matched", count(self.now.unmatched_payments()))),
                unmatched,
                |of| of.match_rate,
            ),
            self.amount("Money at risk", leaks, |of| &of.at_risk, More::IsBad),
        ];
        for (card, (of, _)) in cards.iter_mut().zip(METRICS) {
            card.is_current = of == self.metric;
        }
        if self.now.visits == 0 && self.now.conversions == 0 {
            for card in &mut cards {
                (card.big, card.small, card.also) = (NONE.to_owned(), String::new(), String::new());
                card.change = None;
            }
        }
        cards
    }

    /// Link that shows a metric in the chart.
    fn chart(&self, of: Metric) -> String {
        self.here.with("chart", of.word()).to_string()
    }

    fn conversions(&self) -> Card {
        let number = |of: &Overview| of.conversions - of.renewals;
        let now = number(self.now);
        let before = self.before.map(number);
        let apart = [
            (self.now.renewals, "renewal", "renewals"),
            (self.now.page_events, "page event", "page events"),
        ];
        let apart: Vec<String> = apart
            .into_iter()
            .filter(|(number, ..)| *number > 0)
            .map(|(number, one, many)| counted(number, one, many))
            .collect();
        Card {
            also: match apart.is_empty() {
                true => format!("{} matched", count(self.now.matched)),
                false => format!("and {}", apart.join(", ")),
            },
            change: before.and_then(|old| change(now, old, count(old), More::IsGood)),
            ..card("Conversions", self.chart(Metric::Conversions), count(now))
        }
    }

    fn share(
        &self,
        (label, also): (&'static str, String),
        href: String,
        of: fn(&Overview) -> Share,
    ) -> Card {
        let now = of(self.now);
        let change = self.before.and_then(|before| points(now, of(before), More::IsGood));
        Card { also, change, ..card(label, href, numbers::rate(now)) }
    }

    fn amount(
        &self,
        label: &'static str,
        href: String,
        of: fn(&Overview) -> &Totals,
        more: More,
    ) -> Card {
        let new = of(self.now).of(self.currency);
        let old = self.before.map(|before| of(before).of(self.currency));
        let (big, small) = numbers::money_parts(new);
        Card {
            is_long: big.chars().count() > LONG,
            big,
            small,
            also: others(of(self.now), self.currency),
            change: old.and_then(|old| change(new.minor, old.minor, money(old), more)),
            ..card(label, href, String::new())
        }
    }

    fn per_visit(&self) -> Card {
        let of = |numbers: &Overview| per_visit(numbers.net.of(self.currency), numbers.visits);
        let (new, old) = (of(self.now), self.before.and_then(of));
        let mut each = Totals::default();
        for sum in self.now.net.iter().filter_map(|sum| per_visit(sum, self.now.visits)) {
            each.add(sum);
        }
        let change =
            |(new, old): (Money, Money)| change(new.minor, old.minor, money(old), More::IsGood);
        Card {
            also: others(&each, self.currency),
            change: new.zip(old).and_then(change),
            big: numbers::amount(new),
            ..card("Revenue per visit", self.chart(Metric::PerVisit), String::new())
        }
    }
}

fn card(label: &'static str, href: String, number: String) -> Card {
    let (big, small) = match number.strip_suffix('%') {
        Some(number) => (number.to_owned(), "%".to_owned()),
        None => (number, String::new()),
    };
    let (also, is_long) = (String::new(), false);
    Card { href, label, big, small, is_long, also, change: None, is_current: false }
}

/// The other currencies: `and €4,457.00`.
fn others(sums: &Totals, currency: Currency) -> String {
    let others = in_order(sums, currency).into_iter().filter(|sum| sum.currency != currency);
    let others: Vec<String> = others.map(money).collect();
    if others.is_empty() { String::new() } else { format!("and {}", others.join(", ")) }
}
