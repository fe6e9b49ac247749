//! Reads single fields of Stripe objects.
//! Takes a JSON value; returns text, references, amounts or times, or nothing.
//! Guarantees that absent, null and empty mean the same, and that a reference may be text or the
//! expanded object. Only amounts can be wrong, and the error names the field.

use serde_json::{Number, Value};

use crate::clock::Timestamp;
use crate::conversion::merge::Metadata;
use crate::money::Currency;

/// Maximum length of a stored text; Stripe's are far shorter.
const MAX_TEXT_CHARS: usize = 200;
/// Maximum length of a stored metadata value; Stripe allows 500.
const MAX_METADATA_CHARS: usize = 500;
/// Maximum amount; Stripe documents twelve digits at most.
const MAX_AMOUNT: i64 = 999_999_999_999_999;

/// A whole, non-negative number of minor units; absent and null are `None`. For amounts that are
/// counted: a wrong one is an error.
pub(super) fn amount(object: &Value, key: &str) -> Result<Option<i64>, String> {
    match &object[key] {
        Value::Null => Ok(None),
        Value::Number(number) => match whole(number) {
            Some(minor) if (0..=MAX_AMOUNT).contains(&minor) => Ok(Some(minor)),
            _ => Err(format!("data.object.{key} is {number}, not an amount in minor units")),
        },
        other @ (Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
            Err(format!("data.object.{key} is {}, not a number", kind_of(other)))
        }
    }
}

/// A number without a fraction, even if it is written as `1000.0`.
fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| number.to_string().strip_suffix(".0")?.parse().ok())
}

/// An informative amount (tax, discount, subtotal): ignored if it can't be read, so that the
/// payment is not lost because of it.
pub(super) fn side_amount(object: &Value, key: &str) -> Option<i64> {
    amount(object, key).ok().flatten()
}

/// A required amount.
pub(super) fn needed_amount(object: &Value, key: &str) -> Result<i64, String> {
    amount(object, key)?.ok_or_else(|| format!("data.object.{key} is missing"))
}

/// A required currency.
pub(super) fn needed_currency(object: &Value) -> Result<Currency, String> {
    currency(&object["currency"])
        .ok_or_else(|| "data.object.currency is not a currency code".to_owned())
}

/// The object's own ID, which is required.
pub(super) fn needed_id(object: &Value) -> Result<String, String> {
    text(&object["id"]).ok_or_else(|| "data.object.id is missing".to_owned())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

pub(super) fn currency(value: &Value) -> Option<Currency> {
    value.as_str().and_then(Currency::parse)
}

/// Text, truncated, without the NUL that PostgreSQL can't store; absent, null, empty and other
/// types are `None`.
pub(super) fn text(value: &Value) -> Option<String> {
    let text = value.as_str().map(str::trim).filter(|text| !text.is_empty())?;
    Some(cut(text, MAX_TEXT_CHARS))
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).map(|char| if char == '\0' { '\u{fffd}' } else { char }).collect()
}

/// A reference: its text, or the `id` of the expanded object.
pub(super) fn reference(value: &Value) -> Option<String> {
    text(value).or_else(|| text(&value["id"]))
}

/// A collection of no or one item.
pub(super) fn one<C: Default + Extend<String>>(id: Option<String>) -> C {
    let mut set = C::default();
    set.extend(id);
    set
}

/// A text that is an email address. Anything else, such as a masked address, is ignored.
pub(super) fn email(value: &Value) -> Option<String> {
    text(value).filter(|text| {
        text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'))
            && !text.contains(|char: char| {
                char.is_whitespace() || char.is_control() || matches!(char, '[' | ']')
            })
    })
}

pub(super) fn metadata(value: &Value) -> Metadata {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((cut(key, 40), cut(value.as_str()?, MAX_METADATA_CHARS))))
        .filter(|(_, value)| !value.trim().is_empty())
        .take(50)
        .collect()
}

/// A time in seconds since 1970.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_i64().map(Timestamp::from_seconds)
}
