//! The overview page: health, revenue, sources and leaks. Takes a period, a currency and the selected card and tabs;
//! returns a page whose lists add up to its cards. Every number links to its rows.

mod cards;
mod health;
mod lists;
mod series;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::period::{PeriodMenu, PeriodQuery, Span};
use super::rows::{ConversionItem, conversion_item};
use super::views::numbers::{counted, in_order, money, totals};
use super::views::{Choice, Link, entered};
use super::{page, setup};
use crate::error::AppError;
use crate::money::Currency;
use crate::report::{self, Comparison, ConversionFilter, ConversionRow, Overview};
use crate::state::AppState;

/// Number of conversions shown at the end of the page.
const LATEST: i64 = 6;

#[derive(Deserialize)]
pub(super) struct OverviewQuery {
    currency: Option<String>,
    chart: Option<String>,
    from_by: Option<String>,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    frame: Frame,
    /// `27 October to 23 November 2026, New York time`.
    subtitle: String,
    period: PeriodMenu,
    currencies: Option<CurrencyMenu>,
    health: Vec<health::Sign>,
    lost: Option<Lost>,
    cards: Vec<cards::Card>,
    chart: Option<series::Drawing>,
    came: lists::Ranked,
    leaks: lists::Leaking,
    landed: lists::Ranked,
    used: lists::Ranked,
    latest: Vec<ConversionItem>,
    /// `All 363 conversions`.
    all: String,
    all_href: String,
    leaks_href: String,
    /// Set until the first visit or payment is recorded.
    empty: Option<setup::Progress>,
}

/// If there are several currencies, lists and chart show one of them.
struct CurrencyMenu {
    label: String,
    choices: Vec<Choice>,
}

/// The notice about sales on pages where the tag didn't run.
struct Lost {
    money: String,
    payments: String,
    href: String,
}

/// `GET /`.
pub(super) async fn show_overview(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(period): Query<PeriodQuery>,
    Query(query): Query<OverviewQuery>,
) -> Result<Response, AppError> {
    let span = Span::read(&period, &viewer.times, viewer.now);
    let frame = viewer.frame(&state, Tab::Overview).await?;
    let (store, scope) = (&state.store, viewer.scope());
    let now = report::overview(store, &scope, span.period).await?;
    let compared = span.compared(report::began_at(store, &scope).await?);
    let before = match compared {
        Some(before) => Some(report::overview(store, &scope, before).await?),
        None => None,
    };
    let currency = chosen(query.currency.as_deref(), &now, viewer.site.currency);
    let here = here(&viewer, &span, &query, currency);
    let filter = ConversionFilter {
        site_id: Some(scope.site_id.clone()),
        livemode: Some(scope.livemode),
        only_paid: true,
        ..ConversionFilter::default()
    };
    let latest = report::conversions(store, &filter, None, LATEST).await?;
    let comparisons = report::comparisons(store).await?;
    let snapshot = state.settings.current();
    let of_site = |found: &Comparison| {
        let source = snapshot.source(&found.source_id)?;
        let is_here = source.site_id == scope.site_id && state.api_key_of(source).is_some();
        is_here.then(|| (source.key.clone(), found.clone()))
    };
    let comparisons: Vec<_> = comparisons.iter().filter_map(of_site).collect();
    let metric = cards::Metric::read(query.chart.as_deref());
    let leaks_href = span.on(&viewer.link("/leaks")).to_string();
    let page = OverviewPage {
        subtitle: format!("{}, {}", span.range(), viewer.times.named()),
        period: span.menu(&here),
        currencies: currency_menu(&here, &now, currency),
        health: health::signs(&viewer, &frame.health, &comparisons),
        lost: lost(&now, currency, &leaks_href),
        cards: cards::cards(&viewer, &here, &span, &now, before.as_ref(), currency, metric),
        chart: series::draw(&state, &viewer, &span, metric, currency).await?,
        came: lists::came(&state, &viewer, &span, &here, query.from_by.as_deref(), currency)
            .await?,
        leaks: lists::leaking(&state, &viewer, &span, &now, currency).await?,
        landed: lists::landed(&state, &viewer, &span, currency).await?,
        used: lists::used(&state, &viewer, &span, currency).await?,
        latest: latest.rows.iter().map(|row| latest_item(&viewer, row)).collect(),
        all: format!("All {}", counted(now.conversions, "conversion", "conversions")),
        all_href: span.on(&viewer.link("/conversions")).to_string(),
        leaks_href,
        empty: setup::progress_if_new(&state, &viewer, &frame.health).await?,
        frame,
    };
    page::show(&page)
}

/// The requested currency if valid, else the site's own if it has revenue, else one that has.
fn chosen(asked: Option<&str>, now: &Overview, own: Currency) -> Currency {
    let earning = in_order(&now.net, own);
    let first = earning.first().map_or(own, |sum| sum.currency);
    asked.and_then(Currency::parse).unwrap_or(first)
}

fn here(viewer: &Viewer, span: &Span, query: &OverviewQuery, currency: Currency) -> Link {
    let kept = |text: &Option<String>| entered(text.as_deref()).unwrap_or_default();
    let link = span.on(&viewer.link("/"));
    let link = link.with("chart", kept(&query.chart)).with("from_by", kept(&query.from_by));
    let asked = query.currency.as_ref().map(|_| currency.code().to_owned());
    link.with("currency", asked.unwrap_or_default())
}

fn currency_menu(here: &Link, now: &Overview, currency: Currency) -> Option<CurrencyMenu> {
    let sums = in_order(&now.net, currency);
    if sums.len() < 2 && sums.iter().all(|sum| sum.currency == currency) {
        return None;
    }
    let choice = |sum: &crate::money::Money| {
        let code = sum.currency.code();
        let amount = money(*sum);
        let label = if amount.contains(code) { amount } else { format!("{code} {amount}") };
        Choice::new(&here.with("currency", code), label, sum.currency == currency)
    };
    let choices = sums.iter().map(choice).collect();
    Some(CurrencyMenu { label: currency.code().to_owned(), choices })
}

/// These rows have no day headings, so their times include the day.
fn latest_item(viewer: &Viewer, row: &ConversionRow) -> ConversionItem {
    let at = viewer.times.short(row.occurred_at, viewer.now);
    ConversionItem { at, ..conversion_item(viewer, row) }
}

fn lost(now: &Overview, currency: Currency, leaks_href: &str) -> Option<Lost> {
    (now.lost_to_missing_tag > 0).then(|| Lost {
        money: totals(&now.lost_to_missing_tag_money, currency),
        payments: counted(now.lost_to_missing_tag, "sale", "sales"),
        href: format!("{leaks_href}#placeholder_not_replaced"),
    })
}
