//! The visitor's way and the match, told.
//! In: touches with their visits, the answer of the join. Out: steps, and the story in one sentence. Pure.

use serde_json::Value;

use super::{Fact, Step, later, timed};
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::count;
use crate::dashboard::views::times::distance;
use crate::dashboard::views::words;
use crate::domain::{MatchRule, MatchState, UnmatchedReason};
use crate::report::{Conversion, ConversionRow, Touch, TouchVisit, Visit, VisitRow};

/// A piece of the story; what matters is bold.
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

/// The touches, then the visit that carried the click ID.
pub(super) fn steps(viewer: &Viewer, found: &Conversion, visit: Option<&Visit>) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut before = None;
    let last = found.way.len().saturating_sub(1);
    for (at, touched) in found.way.iter().enumerate() {
        let kind = match at {
            _ if last == 0 => "The only touch".to_owned(),
            0 => "First touch".to_owned(),
            at if at == last => "Last touch".to_owned(),
            at => format!("Touch {}", at + 1),
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

fn touch_step(viewer: &Viewer, touched: &TouchVisit, kind: String) -> Step {
    let touch = &touched.touch;
    let details = details(touched.visit.as_ref());
    let mut facts = Vec::new();
    if let Some(campaign) = &touch.campaign {
        facts.push(Fact::text("Campaign", campaign.clone()));
    }
    facts.extend(said("Search term", &details["term"]));
    facts.extend(said("Ad", &details["content"]));
    for name in names(&details["ad_click_ids"]) {
        facts.push(Fact::text("Ad click ID", format!("{name}, kept")));
    }
    let browser = details["browser"].as_str().filter(|browser| !browser.is_empty());
    let device = words::channel(&touch.device);
    let device = browser.map_or(device.clone(), |browser| format!("{device}, {browser}"));
    facts.push(Fact::text("Device", device));
    facts.push(Fact::code("Click ID", touch.click_id.clone()));
    Step { kind, heading: clicked(touch), facts, ..timed(viewer, touch.at) }
}

fn visit_step(viewer: &Viewer, recorded: &VisitRow, visit: Option<&Visit>) -> Step {
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
            "Only the request for the tag’s script told of it; the page’s own report never arrived. Most likely the \
             page’s Content-Security-Policy or a blocker stopped it. The payment links carried the click ID all the same, but \
             the visitor’s way before this visit is missing. Add {} to connect-src in the page’s Content-Security-Policy.",
            origin(&viewer.client.base)
        )
    } else if again > 1 {
        let visits = count(i64::try_from(again).unwrap_or(i64::MAX));
        format!(
            "This click ID has {visits} visits. Every payment link on the page carried it to Stripe."
        )
    } else {
        "From here on, every payment link on the page carried this click ID to Stripe.".to_owned()
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

/// Scheme and host of our address, as a policy names them.
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
        ("email", _) => format!("Opened your e-mail{named}"),
        ("affiliate", Some(source)) => format!("Came through the partner {source}"),
        ("search", Some(source)) => format!("Found you with {source}"),
        ("direct", _) => "Came directly".to_owned(),
        (_, Some(source)) => format!("Came from {source}{named}"),
        (_, None) => format!("Came from somewhere{named}"),
    };
    match &touch.landing_path {
        Some(path) => format!("{came} and landed on {path}"),
        None => came,
    }
}

/// `a Google ad`, `your e-mail`, `Google`.
fn through(touch: &Touch) -> String {
    let source = touch.source.as_deref().map(words::channel);
    match (touch.channel.as_str(), source) {
        ("paid search" | "paid social" | "paid", Some(source)) => {
            let article = if source.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
            format!("{article} {source} ad")
        }
        ("paid search" | "paid social" | "paid", None) => "an ad".to_owned(),
        ("email", _) => "your e-mail".to_owned(),
        ("search", Some(source)) => format!("{source} search"),
        ("direct", _) => "your address itself".to_owned(),
        (_, Some(source)) => source,
        (_, None) => "a link".to_owned(),
    }
}

