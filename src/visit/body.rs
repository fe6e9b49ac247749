//! The body of `POST /v`. Takes a request's bytes; returns a [`Sent`], or one line that says what
//! is wrong. Guarantees that only required values can make it fail. Optional values are cut if too
//! long and dropped if of the wrong type, and invalid UTF-8 is replaced. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::private::without_private;
use crate::ids::ClickId;

/// Longest page URL that is stored, in characters. The tag cuts at the same length.
pub(super) const MAX_URL_CHARS: usize = 4096;
/// Longest referrer that is stored.
const MAX_REFERRER_CHARS: usize = 1024;
/// Longest list of ad cookies that is stored.
const MAX_COOKIES_CHARS: usize = 1500;
/// Longest name of a page event.
const MAX_EVENT_CHARS: usize = 64;
/// Maximum number of properties of a page event.
const MAX_PROPERTIES: usize = 20;
/// Longest name of a property.
const MAX_PROPERTY_CHARS: usize = 40;
/// Longest value of a property.
const MAX_VALUE_CHARS: usize = 500;

/// A parsed body. Values borrow from the request's bytes where possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent<'a> {
    pub(crate) site_key: Cow<'a, str>,
    pub(crate) click_id: ClickId,
    /// The browser's time, or 0 if it has none. With the click ID it identifies a repeat; it is not
    /// trusted as a time.
    pub(crate) sent_at_ms: i64,
    pub(crate) what: What<'a>,
}

/// The content of a body: an event if it has the key `e`, a note if it has `a`, otherwise a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Visit(Seen<'a>),
    /// An AnyTrack click ID, or the alphanumeric reference found in a payment link.
    Note(Cow<'a, str>),
    /// An event that the page reports.
    Event(Event<'a>),
}

/// An event that the page reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) url: Option<Cow<'a, str>>,
    /// Values as text: numbers with their digits as written, `true` and `false`.
    pub(crate) properties: BTreeMap<String, String>,
}

/// The data of a visit: a page was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) previous: Option<ClickId>,
    pub(crate) url: Option<Cow<'a, str>>,
    pub(crate) referrer: Option<Cow<'a, str>>,
    /// `name=value,…` of the ad cookies that the tag found.
    pub(crate) ad_cookies: Option<Cow<'a, str>>,
    pub(crate) is_automated: bool,
    pub(crate) wants_privacy: bool,
    pub(crate) is_adopted: bool,
    /// The alias of the redirect link that was clicked. Never set from a request's body.
    pub(crate) link: Option<&'a str>,
}

impl<'a> Seen<'a> {
    /// The data of a click on a redirect link, cut to the same lengths.
    pub(crate) fn of_click(click: &'a super::Click) -> Self {
        let cut = |text: &str, chars: usize| text.chars().take(chars).collect::<String>();
        Self {
            previous: click.previous.clone(),
            url: Some(without_private(cut(&click.url, MAX_URL_CHARS).into())),
            referrer: click
                .referrer
                .as_deref()
                .map(|text| without_private(cut(text, MAX_REFERRER_CHARS).into())),
            is_adopted: click.is_adopted,
            link: Some(&click.alias),
            ..Self::default()
        }
    }
}

/// The JSON object of a body. Keys that are not listed here are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Object<'a> {
    #[serde(borrow)]
    s: Field<'a>,
    #[serde(borrow)]
    i: Field<'a>,
    t: Field<'a>,
    #[serde(borrow)]
    p: Field<'a>,
    #[serde(borrow)]
    u: Field<'a>,
    #[serde(borrow)]
    r: Field<'a>,
    #[serde(borrow)]
    k: Field<'a>,
    f: Field<'a>,
    #[serde(borrow)]
    a: Field<'a>,
    #[serde(borrow)]
    e: Field<'a>,
    /// The properties of an event; parsed only for events.
    #[serde(borrow)]
    v: Option<&'a RawValue>,
}

/// A JSON value: absent, or of one of the types that a key can have.
#[derive(Default)]
enum Field<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Int(i64),
    /// A value of another type.
    Other,
}

impl<'a> Field<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// A text value, cut to `chars` characters, without NUL, which PostgreSQL cannot store. `None`
    /// if absent, empty or of another type.
    fn text_of(self, chars: usize) -> Option<Cow<'a, str>> {
        let mut text = self.text().filter(|text| !text.is_empty())?;
        // A text of at most `chars` bytes has at most `chars` characters, so it needs no counting.
        if text.len() > chars
            && let Some((end, _)) = text.char_indices().nth(chars)
        {
            text = Cow::Owned(text[..end].to_owned());
        }
        Some(if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Self::Value, E> {
        Ok(Field::Int(int))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(int).map_or(Field::Other, Field::Int))
    }

    #[expect(clippy::disallowed_types, reason = "the value is discarded")]
    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}

