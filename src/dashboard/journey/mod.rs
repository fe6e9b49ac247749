//! The customer journey of one payment. Takes a conversion's ID; returns its touchpoints, visit, payment, match with the
//! reason, and its deliveries with all attempts. Everything that is recorded about the payment, and every message that
//! was sent, is on this page or linked from it.

mod by_hand;
mod deliveries;
mod duplicate;
mod money;
mod way;

use std::borrow::Cow;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use serde_json::Value;

pub(super) use by_hand::{match_conversion, take_back_match};
pub(super) use duplicate::{count_again, count_once};

use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::views::numbers::{NONE, money, money_parts};
use super::views::times::{Moment, distance, long_day, short_day};
use super::views::{Chip, words};
use crate::clock::Timestamp;
use crate::domain::EventState;
use crate::error::AppError;
use crate::report::{self, Conversion, ConversionRow, CustomRequest, StripeEventRow, Visit};
use crate::settings::SourceKind;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "journey.html")]
struct JourneyPage {
    frame: Frame,
    back: String,
    /// Title of the browser's tab.
    title: String,
    big: String,
    small: String,
    /// `Jenny Rosen bought`, `Someone bought`.
    who: String,
    bought: String,
    day: String,
    at: Moment,
    is_test: bool,
    chips: Vec<Chip>,
    notices: Vec<deliveries::Notice>,
    duplicate: Option<duplicate::Question>,
    story: Vec<way::Phrase>,
    zone: String,
    steps: Vec<Step>,
    by_hand: by_hand::Form,
    events: Vec<EventItem>,
    requests: Vec<RequestItem>,
    /// `Stripe events`, or `Requests from crm`.
    records_title: String,
    asides: Vec<Aside>,
    payment: String,
}

/// One step of the timeline.
#[derive(Default)]
struct Step {
    /// Anchor; may be empty.
    id: String,
    /// `ok`, `bad`, `stamp` or nothing.
    class: &'static str,
    at: Option<Moment>,
    day: String,
    /// `First touch`, `Payment, 15 minutes later`.
    kind: String,
    heading: String,
    text: String,
    facts: Vec<Fact>,
    tries: Vec<deliveries::Try>,
    /// Text below the attempts.
    note: String,
    /// The exact message; may be empty.
    sent: String,
}

/// One line of facts.
struct Fact {
    name: Cow<'static, str>,
    value: String,
    is_code: bool,
    href: Option<String>,
}

impl Fact {
    fn text(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into(), is_code: false, href: None }
    }

    fn code(name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        Self { is_code: true, ..Self::text(name, value) }
    }
}

/// A group of facts in the side column.
struct Aside {
    title: &'static str,
    facts: Vec<Fact>,
}

/// `GET /conversions/{id}`.
pub(super) async fn show_journey(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(id): Path<String>,
    Query(tried): Query<by_hand::Tried>,
) -> Result<Response, AppError> {
    let Some(found) = report::conversion(&state.store, &id).await? else {
        return match report::merged_into(&state.store, &id).await? {
            Some(into) => {
                Ok(page::see_other(&viewer.link(&format!("/conversions/{into}")).to_string()))
            }
            None => Err(AppError::not_found("Conversion not found.")),
        };
    };
    let visit = match &found.row.click_id {
        Some(click_id) => report::visit(&state.store, click_id).await?,
        None => None,
    };
    let frame = viewer.frame(&state, Tab::Conversions).await?;
    let by_hand = by_hand::Form::new(&viewer, &found, tried);
    page::show(&journey_page(&state, &viewer, frame, &found, visit.as_ref(), by_hand))
}

