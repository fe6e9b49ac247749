//! The headers of the tag's responses.
//! Takes nothing but the request's offer of compression; returns headers that are the same for
//! everybody.
//! Guarantees that no response with a click ID is cached.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

/// True if `Accept-Encoding` lists `gzip` or `*` with a quality above 0.
pub(super) fn accepts_gzip(value: &HeaderValue) -> bool {
    value.to_str().unwrap_or_default().split(',').any(|part| {
        let (coding, parameters) = part.split_once(';').unwrap_or((part, ""));
        let quality = parameters.trim().strip_prefix("q=").map_or("1", str::trim);
        matches!(coding.trim(), "gzip" | "x-gzip" | "*")
            && quality.chars().any(|char| ('1'..='9').contains(&char))
    })
}

/// Headers of every response: it must not be cached, and every page may load it.
pub(super) static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let fixed = [
        ("content-type", "text/javascript; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("cache-control", "private, no-store, no-transform"),
        ("cdn-cache-control", "no-store"),
        ("surrogate-control", "no-store"),
        ("vary", "Accept-Encoding, Cookie, Referer"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("timing-allow-origin", "*"),
    ];
    let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fixed.into_iter().map(pair).collect()
});

/// [`HEADERS`] for a compressed response.
pub(super) static GZIP_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HEADERS.clone();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers
});
