//! The options of a destination as its page shows them. Each is declared once here: its name, label and hint, and where
//! it is stored. Reading the form, showing it with what was typed, and the differences between two versions follow from
//! the declaration. The record itself, with its defaults, is in `settings`.

use std::ops::RangeInclusive;

use super::headers;
use crate::dashboard::form::{FormData, Select};
use crate::dashboard::views::{Field, entered};
use crate::destination;
use crate::domain::Word;
use crate::money::{Currency, Money};
use crate::settings::{AnyTrackOptions, Destination, DestinationOptions};

/// Maximum number of texts that mean a rejection.
const MAX_REFUSALS: usize = 20;

/// One option.
pub(super) struct Control {
    /// The field in the form.
    name: &'static str,
    label: &'static str,
    /// HTML; empty for none.
    hint: &'static str,
    input: Input,
}

/// How an option is shown in its field, and read from it.
enum Input {
    Tick(At<bool>),
    /// A whole number in this range, or nothing; and the error for anything else.
    Number(At<Option<u32>>, RangeInclusive<u32>, &'static str),
    /// Words and labels. The function sets the word, if there is one, and returns the current one.
    Choice(&'static [(&'static str, &'static str)], Choose),
    /// One line, with attributes of its field.
    Text(&'static str, Show, Read),
    /// Several lines, with attributes of their field.
    Lines(&'static str, Show, Read),
}

type At<T> = fn(&mut Destination) -> &mut T;
type Choose = fn(&mut DestinationOptions, Option<&str>) -> &'static str;
type Show = fn(&DestinationOptions) -> String;
/// Reads an option; the last argument says whether private addresses are allowed.
type Read = fn(&mut DestinationOptions, &str, bool) -> Result<(), String>;

/// An option with what was typed, or what is stored.
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) hint: &'static str,
    pub(super) attributes: &'static str,
    pub(super) drawn: Drawn,
}

/// How an option is drawn.
pub(super) enum Drawn {
    Tick(bool),
    Choice(Select),
    Text(Field),
    Lines(Field),
}

pub(super) const EVENTS: &[Control] = &[
    tick("sends_purchases", "Purchases", |to| &mut to.options.events.sends_purchases),
    tick("sends_renewals", "Subscription renewals", |to| &mut to.options.events.sends_renewals),
    tick("sends_trials", "Trials, as Lead", |to| &mut to.options.events.sends_trials),
    tick("sends_leads", "Leads", |to| &mut to.options.events.sends_leads),
    tick("sends_custom", "Custom events", |to| &mut to.options.events.sends_custom),
    tick("sends_refunds", "Refunds", |to| &mut to.options.events.sends_refunds),
    tick("sends_disputes", "Lost disputes, as Chargeback", |to| {
        &mut to.options.events.sends_disputes
    }),
    Control {
        hint: "This includes visitors who refused consent, if your pages ask for it.",
        ..tick("sends_unmatched", "Also payments without a matched visit", |to| {
            &mut to.options.limits.sends_unmatched
        })
    },
    tick("accepts_test", "Also payments in Stripe’s test mode", |to| &mut to.accepts_test),
];

const DISCRETION: &[(&str, &str)] = &[
    ("send", "Send as usual"),
    ("without_personal", "Send without email, name and phone"),
    ("skip", "Don’t send"),
];

pub(super) const LIMITS: &[Control] = &[
    Control {
        name: "minimum_value",
        label: "Minimum amount",
        hint: "Smaller payments aren’t sent. In the payment’s currency. Leave empty for no minimum.",
        input: Input::Text(
            "inputmode=decimal",
            |options| options.limits.minimum_value.clone().unwrap_or_default(),
            read_minimum,
        ),
    },
    Control {
        name: "max_age_days",
        label: "Maximum age (days)",
        hint: "Older payments, for example from <code>clickstamp backfill</code>, aren’t sent automatically. You can send \
               them from their page or with “Past conversions” below. Leave empty for no maximum.",
        input: Input::Number(
            |to| &mut to.options.limits.max_age_days,
            1..=3_650,
            "Enter a whole number from 1 to 3650, or leave it empty to send all.",
        ),
    },
    Control {
        name: "expires_days",
        label: "Stop retrying after (days)",
        hint: "Counted from the payment. A delivery that isn’t accepted by then fails; “Resend” still sends it. Meta, for \
               example, rejects events older than 7 days. Leave empty for no limit.",
        input: Input::Number(
            |to| &mut to.options.limits.expires_days,
            1..=3_650,
            "Enter a whole number from 1 to 3650, or leave it empty for no limit.",
        ),
    },
    Control {
        name: "value",
        label: "Value",
        hint: "",
        input: Input::Choice(
            &[
                ("total", "Total paid"),
                ("net", "Without tax"),
                ("subtotal", "Before discount, tax and shipping"),
            ],
            |options, word| choose(&mut options.message.value, word),
        ),
    },
    Control {
        name: "gpc",
        label: "When the visitor’s browser asks for privacy (GPC)",
        hint: "",
        input: Input::Choice(DISCRETION, |options, word| choose(&mut options.limits.gpc, word)),
    },
    Control {
        name: "consent",
        label: "When the visitor gave no consent",
        hint: "Consent counts only if your page or consent tool reported it to the tag before the visit was recorded. \
               Without a visit, or if your site doesn’t ask, there is none.",
        input: Input::Choice(DISCRETION, |options, word| choose(&mut options.limits.consent, word)),
    },
];

pub(super) const ANYTRACK: &[Control] = &[
    Control {
        hint: "It matches only if AnyTrack has received our click ID. The reference and the email are always sent.",
        ..tick("falls_back_to_our_click_id", "Send our click ID if AnyTrack’s is unknown", |to| {
            &mut to.options.anytrack.falls_back_to_our_click_id
        })
    },
    Control {
        name: "anytrack_property",
        label: "AnyTrack property ID",
        hint: "12 characters. Click IDs that begin with it are AnyTrack’s. Optional.",
        input: Input::Text(
            "maxlength=12",
            |options| options.anytrack.property.clone().unwrap_or_default(),
            read_property,
        ),
    },
];

/// The switch of the experimental registration of visits.
pub(super) const REGISTRATION: &[Control] = &[
    tick("registers_visits", "Send AnyTrack the visits that its own tag missed", |to| {
        &mut to.options.anytrack.registers_visits
    }),
    Control {
        name: "anytrack_collect_base",
        label: "AnyTrack collection URL",
        hint: "",
        input: Input::Text(
            "type=url",
            |options| options.anytrack.collect_base.clone(),
            read_collect_base,
        ),
    },
];

pub(super) const MESSAGE: &[Control] = &[Control {
    name: "encoding",
    label: "Encoding",
    hint: "",
    input: Input::Choice(
        &[("json", "JSON"), ("form", "Form"), ("query", "Query parameters (GET)")],
        |options, word| choose(&mut options.message.encoding, word),
    ),
}];

pub(super) const SENDING: &[Control] = &[
    Control {
        name: "headers",
        label: "Headers",
        hint: "For example <code>Authorization: Bearer …</code>, one per line. Values aren’t shown again; <code>***</code> \
               keeps the current one.",
        input: Input::Lines("rows=2 spellcheck=false", headers::show, headers::read),
    },
    Control {
        name: "at_a_time",
        label: "Concurrent requests",
        hint: "At most 64. Leave empty for the default: 2 to AnyTrack, 4 to a webhook.",
        input: Input::Number(
            |to| &mut to.options.sending.at_a_time,
            1..=64,
            "Enter a whole number from 1 to 64.",
        ),
    },
    Control {
        name: "rate",
        label: "Rate limit (per second)",
        hint: "Leave empty to use <code>CLICKSTAMP_DELIVERY_RATE</code>. 0 means no limit.",
        input: Input::Number(
            |to| &mut to.options.sending.rate,
            0..=u32::MAX,
            "Enter a whole number; 0 means no limit.",
        ),
    },
    Control {
        name: "retry_also",
        label: "Also retry these status codes",
        hint: "In addition to 408, 425, 429 and all from 500. Make returns 400 while its queue is full.",
        input: Input::Text("", show_statuses, read_statuses),
    },
    Control {
        name: "refuse_if_body_contains",
        label: "Rejected if the response contains",
        hint: "One text per line. Some destinations return 200 for a rejected message.",
        input: Input::Lines(
            "rows=3",
            |options| options.sending.refuse_if_body_contains.join("\n"),
            |options, text, _| {
                let lines = text.lines().filter_map(|line| entered(Some(line)));
                options.sending.refuse_if_body_contains = lines.take(MAX_REFUSALS).collect();
                Ok(())
            },
        ),
    },
];

/// All options that a page shows.
fn options_of(is_anytrack: bool) -> impl Iterator<Item = &'static Control> {
    let own: &[&[Control]] = if is_anytrack { &[ANYTRACK, REGISTRATION] } else { &[] };
    [EVENTS, LIMITS, MESSAGE, SENDING].into_iter().chain(own.iter().copied()).flatten()
}

/// Reads all options of a destination from its form. A wrong one is refused and keeps its value.
pub(super) fn read(into: &mut Destination, form: &mut FormData, allow_private: bool) {
    for control in options_of(into.is_anytrack()) {
        if let Err(error) = control.read(into, form, allow_private) {
            form.refuse(control.name, error);
        }
    }
    let AnyTrackOptions { registers_visits, property, .. } = &into.options.anytrack;
    if *registers_visits && property.is_none() {
        form.refuse("anytrack_property", "To send visits to AnyTrack, enter its property ID.");
    }
}

/// The options of a part of the form.
pub(super) fn shown(part: &[Control], of: &Destination, form: &FormData) -> Vec<Shown> {
    let mut of = of.clone();
    part.iter().map(|control| control.shown(&mut of, form)).collect()
}

/// The labels of the options in which an earlier version differs from now.
pub(super) fn differences(now: &Destination, earlier: DestinationOptions) -> Vec<&'static str> {
    let mut then = Destination { options: earlier, ..now.clone() };
    let controls = options_of(now.is_anytrack());
    let mut now = now.clone();
    controls
        .filter(|control| control.text(&mut now) != control.text(&mut then))
        .map(|control| control.label)
        .collect()
}

