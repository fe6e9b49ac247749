//! The form of a destination. Takes form fields and a record; returns a changed record, or an error per field. Pure.
//! A saved URL or header value is never shown again, and an empty field keeps it. After an error, the fields keep what
//! was typed.

use std::collections::HashMap;

use crate::config::Secret;
use crate::dashboard::views::entered;
use crate::destination::{self, mapping::Fault, presets::Preset};
use crate::domain::Word as _;
use crate::money::{Currency, Money};
use crate::settings::{
    Destination, DestinationKind, DestinationOptions, Discretion, Encoding, Header, Row, RowKind,
    Site, ValueOption,
};

/// Maximum length of a destination's name.
const MAX_NAME_CHARS: usize = 80;
/// Maximum number of concurrent requests.
const MAX_AT_A_TIME: i64 = 64;
/// Maximum age that can be entered; empty means no limit.
const MAX_AGE_DAYS: u32 = 3_650;
/// Maximum number of custom headers.
const MAX_HEADERS: usize = 20;
/// Empty rows at the end for new fields.
const SPARE_ROWS: usize = 3;
/// An expression with more characters is shown in a text area.
const LINE_CHARS: usize = 70;
/// Headers that only Clickstamp sets.
const OUR_HEADERS: [&str; 5] =
    ["host", "content-length", "content-type", "connection", "transfer-encoding"];

/// Form fields as browsers send them.
#[derive(Clone)]
pub(super) struct Sent(HashMap<String, String>);

impl Sent {
    pub(super) fn read(body: &[u8]) -> Self {
        let pairs = url::form_urlencoded::parse(body);
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The value, trimmed and without NUL; empty if there is no such field.
    pub(super) fn text(&self, name: &str) -> String {
        entered(self.0.get(name).map(String::as_str)).unwrap_or_default()
    }

    /// The value as typed, with line breaks; `None` if the form has no such field.
    pub(super) fn typed(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The rows of the mapping that are not empty.
    fn rows(&self) -> Vec<Row> {
        let row = |at: usize| {
            self.0.get(&format!("field_{at}"))?;
            Some(Row {
                field: self.text(&format!("field_{at}")),
                kind: RowKind::parse(&self.text(&format!("kind_{at}"))).unwrap_or_default(),
                expression: self.text(&format!("expression_{at}")),
                is_on: self.is_on(&format!("on_{at}")),
            })
        };
        let rows = (0..200).map_while(row);
        rows.filter(|row| !row.field.is_empty() || !row.expression.is_empty()).collect()
    }
}

/// Kind and options of a new destination.
pub(super) fn new_options(preset: &str) -> (DestinationKind, DestinationOptions) {
    let plain = DestinationOptions::default();
    match preset {
        "anytrack" => (DestinationKind::AnyTrack, plain),
        word => {
            let preset = Preset::find(word);
            let options = DestinationOptions {
                rows: preset.map(Preset::rows),
                encoding: preset.map_or(Encoding::Json, |preset| preset.encoding),
                // The refusal texts are AnyTrack's only. Make returns 400 while its queue is full.
                refuse_if_body_contains: Vec::new(),
                retry_also: if word == "zapier" { vec![400] } else { Vec::new() },
                ..plain
            };
            (DestinationKind::Webhook, options)
        }
    }
}

/// The errors of a form: those of single fields, and general ones.
#[derive(Default)]
pub(super) struct Faults {
    fields: Vec<(&'static str, String)>,
    pub(super) general: Vec<String>,
}

impl Faults {
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.general.is_empty()
    }

    pub(super) fn add(&mut self, field: &'static str, fault: impl Into<String>) {
        self.fields.push((field, fault.into()));
    }

    /// The first error of a field.
    pub(super) fn of(&self, field: &str) -> Option<String> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, fault)| fault.clone())
    }

    /// Whether any field has an error.
    pub(super) fn has_marked_fields(&self) -> bool {
        !self.fields.is_empty()
    }
}

