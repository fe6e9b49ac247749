//! The touchpoints of a customer journey, and the match. Takes touchpoints with their visits and the result of the
//! match; returns steps and a summary of one or two sentences. Pure.

use serde_json::Value;

use super::{Fact, Step, later, timed};
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::count;
use crate::dashboard::views::times::distance;
use crate::dashboard::views::words;
use crate::domain::{MatchRule, MatchState, UnmatchedReason};
use crate::report::{Conversion, ConversionRow, Touch, TouchVisit, Visit, VisitRow};

/// A part of the summary; the important parts are bold.
pub(super) struct Phrase {
    pub(super) text: String,
    pub(super) is_bold: bool,
}

fn plain(text: impl Into<String>) -> Phrase {
    Phrase { text: text.into(), is_bold: false }
}

fn bold(text: impl Into<String>) -> Phrase {
    Phrase { text: text.into(), is_bold: true }
}

/// The touchpoints, then the visit whose click ID reached Stripe.
pub(super) fn steps(
    viewer: &Viewer,
    found: &Conversion,
    visit: Option<&Visit>,
) -> Vec<Step<'static>> {
    let mut steps = Vec::new();
    let mut before = None;
    let last = found.way.len().saturating_sub(1);
    for (at, touched) in found.way.iter().enumerate() {
        let kind = match at {
            _ if last == 0 => "Only touchpoint".to_owned(),
            0 => "First touch".to_owned(),
            at if at == last => "Last touch".to_owned(),
            at => format!("Touchpoint {}", at + 1),
        };
        let kind = format!("{kind}{}", later(before, touched.touch.at));
        steps.push(touch_step(viewer, touched, kind));
        before = Some(touched.touch.at);
    }
    if let Some(recorded) = found.way.last().and_then(|touched| touched.visit.as_ref()) {
        steps.push(visit_step(viewer, recorded, visit));
    }
    steps
}

fn touch_step(viewer: &Viewer, touched: &TouchVisit, kind: String) -> Step<'static> {
    let touch = &touched.touch;
    let details = details(touched.visit.as_ref());
    let mut facts = Vec::new();
    if let Some(campaign) = &touch.campaign {
        facts.push(Fact::text("Campaign", campaign.clone()));
    }
    facts.extend(said("Search term", &details["term"]));
    facts.extend(said("Ad", &details["content"]));
    for name in names(&details["ad_click_ids"]) {
        facts.push(Fact::text("Ad click ID", format!("{name}, stored")));
    }
    let browser = details["browser"].as_str().filter(|browser| !browser.is_empty());
    let device = words::channel(&touch.device);
    let device = browser.map_or(device.clone(), |browser| format!("{device}, {browser}"));
    facts.push(Fact::text("Device", device));
    facts.push(Fact::code("Click ID", touch.click_id.clone()));
    Step { kind, heading: clicked(touch), facts, ..timed(viewer, touch.at) }
}

fn visit_step(viewer: &Viewer, recorded: &VisitRow, visit: Option<&Visit>) -> Step<'static> {
    let details = details(Some(recorded));
    let host = recorded.landing_host.clone().unwrap_or_default();
    let path = recorded.landing_path.clone().unwrap_or_default();
    let mut facts = vec![Fact::text("Page", format!("{host}{path}"))];
    if let Some(referrer) = &recorded.referrer {
        facts.push(Fact::text("From", referrer.clone()));
    }
    let tag = match details["tag_host"].as_str() {
        Some("same-origin") => "same address as your page: remembers visitors longest",
        Some("same-site") => "same domain as your page",
        Some("cross-site") => "another domain than your page: browsers forget visitors sooner",
        _ => "",
    };
    if !tag.is_empty() {
        facts.push(Fact::text("Tag", tag));
    }
    for id in visit.map(|visit| visit.anytrack_click_ids.as_slice()).unwrap_or_default() {
        facts.push(Fact::code("AnyTrack", id.clone()));
    }
    let again = visit.map_or(0, |visit| visit.visits.len());
    let text = if recorded.is_unreported {
        format!(
            "The tag was loaded, but its report never arrived. A Content-Security-Policy or a blocker probably stopped it. \
             The payment links still carried the click ID, but earlier visits are missing from the journey. \
             Add {} to connect-src in the page’s Content-Security-Policy.",
            origin(&viewer.client.base)
        )
    } else if recorded.is_cookieless {
        "Recorded without a cookie: only visits of the same day are joined, so earlier ones are missing from the journey."
            .to_owned()
    } else if again > 1 {
        let visits = count(i64::try_from(again).unwrap_or(i64::MAX));
        format!(
            "This click ID has {visits} visits. The payment links on the page carried it to Stripe."
        )
    } else {
        "From then on, the payment links on the page carried this click ID to Stripe.".to_owned()
    };
    let heading = match recorded.is_unreported {
        true => "The visit was not reported",
        false => "The visit was recorded",
    };
    Step {
        kind: "Visit".to_owned(),
        heading: heading.to_owned(),
        text,
        facts,
        ..timed(viewer, recorded.received_at)
    }
}

