//! The ranked lists of the overview. Takes rankings and leaks of the period; returns panels. The rows of each panel
//! add up to the cards, and unmatched revenue is the last row, with a link to the leaks.

use anyhow::Result;
use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::frame::Viewer;
use crate::dashboard::period::Span;
use crate::dashboard::views::numbers::{NONE, count, counted, in_order, money, rate, width};
use crate::dashboard::views::{Choice, Link, words};
use crate::domain::DeliveryState;
use crate::money::{Currency, Money, Totals};
use crate::report::{self, Dimension, Overview, Ranking, RankingRow};
use crate::state::AppState;

/// A panel with a ranked list.
#[derive(Template)]
#[template(path = "parts/ranked.html")]
pub(super) struct Ranked {
    pub(super) title: &'static str,
    pub(super) id: &'static str,
    pub(super) tabs: Vec<Choice>,
    /// Heading of the column of names.
    pub(super) column: &'static str,
    pub(super) caption: String,
    pub(super) rows: Vec<RankedRow>,
}

impl HtmlSafe for Ranked {}

/// One row of a ranked list.
pub(super) struct RankedRow {
    pub(super) name: String,
    /// Link to its rows; `None` if no page lists them.
    pub(super) href: Option<String>,
    /// Width of the bar behind the name: `66.3%`.
    pub(super) width: String,
    pub(super) visits: String,
    pub(super) conversions: String,
    /// `5 renewals`; empty if there are none.
    pub(super) renewals: String,
    pub(super) rate: String,
    pub(super) money: String,
    /// Further currencies.
    pub(super) also: Vec<String>,
    /// Whether the row is highlighted: revenue without a source.
    pub(super) is_open: bool,
}

/// The panel that summarizes the leaks.
pub(super) struct Leaking {
    pub(super) rows: Vec<RankedRow>,
}

pub(super) const CAME: [(Dimension, &str, &str); 3] = [
    (Dimension::Campaign, "", "Campaign"),
    (Dimension::Source, "source", "Source"),
    (Dimension::Channel, "channel", "Channel"),
];

/// Campaigns, sources or channels.
pub(super) async fn came(
    state: &AppState,
    viewer: &Viewer,
    span: &Span,
    here: &Link,
    by: Option<&str>,
    currency: Currency,
) -> Result<Ranked> {
    let by = by.unwrap_or_default();
    let (dimension, _, column) =
        CAME.into_iter().find(|(_, word, _)| *word == by).unwrap_or(CAME[0]);
    let tabs = CAME.iter().rev().map(|(of, word, label)| {
        Choice::new(&here.with("from_by", *word), *label, *of == dimension)
    });
    let tabs = tabs.collect();
    panel(state, viewer, span, dimension, currency, ("Sources", "came", column), tabs).await
}

/// Landing pages.
pub(super) async fn landed(
    state: &AppState,
    viewer: &Viewer,
    span: &Span,
    currency: Currency,
) -> Result<Ranked> {
    let words = ("Landing pages", "landed", "Landing page");
    panel(state, viewer, span, Dimension::LandingPage, currency, words, Vec::new()).await
}

/// Devices.
pub(super) async fn used(
    state: &AppState,
    viewer: &Viewer,
    span: &Span,
    currency: Currency,
) -> Result<Ranked> {
    let words = ("Devices", "used", "Device");
    panel(state, viewer, span, Dimension::Device, currency, words, Vec::new()).await
}

