//! The data of the overview's chart. Takes the days of the period and of the one before; returns the drawing and the
//! same numbers as a table. Buckets are days, or months if there are too many days to show.

use anyhow::Result;
use jiff::civil::Date;

use super::cards::Metric;
use crate::dashboard::chart::{Chart, Point};
use crate::dashboard::frame::Viewer;
use crate::dashboard::period::Span;
use crate::dashboard::views::numbers::{self, axis_money, count, counted, money, per_visit};
use crate::dashboard::views::times::{long_day, short_day};
use crate::money::{Currency, Money};
use crate::report::{self, Day, Share};
use crate::state::AppState;

/// A longer period is shown by month.
const MAX_DAYS: i64 = 93;

/// The chart as the page shows it.
pub(super) struct Drawing {
    pub(super) svg: String,
    /// `net revenue per day`.
    pub(super) bars: String,
    /// `28 days before`; `None` if the records do not go back that far.
    pub(super) before: Option<String>,
    /// `today, until 14:32`; empty if the period has ended.
    pub(super) open: String,
    /// `Day` or `Month`.
    pub(super) unit: &'static str,
    pub(super) caption: String,
    /// Heading of the column of values.
    pub(super) value: &'static str,
    /// Name, visits and value; then visits and value of the period before.
    pub(super) rows: Vec<[String; 5]>,
}

#[derive(Default)]
struct Bucket {
    first: Option<Date>,
    now: Sums,
    before: Sums,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    visits: i64,
    /// Without renewals.
    conversions: i64,
    firsts: i64,
    net: i64,
}

impl Sums {
    fn take(&mut self, day: &Day, currency: Currency) {
        self.visits += day.visits;
        self.conversions += day.conversions - day.renewals;
        self.firsts += day.firsts;
        self.net = self.net.saturating_add(day.net.of(currency).minor);
    }

    fn value(self, metric: Metric, currency: Currency) -> i64 {
        match metric {
            Metric::Net => self.net,
            Metric::Conversions => self.conversions,
            Metric::Rate => {
                let share = report::conversion_rate(self.firsts, self.visits);
                share.per_ten_thousand().unwrap_or(0)
            }
            Metric::PerVisit => {
                per_visit(Money { minor: self.net, currency }, self.visits).map_or(0, |m| m.minor)
            }
        }
    }

    fn text(self, metric: Metric, currency: Currency) -> String {
        match metric {
            Metric::Net => money(Money { minor: self.net, currency }),
            Metric::Conversions => count(self.conversions),
            Metric::Rate => numbers::rate(report::conversion_rate(self.firsts, self.visits)),
            Metric::PerVisit => per_visit(Money { minor: self.net, currency }, self.visits)
                .map_or_else(|| numbers::NONE.to_owned(), money),
        }
    }
}

/// Draws a period. Returns `None` for a single day and for a period without data.
pub(super) async fn draw(
    state: &AppState,
    viewer: &Viewer,
    span: &Span,
    metric: Metric,
    currency: Currency,
) -> Result<Option<Drawing>> {
    if span.days() < 2 {
        return Ok(None);
    }
    let (store, scope, zone) = (&state.store, viewer.scope(), &viewer.times.zone);
    let now = report::days(store, &scope, span.period, zone).await?;
    let compared = span.compared(report::began_at(store, &scope).await?);
    let before = match compared {
        Some(before) => report::days(store, &scope, before, zone).await?,
        None => Vec::new(),
    };
    if now.iter().chain(&before).all(|day| day.visits == 0 && day.conversions == 0) {
        return Ok(None);
    }
    let until = viewer.times.minute(viewer.now).text;
    let buckets = buckets(span, &now, &before, currency);
    Ok(Some(drawing(span, &buckets, compared.is_some(), metric, currency, &until)))
}

fn is_by_month(span: &Span) -> bool {
    span.days() > MAX_DAYS
}

fn buckets(span: &Span, now: &[Day], before: &[Day], currency: Currency) -> Vec<Bucket> {
    let mut buckets = Vec::<Bucket>::new();
    for (at, day) in now.iter().enumerate() {
        let starts = !is_by_month(span) || at == 0 || day.date.day() == 1;
        if starts {
            buckets.push(Bucket { first: Some(day.date), ..Bucket::default() });
        }
        let Some(bucket) = buckets.last_mut() else { continue };
        bucket.now.take(day, currency);
        if let Some(earlier) = before.get(at) {
            bucket.before.take(earlier, currency);
        }
    }
    buckets
}

