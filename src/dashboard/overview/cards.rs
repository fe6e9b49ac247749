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
use crate::money::{Currency, Totals};
use crate::report::Overview;

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

/// The six cards, in their order.
pub(super) fn cards(
    viewer: &Viewer,
    here: &Link,
    span: &Span,
    now: &Overview,
    before: Option<&Overview>,
    currency: Currency,
    metric: Metric,
) -> Vec<Card> {
    let chart = |of: Metric| here.with("chart", of.word()).to_string();
    let is_empty = now.visits == 0 && now.conversions == 0;
    let (compares, before) = (before.is_some(), before.unwrap_or(now));
    let unmatched = unmatched(viewer, span).to_string();
    let without_renewals = |of: &Overview| of.conversions - of.renewals;
    let mut cards = vec![
        amount("Net revenue", chart(Metric::Net), &now.net, &before.net, currency, More::IsGood),
        Card {
            also: match now.renewals {
                0 => format!("{} matched", count(now.matched)),
                renewals => format!("and {}", counted(renewals, "renewal", "renewals")),
            },
            change: change(
                without_renewals(now),
                without_renewals(before),
                count(without_renewals(before)),
                More::IsGood,
            ),
            ..card("Conversions", chart(Metric::Conversions), count(without_renewals(now)))
        },
        Card {
            also: format!("of {} visits", count(now.visits)),
            change: points(now.conversion_rate(), before.conversion_rate(), More::IsGood),
            ..card("Conversion rate", chart(Metric::Rate), numbers::rate(now.conversion_rate()))
        },
        per_visit_card(chart(Metric::PerVisit), now, before, currency),
        Card {
            also: format!("{} not matched", count(now.unmatched_payments())),
            change: points(now.match_rate, before.match_rate, More::IsGood),
            ..card("Match rate", unmatched, numbers::rate(now.match_rate))
        },
        amount(
            "Money at risk",
            span.on(&viewer.link("/leaks")).to_string(),
            &now.at_risk,
            &before.at_risk,
            currency,
            More::IsBad,
        ),
    ];
    for (card, (of, _)) in cards.iter_mut().zip(METRICS) {
        card.is_current = of == metric;
    }
    for card in &mut cards {
        if is_empty {
            (card.big, card.small, card.also) = (NONE.to_owned(), String::new(), String::new());
        }
        card.change = card.change.take().filter(|_| compares && !is_empty);
    }
    cards
}

fn card(label: &'static str, href: String, number: String) -> Card {
    let (big, small) = match number.strip_suffix('%') {
        Some(number) => (number.to_owned(), "%".to_owned()),
        None => (number, String::new()),
    };
    let (also, is_long) = (String::new(), false);
    Card { href, label, big, small, is_long, also, change: None, is_current: false }
}

fn amount(
    label: &'static str,
    href: String,
    now: &Totals,
    before: &Totals,
    currency: Currency,
    more: More,
) -> Card {
    let (new, old) = (now.of(currency), before.of(currency));
    let (big, small) = numbers::money_parts(new);
    Card {
        is_long: big.chars().count() > LONG,
        big,
        small,
        also: others(now, currency),
        change: change(new.minor, old.minor, money(old), more),
        ..card(label, href, String::new())
    }
}

/// The other currencies: `and €4,457.00`.
fn others(sums: &Totals, currency: Currency) -> String {
    let others = in_order(sums, currency).into_iter().filter(|sum| sum.currency != currency);
    let others: Vec<String> = others.map(money).collect();
    if others.is_empty() { String::new() } else { format!("and {}", others.join(", ")) }
}

fn per_visit_card(href: String, now: &Overview, before: &Overview, currency: Currency) -> Card {
    let of = |numbers: &Overview| per_visit(numbers.net.of(currency), numbers.visits);
    let (new, old) = (of(now), of(before));
    let (big, small) =
        new.map_or((NONE.to_owned(), String::new()), |new| (money(new), String::new()));
    let mut others = Totals::default();
    for sum in now.net.iter().filter(|sum| sum.currency != currency) {
        if let Some(each) = per_visit(sum, now.visits) {
            others.add(each);
        }
    }
    let others = self::others(&others, currency);
    let change =
        new.zip(old).and_then(|(new, old)| change(new.minor, old.minor, money(old), More::IsGood));
    Card { big, small, also: others, change, ..card("Revenue per visit", href, String::new()) }
}
