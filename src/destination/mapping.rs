//! The mapping: fields with expressions that build a message.
//! Takes the fields and the names of a conversion; returns the message's bytes, or which field is
//! wrong, where, and why.
//! Guarantees that an expression can neither loop nor grow without limit (see `limits`), that
//! unknown values are left out instead of sent empty, and that numbers keep their digits. Pure.

use minijinja::value::{Serde, Value as Jinja, ValueKind};
use minijinja::{Environment, Error, UndefinedBehavior};
use serde_json::Value;

use super::limits::{self, TooLong};
use crate::clock::Timestamp;
use crate::ids;
use crate::money::{Currency, Money};
use crate::settings::{Encoding, Row, RowKind};

/// Maximum number of steps of one expression: enough for any real one, and only milliseconds.
const FUEL: u64 = 5_000;
const MAX_ROWS: usize = 64;
const MAX_EXPRESSION_CHARS: usize = 500;
const MAX_FIELD_CHARS: usize = 100;
const MAX_RESULT_BYTES: usize = 2 * 1024;
/// JSON results are objects and lists, which are longer.
const MAX_JSON_BYTES: usize = MAX_RESULT_BYTES * 8;
/// Maximum length of a text that a filter accepts.
const MAX_FILTERED_BYTES: usize = 64 * 1024;
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The names that expressions may start with.
pub(crate) const ROOTS: [&str; 6] = ["conversion", "payment", "visit", "touches", "stripe", "site"];

/// True if a field uses the raw Stripe event, which is only read then.
pub(crate) fn ask_for_stripe(rows: Option<&[Row]>) -> bool {
    rows.is_some_and(|rows| rows.iter().any(|row| row.is_on && row.expression.contains("stripe")))
}

/// An error in a field of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Index of the field, from 0.
    pub(crate) row: usize,
    /// The wrong characters of the expression.
    pub(crate) place: Option<(usize, usize)>,
    pub(crate) message: String,
}

/// The result of a field for a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// JSON, as it is written to the body.
    Json(String),
    /// Undefined or empty: the field is left out.
    LeftOut,
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_fuel(Some(FUEL));
    use minijinja::filters;
    environment.add_filter("upper", |value: Jinja| on_text(value, |text| text.to_uppercase()));
    environment.add_filter("lower", |value: Jinja| on_text(value, |text| text.to_lowercase()));
    environment.add_filter("trim", |value: Jinja| on_text(value, |text| text.trim().to_owned()));
    environment.add_filter("sha256", |value: Jinja| {
        on_text(value, |text| ids::sha256_hex(text.as_bytes()))
    });
    environment.add_filter("normalize_email", |value: Jinja| {
        on_text(value, |text| text.trim().to_lowercase())
    });
    environment.add_filter("digits", |value: Jinja| {
        on_text(value, |text| text.chars().filter(char::is_ascii_digit).collect())
    });
    environment.add_filter("slack", |value: Jinja| on_text(value, for_slack));
    environment.add_filter("unix", |value: Jinja| on_text(value, unix));
    environment.add_filter("date", date);
    environment.add_filter("major", major);
    environment.add_filter("default", filters::default);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("first", filters::first);
    environment.add_filter("last", filters::last);
    environment.add_filter("map", filters::map);
    environment.add_filter("join", filters::join);
    environment.add_filter("length", filters::length);
    environment.add_filter("int", filters::int);
    environment
}

/// Applies a filter to text; an undefined value stays undefined, so that nothing is never hashed.
fn on_text(value: Jinja, make: impl FnOnce(&str) -> String) -> Result<Jinja, Error> {
    if matches!(value.kind(), ValueKind::Undefined | ValueKind::None) {
        return Ok(Jinja::UNDEFINED);
    }
    match limits::text(&value, MAX_FILTERED_BYTES) {
        Ok(text) => Ok(Jinja::from(make(&text))),
        Err(TooLong) => {
            Err(invalid(format!("a filter takes at most {MAX_FILTERED_BYTES} bytes of text")))
        }
    }
}

