//! Finds out where a visitor came from. Takes the page's URL and referrer; returns source, medium,
//! campaign, channel, ad click IDs and landing path. Guarantees that ad click IDs are copied byte
//! for byte, and that no text makes it panic. Pure.

use percent_encoding::percent_decode_str;

use super::channel::{AD_CLICK_IDS, Proof, channel, name_referrer, one_name};
use crate::domain::Channel;
use crate::hosts;

/// Longest UTM value that is stored, in characters.
const MAX_UTM_CHARS: usize = 255;
/// Longest landing path that is stored, in characters.
const MAX_PATH_CHARS: usize = 300;
/// Limits in bytes: three UTM values and the path are part of one key, and PostgreSQL accepts keys
/// up to 2,700 bytes.
const MAX_UTM_BYTES: usize = 500;
const MAX_PATH_BYTES: usize = 900;

/// Longest ID of a checkout session; Stripe's have about 66 bytes.
const MAX_SESSION_BYTES: usize = 255;

/// UTM parameters beside the five that have fields of their own.
const FURTHER_UTMS: [&str; 4] =
    ["utm_id", "utm_source_platform", "utm_creative_format", "utm_marketing_tactic"];
/// Parameters that are stored, but do not set the source.
const PLAIN_PARAMETERS: [&str; 4] = ["ref", "via", "source", "session_id"];

/// The result of parsing a landing page's URL and referrer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Landing {
    /// Host of the page, lower case, without port.
    pub(crate) host: Option<String>,
    /// Path of the page as in the URL, without the query.
    pub(crate) path: Option<String>,
    /// `paid search`, `paid social`, `paid`, `email`, `affiliate`, `search`, `social`, `referral`,
    /// `campaign` or `direct`.
    pub(crate) channel: Channel,
    pub(crate) source: Option<String>,
    pub(crate) medium: Option<String>,
    pub(crate) campaign: Option<String>,
    pub(crate) term: Option<String>,
    pub(crate) content: Option<String>,
    /// Ad click IDs and their companions, names in lower case, values byte-exact.
    pub(crate) ad_click_ids: Vec<(String, String)>,
    /// Further UTMs and plain parameters.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Landing {
    /// Who sent the visitor by `?via=`, as affiliate programs write it.
    fn affiliate(&self) -> Option<String> {
        let via = self.parameters.iter().find(|(name, _)| name == "via");
        via.map(|(_, value)| value.clone())
    }
}

/// Parses a landing. A `referrer` on the page's own site is ignored.
pub(crate) fn read(url: Option<&str>, referrer: Option<&str>) -> Landing {
    let mut landing = Landing::default();
    let url = url.unwrap_or_default();
    let (before_hash, hash) = url.split_once('#').unwrap_or((url, ""));
    let (address, query) = before_hash.split_once('?').unwrap_or((before_hash, ""));
    if let Some((host, path)) = hosts::split_url(address) {
        landing.host = Some(host);
        landing.path = Some(cut(path, MAX_PATH_CHARS, MAX_PATH_BYTES));
    }
    let in_hash = hash.split_once('?').map_or(hash, |(_, query)| query);
    for (name, value) in pairs(query).chain(pairs(in_hash)) {
        keep(&mut landing, &name, value);
    }
    classify(&mut landing, referrer);
    landing
}

