//! The join: which visit led to this payment?
//! In: what came back from Stripe, judged, and the visits found for it. Out: a `Match`, always with a reason.
//! Promise: the same input gives the same answer, in whatever order events arrived. Pure; `process` does the reading and writing.

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

/// The rule that matched, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// Somebody said so.
    Manual,
    /// Our click ID came back.
    ClickId,
    /// An AnyTrack click ID captured with a visit came back.
    AnytrackClickId,
    /// A metadata key held it.
    Metadata,
    /// Its checkout ended on a page with the tag, or an earlier payment of the same customer or subscription lent it.
    StripeObject,
}

impl By {
    /// Every rule, strongest first.
    pub(crate) const ALL: [Self; 5] =
        [Self::Manual, Self::ClickId, Self::AnytrackClickId, Self::Metadata, Self::StripeObject];

    /// True where the payment itself named its visit: only such a match is lent to other payments, so that who borrowed first
    /// does not matter.
    pub(crate) fn is_own(self) -> bool {
        self != Self::StripeObject
    }

    /// The rule in plain words, after "matched by ".
    pub(crate) fn plain(self) -> &'static str {
        match self {
            Self::Manual => "hand",
            Self::ClickId => "its click ID",
            Self::AnytrackClickId => "AnyTrack’s click ID",
            Self::Metadata => "the click ID in its metadata",
            Self::StripeObject => "the buyer’s thank-you page or earlier payment",
        }
    }

    /// The rule of a stored word.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|by| by.word() == word)
    }

    /// The rule as stored.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::ClickId => "click_id",
            Self::AnytrackClickId => "anytrack_click_id",
            Self::Metadata => "metadata",
            Self::StripeObject => "stripe_object",
        }
    }
}

/// Why nothing matched: the closed list that the dashboard explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The payment came without a reference: the link has no parameter.
    NoReference,
    /// The placeholder came back: the tag did not run.
    PlaceholderNotReplaced,
    /// Somebody else's format.
    ForeignReference,
    /// Genuine, but no visit arrived.
    UnknownClickId,
    /// Of our form, with a wrong MAC.
    ForgedClickId,
    /// A renewal, refund or dispute of something that began before we looked.
    FirstPaymentNotSeen,
    /// Nothing to join on.
    NoObject,
}

impl Reason {
    /// Every reason.
    pub(crate) const ALL: [Self; 7] = [
        Self::NoReference,
        Self::PlaceholderNotReplaced,
        Self::ForeignReference,
        Self::UnknownClickId,
        Self::ForgedClickId,
        Self::FirstPaymentNotSeen,
        Self::NoObject,
    ];

    /// The reason of a stored word.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// The reason in plain words, after "not matched: ".
    pub(crate) fn plain(self) -> &'static str {
        match self {
            Self::NoReference => "the payment came without a reference",
            Self::PlaceholderNotReplaced => "the placeholder came back, so the tag did not run",
            Self::ForeignReference => "the reference is somebody else’s",
            Self::UnknownClickId => "the visit of its click ID has not arrived",
            Self::ForgedClickId => "its click ID is none that we made",
            Self::FirstPaymentNotSeen => "the first payment it belongs to was not seen",
            Self::NoObject => "it names nothing that leads to a visit",
        }
    }

    /// The reason as stored.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NoReference => "no_reference",
            Self::PlaceholderNotReplaced => "placeholder_not_replaced",
            Self::ForeignReference => "foreign_reference",
            Self::UnknownClickId => "unknown_click_id",
            Self::ForgedClickId => "forged_click_id",
            Self::FirstPaymentNotSeen => "first_payment_not_seen",
            Self::NoObject => "no_object",
        }
    }
}

/// The answer of the join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// A visit led to it.
    Matched {
        /// By which rule.
        by: By,
        /// The visit's (signed) click ID.
        click_id: ClickId,
    },
    /// None is known to.
    Unmatched(Reason),
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
        (By::Manual, found.by_hand),
        (By::ClickId, found.by_click_id),
        (By::AnytrackClickId, found.by_anytrack_id),
        (By::Metadata, found.by_metadata),
        (By::StripeObject, found.by_stripe_object),
    ];
    if let Some((by, click_id)) = rules.into_iter().find_map(|(by, click_id)| Some((by, click_id?)))
    {
        return Match::Matched { by, click_id };
    }
    Match::Unmatched(match (reference, origin) {
        (Some(Reference::Placeholder), _) => Reason::PlaceholderNotReplaced,
        (Some(Reference::Foreign), _) => Reason::ForeignReference,
        (Some(Reference::Genuine(_)), _) => Reason::UnknownClickId,
        (Some(Reference::Forged), _) => Reason::ForgedClickId,
        (None, Origin::Checkout) => Reason::NoReference,
        (None, Origin::Earlier) => Reason::FirstPaymentNotSeen,
        (None, Origin::Nothing) => Reason::NoObject,
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
                matched(By::ClickId, &one),
            ),
            (
                found(None, Some(two.clone()), Some(three.clone()), Some(four.clone())),
                matched(By::AnytrackClickId, &two),
            ),
            (
                found(None, None, Some(three.clone()), Some(four.clone())),
                matched(By::Metadata, &three),
            ),
            (found(None, None, None, Some(four.clone())), matched(By::StripeObject, &four)),
        ];
        for (found, expected) in rows {
            assert_eq!(decide(Some(&genuine), Origin::Checkout, found), expected);
        }
        let by_hand = Found { by_hand: Some(two.clone()), ..found(Some(one), None, None, None) };
        assert_eq!(decide(None, Origin::Checkout, by_hand), matched(By::Manual, &two));
        let reasons = [
            (None, Origin::Checkout, Reason::NoReference),
            (None, Origin::Earlier, Reason::FirstPaymentNotSeen),
            (None, Origin::Nothing, Reason::NoObject),
            (Some(Reference::Placeholder), Origin::Checkout, Reason::PlaceholderNotReplaced),
            (Some(Reference::Foreign), Origin::Nothing, Reason::ForeignReference),
            (Some(genuine), Origin::Earlier, Reason::UnknownClickId),
            (Some(Reference::Forged), Origin::Checkout, Reason::ForgedClickId),
        ];
        for (reference, origin, reason) in reasons {
            let decided = decide(reference.as_ref(), origin, Found::default());
            assert_eq!(decided, Match::Unmatched(reason));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::of_word(reason.word()), Some(reason));
        }
        for by in By::ALL {
            assert_eq!(By::of_word(by.word()), Some(by));
        }
    }
}
