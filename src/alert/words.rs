//! The text of an alert for Slack, webhooks and email. Takes a problem, the deliveries and money concerned, and the
//! dashboard's URL; returns a headline and a body. The text says what happened, how much money and what to do, with a
//! link; it never contains a buyer's email address. Pure.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::choices::TargetKind;
use crate::clock::Timestamp;
use crate::destination::mapping::for_slack;
use crate::domain::{AlertKind, AlertPhase};
use crate::money::{Money, Totals};
use crate::report::Stakes;

/// Whether every new delivery or event is reported. Other problems are states; only reminders repeat
/// them.
pub(super) fn counts_news(kind: AlertKind) -> bool {
    matches!(kind, AlertKind::GivenUp | AlertKind::EventsFailed)
}

/// A problem that is seen now, or was.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) what: AlertKind,
    /// The destination's or the site's name; empty if it concerns neither.
    pub(super) name: String,
    /// Key of the destination, for webhook messages.
    pub(super) destination: Option<String>,
    pub(super) site: Option<String>,
    /// The reason, as stored: `refused`, …
    pub(super) reason: Option<String>,
    /// The destination's error, without our secrets.
    pub(super) error: Option<String>,
    /// Numbers for the text: `part` of `whole`.
    pub(super) part: i64,
    pub(super) whole: i64,
    pub(super) since: Timestamp,
    /// When the first delivery expires.
    pub(super) until: Option<Timestamp>,
    /// Path of the page to link to.
    pub(super) path: String,
}

/// One alert, for recipients of any kind.
pub(super) struct Alert<'a> {
    pub(super) incident_id: &'a str,
    pub(super) phase: AlertPhase,
    pub(super) now: Timestamp,
    pub(super) zone: &'a TimeZone,
    pub(super) base: &'a str,
    pub(super) problem: &'a Problem,
    pub(super) stakes: &'a Stakes,
}

