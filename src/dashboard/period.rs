//! The period of a page. Takes a query, the site's time zone and the time; returns a `Span` with its days, the days
//! before it, its name and its menu. An invalid query falls back to the default period, and the page says so.

use std::time::Duration;

use anyhow::Result;
use askama::Template;
use askama::filters::HtmlSafe;
use jiff::ToSpan as _;
use jiff::civil::Date;

use super::asked::Asked;
use super::views::times::{Times, day_range};
use super::views::{Choice, Link};
use crate::clock::Timestamp;
use crate::report::{self, Overview, Period, Rule, Scope};
use crate::store::Store;

/// Longest custom period in days; a longer one loses its first days.
const MAX_DAYS: i64 = 3 * 366;

/// A range of days.
pub(super) struct Span {
    pub(super) first: Date,
    pub(super) last: Date,
    pub(super) period: Period,
    /// The same number of days directly before it.
    pub(super) before: Period,
    /// `28 days before`, `yesterday`.
    pub(super) before_name: String,
    /// Whether its last day is today.
    pub(super) is_open: bool,
    name: Name,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Name {
    Days28,
    Today,
    Days7,
    Months12,
    Own,
}

const NAMES: [(Name, &str, &str); 4] = [
    (Name::Days28, "28d", "Last 28 days"),
    (Name::Today, "today", "Today"),
    (Name::Days7, "7d", "Last 7 days"),
    (Name::Months12, "12m", "Last 12 months"),
];

impl Span {
    /// The days before, if they are recorded completely; otherwise the comparison would be wrong.
    pub(super) fn compared(&self, began: Option<Timestamp>) -> Option<Period> {
        let first_day_over = self.before.from.plus(Duration::from_secs(86_400));
        began.filter(|began| *began < first_day_over).map(|_| self.before)
    }

    /// The numbers of the days before, if they are comparable.
    pub(super) async fn overview_before(
        &self,
        store: &Store,
        scope: &Scope,
    ) -> Result<Option<Overview>> {
        match self.compared(report::began_at(store, scope).await?) {
            Some(before) => Ok(Some(report::overview(store, scope, before).await?)),
            None => Ok(None),
        }
    }

    /// The period that a query names.
    pub(super) fn read(asked: &mut Asked, times: &Times, now: Timestamp) -> Self {
        let today = times.date(now);
        let rule = || Rule::Must("must be a date like 2026-09-21".into());
        let mut date = |name| asked.value(name, |text| text.parse().map_err(|_| rule()));
        let (from, to): (Option<Date>, Option<Date>) = (date("from"), date("to"));
        let word = asked.word("period", &NAMES.map(|(_, word, _)| word)).unwrap_or_default();
        if let (Some(from), Some(to)) = (from, to) {
            let last = from.max(to).min(today);
            let earliest = last.saturating_sub((MAX_DAYS - 1).days());
            let first = from.min(to).clamp(earliest, last);
            return Self::of(Name::Own, first, last, times, today);
        }
        if let Some(alone) = from.or(to) {
            let name = if from.is_some() { "from" } else { "to" };
            let rule = Rule::Must("must be given together with the other end of the period".into());
            asked.refuse(name, &alone.to_string(), &rule);
        }
        let name = NAMES.iter().find(|(_, known, _)| *known == word).map_or(Name::Days28, |n| n.0);
        let first = match name {
            Name::Today => today,
            Name::Days7 => today.saturating_sub(6.days()),
            // Whole calendar months, so that each bar is one.
            Name::Months12 => today.first_of_month().saturating_sub(11.months()),
            Name::Days28 | Name::Own => today.saturating_sub(27.days()),
        };
        Self::of(name, first, today, times, today)
    }

    /// 28 days to today.
    pub(super) fn default_of(times: &Times, now: Timestamp) -> Self {
        Self::read(&mut Asked::default(), times, now)
    }

    fn of(name: Name, first: Date, last: Date, times: &Times, today: Date) -> Self {
        let days = i64::from((last - first).get_days()) + 1;
        let last_before = first.saturating_sub(1.day());
        let first_before = first.saturating_sub(days.days());
        let period = |first, last| {
            Period::of_days(first, last, &times.zone)
                .unwrap_or(Period { from: Timestamp::default(), to: Timestamp::default() })
        };
        let before_name = match (days, last == today) {
            (1, true) => "yesterday".to_owned(),
            (1, false) => "the day before".to_owned(),
            (days, _) => format!("{days} days before"),
        };
        Self {
            period: period(first, last),
            before: period(first_before, last_before),
            is_open: last == today,
            first,
            last,
            before_name,
            name,
        }
    }

