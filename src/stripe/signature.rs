//! Verifies Stripe's webhook signatures.
//! Takes the raw body, the `Stripe-Signature` header lines, the source's secrets and the time;
//! returns which secret matched, or exactly one error.
//! Pure. Only `v1` counts, every comparison takes constant time, and the order of checks never
//! changes. Source: docs.stripe.com/webhooks, "Verify webhook signatures manually".

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;

use crate::config::Secret;
use crate::ids;

/// Maximum age of a signature, and how far it may be ahead, in seconds. Not a setting: a larger
/// value would only help replay attacks.
pub(crate) const TOLERANCE_SECONDS: i64 = 300;

/// Why a webhook is rejected. The first words are the reasons by which the events page counts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum SignatureError {
    #[error("config: this source has no signing secret yet")]
    Config,
    #[error("missing: there is no Stripe-Signature header")]
    Missing,
    #[error("malformed: the Stripe-Signature header is not one line of the form t=…,v1=…")]
    Malformed,
    #[error("no_v1: the header has no v1 signature")]
    NoV1,
    #[error(
        "mismatch: no v1 signature matches; the secret is wrong, or the body was changed on the way"
    )]
    Mismatch,
    #[error("too_old: signed {0} seconds ago; check this machine's clock")]
    TooOld(i64),
    #[error("too_new: signed {0} seconds in the future; check this machine's clock")]
    TooNew(i64),
}

impl SignatureError {
    /// The reason as one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::NoV1 => "no_v1",
            Self::Mismatch => "mismatch",
            Self::TooOld(_) => "too_old",
            Self::TooNew(_) => "too_new",
        }
    }
}

/// A signature that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// When Stripe signed it, in seconds.
    pub(crate) signed_at: i64,
    /// Index of the secret that matched, from 0.
    pub(crate) secret_position: usize,
}

/// Verifies a webhook. A `tolerance` of 0 switches the time check off, for offline tools and tests
/// only.
pub(crate) fn verify(
    body: &[u8],
    header_lines: &[&[u8]],
    secrets: &[Secret],
    now_seconds: i64,
    tolerance: i64,
) -> Result<Verified, SignatureError> {
    let secrets: Vec<_> = secrets
        .iter()
        .enumerate()
        .filter(|(_, secret)| !secret.expose().trim().is_empty())
        .collect();
    if secrets.is_empty() {
        return Err(SignatureError::Config);
    }
    let header = one_line(header_lines)?;
    let elements = || {
        header.split(',').filter_map(|element| element.trim_matches([' ', '\t']).split_once('='))
    };
    let times: Vec<&str> =
        elements().filter(|(key, _)| *key == "t").map(|(_, value)| value).collect();
    let [time] = times[..] else { return Err(SignatureError::Malformed) };
    let signed_at = read_time(time).ok_or(SignatureError::Malformed)?;
    let signatures: Vec<&str> =
        elements().filter(|(key, _)| *key == "v1").map(|(_, value)| value).collect();
    if signatures.is_empty() {
        return Err(SignatureError::NoV1);
    }
    let fitting = secrets.iter().find(|(_, secret)| {
        let expected = sign(secret, time, body);
        // Every signature is compared, so that the duration does not reveal which one was close.
        signatures.iter().fold(false, |fits, given| {
            fits | ids::equal_in_constant_time(given.as_bytes(), expected.as_bytes())
        })
    });
    let (secret_position, _) = *fitting.ok_or(SignatureError::Mismatch)?;
    let age = now_seconds.saturating_sub(signed_at);
    if tolerance > 0 && age > tolerance {
        return Err(SignatureError::TooOld(age));
    }
    if tolerance > 0 && age < -tolerance {
        return Err(SignatureError::TooNew(-age));
    }
    Ok(Verified { signed_at, secret_position })
}

/// The digest that Stripe sends as `v1`: 64 lower-case hex digits. The key is the whole secret
/// text, including `whsec_`.
pub(crate) fn sign(secret: &Secret, time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes a key of any length");
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    ids::hex(&mac.finalize().into_bytes())
}

