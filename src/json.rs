//! Reads JSON that a strict parser rejects because of one invalid part.
//! Takes bytes; returns the value, and a list of what was replaced to read it.
//! Guarantees that valid JSON is read exactly as by `serde_json`, and that everything else is
//! repaired in bounded time and memory, or rejected with the position.

use std::borrow::Cow;

use serde_json::Value;

/// Maximum depth of nesting. `serde_json` stops at 128; nothing that we read is deeper than ten.
const MAX_DEPTH: usize = 100;
/// Maximum number of repairs that are listed; more usually have the same cause.
const NAMED_REPAIRS: usize = 3;

/// A value, and what was replaced to read it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lenient {
    pub(crate) value: Value,
    /// For example `a lone surrogate at byte 57`; empty for valid JSON.
    pub(crate) repairs: Vec<String>,
}

/// Reads JSON. Bytes that are not UTF-8 and lone surrogates become U+FFFD, a number outside the
/// range of all number types becomes text, and values that are nested too deep become null.
///
/// # Errors
/// The position at which it is not JSON even with these repairs.
pub(crate) fn lenient(body: &[u8]) -> Result<Lenient, String> {
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(Lenient { value, repairs: Vec::new() });
    }
    let mut repairs = Vec::new();
    let text = as_text(body, &mut repairs);
    let repaired = Repair::new(&text, repairs).run();
    match serde_json::from_str(&repaired.out) {
        Ok(value) => Ok(Lenient { value, repairs: repaired.repairs }),
        Err(error) => Err(error.to_string()),
    }
}

/// The text value of a key of the outermost object, even if the rest is not JSON.
pub(crate) fn text_of(body: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let end = end_of_string(bytes, at);
                let is_key = depth == 1 && text.get(at + 1..end) == Some(key);
                at = end;
                if is_key && let Some(value) = string_after_colon(&text, end + 1) {
                    return Some(value);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// The position of the closing quote of the string that begins here, or the end of the text.
fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

fn string_after_colon(text: &str, from: usize) -> Option<String> {
    let rest = text.get(from..)?.trim_start().strip_prefix(':')?.trim_start();
    let rest = rest.strip_prefix('"')?;
    let end = rest.find('"')?;
    Some(rest[..end].to_owned()).filter(|text| !text.is_empty() && !text.contains('\\'))
}

fn as_text<'a>(body: &'a [u8], repairs: &mut Vec<String>) -> Cow<'a, str> {
    if let Err(error) = std::str::from_utf8(body) {
        repairs.push(format!("a byte that is not UTF-8 at byte {}", error.valid_up_to()));
    }
    String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body))
}

/// One pass over a text, without recursion, so its depth costs nothing.
struct Repair<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    out: String,
    repairs: Vec<String>,
}

impl<'a> Repair<'a> {
    fn new(text: &'a str, repairs: Vec<String>) -> Self {
        Self { text, at: 0, depth: 0, out: String::with_capacity(text.len()), repairs }
    }

    fn note(&mut self, what: &str) {
        if self.repairs.len() < NAMED_REPAIRS {
            self.repairs.push(format!("{what} at byte {}", self.at));
        }
    }

    fn run(mut self) -> Self {
        while let Some(char) = self.text[self.at..].chars().next() {
            match char {
                '"' => self.string(),
                '-' | '0'..='9' => self.number(),
                '{' | '[' => {
                    self.depth += 1;
                    if self.depth == MAX_DEPTH + 1 {
                        self.note("more than 100 levels of nesting");
                        self.push("null");
                    }
                    self.keep(char);
                }
                '}' | ']' => {
                    self.keep(char);
                    self.depth = self.depth.saturating_sub(1);
                }
                _ => self.keep(char),
            }
        }
        self
    }

    /// Writes a text, unless it is nested too deep.
    fn push(&mut self, text: &str) {
        if self.depth <= MAX_DEPTH || text == "null" {
            self.out.push_str(text);
        }
    }

    /// Writes the character at this position, and continues after it.
    fn keep(&mut self, char: char) {
        if self.depth <= MAX_DEPTH {
            self.out.push(char);
        }
        self.at += char.len_utf8();
    }

