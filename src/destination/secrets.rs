//! Hides credentials in texts of the other side.
//! Takes the URL, headers and secrets of a destination; removes them from any text, in every form
//! that it may repeat them in.
//! Every text that leaves passes through here: log, API, pages, stored responses, alerts. Pure.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::config::Secret;
use crate::settings::Destination;

/// The replacement of a secret.
const HIDDEN: &str = "***";
/// Shorter texts are no secrets, and hiding them would make a response unreadable.
const MIN_SECRET: usize = 4;
/// A part of a path or query is taken for a credential if it has this length, or a shorter one and
/// a digit.
const MIN_PART: usize = 12;
const MIN_PART_WITH_DIGIT: usize = 5;
/// The characters that JavaScript's `encodeURIComponent` leaves unchanged.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The credentials of one destination or alert recipient, in every form.
pub(crate) struct Secrets {
    /// Longest first, so that no part of a longer one remains.
    forms: Vec<String>,
}

impl Secrets {
    /// The secrets of a URL, and those that sign messages to it.
    pub(crate) fn of(url: &Secret, others: &[&Secret]) -> Self {
        let mut secrets = of_url(url.expose());
        secrets.extend(others.iter().map(|secret| secret.expose().to_owned()));
        Self::all(secrets)
    }

    /// The secrets of a destination: its URL, headers and signing secrets.
    pub(crate) fn of_destination(destination: &Destination) -> Self {
        let mut secrets = of_url(destination.url.expose());
        for header in &destination.options.message.headers {
            secrets.extend(of_header(&header.value));
        }
        for signing in &destination.secrets {
            let secret = signing.secret.expose();
            secrets.extend([secret, secret.trim_start_matches("whsec_")].map(str::to_owned));
        }
        Self::all(secrets)
    }

    fn all(secrets: Vec<String>) -> Self {
        let mut forms = BTreeSet::new();
        for secret in secrets {
            let decoded = percent_decode_str(&secret).decode_utf8_lossy().into_owned();
            for text in [secret, decoded] {
                let encoded = utf8_percent_encode(&text, COMPONENT).to_string();
                forms.insert(encoded.replace('%', "%25"));
                forms.insert(lower_escapes(&encoded));
                forms.insert(encoded);
                // As in JSON and HTML.
                forms.insert(text.replace('/', "\\/"));
                forms.insert(text.replace('/', "&#x2F;").replace('&', "&amp;"));
                forms.insert(text.replace('&', "&amp;"));
                forms.insert(text);
            }
        }
        let mut forms: Vec<_> = forms.into_iter().filter(|form| form.len() >= MIN_SECRET).collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { forms }
    }

    /// Removes the secrets from a text, including the beginning of one at the text's end, where it
    /// was truncated.
    pub(crate) fn hide(&self, text: &str) -> String {
        if text.is_empty() {
            return String::new();
        }
        let mut text =
            self.forms.iter().fold(text.to_owned(), |text, form| text.replace(form, HIDDEN));
        let beginning = self.forms.iter().filter_map(|form| {
            let lengths = (MIN_SECRET..form.len()).rev();
            lengths.into_iter().find(|length| {
                form.get(..*length).is_some_and(|beginning| text.ends_with(beginning))
            })
        });
        if let Some(length) = beginning.max() {
            text.truncate(text.len() - length);
            text.push_str(HIDDEN);
        }
        text
    }
}

/// A URL, its path and query, and their parts that look like a credential.
fn of_url(text: &str) -> Vec<String> {
    let mut secrets = vec![text.to_owned()];
    let Ok(url) = Url::parse(text) else { return secrets };
    let path = url.path().trim_end_matches('/');
    let is_short = path.len() < MIN_SECRET;
    secrets.push(url.as_str().trim_end_matches('/').to_owned());
    secrets.extend((!is_short).then(|| path.to_owned()));
    secrets.extend((!is_short).then(|| path.trim_start_matches('/').to_owned()));
    if let Some(query) = url.query() {
        secrets.push(format!("{}?{query}", url.path()));
        secrets.push(query.to_owned());
    }
    secrets.extend(url.password().map(str::to_owned));
    let segments = url.path_segments().into_iter().flatten().map(str::to_owned);
    let values = url.query_pairs().map(|(_, value)| value.into_owned());
    secrets.extend(segments.chain(values).filter(|part| is_credential(part)));
    secrets
}

fn is_credential(part: &str) -> bool {
    let has_digit = part.bytes().any(|byte| byte.is_ascii_digit());
    part.len() >= MIN_PART || (has_digit && part.len() >= MIN_PART_WITH_DIGIT)
}