/// The way in one or two sentences.
pub(super) fn story(viewer: &Viewer, row: &ConversionRow) -> Vec<Phrase> {
    let Some((last, before)) = row.touches.split_last() else {
        return vec![plain("No visit is known for this payment, so no ad gets the credit.")];
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
        " on {}. {} touches; {} from the first one to the payment.",
        day(last),
        row.touches.len(),
        distance(row.occurred_at.since(first.at)),
    )));
    story
}

/// How it was matched, or why not and what to do.
pub(super) fn match_step(viewer: &Viewer, row: &ConversionRow, visit: Option<&Visit>) -> Step {
    if row.match_state == MatchState::Unmatched {
        return unmatched_step(viewer, row);
    }
    let (heading, text) = match row.match_by {
        Some(MatchRule::Manual) => (
            "Matched by hand",
            "Somebody said that it came from the visit above; below stands who, and it can be taken back.",
        ),
        Some(MatchRule::ClickId) => (
            "Matched by click ID",
            "The click ID of the visit above came back. It is one of ours, its signature is right, and \
             that visit is recorded. No guess was needed.",
        ),
        Some(MatchRule::AnytrackClickId) => (
            "Matched by AnyTrack’s click ID",
            "A click ID of AnyTrack came back. It was seen on the page during the visit above.",
        ),
        Some(MatchRule::Metadata) => (
            "Matched by metadata",
            "The payment’s metadata in Stripe held the click ID of the visit above.",
        ),
        Some(MatchRule::StripeObject) if came_back(row, visit) => (
            "Matched by your thank-you page",
            "The payment carried no click ID of ours, but the buyer’s browser came back from this very checkout to a page with the \
             tag, and it is the browser of the visit above.",
        ),
        Some(MatchRule::StripeObject) => (
            "Matched by an earlier payment",
            "It belongs to the same customer or subscription as an earlier payment, which came from the visit above.",
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

/// True when a visit of this browser names the payment's checkout in its address.
fn came_back(row: &ConversionRow, visit: Option<&Visit>) -> bool {
    let visits = visit.map(|visit| visit.visits.as_slice()).unwrap_or_default();
    let names_it = |url: &str| url.contains(&format!("session_id={}", row.transaction_id));
    visits.iter().filter_map(|visit| visit.url.as_deref()).any(names_it)
}

fn unmatched_step(viewer: &Viewer, row: &ConversionRow) -> Step {
    let reason = row.match_reason.unwrap_or(UnmatchedReason::NoObject);
    let text = match reason {
        UnmatchedReason::PlaceholderNotReplaced => {
            "It came with --CLICK-ID-- unreplaced: the tag is missing on the page, or something blocked it. Check the page."
        }
        UnmatchedReason::NoReference => {
            "The payment link ends without client_reference_id, so nothing was carried to Stripe. Add \
             ?client_reference_id=--CLICK-ID-- to the link."
        }
        UnmatchedReason::ForeignReference => {
            "What came back is no click ID of ours. Another tool writes into the same place; let it use the metadata instead."
        }
        UnmatchedReason::UnknownClickId => {
            "The click ID is ours, but its visit has not arrived. If it still comes, this payment is matched by itself."
        }
        UnmatchedReason::ForgedClickId => {
            "What came back looks like a click ID, but we never made it."
        }
        UnmatchedReason::FirstPaymentNotSeen => {
            "It belongs to something that was bought before Clickstamp saw the first payment."
        }
        UnmatchedReason::NoObject => "It came without anything that could be joined to a visit.",
    };
    Step {
        kind: "Match".to_owned(),
        heading: format!("Not matched: {}", words::reason(reason)),
        text: text.to_owned(),
        facts: vec![Fact::code("Code", reason.to_string())],
        ..timed(viewer, row.recorded_at)
    }
}
