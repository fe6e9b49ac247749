//! Reads the parameters of a request, from the query and from a body of any supported format.
//! Takes a request's query, content type and body; returns names and values as text, or the reason
//! why there are none.
//! Pure. A number keeps its digits, because it is never parsed, and a repeated name has one defined
//! value. Source of the names' spelling: readme.anytrack.io, custom-integration-parameters.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text;

/// Maximum number of parameters; a conversion has a dozen.
const MAX_PARAMETERS: usize = 100;

/// Why a request states no conversion, for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// One sentence.
    pub(crate) error: String,
    /// The parameter that is wrong.
    pub(crate) parameter: Option<String>,
}

impl Refusal {
    pub(super) fn new(error: impl Into<String>) -> Self {
        Self { error: error.into(), parameter: None }
    }

    pub(super) fn of(parameter: &str, error: impl Into<String>) -> Self {
        Self { error: error.into(), parameter: Some(parameter.to_owned()) }
    }
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// As sent; `outer_inner` for a nested one.
    pub(super) name: String,
    /// Without surrounding spaces.
    pub(super) value: String,
    /// The names of an object and its field, if it was sent nested.
    pub(super) nested: Option<(String, String)>,
    /// True if it contains another object, which is not read.
    pub(super) is_deep: bool,
    canonical: String,
}

impl Parameter {
    fn new(name: impl Into<String>, value: &str) -> Self {
        let (name, value) = (name.into(), value.trim().to_owned());
        Self { canonical: canonical(&name), name, value, nested: None, is_deep: false }
    }

    fn of_json(name: String, value: &RawValue) -> Self {
        let text = value.get();
        let is_deep = text.starts_with('{') || (text.starts_with('[') && text.contains('{'));
        Self { is_deep, ..Self::new(name, &text_of(value)) }
    }
}

/// All parameters of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The body's parameters first, because they win over those of the query.
    places: [Vec<Parameter>; 2],
}

/// Normalizes a name: case, `_` and `-` do not matter, so `Click-ID` is `click_id`.
pub(super) fn canonical(name: &str) -> String {
    name.chars().filter(|c| !"_-".contains(*c)).flat_map(char::to_lowercase).collect()
}

/// Reads a request.
pub(crate) fn read(query: &str, content_type: &str, body: &[u8]) -> Result<Parameters, Refusal> {
    let body = read_body(content_type, body)?;
    let is_stripes = |name: &str, value: &str| {
        body.iter().any(|it| it.name == name && (it.value == value || value.is_empty()))
    };
    if is_stripes("object", "event") || (is_stripes("type", "") && is_stripes("data_object", "")) {
        return Err(Refusal::new("a Stripe event belongs to /webhooks/stripe/{source}"));
    }
    let parameters = Parameters { places: [body, read_form(query.as_bytes())] };
    if parameters.all().count() > MAX_PARAMETERS {
        return Err(Refusal::new(format!("more than {MAX_PARAMETERS} parameters")));
    }
    if let Some(bad) = parameters.all().find(|it| it.name.contains('\0') || it.value.contains('\0'))
    {
        let name = bad.name.replace('\0', "�");
        return Err(Refusal::of(&name, "contains a NUL character"));
    }
    Ok(parameters)
}

impl Parameters {
    /// The first non-empty value of these (normalized) names; the body's wins over the query's.
    pub(super) fn find(&self, names: &[&str]) -> Option<&Parameter> {
        self.places.iter().find_map(|place| {
            names.iter().find_map(|name| {
                place.iter().find(|it| it.canonical == *name && !it.value.is_empty())
            })
        })
    }

    /// Every parameter, the body's first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Parameter> {
        self.places.iter().flatten()
    }
}

fn read_body(content_type: &str, body: &[u8]) -> Result<Vec<Parameter>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let decoded = text::decoded(body);
    let mime = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let looks_like_json = decoded.trim_ascii_start().starts_with(['{', '[']);
    match mime.as_str() {
        "application/x-www-form-urlencoded" => Ok(read_form(body)),
        "text/plain" | "" if looks_like_json => read_json(&decoded),
        "text/plain" | "" if body.contains(&b'=') => Ok(read_form(body)),
        "text/plain" | "" => Err(Refusal::new("the body is neither JSON nor a form")),
        json if json.ends_with("json") => read_json(&decoded),
        _ => Err(Refusal::new(
            "send application/json, application/x-www-form-urlencoded, or parameters in the URL",
        )),
    }
}

