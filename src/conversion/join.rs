//! Matches a payment to the visit that led to it.
//! Takes the payment's references and the visits found for them; returns a match, or the reason why
//! there is none.
//! Pure: the same input gives the same answer, in whatever order events arrived. `settle` reads and
//! writes the database.

use crate::domain::{MatchRule, MatchState, UnmatchedReason};
use crate::ids::{ClickId, ClickIdKey};

/// What a reference from Stripe turns out to be, without asking the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// The literal `--CLICK-ID--` in some spelling: the tag didn't run.
    Placeholder,
    /// Our click ID: its MAC is valid, or a browser with an outdated copy of the tag created it.
    Genuine(ClickId),
    /// It has our format, but its MAC is wrong.
    Forged,
    /// An ID of another tool, or any other text.
    Foreign,
}

/// Classifies a text.
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

/// True for a placeholder that a tool should have replaced and didn't: `{clickid}`, `{{…}}`,
/// `[click_id]`, `%…%`, `--CLICK-ID--`, `undefined`.
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

/// True for `--CLICK-ID--` in any letter case, percent-encoded, HTML-escaped, cut at either end, or
/// with typographic dashes: the text is decoded once, and only its letters are compared.
fn is_placeholder(text: &str) -> bool {
    let text = percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .replace("&#45;", "-")
        .replace("&#x2d;", "-");
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    letters.eq_ignore_ascii_case("clickid")
}

/// The result of matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// A visit led to the payment.
    Matched {
        /// The rule that found it.
        by: MatchRule,
        /// The visit's click ID, signed by us.
        click_id: ClickId,
    },
    /// No known visit led to it.
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

/// The click ID that each rule found; each belongs to a recorded visit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) by_hand: Option<ClickId>,
    pub(crate) by_click_id: Option<ClickId>,
    pub(crate) by_anytrack_id: Option<ClickId>,
    pub(crate) by_metadata: Option<ClickId>,
    pub(crate) by_stripe_object: Option<ClickId>,
}

impl Found {
    /// True if a visit was found without help of another payment.
    pub(crate) fn has_own(&self) -> bool {
        [&self.by_hand, &self.by_click_id, &self.by_anytrack_id, &self.by_metadata]
            .into_iter()
            .any(Option::is_some)
    }
}

/// Where the reference should have come from, for a payment without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From its checkout, which could have carried one.
    Checkout,
    /// From the subscription's first payment, or from the payment that was refunded or disputed.
    Earlier,
    /// From nowhere.
    Nothing,
}

/// Decides the match: the first rule that found a visit wins. If none did, the reference gives the
/// reason; without a reference, the origin does.
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
    fn placeholders_of_other_tools_are_recognized() {
        for text in [
            "{clickid}", "{{ck.id}}", "{{ steps.1.id }}", "${subid}", "[click_id]", "[[x]]",
            "%SUBID%", "<sub1>", "#aff_sub#", "--SUB-ID--", "null", "undefined", "None", "NaN",
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
    fn every_spelling_of_our_placeholder_is_recognized() {
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
    fn references_are_classified_without_a_database() {
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
        let ids = [id(1), id(2), id(3), id(4)];
        let [one, two, ..] = ids.clone();
        let genuine = Reference::Genuine(one.clone());
        let matched = |by, click_id: &ClickId| Match::Matched { by, click_id: click_id.clone() };
        let rules = [
            MatchRule::ClickId,
            MatchRule::AnytrackClickId,
            MatchRule::Metadata,
            MatchRule::StripeObject,
        ];
        for (first, rule) in rules.into_iter().enumerate() {
            let from = |at: usize| (at >= first).then(|| ids[at].clone());
            let found = Found {
                by_hand: None,
                by_click_id: from(0),
                by_anytrack_id: from(1),
                by_metadata: from(2),
                by_stripe_object: from(3),
            };
            let decided = decide(Some(&genuine), Origin::Checkout, found);
            assert_eq!(decided, matched(rule, &ids[first]));
        }
        let by_hand =
            Found { by_hand: Some(two.clone()), by_click_id: Some(one), ..Found::default() };
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