/// Escapes text for Slack, which reads these three characters as markup: `<!channel>` would notify
/// everyone.
pub(crate) fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn unix(text: &str) -> String {
    Timestamp::parse(text).map(|at| at.as_seconds().to_string()).unwrap_or_default()
}

fn date(value: Jinja, format: &str) -> Result<Jinja, Error> {
    let Some(at) = value.as_str().and_then(Timestamp::parse) else { return Ok(Jinja::UNDEFINED) };
    let at = jiff::Timestamp::from_second(at.as_seconds()).map_err(invalid)?;
    let text = jiff::fmt::strtime::format(format, at).map_err(invalid)?;
    Ok(Jinja::from(text))
}

/// Converts minor units to exact decimal text.
fn major(value: Jinja, currency: &str) -> Result<Jinja, Error> {
    if value.is_undefined() {
        return Ok(Jinja::UNDEFINED);
    }
    let minor = i64::try_from(value)
        .map_err(|_| invalid("major takes whole minor units, such as conversion.amount_minor"))?;
    let currency = Currency::parse(currency)
        .ok_or_else(|| invalid("major takes a currency, such as conversion.currency"))?;
    Ok(Jinja::from(Money { minor, currency }.decimal()))
}

fn invalid(why: impl ToString) -> Error {
    Error::new(minijinja::ErrorKind::InvalidOperation, why.to_string())
}

/// Evaluates each field; one that is switched off is left out.
pub(crate) fn evaluate(rows: &[Row], names: &Value) -> Vec<Result<Cell, Fault>> {
    let (environment, names) = (environment(), Jinja::from(Serde(names)));
    let evaluate = |(at, row): (usize, &Row)| {
        if !row.is_on {
            return Ok(Cell::LeftOut);
        }
        let fault = |error: Error| Fault {
            row: at,
            place: place(&row.expression, error.range()),
            message: words(&error),
        };
        check_products(&environment, at, row, &names)?;
        let expression = environment.compile_expression(&row.expression).map_err(fault)?;
        let value = expression.eval(&names).map_err(fault)?;
        let whole = place(&row.expression, None);
        cell(row.kind, &value).map_err(|message| Fault { row: at, place: whole, message })
    };
    rows.iter().enumerate().map(evaluate).collect()
}

/// Runs before an expression is compiled, because compiling evaluates constants.
fn check_products(
    environment: &Environment<'_>,
    at: usize,
    row: &Row,
    names: &Jinja,
) -> Result<(), Fault> {
    limits::check_products(environment, &row.expression, names).map_err(|refused| Fault {
        row: at,
        place: place(&row.expression, Some(refused.part)),
        message: refused.message,
    })
}

/// The characters to mark: the ones that the error names; if something is missing, the word before
/// it; else all of them.
fn place(expression: &str, named: Option<std::ops::Range<usize>>) -> Option<(usize, usize)> {
    let named = named.filter(|named| expression.get(named.clone()).is_some());
    let (start, end) = match named {
        Some(named) if !expression[named.clone()].trim().is_empty() => (named.start, named.end),
        Some(named) => {
            let before = expression[..named.start].trim_end();
            let start = before.rfind(char::is_whitespace).map_or(0, |at| at + 1);
            // A multi-byte space is no place to cut.
            (before.get(start..).map_or(0, |_| start), before.len())
        }
        None => (0, expression.len()),
    };
    (start < end).then_some((start, end))
}

fn words(error: &Error) -> String {
    let said = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    if error.kind() == minijinja::ErrorKind::OutOfFuel {
        "it takes too many steps".to_owned()
    } else {
        said
    }
}