fn read_form(form: &[u8]) -> Vec<Parameter> {
    text::pairs(form).into_iter().map(|(name, value)| Parameter::new(name, &value)).collect()
}

/// A JSON object with unparsed values.
struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn read_json(body: &str) -> Result<Vec<Parameter>, Refusal> {
    let unreadable =
        |error: serde_json::Error| Refusal::new(format!("the body is not a JSON object: {error}"));
    let object = if body.trim_ascii_start().starts_with('[') {
        let mut objects: Vec<Object> = serde_json::from_str(body).map_err(unreadable)?;
        match (objects.pop(), objects.is_empty()) {
            (Some(only), true) => only,
            _ => {
                return Err(Refusal::new(
                    "send one conversion per request: an array of exactly one object",
                ));
            }
        }
    } else {
        serde_json::from_str(body).map_err(unreadable)?
    };
    let mut parameters = Vec::new();
    for (name, value) in object.0 {
        // One level of nesting is read; deeper values stay JSON.
        match value.get().starts_with('{').then(|| serde_json::from_str::<Object>(value.get())) {
            Some(Ok(inner)) => {
                parameters.extend(inner.0.into_iter().map(|(inner, value)| Parameter {
                    nested: Some((canonical(&name), canonical(&inner))),
                    ..Parameter::of_json(format!("{name}_{inner}"), &value)
                }));
            }
            _ => parameters.push(Parameter::of_json(name, &value)),
        }
    }
    Ok(parameters)
}

fn text_of(value: &RawValue) -> String {
    let text = value.get();
    match text {
        "null" => String::new(),
        quoted if quoted.starts_with('"') => {
            serde_json::from_str(quoted).unwrap_or_else(|_| quoted.to_owned())
        }
        // A number keeps its digits.
        other => without_exponent(other).unwrap_or_else(|| other.to_owned()),
    }
}

