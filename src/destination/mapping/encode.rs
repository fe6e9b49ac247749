//! Encodes a message.
//! Takes names with values as JSON; returns a JSON object, an HTML form or a query.
//! Guarantees that fields keep their order and numbers their digits. Pure.

use serde_json::Value;

use crate::settings::Encoding;

pub(in crate::destination) fn encode(fields: &[(&str, String)], encoding: Encoding) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::build;
    use super::super::tests::row;
    use super::*;
    use crate::destination::presets::sample;
    use crate::settings::{Row, RowKind};

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
