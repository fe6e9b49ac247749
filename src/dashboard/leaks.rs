//! The leaks page: what happened, how much money, what to do. Takes a period; returns money at risk by currency,
//! unmatched payments by reason and undelivered messages. Lines are ordered by amount; each has one recommended action
//! and a link to its rows.

use std::cmp::Reverse;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::conversions;
use super::frame::{Frame, Tab, Viewer};
use super::page;
use super::period::{PeriodMenu, Span};
use super::views::numbers::{NONE, count, counted, in_order, money, money_parts};
use super::views::words;
use crate::domain::{DeliveryState, UnmatchedReason, Word as _};
use crate::error::AppError;
use crate::money::{Currency, Money, Totals};
use crate::report::{self, Abandoned, Leak, Leaks, Overview, Undelivered};
use crate::settings::Snapshot;
use crate::state::AppState;

#[derive(Template)]
#[template(path = "leaks.html")]
struct LeaksPage {
    frame: Frame,
    subtitle: String,
    period: PeriodMenu,
    /// Title of the notice about events on hold.
    held: Option<String>,
    held_href: String,
    sums: Vec<RiskRow>,
    before_name: String,
    unmatched_title: String,
    unmatched: Vec<LeakItem>,
    /// Reasons without payments, in one line.
    nothing_lost_to: String,
    events_title: String,
    /// Unmatched conversions without an amount.
    events: Vec<LeakItem>,
    undelivered_title: String,
    undelivered: Vec<LeakItem>,
    /// Text if no money is at risk.
    nothing: &'static str,
    taken: Vec<TakenRow>,
    abandoned_title: String,
    abandoned: Vec<AbandonedRow>,
}

/// Refunds and disputes in one currency.
struct TakenRow {
    currency: String,
    gross: String,
    refunded: String,
    lost: String,
    net: String,
    disputed: String,
}

/// Abandoned checkouts of one campaign.
struct AbandonedRow {
    campaign: String,
    checkouts: String,
    recovered: String,
    money: String,
}

/// Money at risk in one currency.
struct RiskRow {
    currency: String,
    big: String,
    small: String,
    unmatched: String,
    undelivered: String,
    net: String,
    before: String,
}