/// Writes a JSON number with an exponent, such as `1.0e2`, without it; `None` if it has none, or a
/// huge one.
fn without_exponent(number: &str) -> Option<String> {
    /// No amount of money needs more digits.
    const MOST: i64 = 40;
    let (mantissa, exponent) = number.split_once(['e', 'E'])?;
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let exponent = exponent.parse::<i64>().ok().filter(|exponent| exponent.abs() <= MOST)?;
    let digits = format!("{whole}{fraction}");
    let point = i64::try_from(whole.len()).ok()? + exponent;
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i64::try_from(digits.len()).ok()?;
    Some(match usize::try_from(point) {
        Ok(at) if at > 0 && at < digits.len() => {
            format!("{sign}{}.{}", &digits[..at], &digits[at..])
        }
        Ok(1..) => format!("{sign}{digits}{}", zeros(point - length)),
        _ => format!("{sign}0.{}{digits}", zeros(-point)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = "application/json";
    const FORM: &str = "application/x-www-form-urlencoded";

    fn value(query: &str, content_type: &str, body: &str, names: &[&str]) -> Option<String> {
        let parameters = read(query, content_type, body.as_bytes()).unwrap();
        parameters.find(names).map(|it| it.value.clone())
    }

    #[test]
    fn every_form_of_a_body_is_read_and_numbers_keep_their_digits() {
        let rows = [
            ("query", "value=102.60", "", "", "102.60"),
            ("JSON number", "", JSON, r#"{"value":102.60}"#, "102.60"),
            ("JSON text", "", JSON, r#"{"value":"102.60"}"#, "102.60"),
            ("large JSON number", "", JSON, r#"{"value":9007199254740993}"#, "9007199254740993"),
            ("with a charset", "", "application/json; charset=utf-8", r#"{"value":1}"#, "1"),
            ("a JSON dialect", "", "application/ld+json", r#"{"value":1}"#, "1"),
            ("array of one", "", JSON, r#" [{"value":1}] "#, "1"),
            ("form", "", FORM, "value=102.60&x=1", "102.60"),
            ("text that is JSON", "", "text/plain", r#" {"value":1}"#, "1"),
            ("text that is a form", "", "text/plain;charset=UTF-8", "value=1", "1"),
            ("no type, JSON", "", "", r#"{"value":1}"#, "1"),
            ("no type, form", "", "", "a=b&value=1", "1"),
            ("percent and plus", "value=%20a+b%20", "", "", "a b"),
            ("body before query", "value=1", JSON, r#"{"value":2}"#, "2"),
            ("an empty one does not count", "value=1", JSON, r#"{"value":" "}"#, "1"),
            ("nor does null", "value=1", JSON, r#"{"value":null}"#, "1"),
            ("the first that is not empty", "value=&value=3&value=4", "", "", "3"),
            ("twice in JSON", "", JSON, r#"{"value":"","value":5}"#, "5"),
            ("true", "", JSON, r#"{"value":true}"#, "true"),
            ("an exponent", "", JSON, r#"{"value":1.0e2}"#, "100"),
            ("one below zero", "", JSON, r#"{"value":-1025E-2}"#, "-10.25"),
            ("a small one", "", JSON, r#"{"value":5e-3}"#, "0.005"),
            ("a point within", "", JSON, r#"{"value":1.2345e2}"#, "123.45"),
            ("a huge one", "", JSON, r#"{"value":1e99}"#, "1e99"),
            ("a text with one", "", JSON, r#"{"value":"1e2"}"#, "1e2"),
            ("a byte order mark", "", JSON, "\u{feff}{\"value\":1}", "1"),
            ("semicolons", "a=1;value=2", "", "", "2"),
            ("not UTF-8", "value=%E4", "", "", "ä"),
        ];
        for (name, query, content_type, body, expected) in rows {
            let found = value(query, content_type, body, &["value"]);
            assert_eq!(found.as_deref(), Some(expected), "{name}");
        }
    }

    #[test]
    fn one_level_of_nesting_is_read() {
        let body = r#"{"customer":{"email":"a@b.example","x":{"y":1}},"list":[1, 2]}"#;
        assert_eq!(value("", JSON, body, &["customeremail"]).as_deref(), Some("a@b.example"));
        assert_eq!(value("", JSON, body, &["customerx"]).as_deref(), Some(r#"{"y":1}"#));
        assert_eq!(value("", JSON, body, &["list"]).as_deref(), Some("[1, 2]"));
    }

    #[test]
    fn an_unreadable_request_has_a_reason() {
        let many = (0..101).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let rows = [
            ("broken JSON", "", JSON, "{\"a\":", "not a JSON object"),
            ("no object", "", JSON, "7", "not a JSON object"),
            ("a control character", "", JSON, "{\"a\":\"\u{1}\"}", "not a JSON object"),
            ("deep", "", JSON, &deep, "not a JSON object"),
            ("two at once", "", JSON, "[{},{}]", "exactly one"),
            ("none at once", "", JSON, "[]", "exactly one"),
            ("plain words", "", "text/plain", "hello", "neither JSON nor a form"),
            ("a picture", "", "image/png", "a=b", "application/json"),
            ("too many", &many, "", "", "more than 100 parameters"),
            ("too many together", &many[..400], FORM, &many[..400], "more than 100 parameters"),
            ("NUL", "a=%00", "", "", "NUL"),
            ("NUL in a name", "a%00=1", "", "", "NUL"),
            ("Stripe's", "", JSON, r#"{"id":"evt_1","object":"event"}"#, "/webhooks/stripe/"),
            ("a trimmed one", "", JSON, r#"{"type":"x","data":{"object":{}}}"#, "/webhooks/stripe"),
        ];
        for (name, query, content_type, body, expected) in rows {
            let refusal = read(query, content_type, body.as_bytes()).unwrap_err();
            assert!(refusal.error.contains(expected), "{name}: {refusal:?}");
        }
        let windows = read("", JSON, b"{\"a\":\"\xff\x80\"}").unwrap();
        assert_eq!(windows.find(&["a"]).unwrap().value, "ÿ€");
        assert_eq!(read("", "image/png", b" \n").unwrap(), Parameters::default());
    }
}