impl Alert<'_> {
    /// One sentence: what happened and how much money.
    pub(super) fn headline(&self) -> String {
        let Problem { name, part, whole, .. } = self.problem;
        let deliveries = counted(self.stakes.deliveries, "delivery", "deliveries");
        let money = in_brackets(&self.stakes.money);
        if self.phase == AlertPhase::Resolved {
            return match self.problem.what {
                AlertKind::Held => format!("{name} accepts conversions again"),
                AlertKind::GivenUp => format!("{name}: no more failed deliveries"),
                AlertKind::Slow => format!("{name} receives deliveries on time again"),
                AlertKind::Expiring => format!("{name}: no delivery is about to expire"),
                AlertKind::Failing => format!("{name} accepts most attempts again"),
                AlertKind::EventsFailed => "No failed events left".to_owned(),
                AlertKind::Silent => format!("{name} receives Stripe events again"),
                AlertKind::Unmatched => format!("{name}: payments are matched as usual again"),
                AlertKind::SharedClickId => {
                    format!("{name}: no new payments with a click ID of several customers")
                }
            };
        }
        let still = if self.phase == AlertPhase::Reminder { "still " } else { "" };
        match self.problem.what {
            AlertKind::Held => {
                format!("{name} {still}accepts no conversions: {deliveries}{money} pending")
            }
            AlertKind::GivenUp => format!("{name}: {deliveries}{money} failed"),
            AlertKind::Slow => format!("{name} is {still}slow: {deliveries}{money} pending"),
            AlertKind::Expiring => {
                let verb = if self.stakes.deliveries == 1 { "expires" } else { "expire" };
                format!(
                    "{name}: {deliveries}{money} {verb} within {}",
                    counted(*whole, "hour", "hours")
                )
            }
            AlertKind::Failing => {
                format!(
                    "{name} is {still}failing: {part} of the last {whole} attempts were not accepted"
                )
            }
            AlertKind::EventsFailed => {
                let events = counted(*part, "event", "events");
                format!("{events} could not be processed")
            }
            AlertKind::Silent => format!("{name} {still}receives no Stripe events"),
            AlertKind::Unmatched => {
                format!("{name}: {part} of {whole} payments{money} of the last day have no visit")
            }
            AlertKind::SharedClickId => match whole {
                1 => format!("{name}: {part} customers {still}paid with the same click ID{money}"),
                _ => format!(
                    "{name}: {whole} click IDs are {still}shared by several customers{money}, one of them by {part}"
                ),
            },
        }
    }

    /// The reason, and what to do.
    fn sentences(&self) -> Vec<String> {
        let since = self.at(self.problem.since);
        let said = self.problem.error.as_deref().or(self.stakes.last_error.as_deref());
        let said = said.map(|said| format!("Last error: {}.", said.trim_end_matches('.')));
        let mut lines: Vec<String> = Vec::new();
        if self.phase == AlertPhase::Resolved {
            lines.push(format!("It began {since} and is resolved."));
            return lines;
        }
        match self.problem.what {
            AlertKind::Held => {
                lines.push(format!("Since {since}, Clickstamp only sends a probe from time to time. Nothing is lost: all deliveries are sent automatically once it recovers."));
                lines.extend(said);
                lines.push("If its URL or credentials have changed, update them.".to_owned());
            }
            AlertKind::GivenUp => {
                lines.push(match self.problem.reason.as_deref() {
                    Some("refused") => "The destination rejected them, so they aren’t retried automatically.".to_owned(),
                    Some("exhausted") => "All attempts in the retry schedule failed.".to_owned(),
                    Some("mapping_error") => "The message could not be built: an expression of the mapping fails for these conversions.".to_owned(),
                    Some("blocked_address") => "Its URL points to a private network, and nothing is sent there.".to_owned(),
                    Some("expired") => "They expired before they were accepted.".to_owned(),
                    _ => "They aren’t retried automatically.".to_owned(),
                });
                lines.extend(said);
                lines.push("Fix the problem, then resend them from the page below.".to_owned());
            }
            AlertKind::Slow => {
                lines.push(format!("The oldest is from {since}."));
                lines.extend(said);
                lines.push("They are still being sent. Check whether the destination responds slowly or its limits are too low.".to_owned());
            }
            AlertKind::Expiring => {
                let until = self.problem.until.map(|until| self.at(until));
                lines.extend(until.map(|until| {
                    format!("The first one expires {until} unless it is accepted by then.")
                }));
                lines.extend(said);
                lines.push(match self.problem.reason.as_deref() {
                    Some("held") => "It is disabled, so nothing is sent. Enable it in time.".to_owned(),
                    _ => "They are retried until then. Check why the destination doesn’t accept them. “Send now” on a delivery’s page removes the time limit.".to_owned(),
                });
            }
            AlertKind::Failing => {
                lines.extend(said);
                lines.push("Temporary errors are retried automatically. Rejected deliveries need your attention.".to_owned());
            }
            AlertKind::EventsFailed => {
                lines.push(format!("The newest arrived {since}. The events are stored: check the error, then process them again."));
                lines.extend(self.problem.error.iter().map(|error| format!("Error: {error}")));
            }
            AlertKind::Silent => {
                lines.push(format!("The last event arrived {since}, three times as long ago as usual. In Stripe, under Developers, Webhooks, check that the endpoint is enabled and which responses it got."));
            }
            AlertKind::Unmatched => {
                lines.push("That is more than twice as much as in the week before. You received this money, but your ads can’t learn from it. Check that the tag is on every page.".to_owned());
            }
            AlertKind::SharedClickId => {
                lines.push("A click ID belongs to one visitor, so these payments are credited to the wrong visit. Usually a page was saved or cached with the click ID already in its links, or a payment link was copied from the browser. Put the placeholder --CLICK-ID-- back into that link, or clear the cache.".to_owned());
            }
        }
        lines
    }

    fn link(&self) -> Option<String> {
        (!self.base.is_empty()).then(|| format!("{}{}", self.base, self.problem.path))
    }

    /// One line per conversion: transaction, amount and link to its customer journey.
    fn conversions(&self) -> Vec<String> {
        let line = |example: &crate::report::Example| {
            let money = example.amount.map(|amount| format!(", {}", shown(amount)));
            let link = (!self.base.is_empty())
                .then(|| format!(" {}/conversions/{}", self.base, example.conversion_id));
            let (money, link) = (money.unwrap_or_default(), link.unwrap_or_default());
            format!("- {}{money}{link}", example.transaction_id)
        };
        let mut lines: Vec<String> = self.stakes.examples.iter().map(line).collect();
        let named = i64::try_from(lines.len()).unwrap_or(i64::MAX);
        if self.phase == AlertPhase::Resolved {
            lines.clear();
        } else if self.stakes.deliveries > named && named > 0 {
            lines.push(format!("- and {} more", self.stakes.deliveries - named));
        }
        lines
    }

    /// The complete text.
    fn text(&self) -> String {
        let mut lines = vec![self.headline() + "."];
        lines.extend(self.sentences());
        lines.extend(self.conversions());
        lines.extend(self.link());
        lines.join("\n")
    }

    /// The message for a recipient of this kind.
    pub(super) fn body(&self, kind: TargetKind) -> String {
        match kind {
            TargetKind::Slack => json!({ "text": for_slack(&self.text()) }).to_string(),
            TargetKind::Email => {
                format!(
                    "{}\n\nClickstamp sent this because of the rules under Settings, Alerts.\n",
                    self.text()
                )
            }
            TargetKind::Webhook => self.for_programs().to_string(),
        }
    }

    fn for_programs(&self) -> Value {
        let money =
            |money: Money| json!({"amount": money.decimal(), "currency": money.currency.code()});
        let conversion = |example: &crate::report::Example| {
            let mut shown =
                json!({"id": example.conversion_id, "transaction_id": example.transaction_id});
            if let (Some(amount), Some(fields)) = (example.amount, shown.as_object_mut()) {
                fields.insert("amount".to_owned(), amount.decimal().into());
                fields.insert("currency".to_owned(), amount.currency.code().into());
            }
            shown
        };
        let oldest = self.stakes.oldest.as_ref();
        json!({
            "type": format!("alert.{}", self.phase),
            "timestamp": self.now.to_rfc3339(),
            "data": {
                "incident": self.incident_id,
                "what": self.problem.what,
                "headline": self.headline(),
                "text": self.text(),
                "destination": self.problem.destination,
                "site": self.problem.site,
                "reason": self.problem.reason,
                "since": self.problem.since.to_rfc3339(),
                "until": self.problem.until.map(|until| until.to_rfc3339()),
                "deliveries": self.stakes.deliveries,
                "money": self.stakes.money.iter().map(money).collect::<Vec<_>>(),
                "oldest": oldest.map(|(id, at)| json!({"delivery": id, "pending_since": at.to_rfc3339()})),
                "conversions": self.stakes.examples.iter().map(conversion).collect::<Vec<_>>(),
                "link": self.link(),
            },
        })
    }

    fn at(&self, at: Timestamp) -> String {
        at.in_zone(self.zone).strftime("%a %-d %b, %H:%M %Z").to_string()
    }
}

/// Headline and message of "Send a test alert".
pub(super) fn test(kind: TargetKind, now: Timestamp, base: &str) -> (String, String) {
    let headline = "This is a test alert from Clickstamp".to_owned();
    let place = if base.is_empty() { String::new() } else { format!("\n{base}/settings/alerts") };
    let text = format!(
        "{headline}.\nNothing is wrong. A real alert says what happened, how much money is at stake and what to do.{place}"
    );
    let body = match kind {
        TargetKind::Slack => json!({ "text": for_slack(&text) }).to_string(),
        TargetKind::Email => text + "\n",
        TargetKind::Webhook => json!({
            "type": "alert.test", "timestamp": now.to_rfc3339(),
            "data": { "headline": headline, "text": text },
        })
        .to_string(),
    };
    (headline, body)
}

/// `102.60 USD`.
fn shown(money: Money) -> String {
    format!("{} {}", money.decimal(), money.currency)
}

/// ` (102.60 USD and 35.00 EUR)`; empty if there is no money.
fn in_brackets(totals: &Totals) -> String {
    let sums: Vec<String> = totals.iter().filter(|sum| sum.minor != 0).map(shown).collect();
    if sums.is_empty() { String::new() } else { format!(" ({})", sums.join(" and ")) }
}

fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
