//! The leaks page: what happened, how much money, what to do. Takes a period; returns money at risk by currency,
//! unmatched payments by reason and undelivered messages. Lines are ordered by amount; each has one recommended action
//! and a link to its rows.

use std::cmp::Reverse;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::frame::{Frame, Tab, Viewer};
use super::period::{PeriodMenu, Span};
use super::views::numbers::{count, counted, in_order};
use super::views::{numbers, words};
use super::{conversions, page};
use crate::domain::{DeliveryState, UnmatchedReason, Word as _};
use crate::error::AppError;
use crate::money::{Currency, Money, Totals};
use crate::report::{self, Leak, Leaks, Overview, Undelivered};
use crate::settings::Snapshot;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "leaks.html")]
struct LeaksPage<'a> {
    frame: Frame,
    viewer: &'a Viewer,
    span: &'a Span,
    settings: Arc<Snapshot>,
    period: PeriodMenu,
    currency: Currency,
    now: Overview,
    /// The numbers of the period before, if it is recorded completely.
    before: Option<Overview>,
    leaks: Leaks,
}

/// One line: amount at the left, what happened, what to do.
struct Line<'a> {
    /// Anchor of the line.
    id: String,
    /// `None` if the conversions have no amount.
    money: Option<&'a Totals>,
    counted: String,
    heading: String,
    code: String,
    advice: Advice,
    /// Link and label of the link to the rows.
    rows: Option<(String, String)>,
}

/// What happened, what to do, and the button for that.
struct Advice {
    text: String,
    fix: &'static str,
    /// Page and label.
    button: (&'static str, &'static str),
}

const SETUP: (&str, &str) = ("/setup", "Check the setup");
const CUSTOM: (&str, &str) = ("/settings/custom", "See received requests");

/// `GET /leaks`.
pub(super) async fn show_leaks(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let span = Span::read(&mut viewer.asked, &viewer.times, viewer.now);
    viewer.asked.refuse_others();
    let (store, scope) = (&state.store, viewer.scope());
    let mut leaks = report::leaks(store, &scope, span.period).await?;
    let currency = viewer.site.currency;
    let amount = |sums: &Totals, number: i64| Reverse((sums.of(currency).minor, number));
    leaks.unmatched.sort_by_key(|leak| amount(&leak.money, leak.conversions));
    leaks.undelivered.sort_by_key(|line| amount(&line.money, line.deliveries));
    let page = LeaksPage {
        frame: viewer.frame(&state, Tab::Leaks).await?,
        period: span.menu(&span.on(&viewer.link("/leaks"))),
        now: report::overview(store, &scope, span.period).await?,
        settings: state.settings.current(),
        viewer: &viewer,
        span: &span,
        before: span.overview_before(store, &scope).await?,
        currency,
        leaks,
    };
    page::show(&page)
}

