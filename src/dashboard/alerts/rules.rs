//! The rules of alerts. Takes their form; saves the rules and leads back to the page, or shows the form with an error
//! beside each field. A rule is declared once here, and its default in `alert`.

use axum::extract::State;
use axum::response::Response;

use super::{Draft, refuse, remember_base, see_done};
use crate::alert::{self, Rules};
use crate::dashboard::form::FormData;
use crate::dashboard::frame::Viewer;
use crate::dashboard::views::Field;
use crate::error::AppError;
use crate::state::AppState;

/// Maximum threshold: the hours of a year.
const MAX_NUMBER: u32 = 10_000;

/// A rule with a box: name, label, where it is.
type Tick = (&'static str, &'static str, fn(&mut Rules) -> &mut bool);

const TICKS: [Tick; 3] = [
    ("held", "A destination stops accepting conversions, or recovers", |rules| &mut rules.held),
    ("given_up", "A delivery fails", |rules| &mut rules.given_up),
    ("events_failed", "A Stripe event can’t be processed", |rules| &mut rules.events_failed),
];

/// A rule with a threshold: name, label, hint, maximum, where it is.
type Number = (&'static str, &'static str, &'static str, u32, fn(&mut Rules) -> &mut u32);

const NUMBERS: [Number; 10] = [
    ("slow_minutes", "Oldest pending delivery (minutes)", "", MAX_NUMBER, |rules| {
        &mut rules.slow_minutes
    }),
    (
        "expires_hours",
        "Before a delivery expires (hours)",
        "For destinations with “Stop retrying after (days)”.",
        MAX_NUMBER,
        |rules| &mut rules.expires_hours,
    ),
    (
        "refused_percent",
        "Rejected attempts (% of a destination’s last 50)",
        "After at least 20 attempts.",
        100,
        |rules| &mut rules.refused_percent,
    ),
    (
        "failing_percent",
        "Failed attempts, for any reason (% of a destination’s last 50)",
        "",
        100,
        |rules| &mut rules.failing_percent,
    ),
    (
        "silent_hours",
        "Without a Stripe event (hours)",
        "Only if that is also three times your usual gap.",
        MAX_NUMBER,
        |rules| &mut rules.silent_hours,
    ),
    (
        "unmatched_percent",
        "Unmatched revenue (% of a day)",
        "Only if that is also twice as much as in the week before.",
        100,
        |rules| &mut rules.unmatched_percent,
    ),
    (
        "shared_customers",
        "Customers who paid with the same click ID",
        "Within 30 days. Renewals don’t count, and one email address or Stripe customer is one customer.",
        1000,
        |rules| &mut rules.shared_customers,
    ),
    (
        "digest_minutes",
        "Group alerts with the same reason (minutes)",
        "Deliveries that fail in this time are reported together.",
        MAX_NUMBER,
        |rules| &mut rules.digest_minutes,
    ),
    ("remind_hours", "Repeat after (hours)", "", MAX_NUMBER, |rules| &mut rules.remind_hours),
    (
        "per_hour",
        "Messages per recipient and hour",
        "Further messages wait, and are dropped if the problem is resolved first.",
        1000,
        |rules| &mut rules.per_hour,
    ),
];

/// The form of the rules.
pub(super) struct RulesForm {
    pub(super) ticks: Vec<(&'static str, &'static str, bool)>,
    /// Name, label, hint, field.
    pub(super) numbers: Vec<(&'static str, &'static str, &'static str, Field)>,
}

pub(super) fn rules_form(mut rules: Rules, form: &FormData) -> RulesForm {
    let ticks = TICKS.map(|(name, label, at)| (name, label, form.tick(name, *at(&mut rules))));
    let numbers = NUMBERS.map(|(name, label, hint, _, at)| {
        (name, label, hint, form.field(name, at(&mut rules).to_string()))
    });
    RulesForm { ticks: ticks.into(), numbers: numbers.into() }
}

/// `POST /settings/alerts/rules`.
pub(in crate::dashboard) async fn save_rules(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let mut rules = Rules::default();
    for (name, _, at) in TICKS {
        *at(&mut rules) = form.is_on(name);
    }
    for (name, _, _, most, at) in NUMBERS {
        let number = form.text(name).parse().ok().filter(|number| *number <= most);
        let number = number.ok_or_else(|| format!("Enter a whole number from 0 to {most}."));
        *at(&mut rules) = form.take(name, number);
    }
    if !form.is_right() {
        return refuse(&state, &viewer, Draft { rules: form, ..Draft::default() }).await;
    }
    alert::save_rules(&state.store, &rules).await?;
    Ok(see_done(&viewer, "rules"))
}