/// Checks a URL. The error says where to copy the right one from.
pub(super) fn url_fault(url: &str, shown_by: &str, allow_private: bool) -> Option<String> {
    let fault = destination::check_url(url, allow_private).err()?;
    Some(format!("{fault} Copy the full URL from {shown_by}."))
}

/// The page or program that shows the URL of a destination of this preset.
pub(super) fn shown_by(preset: &str) -> &'static str {
    match preset {
        "anytrack" => "your custom integration’s page in AnyTrack",
        "slack" => "Slack, under Incoming Webhooks: it starts with https://hooks.slack.com/",
        "zapier" => "the webhook step in Zapier, Make or n8n",
        "postback" => "the network’s postback settings",
        _ => "the program that receives the webhook",
    }
}

pub(super) fn name_fault(name: &str) -> Option<String> {
    (name.is_empty() || name.chars().count() > MAX_NAME_CHARS)
        .then(|| format!("A destination needs a name of at most {MAX_NAME_CHARS} characters."))
}

/// Applies the form to a destination. Returns it with all errors; those of its rows are separate.
pub(super) fn read(
    old: &Destination,
    sent: &Sent,
    sites: &[Site],
    allow_private: bool,
) -> (Destination, Faults) {
    let mut faults = Faults::default();
    let mut new = old.clone();
    new.name = sent.text("name");
    if let Some(fault) = name_fault(&new.name) {
        faults.add("name", fault);
    }
    let url = sent.text("url");
    if !url.is_empty() && !old.from_environment {
        let shown_by = match old.kind {
            DestinationKind::AnyTrack => shown_by("anytrack"),
            DestinationKind::Webhook => "the program that receives it",
        };
        match url_fault(&url, shown_by, allow_private) {
            None => new.url = Secret::new(url),
            Some(fault) => faults.add("url", format!("{fault} The current URL stays.")),
        }
    }
    new.accepts_test = sent.is_on("accepts_test");
    read_sites(old, sent, sites, &mut new.options, &mut faults);
    let options = &mut new.options;
    options.sends_purchases = sent.is_on("sends_purchases");
    options.sends_renewals = sent.is_on("sends_renewals");
    options.sends_trials = sent.is_on("sends_trials");
    options.sends_leads = sent.is_on("sends_leads");
    options.sends_custom = sent.is_on("sends_custom");
    options.sends_refunds = sent.is_on("sends_refunds");
    options.sends_disputes = sent.is_on("sends_disputes");
    options.value = match sent.text("value").as_str() {
        "net" => ValueOption::Net,
        "subtotal" => ValueOption::Subtotal,
        _ => ValueOption::Total,
    };
    options.sends_unmatched = sent.is_on("sends_unmatched");
    options.falls_back_to_our_click_id = sent.is_on("falls_back_to_our_click_id");
    let discretion = |name: &str| match sent.text(name).as_str() {
        "without_personal" => Discretion::WithoutPersonal,
        "skip" => Discretion::Skip,
        _ => Discretion::Send,
    };
    (options.gpc, options.consent) = (discretion("gpc"), discretion("consent"));
    options.minimum_value = Some(sent.text("minimum_value")).filter(|text| !text.is_empty());
    if let (Some(text), Some(currency)) = (&options.minimum_value, Currency::parse("usd"))
        && Money::parse(text, currency).is_none_or(|money| money.minor < 0)
    {
        faults.add("minimum_value", "Enter an amount such as 10 or 9.90, without a currency.");
    }
    for (name, empty, days) in [
        ("max_age_days", "to send all", &mut options.max_age_days),
        ("expires_days", "for no limit", &mut options.expires_days),
    ] {
        match sent.text(name).as_str() {
            "" => *days = None,
            text => match text.parse().ok().filter(|days| (1..=MAX_AGE_DAYS).contains(days)) {
                Some(found) => *days = Some(found),
                None => faults.add(
                    name,
                    format!(
                        "Enter a whole number from 1 to {MAX_AGE_DAYS}, or leave it empty {empty}."
                    ),
                ),
            },
        }
    }
    let property = sent.text("anytrack_property");
    if !property.is_empty()
        && (property.len() != 12 || !property.bytes().all(|b| b.is_ascii_alphanumeric()))
    {
        faults.add("anytrack_property", "AnyTrack’s property ID has 12 letters and digits.");
    }
    options.anytrack_property = Some(property).filter(|text| !text.is_empty());
    options.registers_visits = sent.is_on("registers_visits");
    if options.registers_visits && options.anytrack_property.is_none() {
        faults.add("anytrack_property", "To send visits to AnyTrack, enter its property ID.");
    }
    let base = sent.text("anytrack_collect_base");
    if base.is_empty() {
        options.anytrack_collect_base = DestinationOptions::default().anytrack_collect_base;
    } else {
        match destination::check_url(&base, allow_private) {
            Ok(url) if url.query().is_none() && url.fragment().is_none() => {
                options.anytrack_collect_base = base;
            }
            Ok(_) => faults.add("anytrack_collect_base", "Enter a URL without a query."),
            Err(fault) => faults.add("anytrack_collect_base", fault),
        }
    }
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
    match sent.text("at_a_time").as_str() {
        "" => options.at_a_time = 0,
        text => match number(text).filter(|slots| (1..=MAX_AT_A_TIME).contains(slots)) {
            Some(slots) => options.at_a_time = slots,
            None => {
                faults.add("at_a_time", format!("Enter a whole number from 1 to {MAX_AT_A_TIME}."));
            }
        },
    }
    match sent.text("rate").as_str() {
        "" => options.rate = None,
        text => match number(text).and_then(|rate| u32::try_from(rate).ok()) {
            Some(rate) => options.rate = Some(rate),
            None => faults.add("rate", "Enter a whole number; 0 means no limit."),
        },
    }
    let statuses = sent.text("retry_also");
    let statuses = statuses.split([',', ' ']).filter(|text| !text.is_empty());
    match statuses.map(|text| text.parse().ok().filter(|code| (100..600).contains(code))).collect()
    {
        Some(codes) => options.retry_also = codes,
        None => {
            faults.add("retry_also", "Enter status codes from 100 to 599, separated by commas.")
        }
    }
    let refusals = sent.0.get("refuse_if_body_contains").cloned().unwrap_or_default();
    let lines = refusals.lines().filter_map(|line| entered(Some(line)));
    options.refuse_if_body_contains = lines.take(20).collect();
    read_headers(sent, options, &mut faults);
    options.encoding = match sent.text("encoding").as_str() {
        "form" => Encoding::Form,
        "query" => Encoding::Query,
        _ => Encoding::Json,
    };
    options.rows = (sent.text("message") == "rows").then(|| sent.rows());
    (new, faults)
}