fn journey_page(
    state: &AppState,
    viewer: &Viewer,
    frame: Frame,
    found: &Conversion,
    visit: Option<&Visit>,
    by_hand: by_hand::Form,
) -> JourneyPage {
    let row = &found.row;
    let payment: Value = serde_json::from_str(&found.payment).unwrap_or_default();
    let name = stated(&payment, "name").or(row.email.as_deref()).unwrap_or("Someone").to_owned();
    let (big, small) = row.amount.map_or((NONE.to_owned(), String::new()), money_parts);
    let mut steps = way::steps(viewer, found, visit);
    let is_page_event = is_page_event(state, row);
    steps.push(match is_page_event {
        true => page_event_step(viewer, found),
        false => payment_step(viewer, found, &payment),
    });
    steps.push(way::match_step(viewer, row, visit));
    steps.extend(deliveries::steps(viewer, &found.deliveries));
    let mut chips = vec![words::status_chip(row.status), words::match_chip(row)];
    chips.extend(row.deliveries.iter().map(|d| words::delivery_chip(d, &viewer.times, viewer.now)));
    JourneyPage {
        frame,
        back: viewer.link("/conversions").to_string(),
        title: format!("{} from {name}", row.amount.map_or(NONE.to_owned(), money)),
        big,
        small,
        who: match (is_page_event, row.paid_at) {
            (true, _) => format!("{name} triggered"),
            (false, Some(_)) => format!("{name} bought"),
            (false, None) => format!("{name} started to buy"),
        },
        bought: match is_page_event {
            true => words::kind(&row.kind),
            false => row.description.clone().unwrap_or_else(|| "an unnamed product".to_owned()),
        },
        day: long_day(viewer.times.date(row.occurred_at)),
        at: viewer.times.minute_and_zone(row.occurred_at),
        is_test: !row.livemode,
        chips,
        notices: deliveries::notices(viewer, found),
        duplicate: duplicate::question(viewer, found),
        story: way::story(viewer, row),
        zone: viewer.times.place.clone(),
        steps,
        by_hand,
        events: found.events.iter().map(|event| event_item(viewer, event)).collect(),
        requests: found.requests.iter().map(|it| request_item(viewer, row, it)).collect(),
        records_title: match &row.reported_by {
            Some(endpoint) => format!("Requests from {endpoint}"),
            None => "Stripe events".to_owned(),
        },
        asides: asides(state, viewer, found, &payment),
        payment: serde_json::to_string_pretty(&payment).unwrap_or_else(|_| found.payment.clone()),
    }
}

/// A Stripe event about the payment.
struct EventItem {
    at: Moment,
    href: String,
    kind: String,
    state: Chip,
    read: String,
    said: String,
}

fn event_item(viewer: &Viewer, event: &StripeEventRow) -> EventItem {
    EventItem {
        at: viewer.times.short_second(event.received_at, viewer.now),
        href: viewer.link(&format!("/events/{}", event.id)).to_string(),
        kind: if event.kind.is_empty() { event.event_id.clone() } else { event.kind.clone() },
        state: words::event_chip(event.state),
        read: event.summary.clone().unwrap_or_default(),
        said: match event.state {
            EventState::Failed => event.error.clone().unwrap_or_default(),
            EventState::Held | EventState::Ignored => {
                words::event_reason(event.reason.as_deref().unwrap_or_default()).to_owned()
            }
            EventState::Received | EventState::Processed => event.note.clone().unwrap_or_default(),
        },
    }
}

/// A request to a postback endpoint about the conversion.
struct RequestItem {
    at: Moment,
    href: String,
    state: &'static str,
    line: String,
    said: String,
}

fn request_item(viewer: &Viewer, row: &ConversionRow, request: &CustomRequest) -> RequestItem {
    let source = row.reported_by.as_deref().unwrap_or_default();
    let line = format!("{} {}", request.query, request.body);
    RequestItem {
        at: viewer.times.short_second(request.received_at, viewer.now),
        href: viewer
            .link(&format!("/settings/custom/{source}/requests/{}", request.id))
            .to_string(),
        state: if request.state == "repeated" { "Repeat" } else { "Recorded" },
        line: line.split_whitespace().collect::<Vec<_>>().join(" "),
        said: request.warnings.join("; "),
    }
}

/// A fact of a payment, from the most reliable Stripe object that states it.
fn stated<'a>(payment: &'a Value, key: &str) -> Option<&'a str> {
    ["session", "invoice", "payment_intent", "charge", "report"]
        .iter()
        .find_map(|object| payment["told"][object][key].as_str())
}

/// The facts from a payment's charges.
fn charge_facts(payment: &Value) -> &Value {
    &payment["told"]["charge"]
}

/// A step with the time at which something happened.
fn timed(viewer: &Viewer, at: Timestamp) -> Step {
    Step {
        at: Some(viewer.times.second(at)),
        day: short_day(viewer.times.date(at)),
        ..Step::default()
    }
}