fn cell(kind: RowKind, value: &Jinja) -> Result<Cell, String> {
    if matches!(value.kind(), ValueKind::Undefined | ValueKind::None) {
        return Ok(Cell::LeftOut);
    }
    let too_long = |limit| move |TooLong| format!("its result is longer than {limit} bytes");
    if kind == RowKind::Json {
        let json = limits::json(value, MAX_JSON_BYTES).map_err(too_long(MAX_JSON_BYTES))?;
        return Ok(Cell::Json(json));
    }
    let text = limits::text(value, MAX_RESULT_BYTES).map_err(too_long(MAX_RESULT_BYTES))?;
    if text.trim().is_empty() {
        return Ok(Cell::LeftOut);
    }
    let json = |value: &Value| value.to_string();
    let made = match kind {
        RowKind::Text => json(&Value::from(text)),
        RowKind::Number if is_decimal(&text) && !is_float(value) => text,
        RowKind::Number => {
            return Err(format!(
                "“{text}” is not an exact number: use conversion.value, or major(currency) on minor units"
            ));
        }
        RowKind::Integer => {
            let number: i64 =
                text.parse().map_err(|_| format!("“{text}” is not a whole number"))?;
            number.to_string()
        }
        RowKind::Boolean => match text.as_str() {
            "true" | "True" => "true".to_owned(),
            "false" | "False" => "false".to_owned(),
            _ => return Err(format!("“{text}” is neither true nor false")),
        },
        RowKind::Json => unreachable!("written above"),
    };
    Ok(Cell::Json(made))
}

/// True for a value that was computed as a float and so has lost its exact digits.
fn is_float(value: &Jinja) -> bool {
    value.kind() == ValueKind::Number && !value.is_integer()
}

/// True for decimal text such as `-12.30`: digits, with at most one point between them.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    all(whole) && all(rest) && (whole.len() == 1 || !whole.starts_with('0'))
}

/// Builds the message, or returns the first error.
pub(crate) fn build(rows: &[Row], names: &Value, encoding: Encoding) -> Result<String, Fault> {
    let mut fields = Vec::with_capacity(rows.len());
    for (row, cell) in rows.iter().zip(evaluate(rows, names)) {
        if let Cell::Json(json) = cell? {
            fields.push((row.field.as_str(), json));
        }
    }
    let body = encode(&fields, encoding);
    if body.len() > MAX_BODY_BYTES {
        let message = format!("the whole message is longer than {MAX_BODY_BYTES} bytes");
        return Err(Fault { row: rows.len().saturating_sub(1), place: None, message });
    }
    Ok(body)
}

fn encode(fields: &[(&str, String)], encoding: Encoding) -> String {
    // In query strings and forms, a text is written without quotes.
    let plain = |json: &String| match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        _ => json.clone(),
    };
    match encoding {
        Encoding::Json => {
            let field = |(name, json): &(&str, String)| format!("{}:{json}", Value::from(*name));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        Encoding::Form => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(fields.iter().map(|(name, json)| (*name, plain(json))));
            form.finish()
        }
        // RFC 3986: a space is %20, because not every receiver reads a plus as a space.
        Encoding::Query => {
            let escape =
                |text: &str| percent_encoding::utf8_percent_encode(text, UNRESERVED).to_string();
            let pair = |(name, json): &(&str, String)| {
                format!("{}={}", escape(name), escape(&plain(json)))
            };
            fields.iter().map(pair).collect::<Vec<_>>().join("&")
        }
    }
}