/// The sites whose conversions are sent. A form without sites, as with only one site, changes nothing. The
/// destination's own site alone is stored as an empty list.
fn read_sites(
    old: &Destination,
    sent: &Sent,
    sites: &[Site],
    options: &mut DestinationOptions,
    faults: &mut Faults,
) {
    if !sent.is_on("names_sites") {
        return;
    }
    let ticked = sites.iter().filter(|site| sent.is_on(&format!("site_{}", site.key)));
    let ticked: Vec<&Site> = ticked.collect();
    match ticked.as_slice() {
        [] => {
            faults.add(
                "sites",
                "Select at least one site. To send nothing, disable the destination.",
            );
        }
        [only] if only.id == old.site_id => options.sites = Vec::new(),
        several => options.sites = several.iter().map(|site| site.key.clone()).collect(),
    }
}

/// `Name: value`, one per line. A line with only the name keeps the saved value.
fn read_headers(sent: &Sent, options: &mut DestinationOptions, faults: &mut Faults) {
    let text = sent.0.get("headers").cloned().unwrap_or_default();
    let mut headers = Vec::new();
    for line in text.lines().filter_map(|line| entered(Some(line))) {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            faults.add("headers", "Write each header as Name: value, one per line.");
        } else if OUR_HEADERS.contains(&name.as_str()) || name.starts_with("webhook-") {
            faults
                .add("headers", format!("Clickstamp sets the header {name}; you can’t change it."));
        } else if value.bytes().any(|b| !(0x20..0x7f).contains(&b)) || value.len() > 2000 {
            faults.add(
                "headers",
                format!(
                    "The value of the header {name} has a character that isn’t allowed in headers."
                ),
            );
        } else {
            let known = options.headers.iter().find(|known| known.name == name);
            let is_kept = value.is_empty() || value == "***";
            let value = match known {
                Some(known) if is_kept => known.value.clone(),
                _ => value.to_owned(),
            };
            headers.push(Header { name, value });
        }
    }
    if headers.len() > MAX_HEADERS {
        faults.add("headers", format!("At most {MAX_HEADERS} headers."));
    }
    options.headers = headers;
}

