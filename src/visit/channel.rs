//! The channels of visits, and what ad networks, search engines and social networks are known by.
//! Takes names of URL parameters, a referring host, or a source and a medium; returns what they say
//! about where a visitor came from.
//! Pure.

use crate::domain::Channel;
use crate::hosts;

/// The version of all rules in this file, and of `landing`, which follows them. Raise it with every
/// change of what they read from a URL and a referrer: stored visits are then read again after the
/// update, so that reports have one name for a source.
pub(crate) const CHANNEL_RULES: i64 = 2;

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
    ("oppref", "openai", Proof::Paid),
    ("dicbo", "outbrain", Proof::Paid),
    ("ndclid", "nextdoor", Proof::Paid),
    ("aleid", "applovin", Proof::Paid),
    ("atclid", "anytrack", Proof::Nothing),
    ("mc_eid", "mailchimp", Proof::Nothing),
];

/// What a platform is for its visitors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Search,
    Social,
    Ai,
    Email,
    /// Ads beside the articles of other pages, in apps and in podcasts.
    Ads,
}

/// A platform that visitors come from.
struct Platform {
    /// Its name as a source. Reports have one row for all its spellings.
    source: &'static str,
    kind: Kind,
    /// Domains of its pages; a host below one of them belongs to it too.
    hosts: &'static [&'static str],
    /// What else people and ad platforms write as `utm_source`, in lower case.
    aliases: &'static [&'static str],
}

const fn platform(
    source: &'static str,
    kind: Kind,
    hosts: &'static [&'static str],
    aliases: &'static [&'static str],
) -> Platform {
    Platform { source, kind, hosts, aliases }
}

/// Every platform that is known. Of several hosts that fit, the first one counts, so the assistants
/// and mailboxes of a search engine are above it.
const PLATFORMS: &[Platform] = &[
    platform("chatgpt", Kind::Ai, &["chatgpt.com", "chat.openai.com"], &["chat-gpt"]),
    platform("openai", Kind::Ai, &["openai.com"], &[]),
    platform("perplexity", Kind::Ai, &["perplexity.ai"], &[]),
    platform("gemini", Kind::Ai, &["gemini.google.com", "bard.google.com"], &["bard"]),
    platform("claude", Kind::Ai, &["claude.ai"], &["anthropic"]),
    platform("copilot", Kind::Ai, &["copilot.microsoft.com", "copilot.com"], &[]),
    platform("deepseek", Kind::Ai, &["deepseek.com"], &[]),
    platform("grok", Kind::Ai, &["grok.com"], &[]),
    platform("mistral", Kind::Ai, &["chat.mistral.ai"], &["le-chat"]),
    platform("meta ai", Kind::Ai, &["meta.ai"], &[]),
    platform("poe", Kind::Ai, &["poe.com"], &[]),
    platform("phind", Kind::Ai, &["phind.com"], &[]),
    platform("gmail", Kind::Email, &["mail.google.com"], &[]),
    platform(
        "outlook",
        Kind::Email,
        &["outlook.live.com", "outlook.office.com", "outlook.office365.com"],
        &[],
    ),
    platform("yahoo mail", Kind::Email, &["mail.yahoo.com"], &[]),
    platform("proton mail", Kind::Email, &["mail.proton.me"], &[]),
    platform("icloud mail", Kind::Email, &["icloud.com"], &[]),
    platform("gmx", Kind::Email, &["gmx.net", "gmx.com"], &[]),
    platform("web.de", Kind::Email, &["web.de"], &[]),
    platform(
        "facebook",
        Kind::Social,
        &["facebook.com", "fb.com", "fb.me", "messenger.com"],
        &["fb", "meta", "msg", "messenger", "an", "facebook-ads"],
    ),
    platform("instagram", Kind::Social, &["instagram.com"], &["ig", "insta"]),
    platform("threads", Kind::Social, &["threads.net", "threads.com"], &[]),
    platform("twitter", Kind::Social, &["t.co", "twitter.com", "x.com"], &["x"]),
    platform("linkedin", Kind::Social, &["linkedin.com", "lnkd.in"], &[]),
    platform("reddit", Kind::Social, &["reddit.com", "redd.it"], &[]),
    platform("pinterest", Kind::Social, &["pinterest.com", "pin.it"], &[]),
    platform("tiktok", Kind::Social, &["tiktok.com"], &["tt", "tik-tok"]),
    platform("snapchat", Kind::Social, &["snapchat.com"], &["snap"]),
    platform("quora", Kind::Social, &["quora.com"], &[]),
    platform("youtube", Kind::Social, &["youtube.com", "youtu.be"], &["yt"]),
    platform("bluesky", Kind::Social, &["bsky.app"], &["bsky"]),
    platform(
        "mastodon",
        Kind::Social,
        &["mastodon.social", "mastodon.online", "mstdn.social"],
        &[],
    ),
    platform("hackernews", Kind::Social, &["news.ycombinator.com"], &["hn", "hacker-news"]),
    platform("telegram", Kind::Social, &["t.me", "telegram.me", "telegram.org"], &["tg"]),
    platform("whatsapp", Kind::Social, &["wa.me", "whatsapp.com"], &[]),
    platform("discord", Kind::Social, &["discord.com", "discord.gg"], &[]),
    platform("vk", Kind::Social, &["vk.com"], &["vkontakte"]),
    platform("weibo", Kind::Social, &["weibo.com"], &[]),
    platform("tumblr", Kind::Social, &["tumblr.com"], &[]),
    platform("nextdoor", Kind::Social, &["nextdoor.com"], &[]),
    platform("twitch", Kind::Social, &["twitch.tv"], &[]),
    platform("producthunt", Kind::Social, &["producthunt.com"], &["product-hunt"]),
    platform("google", Kind::Search, &[], &["adwords", "google-ads", "googleads", "google-search"]),
    platform(
        "bing",
        Kind::Search,
        &[],
        &["bingads", "bing-ads", "microsoft", "microsoft-ads", "msn"],
    ),
    platform("duckduckgo", Kind::Search, &[], &["ddg"]),
    platform("yahoo", Kind::Search, &[], &[]),
    platform("ecosia", Kind::Search, &[], &[]),
    platform("baidu", Kind::Search, &[], &[]),
    platform("yandex", Kind::Search, &["ya.ru"], &[]),
    platform("qwant", Kind::Search, &[], &[]),
    platform("startpage", Kind::Search, &[], &[]),
    platform("brave", Kind::Search, &[], &[]),
    platform("kagi", Kind::Search, &[], &[]),
    platform("naver", Kind::Search, &[], &[]),
    platform("seznam", Kind::Search, &[], &[]),
    platform("taboola", Kind::Ads, &["taboola.com"], &[]),
    platform("outbrain", Kind::Ads, &["outbrain.com"], &[]),
    platform("applovin", Kind::Ads, &["applovin.com"], &[]),
];

