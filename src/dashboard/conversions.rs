//! The list of conversions. Takes a period, filters and a cursor; returns a page of rows grouped by day. Test payments are
//! listed only in test mode, and every row links to its customer journey.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Tab, Viewer};
use super::list::{List, Listing, ROWS, chip_label};
use super::period::Span;
use super::views::numbers::{counted, totals};
use super::views::times::long_day;
use super::views::{Choice, Link, numbers, words};
use super::{page, rows};
use crate::domain::{UnmatchedReason, Word as _};
use crate::error::AppError;
use crate::money::{Money, Totals};
use crate::report::{self, ConversionFilter, ConversionRow, Filter, Overview};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "conversions.html")]
struct ConversionsPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    list: List<ConversionRow>,
    here: Link,
    search: String,
}

/// Rows of one day, with their total.
struct DayGroup<'a> {
    name: String,
    sum: String,
    rows: &'a [ConversionRow],
}

/// A view of the list: its label, and the filters that it consists of.
type View = (&'static str, &'static [(&'static str, &'static str)]);

const UNMATCHED: View = ("Not matched", &[("match", "unmatched"), ("paid", "true")]);

const VIEWS: [View; 7] = [
    ("All", &[]),
    ("Matched", &[("match", "matched"), ("paid", "true")]),
    UNMATCHED,
    ("Delivery pending", &[("delivery", "pending")]),
    ("Delivery failed", &[("delivery", "given_up")]),
    ("Refunded", &[("status", "refunded")]),
    ("Not captured yet", &[("status", "authorized")]),
];

/// The filters of which views consist.
const OF_VIEWS: [&str; 4] = ["match", "paid", "delivery", "status"];

/// The paid conversions of a period that are not matched.
pub(super) fn unmatched(viewer: &Viewer, span: &Span) -> Link {
    with_view(&span.on(&viewer.link("/conversions")), &UNMATCHED)
}

fn with_view(here: &Link, (_, filters): &View) -> Link {
    let bare = OF_VIEWS.iter().fold(here.clone(), |link, name| link.with(name, ""));
    filters.iter().fold(bare, |link, (name, value)| link.with(name, *value))
}

/// The view that a filter is, whatever its other fields.
fn view_of(filter: &ConversionFilter) -> Option<&'static View> {
    let value = |name: &str| {
        let field = ConversionFilter::FIELDS.iter().find(|field| field.name == name)?;
        (field.write)(filter)
    };
    let of = |view: &View, name: &str| {
        view.1.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    VIEWS.iter().find(|view| OF_VIEWS.iter().all(|name| of(view, name) == value(name)))
}

/// `GET /conversions`.
pub(super) async fn list_conversions(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let span = Span::read(&mut viewer.asked, &viewer.times, viewer.now);
    let here = span.on(&viewer.link("/conversions"));
    let listing = Listing::<ConversionFilter>::read(&mut viewer, &state.settings.current(), &here);
    let filter = ConversionFilter {
        site_id: Some(viewer.site.id.clone()),
        livemode: Some(!viewer.is_test),
        from: Some(span.period.from),
        to: Some(span.period.to),
        ..listing.filter.clone()
    };
    let found = report::conversions(&state.store, &filter, listing.after.as_ref(), ROWS).await?;
    let numbers = report::overview(&state.store, &viewer.scope(), span.period).await?;
    let view = view_of(&filter);
    let page = ConversionsPage {
        frame: viewer.frame(&state, Tab::Conversions).await?,
        list: List {
            name: "Conversions",
            subtitle: format!("{}, {}", span.range(), viewer.times.named()),
            period: Some(span.menu(&listing.here)),
            heading: heading(&viewer, &numbers, view, filter.search.as_deref()),
            tabs: tabs(&listing.here, view, &numbers),
            chips: chips(&listing, view),
            pager: listing.pager(&found),
            rows: found.rows,
        },
        here: listing.here,
        search: filter.search.unwrap_or_default(),
        viewer: &viewer,
    };
    page::show(&page)
}

fn tabs(here: &Link, current: Option<&View>, numbers: &Overview) -> Vec<Choice> {
    let tab = |view: &View| {
        let is_current = current.is_some_and(|current| current.0 == view.0);
        let choice = Choice::new(&with_view(here, view), view.0, is_current);
        match view.0 {
            "Matched" => choice.counting(numbers.matched),
            "Not matched" => choice.counting(numbers.unmatched),
            _ => choice,
        }
    };
    VIEWS.iter().map(tab).collect()
}

/// The filters that neither the search field nor the current tab shows.
fn chips(listing: &Listing<ConversionFilter>, view: Option<&View>) -> Vec<Choice> {
    let of_view = if view.is_some() { &OF_VIEWS[..] } else { &[] };
    let shown: Vec<&str> = of_view.iter().copied().chain(["search"]).collect();
    listing.chips(&shown, |name, value| match UnmatchedReason::parse(value) {
        Some(reason) if name == "reason" => words::reason_heading(reason).to_owned(),
        _ => chip_label(name, value),
    })
}

fn heading(
    viewer: &Viewer,
    numbers: &Overview,
    view: Option<&View>,
    search: Option<&str>,
) -> String {
    let sums = |number: i64, what: &str, net: &Totals| {
        let conversions = counted(number, "conversion", "conversions");
        format!("{conversions} {what}, {} net", totals(net, viewer.site.currency))
    };
    match (search, view) {
        (Some(search), _) => format!("Results for “{search}”"),
        (None, Some(("All", _))) => sums(numbers.conversions, "paid", &numbers.net),
        (None, Some(("Not matched", _))) => {
            sums(numbers.unmatched, "not matched", &numbers.unmatched_money)
        }
        (None, Some((label, _))) => (*label).to_owned(),
        (None, None) => "Filtered conversions".to_owned(),
    }
}

impl ConversionsPage<'_> {
    /// The rows by day in the site's time zone, newest first.
    fn days(&self) -> Vec<DayGroup<'_>> {
        let day = |row: &ConversionRow| self.viewer.times.date(row.occurred_at);
        let groups = self.list.rows.chunk_by(|a, b| day(a) == day(b));
        groups
            .map(|rows| DayGroup { name: long_day(day(&rows[0])), sum: self.sum(rows), rows })
            .collect()
    }

    /// Number and net revenue of a day's paid rows on this page.
    fn sum(&self, rows: &[ConversionRow]) -> String {
        let mut net = Totals::default();
        let paid = rows.iter().filter(|row| row.paid_at.is_some());
        for (row, amount) in paid.clone().filter_map(|row| Some((row, row.amount?))) {
            let gone = [row.refunded, row.lost].into_iter().flatten().map(|sum| sum.minor);
            net.add(Money { minor: amount.minor - gone.sum::<i64>(), ..amount });
        }
        let net = totals(&net, self.viewer.site.currency);
        format!("{} on this page, {net} net", paid.count())
    }
}