/// Everything except letters, digits and `-._~`.
const UNRESERVED: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

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
    use super::*;
    use crate::destination::presets::{PRESETS, sample};

    fn row(kind: RowKind, expression: &str) -> Row {
        let (field, expression) = ("field".to_owned(), expression.to_owned());
        Row { field, kind, expression, is_on: true }
    }

    fn one(kind: RowKind, expression: &str) -> Result<Cell, String> {
        let cell = evaluate(&[row(kind, expression)], &sample()).remove(0);
        cell.map_err(|fault| fault.message)
    }

    #[test]
    fn expressions_give_exactly_what_is_written() {
        use RowKind::{Boolean, Integer, Json, Number, Text};
        let rows = [
            (Text, "conversion.email", r#""jenny.rosen@example.com""#),
            (Text, "'fixed'", r#""fixed""#),
            (Text, "visit.nothing or conversion.kind", r#""purchase""#),
            (Text, "conversion.email | sha256", r#""b9b8a5f6e4f0e7ab""#),
            (Text, "'  A@B.c ' | normalize_email", r#""a@b.c""#),
            (Text, "payment.phone | digits", r#""4366012345""#),
            (Text, "'<!channel> & co' | slack", r#""&lt;!channel&gt; &amp; co""#),
            (Text, "conversion.occurred_at | date('%d.%m.%Y')", r#""21.09.2026""#),
            (Integer, "conversion.occurred_at | unix", "1790000000"),
            (Number, "conversion.value", "102.60"),
            (Number, "(conversion.amount_minor * 80 // 100) | major(conversion.currency)", "82.08"),
            (Integer, "conversion.amount_minor", "10260"),
            (Boolean, "not conversion.livemode", "false"),
            (Json, "touches", "["),
        ];
        for (kind, expression, expected) in rows {
            match one(kind, expression) {
                Ok(Cell::Json(json)) if expression.contains("sha256") => assert_eq!(json.len(), 66),
                Ok(Cell::Json(json)) if kind == Json => assert!(json.starts_with(expected)),
                other => assert_eq!(other, Ok(Cell::Json(expected.to_owned())), "{expression}"),
            }
        }
    }

    #[test]
    fn unknown_values_are_left_out() {
        for expression in [
            "visit.nothing",
            "visit.nothing.further",
            "'' ",
            "visit.nothing | sha256",
            "visit.nothing | upper",
            "'x' if conversion.status == 'failed'",
            "visit.nothing | major('USD')",
        ] {
            assert_eq!(one(RowKind::Text, expression), Ok(Cell::LeftOut), "{expression}");
        }
    }

    /// A conversion with an event of the maximum size.
    fn large_sample() -> Value {
        let mut large = sample();
        let lines: Vec<Value> =
            (0..4_000).map(|n| serde_json::json!({"id": n, "text": "x".repeat(200)})).collect();
        large["stripe"]["data"]["object"]["lines"] = serde_json::json!({"data": lines});
        large["stripe"]["data"]["object"]["text"] = "x".repeat(60_000).into();
        large
    }

    #[test]
    fn expressions_that_loop_or_grow_without_limit_end_soon() {
        let large = large_sample();
        for expression in [
            "'x' * 1000000000",
            "range(1000000000)",
            "('x' * 100000) ~ ('x' * 100000)",
            "10 ** 10 ** 10",
            "[1] * 1000000",
            "[1] * 4000000",
            "[[1] * 10000] * 1000",
            "[1] * 100000000",
            "[[[1] * 10000] * 10000] * 10000",
            "'x' if conversion.amount_minor < 2000000 else [[[1] * 10000] * 10000] * 10000",
            "touches * 100000000",
            "100000000 * touches",
            "(conversion.nothing or [1]) * 100000000",
            "{'a': [1] * 100000000}",
            "([1] * 100000000) ~ ''",
            "([1] * 100000000) | upper",
            "([[1] * 100000000] * 100000000) | map('sha256') | join",
            "([1] * 100000000)[::-1]",
            "[([1] * 100000000) | first] * 100000000 in [[1] * 100000000]",
            "[[1] * 100000000] == [[1] * 100000000]",
            "1 | default([1] * 100000000)",
            "(1, 2) * 100000000",
            "([[1]])[0] * 100000000",
            "(touches)[0:] * 100000000",
            "'ü' ~ ([[1]])[0] * 100000000",
            "([1]) * (100000000)",
            "1 * 1 * 1 * 1 * 1 * 1 * 1 * 1 * 1 * 1",
            "'a' | replace('a', 'aaaaaaaaaaaaaaaa') | replace('a', 'aaaaaaaaaaaaaaaa')
                 | replace('a', 'aaaaaaaaaaaaaaaa') | replace('a', 'aaaaaaaaaaaaaaaa')
                 | replace('a', 'aaaaaaaaaaaaaaaa') | replace('a', 'aaaaaaaaaaaaaaaa')",
            "'2026-01-01T00:00:00Z' | date('%255Y%255Y%255Y%255Y%255Y%255Y%255Y%255Y')",
            "'2026-01-01T00:00:00Z' | date('%4000000000Y')",
            "stripe ~ stripe ~ stripe ~ stripe ~ stripe ~ stripe ~ stripe ~ stripe ~ stripe",
            "stripe | upper | upper | upper | upper",
            "stripe.data.object.lines.data | map('upper') | join(stripe.data.object.text)",
            "stripe.data.object.lines.data | map(attribute='text') | join(stripe)",
            "stripe.data.object.lines.data | join",
            "stripe.data.object.text | replace('x', stripe.data.object.text)",
            "stripe.data.object.text | upper | lower | upper | lower | upper | lower | sha256",
            "stripe.data.object.lines.data[::-1] == stripe.data.object.lines.data[0:]",
            "stripe.data.object in stripe.data.object.lines.data",
            "stripe.data.object.text in stripe.data.object.text ~ stripe.data.object.text",
        ] {
            for kind in [RowKind::Json, RowKind::Text] {
                let rows = [row(kind, expression)];
                let stopwatch = crate::clock::Clock::stopwatch();
                let cell = evaluate(&rows, &large).remove(0);
                // Ten times what a release build may take: this build is not optimized and shares
                // its machine.
                let took = stopwatch.elapsed().as_millis();
                assert!(took < 1_000, "{expression} took {took} ms");
                if let Ok(Cell::Json(json)) = cell {
                    assert!(json.len() <= MAX_JSON_BYTES, "{expression}");
                }
            }
        }
        assert!(one(RowKind::Text, "'x' * 3000").is_err(), "too long");
    }

    #[test]
    fn products_are_for_numbers() {
        let refused = "only numbers can be multiplied; use | int to convert text";
        for expression in [
            "'x' * 3",
            "3 * [1]",
            "'y' if 1 else 'x' * 3",
            "conversion.value * 2",
            "([[1]])[0] * 3",
            "'ü' ~ (touches)[0:] * 3",
        ] {
            assert_eq!(one(RowKind::Text, expression), Err(refused.to_owned()), "{expression}");
        }
        let found = check(&[row(RowKind::Text, "conversion.kind ~ (touches * 3)")], &[sample()]);
        assert_eq!(found[0].place, Some((19, 26)));
        for (expression, product) in [
            ("2 * (3 + 4) * 5", "70"),
            ("(conversion.amount_minor // 100) * 2", "204"),
            ("('7' | int) * (touches | length)", "7"),
            ("({'a': 4})['a'] * 2", "8"),
        ] {
            let cell = one(RowKind::Integer, expression);
            assert_eq!(cell, Ok(Cell::Json(product.to_owned())), "{expression}");
        }
    }

    #[test]
    fn a_list_in_a_text_is_json() {
        let cell = one(RowKind::Text, "[1, 'a']");
        assert_eq!(cell, Ok(Cell::Json(r#""[1,\"a\"]""#.to_owned())));
    }

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

    #[test]
    fn parameters_are_encoded_for_every_receiver() {
        let rows = [
            Row { field: "a b".to_owned(), ..row(RowKind::Text, "'x y&z=ü'") },
            Row { field: "v".to_owned(), ..row(RowKind::Number, "conversion.value") },
        ];
        let made = |encoding| build(&rows, &sample(), encoding).unwrap();
        assert_eq!(made(Encoding::Query), "a%20b=x%20y%26z%3D%C3%BC&v=102.60");
        assert_eq!(made(Encoding::Form), "a+b=x+y%26z%3D%C3%BC&v=102.60");
        assert_eq!(made(Encoding::Json), r#"{"a b":"x y&z=ü","v":102.60}"#);
    }
}
