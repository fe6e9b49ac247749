//! The records of redirect links, and which targets they may have.
//! Takes the URL that a user entered; returns the same URL, or why it can't be used.
//! Guarantees that a saved target is a URL that browsers open unchanged, and that the click ID can
//! be added to it.

use std::net::IpAddr;

use anyhow::Result;
use url::Url;

use super::{Settings, Site, table};
use crate::clock::Timestamp;
use crate::store::Store;

/// Stripe's hosts of payment links.
pub const STRIPE_LINK_HOSTS: [&str; 3] = ["book.stripe.com", "buy.stripe.com", "donate.stripe.com"];

/// Stripe's pages for existing checkouts and bills: no reference can be added to them.
const NO_LINK_HOSTS: [&str; 3] =
    ["billing.stripe.com", "checkout.stripe.com", "invoice.stripe.com"];
/// Maximum length of a target; browsers and proxies accept about as much.
const MAX_TARGET_BYTES: usize = 2000;

/// A redirect link: `/p/{alias}` leads to one payment link.
#[derive(Clone, Debug)]
pub struct Link {
    /// `lnk_…`.
    pub id: String,
    /// Part of its URL.
    pub alias: String,
    /// The site whose visits it records.
    pub site_id: String,
    /// The name that users see.
    pub name: String,
    /// The payment link.
    pub target: String,
    /// True while it redirects nowhere.
    pub is_paused: bool,
}

/// True for Stripe's pages that show an existing checkout or bill.
pub fn shows_existing_checkout(host: &str) -> bool {
    NO_LINK_HOSTS.contains(&host)
}

/// True for hosts of this site's payment links.
pub fn is_payment_host(site: &Site, host: &str) -> bool {
    STRIPE_LINK_HOSTS.contains(&host) || site.tag.payment_hosts.iter().any(|own| own == host)
}

/// Checks an entered target.
///
/// # Errors
/// Returns a sentence for users.
pub fn check_target(site: &Site, text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("Enter the complete payment link from Stripe.".to_owned());
    }
    if text.len() > MAX_TARGET_BYTES {
        return Err(format!("Enter at most {MAX_TARGET_BYTES} characters."));
    }
    let is_plain =
        text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\'));
    let url = Url::parse(text).ok().filter(|_| is_plain);
    let url = url.ok_or("Enter a complete URL, such as https://buy.stripe.com/8wM3cd.")?;
    let host = url.host_str().unwrap_or_default();
    let is_here = host == "localhost"
        || host.ends_with(".localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
        return Err("The URL must start with https://.".to_owned());
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || text.contains('@') && url.path().is_empty()
    {
        return Err("The URL contains a user name or password. Remove it.".to_owned());
    }
    if shows_existing_checkout(host) {
        return Err(format!(
            "{host} shows an existing checkout, which works for one buyer and one day. Use a payment link."
        ));
    }
    if !is_payment_host(site, host) && placeholders(text).is_empty() {
        return Err(format!(
            "{host} is not a host of payment links. If it is your own domain at Stripe, add it in the site’s settings. Otherwise, \
             write --CLICK-ID-- where the click ID should be."
        ));
    }
    Ok(text.to_owned())
}

/// The positions of the placeholder in a text: `--CLICK-ID--` in any letter case, any of its dashes
/// as `%2D`.
pub fn placeholders(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match placeholder_at(&text.as_bytes()[at..]) {
            Some(length) => {
                found.push(at..at + length);
                at += length;
            }
            None => at += 1,
        }
    }
    found
}

/// The length of the placeholder at the beginning of a text.
fn placeholder_at(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for letter in b"--click-id--" {
        let rest = &text[at..];
        at += if rest.first()?.eq_ignore_ascii_case(letter) {
            1
        } else if *letter == b'-' && rest.get(..3)?.eq_ignore_ascii_case(b"%2d") {
            3
        } else {
            return None;
        };
    }
    Some(at)
}

/// Maximum number of redirect links, because all of them are in memory.
pub const MAX_LINKS: usize = 2000;

/// A redirect link to add; the caller checked its values.
#[derive(Clone, Debug)]
pub struct LinkDraft {
    /// `[a-z0-9-]`, 1–64.
    pub alias: String,
    /// The site whose visits it records.
    pub site_id: String,
    /// The name that users see.
    pub name: String,
    /// See [`check_target`].
    pub target: String,
}

/// Adds a redirect link. Returns false if another link has this alias.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn add_link(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    draft: &LinkDraft,
) -> Result<bool> {
    let mut tx = super::begin_change(store).await?;
    let is_new = table::insert_link(&mut tx, now, draft).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(is_new)
}

/// Saves a redirect link's name, target and pause. Its alias can't be changed, because it may be
/// printed on paper.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn save_link(store: &Store, settings: &Settings, link: &Link) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_link(&mut tx, link).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Deletes a redirect link; its visits stay.
///
/// # Errors
/// Fails if the database can't be written.
pub async fn delete_link(store: &Store, settings: &Settings, id: &str) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::delete_link(&mut tx, id).await?;
    tx.commit().await?;
    settings.reload(store).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let mut site = Site::example();
        site.tag.payment_hosts = vec!["pay.shop.example".to_owned()];
        site
    }

    #[test]
    fn only_addresses_that_take_a_click_id_are_targets() {
        let long = format!("https://buy.stripe.com/{}", "a".repeat(2000));
        let rows = [
            ("https://buy.stripe.com/8wM3cd", true),
            ("https://buy.stripe.com/test_8wM3cd?locale=de#x", true),
            ("https://pay.shop.example/b/1", true),
            ("https://other.example/?sub5=--CLICK-ID--", true),
            ("http://buy.stripe.localhost:4242/x?client_reference_id=--CLICK-ID--", true),
            ("", false),
            ("buy.stripe.com/8wM3cd", false),
            ("http://buy.stripe.com/8wM3cd", false),
            ("javascript:alert(1)//--CLICK-ID--", false),
            ("https://buy.stripe.com@evil.example/--CLICK-ID--", false),
            ("https://buy.stripe.com.evil.example/x", false),
            ("https://evil.example/", false),
            ("https://checkout.stripe.com/c/pay/cs_live_1", false),
            ("https://buy.stripe.com/a b", false),
            ("https://buy.stripe.com/a\r\nSet-Cookie: a=b", false),
            ("//buy.stripe.com/x", false),
            (&long, false),
        ];
        for (text, fits) in rows {
            assert_eq!(check_target(&site(), text).is_ok(), fits, "{text}");
        }
    }

    #[test]
    fn placeholders_are_found_in_every_spelling() {
        assert_eq!(placeholders("a=--CLICK-ID--&b=%2d%2DClick%2Did--"), [2..14, 17..35]);
        assert!(placeholders("-CLICK-ID-- --CLICKID-- %2d").is_empty());
        assert_eq!(placeholders("---CLICK-ID--").first(), Some(&(1..13)));
        assert!(placeholders("ü--click-id-").is_empty());
    }
}