impl Control {
    fn read(
        &self,
        into: &mut Destination,
        form: &FormData,
        allow_private: bool,
    ) -> Result<(), String> {
        let text = form.text(self.name);
        match &self.input {
            Input::Tick(at) => *at(into) = form.is_on(self.name),
            Input::Number(at, range, error) => {
                let number = text.parse().ok().filter(|number| range.contains(number));
                if number.is_none() && !text.is_empty() {
                    return Err((*error).to_owned());
                }
                *at(into) = number;
            }
            Input::Choice(_, choose) => {
                choose(&mut into.options, Some(&text));
            }
            Input::Text(_, _, read) => return read(&mut into.options, &text, allow_private),
            Input::Lines(_, _, read) => {
                let lines = form.typed(self.name).unwrap_or_default();
                return read(&mut into.options, lines, allow_private);
            }
        }
        Ok(())
    }

    /// What is stored, as the form shows it.
    fn text(&self, of: &mut Destination) -> String {
        match &self.input {
            Input::Tick(at) => at(of).to_string(),
            Input::Number(at, ..) => at(of).map(|number| number.to_string()).unwrap_or_default(),
            Input::Choice(_, choose) => choose(&mut of.options, None).to_owned(),
            Input::Text(_, show, _) | Input::Lines(_, show, _) => show(&of.options),
        }
    }