/// Pages of search engines that are no search: from `news.google.com` one comes as from any site.
const NO_SEARCH: [&str; 9] =
    ["news", "docs", "drive", "sites", "groups", "finance", "maps", "translate", "sports"];

/// The platform whose name or spelling a `utm_source` is: `fb`, `google.com`, `Facebook_Ads`.
fn platform_named(source: &str) -> Option<&'static Platform> {
    let source = source.to_lowercase().replace(['_', ' '], "-");
    let name =
        source.strip_suffix("-ads").or_else(|| source.strip_suffix("-ad")).unwrap_or(&source);
    PLATFORMS.iter().find(|platform| {
        let all = platform.aliases.iter().chain(platform.hosts);
        [source.as_str(), name].into_iter().any(|spelled| {
            spelled == platform.source.replace(' ', "-")
                || spelled.strip_suffix(".com") == Some(platform.source)
                || all.clone().any(|known| *known == spelled)
        })
    })
}

/// The platform that a source begins with: `facebook_mobile_feed`.
fn platform_in(source: &str) -> Option<&'static Platform> {
    let first = source.split(['_', '-', ' ', '|', '/']).next().unwrap_or_default();
    platform_named(source).or_else(|| platform_named(first).filter(|_| first.len() >= 4))
}

/// One name for all spellings of a source that is known; others stay as they are.
pub(super) fn one_name(source: String) -> String {
    platform_named(&source).map_or(source, |platform| platform.source.to_owned())
}

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

/// A referring host as source and medium. `None` for a page that visitors only pass: where they pay
/// or sign in.
pub(super) fn name_referrer(host: &str) -> Option<(String, &'static str)> {
    let bare = host.strip_prefix("www.").unwrap_or(host);
    let below = |domain: &str| bare == domain || bare.ends_with(&format!(".{domain}"));
    if hosts::PASSED_HOSTS.iter().any(|domain| below(domain)) {
        return None;
    }
    let by_host = PLATFORMS.iter().find(|it| it.hosts.iter().any(|domain| below(domain)));
    if let Some(platform) = by_host {
        return Some((platform.source.to_owned(), medium_of(platform.kind)));
    }
    let domain = hosts::registrable_domain(bare).unwrap_or_else(|| bare.to_owned());
    let label = domain.split('.').next().unwrap_or_default();
    let is_engine = |it: &&Platform| it.kind == Kind::Search && it.source == label;
    let part = bare.split('.').next().unwrap_or_default();
    match PLATFORMS.iter().find(is_engine).filter(|_| !NO_SEARCH.contains(&part)) {
        Some(engine) => Some((engine.source.to_owned(), "organic")),
        None => Some((bare.to_owned(), "referral")),
    }
}

fn medium_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Search => "organic",
        Kind::Social => "social",
        Kind::Email => "email",
        Kind::Ai | Kind::Ads => "referral",
    }
}

/// The channel that a source and a medium mean. `is_paid` says that an ad click ID proves an ad.
pub(super) fn channel(source: Option<&str>, medium: Option<&str>, is_paid: bool) -> Channel {
    let kind = source.and_then(platform_in).map(|platform| platform.kind);
    let lower = medium.unwrap_or_default().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let is_social = has(&["social"]) || kind == Some(Kind::Social);
    let is_display = has(&["display", "banner", "cpm", "interstitial", "native"]);
    if is_paid || is_display || has(&["cpc", "ppc", "paid", "cpv", "retargeting"]) {
        return match kind {
            _ if is_social => Channel::PaidSocial,
            Some(Kind::Search) if !is_display => Channel::PaidSearch,
            _ => Channel::Paid,
        };
    }
    match kind {
        _ if has(&["email", "e-mail", "newsletter"]) => Channel::Email,
        _ if has(&["affiliate", "partner"]) => Channel::Affiliate,
        Some(Kind::Ai) => Channel::Ai,
        _ if lower == "organic" => Channel::Search,
        _ if is_social => Channel::Social,
        Some(Kind::Email) => Channel::Email,
        _ if lower == "referral" => Channel::Referral,
        _ if source.is_some() || medium.is_some() => Channel::Campaign,
        _ => Channel::Direct,
    }
}