    fn number(&mut self) {
        let rest = &self.text[self.at..];
        let is_part = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
        let token = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        if serde_json::from_str::<Value>(token).is_ok() {
            self.push(token);
        } else {
            self.note("a number that cannot be held");
            self.push(&format!("\"{token}\""));
        }
        self.at += token.len();
    }

    fn string(&mut self) {
        self.keep('"');
        while let Some(char) = self.text[self.at..].chars().next() {
            match char {
                '"' => return self.keep('"'),
                '\\' => self.escape(),
                '\0'..='\u{1f}' => {
                    self.note("a control character in a text");
                    self.push("\\ufffd");
                    self.at += 1;
                }
                _ => self.keep(char),
            }
        }
    }

    fn escape(&mut self) {
        let rest = &self.text[self.at..];
        let Some(first) = unit(rest) else {
            // `\n`, `\"`: two characters, whatever the second is.
            self.keep('\\');
            if let Some(second) = self.text[self.at..].chars().next() {
                self.keep(second);
            }
            return;
        };
        let is_pair = (0xd800..0xdc00).contains(&first)
            && rest.get(6..).and_then(unit).is_some_and(|low| (0xdc00..0xe000).contains(&low));
        if is_pair {
            self.push(&rest[..12]);
            self.at += 12;
        } else if (0xd800..0xe000).contains(&first) {
            self.note("a lone surrogate");
            self.push("\\ufffd");
            self.at += 6;
        } else {
            self.push(&rest[..6]);
            self.at += 6;
        }
    }
}

/// The code unit of a `\u1234` that begins here.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn one_bad_spot_does_not_cost_the_rest() {
        let deep = |levels: usize| {
            format!(r#"{{"a":{}1{},"b":2}}"#, "[".repeat(levels), "]".repeat(levels))
        };
        let rows: [(&str, &[u8], &str); 6] = [
            ("a lone surrogate at byte 6", br#"{"a":"\ud83d","b":2}"#, "\u{fffd}"),
            (
                "a lone surrogate at byte 6",
                br#"{"a":"\udc00\ud83d\ude00\n","b":2}"#,
                "\u{fffd}\u{1f600}\n",
            ),
            ("a number that cannot be held at byte 5", br#"{"a":1e400,"b":2}"#, "1e400"),
            ("a byte that is not UTF-8 at byte 6", b"{\"a\":\"\xe4\",\"b\":2}", "\u{fffd}"),
            ("a control character in a text at byte 6", b"{\"a\":\"\n\",\"b\":2}", "\u{fffd}"),
            ("", b"\xef\xbb\xbf{\"a\":\"1\",\"b\":2}", "1"),
        ];
        for (repair, body, a) in rows {
            let found = lenient(body).unwrap();
            assert_eq!(found.value, json!({"a": a, "b": 2}));
            assert_eq!(found.repairs.join(", "), repair);
        }
        for levels in [130, 100_000] {
            let found = lenient(deep(levels).as_bytes()).unwrap();
            assert_eq!(found.value["b"], 2, "{levels}");
            assert!(found.repairs[0].starts_with("more than 100 levels"), "{:?}", found.repairs);
        }
    }

    #[test]
    fn what_is_no_json_says_where_and_still_names_its_id() {
        let body = br#"{"object":{"id":"cs_1"},"id":"evt_1","type": "a.b" x}"#;
        assert!(lenient(body).unwrap_err().contains("column 52"), "{:?}", lenient(body));
        assert_eq!(text_of(body, "id").as_deref(), Some("evt_1"));
        assert_eq!(text_of(body, "type").as_deref(), Some("a.b"));
        for body in ["", "{", "{\"id\"", "{\"id\":", "{\"id\":\"", "{\"id\":7}", "{\"\\"] {
            assert_eq!(text_of(body.as_bytes(), "id"), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), text in "[\\[\\]{}\",:\\\\ud8dc0-9eE+.-]{0,60}") {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let _ = lenient(body);
                let _ = text_of(body, "id");
            }
        }

        #[test]
        fn valid_json_is_read_as_it_is(text in "\\PC{0,40}", number in any::<i64>()) {
            let value = json!({"text": text, "number": number, "list": [text, null]});
            let found = lenient(value.to_string().as_bytes()).unwrap();
            prop_assert!(found.value == value && found.repairs.is_empty());
        }
    }
}
