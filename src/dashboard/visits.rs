//! The list of visits. Takes a period, a channel or campaign, and a cursor; returns a page of visits, newest first.
//! Bots are included only on request, and click IDs are shown in full.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::period::{PeriodMenu, PeriodQuery, Span};
use super::views::numbers::counted;
use super::views::times::Moment;
use super::views::{Choice, Link, Pager, entered, words};
use crate::error::AppError;
use crate::report::{self, Cursor, VisitFilter, VisitRow};
use crate::state::AppState;

/// Rows per page.
const ROWS: i64 = 50;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    channel: Option<String>,
    campaign: Option<String>,
    bots: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "visits.html")]
struct VisitsPage {
    frame: Frame,
    subtitle: String,
    period: PeriodMenu,
    /// The active filters, each with a link that removes it.
    filters: Vec<Choice>,
    bots: Choice,
    heading: String,
    rows: Vec<VisitItem>,
    pager: Pager,
    setup_href: String,
}

struct VisitItem {
    at: Moment,
    page: String,
    url: String,
    channel: String,
    origin: String,
    campaign: String,
    device: String,
    click_id: String,
    /// Link to the conversions with this click ID.
    conversions: String,
}

/// `GET /visits`.
pub(super) async fn list_visits(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(period): Query<PeriodQuery>,
    Query(query): Query<ListQuery>,
) -> Result<Response, AppError> {
    let span = Span::read(&period, &viewer.times, viewer.now);
    let frame = viewer.frame(&state, Tab::Visits).await?;
    let (channel, campaign) =
        (entered(query.channel.as_deref()), entered(query.campaign.as_deref()));
    let with_bots = query.bots.is_some();
    let here = span
        .on(&viewer.link("/visits"))
        .with("channel", channel.clone().unwrap_or_default())
        .with("campaign", campaign.clone().unwrap_or_default())
        .with("bots", if with_bots { "1" } else { "" });
    let filter = VisitFilter {
        site_id: Some(viewer.site.id.clone()),
        period: Some(span.period),
        channel: channel.clone(),
        campaign: campaign.clone(),
        with_bots,
    };
    let after = query.after.as_deref().and_then(Cursor::parse);
    let found = report::visits(&state.store, &filter, after.as_ref(), ROWS).await?;
    let counted_here = report::visits_in(&state.store, &viewer.scope(), span.period).await?;
    let filters = filters(&here, channel, campaign);
    let heading = if filters.is_empty() {
        format!("{} counted", counted(counted_here, "visit", "visits"))
    } else {
        "Filtered visits".to_owned()
    };
    let page = VisitsPage {
        frame,
        subtitle: format!("{}, {}", span.range(), viewer.times.named()),
        period: span.menu(&here),
        filters,
        bots: Choice::new(
            &here.with("bots", if with_bots { "" } else { "1" }),
            "Include bots",
            with_bots,
        ),
        heading,
        rows: found.rows.iter().map(|row| visit_item(&viewer, &span, row)).collect(),
        pager: Pager::new(&here, found.rows.len(), after.is_none(), found.next.as_ref()),
        setup_href: viewer.link("/setup").to_string(),
    };
    page::show(&page)
}

fn filters(here: &Link, channel: Option<String>, campaign: Option<String>) -> Vec<Choice> {
    let filter = |name: &'static str, label: String| Choice::new(&here.with(name, ""), label, true);
    let channel = channel.map(|channel| filter("channel", words::channel(&channel)));
    let campaign = campaign.map(|campaign| filter("campaign", format!("Campaign {campaign}")));
    channel.into_iter().chain(campaign).collect()
}

fn visit_item(viewer: &Viewer, span: &Span, row: &VisitRow) -> VisitItem {
    let host = row.landing_host.clone().unwrap_or_default();
    let path = row.landing_path.clone().unwrap_or_default();
    let page =
        if host.is_empty() && path.is_empty() { "Unknown page".to_owned() } else { host + &path };
    let conversions = span.on(&viewer.link("/conversions")).with("q", row.click_id.clone());
    VisitItem {
        at: viewer.times.short_second(row.at, viewer.now),
        page,
        url: row.url.clone().unwrap_or_default(),
        channel: words::channel(&row.channel),
        origin: words::origin(row.source.as_deref(), row.medium.as_deref(), ""),
        campaign: row.campaign.clone().unwrap_or_default(),
        device: words::channel(&row.device),
        click_id: row.click_id.clone(),
        conversions: conversions.to_string(),
    }
}
