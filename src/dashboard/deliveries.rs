//! The list of deliveries. Takes filters and a cursor, or a request to resend; returns destinations with their totals and a
//! page of deliveries. Every failed delivery shows its reason and a button to resend it.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::list::{List, Listing, ROWS, chip_label, state_tabs};
use super::page;
use super::session::{local_path, see_other};
use super::views::numbers::{count, counted, totals};
use super::views::{Chip, Choice, Link, numbers, words};
use crate::delivery::{self, Retried};
use crate::domain::{DeliveryReason, DeliveryState, Word as _};
use crate::error::AppError;
use crate::money::Totals;
use crate::report::{self, DeliveryFilter, DeliveryRow, DestinationTotals};
use crate::settings::{self, Destination};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    list: List<DeliveryRow>,
    filter: DeliveryFilter,
    here: Link,
    /// The current page, to return to after a resend.
    back: Link,
    destinations: Vec<&'a Destination>,
    sums: Vec<DestinationTotals>,
    /// All of them together.
    all: DestinationTotals,
    /// The IDs of destinations whose circuit breaker is open.
    down: Vec<String>,
}

/// `GET /deliveries`.
pub(super) async fn list_deliveries(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let here = viewer.link("/deliveries");
    let listing = Listing::<DeliveryFilter>::read(&mut viewer, &snapshot, &here);
    let filter = DeliveryFilter {
        site_id: Some(viewer.site.id.clone()),
        livemode: viewer.is_test.then_some(false), // Live mode lists skipped test payments, too.
        ..listing.filter.clone()
    };
    let found = report::deliveries(&state.store, &filter, listing.after.as_ref(), ROWS).await?;
    let sums = report::destination_totals(&state.store, &viewer.site.id).await?;
    let down = report::down(&state.store).await?.into_iter().map(|(id, _)| id).collect();
    let all = DestinationTotals::all(&sums);
    let after = listing.after.as_ref().map(ToString::to_string).unwrap_or_default();
    let here = &listing.here;
    let page = DeliveriesPage {
        frame: viewer.frame(&state, Tab::Deliveries).await?,
        list: List {
            name: "Deliveries",
            subtitle: subtitle(&viewer, &all),
            period: None,
            heading: "Latest deliveries".to_owned(),
            tabs: tabs(&here.with("reason", ""), filter.state, &all),
            chips: listing.chips(&["state", "destination", "reason"], chip_label),
            pager: listing.pager(&found),
            rows: found.rows,
        },
        back: here.with("after", after).without_prefix(&viewer.client.prefix()),
        here: here.clone(),
        filter,
        destinations: snapshot.destinations_of(&viewer.site.id).collect(),
        sums,
        all,
        down,
        viewer: &viewer,
    };
    page::show(&page)
}

/// `2 pending ($378.00)`.
fn with_money(number: i64, what: &str, sums: &Totals, viewer: &Viewer) -> String {
    if sums.is_empty() {
        format!("{} {what}", count(number))
    } else {
        format!("{} {what} ({})", count(number), totals(sums, viewer.site.currency))
    }
}

fn subtitle(viewer: &Viewer, all: &DestinationTotals) -> String {
    format!(
        "{}, {}, {} accepted. Times in {}.",
        with_money(all.pending, "pending", &all.pending_money, viewer),
        with_money(all.given_up, "failed", &all.given_up_money, viewer),
        count(all.accepted),
        viewer.times.place,
    )
}

fn tabs(here: &Link, current: Option<DeliveryState>, all: &DestinationTotals) -> Vec<Choice> {
    let states = [
        (DeliveryState::Pending, "Pending", all.pending),
        (DeliveryState::GivenUp, "Failed", all.given_up),
        (DeliveryState::Held, "Paused", all.held),
        (DeliveryState::Skipped, "Not sent", all.skipped),
        (DeliveryState::Delivered, "Accepted", 0),
    ];
    state_tabs(here, current, &states)
}

impl DeliveriesPage<'_> {
    /// The title of the notice about failed deliveries.
    fn failed(&self) -> Option<String> {
        let money = match self.all.given_up_money.is_empty() {
            true => String::new(),
            false => {
                format!(" ({})", totals(&self.all.given_up_money, self.viewer.site.currency))
            }
        };
        let deliveries = counted(self.all.given_up, "failed delivery", "failed deliveries");
        let need = if self.all.given_up == 1 { "needs" } else { "need" };
        (self.all.given_up > 0 && !self.viewer.is_test)
            .then(|| format!("{deliveries}{money} {need} your attention"))
    }

    fn is_chosen(&self, found: &Destination) -> bool {
        self.filter.destination.as_ref().is_some_and(|chosen| chosen.id == found.id)
    }

    fn sums_of(&self, found: &Destination) -> DestinationTotals {
        let sums = self.sums.iter().find(|sums| sums.destination_id == found.id);
        sums.cloned().unwrap_or_default()
    }

    fn state_of(&self, found: &Destination) -> Chip {
        let sums = self.sums_of(found);
        if !found.enabled {
            Chip::quiet(format!("Disabled: {} paused", count(sums.held)))
        } else if self.down.contains(&found.id) {
            Chip::bad(format!("Failing: {} pending", count(sums.pending)))
        } else if sums.pending > 0 {
            Chip::wait(format!("{} pending", count(sums.pending)))
        } else if sums.last_accepted_at.is_some() {
            Chip::ok("Working")
        } else {
            Chip::quiet("Nothing sent yet")
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Back {
    /// The page to return to; a path on this server.
    back: Option<String>,
}

/// `POST /deliveries/{id}/retry`.
pub(super) async fn retry_delivery(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
    axum::Form(sent): axum::Form<Back>,
) -> Result<Response, AppError> {
    match delivery::retry(&state.store, viewer.now, &id).await? {
        Retried::Queued => {
            state.wakeups.delivery_queued.notify_one();
            let list = viewer.link("/deliveries").to_string();
            let back = sent.back.as_deref().map(|back| local_path(Some(back)));
            Ok(back.map_or_else(|| page::see_other(&list), |back| see_other(&viewer.client, back)))
        }
        Retried::NotFound => Err(AppError::not_found("Delivery not found.")),
        Retried::NotRetryable(state) => {
            let line = match state.as_str() {
                "destination_deleted" => "Its destination was deleted.".to_owned(),
                state => format!("This delivery can’t be resent because its state is “{state}”."),
            };
            Err(AppError::new(StatusCode::CONFLICT, line))
        }
    }
}