/// A header's value, also without its scheme; for `Basic` also the decoded credentials.
fn of_header(value: &str) -> Vec<String> {
    let mut secrets = vec![value.to_owned()];
    let Some((scheme, rest)) = value.trim().split_once(' ') else { return secrets };
    let rest = rest.trim();
    secrets.push(rest.to_owned());
    if scheme.eq_ignore_ascii_case("basic")
        && let Ok(bytes) = STANDARD.decode(rest)
        && let Ok(pair) = String::from_utf8(bytes)
    {
        secrets.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
        secrets.push(pair);
    }
    secrets
}

/// `%2F` → `%2f`.
fn lower_escapes(encoded: &str) -> String {
    let mut parts = encoded.split('%');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (escape, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        format!("{text}%{}{rest}", escape.to_ascii_lowercase())
    })
}

/// The part of a redirect's URL that may be shown: scheme and host. The rest may be a credential of
/// the other side.
pub(super) fn mask_location(location: &str) -> String {
    match Url::parse(location)
        .ok()
        .as_ref()
        .and_then(|url| Some((url.scheme(), url.host_str()?, url.port())))
    {
        Some((scheme, host, port)) => {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            format!("{scheme}://{host}{port}/…")
        }
        None => "another path of the same host".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::tests::destination;
    use crate::settings::{Header, SigningSecret};

    fn secrets() -> Secrets {
        let mut found = destination();
        found.url = Secret::new("https://hooks.example.com/hook/s3cr%20t-Slug/?key=abc+d/ef1&x=1");
        let header = |value: &str| Header { name: "x".to_owned(), value: value.to_owned() };
        found.options.message.headers = vec![
            header("Bearer tok-en/12"),
            header("Basic YWRhOnBhc3N3b3Jk"),
            header("plain-value"),
        ];
        let secret = Secret::new("whsec_c2VjcmV0LWtleQ==");
        found.secrets = vec![SigningSecret { secret, until: None }];
        Secrets::of_destination(&found)
    }

    #[test]
    fn every_form_of_a_secret_is_hidden() {
        for text in [
            "https://hooks.example.com/hook/s3cr%20t-Slug/?key=abc+d/ef1&x=1",
            "https://hooks.example.com/hook/s3cr%20t-Slug/?key=abc+d/ef1&x=1&further=1",
            "/hook/s3cr%20t-Slug/?key=abc+d/ef1&x=1",
            "/hook/s3cr%20t-Slug/",
            "/hook/s3cr%20t-Slug",
            "hook/s3cr%20t-Slug",
            "/hook/s3cr t-Slug/",
            "%2Fhook%2Fs3cr%2520t-Slug",
            "%2fhook%2fs3cr%20t-Slug",
            "%2Fhook%2Fs3cr%20t-Slug",
            r"\/hook\/s3cr%20t-Slug\/",
            "other/s3cr%20t-Slug/place",
            "key=abc+d/ef1&amp;x=1",
            "abc d/ef1",
            "abc%20d%2Fef1",
            "Bearer tok-en/12",
            "tok-en/12",
            "tok-en%2F12",
            "Basic YWRhOnBhc3N3b3Jk",
            "YWRhOnBhc3N3b3Jk",
            "ada:password",
            "plain-value",
            "whsec_c2VjcmV0LWtleQ==",
            "c2VjcmV0LWtleQ==",
        ] {
            let hidden = secrets().hide(&format!("before {text} after"));
            assert!(
                hidden.starts_with("before ") && hidden.ends_with(" after"),
                "{text}: {hidden}"
            );
            for part in
                ["s3cr", "Slug", "ef1", "en/12", "en%2F12", "YWRh", "password", "value", "c2Vj"]
            {
                assert!(!hidden.contains(part), "{text}: {hidden}");
            }
        }
        assert_eq!(
            secrets().hide("it moved, status 404: hook not found"),
            "it moved, status 404: hook not found"
        );
    }

    #[test]
    fn a_secret_that_is_cut_off_is_hidden_too() {
        assert_eq!(secrets().hide("no plain-va"), "no ***");
        assert_eq!(secrets().hide("see /hook/s3cr%20t-Sl"), "see ***");
        assert_eq!(secrets().hide("all is well"), "all is well");
    }

    #[test]
    fn only_the_host_of_a_redirect_is_shown() {
        for (location, shown) in [
            ("https://new.example.com:8443/hook/s3cret?x", "https://new.example.com:8443/…"),
            ("/hook/s3cret/", "another path of the same host"),
            ("//new.example.com/s3cret", "another path of the same host"),
            ("", "another path of the same host"),
        ] {
            assert_eq!(mask_location(location), shown);
        }
    }
}