/// Scheme and host of this server's URL, for the policy.
fn origin(base: &str) -> String {
    url::Url::parse(base).map_or_else(|_| base.to_owned(), |url| url.origin().ascii_serialization())
}

fn details(visit: Option<&VisitRow>) -> Value {
    visit.and_then(|visit| serde_json::from_str(&visit.details).ok()).unwrap_or_default()
}

fn said(name: &'static str, value: &Value) -> Option<Fact> {
    value.as_str().map(|text| Fact::text(name, text))
}

fn names(object: &Value) -> Vec<String> {
    object.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

/// `Clicked the Google ad “black-friday” and landed on /watercolor`.
fn clicked(touch: &Touch) -> String {
    let source = touch.source.as_deref().map(words::channel);
    let named =
        touch.campaign.as_ref().map_or_else(String::new, |campaign| format!(" “{campaign}”"));
    let came = match (touch.channel.as_str(), source) {
        ("paid search" | "paid social" | "paid", Some(source)) => {
            format!("Clicked the {source} ad{named}")
        }
        ("paid search" | "paid social" | "paid", None) => format!("Clicked the ad{named}"),
        ("email", _) => format!("Opened your email{named}"),
        ("affiliate", Some(source)) => format!("Came through the affiliate {source}"),
        ("search", Some(source)) => format!("Found you with {source}"),
        ("direct", _) => "Came directly".to_owned(),
        (_, Some(source)) => format!("Came from {source}{named}"),
        (_, None) => format!("Came from an unknown source{named}"),
    };
    match &touch.landing_path {
        Some(path) => format!("{came} and landed on {path}"),
        None => came,
    }
}

/// `a Google ad`, `your email`, `Google search`.
fn through(touch: &Touch) -> String {
    let source = touch.source.as_deref().map(words::channel);
    match (touch.channel.as_str(), source) {
        ("paid search" | "paid social" | "paid", Some(source)) => {
            let article = if source.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
            format!("{article} {source} ad")
        }
        ("paid search" | "paid social" | "paid", None) => "an ad".to_owned(),
        ("email", _) => "your email".to_owned(),
        ("search", Some(source)) => format!("{source} search"),
        ("direct", _) => "a direct visit".to_owned(),
        (_, Some(source)) => source,
        (_, None) => "a link".to_owned(),
    }
}

/// The summary: one or two sentences.
pub(super) fn story(viewer: &Viewer, row: &ConversionRow) -> Vec<Phrase> {
    let Some((last, before)) = row.touches.split_last() else {
        return vec![plain("No visit is matched to this payment, so no ad gets the credit.")];
    };
    let day = |touch: &Touch| viewer.times.date(touch.at).strftime("%A").to_string();
    let Some(first) = before.first() else {
        return vec![
            plain("Came through "),
            bold(through(last)),
            plain(format!(" and bought {} later.", distance(row.occurred_at.since(last.at)))),
        ];
    };
    let mut story = Vec::new();
    for (at, touch) in before.iter().enumerate() {
        story.push(plain(if at == 0 { "Found you through " } else { ", came back through " }));
        story.push(bold(through(touch)));
        story.push(plain(format!(" on {}", day(touch))));
    }
    story.push(plain(", and bought after "));
    story.push(bold(through(last)));
    story.push(plain(format!(
        " on {}. {} touchpoints; {} from the first to the payment.",
        day(last),
        row.touches.len(),
        distance(row.occurred_at.since(first.at)),
    )));
    story
}

/// How the payment was matched, or why it was not and what to do.
pub(super) fn match_step(
    viewer: &Viewer,
    row: &ConversionRow,
    visit: Option<&Visit>,
) -> Step<'static> {
    if row.match_state == MatchState::Unmatched {
        return unmatched_step(viewer, row);
    }
    let (heading, text) = match row.match_by {
        Some(MatchRule::Manual) => (
            "Matched by hand",
            "A user matched it to the visit above. “Match by hand” below shows who, and can undo it.",
        ),
        Some(MatchRule::ClickId) => (
            "Matched by click ID",
            "Stripe returned the click ID of the visit above, and its signature is valid.",
        ),
        Some(MatchRule::AnytrackClickId) => (
            "Matched by AnyTrack’s click ID",
            "Stripe returned an AnyTrack click ID that was seen during the visit above.",
        ),
        Some(MatchRule::Metadata) => (
            "Matched by metadata",
            "The payment’s Stripe metadata contained the click ID of the visit above.",
        ),
        Some(MatchRule::StripeObject) if came_back(row, visit) => (
            "Matched by your thank-you page",
            "The payment had no click ID. But the browser of the visit above returned from this checkout to a page \
             with the tag.",
        ),
        Some(MatchRule::StripeObject) => (
            "Matched by an earlier payment",
            "An earlier payment of the same customer or subscription is matched to the visit above.",
        ),
        None => ("Matched", "It belongs to the visit above."),
    };
    Step {
        class: "ok",
        kind: "Match".to_owned(),
        heading: heading.to_owned(),
        text: text.to_owned(),
        ..timed(viewer, row.recorded_at)
    }
}