/// A body's text. Invalid UTF-8 and halves of characters are replaced: a script that cuts a text in
/// the middle of an emoji leaves one.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("\\ud") || text.contains("\\uD") {
        Cow::Owned(with_whole_characters(&text))
    } else {
        text
    }
}

/// Replaces every escape of a lone surrogate, `\ud83d` without its other half.
fn with_whole_characters(text: &str) -> String {
    let unit = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        let next = escape.get(6..).and_then(unit);
        let (kept, length) = match (unit(escape), next) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&escape[..12], 12),
            (Some(0xd800..=0xdfff), _) => ("\u{fffd}", 6),
            // An escaped backslash or quote is skipped whole.
            _ => {
                let end = escape.char_indices().nth(2).map_or(escape.len(), |(end, _)| end);
                (&escape[..end], end)
            }
        };
        whole.push_str(before);
        whole.push_str(kept);
        rest = &escape[length..];
    }
    whole + rest
}

/// Parses a body.
pub(crate) fn parse(text: &str) -> Result<Sent<'_>, &'static str> {
    // serde would also accept an array of the values.
    let object =
        text.trim_start().starts_with('{').then(|| serde_json::from_str::<Object<'_>>(text));
    let Some(Ok(object)) = object else { return Err("the body is not a JSON object") };
    let site_key = object.s.text_of(33).ok_or("s (the site's key) is missing")?;
    let key_fits = (1..=32).contains(&site_key.len())
        && site_key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !key_fits {
        return Err("s is not a site's key");
    }
    let click_id =
        object.i.text().and_then(|id| ClickId::parse(&id)).ok_or("i is not a click ID")?;
    // The browser's clock may be set to anything, or broken.
    let sent_at_ms = object.t.int().filter(|ms| *ms >= 0).unwrap_or(0);
    let what = if !matches!(object.e, Field::Absent) {
        let name = object.e.text_of(MAX_EVENT_CHARS + 1).filter(|name| is_event_name(name));
        What::Event(Event {
            name: name.ok_or("e is not an event's name: 1-64 letters, digits, spaces, _ or -")?,
            url: object.u.text_of(MAX_URL_CHARS).map(without_private),
            properties: object.v.map(properties).unwrap_or_default(),
        })
    } else if matches!(object.a, Field::Absent) {
        let flags = object.f.int().filter(|bits| (0..=255).contains(bits)).unwrap_or(0);
        What::Visit(Seen {
            previous: object.p.text().and_then(|id| ClickId::parse(&id)),
            url: object.u.text_of(MAX_URL_CHARS).map(without_private),
            referrer: object.r.text_of(MAX_REFERRER_CHARS).map(without_private),
            ad_cookies: object.k.text_of(MAX_COOKIES_CHARS),
            is_automated: flags & 1 != 0,
            wants_privacy: flags & 2 != 0,
            is_adopted: flags & 4 != 0,
            link: None,
        })
    } else {
        let note = object.a.text().filter(|text| {
            (14..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
        });
        What::Note(note.ok_or("a is not an AnyTrack click ID")?)
    };
    Ok(Sent { site_key, click_id, sent_at_ms, what })
}

/// True for a valid event name. Spaces alone are not a name.
fn is_event_name(name: &str) -> bool {
    name.len() <= MAX_EVENT_CHARS
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'_' | b'-'))
        && name.bytes().any(|b| b != b' ')
}

/// The first properties in the order of their names. Long ones are cut, those of another type are
/// dropped.
fn properties(raw: &RawValue) -> BTreeMap<String, String> {
    let Ok(values) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        return BTreeMap::new(); // Not an object.
    };
    let mut kept = BTreeMap::new();
    for (name, value) in values {
        if kept.len() == MAX_PROPERTIES {
            break;
        }
        let name = Field::Text(name.into()).text_of(MAX_PROPERTY_CHARS);
        if let (Some(name), Some(value)) = (name, property(value)) {
            kept.entry(name.into_owned()).or_insert(value);
        }
    }
    kept
}

