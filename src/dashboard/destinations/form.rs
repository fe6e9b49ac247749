//! The form of a destination. Takes form fields and a record; returns a changed record, or an error per field. Pure.
//! A saved URL is never shown again, and an empty field keeps it. After an error, the fields keep what was typed.

use super::options;
use crate::config::Secret;
use crate::dashboard::form::FormData;
use crate::destination::{self, kind, mapping::Fault};
use crate::domain::Word as _;
use crate::settings::{Destination, Row, RowKind, Site};

/// Maximum length of a destination's name.
const MAX_NAME_CHARS: usize = 80;
/// Maximum number of fields of a mapping that are read.
const MAX_ROWS: usize = 200;
/// Empty rows at the end for new fields.
const SPARE_ROWS: usize = 3;
/// An expression with more characters is shown in a text area.
const LINE_CHARS: usize = 70;

/// The rows of the mapping that are not empty.
pub(super) fn rows(form: &FormData) -> Vec<Row> {
    let row = |at: usize| {
        form.typed(&format!("field_{at}"))?;
        Some(Row {
            field: form.text(&format!("field_{at}")),
            kind: RowKind::parse(&form.text(&format!("kind_{at}"))).unwrap_or_default(),
            expression: form.text(&format!("expression_{at}")),
            is_on: form.is_on(&format!("on_{at}")),
        })
    };
    let rows = (0..MAX_ROWS).map_while(row);
    rows.filter(|row| !row.field.is_empty() || !row.expression.is_empty()).collect()
}

/// Checks a URL. The error says where to copy the right one from.
pub(super) fn url_fault(url: &str, is_on: &str, allow_private: bool) -> Option<String> {
    let fault = destination::check_url(url, allow_private).err()?;
    Some(format!("{fault} Copy the full URL from {is_on}."))
}

pub(super) fn name_fault(name: &str) -> Option<String> {
    (name.is_empty() || name.chars().count() > MAX_NAME_CHARS)
        .then(|| format!("A destination needs a name of at most {MAX_NAME_CHARS} characters."))
}

/// Applies the form to a destination. What is wrong is refused, and keeps its old value.
pub(super) fn read(
    old: &Destination,
    form: &mut FormData,
    sites: &[Site],
    allow_private: bool,
) -> Destination {
    let mut new = Destination { name: form.text("name"), ..old.clone() };
    if let Some(fault) = name_fault(&new.name) {
        form.refuse("name", fault);
    }
    let url = form.text("url");
    if !url.is_empty() && !old.from_environment {
        match url_fault(&url, kind(old.kind).url_is_on, allow_private) {
            None => new.url = Secret::new(url),
            Some(fault) => form.refuse("url", format!("{fault} The current URL stays.")),
        }
    }
    options::read(&mut new, form, allow_private);
    if form.is_on("names_sites") {
        match read_sites(old, form, sites) {
            Some(keys) => new.options.events.sites = keys,
            None => form.refuse(
                "sites",
                "Select at least one site. To send nothing, disable the destination.",
            ),
        }
    }
    new.options.message.rows = (form.text("message") == "rows").then(|| rows(form));
    new
}

/// The sites whose conversions are sent; `None` if none is ticked. The destination's own site alone is stored as an
/// empty list.
fn read_sites(old: &Destination, form: &FormData, sites: &[Site]) -> Option<Vec<String>> {
    let ticked = sites.iter().filter(|site| form.is_on(&format!("site_{}", site.key)));
    let ticked: Vec<&Site> = ticked.collect();
    match ticked.as_slice() {
        [] => None,
        [only] if only.id == old.site_id => Some(Vec::new()),
        several => Some(several.iter().map(|site| site.key.clone()).collect()),
    }
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