/// Whether a visit of this browser has the payment's checkout session in its URL.
fn came_back(row: &ConversionRow, visit: Option<&Visit>) -> bool {
    let visits = visit.map(|visit| visit.visits.as_slice()).unwrap_or_default();
    let names_it = |url: &str| url.contains(&format!("session_id={}", row.transaction_id));
    visits.iter().filter_map(|visit| visit.url.as_deref()).any(names_it)
}

fn unmatched_step(viewer: &Viewer, row: &ConversionRow) -> Step<'static> {
    let reason = row.match_reason.unwrap_or(UnmatchedReason::NoObject);
    let text = match reason {
        UnmatchedReason::PlaceholderNotReplaced => {
            "It arrived with --CLICK-ID-- not replaced: the tag is missing on the page, or something blocked it. Check the page."
        }
        UnmatchedReason::NoReference => {
            "The payment link has no client_reference_id, so no click ID reached Stripe. Add \
             ?client_reference_id=--CLICK-ID-- to the link."
        }
        UnmatchedReason::ForeignReference => {
            "The reference isn’t a Clickstamp click ID. Another tool uses the same field; let it use Stripe metadata instead."
        }
        UnmatchedReason::UnknownClickId => {
            "The click ID is valid, but its visit was never received. If it arrives later, this payment is matched automatically."
        }
        UnmatchedReason::ForgedClickId => {
            "The reference looks like a click ID, but Clickstamp never issued it."
        }
        UnmatchedReason::FirstPaymentNotSeen => {
            "It belongs to a customer or subscription whose first payment was before Clickstamp."
        }
        UnmatchedReason::NoObject => "The payment had no ID that could be matched to a visit.",
    };
    Step {
        kind: "Match".to_owned(),
        heading: format!("Not matched: {}", words::reason(reason)),
        text: text.to_owned(),
        facts: vec![Fact::code("Code", reason.to_string())],
        ..timed(viewer, row.recorded_at)
    }
}
