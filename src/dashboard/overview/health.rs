//! The health strip of the overview. Takes the health report and the last reconciliations with Stripe; returns
//! short facts, each with a link. Pure.

use std::fmt;

use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::{count, counted};
use crate::report::{Comparison, Health};
use crate::stripe::reconcile::{Kind, NotCompared, Part, Reconciled};

/// One fact of the strip.
pub(super) struct Sign {
    pub(super) href: String,
    /// CSS class: shape and color of its dot.
    pub(super) class: &'static str,
    pub(super) fact: String,
    pub(super) hint: String,
}

/// A page with paid traffic has visits every few minutes, so a day without one is shown as a warning.
const QUIET_AFTER_SECONDS: u64 = 86_400;

/// All facts. There is one reconciliation per Stripe account that has an API key. `read_again` is the number of older
/// visits that have been read again so far, while that goes on.
pub(super) fn signs(
    viewer: &Viewer,
    health: &Health,
    comparisons: &[(String, Comparison)],
    read_again: Option<i64>,
) -> Vec<Sign> {
    let mut signs = vec![
        tag(viewer, health),
        stripe(viewer, health),
        deliveries(viewer, health),
        events(viewer, health),
    ];
    signs.extend((health.events_held > 0).then(|| held(viewer, health.events_held)));
    signs.extend(read_again.map(|visits| renaming(viewer, visits)));
    let has_several = comparisons.len() > 1;
    signs.extend(comparisons.iter().map(|(source, found)| {
        let sign = reconciliation(viewer, found);
        match has_several {
            true => Sign { fact: format!("{source}: {}", sign.fact), ..sign },
            false => sign,
        }
    }));
    signs
}

fn sign(href: impl fmt::Display, class: &'static str, fact: String, hint: &str) -> Sign {
    Sign { href: href.to_string(), class, fact, hint: hint.to_owned() }
}

fn reconciliation(viewer: &Viewer, found: &Comparison) -> Sign {
    let href = viewer.link("/settings/sources");
    let result = found.result.as_deref();
    let result = result.and_then(|text| serde_json::from_str::<Reconciled>(text).ok());
    let checked = found.checked_at.map(|at| viewer.times.ago(at, viewer.now)).unwrap_or_default();
    let Some(result) = result.filter(|_| found.error.is_none()) else {
        let fact = "Not compared with Stripe".to_owned();
        return sign(href, "bad", fact, "the Stripe API request failed; see why");
    };
    if result.gap > 0 {
        let gap = i64::try_from(result.gap).unwrap_or(i64::MAX);
        let fact = format!("{} from Stripe’s records", counted(gap, "difference", "differences"));
        return sign(href, "bad", fact, &format!("compared {checked}"));
    }
    let payments = result.totals.iter().filter(|sums| sums.kind == Kind::Payment);
    let paid: u64 = payments.map(|sums| sums.here_count).sum();
    let paid = counted(i64::try_from(paid).unwrap_or(i64::MAX), "payment", "payments");
    let is_whole = |it: &NotCompared| it.count.is_none() && it.what != Part::PaymentIntents;
    let partly = if result.not_compared.iter().any(is_whole) { "partly " } else { "" };
    let hint = format!("{paid}, no differences, {partly}compared {checked}");
    sign(href, "ok", "Matches Stripe’s records".to_owned(), &hint)
}

fn tag(viewer: &Viewer, health: &Health) -> Sign {
    let setup = viewer.link("/setup");
    match (health.last_visit_at, &health.unknown_host) {
        (Some(at), _) => {
            let is_quiet = viewer.now.since(at).as_secs() > QUIET_AFTER_SECONDS;
            let (class, hint) = match is_quiet {
                true => ("wait", "no visits for more than a day"),
                false => ("ok", "visits are recorded"),
            };
            let fact = format!("Tag seen {}", viewer.times.ago(at, viewer.now));
            sign(viewer.link("/visits"), class, fact, hint)
        }
        (None, Some(host)) => {
            let hint = "not counted: the host isn’t one of this site’s";
            sign(format!("{setup}#hosts"), "wait", format!("Tag seen on {host}"), hint)
        }
        (None, None) => sign(setup, "", "Tag not seen yet".to_owned(), "setup step 2"),
    }
}

fn stripe(viewer: &Viewer, health: &Health) -> Sign {
    let mode = if viewer.is_test { "test mode" } else { "live mode" };
    let Some(at) = health.last_event_at else {
        let hint = format!("{mode}, setup step 4");
        return sign(viewer.link("/setup"), "", "No Stripe event yet".to_owned(), &hint);
    };
    let fact = format!("Last Stripe event {}", viewer.times.ago(at, viewer.now));
    sign(viewer.link("/events"), "ok", fact, mode)
}

fn deliveries(viewer: &Viewer, health: &Health) -> Sign {
    let (pending, failed) = (health.deliveries_pending, health.deliveries_given_up);
    if health.last_event_at.is_none() && pending + failed + health.deliveries_held == 0 {
        let fact = "Nothing to deliver".to_owned();
        return sign(viewer.link("/setup"), "", fact, "setup step 5");
    }
    let (class, fact) = match (pending, failed) {
        (0, 0) => ("ok", "No pending deliveries".to_owned()),
        (pending, 0) => ("wait", counted(pending, "pending delivery", "pending deliveries")),
        (0, failed) => ("bad", counted(failed, "failed delivery", "failed deliveries")),
        (pending, failed) => {
            let pending = counted(pending, "delivery", "deliveries");
            ("bad", format!("{pending} pending, {failed} failed"))
        }
    };
    let hint = match (health.oldest_pending_at, health.deliveries_held) {
        (Some(at), _) => format!("the oldest is from {}", viewer.minute(at).text),
        (None, held) if held > 0 => format!("{held} paused: a destination is disabled"),
        (None, _) if failed > 0 => "fix the problem, then resend".to_owned(),
        (None, _) => "every message was accepted or intentionally skipped".to_owned(),
    };
    sign(viewer.link("/deliveries"), class, fact, &hint)
}

fn held(viewer: &Viewer, held: i64) -> Sign {
    let fact = format!("{} on hold", counted(held, "event", "events"));
    let hint = "wrong mode or account for the webhook; accept or ignore them";
    sign(viewer.link("/events").with("state", "held"), "bad", fact, hint)
}

fn renaming(viewer: &Viewer, visits: i64) -> Sign {
    let fact = format!("Reading older visits again: {} so far", count(visits));
    sign(viewer.link("/visits"), "wait", fact, "so that every source has one name in all reports")
}

fn events(viewer: &Viewer, health: &Health) -> Sign {
    let (waiting, failed) = (health.events_waiting, health.events_failed);
    let (class, fact, hint) = if failed > 0 {
        let fact = counted(failed, "event failed", "events failed");
        ("bad", fact, "stored; process again with one click")
    } else if waiting > 0 {
        ("wait", counted(waiting, "event queued", "events queued"), "processed within seconds")
    } else if health.last_event_at.is_none() {
        ("", "No events to process".to_owned(), "Stripe events are stored as received")
    } else {
        ("ok", "All events processed".to_owned(), "live and test, stored as received")
    };
    sign(viewer.link("/events"), class, fact, hint)
}
