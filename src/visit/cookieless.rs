//! Sites whose tag stores nothing in the browser: joins the page views of one visitor and day.
//! Takes a page view with the click ID that its page was given; returns the click that it
//! continues, found by the visitor's keyed hash, which changes every day of the site's time zone.
//! Guarantees that every page's click ID leads to a click, because it is stored as another name of
//! that click; visits of earlier days are never joined.
//!
//! The rules are the tag's: other ad parameters are a new click; without any, a referrer from
//! outside after thirty minutes is one.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use anyhow::Result;

use super::body::Seen;
use super::click::{ad_parameters, is_outside};
use super::stored::Earlier;
use super::table;
use crate::clock::Timestamp;
use crate::hosts;
use crate::ids::{ClickId, ClickIdKey};
use crate::settings::Site;
use crate::store::Store;

/// A session ends after this long without a page view.
const SESSION: Duration = Duration::from_secs(1800);

/// How a page view relates to the visitor's earlier ones of the day.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Joined {
    /// The first of the day, or a repeat of the newest one.
    Alone,
    /// Another click, after this one.
    After(ClickId),
    /// Belongs to this click. `is_visit`: it begins a visit, which is counted.
    To { click_id: ClickId, is_visit: bool },
}

/// The name of a visitor on the site's current day. Others cannot compute it without the key, and
/// the next day has another one.
pub(super) fn visitor(
    keys: &ClickIdKey,
    site: &Site,
    now: Timestamp,
    address: &str,
    user_agent: &str,
) -> String {
    let day = now.in_zone(&site.zone()).date().to_string();
    keys.hash("cookieless visitor", &[&site.id, &day, address, user_agent])
}

/// Where a further page is stored whose time is taken: a number that follows from its click ID.
pub(super) fn place_of(click_id: &ClickId) -> i64 {
    let mut hasher = DefaultHasher::new();
    click_id.as_str().hash(&mut hasher);
    i64::try_from(hasher.finish() >> 1).unwrap_or_default()
}

/// Finds out what a page view belongs to.
pub(super) async fn join(
    store: &Store,
    site: &Site,
    visitor: &str,
    now: Timestamp,
    (presented, seen): (&ClickId, &Seen<'_>),
) -> Result<Joined> {
    if seen.is_adopted {
        return Ok(Joined::Alone);
    }
    // The page's own earlier click ID says more than the hash. An equal one says nothing new.
    if let Some(previous) = seen.previous.as_ref().filter(|previous| *previous != presented) {
        return Ok(Joined::After(previous.clone()));
    }
    let earlier = table::newest_of_day(store, &site.id, visitor).await?;
    Ok(earlier.map_or(Joined::Alone, |earlier| decide(site, now, presented, seen, earlier)))
}

fn decide(
    site: &Site,
    now: Timestamp,
    presented: &ClickId,
    seen: &Seen<'_>,
    earlier: Earlier,
) -> Joined {
    if earlier.click_id == *presented {
        return Joined::Alone;
    }
    let is_idle = now.since(earlier.seen_at) >= SESSION;
    let pairs = parameters(seen.url.as_deref());
    let known = parameters(earlier.url.as_deref());
    let is_click = if pairs.is_empty() {
        is_idle
            && comes_from_outside(site, seen)
            && seen.referrer.as_deref() != earlier.referrer.as_deref()
    } else {
        pairs.iter().any(|pair| !known.contains(pair))
    };
    if is_click {
        return Joined::After(earlier.click_id);
    }
    // A click on a redirect link is counted as one, in a session too.
    Joined::To { click_id: earlier.click_id, is_visit: is_idle || seen.link.is_some() }
}

fn parameters(url: Option<&str>) -> Vec<String> {
    url.unwrap_or_default().split(['?', '#']).skip(1).flat_map(ad_parameters).collect()
}

fn comes_from_outside(site: &Site, seen: &Seen<'_>) -> bool {
    let page = seen.url.as_deref().and_then(hosts::of_url).unwrap_or_default();
    seen.referrer.as_deref().is_some_and(|referrer| is_outside(site, &page, referrer))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
    const LANDING: &str = "https://shop.com/?gclid=A&utm_source=google";

    #[test]
    fn page_views_of_a_day_are_joined_by_the_rules_of_the_tag() {
        let keys = ClickIdKey::new(b"a key");
        let (old, new) = (keys.mint(NOW, 1), keys.mint(NOW, 1));
        let after = || Joined::After(old.clone());
        let to = |is_visit| Joined::To { click_id: old.clone(), is_visit };
        let rows = [
            ("an inner page", 60, "https://shop.com/buy", "https://shop.com/", to(false)),
            ("a reload of the landing", 60, LANDING, "https://google.com/", to(false)),
            ("in another order", 60, "https://shop.com/?utm_source=google&gclid=A", "", to(false)),
            ("another ad click", 60, "https://shop.com/?gclid=B", "", after()),
            ("a campaign in the hash", 60, "https://shop.com/#utm_source=x", "", after()),
            ("back after an hour", 3600, "https://shop.com/", "", to(true)),
            ("outside, in a session", 60, "https://shop.com/", "https://blog.example/", to(false)),
            ("outside, after an hour", 3600, "https://shop.com/", "https://blog.example/", after()),
            ("a reload after an hour", 3600, "https://shop.com/", "https://google.com/", to(true)),
            ("back from paying", 3600, "https://shop.com/", "https://buy.stripe.com/x", to(true)),
        ];
        for (name, seconds, url, referrer, expected) in rows {
            let earlier = Earlier {
                click_id: old.clone(),
                seen_at: NOW.minus(Duration::from_secs(seconds)),
                url: Some(LANDING.to_owned()),
                referrer: Some("https://google.com/".to_owned()),
            };
            let seen =
                Seen { url: Some(url.into()), referrer: Some(referrer.into()), ..Seen::default() };
            assert_eq!(decide(&Site::example(), NOW, &new, &seen, earlier), expected, "{name}");
        }
    }

    #[test]
    fn the_name_of_a_visitor_changes_at_midnight_of_the_site() {
        let keys = ClickIdKey::new(b"a key");
        let site = Site { timezone: "America/New_York".to_owned(), ..Site::example() };
        let at = |text: &str| {
            visitor(&keys, &site, Timestamp::parse(text).expect("a time"), "1.2.3.4", "Firefox")
        };
        assert_eq!(at("2026-11-29T05:00:00Z"), at("2026-11-30T04:59:59Z"));
        assert_ne!(at("2026-11-30T04:59:59Z"), at("2026-11-30T05:00:00Z"));
        let another = Site { id: "site_2".to_owned(), ..site.clone() };
        let elsewhere = visitor(&keys, &another, NOW, "1.2.3.4", "Firefox");
        assert_ne!(elsewhere, visitor(&keys, &site, NOW, "1.2.3.4", "Firefox"));
    }
}
