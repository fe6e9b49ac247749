//! The body of `POST /v`.
//! In: bytes from anybody's browser. Out: a `Sent`, or one line saying what can never be right about it.
//! Promise: over-long optional values are cut, wrong-typed ones dropped, invalid UTF-8 replaced; only what can never be right is refused. Pure.

use serde_json::{Map, Value};

use crate::ids::ClickId;

/// Longest page URL kept, in characters; the tag cuts there too.
const MAX_URL_CHARS: usize = 4096;
/// Longest referrer kept.
const MAX_REFERRER_CHARS: usize = 1024;
/// Longest list of ad cookies read.
const MAX_COOKIES_CHARS: usize = 1500;

/// What the tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) site_key: String,
    pub(crate) click_id: ClickId,
    /// The browser's time; with the click ID it recognises a repeat. Not trusted as a time.
    pub(crate) sent_at_ms: i64,
    pub(crate) what: What,
}

/// A body with `a` is a note, else a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Visit(Seen),
    /// An AnyTrack click ID, or the alphanumeric reference found in a payment link.
    Note(String),
}

/// A page was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) previous: Option<ClickId>,
    pub(crate) url: Option<String>,
    pub(crate) referrer: Option<String>,
    /// `name=value,…` of ad cookies the tag found.
    pub(crate) ad_cookies: Option<String>,
    pub(crate) is_automated: bool,
    pub(crate) wants_privacy: bool,
    pub(crate) is_adopted: bool,
    /// The alias of the redirect link that was clicked; never of a browser's body.
    pub(crate) link: Option<String>,
}

impl Seen {
    /// What a click on a redirect link says, held to the same lengths.
    pub(crate) fn of_click(click: &super::Click) -> Self {
        let cut = |text: &str, chars: usize| text.chars().take(chars).collect();
        Self {
            previous: click.previous.clone(),
            url: Some(cut(&click.url, MAX_URL_CHARS)),
            referrer: click.referrer.as_deref().map(|text| cut(text, MAX_REFERRER_CHARS)),
            is_adopted: click.is_adopted,
            link: Some(click.alias.clone()),
            ..Self::default()
        }
    }
}

/// Reads a body.
pub(crate) fn parse(bytes: &[u8]) -> Result<Sent, &'static str> {
    let text = String::from_utf8_lossy(bytes);
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(&text) else {
        return Err("the body is not a JSON object");
    };
    let site_key = text_of(&object, "s", 33).ok_or("s (the site's key) is missing")?;
    let key_fits = (1..=32).contains(&site_key.len())
        && site_key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !key_fits {
        return Err("s is not a site's key");
    }
    let click_id = object
        .get("i")
        .and_then(Value::as_str)
        .and_then(ClickId::parse)
        .ok_or("i is not a click ID")?;
    let sent_at_ms = object
        .get("t")
        .and_then(Value::as_i64)
        .filter(|ms| *ms >= 0)
        .ok_or("t is not a time in ms")?;
    if object.contains_key("e") {
        return Err("events of pages are not taken by this version");
    }
    let what = if let Some(note) = object.get("a") {
        let note = note.as_str().filter(|text| {
            (14..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        What::Note(note.ok_or("a is not an AnyTrack click ID")?.to_owned())
    } else {
        What::Visit(seen(&object))
    };
    Ok(Sent { site_key, click_id, sent_at_ms, what })
}

fn seen(object: &Map<String, Value>) -> Seen {
    let flags = object
        .get("f")
        .and_then(Value::as_i64)
        .filter(|bits| (0..=255).contains(bits))
        .unwrap_or(0);
    Seen {
        previous: object.get("p").and_then(Value::as_str).and_then(ClickId::parse),
        url: text_of(object, "u", MAX_URL_CHARS),
        referrer: text_of(object, "r", MAX_REFERRER_CHARS),
        ad_cookies: text_of(object, "k", MAX_COOKIES_CHARS),
        is_automated: flags & 1 != 0,
        wants_privacy: flags & 2 != 0,
        is_adopted: flags & 4 != 0,
        link: None,
    }
}

/// A text value, cut, without the NUL that PostgreSQL cannot store. `None` when absent, empty or of another type.
fn text_of(object: &Map<String, Value>, key: &str, chars: usize) -> Option<String> {
    let text = object.get(key)?.as_str().filter(|text| !text.is_empty())?;
    Some(
        text.chars().take(chars).map(|char| if char == '\0' { '\u{fffd}' } else { char }).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "ck_0123456789abcdefghjkmnpqrstvwxyz";

    fn body(rest: &str) -> String {
        format!(r#"{{"s":"main","i":"{ID}","t":1790000000000{rest}}}"#)
    }

    #[test]
    fn what_can_never_be_right_is_refused() {
        let rows: Vec<(&str, Vec<u8>)> = vec![
            ("empty", b"".to_vec()),
            ("not JSON", b"hello".to_vec()),
            ("an array", b"[]".to_vec()),
            ("null", b"null".to_vec()),
            ("no site", format!(r#"{{"i":"{ID}","t":1}}"#).into_bytes()),
            ("site of wrong form", format!(r#"{{"s":"Main!","i":"{ID}","t":1}}"#).into_bytes()),
            ("long site", format!(r#"{{"s":"{}","i":"{ID}","t":1}}"#, "a".repeat(33)).into_bytes()),
            ("no id", br#"{"s":"main","t":1}"#.to_vec()),
            (
                "header injection",
                br#"{"s":"main","i":"ck_0123456789abcdefghjkmnpqrst\r\nSet-Cookie: a=b","t":1}"#
                    .to_vec(),
            ),
            ("the placeholder", br#"{"s":"main","i":"--CLICK-ID--","t":1}"#.to_vec()),
            ("no time", format!(r#"{{"s":"main","i":"{ID}"}}"#).into_bytes()),
            ("time as text", format!(r#"{{"s":"main","i":"{ID}","t":"1"}}"#).into_bytes()),
            ("an event", body(r#","e":"Lead""#).into_bytes()),
            ("a bad note", body(r#","a":"no-dashes-here!""#).into_bytes()),
            ("deep nesting", "[".repeat(5000).into_bytes()),
        ];
        for (name, bytes) in rows {
            assert!(parse(&bytes).is_err(), "{name}");
        }
    }

    #[test]
    fn optional_values_are_cut_or_dropped_never_refused() {
        let long = "x".repeat(9000);
        let sent = parse(
            body(&format!(r#","u":"{long}","r":7,"k":null,"p":"junk","f":"2","z":[]"#)).as_bytes(),
        )
        .unwrap();
        let What::Visit(seen) = sent.what else { panic!("a visit") };
        assert_eq!(seen.url.map(|url| url.len()), Some(MAX_URL_CHARS));
        assert_eq!((seen.referrer, seen.ad_cookies, seen.previous), (None, None, None));
        assert!(!seen.wants_privacy);
    }

    #[test]
    fn invalid_utf8_and_nul_are_replaced() {
        let mut bytes = body(r#","u":"https://a/X\u0000""#).into_bytes();
        let at = bytes.iter().position(|b| *b == b'X').unwrap();
        bytes[at] = 0xff;
        let What::Visit(seen) = parse(&bytes).unwrap().what else { panic!("a visit") };
        assert_eq!(seen.url.as_deref(), Some("https://a/\u{fffd}\u{fffd}"));
    }

    #[test]
    fn flags_are_bits() {
        let What::Visit(seen) = parse(body(r#","f":3"#).as_bytes()).unwrap().what else {
            panic!("a visit")
        };
        assert!(seen.is_automated && seen.wants_privacy && !seen.is_adopted);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