    fn shown(&self, of: &mut Destination, form: &FormData) -> Shown {
        let Self { name, label, hint, input } = self;
        let stored = self.text(of);
        let (attributes, drawn) = match input {
            Input::Tick(at) => ("", Drawn::Tick(form.tick(name, *at(of)))),
            Input::Number(..) => ("inputmode=numeric", Drawn::Text(form.field(name, stored))),
            Input::Choice(words, _) => ("", Drawn::Choice(form.select(name, &stored, words))),
            Input::Text(attributes, ..) => (*attributes, Drawn::Text(form.field(name, stored))),
            Input::Lines(attributes, ..) => (*attributes, Drawn::Lines(form.field(name, stored))),
        };
        Shown { name, label, hint, attributes, drawn }
    }
}

const fn tick(name: &'static str, label: &'static str, at: At<bool>) -> Control {
    Control { name, label, hint: "", input: Input::Tick(at) }
}

/// Sets a word that is one of its list, and returns the current one.
fn choose<W: Word>(at: &mut W, word: Option<&str>) -> &'static str {
    if let Some(chosen) = word.and_then(W::parse) {
        *at = chosen;
    }
    at.as_str()
}

fn read_minimum(options: &mut DestinationOptions, text: &str, _: bool) -> Result<(), String> {
    let currency = Currency::parse("usd");
    let is_amount = |text: &str| {
        currency.and_then(|currency| Money::parse(text, currency)).is_some_and(|it| it.minor >= 0)
    };
    if !text.is_empty() && !is_amount(text) {
        return Err("Enter an amount such as 10 or 9.90, without a currency.".to_owned());
    }
    options.limits.minimum_value = Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(())
}

