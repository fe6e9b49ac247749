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
use super::views::times::{Moment, distance, short_day};
use super::views::{Link, numbers, times, words};
use crate::clock::Timestamp;
use crate::domain::MatchState;
use crate::error::AppError;
use crate::report::{self, Conversion, ConversionRow, CustomRequest, Delivery, Visit};
use crate::settings::{Source, SourceKind};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "journey.html")]
struct JourneyPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    found: &'a Conversion,
    row: &'a ConversionRow,
    payment: Value,
    /// Whether a page reported the conversion; it then has no amount.
    is_page_event: bool,
    source: Option<&'a Source>,
    visit: Option<&'a Visit>,
    tried: by_hand::Tried,
}

/// One step of the timeline.
#[derive(Default)]
struct Step<'a> {
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
    /// Its attempts and message are shown.
    delivery: Option<&'a Delivery>,
    /// Text below the attempts.
    note: String,
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
    let snapshot = state.settings.current();
    let source = snapshot.source(&found.row.source_id);
    let page = JourneyPage {
        frame: viewer.frame(&state, Tab::Conversions).await?,
        viewer: &viewer,
        row: &found.row,
        payment: serde_json::from_str(&found.payment).unwrap_or_default(),
        is_page_event: source.is_some_and(|source| source.kind == SourceKind::Page),
        source,
        visit: visit.as_ref(),
        found: &found,
        tried,
    };
    page::show(&page)
}

impl JourneyPage<'_> {
    /// The buyer's name, else their email.
    fn name(&self) -> &str {
        stated(&self.payment, "name").or(self.row.email.as_deref()).unwrap_or("Someone")
    }

    /// `Jenny Rosen bought`.
    fn who(&self) -> String {
        let did = match (self.is_page_event, self.row.paid_at) {
            (true, _) => "triggered",
            (false, Some(_)) => "bought",
            (false, None) => "started to buy",
        };
        format!("{} {did}", self.name())
    }

    fn bought(&self) -> String {
        match (self.is_page_event, &self.row.description) {
            (true, _) => words::kind(&self.row.kind),
            (false, Some(description)) => description.clone(),
            (false, None) => "an unnamed product".to_owned(),
        }
    }

    /// The timeline: visits, payment, match, deliveries.
    fn steps(&self) -> Vec<Step<'_>> {
        let (viewer, found) = (self.viewer, self.found);
        let mut steps = way::steps(viewer, found, self.visit);
        steps.push(match self.is_page_event {
            true => page_event_step(viewer, found),
            false => payment_step(viewer, found, &self.payment),
        });
        steps.push(way::match_step(viewer, self.row, self.visit));
        steps.extend(deliveries::steps(viewer, &found.deliveries));
        steps
    }

    fn request_page(&self, request: &CustomRequest) -> Link {
        let source = self.row.reported_by.as_deref().unwrap_or_default();
        self.viewer.page(&format!("/settings/custom/{source}/requests"), &request.id)
    }

    fn payment_json(&self) -> String {
        serde_json::to_string_pretty(&self.payment).unwrap_or_else(|_| self.found.payment.clone())
    }
}

/// The query and the body of a request in one line.
fn request_line(request: &CustomRequest) -> String {
    let line = format!("{} {}", request.query, request.body);
    line.split_whitespace().collect::<Vec<_>>().join(" ")
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
fn timed(viewer: &Viewer, at: Timestamp) -> Step<'static> {
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

fn page_event_step(viewer: &Viewer, found: &Conversion) -> Step<'static> {
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

fn payment_step(viewer: &Viewer, found: &Conversion, payment: &Value) -> Step<'static> {
    let row = &found.row;
    let amount = row.amount.map_or_else(|| "an unknown amount".to_owned(), numbers::money);
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

impl JourneyPage<'_> {
    /// The groups of facts in the side column; some may be empty.
    fn asides(&self) -> Vec<Aside> {
        let (row, payment) = (self.row, &self.payment);
        let said = |name, key: &str| Some(Fact::text(name, stated(payment, key)?));
        let email = row.email.as_ref().map(|email| Fact::text("Email", email.clone()));
        let buyer = [said("Name", "name"), email, said("City", "city"), said("Country", "country")];
        let source = self.source.map_or("", |source| source.key.as_str());
        let mode = if row.livemode { "live" } else { "test" };
        let mut sale = vec![
            Fact::text("Kind", words::kind(&row.kind)),
            Fact::text("Site", self.viewer.site.name.clone()),
            Fact::text("Endpoint", format!("{source}, {mode}")),
            Fact::code("Conversion", row.id.clone()),
        ];
        let is_stripes = row.reported_by.is_none();
        for object in self.found.objects.iter().filter(|it| is_stripes && it.role == "identity") {
            sale.push(Fact::code("Stripe ID", object.object_id.clone()));
        }
        let said = payment["reported"]["params"].as_object().into_iter().flatten();
        let said = said.filter_map(|(name, it)| Some(Fact::text(name.clone(), it.as_str()?)));
        let sale_title = if self.is_page_event { "Event" } else { "Sale" };
        vec![
            Aside { title: "Money", facts: money::amounts(row) },
            Aside { title: "Disputes", facts: money::disputes(payment, row) },
            Aside { title: "Buyer", facts: buyer.into_iter().flatten().collect() },
            Aside { title: sale_title, facts: sale },
            Aside { title: "Other parameters", facts: said.collect() },
        ]
    }
}
