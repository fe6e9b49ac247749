//! The list of deliveries. Takes a state, filters and a cursor, or a request to resend; returns destinations with their
//! totals and a page of deliveries. Every failed delivery shows its reason and a button to resend it.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::session::{local_path, see_other};
use super::views::numbers::{NONE, count, counted, money, totals};
use super::views::times::Moment;
use super::views::{Chip, Choice, Link, Pager, words};
use crate::delivery::{self, Retried};
use crate::domain::{DeliveryReason, DeliveryState, Word as _};
use crate::error::AppError;
use crate::money::Totals;
use crate::report::{self, Cursor, DeliveryFilter, DeliveryRow, DestinationTotals};
use crate::settings::{self, Destination};
use crate::state::AppState;

/// Rows per page.
const ROWS: i64 = 50;

#[derive(Deserialize)]
pub(super) struct ListQuery {
    state: Option<String>,
    destination: Option<String>,
    reason: Option<String>,
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    frame: Frame,
    subtitle: String,
    notice: Option<Notice>,
    destinations: Vec<DestinationItem>,
    settings_href: String,
    filters: Filters,
    /// The current page, to return to after a resend.
    back: String,
    tabs: Vec<Choice>,
    rows: Vec<DeliveryItem>,
    pager: Pager,
}

/// The filters of the list.
struct Filters {
    action: String,
    hidden: Vec<(&'static str, String)>,
    /// Key, name, whether it is selected.
    destinations: Vec<(String, String, bool)>,
    /// API word, label, whether it is selected.
    reasons: Vec<(&'static str, String, bool)>,
}

fn reason_label(reason: DeliveryReason) -> String {
    match reason {
        DeliveryReason::Failed(reason) => format!("Failed: {}", words::given_up(reason)),
        DeliveryReason::Skipped(reason) => format!("Not sent: {}", words::skipped(reason)),
    }
}

/// The notice about failed deliveries at the top of the page.
struct Notice {
    title: String,
    href: String,
}

struct DestinationItem {
    name: String,
    href: String,
    address: String,
    state: Chip,
    accepted: String,
    pending: String,
    given_up: String,
    last: Option<Moment>,
}

struct DeliveryItem {
    at: Moment,
    href: String,
    amount: String,
    is_test: bool,
    destination: String,
    event: String,
    state: Chip,
    tries: String,
    answer: String,
    /// Time of the next attempt.
    next: Option<Moment>,
    /// What it waits for if no time is known.
    waits: &'static str,
    /// `expires in 6 hours`; empty if it does not expire.
    expires: String,
    /// The URL that a resend is posted to.
    retry: Option<String>,
    retry_label: &'static str,
}

const STATES: [(&str, &str); 6] = [
    ("", "All"),
    ("pending", "Pending"),
    ("given_up", "Failed"),
    ("held", "Paused"),
    ("skipped", "Not sent"),
    ("delivered", "Accepted"),
];

/// `GET /deliveries`.
pub(super) async fn list_deliveries(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(query): Query<ListQuery>,
) -> Result<Response, AppError> {
    let frame = viewer.frame(&state, Tab::Deliveries).await?;
    let current =
        STATES.iter().map(|(word, _)| *word).find(|word| query.state.as_deref() == Some(word));
    let current = current.unwrap_or_default();
    let snapshot = state.settings.current();
    let chosen = query.destination.as_deref();
    let chosen =
        snapshot.destinations_of(&viewer.site.id).find(|it| Some(it.key.as_str()) == chosen);
    let reason = query.reason.as_deref().and_then(DeliveryReason::parse);
    let key = chosen.map_or("", |found| found.key.as_str());
    let here = viewer.link("/deliveries").with("state", current).with("destination", key);
    let here = here.with("reason", reason.map_or("", DeliveryReason::as_str));
    let back = viewer.back("/deliveries").with("state", current).with("destination", key);
    let back = back.with("reason", reason.map_or("", DeliveryReason::as_str));
    let filter = DeliveryFilter {
        site_id: Some(viewer.site.id.clone()),
        destination_id: chosen.map(|found| found.id.clone()),
        reason,
        state: DeliveryState::parse(current),
        livemode: viewer.is_test.then_some(false), // Live mode lists skipped test payments, too.
    };
    let after = query.after.as_deref().and_then(Cursor::parse);
    let found = report::deliveries(&state.store, &filter, after.as_ref(), ROWS).await?;
    let sums = report::destination_totals(&state.store, &viewer.site.id).await?;
    let down = report::down(&state.store).await?;
    let is_down = |found: &Destination| down.iter().any(|(id, _)| *id == found.id);
    let destinations = snapshot.destinations_of(&viewer.site.id);
    let page = DeliveriesPage {
        frame,
        subtitle: subtitle(&viewer, &sums),
        notice: notice(&viewer, &sums),
        destinations: destinations
            .map(|found| destination_item(&viewer, found, is_down(found), &sums))
            .collect(),
        settings_href: viewer.link("/settings/destinations").to_string(),
        filters: Filters {
            action: here.path(),
            hidden: here.pairs_without(&["destination", "reason", "after"]),
            destinations: snapshot
                .destinations_of(&viewer.site.id)
                .map(|it| (it.key.clone(), it.name.clone(), it.key == key))
                .collect(),
            reasons: DeliveryReason::ALL
                .iter()
                .map(|it| (it.as_str(), reason_label(*it), reason == Some(*it)))
                .collect(),
        },
        back: back.with("after", query.after.as_deref().unwrap_or_default()).to_string(),
        tabs: tabs(&here.with("reason", ""), current, &sums),
        rows: found.rows.iter().map(|row| delivery_item(&viewer, row)).collect(),
        pager: Pager::new(&here, found.rows.len(), after.is_none(), found.next.as_ref()),
    };
    page::show(&page)
}

#[derive(Default)]
struct All {
    accepted: i64,
    pending: i64,
    given_up: i64,
    held: i64,
    skipped: i64,
    pending_money: Totals,
    given_up_money: Totals,
}

fn all(sums: &[DestinationTotals]) -> All {
    let mut all = All::default();
    for sum in sums {
        all.accepted += sum.accepted;
        all.pending += sum.pending;
        all.given_up += sum.given_up;
        all.held += sum.held;
        all.skipped += sum.skipped;
        sum.pending_money.iter().for_each(|money| all.pending_money.add(money));
        sum.given_up_money.iter().for_each(|money| all.given_up_money.add(money));
    }
    all
}

/// `2 pending ($378.00)`.
fn with_money(number: i64, what: &str, sums: &Totals, viewer: &Viewer) -> String {
    if sums.is_empty() {
        format!("{} {what}", count(number))
    } else {
        format!("{} {what} ({})", count(number), totals(sums, viewer.site.currency))
    }
}

fn subtitle(viewer: &Viewer, sums: &[DestinationTotals]) -> String {
    let all = all(sums);
    format!(
        "{}, {}, {} accepted. Times in {}.",
        with_money(all.pending, "pending", &all.pending_money, viewer),
        with_money(all.given_up, "failed", &all.given_up_money, viewer),
        count(all.accepted),
        viewer.times.place,
    )
}

fn notice(viewer: &Viewer, sums: &[DestinationTotals]) -> Option<Notice> {
    let all = all(sums);
    let money = match all.given_up_money.is_empty() {
        true => String::new(),
        false => format!(" ({})", totals(&all.given_up_money, viewer.site.currency)),
    };
    let deliveries = counted(all.given_up, "failed delivery", "failed deliveries");
    let need = if all.given_up == 1 { "needs" } else { "need" };
    (all.given_up > 0 && !viewer.is_test).then(|| Notice {
        title: format!("{deliveries}{money} {need} your attention"),
        href: viewer.link("/deliveries").with("state", "given_up").to_string(),
    })
}

fn tabs(here: &Link, current: &str, sums: &[DestinationTotals]) -> Vec<Choice> {
    let all = all(sums);
    let tab = |(word, label): &(&'static str, &'static str)| {
        let choice = Choice::new(&here.with("state", *word), *label, *word == current);
        match *word {
            "pending" if all.pending > 0 => choice.counting(all.pending),
            "given_up" if all.given_up > 0 => choice.counting(all.given_up),
            "held" if all.held > 0 => choice.counting(all.held),
            "skipped" if all.skipped > 0 => choice.counting(all.skipped),
            _ => choice,
        }
    };
    STATES.iter().map(tab).collect()
}

fn destination_item(
    viewer: &Viewer,
    destination: &Destination,
    is_down: bool,
    sums: &[DestinationTotals],
) -> DestinationItem {
    let none = DestinationTotals::default();
    let sum = sums.iter().find(|sum| sum.destination_id == destination.id).unwrap_or(&none);
    let state = if !destination.enabled {
        Chip::quiet(format!("Disabled: {} paused", count(sum.held)))
    } else if is_down {
        Chip::bad(format!("Failing: {} pending", count(sum.pending)))
    } else if sum.pending > 0 {
        Chip::wait(format!("{} pending", count(sum.pending)))
    } else if sum.last_accepted_at.is_some() {
        Chip::ok("Working")
    } else {
        Chip::quiet("Nothing sent yet")
    };
    DestinationItem {
        name: destination.name.clone(),
        href: viewer.link(&format!("/settings/destinations/{}", destination.key)).to_string(),
        address: settings::mask_url(&destination.url),
        state,
        accepted: count(sum.accepted),
        pending: count(sum.pending),
        given_up: count(sum.given_up),
        last: sum.last_accepted_at.map(|at| viewer.times.short_second(at, viewer.now)),
    }
}

fn delivery_item(viewer: &Viewer, row: &DeliveryRow) -> DeliveryItem {
    let retry = viewer.link(&format!("/deliveries/{}/retry", row.id)).to_string();
    let can_retry = matches!(row.state, DeliveryState::GivenUp | DeliveryState::Pending);
    let is_scheduled = row.state == DeliveryState::Pending;
    let answer = match (&row.last_error, row.last_status) {
        (_, Some(status)) => words::http_status(status),
        (Some(error), None) => error.clone(),
        (None, None) => String::new(),
    };
    DeliveryItem {
        at: viewer.times.short_second(row.created_at, viewer.now),
        href: viewer.link(&format!("/deliveries/{}", row.id)).to_string(),
        amount: row.amount.map_or_else(|| NONE.to_owned(), money),
        is_test: !row.livemode,
        destination: row.destination_name.clone(),
        event: row.event_name.clone(),
        state: words::delivery_state(row),
        tries: count(row.attempts),
        answer,
        next: (is_scheduled && row.down_since.is_none())
            .then(|| viewer.times.short(row.due_at, viewer.now)),
        waits: if is_scheduled && row.down_since.is_some() {
            "when the destination recovers"
        } else {
            ""
        },
        expires: words::expires(row, viewer.now).unwrap_or_default(),
        retry: can_retry.then_some(retry),
        retry_label: if row.state == DeliveryState::Pending { "Send now" } else { "Resend" },
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