fn read_property(options: &mut DestinationOptions, text: &str, _: bool) -> Result<(), String> {
    let fits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !text.is_empty() && !fits {
        return Err("AnyTrack’s property ID has 12 letters and digits.".to_owned());
    }
    options.anytrack.property = Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(())
}

fn read_collect_base(
    options: &mut DestinationOptions,
    text: &str,
    allow_private: bool,
) -> Result<(), String> {
    if text.is_empty() {
        options.anytrack.collect_base = AnyTrackOptions::default().collect_base;
        return Ok(());
    }
    let url = destination::check_url(text, allow_private)?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("Enter a URL without a query.".to_owned());
    }
    options.anytrack.collect_base = text.to_owned();
    Ok(())
}

fn show_statuses(options: &DestinationOptions) -> String {
    let codes = options.sending.retry_also.iter().map(u16::to_string);
    codes.collect::<Vec<_>>().join(", ")
}

fn read_statuses(options: &mut DestinationOptions, text: &str, _: bool) -> Result<(), String> {
    let codes = text.split([',', ' ']).filter(|text| !text.is_empty());
    let codes: Option<_> =
        codes.map(|text| text.parse().ok().filter(|code| (100..600).contains(code))).collect();
    options.sending.retry_also =
        codes.ok_or("Enter status codes from 100 to 599, separated by commas.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::tests::destination;

    /// Every option with another value than its default.
    const CHANGED: &str = "sends_trials=1&sends_leads=1&sends_custom=1&sends_refunds=1&sends_disputes=1&accepts_test=1\
        &minimum_value=9.90&max_age_days=3&expires_days=2&value=net&gpc=skip&consent=without_personal&encoding=form\
        &headers=x-key%3A+1&at_a_time=5&rate=0&retry_also=400%2C+409&refuse_if_body_contains=no%0Anever\
        &anytrack_property=abcdefABCDEF&registers_visits=1&anytrack_collect_base=https%3A%2F%2Ft2.example.com";

    #[test]
    fn every_option_is_read_as_it_is_shown() {
        let (before, mut after) = (destination(), destination());
        let mut form = FormData::read(CHANGED.as_bytes());
        read(&mut after, &mut form, false);
        assert!(form.is_right());
        let differing = differences(&after, before.options.clone());
        let mut again = destination();
        for control in options_of(true) {
            let is_record = control.name == "accepts_test"; // Not an option of a version.
            assert!(
                differing.contains(&control.label) || is_record,
                "{} is not read",
                control.name
            );
        }
        // A form that shows what is stored, saved unchanged, changes nothing.
        let mut shown = url::form_urlencoded::Serializer::new(String::new());
        for control in options_of(true) {
            let text = control.text(&mut after);
            if text != "false" {
                shown.append_pair(control.name, &text);
            }
        }
        again.options.message.headers.clone_from(&after.options.message.headers);
        read(&mut again, &mut FormData::read(shown.finish().as_bytes()), false);
        assert_eq!(again.options, after.options);
    }

    #[test]
    fn a_webhook_keeps_options_that_its_form_does_not_have() {
        let mut found = Destination { kind: Default::default(), ..destination() };
        found.options.anytrack.property = Some("abcdefABCDEF".to_owned());
        let before = found.options.anytrack.clone();
        read(&mut found, &mut FormData::read(b"sends_purchases=1"), false);
        assert_eq!(found.options.anytrack, before);
    }
}
