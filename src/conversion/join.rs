//! The join: which visit led to this payment?
//! In: what came back from Stripe, judged, and the visits found for it. Out: a `Match`, always with a reason.
//! Promise: the same input gives the same answer, in whatever order events arrived. Pure; `process` does the reading and writing.

use crate::domain::{MatchRule, MatchState, UnmatchedReason};
use crate::ids::{ClickId, ClickIdKey};

/// What a text that should be a click ID turns out to be. No database is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The literal `--CLICK-ID--` in some spelling: the tag did not run.
    Placeholder,
    /// Ours by its MAC, or made by a browser with a stale copy of the tag.
    Genuine(ClickId),
    /// Of our form, but with a wrong MAC.
    Forged,
    /// Somebody else's.
    Foreign,
}

/// Judges a text.
pub(crate) fn judge(keys: &ClickIdKey, text: &str) -> Reference {
    if is_unreplaced(text) {
        return Reference::Placeholder;
    }
    match ClickId::parse(text) {
        None => Reference::Foreign,
        Some(id) if id.is_client_made() || keys.read(&id).is_some() => Reference::Genuine(id),
        Some(_) => Reference::Forged,
    }
}

/// A text that a tool should have filled in and did not: `{clickid}`, `{{…}}`, `[click_id]`, `%…%`, `--CLICK-ID--`, `undefined`.
pub(crate) fn is_unreplaced(text: &str) -> bool {
    const AROUND: [(&str, &str); 7] =
        [("{", "}"), ("${", "}"), ("[", "]"), ("%", "%"), ("--", "--"), ("<", ">"), ("#", "#")];
    let is_wrapped = |(begin, end): &(&str, &str)| {
        let inside = text.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        let is_name = |c: char| c.is_ascii_alphanumeric() || " _-.:{}[]|".contains(c);
        inside.is_some_and(|inside| !inside.is_empty() && inside.chars().all(is_name))
    };
    // What JavaScript and Python print for a variable without a value.
    let is_nothing =
        ["null", "undefined", "none", "nan"].iter().any(|word| text.eq_ignore_ascii_case(word));
    is_nothing || is_placeholder(text) || AROUND.iter().any(is_wrapped)
}

/// `--CLICK-ID--` in any letter case, percent-encoded, HTML-escaped, cut at either end, or with typographic dashes:
/// decoded once, only its letters count.
fn is_placeholder(text: &str) -> bool {
    let text = percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .replace("&#45;", "-")
        .replace("&#x2d;", "-");
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.eq_ignore_ascii_case("clickid")
}

/// The answer of the join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// A visit led to it.
    Matched {
        /// By which rule.
        by: MatchRule,
        /// The visit's (signed) click ID.
        click_id: ClickId,
    },
    /// None is known to.
    Unmatched(UnmatchedReason),
}

impl Match {
    /// Whether there is a visit.
    pub(crate) fn state(&self) -> MatchState {
        match self {
            Self::Matched { .. } => MatchState::Matched,
            Self::Unmatched(_) => MatchState::Unmatched,
        }
    }
}

/// What was found, rule by rule; each holds the click ID of a recorded visit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) by_hand: Option<ClickId>,
    pub(crate) by_click_id: Option<ClickId>,
    pub(crate) by_anytrack_id: Option<ClickId>,
    pub(crate) by_metadata: Option<ClickId>,
    pub(crate) by_stripe_object: Option<ClickId>,
}

impl Found {
    /// True when no rule needs another payment's help.
    pub(crate) fn has_own(&self) -> bool {
        [&self.by_hand, &self.by_click_id, &self.by_anytrack_id, &self.by_metadata]
            .into_iter()
            .any(Option::is_some)
    }
}

/// What came instead of a reference: where a payment without one would have got it from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A checkout, which could have carried one.
    Checkout,
    /// A contract's later payment, or an adjustment: its first payment would have it.
    Earlier,
    /// Neither.
    Nothing,
}