/// Checks that the mapping has the fields AnyTrack needs.
pub(super) fn anytrack_faults(kind: DestinationKind, rows: &[Row]) -> Vec<String> {
    if kind != DestinationKind::AnyTrack {
        return Vec::new();
    }
    // AnyTrack ignores case, `_` and `-` in these names.
    let is_there = |names: &[&str]| {
        let canonical = |row: &Row| row.field.to_lowercase().replace(['_', '-'], "");
        rows.iter().any(|row| row.is_on && names.contains(&canonical(row).as_str()))
    };
    let rules = [
        (
            !is_there(&["clickid", "click", "refid", "ref", "email"]),
            "AnyTrack needs a field clickid, ref_id or email.",
        ),
        (
            !is_there(&["transactionid"]),
            "AnyTrack needs a field transaction_id to recognize repeats.",
        ),
        (
            !is_there(&["eventname"]),
            "AnyTrack needs a field event_name. Without it, a sale may count as a lead.",
        ),
        (is_there(&["value"]) && !is_there(&["currency"]), "A value needs a field currency."),
    ];
    rules.into_iter().filter(|(is_broken, _)| *is_broken).map(|(_, said)| said.to_owned()).collect()
}

/// A row of the mapping, as the page shows it.
pub(super) struct RowItem {
    pub(super) at: usize,
    pub(super) field: String,
    pub(super) expression: String,
    /// Whether the expression needs a text area.
    pub(super) is_long: bool,
    pub(super) is_on: bool,
    /// Word, whether it is selected.
    pub(super) kinds: Vec<(&'static str, bool)>,
    /// Its value for the selected conversion.
    pub(super) result: String,
    /// The error, and the expression before, at and after its position.
    pub(super) fault: Option<(String, String, String, String)>,
}

pub(super) fn row_items(rows: &[Row], results: &[String], faults: &[Fault]) -> Vec<RowItem> {
    let spare =
        Row { field: String::new(), kind: RowKind::Text, expression: String::new(), is_on: true };
    let spares = std::iter::repeat_n(&spare, SPARE_ROWS);
    rows.iter()
        .chain(spares)
        .enumerate()
        .map(|(at, row)| RowItem {
            at,
            field: row.field.clone(),
            expression: row.expression.clone(),
            is_long: row.expression.chars().count() > LINE_CHARS,
            is_on: row.is_on,
            kinds: RowKind::ALL.iter().map(|kind| (kind.as_str(), *kind == row.kind)).collect(),
            result: results.get(at).cloned().unwrap_or_default(),
            fault: faults.iter().find(|fault| fault.row == at).map(|fault| marked(row, fault)),
        })
        .collect()
}

fn marked(row: &Row, fault: &Fault) -> (String, String, String, String) {
    let (start, end) = fault.place.unwrap_or((0, 0));
    let part =
        |range: std::ops::Range<usize>| row.expression.get(range).unwrap_or_default().to_owned();
    let length = row.expression.len();
    let (start, end) = (start.min(length), end.min(length));
    if fault.place.is_none() {
        return (fault.message.clone(), String::new(), String::new(), String::new());
    }
    (fault.message.clone(), part(0..start), part(start..end), part(end..length))
}
