//! Redirect links as records, and what their target may be.
//! In: the address an owner entered. Out: the same address, or why it cannot be one.
//! Promise: what was saved is an address that a browser goes to as it stands, and that our click ID fits into. Pure.

use std::net::IpAddr;

use anyhow::Result;
use url::Url;

use super::{Settings, Site, table};
use crate::clock::Timestamp;
use crate::store::Store;

/// Stripe's hosts of payment links.
pub const STRIPE_LINK_HOSTS: [&str; 3] = ["book.stripe.com", "buy.stripe.com", "donate.stripe.com"];

/// Stripe's pages for checkouts and bills that exist already: no reference can be added to them.
const NO_LINK_HOSTS: [&str; 3] =
    ["billing.stripe.com", "checkout.stripe.com", "invoice.stripe.com"];
/// Longest target kept; browsers and proxies take about as much.
const MAX_TARGET_BYTES: usize = 2000;

/// A redirect link: `/p/{alias}` leads to one payment link.
#[derive(Clone, Debug)]
pub struct Link {
    /// `lnk_…`.
    pub id: String,
    /// Stands in its address.
    pub alias: String,
    /// The site whose visits it makes.
    pub site_id: String,
    /// What the owner calls it.
    pub name: String,
    /// The payment link.
    pub target: String,
    /// True while it leads nowhere.
    pub is_paused: bool,
}

/// True for Stripe's pages that show a checkout or a bill that exists already.
pub fn shows_existing_checkout(host: &str) -> bool {
    NO_LINK_HOSTS.contains(&host)
}

/// True where a payment link of this site may live.
pub fn is_payment_host(site: &Site, host: &str) -> bool {
    STRIPE_LINK_HOSTS.contains(&host) || site.tag.payment_hosts.iter().any(|own| own == host)
}

/// Checks a target as entered.
///
/// # Errors
/// What is wrong with it, for its owner.
pub fn check_target(site: &Site, text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("Nothing was entered. Copy the payment link from Stripe, whole.".to_owned());
    }
    if text.len() > MAX_TARGET_BYTES {
        return Err(format!("That is too long: at most {MAX_TARGET_BYTES} characters."));
    }
    let is_plain =
        text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\'));
    let url = Url::parse(text).ok().filter(|_| is_plain);
    let url = url.ok_or(
        "That is not an address that browsers go to. It looks like https://buy.stripe.com/8wM3cd.",
    )?;
    let host = url.host_str().unwrap_or_default();
    let is_here = host == "localhost"
        || host.ends_with(".localhost")
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if url.scheme() != "https" && !(url.scheme() == "http" && is_here) {
        return Err("The address must start with https://.".to_owned());
    }
    if !url.username().is_empty()
        || url.password().is_some()
        || text.contains('@') && url.path().is_empty()
    {
        return Err("The address holds a user name or a password.".to_owned());
    }
    if shows_existing_checkout(host) {
        return Err(format!(
            "{host} shows a checkout that exists already: the address works for a day and for one buyer. Use a payment link."
        ));
    }
    if !is_payment_host(site, host) && placeholders(text).is_empty() {
        return Err(format!(
            "{host} is no host of payment links. If it is your own domain at Stripe, add it to the site’s settings; otherwise \
             write --CLICK-ID-- where the click ID belongs."
        ));
    }
    Ok(text.to_owned())
}

/// Where the placeholder stands in a text: `--CLICK-ID--` in any letter case, any of its dashes as `%2D`.
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

/// The length of the placeholder that a text begins with.
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

/// Most redirect links of an installation: all of them are in memory.
pub const MAX_LINKS: usize = 2000;

/// What a redirect link is made of; its values were checked by the caller.
#[derive(Clone, Debug)]
pub struct LinkDraft {
    /// `[a-z0-9-]`, 1–64.
    pub alias: String,
    /// The site whose visits it makes.
    pub site_id: String,
    /// What the owner calls it.
    pub name: String,
    /// See [`check_target`].
    pub target: String,
}

/// Adds a redirect link. False when another link has this alias.
///
/// # Errors
/// When the database cannot be written.
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

/// Saves a redirect link's name, target and pause. Its alias stays: it may be printed on paper.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_link(store: &Store, settings: &Settings, link: &Link) -> Result<()> {
    let mut tx = super::begin_change(store).await?;
    table::update_link(&mut tx, link).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Deletes a redirect link; its visits stay.
///
/// # Errors
/// When the database cannot be written.
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
