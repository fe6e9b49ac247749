//! What makes a visit a new click: ad parameters that the last click did not have, and referrers
//! from outside. Takes a query or a referrer; returns what the tag's rules say about it.
//! Pure.

use crate::hosts;
use crate::settings::Site;

/// The ad parameters of a query as the tag stores them: a hash of each ad click ID and UTM
/// parameter, as seven digits to the base 36.
pub(crate) fn ad_parameters(query: &str) -> Vec<String> {
    query.split('&').filter(|pair| is_signed(pair)).map(hash).collect()
}

fn hash(pair: &str) -> String {
    let hash =
        pair.encode_utf16().fold(0_u32, |hash, unit| hash.wrapping_mul(65_599) ^ u32::from(unit));
    let mut rest = u64::from(hash) + (1 << 32); // So that all have the same length.
    let mut digits = Vec::with_capacity(7);
    while rest > 0 {
        digits.extend(u32::try_from(rest % 36).ok().and_then(|digit| char::from_digit(digit, 36)));
        rest /= 36;
    }
    digits.into_iter().rev().collect()
}

/// True if the tag's pattern matches, ignoring case:
/// `^(utm_\w+|\w*cl(ic)?k?_?id|[gw]braid|(rdt_|sc)cid|_?epik|li_fat_id|tblci|oppref|dicbo|aleid)=.`
pub(super) fn is_signed(pair: &str) -> bool {
    let Some((name, value)) = pair.split_once('=') else { return false };
    let name = name.to_ascii_lowercase();
    if value.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return false;
    }
    let click = ["clid", "clkid", "click_id", "clickid", "clk_id", "cl_id", "clicid", "clic_id"];
    let whole = [
        "gbraid", "wbraid", "rdt_cid", "sccid", "epik", "_epik", "li_fat_id", "tblci", "oppref",
        "dicbo", "aleid",
    ];
    name.strip_prefix("utm_").is_some_and(|rest| !rest.is_empty())
        || click.iter().any(|end| name.ends_with(end))
        || whole.contains(&name.as_str())
}

/// True for a referrer that is neither one of the site's own pages nor one that starts no new click.
/// `own_host` is the host of the server or of the page.
pub(crate) fn is_outside(site: &Site, own_host: &str, referrer: &str) -> bool {
    let Some(host) = hosts::of_url(referrer) else { return false };
    let below = |domain: &str| {
        host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
    };
    let mut own =
        site.domains.iter().chain(&site.tag.linked_domains).chain(&site.tag.payment_hosts);
    let is_own = own.any(|domain| below(domain)) || hosts::no_new_click().any(below);
    !is_own && !hosts::same_site(&host, own_host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(query: &str) -> String {
        ad_parameters(query).join("-")
    }

    #[test]
    fn signatures_equal_those_of_the_tag() {
        // The test of static/tag.js reads the same file.
        let rows = include_str!("../../tests/fixtures/signatures.json");
        let rows: Vec<(String, String)> = serde_json::from_str(rows).unwrap();
        for (query, expected) in rows {
            assert_eq!(signature(&query), expected, "{query}");
        }
        assert_eq!(signature(""), "");
        assert_eq!(signature("page=2&ref=x&gclid="), "");
        assert_ne!(signature("gclid=A"), signature("gclid=a"));
        assert_eq!(signature("x=1&gclid=A&y=2"), signature("gclid=A"));
        for name in
            ["gclid", "dclid", "fbclid", "irclickid", "ob_click_id", "WBRAID", "ScCid", "_epik"]
        {
            assert!(is_signed(&format!("{name}=1")), "{name}");
        }
        for name in ["mc_eid", "client_id", "utm", "utm_", "gclsrc", "a-clid"] {
            assert!(!is_signed(&format!("{name}=1")), "{name}");
        }
    }
}