impl LeaksPage<'_> {
    /// One row per currency that has a refund or a dispute.
    fn taken(&self) -> Vec<Money> {
        let taken = [&self.now.refunded, &self.now.lost, &self.now.disputed];
        let mut gross = in_order(&self.now.gross, self.currency);
        gross.retain(|gross| taken.iter().any(|sums| sums.of(gross.currency).minor != 0));
        gross
    }

    fn messages(&self) -> i64 {
        self.leaks.undelivered.iter().map(|line| line.deliveries).sum()
    }

    fn events(&self) -> i64 {
        self.leaks.events.iter().map(|leak| leak.conversions).sum()
    }

    fn abandoned(&self) -> i64 {
        self.leaks.abandoned.iter().map(|line| line.checkouts).sum()
    }

    /// The reasons that have no payments.
    fn nothing_lost_to(&self) -> String {
        let has = |reason| self.leaks.unmatched.iter().any(|leak| leak.reason == reason);
        let none = UnmatchedReason::ALL.iter().copied().filter(|reason| !has(*reason));
        none.map(words::reason).collect::<Vec<_>>().join(", ")
    }

    fn unmatched(&self) -> Vec<Line<'_>> {
        let lines = self.leaks.unmatched.iter().map(|leak| {
            let payments = counted(leak.conversions, "payment", "payments");
            let show = match leak.conversions {
                1 => "Show the payment".to_owned(),
                _ => format!("Show the {payments}"),
            };
            Line {
                id: leak.reason.to_string(),
                money: Some(&leak.money),
                heading: words::reason_heading(leak.reason).to_owned(),
                code: leak.reason.to_string(),
                advice: advice(self.viewer, leak, &payments),
                rows: Some((self.rows(leak), show)),
                counted: payments,
            }
        });
        lines.collect()
    }

    /// Unmatched conversions without an amount, such as page events and leads. They never used a payment link.
    fn unmatched_events(&self) -> Vec<Line<'_>> {
        let lines = self.leaks.events.iter().map(|leak| {
            let events = counted(leak.conversions, "event", "events");
            Line {
                id: format!("event-{}", leak.reason),
                money: None,
                heading: match leak.reason == UnmatchedReason::NoReference {
                    true => "No click ID of this site".to_owned(),
                    false => words::reason_heading(leak.reason).to_owned(),
                },
                code: leak.reason.to_string(),
                advice: event_advice(leak, &events),
                rows: Some((self.rows(leak), format!("Show the {events}"))),
                counted: count(leak.conversions),
            }
        });
        lines.collect()
    }

    /// Link to the conversions of a leak.
    fn rows(&self, leak: &Leak) -> String {
        let rows = conversions::unmatched(self.viewer, self.span);
        rows.with("reason", leak.reason.as_str()).to_string()
    }

    /// Where the button of a line leads: to a page, or to the deliveries in the state that is the line's code.
    fn button(&self, line: &Line<'_>) -> String {
        let link = self.viewer.link(line.advice.button.0);
        let state = DeliveryState::parse(&line.code).map_or("", DeliveryState::as_str);
        link.with("state", state).to_string()
    }

    fn undelivered(&self) -> Vec<Line<'_>> {
        self.leaks.undelivered.iter().map(|line| self.undelivered_line(line)).collect()
    }

    fn undelivered_line<'a>(&self, line: &'a Undelivered) -> Line<'a> {
        let name = self.settings.destination(&line.destination_id);
        let name = name.map_or("A destination", |found| &found.name);
        let messages = counted(line.deliveries, "message", "messages");
        let oldest = self.viewer.minute(line.oldest_at).text;
        let answer = match (line.last_status, line.last_error.as_deref()) {
            (Some(status), _) => format!(" The last response was {}.", words::http_status(status)),
            (None, Some(error)) => format!(" Last error: {error}."),
            (None, None) => String::new(),
        };
        let (heading, text, fix) = match line.state {
            DeliveryState::GivenUp => (
                format!("Failed: {messages} to {name}"),
                format!("There are no more automatic retries.{answer}"),
                "Fix the problem the response describes, then resend. The same message is sent, so nothing is counted twice.",
            ),
            DeliveryState::Held => (
                format!("{name} is disabled"),
                format!("{messages} paused since {oldest}. Nothing is lost."),
                "Enable the destination, and they are sent.",
            ),
            DeliveryState::Pending | DeliveryState::Delivered | DeliveryState::Skipped => (
                format!("{name} hasn’t accepted them yet"),
                format!("{messages} pending, the oldest since {oldest}.{answer}"),
                "Nothing for now: they are retried automatically. If it continues, check the responses.",
            ),
        };
        let has_failed = line.state == DeliveryState::GivenUp;
        let list = self.viewer.link("/deliveries").with("state", line.state.as_str()).to_string();
        let label = if has_failed { "Resend" } else { "Show the deliveries" };
        Line {
            id: format!("{}-{}", line.state, line.destination_id),
            money: Some(&line.money),
            heading,
            code: line.state.to_string(),
            advice: Advice { text, fix, button: ("/deliveries", label) },
            rows: has_failed.then(|| (list, format!("Show the {messages}"))),
            counted: messages,
        }
    }
}

