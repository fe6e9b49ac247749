//! Copies of the tag that stand under another address: what an optimiser combined or a CDN keeps, or the static tag on the owner's host.
//! In: a script's text. Out: whether the tag is in it, where it reports to, whether one click ID is baked into it.
//! Promise: it is known by its own text, however the rest was shortened or joined with other scripts. Pure.

use url::Url;

/// Stands in every form of the tag: the pattern of the placeholder, in a string that no minifier changes.
const MARK: &str = "click(-|%2d)id(-|%2d)";
/// Fewest characters of a click ID behind `ck_`.
const CLICK_ID_CHARS: usize = 29;

/// The tag at an address of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TagCopy {
    pub(super) address: Url,
    /// Where it posts visits.
    pub(super) door: Option<Url>,
    /// True for a copy of an answer that was meant for one visitor; the static tag has none.
    pub(super) has_click_id: bool,
}

impl TagCopy {
    /// Finds the tag in a script.
    pub(super) fn read(address: Url, script: &str) -> Option<Self> {
        let (_, behind) = script.split_once(MARK)?;
        let door = behind.match_indices("http").find_map(|(at, _)| {
            let url = behind[at..].split(['"', '\'', '`', '\\']).next()?;
            Url::parse(url).ok().filter(|url| url.has_host() && url.path().ends_with("/v"))
        });
        let has_click_id = behind.split("ck_").skip(1).any(|rest| {
            let letters = rest.bytes().take_while(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            letters.count() >= CLICK_ID_CHARS
        });
        Some(Self { address, door, has_click_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = include_str!("../../../static/tag.min.js");

    #[test]
    fn the_tag_is_known_by_its_text() {
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
            assert_eq!(found.door.expect("a door").host_str(), Some("go.shop.com"));
        }
        let cut = TagCopy::read(there.clone(), TAG).expect("the tag, without its settings");
        assert_eq!((cut.door, cut.has_click_id), (None, false));
        for other in ["", "clickId = 1", "var ck_0 = 'http:'", "é--CLICK-ID--"] {
            assert_eq!(TagCopy::read(there.clone(), other), None, "{other}");
        }
    }
}
