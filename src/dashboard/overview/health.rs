//! The health strip of the overview. Takes the health report and the last reconciliations with Stripe; returns
//! short facts, each with a link. Pure.

use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::counted;
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

/// All facts. There is one reconciliation per Stripe account that has an API key.
pub(super) fn signs(
    viewer: &Viewer,
    health: &Health,
    comparisons: &[(String, Comparison)],
) -> Vec<Sign> {
    let mut signs = vec![
        tag(viewer, health),
        stripe(viewer, health),
        deliveries(viewer, health),
        events(viewer, health),
    ];
    signs.extend((health.events_held > 0).then(|| held(viewer, health.events_held)));
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

fn reconciliation(viewer: &Viewer, found: &Comparison) -> Sign {
    let href = viewer.link("/settings/sources").to_string();
    let result = found.result.as_deref();
    let result = result.and_then(|text| serde_json::from_str::<Reconciled>(text).ok());
    let checked = found.checked_at.map(|at| viewer.times.ago(at, viewer.now)).unwrap_or_default();
    match (result, &found.error) {
        (_, Some(_)) | (None, None) => Sign {
            href,
            class: "bad",
            fact: "Not compared with Stripe".to_owned(),
            hint: "the Stripe API request failed; see why".to_owned(),
        },
        (Some(result), None) if result.gap > 0 => {
            let gap = i64::try_from(result.gap).unwrap_or(i64::MAX);
            let gap = counted(gap, "difference", "differences");
            let fact = format!("{gap} from Stripe’s records");
            Sign { href, class: "bad", fact, hint: format!("compared {checked}") }
        }
        (Some(result), None) => {
            let payments = result.totals.iter().filter(|sums| sums.kind == Kind::Payment);
            let paid: u64 = payments.map(|sums| sums.here_count).sum();
            let paid = counted(i64::try_from(paid).unwrap_or(i64::MAX), "payment", "payments");
            let fact = "Matches Stripe’s records".to_owned();
            let is_whole = |it: &NotCompared| it.count.is_none() && it.what != Part::PaymentIntents;
            let partly = if result.not_compared.iter().any(is_whole) { "partly " } else { "" };
            let hint = format!("{paid}, no differences, {partly}compared {checked}");
            Sign { href, class: "ok", fact, hint }
        }
    }
}

fn tag(viewer: &Viewer, health: &Health) -> Sign {
    let Some(at) = health.last_visit_at else {
        if let Some(host) = &health.unknown_host {
            return Sign {
                href: format!("{}#hosts", viewer.link("/setup")),
                class: "wait",
                fact: format!("Tag seen on {host}"),
                hint: "not counted: the host isn’t one of this site’s".to_owned(),
            };
        }
        return Sign {
            href: viewer.link("/setup").to_string(),
            class: "",
            fact: "Tag not seen yet".to_owned(),
            hint: "setup step 2".to_owned(),
        };
    };
    let is_quiet = viewer.now.since(at).as_secs() > QUIET_AFTER_SECONDS;
    Sign {
        href: viewer.link("/visits").to_string(),
        class: if is_quiet { "wait" } else { "ok" },
        fact: format!("Tag seen {}", viewer.times.ago(at, viewer.now)),
        hint: if is_quiet { "no visits for more than a day" } else { "visits are recorded" }
            .to_owned(),
    }
}

fn stripe(viewer: &Viewer, health: &Health) -> Sign {
    let mode = if viewer.is_test { "test mode" } else { "live mode" };
    match health.last_event_at {
        Some(at) => Sign {
            href: viewer.link("/events").to_string(),
            class: "ok",
            fact: format!("Last Stripe event {}", viewer.times.ago(at, viewer.now)),
            hint: mode.to_owned(),
        },
        None => Sign {
            href: viewer.link("/setup").to_string(),
            class: "",
            fact: "No Stripe event yet".to_owned(),
            hint: format!("{mode}, setup step 4"),
        },
    }
}

fn deliveries(viewer: &Viewer, health: &Health) -> Sign {
    let (pending, failed) = (health.deliveries_pending, health.deliveries_given_up);
    if health.last_event_at.is_none() && pending + failed + health.deliveries_held == 0 {
        return Sign {
            href: viewer.link("/setup").to_string(),
            class: "",
            fact: "Nothing to deliver".to_owned(),
            hint: "setup step 5".to_owned(),
        };
    }
    let fact = match (pending, failed) {
        (0, 0) => "No pending deliveries".to_owned(),
        (pending, 0) => counted(pending, "pending delivery", "pending deliveries"),
        (0, failed) => counted(failed, "failed delivery", "failed deliveries"),
        (pending, failed) => {
            let pending = counted(pending, "delivery", "deliveries");
            format!("{pending} pending, {failed} failed")
        }
    };
    let hint = match (health.oldest_pending_at, health.deliveries_held) {
        (Some(at), _) => format!("the oldest is from {}", viewer.times.short(at, viewer.now).text),
        (None, held) if held > 0 => format!("{held} paused: a destination is disabled"),
        (None, _) if failed > 0 => "fix the problem, then resend".to_owned(),
        (None, _) => "every message was accepted or intentionally skipped".to_owned(),
    };
    Sign {
        href: viewer.link("/deliveries").to_string(),
        class: match (pending, failed) {
            (_, 1..) => "bad",
            (1.., _) => "wait",
            _ => "ok",
        },
        fact,
        hint,
    }
}

fn held(viewer: &Viewer, held: i64) -> Sign {
    Sign {
        href: viewer.link("/events").with("state", "held").to_string(),
        class: "bad",
        fact: format!("{} on hold", counted(held, "event", "events")),
        hint: "wrong mode or account for the webhook; accept or ignore them".to_owned(),
    }
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
    Sign { href: viewer.link("/events").to_string(), class, fact, hint: hint.to_owned() }
}
