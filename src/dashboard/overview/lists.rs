//! The ranked lists of the overview. Takes rankings and leaks of the period; returns panels. The rows of each panel
//! add up to the cards, and unmatched revenue is the last row, with a link to the leaks.

use anyhow::Result;
use askama::Template;
use askama::filters::HtmlSafe;

use crate::dashboard::frame::Viewer;
use crate::dashboard::period::Span;
use crate::dashboard::views::numbers::{self, width};
use crate::dashboard::views::{Choice, Link, words};
use crate::domain::DeliveryState;
use crate::money::{Currency, Totals};
use crate::report::{self, Dimension, Overview, Ranking, RankingRow, Undelivered};
use crate::state::AppState;

/// A panel with a ranked list.
#[derive(Template)]
#[template(path = "parts/ranked.html")]
pub(super) struct Ranked<'a> {
    viewer: &'a Viewer,
    span: &'a Span,
    currency: Currency,
    dimension: Dimension,
    title: &'static str,
    id: &'static str,
    /// Heading of the column of names.
    column: &'static str,
    tabs: Vec<Choice>,
    found: Ranking,
}

impl HtmlSafe for Ranked<'_> {}

/// One row of a ranked list.
struct Row<'a> {
    name: String,
    /// Link to its rows; `None` if no page lists them.
    href: Option<String>,
    /// Width of the bar behind the name: `66.3%`.
    width: String,
    of: &'a RankingRow,
    /// Whether it is revenue without a source, and so has no visits.
    is_open: bool,
}

pub(super) const CAME: [(Dimension, &str, &str); 3] = [
    (Dimension::Campaign, "", "Campaign"),
    (Dimension::Source, "source", "Source"),
    (Dimension::Channel, "channel", "Channel"),
];

/// Whose lists these are.
pub(super) struct Lists<'a> {
    pub(super) state: &'a AppState,
    pub(super) viewer: &'a Viewer,
    pub(super) span: &'a Span,
    pub(super) currency: Currency,
}

impl<'a> Lists<'a> {
    /// Campaigns, sources or channels.
    pub(super) async fn came(&self, here: &Link, by: Option<&str>) -> Result<Ranked<'a>> {
        let by = by.unwrap_or_default();
        let (dimension, _, column) =
            CAME.into_iter().find(|(_, word, _)| *word == by).unwrap_or(CAME[0]);
        let tabs = CAME.iter().rev().map(|(of, word, label)| {
            Choice::new(&here.with("from_by", *word), *label, *of == dimension)
        });
        let tabs = tabs.collect();
        Ok(Ranked { tabs, ..self.panel(dimension, ("Sources", "came", column)).await? })
    }

    /// Landing pages.
    pub(super) async fn landed(&self) -> Result<Ranked<'a>> {
        self.panel(Dimension::LandingPage, ("Landing pages", "landed", "Landing page")).await
    }

    /// Devices.
    pub(super) async fn used(&self) -> Result<Ranked<'a>> {
        self.panel(Dimension::Device, ("Devices", "used", "Device")).await
    }

    async fn panel(
        &self,
        dimension: Dimension,
        (title, id, column): (&'static str, &'static str, &'static str),
    ) -> Result<Ranked<'a>> {
        let Self { state, viewer, span, currency } = *self;
        let (scope, period) = (viewer.scope(), span.period);
        let found = report::ranking(&state.store, &scope, period, dimension, currency).await?;
        let tabs = Vec::new();
        Ok(Ranked { viewer, span, currency, dimension, title, id, column, tabs, found })
    }
}

impl Ranked<'_> {
    fn rows(&self) -> Vec<Row<'_>> {
        let largest = self.found.rows.first().map_or(0, |row| row.net.of(self.currency).minor);
        let mut rows = Vec::new();
        for of in &self.found.rows {
            let (name, href) = (name(self.dimension, &of.name), self.href(&of.name));
            rows.push(Row { name, href, width: self.bar(of, largest), of, is_open: false });
        }
        if self.found.rest_rows > 0 {
            let (name, of) = (format!("{} others", self.found.rest_rows), &self.found.rest);
            rows.push(Row { name, href: None, width: "0%".to_owned(), of, is_open: false });
        }
        if self.found.unmatched.conversions > 0 {
            let (name, of) = ("Not matched: see why".to_owned(), &self.found.unmatched);
            let href = Some(self.span.on(&self.viewer.link("/leaks")).to_string());
            rows.push(Row { name, href, width: self.bar(of, largest), of, is_open: true });
        }
        rows
    }

    fn bar(&self, of: &RankingRow, largest: i64) -> String {
        width(of.net.of(self.currency).minor, largest)
    }

    /// Link to the visits with a value.
    fn href(&self, name: &str) -> Option<String> {
        let parameter = match self.dimension {
            Dimension::Channel => "channel",
            Dimension::Campaign => "campaign",
            Dimension::Source | Dimension::LandingPage | Dimension::Device => return None,
        };
        let link = self.span.on(&self.viewer.link("/visits")).with(parameter, name);
        (!name.is_empty()).then(|| link.to_string())
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

/// A row of the panel that summarizes the leaks.
pub(super) struct LeakRow<'a> {
    pub(super) name: &'static str,
    /// Its line on the page of leaks.
    pub(super) anchor: String,
    pub(super) number: i64,
    pub(super) money: &'a Totals,
    /// Width of the bar behind the name.
    pub(super) width: String,
}

/// The leaks, largest amount in the selected currency first.
pub(super) fn leaking<'a>(
    now: &'a Overview,
    undelivered: &'a [Undelivered],
    currency: Currency,
) -> Vec<LeakRow<'a>> {
    let unmatched = now.unmatched_by.iter().map(|(reason, (number, money))| LeakRow {
        name: words::reason_heading(*reason),
        anchor: reason.to_string(),
        number: *number,
        money,
        width: String::new(),
    });
    let undelivered = undelivered.iter().map(|line| LeakRow {
        name: match line.state {
            DeliveryState::GivenUp => "Delivery failed",
            DeliveryState::Held => "Delivery paused",
            DeliveryState::Pending | DeliveryState::Delivered | DeliveryState::Skipped => {
                "Delivery pending"
            }
        },
        anchor: "undelivered".to_owned(),
        number: line.deliveries,
        money: &line.money,
        width: String::new(),
    });
    let mut rows: Vec<LeakRow<'_>> = unmatched.chain(undelivered).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((row.money.of(currency).minor, row.number)));
    let largest = rows.first().map_or(0, |row| row.money.of(currency).minor);
    for row in &mut rows {
        row.width = width(row.money.of(currency).minor, largest);
    }
    rows
}
