//! An alert in words: for Slack, for a program, for a letter.
//! In: a trouble, what is at stake, where the dashboard is. Out: a headline and a body.
//! Promise: what happened, how much money, what to do, and a link; never an e-mail address of a buyer. Pure.

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::TargetKind;
use crate::clock::Timestamp;
use crate::destination::mapping::for_slack;
use crate::money::{Money, Totals};
use crate::report::Stakes;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Held,
    GivenUp,
    Slow,
    Expiring,
    Failing,
    EventsFailed,
    Silent,
    Unmatched,
}

impl What {
    /// As stored, and in messages for programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::GivenUp => "given_up",
            Self::Slow => "slow",
            Self::Expiring => "expiring",
            Self::Failing => "failing",
            Self::EventsFailed => "events_failed",
            Self::Silent => "silent",
            Self::Unmatched => "unmatched",
        }
    }

    /// Whether it is made of single things, each of which is news. Other troubles are states, told again while they last.
    pub(super) fn counts_news(self) -> bool {
        matches!(self, Self::GivenUp | Self::EventsFailed)
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Raised,
    Reminder,
    Resolved,
}

impl Phase {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Reminder => "reminder",
            Self::Resolved => "resolved",
        }
    }
}

/// A trouble that is seen, or was.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) what: What,
    /// The destination's or the site's name; empty where it is about neither.
    pub(super) name: String,
    /// Key of the destination, for programs.
    pub(super) destination: Option<String>,
    pub(super) site: Option<String>,
    /// Why, as stored: `refused`, …
    pub(super) reason: Option<String>,
    /// What the other side said, our secrets taken out.
    pub(super) error: Option<String>,
    /// Numbers for the sentence: how many of how many.
    pub(super) part: i64,
    pub(super) whole: i64,
    pub(super) since: Timestamp,
    /// When it is too late for the first of them.
    pub(super) until: Option<Timestamp>,
    /// Path of the page that shows it.
    pub(super) path: String,
}

/// One alert, ready for any target.
pub(super) struct Alert<'a> {
    pub(super) incident_id: &'a str,
    pub(super) phase: Phase,
    pub(super) now: Timestamp,
    pub(super) zone: &'a TimeZone,
    pub(super) base: &'a str,
    pub(super) trouble: &'a Trouble,
    pub(super) stakes: &'a Stakes,
}

