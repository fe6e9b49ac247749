//! The health strip: sentences, each a fact and a link.
//! In: signs of life, and the last comparisons with Stripe's books. Out: what the strip shows. Pure.

use crate::dashboard::frame::Viewer;
use crate::dashboard::views::numbers::counted;
use crate::report::{Comparison, Health};
use crate::stripe::reconcile::{Kind, NotCompared, Part, Reconciled};

/// One sentence.
pub(super) struct Sign {
    pub(super) href: String,
    /// Shape of its dot.
    pub(super) class: &'static str,
    pub(super) fact: String,
    pub(super) hint: String,
}

/// Visits come by the minute on a page that is paid for; a day of silence deserves a look.
const QUIET_AFTER_SECONDS: u64 = 86_400;

/// The sentences; the last ones only where there is a key to compare with, one for each source that has one.
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
        let sign = books(viewer, found);
        match has_several {
            true => Sign { fact: format!("{source}: {}", sign.fact), ..sign },
            false => sign,
        }
    }));
    signs
}

fn books(viewer: &Viewer, found: &Comparison) -> Sign {
    let href = viewer.link("/settings/sources").to_string();
    let result = found.result.as_deref();
    let result = result.and_then(|text| serde_json::from_str::<Reconciled>(text).ok());
    let checked = found.checked_at.map(|at| viewer.times.ago(at, viewer.now)).unwrap_or_default();
    match (result, &found.error) {
        (_, Some(_)) | (None, None) => Sign {
            href,
            class: "bad",
            fact: "Not compared with Stripe".to_owned(),
            hint: "its API gave no answer; see why".to_owned(),
        },
        (Some(books), None) if books.gap > 0 => {
            let gap = i64::try_from(books.gap).unwrap_or(i64::MAX);
            let gap = counted(gap, "difference", "differences");
            let fact = format!("{gap} from Stripe’s records");
            Sign { href, class: "bad", fact, hint: format!("compared {checked}") }
        }
        (Some(books), None) => {
            let payments = books.totals.iter().filter(|sums| sums.kind == Kind::Payment);
            let paid: u64 = payments.map(|sums| sums.here_count).sum();
            let paid = counted(i64::try_from(paid).unwrap_or(i64::MAX), "payment", "payments");
            let fact = "Stripe’s records agree".to_owned();
            let is_whole = |it: &NotCompared| it.count.is_none() && it.what != Part::PaymentIntents;
            let partly = if books.not_compared.iter().any(is_whole) { "partly " } else { "" };
            let hint = format!("{paid}, gap 0, {partly}compared {checked}");
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
                hint: "not counted: it is none of the site’s hosts".to_owned(),
            };
        }
        return Sign {
            href: viewer.link("/setup").to_string(),
            class: "",
            fact: "Tag not seen yet".to_owned(),
            hint: "step 2 of the setup".to_owned(),
        };
    };
    let is_quiet = viewer.now.since(at).as_secs() > QUIET_AFTER_SECONDS;
    Sign {
        href: viewer.link("/visits").to_string(),
        class: if is_quiet { "wait" } else { "ok" },
        fact: format!("Tag seen {}", viewer.times.ago(at, viewer.now)),
        hint: if is_quiet { "no visit for more than a day" } else { "it reports visits" }
            .to_owned(),
    }
}

fn stripe(viewer: &Viewer, health: &Health) -> Sign {
    let mode = if viewer.is_test { "test mode" } else { "live mode" };
    match health.last_event_at {
        Some(at) => Sign {
            href: viewer.link("/events").to_string(),
            class: "ok",
            fact: format!("Stripe heard {}", viewer.times.ago(at, viewer.now)),
            hint: mode.to_owned(),
        },
        None => Sign {
            href: viewer.link("/setup").to_string(),
            class: "",
            fact: "Stripe not heard yet".to_owned(),
            hint: format!("{mode}, step 4 of the setup"),
        },
    }
}

fn deliveries(viewer: &Viewer, health: &Health) -> Sign {
    let (owed, given_up) = (health.deliveries_owed, health.deliveries_given_up);
    if health.last_event_at.is_none() && owed + given_up + health.deliveries_held == 0 {
        return Sign {
            href: viewer.link("/setup").to_string(),
            class: "",
            fact: "Nothing to deliver".to_owned(),
            hint: "step 5 of the setup".to_owned(),
        };
    }
    let fact = match (owed, given_up) {
        (0, 0) => "No delivery owed".to_owned(),
        (owed, 0) => format!("{} owed", counted(owed, "delivery", "deliveries")),
        (0, given_up) => format!("{} given up", counted(given_up, "delivery", "deliveries")),
        (owed, given_up) => {
            format!("{} owed, {given_up} given up", counted(owed, "delivery", "deliveries"))
        }
    };
    let hint = match (health.oldest_owed_at, health.deliveries_held) {
        (Some(at), _) => format!("oldest waits since {}", viewer.times.short(at, viewer.now).text),
        (None, held) if held > 0 => format!("{held} held: a destination is switched off"),
        (None, _) if given_up > 0 => "nothing happens until you send again".to_owned(),
        (None, _) => "every message was accepted or not meant to go".to_owned(),
    };
    Sign {
        href: viewer.link("/deliveries").to_string(),
        class: match (owed, given_up) {
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
        hint: "sent to a webhook of another mode or account; accept or ignore".to_owned(),
    }
}

fn events(viewer: &Viewer, health: &Health) -> Sign {
    let (waiting, failed) = (health.events_waiting, health.events_failed);
    let (class, fact, hint) = if failed > 0 {
        let fact = format!("{} could not be read", counted(failed, "event", "events"));
        ("bad", fact, "kept, and readable again with one click")
    } else if waiting > 0 {
        ("wait", format!("{} waiting", counted(waiting, "event", "events")), "read within seconds")
    } else if health.last_event_at.is_none() {
        ("", "No event to read".to_owned(), "Stripe’s messages, kept as received")
    } else {
        ("ok", "Every event was read".to_owned(), "live and test, kept as received")
    };
    Sign { href: viewer.link("/events").to_string(), class, fact, hint: hint.to_owned() }
}