/// A property's value as text. Numbers keep their digits.
fn property(raw: &RawValue) -> Option<String> {
    let text = raw.get();
    match text.bytes().next()? {
        b'"' => {
            let text: String = serde_json::from_str(text).ok()?;
            Some(Field::Text(text.into()).text_of(MAX_VALUE_CHARS)?.into_owned())
        }
        b't' | b'f' | b'-' | b'0'..=b'9' => {
            (text.len() <= MAX_VALUE_CHARS).then(|| text.to_owned())
        }
        _ => None,
    }
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
    fn bodies_with_invalid_required_values_are_rejected() {
        let rows: Vec<(&str, Vec<u8>)> = vec![
            ("empty", b"".to_vec()),
            ("not JSON", b"hello".to_vec()),
            ("an array", b"[]".to_vec()),
            ("an array of values", format!(r#"["main","{ID}",1]"#).into_bytes()),
            ("a key twice", body(r#","t":2"#).into_bytes()),
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
            ("an event without a name", body(r#","e":"""#).into_bytes()),
            ("an event of spaces", body(r#","e":"  ""#).into_bytes()),
            ("an event's name of another type", body(r#","e":7"#).into_bytes()),
            ("an event's name with a line break", body(r#","e":"a\nb""#).into_bytes()),
            ("a long event's name", body(&format!(r#","e":"{}""#, "a".repeat(65))).into_bytes()),
            ("a bad note", body(r#","a":"no-dashes-here!""#).into_bytes()),
            ("deep nesting", "[".repeat(5000).into_bytes()),
        ];
        for (name, bytes) in rows {
            assert!(parse(&text(&bytes)).is_err(), "{name}");
        }
    }

    #[test]
    fn optional_values_are_read_cut_or_dropped() {
        let long = "x".repeat(9000);
        let text = body(&format!(
            r#","u":"{long}","r":7,"k":null,"p":"junk","f":"2","z":[{{}}],"t2":1.5"#
        ));
        let sent = parse(&text).unwrap();
        let What::Visit(seen) = sent.what else { panic!("a visit") };
        assert_eq!(seen.url.map(|url| url.len()), Some(MAX_URL_CHARS));
        assert_eq!((seen.referrer, seen.ad_cookies, seen.previous), (None, None, None));
        assert!(!seen.wants_privacy);
        let text = body(r#","f":3"#);
        let What::Visit(seen) = parse(&text).unwrap().what else { panic!("a visit") };
        assert!(seen.is_automated && seen.wants_privacy && !seen.is_adopted);
    }

    #[test]
    fn a_broken_clock_costs_no_visit() {
        for time in ["", r#","t":null"#, r#","t":-5"#, r#","t":"1""#, r#","t":1.5"#] {
            let text = format!(r#"{{"s":"main","i":"{ID}"{time}}}"#);
            assert_eq!(parse(&text).unwrap().sent_at_ms, 0, "{time}");
        }
    }

    #[test]
    fn halves_of_characters_are_replaced() {
        let rows = [
            (r"a\ud83d", "a\u{fffd}"),
            (r"a\uD83D\uDE00b", "a😀b"),
            (r"\ude00\ud83d\u0041", "\u{fffd}\u{fffd}A"),
            (r"\\ud83d", r"\ud83d"),
            (r#"\"\ud83d\n"#, "\"\u{fffd}\n"),
        ];
        for (written, expected) in rows {
            let body = body(&format!(r#","k":"{written}""#));
            let text = text(body.as_bytes());
            let What::Visit(seen) = parse(&text).unwrap().what else { panic!("a visit") };
            assert_eq!(seen.ad_cookies.as_deref(), Some(expected), "{written}");
        }
    }

    #[test]
    fn invalid_utf8_and_nul_are_replaced() {
        let mut bytes = body(r#","u":"https://a/X\u0000""#).into_bytes();
        let at = bytes.iter().position(|b| *b == b'X').unwrap();
        bytes[at] = 0xff;
        let text = text(&bytes);
        let What::Visit(seen) = parse(&text).unwrap().what else { panic!("a visit") };
        assert_eq!(seen.url.as_deref(), Some("https://a/\u{fffd}\u{fffd}"));
    }

    #[test]
    fn properties_of_an_event_are_cut_or_dropped_and_numbers_keep_their_digits() {
        let (long_name, long) = ("n".repeat(50), "ä".repeat(600));
        let text = body(&format!(
            r#","e":"Signed up","a":"beside","u":"https://a/","v":{{"plan":"pro","m":1.50,"ok":true,"no":null,"list":[1],
                "deep":{{"a":1}},"":"x","nul":"a\u0000","{long_name}":"{long}"}}"#
        ));
        let What::Event(event) = parse(&text).unwrap().what else { panic!("an event") };
        assert_eq!((&*event.name, event.url.as_deref()), ("Signed up", Some("https://a/")));
        let kept = [("m", "1.50"), ("nul", "a\u{fffd}"), ("ok", "true"), ("plan", "pro")];
        let mut kept: BTreeMap<_, _> = kept.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        kept.insert("n".repeat(40), "ä".repeat(500));
        assert_eq!(event.properties, kept);
        let many: Vec<String> = (0..30).map(|n| format!(r#""p{n:02}":{n}"#)).collect();
        let text = body(&format!(r#","e":"x","v":{{{}}}"#, many.join(",")));
        let What::Event(event) = parse(&text).unwrap().what else { panic!("an event") };
        assert_eq!(event.properties.len(), MAX_PROPERTIES);
        for odd in ["null", "7", r#""text""#, "[1]"] {
            let text = body(&format!(r#","e":"x","v":{odd}"#));
            let What::Event(event) = parse(&text).unwrap().what else { panic!("an event") };
            assert!(event.properties.is_empty(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&text(&bytes));
        }
    }
}