fn drawing(
    span: &Span,
    buckets: &[Bucket],
    compares: bool,
    metric: Metric,
    currency: Currency,
    until: &str,
) -> Drawing {
    let (unit, per) = if is_by_month(span) { ("Month", "month") } else { ("Day", "day") };
    let (value, bars) = match metric {
        Metric::Net => ("Net revenue", format!("Net revenue, {currency}")),
        Metric::Conversions => ("Conversions", "Conversions".to_owned()),
        Metric::Rate => ("Conversion rate", "Conversion rate".to_owned()),
        Metric::PerVisit => ("Revenue per visit", format!("Revenue per visit, {currency}")),
    };
    let name = |bucket: &Bucket| bucket_name(span, bucket);
    let last = buckets.len().saturating_sub(1);
    let point = |(at, bucket): (usize, &Bucket)| {
        let is_open = span.is_open && at == last;
        let open = if is_open { format!(", until {until}") } else { String::new() };
        let whole = if is_open && !is_by_month(span) { ", whole day" } else { "" };
        Point {
            note: format!(
                "{}{open}: {}, {}{}",
                name(bucket),
                bucket.now.text(metric, currency),
                counted(bucket.now.visits, "visit", "visits"),
                if compares {
                    format!(
                        ". {}{whole}: {}, {}",
                        span.before_name,
                        bucket.before.text(metric, currency),
                        counted(bucket.before.visits, "visit", "visits"),
                    )
                } else {
                    String::new()
                },
            ),
            label: axis_label(span, bucket, at, buckets.len()),
            visits: bucket.now.visits,
            visits_before: bucket.before.visits,
            value: bucket.now.value(metric, currency),
            value_before: bucket.before.value(metric, currency),
        }
    };
    let chart = Chart {
        title: format!("Visits and {} per {per}, {}", value.to_lowercase(), span.range()),
        gist: gist(span, buckets, metric, currency),
        bars_name: bars,
        points: buckets.iter().enumerate().map(point).collect(),
        bar_label: match metric {
            Metric::Net | Metric::PerVisit => {
                |minor, chart| axis_money(Money { minor, currency: chart.currency })
            }
            Metric::Conversions => |number, _| count(number),
            Metric::Rate => |part, _| numbers::rate(Share { part, whole: 10_000 }),
        },
        currency,
        is_open: span.is_open,
        compares,
    };
    let row = |(at, bucket): (usize, &Bucket)| {
        let is_open = span.is_open && at == last;
        let until = if is_open { format!(" (until {until})") } else { String::new() };
        let text = |sums: Sums| [count(sums.visits), sums.text(metric, currency)];
        let ([visits, value], [visits_before, value_before]) =
            (text(bucket.now), text(bucket.before));
        [name(bucket) + &until, visits, value, visits_before, value_before]
    };
    Drawing {
        svg: chart.svg(),
        bars: format!("{} per {per}", value.to_lowercase()),
        before: compares.then(|| span.before_name.clone()),
        open: if span.is_open { format!("today, until {until}") } else { String::new() },
        unit,
        caption: format!("Visits and {} per {per}; money in {currency}", value.to_lowercase()),
        value,
        rows: buckets.iter().enumerate().map(row).collect(),
    }
}

fn bucket_name(span: &Span, bucket: &Bucket) -> String {
    let Some(date) = bucket.first else { return String::new() };
    if is_by_month(span) { date.strftime("%B %Y").to_string() } else { short_day(date) }
}

/// Label of a bucket. At most five buckets have one: every quarter of the axis and its end.
fn axis_label(span: &Span, bucket: &Bucket, at: usize, buckets: usize) -> String {
    let Some(date) = bucket.first else { return String::new() };
    let step = buckets.div_ceil(4).max(1);
    let is_last = at + 1 == buckets;
    let is_near_end = buckets - at <= step / 2;
    if is_last && span.is_open && !is_by_month(span) {
        "today".to_owned()
    } else if !is_last && (!at.is_multiple_of(step) || is_near_end) {
        String::new()
    } else if is_by_month(span) {
        date.strftime("%b %Y").to_string()
    } else {
        date.strftime("%-d %b").to_string()
    }
}

/// One sentence that summarizes the chart.
fn gist(span: &Span, buckets: &[Bucket], metric: Metric, currency: Currency) -> String {
    let mut all = Sums::default();
    for bucket in buckets {
        all.visits += bucket.now.visits;
        all.conversions += bucket.now.conversions;
        all.firsts += bucket.now.firsts;
        all.net = all.net.saturating_add(bucket.now.net);
    }
    let best = buckets.iter().max_by_key(|bucket| bucket.now.value(metric, currency));
    let best = best.filter(|bucket| bucket.now.value(metric, currency) > 0);
    let best = best.and_then(|bucket| bucket.first).map_or_else(String::new, |date| {
        let name =
            if is_by_month(span) { date.strftime("%B %Y").to_string() } else { long_day(date) };
        format!(" Best: {name}.")
    });
    let open = if span.is_open { " Today isn’t over yet." } else { "" };
    format!(
        "{} and {}.{best}{open} The table below shows the same numbers.",
        counted(all.visits, "visit", "visits"),
        all.text(metric, currency),
    )
}
