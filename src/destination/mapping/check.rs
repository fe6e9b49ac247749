//! Checks a mapping before it is saved.
//! Takes the fields and a few conversions; returns which field is wrong, where, and why.
//! Guarantees that a mapping without errors builds a message for each of these conversions. Pure.

use minijinja::value::{Serde, Value as Jinja};
use serde_json::Value;

use super::{Fault, check_products, environment, evaluate};
use crate::settings::Row;

const MAX_ROWS: usize = 64;
const MAX_EXPRESSION_CHARS: usize = 500;
const MAX_FIELD_CHARS: usize = 100;
/// The names that expressions may start with.
pub(crate) const ROOTS: [&str; 6] = ["conversion", "payment", "visit", "touches", "stripe", "site"];

/// Returns all errors in the fields, which are evaluated for these conversions.
pub(crate) fn check(rows: &[Row], samples: &[Value]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if rows.len() > MAX_ROWS {
        let message = format!("a message has at most {MAX_ROWS} fields");
        faults.push(Fault { row: MAX_ROWS, place: None, message });
    }
    for at in 0..rows.len() {
        faults.extend(check_row(rows, at, samples.first()));
    }
    if faults.is_empty() {
        // minijinja reports an unknown filter only when it is used, so every field is evaluated for
        // every sample.
        for fault in
            samples.iter().flat_map(|sample| evaluate(rows, sample)).filter_map(Result::err)
        {
            if !faults.iter().any(|known: &Fault| known.row == fault.row) {
                faults.push(fault);
            }
        }
    }
    faults
}

fn check_row(rows: &[Row], at: usize, sample: Option<&Value>) -> Option<Fault> {
    let row = rows.get(at)?;
    let is_again = |other: &Row| other.field == row.field && other.is_on && row.is_on;
    let message = if row.field.is_empty() || row.field.chars().count() > MAX_FIELD_CHARS {
        format!("a field name has 1 to {MAX_FIELD_CHARS} characters")
    } else if row.field.chars().any(char::is_control) {
        "a field name contains no control characters".to_owned()
    } else if rows[..at].iter().any(is_again) {
        format!("there is more than one field “{}”", row.field)
    } else if row.expression.chars().count() > MAX_EXPRESSION_CHARS {
        format!("an expression has at most {MAX_EXPRESSION_CHARS} characters")
    } else if row.expression.trim().is_empty() && row.is_on {
        "its expression is missing, such as conversion.value".to_owned()
    } else {
        return unknown_name(at, row, sample?);
    };
    Some(Fault { row: at, place: None, message })
}

/// Finds a name that no conversion has, and suggests the nearest one that exists. Names in metadata
/// and parameters are not checked, because only the seller knows them.
fn unknown_name(at: usize, row: &Row, sample: &Value) -> Option<Fault> {
    let environment = environment();
    if let Err(fault) = check_products(&environment, at, row, &Jinja::from(Serde(sample))) {
        return Some(fault);
    }
    let expression = environment.compile_expression(&row.expression).ok()?;
    let mut names: Vec<String> = expression.undeclared_variables(true).into_iter().collect();
    names.sort();
    let known = names_of(sample);
    let is_known = |name: &&String| {
        let mut parts = name.split('.');
        let (root, second) = (parts.next().unwrap_or_default(), parts.next());
        let is_fixed = matches!(root, "conversion" | "payment" | "visit" | "site");
        let is_open =
            root == "visit" || second.is_none_or(|name| ["metadata", "params"].contains(&name));
        ROOTS.contains(&root)
            && (!is_fixed
                || is_open
                || known.contains(&format!("{root}.{}", second.unwrap_or_default())))
    };
    let name = names.iter().find(|name| !is_known(name))?;
    let start = row.expression.find(name.as_str())?;
    let near = known.iter().min_by_key(|known| distance(known, name))?;
    Some(Fault {
        row: at,
        place: Some((start, start + name.len())),
        message: format!("there is no “{name}”; did you mean {near}? Put a fixed text in quotes"),
    })
}

/// The edit distance of two words (Levenshtein); of dotted names, the last part is compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.rsplit('.').next().unwrap_or(a), b.rsplit('.').next().unwrap_or(b));
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.chars().count()]
}

/// Every name that a conversion offers, for autocompletion: `conversion.value`, `visit.gclid`, …
pub(crate) fn names_of(sample: &Value) -> Vec<String> {
    let mut names = Vec::new();
    let roots = sample.as_object().into_iter().flatten();
    for (root, value) in roots {
        for (name, value) in value.as_object().into_iter().flatten() {
            names.push(format!("{root}.{name}"));
            // The useful part of an event is nested deeper.
            for (name, _) in value["object"].as_object().into_iter().flatten() {
                names.push(format!("{root}.data.object.{name}"));
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::super::tests::row;
    use super::*;
    use crate::destination::presets::{PRESETS, sample};
    use crate::settings::{Encoding, RowKind};

    #[test]
    fn wrong_rows_are_named_with_their_place() {
        let rows = [
            (RowKind::Text, "conversion.", None),
            (
                RowKind::Text,
                "conversion.emial",
                Some("there is no “conversion.emial”; did you mean conversion.email?"),
            ),
            (
                RowKind::Text,
                "convrsion.email",
                Some("there is no “convrsion.email”; did you mean conversion.email?"),
            ),
            (RowKind::Text, "conversion.email | shout", None),
            (
                RowKind::Number,
                "conversion.amount_minor / 100",
                Some("“102.6” is not an exact number"),
            ),
            (
                RowKind::Number,
                "conversion.email",
                Some("“jenny.rosen@example.com” is not an exact number"),
            ),
            (RowKind::Integer, "conversion.value", Some("“102.60” is not a whole number")),
            (RowKind::Text, "", Some("its expression is missing")),
            (RowKind::Text, "{% for x in y %}", None),
        ];
        for (kind, expression, said) in rows {
            let faults = check(&[row(kind, expression)], &[sample()]);
            assert_eq!(faults.len(), 1, "{expression}");
            if let Some(said) = said {
                assert!(faults[0].message.starts_with(said), "{expression}: {}", faults[0].message);
            }
        }
        let found = check(&[row(RowKind::Text, "conversion.emial | upper")], &[sample()]);
        assert_eq!(found[0].place, Some((0, 16)));
        let twice = [row(RowKind::Text, "'a'"), row(RowKind::Text, "'b'")];
        assert_eq!(check(&twice, &[sample()])[0].message, "there is more than one field “field”");
        let long = row(RowKind::Text, &format!("'{}'", "x".repeat(600)));
        assert!(check(&[long], &[sample()])[0].message.contains("500 characters"));
        let many: Vec<Row> = (0..70)
            .map(|number| Row { field: number.to_string(), ..row(RowKind::Text, "'a'") })
            .collect();
        assert!(check(&many, &[sample()])[0].message.contains("64 fields"));
    }

    #[test]
    fn every_preset_passes_its_own_check() {
        for preset in &PRESETS {
            let faults = check(&preset.rows(), &[sample()]);
            assert_eq!(faults, [], "{}", preset.word);
        }
        let text = build(&PRESETS[3].rows(), &sample(), Encoding::Json).unwrap();
        assert_eq!(text, r#"{"text":"Purchase: 102.60 USD from google, spring"}"#);
    }
}
