//! The list of visits. Takes a period, filters and a cursor; returns a page of visits, newest first. Bots are included only
//! on request, and click IDs are shown in full.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Tab, Viewer};
use super::list::{List, Listing, ROWS, chip_label};
use super::page;
use super::period::Span;
use super::views::numbers::counted;
use super::views::{Choice, Link, words};
use crate::error::AppError;
use crate::report::{self, VisitFilter, VisitRow};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "visits.html")]
struct VisitsPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    list: List<VisitRow>,
    bots: Choice,
    /// The conversions of the same period.
    conversions: Link,
}

/// `GET /visits`.
pub(super) async fn list_visits(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let span = Span::read(&mut viewer.asked, &viewer.times, viewer.now);
    let here = span.on(&viewer.link("/visits"));
    let listing = Listing::<VisitFilter>::read(&mut viewer, &state.settings.current(), &here);
    let filter = VisitFilter {
        site_id: Some(viewer.site.id.clone()),
        from: Some(span.period.from),
        to: Some(span.period.to),
        ..listing.filter.clone()
    };
    let found = report::visits(&state.store, &filter, listing.after.as_ref(), ROWS).await?;
    let visits = report::visits_in(&state.store, &viewer.scope(), span.period).await?;
    let chips = listing.chips(&["bots"], |name, value| match name {
        "channel" => words::channel(value),
        "campaign" => format!("Campaign {value}"),
        name => chip_label(name, value),
    });
    let with_bots = filter.bots == Some(true);
    let bots = listing.here.with("bots", if with_bots { "" } else { "true" });
    let page = VisitsPage {
        frame: viewer.frame(&state, Tab::Visits).await?,
        list: List {
            name: "Visits",
            subtitle: format!("{}, {}", span.range(), viewer.times.named()),
            period: Some(span.menu(&listing.here)),
            heading: if chips.is_empty() {
                format!("{} counted", counted(visits, "visit", "visits"))
            } else {
                "Filtered visits".to_owned()
            },
            tabs: Vec::new(),
            chips,
            pager: listing.pager(&found),
            rows: found.rows,
        },
        bots: Choice::new(&bots, "Include bots", with_bots),
        conversions: span.on(&viewer.link("/conversions")),
        viewer: &viewer,
    };
    page::show(&page)
}

/// The page that a visit opened.
fn landing(row: &VisitRow) -> String {
    let parts = [row.landing_host.as_deref(), row.landing_path.as_deref()];
    let page: String = parts.into_iter().flatten().collect();
    if page.is_empty() { "Unknown page".to_owned() } else { page }
}
