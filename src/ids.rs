//! Identifiers: the only place that creates and decodes them. Takes a time, a site's number and the
//! server's key; returns click IDs (`ck_…`), record IDs (`cnv_…`) and secrets. Guarantees that a
//! click ID can be checked without a lookup: whether this server made it, for which site and when.
//!
//! A click ID made by the server is `ck_` and 35 characters of a 32-letter alphabet in ASCII order
//! (so IDs sort by time): 9 for the mint time in ms (45 bits), 3 for the site's number, 15 random
//! ones (75 bits), 8 of a truncated HMAC (40 bits).

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::RngCore as _;
use sha2::{Digest as _, Sha256};

use crate::clock::Timestamp;

/// Digits and letters without i, l, o and u, ascending in ASCII, so that encoded numbers sort as
/// text.
const ALPHABET: [char; 32] = [
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'j',
    'k', 'm', 'n', 'p', 'q', 'r', 's', 't', 'v', 'w', 'x', 'y', 'z',
];
const PREFIX: &str = "ck_";
const TIME_CHARS: usize = 9;
const SITE_CHARS: usize = 3;
const RANDOM_CHARS: usize = 15;
const MAC_CHARS: usize = 8;
const SIGNED_CHARS: usize = TIME_CHARS + SITE_CHARS + RANDOM_CHARS;
/// Length of every click ID that the server makes.
pub(crate) const MINTED_CHARS: usize = PREFIX.len() + SIGNED_CHARS + MAC_CHARS;

/// A click ID: text that matches `^ck_[a-z0-9]{29,37}$`. It may come from the server or a browser,
/// or be forged; [`ClickIdKey::read`] checks it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct ClickId(String);

impl ClickId {
    /// Checks the form only, not who made the ID. `None` if the text has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        let fits = (29..=37).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        fits.then(|| Self(text.to_owned()))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for an ID that a browser made (`ck_z…`), because its copy of the tag was stale or is
    /// the static one. The server does not produce it: the first character holds the top bits of
    /// the mint time, and `z` would be thousands of years ahead.
    pub fn is_client_made(&self) -> bool {
        self.0.starts_with("ck_z")
    }
}

impl fmt::Display for ClickId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The content of a genuine click ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minted {
    /// When the server minted it.
    pub at: Timestamp,
    /// The number of the site it was minted for.
    pub site_number: i64,
}

/// The server's key for click IDs. It is stored in the database, so that every replica uses the
/// same one.
#[derive(Clone)]
pub struct ClickIdKey(Hmac<Sha256>);

impl fmt::Debug for ClickIdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClickIdKey(***)")
    }
}

impl ClickIdKey {
    /// A key from its stored bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// Mints a click ID for a site at a time.
    pub fn mint(&self, at: Timestamp, site_number: i64) -> ClickId {
        let mut text = String::with_capacity(MINTED_CHARS);
        text.push_str(PREFIX);
        push_number(&mut text, at.as_ms(), TIME_CHARS);
        push_number(&mut text, site_number, SITE_CHARS);
        text.push_str(&random_text(RANDOM_CHARS));
        self.push_mac(&mut text);
        ClickId(text)
    }

    /// Decodes a click ID. `None` if its MAC is wrong, because it was forged or minted with another
    /// key.
    pub fn read(&self, id: &ClickId) -> Option<Minted> {
        let text = id.as_str();
        let signed = text.get(..PREFIX.len() + SIGNED_CHARS)?;
        let mut expected = signed.to_owned();
        self.push_mac(&mut expected);
        if !equal_in_constant_time(expected.as_bytes(), text.as_bytes()) {
            return None;
        }
        let digits = &signed[PREFIX.len()..];
        Some(Minted {
            at: Timestamp::from_ms(read_number(&digits[..TIME_CHARS])?),
            site_number: read_number(&digits[TIME_CHARS..TIME_CHARS + SITE_CHARS])?,
        })
    }

    /// A keyed hash for other uses, such as the daily visitor ID: 16 characters, 80 bits. Hashes
    /// with different `purpose` are unrelated.
    pub fn hash(&self, purpose: &str, parts: &[&str]) -> String {
        let mut mac = self.0.clone();
        mac.update(purpose.as_bytes());
        for part in parts {
            mac.update(&[0]);
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        digest.into_iter().take(16).map(letter).collect()
    }

    fn push_mac(&self, text: &mut String) {
        let mut mac = self.0.clone();
        mac.update(b"click-id:");
        mac.update(text.as_bytes());
        let digest = mac.finalize().into_bytes();
        text.extend(digest.into_iter().take(MAC_CHARS).map(letter));
    }
}

/// The lowest possible click ID of a time: IDs minted before `at` sort below it, later ones do not.
/// Serves as a bound in queries by time.
pub(crate) fn first_click_id(at: Timestamp) -> String {
    let mut text = String::with_capacity(PREFIX.len() + TIME_CHARS);
    text.push_str(PREFIX);
    push_number(&mut text, at.as_ms().max(0), TIME_CHARS);
    text
}

/// The lowest possible record ID of a time, like [`first_click_id`].
pub(crate) fn first_record_id(prefix: &str, at: Timestamp) -> String {
    let mut text = prefix.to_owned();
    push_number(&mut text, at.as_ms().max(0), TIME_CHARS);
    text
}

/// Compares in a time that does not depend on where the difference is, so that secrets cannot be
/// guessed byte by byte.
pub(crate) fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0_u8, |seen, (x, y)| seen | (x ^ y)) == 0
}