fn event_advice(leak: &Leak, events: &str) -> Advice {
    let (text, fix, button) = match leak.reason {
        UnmatchedReason::NoReference => (
            format!(
                "{events} had no click ID, or one of another site of yours, so no visit was found."
            ),
            "On a page, report events with the tag of that site. A tool that reports leads must pass our click ID as click_id.",
            CUSTOM,
        ),
        UnmatchedReason::UnknownClickId => (
            format!("The click IDs of {events} are valid, but their visits were never received."),
            "Allow the tag’s address in connect-src. If the visits arrive later, these events are matched automatically.",
            SETUP,
        ),
        UnmatchedReason::ForgedClickId => (
            format!(
                "{events} had text that looks like a click ID but was never issued by Clickstamp: {}.",
                references(leak)
            ),
            "Nothing if there are only a few: bots send random IDs. They get no credit.",
            SETUP,
        ),
        UnmatchedReason::PlaceholderNotReplaced
        | UnmatchedReason::ForeignReference
        | UnmatchedReason::FirstPaymentNotSeen
        | UnmatchedReason::NoObject => (
            format!("{events} could not be matched to a visit."),
            "Pass our click ID with them as click_id.",
            CUSTOM,
        ),
    };
    Advice { text, fix, button }
}

fn advice(viewer: &Viewer, leak: &Leak, payments: &str) -> Advice {
    let last = format!(
        "the latest {}, the first {}",
        viewer.times.ago(leak.last_at, viewer.now),
        viewer.times.ago(leak.first_at, viewer.now)
    );
    let (text, fix, button) = match leak.reason {
        UnmatchedReason::PlaceholderNotReplaced => (
            format!(
                "{payments} arrived with --CLICK-ID-- not replaced: {last}. The tag is missing on the page, or something blocked it.{}",
                bought(leak)
            ),
            "Check the pages that show this link. If the tag is there, serve it from your own domain, which fewer blockers stop.",
            ("/settings", "Copy the tag"),
        ),
        UnmatchedReason::NoReference => (
            format!(
                "{payments} came through links without client_reference_id: {last}. So no click ID reached Stripe.{}",
                bought(leak)
            ),
            "Add ?client_reference_id=--CLICK-ID-- to the end of these links on your pages.",
            ("/settings", "Copy the link parameter"),
        ),
        UnmatchedReason::ForeignReference => (
            format!(
                "{payments} arrived with {}, which isn’t a Clickstamp click ID. Another tool, such as an affiliate program, uses the same field.",
                references(leak)
            ),
            "Let the other tool use Stripe metadata, or put our click ID into the metadata under click_id.",
            SETUP,
        ),
        UnmatchedReason::UnknownClickId => (
            format!(
                "The click IDs of {payments} are valid, but their visits were never received. A content security policy without connect-src can cause this."
            ),
            "Allow the tag’s address in connect-src. If the visits arrive later, these payments are matched automatically.",
            SETUP,
        ),
        UnmatchedReason::ForgedClickId => (
            format!(
                "{payments} had text that looks like a click ID but was never issued by Clickstamp: {}.",
                references(leak)
            ),
            "Check the payments. Someone may have edited the URL, or a tool copied only part of it.",
            SETUP,
        ),
        UnmatchedReason::FirstPaymentNotSeen => (
            format!("{payments} belong to customers whose first payment was before Clickstamp."),
            "New customers are matched. Import earlier history with clickstamp backfill, or match a payment by hand on its page; its renewals follow.",
            SETUP,
        ),
        UnmatchedReason::NoObject => (
            format!("{payments} had no ID that could be matched to a visit."),
            "Have your server put the click ID into the payment’s metadata under click_id. You can match single payments by hand on their page.",
            SETUP,
        ),
    };
    Advice { text, fix, button }
}

/// The products of the newest examples; empty if none has a description.
fn bought(leak: &Leak) -> String {
    let mut names: Vec<&str> =
        leak.examples.iter().filter_map(|example| example.description.as_deref()).collect();
    names.dedup();
    if names.is_empty() { String::new() } else { format!(" Products: {}.", names.join(", ")) }
}

fn references(leak: &Leak) -> String {
    let mut found: Vec<&str> =
        leak.examples.iter().filter_map(|example| example.reference.as_deref()).collect();
    found.dedup();
    if found.is_empty() {
        "other text".to_owned()
    } else {
        format!("“{}”", found.join("”, “"))
    }
}
