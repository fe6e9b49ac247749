//! The body of `POST /v`.
//! In: bytes from anybody's browser. Out: a `Sent`, or one line saying what can never be right about it.
//! Promise: over-long optional values are cut, wrong-typed ones dropped, invalid UTF-8 replaced; only what can never be right is refused. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::ids::ClickId;

/// Longest page URL kept, in characters; the tag cuts there too.
const MAX_URL_CHARS: usize = 4096;
/// Longest referrer kept.
const MAX_REFERRER_CHARS: usize = 1024;
/// Longest list of ad cookies read.
const MAX_COOKIES_CHARS: usize = 1500;

/// What the tag says, in the bytes it said it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent<'a> {
    pub(crate) site_key: Cow<'a, str>,
    pub(crate) click_id: ClickId,
    /// The browser's time; with the click ID it recognises a repeat. Not trusted as a time.
    pub(crate) sent_at_ms: i64,
    pub(crate) what: What<'a>,
}

/// A body with `a` is a note, else a visit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Visit(Seen<'a>),
    /// An AnyTrack click ID, or the alphanumeric reference found in a payment link.
    Note(Cow<'a, str>),
}

/// A page was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub(crate) previous: Option<ClickId>,
    pub(crate) url: Option<Cow<'a, str>>,
    pub(crate) referrer: Option<Cow<'a, str>>,
    /// `name=value,…` of ad cookies the tag found.
    pub(crate) ad_cookies: Option<Cow<'a, str>>,
    pub(crate) is_automated: bool,
    pub(crate) wants_privacy: bool,
    pub(crate) is_adopted: bool,
    /// The alias of the redirect link that was clicked; never of a browser's body.
    pub(crate) link: Option<&'a str>,
}

impl<'a> Seen<'a> {
    /// What a click on a redirect link says, held to the same lengths.
    pub(crate) fn of_click(click: &'a super::Click) -> Self {
        let cut = |text: &str, chars: usize| text.chars().take(chars).collect::<String>();
        Self {
            previous: click.previous.clone(),
            url: Some(cut(&click.url, MAX_URL_CHARS).into()),
            referrer: click.referrer.as_deref().map(|text| cut(text, MAX_REFERRER_CHARS).into()),
            is_adopted: click.is_adopted,
            link: Some(&click.alias),
            ..Self::default()
        }
    }
}

/// The object as it stands in the text. Keys not named here are ignored.
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
    e: Field<'a>,
}

/// A value as far as this door cares.
#[derive(Default)]
enum Field<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Int(i64),
    /// Of a type that no key has.
    Other,
}

impl<'a> Field<'a> {
    fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn int(&self) -> Option<i64> {
        if let Self::Int(int) = self { Some(*int) } else { None }
    }

    /// A text value, cut, without the NUL that PostgreSQL cannot store. `None` when absent, empty or of another type.
    fn text_of(self, chars: usize) -> Option<Cow<'a, str>> {
        let mut text = self.text().filter(|text| !text.is_empty())?;
        // So many bytes hold at most as many characters.
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

    #[expect(clippy::disallowed_types, reason = "it is only thrown away")]
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

/// A body's text; bytes that are no UTF-8 are replaced.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Reads a body.
pub(crate) fn parse(text: &str) -> Result<Sent<'_>, &'static str> {
    // An array of values would pass for the object otherwise.
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
    let sent_at_ms = object.t.int().filter(|ms| *ms >= 0).ok_or("t is not a time in ms")?;
    if !matches!(object.e, Field::Absent) {
        return Err("events of pages are not taken by this version");
    }
    let what = if matches!(object.a, Field::Absent) {
        let flags = object.f.int().filter(|bits| (0..=255).contains(bits)).unwrap_or(0);
        What::Visit(Seen {
            previous: object.p.text().and_then(|id| ClickId::parse(&id)),
            url: object.u.text_of(MAX_URL_CHARS),
            referrer: object.r.text_of(MAX_REFERRER_CHARS),
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
            ("no time", format!(r#"{{"s":"main","i":"{ID}"}}"#).into_bytes()),
            ("time as text", format!(r#"{{"s":"main","i":"{ID}","t":"1"}}"#).into_bytes()),
            ("an event", body(r#","e":"Lead""#).into_bytes()),
            ("a bad note", body(r#","a":"no-dashes-here!""#).into_bytes()),
            ("deep nesting", "[".repeat(5000).into_bytes()),
        ];
        for (name, bytes) in rows {
            assert!(parse(&text(&bytes)).is_err(), "{name}");
        }
    }

    #[test]
    fn optional_values_are_cut_or_dropped_never_refused() {
        let long = "x".repeat(9000);
        let text = body(&format!(
            r#","u":"{long}","r":7,"k":null,"p":"junk","f":"2","z":[{{}}],"t2":1.5"#
        ));
        let sent = parse(&text).unwrap();
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
        let text = text(&bytes);
        let What::Visit(seen) = parse(&text).unwrap().what else { panic!("a visit") };
        assert_eq!(seen.url.as_deref(), Some("https://a/\u{fffd}\u{fffd}"));
    }

    #[test]
    fn flags_are_bits() {
        let text = body(r#","f":3"#);
        let What::Visit(seen) = parse(&text).unwrap().what else { panic!("a visit") };
        assert!(seen.is_automated && seen.wants_privacy && !seen.is_adopted);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&text(&bytes));
        }
    }
}
