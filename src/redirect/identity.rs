//! Chooses the click ID of a click on a redirect link, by the tag's rules. Takes the browser's
//! cookies and the link's query; returns the click ID to keep, or none if a new one is needed.
//! Guarantees that a new ad click or campaign gets a new click ID and a returning visitor keeps
//! theirs, and that nobody can inject an ID of their own. Pure.

use crate::clock::Timestamp;
use crate::ids::{ClickId, ClickIdKey};

/// How long a click ID that a linked page passes in the URL is accepted.
const HANDED_OVER_SECONDS: i64 = 120;
/// A session ends after this long without activity.
const SESSION_SECONDS: i64 = 1800;

/// What the browser sent.
#[derive(Default)]
pub(super) struct Held<'a> {
    /// Cookie `_ck`.
    pub(super) click_id: Option<&'a str>,
    /// Cookie `_ck_s`: the ad parameters of the last click and the time of the last activity.
    pub(super) session: Option<&'a str>,
    /// Parameter `_ck` of the URL: a click ID and the time in seconds at which a linked page added
    /// it.
    pub(super) handed_over: Option<&'a str>,
}

/// The result of [`choose`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The click ID to keep; `None` if the caller must mint a new one.
    pub(super) kept: Option<ClickId>,
    /// The click ID before this visit.
    pub(super) previous: Option<ClickId>,
    /// True if the click ID came from a linked page.
    pub(super) is_adopted: bool,
    /// The new value of the cookie `_ck_s`.
    pub(super) session: String,
}

/// Chooses the click ID. `pairs` are the ad parameters of the request's query; `from_outside` is
/// true if the referrer is not one of the site's own pages.
pub(super) fn choose(
    keys: &ClickIdKey,
    site_number: i64,
    now: Timestamp,
    held: &Held<'_>,
    pairs: &[String],
    from_outside: bool,
) -> Choice {
    let genuine =
        |id: &ClickId| keys.read(id).is_some_and(|minted| minted.site_number == site_number);
    let stored =
        held.click_id.and_then(ClickId::parse).filter(|id| id.is_client_made() || genuine(id));
    let handed_over = held.handed_over.and_then(|text| {
        let (id, seconds) = text.split_once('.')?;
        let age = now.as_seconds() - seconds.parse::<i64>().ok()?;
        let id = ClickId::parse(id).filter(genuine)?;
        (age.abs() < HANDED_OVER_SECONDS).then_some(id)
    });
    let (last_pairs, last_active) =
        held.session.and_then(|text| text.split_once('.')).unwrap_or_default();
    let is_known = |b: u8| b == b'-' || b.is_ascii_lowercase() || b.is_ascii_digit();
    let last_pairs = if last_pairs.bytes().all(is_known) { last_pairs } else { "" };
    // Fewer parameters, or the same ones in another order, are the same click.
    let has_new_pair = pairs.iter().any(|pair| !last_pairs.contains(pair.as_str()));
    let signed =
        if has_new_pair || last_pairs.is_empty() { pairs.join("-") } else { last_pairs.to_owned() };
    let session = format!("{signed}.{}", now.as_seconds());
    if let Some(id) = handed_over {
        let previous = stored.or(Some(id.clone()));
        return Choice { kept: Some(id), previous, is_adopted: true, session };
    }
    let is_live =
        last_active.parse::<i64>().is_ok_and(|at| now.as_seconds() - at < SESSION_SECONDS);
    let is_new_click = if pairs.is_empty() { from_outside && !is_live } else { has_new_pair };
    let kept = stored.clone().filter(|_| !is_new_click);
    Choice { kept, previous: stored, is_adopted: false, session }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visit::ad_parameters;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);

    fn keys() -> ClickIdKey {
        ClickIdKey::new(b"a key for tests")
    }

    fn signature(query: &str) -> String {
        ad_parameters(query).join("-")
    }

    #[test]
    fn a_click_keeps_or_replaces_the_click_id_as_a_landing_does() {
        let old = keys().mint(NOW, 1);
        let mine = signature("gclid=A&utm_source=x");
        let live = format!("{mine}.{}", NOW.as_seconds() - 60);
        let over = format!("{mine}.{}", NOW.as_seconds() - 3600);
        let rows = [
            ("direct, live", &live, "", false, true),
            ("direct, over", &over, "", false, true),
            ("the same ad click", &live, "gclid=A&utm_source=x", true, true),
            ("the same ad click, over", &over, "gclid=A&utm_source=x", true, true),
            ("in another order", &live, "utm_source=x&gclid=A", false, true),
            ("only its click ID", &live, "gclid=A", false, true),
            ("only its campaign", &live, "utm_source=x", false, true),
            ("another ad click", &live, "gclid=B&utm_source=x", false, false),
            ("a campaign", &live, "utm_source=y", false, false),
            ("an empty gclid", &live, "gclid=", false, true),
            ("from outside, live", &live, "", true, true),
            ("from outside, over", &over, "", true, false),
        ];
        for (name, session, query, from_outside, is_kept) in rows {
            let held =
                Held { click_id: Some(old.as_str()), session: Some(session), handed_over: None };
            let choice = choose(&keys(), 1, NOW, &held, &ad_parameters(query), from_outside);
            assert_eq!(choice.kept.is_some(), is_kept, "{name}");
            assert_eq!(choice.previous.as_ref(), Some(&old), "{name}");
            let signed = if is_kept || query.is_empty() { mine.clone() } else { signature(query) };
            assert_eq!(choice.session, format!("{signed}.{}", NOW.as_seconds()), "{name}");
        }
        let junk = Held { session: Some("1;x.7"), ..Held::default() };
        let session = choose(&keys(), 1, NOW, &junk, &[], false).session;
        assert_eq!(session, format!(".{}", NOW.as_seconds()));
    }

    #[test]
    fn only_fresh_genuine_ids_of_the_site_are_adopted() {
        let seconds = NOW.as_seconds();
        let genuine = keys().mint(NOW, 1);
        let foreign_site = keys().mint(NOW, 2);
        let forged = ClickIdKey::new(b"another key").mint(NOW, 1);
        let made = format!("ck_z{}", "7".repeat(32));
        let rows = [
            (format!("{genuine}.{seconds}"), true),
            (format!("{genuine}.{}", seconds - 119), true),
            (format!("{genuine}.{}", seconds - 120), false),
            (format!("{genuine}.{}", seconds + 500), false),
            (format!("{genuine}"), false),
            (format!("{foreign_site}.{seconds}"), false),
            (format!("{forged}.{seconds}"), false),
            (format!("{made}.{seconds}"), false),
            (".".to_owned(), false),
        ];
        for (text, is_adopted) in rows {
            let held = Held { handed_over: Some(&text), ..Held::default() };
            let choice = choose(&keys(), 1, NOW, &held, &[], false);
            assert_eq!(
                (choice.is_adopted, choice.kept.is_some()),
                (is_adopted, is_adopted),
                "{text}"
            );
        }
        let held = Held { click_id: Some(forged.as_str()), ..Held::default() };
        assert_eq!(choose(&keys(), 1, NOW, &held, &[], false).kept, None);
    }
}