/// A new record ID: the prefix, the time (so that rows sort by age), and 60 random bits. No dots,
/// no dashes.
pub fn new_record_id(prefix: &str, at: Timestamp) -> String {
    let mut text = String::with_capacity(prefix.len() + TIME_CHARS + 12);
    text.push_str(prefix);
    push_number(&mut text, at.as_ms(), TIME_CHARS);
    text.push_str(&random_text(12));
    text
}

/// A secret for URLs, cookies and tokens: 32 characters, 160 random bits.
pub fn new_secret() -> String {
    random_text(32)
}

/// 32 random bytes, for a key.
pub fn new_key() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A random number from 0 to 1000, for jitter.
pub fn random_per_mille() -> u16 {
    u16::try_from(rand::rng().next_u32() % 1001).expect("at most 1000")
}

/// The SHA-256 of some bytes in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push(char::from_digit(u32::from(byte >> 4), 16).expect("a nibble"));
        text.push(char::from_digit(u32::from(byte & 15), 16).expect("a nibble"));
        text
    })
}

/// Decodes hex of either case; `None` for an odd length or another character.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Random characters of [`ALPHABET`] from the thread's cryptographic generator, at about a tenth of
/// the cost of nanoid's own source.
fn random_text(chars: usize) -> String {
    fn random(size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        rand::rng().fill_bytes(&mut bytes);
        bytes
    }
    nanoid::format(random, &ALPHABET, chars)
}

/// The letter for the low five bits.
fn letter(byte: u8) -> char {
    ALPHABET[usize::from(byte & 31)]
}

/// Writes the low `5 × chars` bits, most significant character first.
fn push_number(text: &mut String, number: i64, chars: usize) {
    for position in (0..chars).rev() {
        let index = usize::try_from((number >> (5 * position)) & 31).expect("five bits");
        text.push(ALPHABET[index]);
    }
}

fn read_number(text: &str) -> Option<i64> {
    text.chars().try_fold(0_i64, |number, char| {
        let digit = ALPHABET.iter().position(|letter| *letter == char)?;
        Some((number << 5) | i64::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> ClickIdKey {
        ClickIdKey::new(b"a key for tests")
    }

    proptest! {
        #[test]
        fn a_minted_id_decodes_to_its_time_and_site(ms in 0_i64..4_000_000_000_000, site in 1_i64..32_768) {
            let id = key().mint(Timestamp::from_ms(ms), site);
            prop_assert_eq!(ClickId::parse(id.as_str()), Some(id.clone()));
            prop_assert_eq!(key().read(&id), Some(Minted { at: Timestamp::from_ms(ms), site_number: site }));
            prop_assert!(!id.is_client_made());
            prop_assert_eq!(id.as_str().len(), MINTED_CHARS);
        }

        #[test]
        fn an_id_with_a_changed_character_is_rejected(at in 3_usize..38, letter in "[a-z0-9]") {
            let id = key().mint(Timestamp::from_ms(1_790_000_000_000), 1);
            let mut text = id.as_str().to_owned();
            text.replace_range(at..=at, &letter);
            if let Some(changed) = ClickId::parse(&text).filter(|changed| *changed != id) {
                prop_assert_eq!(key().read(&changed), None);
            }
        }

        #[test]
        fn ids_sort_by_time(a in 0_i64..4_000_000_000_000, b in 0_i64..4_000_000_000_000) {
            let (first, second) = (key().mint(Timestamp::from_ms(a), 9), key().mint(Timestamp::from_ms(b), 1));
            if a != b { prop_assert_eq!(first < second, a < b); }
            prop_assert_eq!(first.as_str() < first_click_id(Timestamp::from_ms(b)).as_str(), a < b);
        }
    }

    #[test]
    fn the_form_of_a_click_id_is_exact() {
        let rows = [
            ("shortest", format!("ck_{}", "a".repeat(29)), true),
            ("longest", format!("ck_{}", "9".repeat(37)), true),
            ("too short", format!("ck_{}", "a".repeat(28)), false),
            ("too long", format!("ck_{}", "a".repeat(38)), false),
            ("upper case", format!("ck_{}", "A".repeat(30)), false),
            ("dash", format!("ck_{}-", "a".repeat(30)), false),
            ("no prefix", "a".repeat(33), false),
            ("line break", format!("ck_{}\n", "a".repeat(30)), false),
            ("the placeholder", "--CLICK-ID--".to_owned(), false),
        ];
        for (name, text, fits) in rows {
            assert_eq!(ClickId::parse(&text).is_some(), fits, "{name}");
        }
    }

    #[test]
    fn another_key_rejects_the_id() {
        let id = key().mint(Timestamp::from_ms(1), 1);
        assert_eq!(ClickIdKey::new(b"another key").read(&id), None);
    }

    #[test]
    fn hex_decodes_to_the_same_bytes() {
        assert_eq!(unhex(&hex(&[0, 15, 255])), Some(vec![0, 15, 255]));
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("abc"), None);
    }
}
