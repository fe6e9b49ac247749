//! The overview page: health, revenue, sources and leaks. Takes a period, a currency and the selected card and tabs;
//! returns a page whose lists add up to its cards. Every number links to its rows.

mod cards;
mod health;
mod lists;
mod series;

use anyhow::Result;
use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Tab, Viewer};
use super::period::{PeriodMenu, Span};
use super::views::numbers::{in_order, money};
use super::views::{Choice, Link, numbers, words};
use super::{page, rows, setup};
use crate::conversion;
use crate::error::AppError;
use crate::money::Currency;
use crate::report::{
    self, Comparison, ConversionFilter, ConversionRow, Overview, Rule, Scope, Undelivered,
};
use crate::state::AppState;

/// Number of conversions shown at the end of the page.
const LATEST: i64 = 6;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    /// `27 October to 23 November 2026, New York time`.
    subtitle: String,
    period: PeriodMenu,
    currencies: Option<CurrencyMenu>,
    health: Vec<health::Sign>,
    cards: Vec<cards::Card>,
    chart: Option<series::Drawing>,
    came: lists::Ranked<'a>,
    landed: lists::Ranked<'a>,
    used: lists::Ranked<'a>,
    undelivered: Vec<Undelivered>,
    now: Overview,
    /// The currency of lists and chart.
    currency: Currency,
    latest: Vec<ConversionRow>,
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

/// `GET /`.
pub(super) async fn show_overview(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let span = Span::read(&mut viewer.asked, &viewer.times, viewer.now);
    let asked = &mut viewer.asked;
    let code = || Rule::Must("must be the code of a currency, such as USD".into());
    let currency = asked.value("currency", |text| Currency::parse(text).ok_or_else(code));
    let chart = asked.word("chart", &cards::METRICS.map(|(_, word)| word));
    let from_by = asked.word("from_by", &lists::CAME.map(|(_, word, _)| word));
    asked.refuse_others();
    let here = span
        .on(&viewer.link("/"))
        .with("chart", chart.clone().unwrap_or_default())
        .with("from_by", from_by.clone().unwrap_or_default())
        .with("currency", currency.map(|asked| asked.code().to_owned()).unwrap_or_default());
    let frame = viewer.frame(&state, Tab::Overview).await?;
    let (store, scope) = (&state.store, viewer.scope());
    let now = report::overview(store, &scope, span.period).await?;
    let before = span.overview_before(store, &scope).await?;
    let currency = currency.unwrap_or_else(|| earning(&now, viewer.site.currency));
    let filter = ConversionFilter {
        site_id: Some(scope.site_id.clone()),
        livemode: Some(scope.livemode),
        paid: Some(true),
        ..ConversionFilter::default()
    };
    let latest = report::conversions(store, &filter, None, LATEST).await?;
    let metric = cards::Metric::read(chart.as_deref());
    let (viewer, span, here) = (&viewer, &span, &here);
    let before = before.as_ref();
    let lists = lists::Lists { state: &state, viewer, span, currency };
    let cards = cards::Cards { viewer, here, span, now: &now, before, currency, metric };
    let leaks_href = span.on(&viewer.link("/leaks")).to_string();
    let page = OverviewPage {
        subtitle: format!("{}, {}", span.range(), viewer.times.named()),
        period: span.menu(here),
        currencies: currency_menu(here, &now, currency),
        health: health::signs(
            viewer,
            &frame.health,
            &comparisons(&state, &scope).await?,
            conversion::reading_again(store).await?,
        ),
        cards: cards.all(),
        chart: series::draw(&state, viewer, span, metric, currency).await?,
        came: lists.came(here, from_by.as_deref()).await?,
        landed: lists.landed().await?,
        used: lists.used().await?,
        undelivered: report::undelivered(store, &scope, span.period).await?,
        latest: latest.rows,
        all_href: span.on(&viewer.link("/conversions")).to_string(),
        leaks_href,
        empty: setup::progress_if_new(&state, viewer, &frame.health).await?,
        viewer,
        currency,
        now,
        frame,
    };
    page::show(&page)
}

/// The last reconciliations of the site's webhook endpoints that have an API key, with their names.
async fn comparisons(state: &AppState, scope: &Scope) -> Result<Vec<(String, Comparison)>> {
    let snapshot = state.settings.current();
    let of_site = |found: Comparison| {
        let source = snapshot.source(&found.source_id)?;
        let is_here = source.site_id == scope.site_id && state.api_key_of(source).is_some();
        is_here.then(|| (source.key.clone(), found))
    };
    Ok(report::comparisons(&state.store).await?.into_iter().filter_map(of_site).collect())
}

/// The site's own currency if it has revenue, else one that has.
fn earning(now: &Overview, own: Currency) -> Currency {
    in_order(&now.net, own).first().map_or(own, |sum| sum.currency)
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
