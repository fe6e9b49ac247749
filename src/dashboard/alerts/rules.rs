//! The rules of alerts. Takes their form; saves the rules and leads back to the page, or shows the form with an error
//! beside each field.

use axum::Form;
use axum::extract::State;
use axum::response::Response;

use super::{Draft, Sent, refuse, remember_base, see_done, text};
use crate::alert::{self, Rules};
use crate::dashboard::frame::Viewer;
use crate::error::AppError;
use crate::state::AppState;

/// Maximum threshold: the hours of a year.
const MAX_NUMBER: u32 = 10_000;

/// The form of the rules.
pub(super) struct RulesForm {
    pub(super) ticks: [(&'static str, &'static str, bool); 3],
    pub(super) numbers: Vec<NumberField>,
}

pub(super) struct NumberField {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) hint: &'static str,
    pub(super) value: String,
    pub(super) fault: Option<String>,
}

/// `POST /settings/alerts/rules`.
pub(in crate::dashboard) async fn save_rules(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<Sent>,
) -> Result<Response, AppError> {
    remember_base(&state, &viewer).await?;
    let mut faults = Vec::new();
    let mut number = |name: &'static str, most: u32| {
        let read = text(&sent, name).parse::<u32>().ok().filter(|number| *number <= most);
        if read.is_none() {
            faults.push((name, format!("Enter a whole number from 0 to {most}.")));
        }
        read.unwrap_or(0)
    };
    let rules = Rules {
        held: sent.contains_key("held"),
        given_up: sent.contains_key("given_up"),
        events_failed: sent.contains_key("events_failed"),
        slow_minutes: number("slow_minutes", MAX_NUMBER),
        expires_hours: number("expires_hours", MAX_NUMBER),
        refused_percent: number("refused_percent", 100),
        failing_percent: number("failing_percent", 100),
        silent_hours: number("silent_hours", MAX_NUMBER),
        unmatched_percent: number("unmatched_percent", 100),
        digest_minutes: number("digest_minutes", MAX_NUMBER),
        remind_hours: number("remind_hours", MAX_NUMBER),
        per_hour: number("per_hour", 1000),
    };
    if faults.is_empty() {
        alert::save_rules(&state.store, &rules).await?;
        return Ok(see_done(&viewer, "rules"));
    }
    refuse(&state, &viewer, Draft { rules: Some((sent, faults)), ..Draft::default() }).await
}

pub(super) fn rules_form(
    rules: &Rules,
    refused: Option<(Sent, Vec<(&'static str, String)>)>,
) -> RulesForm {
    let tick =
        |name: &str, on: bool| refused.as_ref().map_or(on, |(sent, _)| sent.contains_key(name));
    let field = |name: &'static str, value: u32, label: &'static str, hint: &'static str| {
        let entered = refused.as_ref().map(|(sent, _)| text(sent, name));
        let faults = refused.iter().flat_map(|(_, faults)| faults);
        NumberField {
            name,
            label,
            hint,
            value: entered.unwrap_or_else(|| value.to_string()),
            fault: faults.clone().find(|(of, _)| *of == name).map(|(_, fault)| fault.clone()),
        }
    };
    RulesForm {
        ticks: [
            (
                "held",
                "A destination stops accepting conversions, or recovers",
                tick("held", rules.held),
            ),
            ("given_up", "A delivery fails", tick("given_up", rules.given_up)),
            (
                "events_failed",
                "A Stripe event can’t be processed",
                tick("events_failed", rules.events_failed),
            ),
        ],
        numbers: vec![
            field("slow_minutes", rules.slow_minutes, "Oldest pending delivery (minutes)", ""),
            field(
                "expires_hours",
                rules.expires_hours,
                "Before a delivery expires (hours)",
                "For destinations with “Stop retrying after (days)”.",
            ),
            field(
                "refused_percent",
                rules.refused_percent,
                "Rejected attempts (% of a destination’s last 50)",
                "After at least 20 attempts.",
            ),
            field(
                "failing_percent",
                rules.failing_percent,
                "Failed attempts, for any reason (% of a destination’s last 50)",
                "",
            ),
            field(
                "silent_hours",
                rules.silent_hours,
                "Without a Stripe event (hours)",
                "Only if that is also three times your usual gap.",
            ),
            field(
                "unmatched_percent",
                rules.unmatched_percent,
                "Unmatched revenue (% of a day)",
                "Only if that is also twice as much as in the week before.",
            ),
            field(
                "digest_minutes",
                rules.digest_minutes,
                "Group alerts with the same reason (minutes)",
                "Deliveries that fail in this time are reported together.",
            ),
            field("remind_hours", rules.remind_hours, "Repeat after (hours)", ""),
            field(
                "per_hour",
                rules.per_hour,
                "Messages per recipient and hour",
                "Further messages wait, and are dropped if the problem is resolved first.",
            ),
        ],
    }
}