/// The checkout session in the URL of a thank-you page, to which Stripe adds it:
/// `?session_id=cs_…`.
pub(crate) fn checkout_session(url: &str) -> Option<&str> {
    let (_, query) = url.split_once('?')?;
    let values = query.split(['&', '#']).filter_map(|pair| pair.split_once('='));
    let named = values.filter(|(name, _)| name.to_ascii_lowercase().ends_with("session_id"));
    let is_session = |value: &&str| {
        value.len() <= MAX_SESSION_BYTES
            && value.starts_with("cs_")
            && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    named.map(|(_, value)| value).find(is_session)
}

/// `a=b&c=d` → names in lower case, values not decoded.
fn pairs(text: &str) -> impl Iterator<Item = (String, &str)> {
    text.split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
}

/// True for the name, in lower case, of a parameter that [`read`] reads.
pub(super) fn reads(name: &str) -> bool {
    let is_utm = ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"];
    is_utm.contains(&name)
        || AD_CLICK_IDS.iter().any(|(known, _, _)| *known == name)
        || FURTHER_UTMS.contains(&name)
        || PLAIN_PARAMETERS.contains(&name)
}

/// Stores a known parameter in `landing`. If a name is repeated, the first value wins. Empty values
/// are ignored.
fn keep(landing: &mut Landing, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let field = match name {
        "utm_source" => Some(&mut landing.source),
        "utm_medium" => Some(&mut landing.medium),
        "utm_campaign" => Some(&mut landing.campaign),
        "utm_term" => Some(&mut landing.term),
        "utm_content" => Some(&mut landing.content),
        _ => None,
    };
    if let Some(field) = field {
        field.get_or_insert_with(|| decode(value));
    } else if AD_CLICK_IDS.iter().any(|(known, _, _)| *known == name) {
        keep_first(&mut landing.ad_click_ids, name, value.to_owned());
    } else if FURTHER_UTMS.contains(&name) || PLAIN_PARAMETERS.contains(&name) {
        keep_first(&mut landing.parameters, name, decode(value));
    }
}

fn keep_first(list: &mut Vec<(String, String)>, name: &str, value: String) {
    if !list.iter().any(|(known, _)| known == name) {
        list.push((name.to_owned(), value));
    }
}

/// Decodes a value once: `%xx`, and `+` as a space. Broken sequences become U+FFFD, control
/// characters are removed.
fn decode(value: &str) -> String {
    if value.bytes().all(|b| b.is_ascii_graphic() && b != b'%' && b != b'+') {
        return cut(value, MAX_UTM_CHARS, MAX_UTM_BYTES); // The usual case: nothing to decode.
    }
    let spaced = value.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8_lossy();
    cut(text.trim(), MAX_UTM_CHARS, MAX_UTM_BYTES)
        .chars()
        .filter(|char| !char.is_control())
        .collect()
}

fn cut(text: &str, chars: usize, bytes: usize) -> String {
    let text = &text[..text.floor_char_boundary(bytes)];
    if text.len() <= chars {
        return text.to_owned();
    }
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end]).to_owned()
}

