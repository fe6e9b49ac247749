//! The mapping: fields with expressions that build a message.
//! Takes the fields and the names of a conversion; returns the message's bytes, or which field is
//! wrong, where, and why.
//! Guarantees that an expression can neither loop nor grow without limit (see `limits`), that
//! unknown values are left out instead of sent empty, and that numbers keep their digits. Pure.

mod check;
mod encode;

use minijinja::value::{Serde, Value as Jinja, ValueKind};
use minijinja::{Environment, Error, UndefinedBehavior};
use serde_json::Value;

pub(crate) use self::check::{check, names_of};
pub(super) use self::encode::encode;

use super::limits::{self, TooLong};
use crate::clock::Timestamp;
use crate::ids;
use crate::money::{Currency, Money};
use crate::settings::{Encoding, Row, RowKind};

/// Maximum number of steps of one expression: enough for any real one, and only milliseconds.
const FUEL: u64 = 5_000;
const MAX_RESULT_BYTES: usize = 2 * 1024;
/// JSON results are objects and lists, which are longer.
const MAX_JSON_BYTES: usize = MAX_RESULT_BYTES * 8;
/// Maximum length of a text that a filter accepts.
const MAX_FILTERED_BYTES: usize = 64 * 1024;
const MAX_BODY_BYTES: usize = 256 * 1024;

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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::destination::presets::sample;

    pub(crate) fn row(kind: RowKind, expression: &str) -> Row {
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
}
