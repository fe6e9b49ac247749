//! The add-ons: small scripts around the tag, for the sites that need them.
//! In: a site's settings. Out: the set of add-ons its pages get, and the script they make together with the tag.
//! Promise: a page loads no add-on its site does not need, and each set is put together and compressed once.
//!
//! An add-on is a function that takes the tag and gives one like it, so a script reads `(add-on)((add-on)(tag))(config)`.

use std::array;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

use super::splice::Script;
use crate::settings::{Consent, DestinationKind, Site, Snapshot};

/// The minified form of `static/tag.js`, one function expression; committed, so that building needs no Node.
const TAG: &str = include_str!("../../static/tag.min.js");

/// All add-ons, the innermost first; each one's place here is its bit in a set.
const ADD_ONS: [&str; 6] = [
    // Within the one for linked domains, which has then set itself up: its word counts where this one has none.
    include_str!("../../static/tag-auto.min.js"),
    include_str!("../../static/tag-linked.min.js"),
    include_str!("../../static/tag-anytrack.min.js"),
    include_str!("../../static/tag-consent-google.min.js"),
    include_str!("../../static/tag-consent-tcf.min.js"),
    include_str!("../../static/tag-debug.min.js"),
];

/// The race stub: inline, above the tag, on pages where a visitor may click within the first moments.
pub(crate) const RACE_STUB: &str = include_str!("../../static/tag-stub.min.js");

/// What a page's `script-src` needs to allow the race stub: `'sha256-…'`.
pub(crate) fn race_stub_hash() -> String {
    csp_hash(RACE_STUB.trim_end())
}

/// How a policy names an inline script: its SHA-256, so that a changed letter shuts it out.
fn csp_hash(script: &str) -> String {
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(script.as_bytes())))
}

/// A set of add-ons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddOns(usize);

impl AddOns {
    /// What a site's pages need; `linked` where the page has linked ones, `debug` for the person who installs the tag.
    pub(super) fn of(settings: &Snapshot, site: &Site, linked: bool, debug: bool) -> Self {
        let has_anytrack =
            || settings.destinations_of(&site.id).any(|to| to.kind == DestinationKind::AnyTrack);
        let tag = &site.tag;
        let wanted = [
            tag.auto_stamp,
            linked,
            // Who waits for AnyTrack needs somebody who hears it.
            tag.yield_to_anytrack || tag.capture_anytrack && has_anytrack(),
            tag.consent == Consent::Google,
            tag.consent == Consent::Tcf,
            debug,
        ];
        let bits = wanted.iter().enumerate().map(|(at, wanted)| usize::from(*wanted) << at);
        Self(bits.sum())
    }

    /// The add-ons around the tag.
    pub(super) fn text(self) -> String {
        let inner = TAG.trim_end().to_owned();
        let wanted = ADD_ONS.iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        wanted.fold(inner, |inner, (_, add_on)| format!("{}({inner})", add_on.trim_end()))
    }
}

/// The scripts of all sets, each made when a page first needs it.
pub(super) struct Scripts([OnceLock<Script>; 1 << ADD_ONS.len()]);

impl Default for Scripts {
    fn default() -> Self {
        Self(array::from_fn(|_| OnceLock::new()))
    }
}

impl Scripts {
    pub(super) fn get(&self, add_ons: AddOns) -> &Script {
        self.0[add_ons.0].get_or_init(|| Script::new(&add_ons.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_the_add_ons_around_the_tag() {
        assert_eq!(AddOns(0).text(), TAG.trim_end());
        let all = AddOns((1 << ADD_ONS.len()) - 1).text();
        assert!(all.starts_with(ADD_ONS[5]) && all.ends_with("))))))"));
        for add_on in ADD_ONS {
            assert!(all.contains(add_on) && add_on.starts_with('(') && add_on.ends_with(')'));
        }
    }

    #[test]
    fn a_policy_names_a_script_by_its_hash() {
        // The example of the Content Security Policy specification, level 3.
        assert_eq!(
            csp_hash("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }

    #[test]
    fn the_race_stub_can_stand_in_a_page() {
        assert!(RACE_STUB.len() <= 550 && !RACE_STUB.contains("</"));
        assert_eq!(race_stub_hash().len(), "'sha256-'".len() + 44);
    }
}
