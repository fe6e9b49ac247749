//! The channels of visits, and what ad networks, search engines and social networks are known by.
//! Takes names of URL parameters, a referring host, or a source and a medium; returns what they say
//! about where a visitor came from.
//! Pure.

use crate::domain::Channel;
use crate::hosts;

/// What an ad click ID proves about the click.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// Only paid clicks have it.
    Paid,
    /// The network adds it to every outgoing link, paid or not.
    Either,
    /// It is stored, but proves nothing about the click.
    Nothing,
}

/// Ad click IDs: the parameter in lower case, the network's name as a source, and what it proves.
/// The tag's own pattern must match all that prove something; the tag's test uses this list.
pub(super) const AD_CLICK_IDS: &[(&str, &str, Proof)] = &[
    ("gclid", "google", Proof::Paid),
    ("gbraid", "google", Proof::Paid),
    ("wbraid", "google", Proof::Paid),
    ("dclid", "google", Proof::Paid),
    ("gclsrc", "google", Proof::Nothing),
    ("gad_source", "google", Proof::Nothing),
    ("gad_campaignid", "google", Proof::Nothing),
    ("fbclid", "facebook", Proof::Either),
    ("msclkid", "bing", Proof::Paid),
    ("ttclid", "tiktok", Proof::Paid),
    ("twclid", "twitter", Proof::Either),
    ("li_fat_id", "linkedin", Proof::Paid),
    ("rdt_cid", "reddit", Proof::Paid),
    ("sccid", "snapchat", Proof::Paid),
    ("epik", "pinterest", Proof::Either),
    ("_epik", "pinterest", Proof::Either),
    ("qclid", "quora", Proof::Paid),
    ("obclid", "outbrain", Proof::Paid),
    ("ob_click_id", "outbrain", Proof::Paid),
    ("tblci", "taboola", Proof::Paid),
    ("irclickid", "impact", Proof::Paid),
    ("yclid", "yandex", Proof::Paid),
    ("ysclid", "yandex", Proof::Either),
    ("atclid", "anytrack", Proof::Nothing),
    ("mc_eid", "mailchimp", Proof::Nothing),
];

const SEARCH_ENGINES: [&str; 10] = [
    "google", "bing", "duckduckgo", "yahoo", "ecosia", "baidu", "yandex", "qwant", "startpage",
    "brave",
];
const SOCIAL_HOSTS: [(&str, &str); 16] = [
    ("facebook.com", "facebook"),
    ("fb.com", "facebook"),
    ("instagram.com", "instagram"),
    ("t.co", "twitter"),
    ("twitter.com", "twitter"),
    ("x.com", "twitter"),
    ("linkedin.com", "linkedin"),
    ("lnkd.in", "linkedin"),
    ("reddit.com", "reddit"),
    ("pinterest.com", "pinterest"),
    ("tiktok.com", "tiktok"),
    ("youtube.com", "youtube"),
    ("youtu.be", "youtube"),
    ("threads.net", "threads"),
    ("bsky.app", "bluesky"),
    ("news.ycombinator.com", "hackernews"),
];

/// True if a page's URL has an ad click ID or a UTM parameter.
pub(crate) fn names_ad_click(url: &str) -> bool {
    let Some((_, query)) = url.split_once('?') else { return false };
    query.split('#').next().unwrap_or_default().split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_utm = || name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("utm_"));
        let is_ad = || {
            let known = |(known, _, proof): &(&str, &str, Proof)| {
                *proof != Proof::Nothing && known.eq_ignore_ascii_case(name)
            };
            AD_CLICK_IDS.iter().any(known)
        };
        !value.is_empty() && (is_utm() || is_ad())
    })
}

/// A referring host as source and medium.
pub(super) fn name_referrer(host: &str) -> (String, &'static str) {
    let bare = host.strip_prefix("www.").unwrap_or(host);
    let below = |domain: &str| bare == domain || bare.ends_with(&format!(".{domain}"));
    if let Some((_, name)) = SOCIAL_HOSTS.iter().find(|(domain, _)| below(domain)) {
        return ((*name).to_owned(), "social");
    }
    let domain = hosts::registrable_domain(bare).unwrap_or_else(|| bare.to_owned());
    let label = domain.split('.').next().unwrap_or_default();
    if let Some(engine) = SEARCH_ENGINES.iter().find(|engine| **engine == label) {
        return ((*engine).to_owned(), "organic");
    }
    (bare.to_owned(), "referral")
}

/// The channel that a source and a medium mean. `is_paid` says that an ad click ID proves an ad.
pub(super) fn channel(source: Option<&str>, medium: Option<&str>, is_paid: bool) -> Channel {
    let is_tagged = source.is_some() || medium.is_some();
    let lower = |field: Option<&str>| field.unwrap_or_default().to_lowercase();
    let (medium, source) = (lower(medium), lower(source));
    let has = |words: &[&str]| words.iter().any(|word| medium.contains(word));
    let is_social = has(&["social"]) || SOCIAL_HOSTS.iter().any(|(_, name)| *name == source);
    if is_paid || has(&["cpc", "ppc", "paid", "cpm", "cpv", "display", "banner"]) {
        if is_social {
            Channel::PaidSocial
        } else if SEARCH_ENGINES.contains(&source.as_str()) {
            Channel::PaidSearch
        } else {
            Channel::Paid
        }
    } else if has(&["email", "e-mail", "newsletter"]) {
        Channel::Email
    } else if has(&["affiliate", "partner"]) {
        Channel::Affiliate
    } else if medium == "organic" {
        Channel::Search
    } else if is_social {
        Channel::Social
    } else if medium == "referral" {
        Channel::Referral
    } else if is_tagged {
        Channel::Campaign
    } else {
        Channel::Direct
    }
}