fn one_line<'a>(lines: &[&'a [u8]]) -> Result<&'a str, SignatureError> {
    let is_blank = |line: &[u8]| line.iter().all(|byte| matches!(byte, b' ' | b'\t'));
    match lines {
        [] => Err(SignatureError::Missing),
        [line] if is_blank(line) => Err(SignatureError::Missing),
        [line] if line.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e)) => {
            std::str::from_utf8(line).map_err(|_| SignatureError::Malformed)
        }
        _ => Err(SignatureError::Malformed),
    }
}

/// Reads decimal digits without sign or leading zero that fit in an i64.
fn read_time(text: &str) -> Option<i64> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_790_000_000;
    const BODY: &[u8] = "{\"id\":\"evt_1\",\"note\":\"Grüße ✓\"}".as_bytes();

    fn check(
        body: &[u8],
        lines: &[&str],
        secrets: &[&str],
        tolerance: i64,
    ) -> Result<usize, &'static str> {
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        let secrets: Vec<Secret> = secrets.iter().map(|text| Secret::new(*text)).collect();
        verify(body, &lines, &secrets, NOW, tolerance)
            .map(|v| v.secret_position)
            .map_err(|e| e.word())
    }

    fn v1(secret: &str, time: i64, body: &[u8]) -> String {
        sign(&Secret::new(secret), &time.to_string(), body)
    }

    fn header(secret: &str, time: i64) -> String {
        format!("t={time},v1={}", v1(secret, time, BODY))
    }

    #[test]
    fn a_vector_computed_elsewhere_verifies() {
        // Computed with Python's hmac module on 2026-11-24.
        let digest = "91756ee38f5c256c6db5893fecc447d8729adb8023535a860e4c2b521391cec9";
        assert_eq!(v1("whsec_test", 1_492_774_577, b"{\"id\":\"evt_test\"}"), digest);
    }

    #[test]
    fn every_documented_case_has_its_result() {
        let right = v1("whsec_a", NOW, BODY);
        let old = v1("whsec_old", NOW, BODY);
        let both = format!("t={NOW},v1={right},v1={old}");
        let zeros = "0".repeat(64);
        let of_a = [
            ("1 right", format!("t={NOW},v1={right}"), Ok(0)),
            ("2 v0 beside it", format!("t={NOW},v1={right},v0={zeros}"), Ok(0)),
            ("3 first of two", format!("t={NOW},v1={right},v1={zeros}"), Ok(0)),
            ("3 second of two", format!("t={NOW},v1={zeros},v1={right}"), Ok(0)),
            ("4 only new known", both.clone(), Ok(0)),
            ("5 no hex after", format!("t={NOW},v1={right},v1=zz"), Ok(0)),
            ("5 no hex before", format!("t={NOW},v1=zz,v1={right}"), Ok(0)),
            ("6 unknown key", format!("t={NOW},x=1,v1={right}"), Ok(0)),
            ("6 v2", format!("t={NOW},v2=abc,v1={right}"), Ok(0)),
            ("6 trailing comma", format!("t={NOW},v1={right},"), Ok(0)),
            ("7 v1 before t", format!("v1={right},t={NOW}"), Ok(0)),
            ("7 blank after comma", format!("t={NOW}, v1={right}"), Ok(0)),
            ("10 300 s old", header("whsec_a", NOW - 300), Ok(0)),
            ("10 300 s ahead", header("whsec_a", NOW + 300), Ok(0)),
            ("11 301 s old", header("whsec_a", NOW - 301), Err("too_old")),
            ("11 301 s ahead", header("whsec_a", NOW + 301), Err("too_new")),
            ("12 wrong and old", header("whsec_b", NOW - 900), Err("mismatch")),
            ("13 only v0", format!("t={NOW},v0={right}"), Err("no_v1")),
            ("13 t alone", format!("t={NOW}"), Err("no_v1")),
            ("14 lone no hex", format!("t={NOW},v1=zz"), Err("mismatch")),
            ("14 upper case", format!("t={NOW},v1={}", right.to_uppercase()), Err("mismatch")),
            ("15 another secret", header("whsec_b", NOW), Err("mismatch")),
            ("16 t altered", format!("t={},v1={right}", NOW - 1), Err("mismatch")),
            ("21 empty", String::new(), Err("missing")),
            ("21 blanks", " \t".to_owned(), Err("missing")),
            ("22 prose", "let me in, please".to_owned(), Err("malformed")),
            ("22 a word", "hello".to_owned(), Err("malformed")),
            ("22 no t", format!("v1={right}"), Err("malformed")),
            ("23 not a number", format!("t=abc,v1={right}"), Err("malformed")),
            ("23 signed", format!("t=+{NOW},v1={right}"), Err("malformed")),
            ("23 fractional", format!("t={NOW}.0,v1={right}"), Err("malformed")),
            ("23 leading zero", format!("t=0{NOW},v1={right}"), Err("malformed")),
            ("23 too big", format!("t=99999999999999999999,v1={right}"), Err("malformed")),
            ("24 two t", format!("t={NOW},t={NOW},v1={right}"), Err("malformed")),
            ("25 not ASCII", format!("t={NOW},v1={right}é"), Err("malformed")),
        ];
        for (name, line, expected) in &of_a {
            let found = check(BODY, &[line.as_str()], &["whsec_a"], TOLERANCE_SECONDS);
            assert_eq!(found, *expected, "{name}");
        }
        let (line, plain) = (format!("t={NOW},v1={right}"), header("plain", NOW));
        let (both, line, plain) = (both.as_str(), line.as_str(), plain.as_str());
        type Case<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Result<usize, &'a str>);
        let others: [Case<'_>; 8] = [
            ("4 only old known", &[both], &["whsec_old"], Ok(0)),
            ("4 both known", &[both], &["whsec_x", "whsec_a"], Ok(1)),
            ("9 no prefix", &[plain], &["plain"], Ok(0)),
            ("19 trailing blank in the secret", &[line], &["whsec_a "], Err("mismatch")),
            ("20 blank secret", &[line], &["  "], Err("config")),
            ("20 none", &[line], &[], Err("config")),
            ("21 absent", &[], &["whsec_a"], Err("missing")),
            ("25 two lines", &[line, line], &["whsec_a"], Err("malformed")),
        ];
        for (name, lines, secrets, expected) in others {
            assert_eq!(check(BODY, lines, secrets, TOLERANCE_SECONDS), expected, "{name}");
        }
    }

    #[test]
    fn no_time_check_means_any_age() {
        assert_eq!(check(BODY, &[&header("whsec_a", 1)], &["whsec_a"], 0), Ok(0), "28");
    }

    #[test]
    fn changed_bodies_do_not_match() {
        let text = String::from_utf8(BODY.to_vec()).unwrap();
        let altered = [
            text.replace("evt_1", "evt_2"),
            text.replace(':', ": "),
            format!("{text}\n"),
            text.replace(',', ",\r\n"),
        ];
        for body in altered {
            assert_eq!(
                check(body.as_bytes(), &[&header("whsec_a", NOW)], &["whsec_a"], 300),
                Err("mismatch"),
                "17 {body}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_and_any_changed_byte_does_not(
            body in proptest::collection::vec(any::<u8>(), 1..200), at in any::<proptest::sample::Index>(), bit in 0_u8..8,
        ) {
            let line = format!("t={NOW},v1={}", v1("whsec_a", NOW, &body));
            prop_assert_eq!(check(&body, &[&line], &["whsec_a"], 300), Ok(0));
            let mut changed = body.clone();
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            prop_assert_eq!(check(&changed, &[&line], &["whsec_a"], 300), Err("mismatch"));
        }

        #[test]
        fn no_header_panics(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = verify(BODY, &[&line], &[Secret::new("whsec_a")], NOW, 300);
        }
    }
}