/// `, 15 minutes later`; empty for the first step.
fn later(before: Option<Timestamp>, at: Timestamp) -> String {
    match before {
        Some(before) if at > before => format!(", {} later", distance(at.since(before))),
        Some(_) | None => String::new(),
    }
}

/// Whether a page reported the conversion; it then has no amount.
fn is_page_event(state: &AppState, row: &ConversionRow) -> bool {
    let settings = state.settings.current();
    settings.source(&row.source_id).is_some_and(|source| source.kind == SourceKind::Page)
}

fn page_event_step(viewer: &Viewer, found: &Conversion) -> Step {
    let row = &found.row;
    let before = found.way.last().map(|step| step.touch.at);
    let reference = match &row.client_reference_id {
        Some(reference) => Fact::code("Reference", reference.clone()),
        None => Fact::text("Reference", "a click ID of another site"),
    };
    Step {
        class: "stamp",
        kind: format!("On your page{}", later(before, row.occurred_at)),
        heading: words::kind(&row.kind),
        text: "Your page reported this event. Anyone can fake browser requests, so it never has an amount."
            .to_owned(),
        facts: vec![Fact::code("Transaction", row.transaction_id.clone()), reference],
        ..timed(viewer, row.occurred_at)
    }
}

fn payment_step(viewer: &Viewer, found: &Conversion, payment: &Value) -> Step {
    let row = &found.row;
    let amount = row.amount.map_or_else(|| "an unknown amount".to_owned(), money);
    let before = found.way.last().map(|step| step.touch.at);
    let facts = vec![
        Fact::code("Transaction", row.transaction_id.clone()),
        match &row.client_reference_id {
            Some(reference) => Fact::code("Reference", reference.clone()),
            None => Fact::text("Reference", "none"),
        },
    ];
    let received = match found.events.first() {
        None if row.reported_by.is_some() => {
            format!("{} reported it.", row.reported_by.as_deref().unwrap_or_default())
        }
        Some(first) if first.received_at > row.occurred_at => format!(
            "Stripe sent the event {} later. Its signature was valid.",
            distance(first.received_at.since(row.occurred_at))
        ),
        Some(_) => "Stripe sent the event immediately. Its signature was valid.".to_owned(),
        None => "It was recorded without a Stripe event.".to_owned(),
    };
    Step {
        class: "stamp",
        kind: format!("Payment{}", later(before, row.occurred_at)),
        heading: money::heading(row.status, &amount, payment),
        text: received,
        facts,
        ..timed(viewer, row.occurred_at)
    }
}

fn asides(state: &AppState, viewer: &Viewer, found: &Conversion, payment: &Value) -> Vec<Aside> {
    let row = &found.row;
    let snapshot = state.settings.current();
    let amounts = money::amounts(row);
    let said = |name, key: &str| Some(Fact::text(name, stated(payment, key)?));
    let email = row.email.as_ref().map(|email| Fact::text("Email", email.clone()));
    let buyer = [said("Name", "name"), email, said("City", "city"), said("Country", "country")];
    let source = snapshot.source(&row.source_id).map_or("", |source| source.key.as_str());
    let mode = if row.livemode { "live" } else { "test" };
    let mut sale = vec![
        Fact::text("Kind", words::kind(&row.kind)),
        Fact::text("Site", viewer.site.name.clone()),
        Fact::text("Endpoint", format!("{source}, {mode}")),
        Fact::code("Conversion", row.id.clone()),
    ];
    let is_stripes = row.reported_by.is_none();
    for object in found.objects.iter().filter(|it| is_stripes && it.role == "identity") {
        sale.push(Fact::code("Stripe ID", object.object_id.clone()));
    }
    let said = payment["reported"]["params"].as_object().into_iter().flatten();
    let said =
        said.filter_map(|(name, value)| Some(Fact::text(name.clone(), value.as_str()?))).collect();
    vec![
        Aside { title: "Money", facts: amounts },
        Aside { title: "Disputes", facts: money::disputes(payment, row) },
        Aside { title: "Buyer", facts: buyer.into_iter().flatten().collect() },
        Aside { title: if is_page_event(state, row) { "Event" } else { "Sale" }, facts: sale },
        Aside { title: "Other parameters", facts: said },
    ]
}
