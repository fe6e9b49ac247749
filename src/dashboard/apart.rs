//! The page of the page events that do not count. Takes a filter and a cursor; returns the events with the reason in
//! plain words, and deletes those of a day, or all, on request. The log says who deleted them.

use std::collections::BTreeMap;

use anyhow::Result;
use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::civil::Date;

use super::form::FormData;
use super::frame::{Frame, Tab, Viewer};
use super::list::{List, Listing, ROWS};
use super::page;
use super::table;
use super::views::numbers::{count, counted};
use super::views::{Choice, Link, times, words};
use crate::clock::Timestamp;
use crate::domain::{ApartReason, QUARTER_MS, Word as _};
use crate::error::AppError;
use crate::report::{self, ApartEvent, ApartFilter, ApartSum, Period};
use crate::state::AppState;
use crate::visit::{self, ApartEvents};

#[derive(Template)]
#[template(path = "apart.html")]
struct ApartPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    list: List<ApartEvent>,
    done: Option<String>,
    /// What can be deleted: its value in the form, and its label. Empty if there is nothing.
    choices: Vec<(String, String)>,
}

/// `GET /events/pages`.
pub(super) async fn list_apart(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let deleted = viewer.asked.text("deleted").and_then(|text| text.parse::<i64>().ok());
    let here = viewer.link("/events/pages");
    let listing = Listing::<ApartFilter>::read(&mut viewer, &state.settings.current(), &here);
    let (site_id, after) = (&viewer.site.id, listing.after.as_ref());
    let found = report::apart_events(&state.store, site_id, &listing.filter, after, ROWS).await?;
    let sums = report::apart_sums(&state.store, site_id).await?;
    let page = ApartPage {
        frame: viewer.frame(&state, Tab::Events).await?,
        list: List {
            name: "Page events that don’t count",
            subtitle: format!("Newest first. Times in {}.", viewer.times.place),
            period: None,
            heading: counted(number(&sums), "event", "events"),
            tabs: tabs(&listing.here, listing.filter.reason, &sums),
            chips: listing.chips(&["reason"], |_, value| value.to_owned()),
            pager: listing.pager(&found),
            rows: found.rows,
        },
        done: deleted.map(|number| format!("{} deleted", counted(number, "event", "events"))),
        choices: choices(&viewer, &sums),
        viewer: &viewer,
    };
    page::show(&page)
}

fn tabs(here: &Link, current: Option<ApartReason>, sums: &[ApartSum]) -> Vec<Choice> {
    let all = Choice::new(&here.with("reason", ""), "All", current.is_none());
    let tab = |reason: &ApartReason| {
        let of_reason = sums.iter().filter(|sum| sum.reason == *reason);
        let link = here.with("reason", reason.as_str());
        let tab = Choice::new(&link, words::apart(*reason), current == Some(*reason));
        tab.counting(of_reason.map(|sum| sum.events).sum())
    };
    std::iter::once(all).chain(ApartReason::ALL.iter().map(tab)).collect()
}

fn number(sums: &[ApartSum]) -> i64 {
    sums.iter().map(|sum| sum.events).sum()
}

/// All events, and those of each day, newest first.
fn choices(viewer: &Viewer, sums: &[ApartSum]) -> Vec<(String, String)> {
    let mut days = BTreeMap::<Date, i64>::new();
    for sum in sums {
        let at = Timestamp::from_ms(sum.quarter.saturating_mul(QUARTER_MS));
        *days.entry(viewer.times.date(at)).or_default() += sum.events;
    }
    let day = |(date, events): (Date, i64)| {
        (date.to_string(), format!("{}: {}", times::short_day(date), count(events)))
    };
    let all =
        (!days.is_empty()).then(|| ("all".to_owned(), format!("All: {}", count(number(sums)))));
    all.into_iter().chain(days.into_iter().rev().map(day)).collect()
}

/// Why an event does not count, as a sentence.
fn why(event: &ApartEvent) -> String {
    match event.reason {
        ApartReason::OtherWebsite => {
            let host = event.foreign_host.as_deref().unwrap_or_default();
            format!("Sent from {host}, which isn’t one of this site’s domains.")
        }
        ApartReason::NoVisit => {
            "No counted visit has its click ID. If the visit arrives, the event counts.".to_owned()
        }
    }
}

/// `POST /events/pages/delete`.
pub(super) async fn delete_apart(
    State(state): State<AppState>,
    viewer: Viewer,
    form: FormData,
) -> Result<Response, AppError> {
    let (store, day) = (&state.store, form.text("day"));
    let refused = |line| AppError::new(StatusCode::UNPROCESSABLE_ENTITY, line);
    if !form.is_on("sure") {
        return Err(refused("Nothing was deleted. Tick “I’m sure” first."));
    }
    let mut chosen = ApartEvents { site_id: Some(&viewer.site.id), ..ApartEvents::default() };
    if day != "all" {
        let date = day.parse::<Date>().ok();
        let period = date.and_then(|date| Period::of_days(date, date, &viewer.times.zone));
        let period = period.ok_or_else(|| refused("Nothing was deleted. Choose a day."))?;
        (chosen.from, chosen.until) = (Some(period.from), Some(period.to));
    }
    let deleted = visit::delete_apart(store, &chosen).await?;
    // The log contains no email addresses.
    let user = table::find_user(store, &viewer.user.email).await?.map(|user| user.id);
    let (site, user) = (&viewer.site.key, user.unwrap_or_default());
    tracing::info!(deleted, day, site, user, "deleted page events that did not count");
    let here = viewer.link("/events/pages").with("deleted", deleted.to_string());
    Ok(page::see_other(&here.to_string()))
}