    /// How many days it has.
    pub(super) fn days(&self) -> i64 {
        i64::from((self.last - self.first).get_days()) + 1
    }

    /// `27 October to 23 November 2026`.
    pub(super) fn range(&self) -> String {
        day_range(self.first, self.last)
    }

    /// Adds this period to a link; the default period is left out.
    pub(super) fn on(&self, link: &Link) -> Link {
        let link = link.with("period", "").with("from", "").with("to", "");
        match self.name {
            Name::Days28 => link,
            Name::Own => {
                link.with("from", self.first.to_string()).with("to", self.last.to_string())
            }
            Name::Today | Name::Days7 | Name::Months12 => {
                let word = NAMES.iter().find(|(name, ..)| *name == self.name);
                link.with("period", word.map_or("", |(_, word, _)| word))
            }
        }
    }

    /// The menu that changes the period of a page.
    pub(super) fn menu(&self, here: &Link) -> PeriodMenu {
        let bare = here.with("period", "").with("from", "").with("to", "").with("after", "");
        let choices = NAMES.iter().map(|(name, word, label)| {
            let word = if *name == Name::Days28 { "" } else { *word };
            Choice::new(&bare.with("period", word), *label, *name == self.name)
        });
        let named = NAMES.iter().find(|(name, ..)| *name == self.name);
        PeriodMenu {
            label: named.map_or("Custom dates".to_owned(), |(_, _, label)| (*label).to_owned()),
            choices: choices.collect(),
            action: bare.path(),
            hidden: bare.pairs_without(&[]),
            from: self.first.to_string(),
            to: self.last.to_string(),
        }
    }
}

/// The menu that changes the period of a page.
#[derive(Template)]
#[template(path = "parts/period.html")]
pub(super) struct PeriodMenu {
    pub(super) label: String,
    pub(super) choices: Vec<Choice>,
    pub(super) action: String,
    pub(super) hidden: Vec<(&'static str, String)>,
    pub(super) from: String,
    pub(super) to: String,
}

impl HtmlSafe for PeriodMenu {}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_461_200); // 2026-11-23T19:13:20Z

    fn read(period: &str, from: &str, to: &str) -> Span {
        let mut asked = Asked::of(&format!("period={period}&from={from}&to={to}"));
        Span::read(&mut asked, &Times::of("America/New_York"), NOW)
    }

    #[test]
    fn whatever_stands_in_the_query_there_is_a_period() {
        let today = date(2026, 11, 23);
        let rows = [
            ("", "", "", date(2026, 10, 27), today),
            ("28d", "", "", date(2026, 10, 27), today),
            ("today", "", "", today, today),
            ("7d", "", "", date(2026, 11, 17), today),
            ("12m", "", "", date(2025, 12, 1), today),
            ("rubbish", "x", "y", date(2026, 10, 27), today),
            ("7d", "2026-11-01", "2026-11-05", date(2026, 11, 1), date(2026, 11, 5)),
            ("", "2026-11-05", "2026-11-01", date(2026, 11, 1), date(2026, 11, 5)),
            ("", "2026-11-20", "2030-01-01", date(2026, 11, 20), today),
            ("", "2030-01-01", "2030-01-02", today, today),
        ];
        for (period, from, to, first, last) in rows {
            let span = read(period, from, to);
            assert_eq!((span.first, span.last), (first, last), "{period} {from} {to}");
            assert!(span.period.from < span.period.to && span.before.to == span.period.from);
        }
        assert_eq!(read("", "0001-01-01", "2026-11-23").days(), MAX_DAYS);
        assert_eq!(read("today", "", "").before_name, "yesterday");
    }

    #[test]
    fn links_carry_the_period() {
        let link = Link::to("/leaks".to_owned());
        assert_eq!(read("", "", "").on(&link).to_string(), "/leaks");
        assert_eq!(read("7d", "", "").on(&link).to_string(), "/leaks?period=7d");
        let own = read("", "2026-11-01", "2026-11-05").on(&link).to_string();
        assert_eq!(own, "/leaks?from=2026-11-01&to=2026-11-05");
    }
}