fn classify(landing: &mut Landing, referrer: Option<&str>) {
    let proof = landing.ad_click_ids.iter().find_map(|(name, _)| {
        AD_CLICK_IDS.iter().find(|(known, _, proof)| known == name && *proof != Proof::Nothing)
    });
    let from = referrer
        .and_then(hosts::of_url)
        .filter(|from| landing.host.as_deref().is_none_or(|own| !hosts::same_site(own, from)));
    let is_tagged =
        landing.source.is_some() || landing.medium.is_some() || landing.campaign.is_some();
    if let Some((_, network, proof)) = proof {
        landing.source.get_or_insert_with(|| (*network).to_owned());
        if *proof == Proof::Paid || landing.medium.is_some() {
            landing.medium.get_or_insert_with(|| "cpc".to_owned());
        } else {
            landing.medium = Some("social".to_owned());
        }
    } else if !is_tagged && let Some(affiliate) = landing.affiliate() {
        landing.source = Some(affiliate);
        landing.medium = Some("affiliate".to_owned());
    } else if !is_tagged && let Some((source, medium)) = from.as_deref().and_then(name_referrer) {
        landing.source = Some(source);
        landing.medium = Some(medium.to_owned());
    }
    landing.source = landing.source.take().map(one_name);
    let (source, medium) = (landing.source.as_deref(), landing.medium.as_deref());
    let is_paid = proof.is_some_and(|(_, _, proof)| *proof == Proof::Paid);
    landing.channel = channel(source, medium, is_paid);
    if landing.channel == Channel::Direct && landing.campaign.is_some() {
        landing.channel = Channel::Campaign;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn landings_get_source_medium_campaign_and_channel() {
        let rows = [
            ("/offer", "", "direct - - -"),
            ("/offer?gclid=AbC", "https://www.google.com/", "paid search google cpc -"),
            ("/?utm_source=Go&utm_medium=CPC&utm_campaign=a+b", "", "paid Go CPC a b"),
            ("/?utm_source=Google&utm_medium=CPC", "", "paid search google CPC -"),
            ("/?utm_source=fb&utm_medium=paid", "", "paid social facebook paid -"),
            ("/?via=joe", "", "affiliate joe affiliate -"),
            ("/?oppref=abc", "https://chatgpt.com/", "paid openai cpc -"),
            ("/", "https://mail.google.com/", "email gmail email -"),
            ("/", "https://accounts.google.com/", "direct - - -"),
            ("/?utm_source=news&utm_medium=email", "", "email news email -"),
            // Facebook adds this to links that are no ads, too.
            ("/?fbclid=x", "", "social facebook social -"),
            ("/?fbclid=x&utm_medium=paid_social", "", "paid social facebook paid_social -"),
            ("/", "https://www.google.co.uk/", "search google organic -"),
            ("/", "https://t.co/abc", "social twitter social -"),
            ("/", "https://www.blog.example/post", "referral blog.example referral -"),
            ("https://www.shop.com/", "https://go.shop.com/", "direct - - -"),
            ("/?utm_campaign=x", "https://blog.example/", "campaign - - x"),
            ("/#utm_source=z", "", "campaign z - -"),
            ("/#/r?utm_source=z", "", "campaign z - -"),
            ("/?utm_source=a#utm_source=b", "", "campaign a - -"),
            ("/?utm_source=a&utm_source=b", "", "campaign a - -"),
            ("/?gclid=&utm_source=", "", "direct - - -"),
            ("/?utm_source=%E0%A4%A", "", "campaign \u{fffd}%A - -"),
            ("", "", "direct - - -"),
            ("javascript:alert(1)", "", "direct - - -"),
        ];
        for (url, referrer, expected) in rows {
            let start = if url.starts_with('/') { "https://shop.com" } else { "" };
            let landing = read(Some(&format!("{start}{url}")), Some(referrer));
            let [source, medium, campaign] = [&landing.source, &landing.medium, &landing.campaign]
                .map(|field| field.as_deref().unwrap_or("-"));
            let found = format!("{} {source} {medium} {campaign}", landing.channel);
            assert_eq!(found, expected, "{url} {referrer}");
        }
    }

    /// Addresses of real ads, mails and pages, and the channel that a marketer expects.
    #[test]
    fn real_landings_are_in_the_right_channel() {
        let rows = include_str!("../../tests/fixtures/landings.json");
        let rows: Vec<[String; 3]> = serde_json::from_str(rows).unwrap();
        assert!(rows.len() >= 86);
        let wrong: Vec<_> = rows
            .iter()
            .map(|row| (row, read(Some(&format!("https://shop.com/{}", row[0])), Some(&row[1]))))
            .filter(|(row, landing)| landing.channel.to_string() != row[2])
            .map(|(row, landing)| format!("{row:?}: {}", landing.channel))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn ad_click_ids_are_byte_exact() {
        let landing = read(Some("https://shop.com/p?GCLID=Cj0K+a%2Bb-_%7E&ScCid=X"), None);
        let expected = [("gclid", "Cj0K+a%2Bb-_%7E"), ("sccid", "X")]
            .map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(landing.ad_click_ids, expected);
    }

    #[test]
    fn host_and_path_come_without_port_user_and_query() {
        let landing = read(Some("HTTPS://user:pw@Shop.COM:8443/a/b%20c?x=1#y"), None);
        assert_eq!(landing.host.as_deref(), Some("shop.com"));
        assert_eq!(landing.path.as_deref(), Some("/a/b%20c"));
        assert_eq!(read(Some("https://shop.com"), None).path.as_deref(), Some("/"));
    }

    proptest! {
        #[test]
        fn no_text_panics(url in ".{0,300}", referrer in ".{0,100}") {
            let _ = read(Some(&url), Some(&referrer));
            let _ = read(Some(&format!("https://a/?utm_source={url}&gclid={url}#{referrer}")), None);
        }
    }
}