impl Alert<'_> {
    /// One sentence: what happened and how much money.
    pub(super) fn headline(&self) -> String {
        let Trouble { name, part, whole, .. } = self.trouble;
        let deliveries = counted(self.stakes.deliveries, "delivery", "deliveries");
        let money = in_brackets(&self.stakes.money);
        if self.phase == Phase::Resolved {
            return match self.trouble.what {
                What::Held => format!("{name} takes conversions again"),
                What::GivenUp => format!("{name}: nothing is given up any more"),
                What::Slow => format!("{name} is served in time again"),
                What::Expiring => format!("{name}: nothing is about to expire any more"),
                What::Failing => format!("{name} accepts most tries again"),
                What::EventsFailed => "No event waits for you any more".to_owned(),
                What::Silent => format!("Stripe is heard again at {name}"),
                What::Unmatched => format!("{name}: payments match as usual again"),
            };
        }
        let still = if self.phase == Phase::Reminder { "still " } else { "" };
        match self.trouble.what {
            What::Held => format!("{name} {still}takes no conversions: {deliveries}{money} wait"),
            What::GivenUp => format!("{name}: {deliveries}{money} given up"),
            What::Slow => format!("{name} {still}drains slowly: {deliveries}{money} wait"),
            What::Expiring => {
                let verb = if self.stakes.deliveries == 1 { "expires" } else { "expire" };
                format!(
                    "{name}: {deliveries}{money} {verb} within {}",
                    counted(*whole, "hour", "hours")
                )
            }
            What::Failing => {
                format!("{name} {still}fails: {part} of its last {whole} tries were not accepted")
            }
            What::EventsFailed => {
                let events = counted(*part, "event", "events");
                format!("{events} could not be processed")
            }
            What::Silent => format!("Stripe {still}sends nothing to {name}"),
            What::Unmatched => {
                format!("{name}: {part} of {whole} payments{money} of the last day have no visit")
            }
        }
    }

    /// Why, and what to do.
    fn sentences(&self) -> Vec<String> {
        let since = self.at(self.trouble.since);
        let said = self.trouble.error.as_deref().or(self.stakes.last_error.as_deref());
        let said = said.map(|said| format!("It said last: {}.", said.trim_end_matches('.')));
        let mut told: Vec<String> = Vec::new();
        if self.phase == Phase::Resolved {
            told.push(format!("It began {since} and is over."));
            return told;
        }
        match self.trouble.what {
            What::Held => {
                told.push(format!("Since {since} only one message now and then asks whether it is back. Nothing is lost: all of it goes out by itself once it is."));
                told.extend(said);
                told.push(
                    "If the address or the credential changed, put the new one in.".to_owned(),
                );
            }
            What::GivenUp => {
                told.push(match self.trouble.reason.as_deref() {
                    Some("refused") => "It refused them, so they are not tried again by themselves.".to_owned(),
                    Some("exhausted") => "Every try failed, for days.".to_owned(),
                    Some("mapping_error") => "The message could not be made: an expression of the mapping fails on these conversions.".to_owned(),
                    Some("blocked_address") => "Its address is private or local, where nothing is sent to.".to_owned(),
                    Some("expired") => "They became too old to be of use there.".to_owned(),
                    _ => "They are not tried again by themselves.".to_owned(),
                });
                told.extend(said);
                told.push("Mend the cause, then send them again from the page below.".to_owned());
            }
            What::Slow => {
                told.push(format!("The oldest waits since {since}."));
                told.extend(said);
                told.push("They go on by themselves. See whether it answers slowly, or allows too little at a time.".to_owned());
            }
            What::Expiring => {
                let until = self.trouble.until.map(|until| self.at(until));
                told.extend(until.map(|until| {
                    format!("The first is given up {until} unless it is accepted by then.")
                }));
                told.extend(said);
                told.push(match self.trouble.reason.as_deref() {
                    Some("held") => "It is disabled, so nothing is sent: enable it in time.".to_owned(),
                    _ => "Until then they are tried by themselves. See what keeps it from taking them. “Send now” on a delivery’s page lifts the end.".to_owned(),
                });
            }
            What::Failing => {
                told.extend(said);
                told.push("What can be tried again is; what was refused waits for you.".to_owned());
            }
            What::EventsFailed => {
                told.push(format!("The newest came {since}. The raw events are safe; look at the error, then run them again."));
                told.extend(self.trouble.error.iter().map(|error| format!("The error: {error}")));
            }
            What::Silent => {
                told.push(format!("The last event came {since}, which is three times as long ago as usual. Look in Stripe, under Developers, Webhooks, whether the endpoint is on and what it was answered."));
            }
            What::Unmatched => {
                told.push("That is more than twice as much as in the week before. You have this money; it is only missing from the numbers your ads learn from. See whether the tag is on every page.".to_owned());
            }
        }
        told
    }

    fn link(&self) -> Option<String> {
        (!self.base.is_empty()).then(|| format!("{}{}", self.base, self.trouble.path))
    }

    /// Lines that name conversions: transaction, money, where to read its story.
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
        if self.phase == Phase::Resolved {
            lines.clear();
        } else if self.stakes.deliveries > named && named > 0 {
            lines.push(format!("- and {} more", self.stakes.deliveries - named));
        }
        lines
    }

    /// The whole, in lines.
    fn text(&self) -> String {
        let mut lines = vec![self.headline() + "."];
        lines.extend(self.sentences());
        lines.extend(self.conversions());
        lines.extend(self.link());
        lines.join("\n")
    }

    /// What a target gets.
    pub(super) fn body(&self, kind: TargetKind) -> String {
        match kind {
            TargetKind::Slack => json!({ "text": for_slack(&self.text()) }).to_string(),
            TargetKind::Email => {
                format!(
                    "{}\n\nClickstamp sent this because of its settings, Alerts.\n",
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
            "type": format!("alert.{}", self.phase.word()),
            "timestamp": self.now.to_rfc3339(),
            "data": {
                "incident": self.incident_id,
                "what": self.trouble.what.word(),
                "headline": self.headline(),
                "text": self.text(),
                "destination": self.trouble.destination,
                "site": self.trouble.site,
                "reason": self.trouble.reason,
                "since": self.trouble.since.to_rfc3339(),
                "until": self.trouble.until.map(|until| until.to_rfc3339()),
                "deliveries": self.stakes.deliveries,
                "money": self.stakes.money.iter().map(money).collect::<Vec<_>>(),
                "oldest": oldest.map(|(id, at)| json!({"delivery": id, "owed_since": at.to_rfc3339()})),
                "conversions": self.stakes.examples.iter().map(conversion).collect::<Vec<_>>(),
                "link": self.link(),
            },
        })
    }

    fn at(&self, at: Timestamp) -> String {
        let found = jiff::Timestamp::from_millisecond(at.as_ms()).unwrap_or_default();
        found.to_zoned_datetime(self.zone.clone()).strftime("%a %-d %b, %H:%M %Z").to_string()
    }
}

/// What is sent by "Send a test alert".
pub(super) fn test(kind: TargetKind, now: Timestamp, base: &str) -> (String, String) {
    let headline = "This is a test of Clickstamp’s alerts".to_owned();
    let place = if base.is_empty() { String::new() } else { format!("\n{base}/settings/alerts") };
    let text = format!(
        "{headline}.\nNothing is wrong. A real one would say what happened, how much money is at stake, and what to do.{place}"
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

/// ` (102.60 USD and 35.00 EUR)`; nothing where there is no money.
fn in_brackets(totals: &Totals) -> String {
    let sums: Vec<String> = totals.iter().filter(|sum| sum.minor != 0).map(shown).collect();
    if sums.is_empty() { String::new() } else { format!(" ({})", sums.join(" and ")) }
}

fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