/// One line: amount at the left, what happened, what to do.
struct LeakItem {
    /// Anchor of the line.
    id: String,
    big: String,
    small: String,
    also: Vec<String>,
    counted: String,
    heading: String,
    code: String,
    text: String,
    fix: String,
    /// Link and label of the button.
    button: (String, &'static str),
    /// Link and label of the link to the rows.
    rows: (String, String),
}

/// `GET /leaks`.
pub(super) async fn show_leaks(
    State(state): State<AppState>,
    mut viewer: Viewer,
) -> Result<Response, AppError> {
    let span = Span::read(&mut viewer.asked, &viewer.times, viewer.now);
    viewer.asked.refuse_others();
    let frame = viewer.frame(&state, Tab::Leaks).await?;
    let (store, scope) = (&state.store, viewer.scope());
    let numbers = report::overview(store, &scope, span.period).await?;
    let before = match span.compared(report::began_at(store, &scope).await?) {
        Some(before) => Some(report::overview(store, &scope, before).await?),
        None => None,
    };
    let mut leaks = report::leaks(store, &scope, span.period).await?;
    let first = viewer.site.currency;
    let amount = |sums: &Totals, number: i64| Reverse((sums.of(first).minor, number));
    leaks.unmatched.sort_by_key(|leak| amount(&leak.money, leak.conversions));
    leaks.undelivered.sort_by_key(|line| amount(&line.money, line.deliveries));
    let snapshot = state.settings.current();
    let undelivered = leaks.undelivered.iter();
    let messages: i64 = leaks.undelivered.iter().map(|line| line.deliveries).sum();
    let held = frame.health.events_held;
    let page = LeaksPage {
        held: (held > 0).then(|| format!("{} on hold", counted(held, "event is", "events are"))),
        held_href: viewer.link("/events").with("state", "held").to_string(),
        frame,
        subtitle: format!("{}, {}", span.range(), viewer.times.named()),
        period: span.menu(&span.on(&viewer.link("/leaks"))),
        sums: risk_rows(&numbers, before.as_ref(), first),
        before_name: span.before_name.clone(),
        unmatched_title: format!(
            "Not matched: {}",
            counted(numbers.unmatched_payments(), "payment", "payments")
        ),
        unmatched: leaks
            .unmatched
            .iter()
            .map(|leak| unmatched_item(&viewer, &span, leak))
            .collect(),
        nothing_lost_to: nothing_lost_to(&leaks),
        events_title: format!(
            "Events without a visit: {}",
            count(leaks.events.iter().map(|leak| leak.conversions).sum())
        ),
        events: leaks.events.iter().map(|leak| event_item(&viewer, &span, leak)).collect(),
        undelivered_title: format!("Not delivered: {}", counted(messages, "message", "messages")),
        undelivered: undelivered.map(|line| undelivered_item(&viewer, &snapshot, line)).collect(),
        nothing: if numbers.conversions == 0 {
            "No payments in this period."
        } else {
            "None in this period: every payment was matched and every message was accepted or intentionally skipped."
        },
        taken: taken_rows(&numbers, first),
        abandoned_title: format!(
            "Abandoned checkouts: {}",
            count(leaks.abandoned.iter().map(|line| line.checkouts).sum())
        ),
        abandoned: leaks.abandoned.iter().map(|line| abandoned_row(line, first)).collect(),
    };
    page::show(&page)
}

fn risk_rows(numbers: &Overview, before: Option<&Overview>, first: Currency) -> Vec<RiskRow> {
    let row = |risk: Money| {
        let of = |sums: &Totals| money(sums.of(risk.currency));
        let (big, small) = money_parts(risk);
        RiskRow {
            currency: risk.currency.to_string(),
            big,
            small,
            unmatched: of(&numbers.unmatched_money),
            undelivered: of(&numbers.undelivered_money),
            net: of(&numbers.net),
            before: before.map_or(NONE.to_owned(), |before| of(&before.at_risk)),
        }
    };
    in_order(&numbers.at_risk, first).into_iter().map(row).collect()
}

/// One row per currency that has a refund or a dispute.
fn taken_rows(numbers: &Overview, first: Currency) -> Vec<TakenRow> {
    let is_taken = |currency: Currency| {
        [&numbers.refunded, &numbers.lost, &numbers.disputed]
            .iter()
            .any(|sums| sums.of(currency).minor != 0)
    };
    let grosses = in_order(&numbers.gross, first).into_iter();
    grosses
        .filter(|gross| is_taken(gross.currency))
        .map(|gross| {
            let of = |sums: &Totals| money(sums.of(gross.currency));
            TakenRow {
                currency: gross.currency.to_string(),
                gross: money(gross),
                refunded: of(&numbers.refunded),
                lost: of(&numbers.lost),
                net: of(&numbers.net),
                disputed: of(&numbers.disputed),
            }
        })
        .collect()
}

fn abandoned_row(line: &Abandoned, first: Currency) -> AbandonedRow {
    let sums: Vec<String> = in_order(&line.money, first).into_iter().map(money).collect();
    AbandonedRow {
        campaign: line.campaign.clone().unwrap_or_else(|| "No visit known".to_owned()),
        checkouts: count(line.checkouts),
        recovered: count(line.recovered),
        money: if sums.is_empty() { NONE.to_owned() } else { sums.join(", ") },
    }
}

/// The amount in parts, and further currencies.
fn amounts(sums: &Totals, first: Currency) -> (String, String, Vec<String>) {
    let mut sums = in_order(sums, first).into_iter();
    let largest = sums.next().unwrap_or(Money { minor: 0, currency: first });
    let (big, small) = money_parts(largest);
    (big, small, sums.map(|sum| format!("and {}", money(sum))).collect())
}

fn unmatched_item(viewer: &Viewer, span: &Span, leak: &Leak) -> LeakItem {
    let (big, small, also) = amounts(&leak.money, viewer.site.currency);
    let payments = counted(leak.conversions, "payment", "payments");
    let (text, fix, button) = advice(viewer, leak, &payments);
    let rows = conversions::unmatched(viewer, span);
    let rows = rows.with("reason", leak.reason.as_str()).to_string();
    let show = if leak.conversions == 1 {
        "Show the payment".to_owned()
    } else {
        format!("Show the {payments}")
    };
    LeakItem {
        id: leak.reason.to_string(),
        big,
        small,
        also,
        counted: payments,
        heading: words::reason_heading(leak.reason).to_owned(),
        code: leak.reason.to_string(),
        text,
        fix,
        button,
        rows: (rows, show),
    }
}

/// The line of unmatched conversions without an amount, such as page events and leads. They never used a payment link.
fn event_item(viewer: &Viewer, span: &Span, leak: &Leak) -> LeakItem {
    let events = counted(leak.conversions, "event", "events");
    let setup = (viewer.link("/setup").to_string(), "Check the setup");
    let custom = (viewer.link("/settings/custom").to_string(), "See received requests");
    let (heading, text, fix, button) = match leak.reason {
        UnmatchedReason::NoReference => (
            "No click ID of this site",
            format!(
                "{events} had no click ID, or one of another site of yours, so no visit was found."
            ),
            "On a page, report events with the tag of that site. A tool that reports leads must pass our click ID as click_id.",
            custom,
        ),
        UnmatchedReason::UnknownClickId => (
            "The visit never arrived",
            format!("The click IDs of {events} are valid, but their visits were never received."),
            "Allow the tag’s address in connect-src. If the visits arrive later, these events are matched automatically.",
            setup,
        ),
        UnmatchedReason::ForgedClickId => (
            "The click ID was forged",
            format!(
                "{events} had text that looks like a click ID but was never issued by Clickstamp: {}.",
                references(leak)
            ),
            "Nothing if there are only a few: bots send random IDs. They get no credit.",
            setup,
        ),
        reason @ (UnmatchedReason::PlaceholderNotReplaced
        | UnmatchedReason::ForeignReference
        | UnmatchedReason::FirstPaymentNotSeen
        | UnmatchedReason::NoObject) => (
            words::reason_heading(reason),
            format!("{events} could not be matched to a visit."),
            "Pass our click ID with them as click_id.",
            custom,
        ),
    };
    let item = unmatched_item(viewer, span, leak);
    LeakItem {
        id: format!("event-{}", leak.reason),
        big: count(leak.conversions),
        small: String::new(),
        also: Vec::new(),
        counted: "no amount".to_owned(),
        heading: heading.to_owned(),
        text,
        fix: fix.to_owned(),
        button,
        rows: (item.rows.0, format!("Show the {events}")),
        ..item
    }
}

/// What happened, what to do, and the button for that.
fn advice(
    viewer: &Viewer,
    leak: &Leak,
    payments: &str,
) -> (String, String, (String, &'static str)) {
    let last = format!(
        "the latest {}, the first {}",
        viewer.times.ago(leak.last_at, viewer.now),
        viewer.times.ago(leak.first_at, viewer.now)
    );
    let setup = (viewer.link("/setup").to_string(), "Check the setup");
    let copy = (viewer.link("/settings").to_string(), "Copy the tag");
    let ending = (viewer.link("/settings").to_string(), "Copy the link parameter");
    match leak.reason {
        UnmatchedReason::PlaceholderNotReplaced => (
            format!("{payments} arrived with --CLICK-ID-- not replaced: {last}. The tag is missing on the page, or something blocked it.{}", bought(leak)),
            "Check the pages that show this link. If the tag is there, serve it from your own domain, which fewer blockers stop.".to_owned(),
            copy,
        ),
        UnmatchedReason::NoReference => (
            format!("{payments} came through links without client_reference_id: {last}. So no click ID reached Stripe.{}", bought(leak)),
            "Add ?client_reference_id=--CLICK-ID-- to the end of these links on your pages.".to_owned(),
            ending,
        ),
        UnmatchedReason::ForeignReference => (
            format!("{payments} arrived with {}, which isn’t a Clickstamp click ID. Another tool, such as an affiliate program, uses the same field.", references(leak)),
            "Let the other tool use Stripe metadata, or put our click ID into the metadata under click_id.".to_owned(),
            setup,
        ),
        UnmatchedReason::UnknownClickId => (
            format!("The click IDs of {payments} are valid, but their visits were never received. A content security policy without connect-src can cause this."),
            "Allow the tag’s address in connect-src. If the visits arrive later, these payments are matched automatically.".to_owned(),
            setup,
        ),
        UnmatchedReason::ForgedClickId => (
            format!("{payments} had text that looks like a click ID but was never issued by Clickstamp: {}.", references(leak)),
            "Check the payments. Someone may have edited the URL, or a tool copied only part of it.".to_owned(),
            setup,
        ),
        UnmatchedReason::FirstPaymentNotSeen => (
            format!("{payments} belong to customers whose first payment was before Clickstamp."),
            "New customers are matched. Import earlier history with clickstamp backfill, or match a payment by hand on its page; its renewals follow.".to_owned(),
            setup,
        ),
        UnmatchedReason::NoObject => (
            format!("{payments} had no ID that could be matched to a visit."),
            "Have your server put the click ID into the payment’s metadata under click_id. You can match single payments by hand on their page.".to_owned(),
            setup,
        ),
    }
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

/// Lists the reasons that have no payments.
fn nothing_lost_to(leaks: &Leaks) -> String {
    let none = UnmatchedReason::ALL
        .iter()
        .copied()
        .filter(|reason| leaks.unmatched.iter().all(|leak| leak.reason != *reason));
    let none: Vec<&str> = none.map(words::reason).collect();
    if none.is_empty() {
        String::new()
    } else {
        format!("No payments with these reasons: {}.", none.join(", "))
    }
}

fn undelivered_item(viewer: &Viewer, snapshot: &Snapshot, line: &Undelivered) -> LeakItem {
    let name =
        snapshot.destination(&line.destination_id).map_or("A destination", |found| &found.name);
    let (big, small, also) = amounts(&line.money, viewer.site.currency);
    let messages = counted(line.deliveries, "message", "messages");
    let oldest = viewer.times.short(line.oldest_at, viewer.now).text;
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
    let list = viewer.link("/deliveries").with("state", line.state.as_str()).to_string();
    LeakItem {
        id: format!("{}-{}", line.state, line.destination_id),
        big,
        small,
        also,
        counted: messages.clone(),
        heading,
        code: line.state.to_string(),
        text,
        fix: fix.to_owned(),
        button: (
            list.clone(),
            if line.state == DeliveryState::GivenUp { "Resend" } else { "Show the deliveries" },
        ),
        rows: if line.state == DeliveryState::GivenUp {
            (list, format!("Show the {messages}"))
        } else {
            (String::new(), String::new())
        },
    }
}
