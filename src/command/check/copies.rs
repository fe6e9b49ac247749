//! Finds copies of the tag under another URL: combined by an optimizer, kept by a CDN, or the
//! static tag on the site's own host. Takes a script's text; returns whether it contains the tag,
//! where the tag posts visits, and whether the config has a click ID. Guarantees that the tag is
//! recognized even if the script was minified or combined with others. Pure.

use url::Url;

/// Text that every form of the tag contains: the pattern of the placeholder, a string that
/// minifiers do not change.
const MARK: &str = "{1,2}click(-|";
/// Minimum length of a click ID after `ck_`.
const CLICK_ID_CHARS: usize = 29;

/// A copy of the tag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TagCopy {
    pub(super) address: Url,
    /// URL to which it posts visits.
    pub(super) endpoint: Option<Url>,
    /// True for a copy of a response that was made for one visitor. The static tag contains no
    /// click ID.
    pub(super) has_click_id: bool,
}

impl TagCopy {
    /// Finds the tag in a script.
    pub(super) fn read(address: Url, script: &str) -> Option<Self> {
        let (_, rest) = script.split_once(MARK)?;
        let endpoint = rest.match_indices("http").find_map(|(at, _)| {
            let url = rest[at..].split(['"', '\'', '`', '\\']).next()?;
            Url::parse(url).ok().filter(|url| url.has_host() && url.path().ends_with("/v"))
        });
        let has_click_id = rest.split("ck_").skip(1).any(|id| {
            let letters = id.bytes().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            letters.count() >= CLICK_ID_CHARS
        });
        Some(Self { address, endpoint, has_click_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = include_str!("../../../static/tag.min.js");

    #[test]
    fn the_tag_is_found_in_combined_and_minified_scripts() {
        let id = format!("ck_{}", "0".repeat(34));
        let there = Url::parse("https://www.shop.com/cache/min/1.js").unwrap();
        let rows = [
            (
                format!(r#"{TAG}({{"i":"{id}","t":1,"s":"main","e":"https://go.shop.com/v"}})"#),
                true,
            ),
            (
                format!(
                    "var a='http://x/y';{TAG}({{e:'https://go.shop.com/k/v?asks',i:'{id}'}});b()"
                ),
                true,
            ),
            (format!(r#"{TAG}({{"s":"main","e":"https://go.shop.com/v?fixed"}})"#), false),
        ];
        for (script, has_click_id) in rows {
            let found = TagCopy::read(there.clone(), &script).expect("the tag");
            assert_eq!(found.has_click_id, has_click_id, "{script}");
            assert_eq!(found.endpoint.expect("an endpoint").host_str(), Some("go.shop.com"));
        }
        let cut = TagCopy::read(there.clone(), TAG).expect("the tag, without its config");
        assert_eq!((cut.endpoint, cut.has_click_id), (None, false));
        for other in ["", "clickId = 1", "var ck_0 = 'http:'", "é--CLICK-ID--"] {
            assert_eq!(TagCopy::read(there.clone(), other), None, "{other}");
        }
    }
}