/// The first rule that found a visit wins; without one, the reference says why, and without that, where it came from.
pub(crate) fn decide(reference: Option<&Reference>, origin: Origin, found: Found) -> Match {
    let rules = [
        (MatchRule::Manual, found.by_hand),
        (MatchRule::ClickId, found.by_click_id),
        (MatchRule::AnytrackClickId, found.by_anytrack_id),
        (MatchRule::Metadata, found.by_metadata),
        (MatchRule::StripeObject, found.by_stripe_object),
    ];
    if let Some((by, click_id)) = rules.into_iter().find_map(|(by, click_id)| Some((by, click_id?)))
    {
        return Match::Matched { by, click_id };
    }
    Match::Unmatched(match (reference, origin) {
        (Some(Reference::Placeholder), _) => UnmatchedReason::PlaceholderNotReplaced,
        (Some(Reference::Foreign), _) => UnmatchedReason::ForeignReference,
        (Some(Reference::Genuine(_)), _) => UnmatchedReason::UnknownClickId,
        (Some(Reference::Forged), _) => UnmatchedReason::ForgedClickId,
        (None, Origin::Checkout) => UnmatchedReason::NoReference,
        (None, Origin::Earlier) => UnmatchedReason::FirstPaymentNotSeen,
        (None, Origin::Nothing) => UnmatchedReason::NoObject,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn keys() -> ClickIdKey {
        ClickIdKey::new(b"a key for tests")
    }

    #[test]
    fn what_other_tools_left_unreplaced_is_known_too() {
        for text in [
            "{clickid}",
            "{{ck.id}}",
            "{{ steps.1.id }}",
            "${subid}",
            "[click_id]",
            "[[x]]",
            "%SUBID%",
            "<sub1>",
            "#aff_sub#",
            "--SUB-ID--",
            "null",
            "undefined",
            "None",
            "NaN",
        ] {
            assert!(is_unreplaced(text), "{text}");
        }
        for text in [
            "{}",
            "%%",
            "--",
            "x{y}",
            "<script>alert(1)</script>",
            "p8qkMans",
            "--a/b--",
            "nullity",
        ] {
            assert!(!is_unreplaced(text), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_the_placeholder_is_known() {
        let spellings = [
            "--CLICK-ID--",
            "--click-id--",
            "%2D%2DCLICK-ID%2D%2D",
            "--CLICK-ID-",
            "-CLICK-ID--",
            "CLICK-ID",
            "–CLICK-ID–",
            "—CLICK—ID—",
            "&#45;&#45;CLICK-ID&#45;&#45;",
            "--Click_Id--",
        ];
        for text in spellings {
            assert_eq!(judge(&keys(), text), Reference::Placeholder, "{text}");
        }
    }

    #[test]
    fn references_are_told_apart_without_a_database() {
        let genuine = keys().mint(Timestamp::from_ms(1_790_000_000_000), 1);
        let client_made = format!("ck_z{}", "0123456789".repeat(3));
        let mut forged = genuine.as_str().to_owned();
        forged.pop();
        forged.push(if genuine.as_str().ends_with('0') { '1' } else { '0' });
        let rows = [
            ("genuine", genuine.as_str(), Reference::Genuine(genuine.clone())),
            (
                "made by a browser",
                &client_made,
                Reference::Genuine(ClickId::parse(&client_made).unwrap()),
            ),
            ("forged", &forged, Reference::Forged),
            ("the fixture's text", "ck_REPLACE_WITH_A_REAL_CLICK_ID", Reference::Foreign),
            ("an order number", "order-2291", Reference::Foreign),
            ("AnyTrack's", "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys", Reference::Foreign),
        ];
        for (name, text, expected) in rows {
            assert_eq!(judge(&keys(), text), expected, "{name}");
        }
    }

    #[test]
    fn the_strongest_rule_wins_and_each_reason_has_its_cause() {
        let id = |site| keys().mint(Timestamp::from_ms(1), site);
        let found = |a, b, c, d| Found {
            by_hand: None,
            by_click_id: a,
            by_anytrack_id: b,
            by_metadata: c,
            by_stripe_object: d,
        };
        let (one, two, three, four) = (id(1), id(2), id(3), id(4));
        let genuine = Reference::Genuine(one.clone());
        let matched = |by, click_id: &ClickId| Match::Matched { by, click_id: click_id.clone() };
        let rows = [
            (
                found(
                    Some(one.clone()),
                    Some(two.clone()),
                    Some(three.clone()),
                    Some(four.clone()),
                ),
                matched(MatchRule::ClickId, &one),
            ),
            (
                found(None, Some(two.clone()), Some(three.clone()), Some(four.clone())),
                matched(MatchRule::AnytrackClickId, &two),
            ),
            (
                found(None, None, Some(three.clone()), Some(four.clone())),
                matched(MatchRule::Metadata, &three),
            ),
            (found(None, None, None, Some(four.clone())), matched(MatchRule::StripeObject, &four)),
        ];
        for (found, expected) in rows {
            assert_eq!(decide(Some(&genuine), Origin::Checkout, found), expected);
        }
        let by_hand = Found { by_hand: Some(two.clone()), ..found(Some(one), None, None, None) };
        assert_eq!(decide(None, Origin::Checkout, by_hand), matched(MatchRule::Manual, &two));
        let reasons = [
            (None, Origin::Checkout, UnmatchedReason::NoReference),
            (None, Origin::Earlier, UnmatchedReason::FirstPaymentNotSeen),
            (None, Origin::Nothing, UnmatchedReason::NoObject),
            (
                Some(Reference::Placeholder),
                Origin::Checkout,
                UnmatchedReason::PlaceholderNotReplaced,
            ),
            (Some(Reference::Foreign), Origin::Nothing, UnmatchedReason::ForeignReference),
            (Some(genuine), Origin::Earlier, UnmatchedReason::UnknownClickId),
            (Some(Reference::Forged), Origin::Checkout, UnmatchedReason::ForgedClickId),
        ];
        for (reference, origin, reason) in reasons {
            let decided = decide(reference.as_ref(), origin, Found::default());
            assert_eq!(decided, Match::Unmatched(reason));
        }
    }
}
