//! The list of conversions. Takes a period, a tab, a search and a cursor; returns a page of rows grouped by day.
//! Test payments are listed only in test mode, and every row links to its customer journey.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::period::{PeriodMenu, PeriodQuery, Span};
use super::rows::{ConversionItem, conversion_item};
use super::views::numbers::{counted, totals};
use super::views::times::long_day;
use super::views::{Choice, Link, Pager, entered, words};
use crate::domain::{ConversionStatus, DeliveryState, MatchState, UnmatchedReason, Word as _};
use crate::error::AppError;
use crate::money::{Money, Totals};
use crate::report::{self, ConversionFilter, ConversionRow, Cursor, Overview};
use crate::state::AppState;

/// Rows per page.
const ROWS: i64 = 50;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    tab: Option<String>,
    q: Option<String>,
    reason: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "conversions.html")]
struct ConversionsPage {
    frame: Frame,
    subtitle: String,
    period: PeriodMenu,
    tabs: Vec<Choice>,
    search: Search,
    /// The active filter, with a link that removes it.
    filter: Option<Choice>,
    heading: String,
    days: Vec<DayGroup>,
    pager: Pager,
}

/// The search field.
struct Search {
    action: String,
    hidden: Vec<(&'static str, String)>,
    value: String,
}

/// Rows of one day, with their total.
struct DayGroup {
    name: String,
    sum: String,
    items: Vec<ConversionItem>,
}

/// A tab: its word in the query, its label.
const TABS: [(&str, &str); 7] = [
    ("", "All"),
    ("matched", "Matched"),
    ("unmatched", "Not matched"),
    ("pending", "Delivery pending"),
    ("given_up", "Delivery failed"),
    ("refunded", "Refunded"),
    ("authorized", "Not captured yet"),
];

/// `GET /conversions`.
pub(super) async fn list_conversions(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(period): Query<PeriodQuery>,
    Query(query): Query<ListQuery>,
) -> Result<Response, AppError> {
    let span = Span::read(&period, &viewer.times, viewer.now);
    let frame = viewer.frame(&state, Tab::Conversions).await?;
    let tab = TABS.iter().map(|(word, _)| *word).find(|word| query.tab.as_deref() == Some(word));
    let (tab, search) = (tab.unwrap_or_default(), entered(query.q.as_deref()));
    let reason = query.reason.as_deref().and_then(UnmatchedReason::parse);
    let here = span
        .on(&viewer.link("/conversions"))
        .with("tab", tab)
        .with("q", search.clone().unwrap_or_default())
        .with("reason", reason.map_or("", UnmatchedReason::as_str));
    let filter = filter(&viewer, &span, tab, search.clone(), reason);
    let after = query.after.as_deref().and_then(Cursor::parse);
    let found = report::conversions(&state.store, &filter, after.as_ref(), ROWS).await?;
    let numbers = report::overview(&state.store, &viewer.scope(), span.period).await?;
    let page = ConversionsPage {
        frame,
        subtitle: format!("{}, {}", span.range(), viewer.times.named()),
        period: span.menu(&here),
        tabs: tabs(&here, tab, &numbers),
        search: Search {
            action: here.path(),
            hidden: here.pairs_without(&["q", "after"]),
            value: search.clone().unwrap_or_default(),
        },
        filter: reason.map(|reason| {
            Choice::new(&here.with("reason", ""), words::reason_heading(reason), true)
        }),
        heading: heading(&viewer, &numbers, tab, search.as_deref()),
        days: days(&viewer, &found.rows),
        pager: Pager::new(&here, found.rows.len(), after.is_none(), found.next.as_ref()),
    };
    page::show(&page)
}

fn filter(
    viewer: &Viewer,
    span: &Span,
    tab: &str,
    search: Option<String>,
    reason: Option<UnmatchedReason>,
) -> ConversionFilter {
    ConversionFilter {
        site_id: Some(viewer.site.id.clone()),
        livemode: Some(!viewer.is_test),
        match_state: MatchState::parse(tab),
        reason,
        delivery_state: match tab {
            "pending" => Some(DeliveryState::Pending),
            "given_up" => Some(DeliveryState::GivenUp),
            _ => None,
        },
        status: match tab {
            "refunded" => Some(ConversionStatus::Refunded),
            "authorized" => Some(ConversionStatus::Authorized),
            _ => None,
        },
        only_paid: matches!(tab, "matched" | "unmatched"),
        search,
        from: Some(span.period.from),
        kind: None,
        destination_id: None,
        to: Some(span.period.to),
    }
}

fn tabs(here: &Link, current: &str, numbers: &Overview) -> Vec<Choice> {
    let tab = |(word, label): &(&'static str, &'static str)| {
        let choice = Choice::new(&here.with("tab", *word), *label, *word == current);
        match *word {
            "matched" => choice.counting(numbers.matched),
            "unmatched" => choice.counting(numbers.unmatched),
            _ => choice,
        }
    };
    TABS.iter().map(tab).collect()
}

fn heading(viewer: &Viewer, numbers: &Overview, tab: &str, search: Option<&str>) -> String {
    match (search, tab) {
        (Some(search), _) => format!("Results for “{search}”"),
        (None, "") => format!(
            "{} paid, {} net",
            counted(numbers.conversions, "conversion", "conversions"),
            totals(&numbers.net, viewer.site.currency)
        ),
        (None, "unmatched") => format!(
            "{} not matched, {} net",
            counted(numbers.unmatched, "conversion", "conversions"),
            totals(&numbers.unmatched_money, viewer.site.currency)
        ),
        (None, tab) => {
            TABS.iter().find(|(word, _)| *word == tab).map_or("", |(_, label)| label).to_owned()
        }
    }
}

/// Groups rows, newest first, by day in the site's time zone.
fn days(viewer: &Viewer, rows: &[ConversionRow]) -> Vec<DayGroup> {
    let day = |row: &ConversionRow| viewer.times.date(row.occurred_at);
    rows.chunk_by(|a, b| day(a) == day(b))
        .filter_map(|group| {
            let date = day(group.first()?);
            Some(DayGroup {
                name: long_day(date),
                sum: sum(viewer, group),
                items: group.iter().map(|row| conversion_item(viewer, row)).collect(),
            })
        })
        .collect()
}

/// Number and net revenue of a day's paid rows on this page.
fn sum(viewer: &Viewer, group: &[ConversionRow]) -> String {
    let paid: Vec<_> = group.iter().filter(|row| row.paid_at.is_some()).collect();
    let mut net = Totals::default();
    for row in &paid {
        if let Some(amount) = row.amount {
            let gone = [row.refunded, row.lost].into_iter().flatten().map(|sum| sum.minor);
            net.add(Money { minor: amount.minor - gone.sum::<i64>(), ..amount });
        }
    }
    let count = i64::try_from(paid.len()).unwrap_or(i64::MAX);
    format!("{count} on this page, {} net", totals(&net, viewer.site.currency))
}