async fn panel(
    state: &AppState,
    viewer: &Viewer,
    span: &Span,
    dimension: Dimension,
    currency: Currency,
    (title, id, column): (&'static str, &'static str, &'static str),
    tabs: Vec<Choice>,
) -> Result<Ranked> {
    let scope = viewer.scope();
    let found = report::ranking(&state.store, &scope, span.period, dimension, currency).await?;
    let rows = rows(viewer, span, dimension, &found, currency);
    let caption = format!("{title}, by net revenue in {currency}");
    Ok(Ranked { title, id, tabs, column, caption, rows })
}

fn rows(
    viewer: &Viewer,
    span: &Span,
    dimension: Dimension,
    ranking: &Ranking,
    currency: Currency,
) -> Vec<RankedRow> {
    let largest = ranking.rows.first().map_or(0, |row| row.net.of(currency).minor);
    let mut rows: Vec<RankedRow> = ranking
        .rows
        .iter()
        .map(|row| RankedRow {
            name: name(dimension, &row.name),
            href: href(viewer, span, dimension, &row.name),
            ..ranked(row, largest, currency)
        })
        .collect();
    if ranking.rest_rows > 0 {
        let name = format!("{} others", ranking.rest_rows);
        rows.push(RankedRow {
            name,
            width: "0%".to_owned(),
            ..ranked(&ranking.rest, largest, currency)
        });
    }
    if ranking.unmatched.conversions > 0 {
        rows.push(RankedRow {
            name: "Not matched: see why".to_owned(),
            href: Some(span.on(&viewer.link("/leaks")).to_string()),
            visits: NONE.to_owned(),
            rate: NONE.to_owned(),
            is_open: true,
            ..ranked(&ranking.unmatched, largest, currency)
        });
    }
    rows
}

fn ranked(row: &RankingRow, largest: i64, currency: Currency) -> RankedRow {
    let (money, also) = amounts(&row.net, currency);
    RankedRow {
        name: String::new(),
        href: None,
        width: width(row.net.of(currency).minor, largest),
        visits: count(row.visits),
        conversions: count(row.conversions - row.renewals),
        renewals: match row.renewals {
            0 => String::new(),
            renewals => counted(renewals, "renewal", "renewals"),
        },
        rate: rate(report::conversion_rate(row.firsts, row.visits)),
        money,
        also,
        is_open: false,
    }
}

/// The selected currency first; a row without it shows the currencies it has.
fn amounts(sums: &Totals, currency: Currency) -> (String, Vec<String>) {
    let mut sums = in_order(sums, currency).into_iter().map(money);
    match sums.next() {
        Some(first) => (first, sums.collect()),
        None => (money(Money { minor: 0, currency }), Vec::new()),
    }
}

fn name(dimension: Dimension, name: &str) -> String {
    match (dimension, name) {
        (Dimension::Campaign, "") => "No campaign".to_owned(),
        (Dimension::Source, "") => "No source".to_owned(),
        (Dimension::LandingPage, "") => "Unknown page".to_owned(),
        (Dimension::Channel | Dimension::Device, name) => words::channel(name),
        (_, name) => name.to_owned(),
    }
}

fn href(viewer: &Viewer, span: &Span, dimension: Dimension, name: &str) -> Option<String> {
    let parameter = match dimension {
        Dimension::Channel => "channel",
        Dimension::Campaign => "campaign",
        Dimension::Source | Dimension::LandingPage | Dimension::Device => return None,
    };
    let link = span.on(&viewer.link("/visits")).with(parameter, name);
    (!name.is_empty()).then(|| link.to_string())
}

/// The leaks, largest amount in the selected currency first.
pub(super) async fn leaking(
    state: &AppState,
    viewer: &Viewer,
    span: &Span,
    now: &Overview,
    currency: Currency,
) -> Result<Leaking> {
    let undelivered = report::undelivered(&state.store, &viewer.scope(), span.period).await?;
    let link = span.on(&viewer.link("/leaks")).to_string();
    let unmatched = now.unmatched_by.iter().map(|(reason, (conversions, money))| {
        (words::reason_heading(*reason).to_owned(), format!("#{reason}"), *conversions, money)
    });
    let undelivered = undelivered.iter().map(|line| {
        let heading = match line.state {
            DeliveryState::GivenUp => "Delivery failed",
            DeliveryState::Held => "Delivery paused",
            DeliveryState::Pending | DeliveryState::Delivered | DeliveryState::Skipped => {
                "Delivery pending"
            }
        };
        (heading.to_owned(), "#undelivered".to_owned(), line.deliveries, &line.money)
    });
    let mut lines: Vec<_> = unmatched.chain(undelivered).collect();
    lines.sort_by_key(|(_, _, number, sums)| std::cmp::Reverse((sums.of(currency).minor, *number)));
    let largest = lines.first().map_or(0, |(_, _, _, sums)| sums.of(currency).minor);
    let rows = lines.into_iter().map(|(name, anchor, number, sums)| {
        let (money, also) = amounts(sums, currency);
        RankedRow {
            name,
            href: Some(format!("{link}{anchor}")),
            width: width(sums.of(currency).minor, largest),
            visits: String::new(),
            conversions: count(number),
            renewals: String::new(),
            rate: String::new(),
            money,
            also,
            is_open: true,
        }
    });
    Ok(Leaking { rows: rows.collect() })
}
