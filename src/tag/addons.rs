//! Add-ons: optional scripts that wrap the tag. Takes a site's settings; returns the add-ons its
//! pages need, and the script made of them and the tag. Guarantees that a page loads only the
//! add-ons its site needs, and that each combination is built and compressed once.
//!
//! An add-on is a function that takes the tag and returns a function with the same parameter, so a
//! script reads `(add-on)((add-on)(tag))(config)`.

use std::array;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::splice::Script;
use crate::settings::{Consent, Site, Snapshot};

/// The minified form of `static/tag.js`, a function expression. It is committed, so that the build
/// does not need Node.
const TAG: &str = include_str!("../../static/tag.min.js");

/// The tag built from the same source to store nothing in the browser, and to read nothing there.
const COOKIELESS_TAG: &str = include_str!("../../static/tag-cookieless.min.js");

/// All add-ons, innermost first. An add-on's index is its bit in [`AddOns`].
const ADD_ONS: [&str; 6] = [
    // Must be inside the add-on for linked domains, which sets `config.l` first: this one calls it
    // for links that are not payment links. reference for links that have none.
    include_str!("../../static/tag-auto.min.js"),
    include_str!("../../static/tag-linked.min.js"),
    include_str!("../../static/tag-anytrack.min.js"),
    include_str!("../../static/tag-consent-google.min.js"),
    include_str!("../../static/tag-consent-tcf.min.js"),
    include_str!("../../static/tag-debug.min.js"),
];

/// The race stub: an inline script above the tag, for pages where visitors may click before the tag
/// has loaded.
pub(crate) const RACE_STUB: &str = include_str!("../../static/tag-stub.min.js");

/// The value for `script-src` that allows the race stub: `'sha256-…'`.
pub(crate) fn race_stub_hash() -> String {
    csp_hash(RACE_STUB.trim_end())
}

/// The hash by which a Content Security Policy allows an inline script.
fn csp_hash(script: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script.as_bytes())))
}

/// The bit in [`AddOns`] of the tag that stores nothing.
const IS_COOKIELESS: usize = 1 << ADD_ONS.len();

/// A set of add-ons, and the tag that they are around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddOns(usize);

impl AddOns {
    /// The add-ons that a page needs. `linked`: the page has linked domains. `debug`: debug output
    /// was requested.
    pub(super) fn of(settings: &Snapshot, site: &Site, linked: bool, debug: bool) -> Self {
        let has_anytrack = || settings.anytrack_of(&site.id).is_some();
        let tag = &site.tag;
        let wanted = [
            tag.auto_stamp,
            linked,
            // The tag can wait for AnyTrack's click ID only with the add-on that captures it.
            tag.yield_to_anytrack || tag.capture_anytrack && has_anytrack(),
            tag.consent == Consent::Google,
            tag.consent == Consent::Tcf,
            debug,
        ];
        let bits = wanted.iter().enumerate().map(|(at, wanted)| usize::from(*wanted) << at);
        let core = if tag.consent == Consent::Cookieless { IS_COOKIELESS } else { 0 };
        Self(bits.sum::<usize>() | core)
    }

    /// The source text of the tag with these add-ons around it.
    pub(super) fn text(self) -> String {
        let core = if self.0 & IS_COOKIELESS == 0 { TAG } else { COOKIELESS_TAG };
        let inner = core.trim_end().to_owned();
        let wanted = ADD_ONS.iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        wanted.fold(inner, |inner, (_, add_on)| format!("{}({inner})", add_on.trim_end()))
    }
}

/// The scripts of all sets. Each is built on first use.
pub(super) struct Scripts([OnceLock<Script>; 2 * IS_COOKIELESS]);

impl Default for Scripts {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

impl Scripts {
    pub(super) fn get(&self, add_ons: AddOns) -> &Script {
        self.0[add_ons.0].get_or_init(|| Script::new(add_ons.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn add_ons_wrap_the_tag() {
        assert_eq!(AddOns(0).text(), TAG.trim_end());
        assert_eq!(AddOns(IS_COOKIELESS).text(), COOKIELESS_TAG.trim_end());
        let all = AddOns(IS_COOKIELESS - 1).text();
        assert!(all.starts_with(ADD_ONS[5]) && all.ends_with("))))))"));
        for add_on in ADD_ONS {
            assert!(all.contains(add_on) && add_on.starts_with('(') && add_on.ends_with(')'));
        }
    }

    #[test]
    fn inline_scripts_are_hashed_as_the_csp_specification_says() {
        // The example of the Content Security Policy specification, level 3.
        assert_eq!(
            csp_hash("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }

    #[test]
    fn the_race_stub_is_small_and_safe_inside_a_script_element() {
        assert!(RACE_STUB.len() <= 550 && !RACE_STUB.contains("</"));
        assert_eq!(race_stub_hash().len(), "'sha256-'".len() + 44);
    }
}
