//! Decodes the text of requests.
//! Takes the bytes of a body, or one percent-encoded name or value; returns text.
//! Pure. Bytes that are not UTF-8 are read as Windows-1252, so texts with different bytes stay
//! different. Source of the table: encoding.spec.whatwg.org, index-windows-1252.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// What the bytes 0x80 to 0x9F are in Windows-1252; every other byte is the character of its
/// number.
const HIGH_CONTROLS: [char; 32] = [
    '\u{20AC}', '\u{81}', '\u{201A}', '\u{192}', '\u{201E}', '\u{2026}', '\u{2020}', '\u{2021}',
    '\u{2C6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8D}', '\u{17D}', '\u{8F}',
    '\u{90}', '\u{2018}', '\u{2019}', '\u{201C}', '\u{201D}', '\u{2022}', '\u{2013}', '\u{2014}',
    '\u{2DC}', '\u{2122}', '\u{161}', '\u{203A}', '\u{153}', '\u{9D}', '\u{17E}', '\u{178}',
];

/// The byte order mark that some Windows programs write before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The text of these bytes.
pub(super) fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| of_windows(*byte)).collect()),
    }
}

fn of_windows(byte: u8) -> char {
    match byte {
        0x80..=0x9F => HIGH_CONTROLS[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// The names and values of a form or a query. `;` separates them too if a name and `=` follow it,
/// because some tools write it that way.
pub(super) fn pairs(form: &[u8]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for piece in form.split(|byte| *byte == b'&').flat_map(parted).filter(|it| !it.is_empty()) {
        let at = piece.iter().position(|byte| *byte == b'=').unwrap_or(piece.len());
        let value = piece.get(at + 1..).unwrap_or_default();
        pairs.push((component(&piece[..at]), component(value)));
    }
    pairs
}

fn parted(piece: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut begin = 0;
    for at in (0..piece.len()).filter(|at| piece[*at] == b';') {
        if begins_with_a_name(&piece[at + 1..]) {
            parts.push(&piece[begin..at]);
            begin = at + 1;
        }
    }
    parts.push(&piece[begin..]);
    parts
}

fn begins_with_a_name(text: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let length = text.iter().take_while(|byte| is_name(byte)).count();
    length > 0 && text.get(length) == Some(&b'=')
}

fn component(encoded: &[u8]) -> String {
    let spaced: Vec<u8> =
        encoded.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let bytes: Vec<u8> = percent_decode(&spaced).collect();
    decoded(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_is_not_utf8_is_a_character_of_its_own() {
        let all: Vec<u8> = (0x80..=0xFF).collect();
        let text = decoded(&all);
        let characters: std::collections::BTreeSet<char> = text.chars().collect();
        assert_eq!((text.chars().count(), characters.len()), (128, 128));
        for (byte, expected) in [(0x80, '€'), (0x8E, 'Ž'), (0x9F, 'Ÿ'), (0xE4, 'ä'), (0xFF, 'ÿ')]
        {
            assert_eq!(decoded(&[byte]), expected.to_string());
        }
        // The five bytes that Windows leaves open.
        for byte in [0x81_u8, 0x8D, 0x8F, 0x90, 0x9D] {
            assert_eq!(decoded(&[byte]), char::from(byte).to_string());
        }
        assert_eq!(decoded("Bestellung-ä €".as_bytes()), "Bestellung-ä €");
        assert_eq!(decoded(b"\xEF\xBB\xBF{}"), "{}");
    }

    #[test]
    fn forms_are_read_with_either_separator() {
        let rows: [(&str, &[(&str, &str)]); 9] = [
            ("a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("a=1;b=2;c_d-e=", &[("a", "1"), ("b", "2"), ("c_d-e", "")]),
            ("a=1;2&b=x;;y", &[("a", "1;2"), ("b", "x;;y")]),
            ("a=1;b=2&c=3", &[("a", "1"), ("b", "2"), ("c", "3")]),
            ("a=%3Bb%3D2", &[("a", ";b=2")]),
            ("a=%C3%A4&b=%E4&c=%E4%F6", &[("a", "ä"), ("b", "ä"), ("c", "äö")]),
            ("a+b=c+d%2B", &[("a b", "c d+")]),
            ("&&a&=x&b=1=2", &[("a", ""), ("", "x"), ("b", "1=2")]),
            ("", &[]),
        ];
        for (form, expected) in rows {
            let found = pairs(form.as_bytes());
            let found: Vec<(&str, &str)> =
                found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(found, expected, "{form}");
        }
    }
}
