//! The journey: the whole story of one payment.
//! In: a conversion's ID. Out: its touches, its visit, its payment, its match with the reason, every delivery with every try.
//! Promise: read top to bottom it is a story; everything we know and everything we sent can be seen from here.

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
    /// For the browser's tab.
    title: String,
    big: String,
    small: String,
    /// `Jenny Rosen bought`, `Somebody bought`.
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
    events: Vec<EventTold>,
    requests: Vec<RequestTold>,
    /// Who told it: `Stripe`, or the custom source’s key.
    teller: String,
    asides: Vec<Aside>,
    payment: String,
}

/// One step of the timeline.
#[derive(Default)]
struct Step {
    /// To link to; may be empty.
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
    /// Below the tries.
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

/// A group of facts beside the story.
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
            None => Err(AppError::not_found("There is no such conversion.")),
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
    let name = told(&payment, "name").or(row.email.as_deref()).unwrap_or("Somebody").to_owned();
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
            (true, _) => format!("{name} did"),
            (false, Some(_)) => format!("{name} bought"),
            (false, None) => format!("{name} began to buy"),
        },
        bought: match is_page_event {
            true => words::kind(&row.kind),
            false => row.description.clone().unwrap_or_else(|| "something".to_owned()),
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
        events: found.events.iter().map(|event| event_told(viewer, event)).collect(),
        requests: found.requests.iter().map(|it| request_told(viewer, row, it)).collect(),
        teller: row.reported_by.clone().unwrap_or_else(|| "Stripe".to_owned()),
        asides: asides(state, viewer, found, &payment),
        payment: serde_json::to_string_pretty(&payment).unwrap_or_else(|_| found.payment.clone()),
    }
}

/// One of Stripe's events about it.
struct EventTold {
    at: Moment,
    href: String,
    kind: String,
    state: Chip,
    read: String,
    said: String,
}

fn event_told(viewer: &Viewer, event: &StripeEventRow) -> EventTold {
    EventTold {
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

/// One of a custom source's requests about it.
struct RequestTold {
    at: Moment,
    href: String,
    state: &'static str,
    line: String,
    said: String,
}

fn request_told(viewer: &Viewer, row: &ConversionRow, request: &CustomRequest) -> RequestTold {
    let source = row.reported_by.as_deref().unwrap_or_default();
    let line = format!("{} {}", request.query, request.body);
    RequestTold {
        at: viewer.times.short_second(request.received_at, viewer.now),
        href: viewer
            .link(&format!("/settings/custom/{source}/requests/{}", request.id))
            .to_string(),
        state: if request.state == "repeated" { "Repeat" } else { "Recorded" },
        line: line.split_whitespace().collect::<Vec<_>>().join(" "),
        said: request.warnings.join("; "),
    }
}

/// What the object that knows best says of a payment.
fn told<'a>(payment: &'a Value, key: &str) -> Option<&'a str> {
    ["session", "invoice", "payment_intent", "charge", "report"]
        .iter()
        .find_map(|teller| payment["told"][teller][key].as_str())
}

/// What the charges of a payment state.
fn charge_facts(payment: &Value) -> &Value {
    &payment["told"]["charge"]
}

/// When something happened, as steps show it.
fn timed(viewer: &Viewer, at: Timestamp) -> Step {
    Step {
        at: Some(viewer.times.second(at)),
        day: short_day(viewer.times.date(at)),
        ..Step::default()
    }
}

/// `, 15 minutes later`; nothing without something before.
fn later(before: Option<Timestamp>, at: Timestamp) -> String {
    match before {
        Some(before) if at > before => format!(", {} later", distance(at.since(before))),
        Some(_) | None => String::new(),
    }
}

/// True for what a page of the owner's reported; money is then out of the question.
fn is_page_event(state: &AppState, row: &ConversionRow) -> bool {
    let settings = state.settings.current();
    settings.source(&row.source_id).is_some_and(|source| source.kind == SourceKind::Page)
}

fn page_event_step(viewer: &Viewer, found: &Conversion) -> Step {
    let row = &found.row;
    let before = found.way.last().map(|step| step.touch.at);
    let came_with = match &row.client_reference_id {
        Some(reference) => Fact::code("Came with", reference.clone()),
        None => Fact::text("Came with", "a click ID of another site"),
    };
    Step {
        class: "stamp",
        kind: format!("On your page{}", later(before, row.occurred_at)),
        heading: words::kind(&row.kind),
        text: "Your page told us. Browsers can be made to say anything, so it counts as no money."
            .to_owned(),
        facts: vec![Fact::code("Transaction", row.transaction_id.clone()), came_with],
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
            Some(reference) => Fact::code("Came back with", reference.clone()),
            None => Fact::text("Came back with", "nothing"),
        },
    ];
    let told = match found.events.first() {
        None if row.reported_by.is_some() => format!(
            "{} reported it. The request was stored, with all that follows from it, before the sender got its answer.",
            row.reported_by.as_deref().unwrap_or_default()
        ),
        Some(first) if first.received_at > row.occurred_at => format!(
            "Stripe told us {} later. Its signature was right, and the message was stored before Stripe got its answer.",
            distance(first.received_at.since(row.occurred_at))
        ),
        Some(_) => "Stripe told us at once. Its signature was right, and the message was stored before Stripe got its answer.".to_owned(),
        None => "It was told to us without Stripe.".to_owned(),
    };
    Step {
        class: "stamp",
        kind: format!("Payment{}", later(before, row.occurred_at)),
        heading: money::heading(row.status, &amount, payment),
        text: told,
        facts,
        ..timed(viewer, row.occurred_at)
    }
}

fn asides(state: &AppState, viewer: &Viewer, found: &Conversion, payment: &Value) -> Vec<Aside> {
    let row = &found.row;
    let snapshot = state.settings.current();
    let amounts = money::amounts(row);
    let said = |name, key: &str| Some(Fact::text(name, told(payment, key)?));
    let email = row.email.as_ref().map(|email| Fact::text("E-mail", email.clone()));
    let buyer = [said("Name", "name"), email, said("City", "city"), said("Country", "country")];
    let source = snapshot.source(&row.source_id).map_or("", |source| source.key.as_str());
    let mode = if row.livemode { "live" } else { "test" };
    let mut sale = vec![
        Fact::text("Kind", words::kind(&row.kind)),
        Fact::text("Site", viewer.site.name.clone()),
        Fact::text("Source", format!("{source}, {mode}")),
        Fact::code("Conversion", row.id.clone()),
    ];
    let is_stripes = row.reported_by.is_none();
    for object in found.objects.iter().filter(|it| is_stripes && it.role == "identity") {
        sale.push(Fact::code("In Stripe", object.object_id.clone()));
    }
    let said = payment["reported"]["params"].as_object().into_iter().flatten();
    let said =
        said.filter_map(|(name, value)| Some(Fact::text(name.clone(), value.as_str()?))).collect();
    vec![
        Aside { title: "Money", facts: amounts },
        Aside { title: "Disputes", facts: money::disputes(payment, row) },
        Aside { title: "Buyer", facts: buyer.into_iter().flatten().collect() },
        Aside { title: if is_page_event(state, row) { "Event" } else { "Sale" }, facts: sale },
        Aside { title: "Further parameters", facts: said },
    ]
}
