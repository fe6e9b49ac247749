//! Builds the URL of a redirect. Takes the stored payment link, the click ID or none, and the query
//! of the request; returns the URL. Guarantees that scheme, host and path are the stored ones,
//! whatever the request contains, and that a reference in the stored link stays unchanged. Pure.

use std::ops::Range;

use crate::ids::ClickId;
use crate::settings::{Site, is_payment_host, placeholders};

/// Parameters of Stripe's payment links that are copied from the request, beside `utm_*`.
const COPIED: [&str; 3] = ["prefilled_email", "prefilled_promo_code", "locale"];
/// Longest value that is copied. With [`MAX_COPIED`], it keeps the URL short enough for every
/// proxy.
const MAX_VALUE_BYTES: usize = 500;
const MAX_COPIED: usize = 12;

/// The URL to redirect to. Without a click ID, parameters with a placeholder are removed.
pub(super) fn address(
    site: &Site,
    target: &str,
    click_id: Option<&ClickId>,
    query: &str,
) -> String {
    let (before_hash, hash) = match target.find('#') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let (path, stored) = before_hash.split_once('?').unwrap_or((before_hash, ""));
    let mut pairs: Vec<String> =
        stored.split('&').filter(|pair| !pair.is_empty()).map(str::to_owned).collect();
    let mut path = path.to_owned();
    let mut hash = hash.to_owned();
    match click_id {
        Some(click_id) => {
            let had_placeholder = !placeholders(target).is_empty();
            for text in pairs.iter_mut().chain([&mut path, &mut hash]) {
                *text = replace(text, &placeholders(text), click_id.as_str());
            }
            if !had_placeholder && is_payment_host(site, host(target)) {
                refer(&mut pairs, click_id);
            }
        }
        None => pairs.retain(|pair| placeholders(pair).is_empty()),
    }
    let given: Vec<String> = query.split('&').filter_map(|pair| copied(&pairs, pair)).collect();
    for pair in given.into_iter().take(MAX_COPIED) {
        if !has(&pairs, name(&pair)) {
            pairs.push(pair);
        }
    }
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    format!("{path}{query}{hash}")
}

/// The host of a target, which was validated when it was saved.
fn host(target: &str) -> &str {
    let authority = target.split_once("://").map_or("", |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    crate::hosts::without_port(authority)
}

fn replace(text: &str, spans: &[Range<usize>], with: &str) -> String {
    let mut replaced = text.to_owned();
    for span in spans.iter().rev() {
        replaced.replace_range(span.clone(), with);
    }
    replaced
}

/// Sets `client_reference_id` to the click ID, unless the stored link has a value for it.
fn refer(pairs: &mut Vec<String>, click_id: &ClickId) {
    let reference = format!("client_reference_id={click_id}");
    match pairs.iter_mut().find(|pair| name(pair) == "client_reference_id") {
        Some(empty) if matches!(empty.split_once('='), None | Some((_, ""))) => *empty = reference,
        Some(_) => {}
        None => pairs.push(reference),
    }
}

fn name(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

fn has(pairs: &[String], wanted: &str) -> bool {
    pairs.iter().any(|pair| name(pair) == wanted)
}

/// A parameter of the request, if it may be copied and the stored link does not have it. Characters
/// that are not allowed in a URL are percent-encoded.
fn copied(stored: &[String], pair: &str) -> Option<String> {
    let (name, value) = pair.split_once('=')?;
    let is_utm = name.strip_prefix("utm_").is_some_and(|rest| {
        (1..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    });
    let fits =
        (is_utm || COPIED.contains(&name)) && !value.is_empty() && value.len() <= MAX_VALUE_BYTES;
    if !fits || has(stored, name) {
        return None;
    }
    let is_plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'#' | b'\\');
    let value = value.bytes().fold(String::new(), |mut text, byte| {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(percent_encoding::percent_encode_byte(byte));
        }
        text
    });
    Some(format!("{name}={value}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "ck_0123456789abcdefghjkmnpqrstvwxyz";

    #[test]
    fn the_click_id_replaces_the_placeholder_or_becomes_the_reference() {
        let id = ClickId::parse(ID).unwrap();
        let rows = [
            ("/a", "", "/a?client_reference_id=ID"),
            ("/a#b", "", "/a?client_reference_id=ID#b"),
            ("/a?client_reference_id=--CLICK-ID--&x=1", "", "/a?client_reference_id=ID&x=1"),
            ("/a?client_reference_id=", "", "/a?client_reference_id=ID"),
            ("/a?client_reference_id=user-7", "", "/a?client_reference_id=user-7"),
            (
                "/a?locale=de",
                "locale=fr&utm_source=mail&prefilled_email=a%2Bb@c.de&next=https://evil.example&utm_source=two",
                "/a?locale=de&client_reference_id=ID&utm_source=mail&prefilled_email=a%2Bb@c.de",
            ),
            (
                "/a",
                "client_reference_id=mine&utm_Evil=1&utm_=2&utm_x=a%0d%0ab<&gclid=1",
                "/a?client_reference_id=ID&utm_x=a%0d%0ab%3C",
            ),
        ];
        for (target, query, expected) in rows {
            let target = format!("https://buy.stripe.com{target}");
            let expected = format!("https://buy.stripe.com{}", expected.replace("ID", ID));
            let found = address(&Site::example(), &target, Some(&id), query);
            assert_eq!(found, expected, "{target} {query}");
        }
        for (target, start) in [
            ("https://x.example/?sub5=%2D%2Dclick-id--", "https://x.example/?sub5="),
            ("https://x.example/--CLICK-ID--", "https://x.example/"),
        ] {
            assert_eq!(address(&Site::example(), target, Some(&id), ""), format!("{start}{ID}"));
        }
    }

    #[test]
    fn without_a_click_id_placeholders_are_removed() {
        let rows = [
            ("/a?client_reference_id=--CLICK-ID--&x=1", "/a?x=1"),
            ("/a?client_reference_id=user-7", "/a?client_reference_id=user-7"),
            ("/a", "/a"),
        ];
        for (target, expected) in rows {
            let target = format!("https://buy.stripe.com{target}");
            let expected = format!("https://buy.stripe.com{expected}");
            assert_eq!(address(&Site::example(), &target, None, ""), expected);
        }
    }

    proptest! {
        #[test]
        fn no_request_changes_the_target(query in "[ -~\u{80}-\u{2ff}\r\n]{0,200}") {
            let id = ClickId::parse(ID).unwrap();
            let there = address(&Site::example(), "https://buy.stripe.com/a?x=1#z", Some(&id), &query);
            prop_assert!(there.starts_with("https://buy.stripe.com/a?x=1&client_reference_id=ck_"));
            prop_assert!(there.ends_with("#z") && there.matches('#').count() == 1);
            prop_assert!(there.bytes().all(|b| b.is_ascii_graphic()), "{there}");
        }
    }
}
