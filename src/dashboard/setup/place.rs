//! Where the tag is served from, problems with that, and snippets for pages. Takes what browsers reported about the tag,
//! the site and our own URL; returns sentences and texts to copy. How Safari treats the tag's host is derived from these
//! reports and from DNS lookups, never guessed.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use dns_lookup::{AddrInfo, AddrInfoHints, SockType};

use crate::dashboard::frame::Viewer;
use crate::dashboard::settings::copied;
use crate::dashboard::views::Chip;
use crate::dashboard::views::numbers::{count, counted};
use crate::hosts;
use crate::report::TagSigns;
use crate::settings::{Consent, Snapshot};
use crate::tag::Fixed;
use crate::tag::addons::race_stub_hash;

/// How long the page waits for a name server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// A problem that needs attention.
pub(super) struct Alarm {
    pub(super) title: String,
    pub(super) text: String,
}

/// Where the tag is served from, and how to improve that.
pub(super) struct Place {
    pub(super) chip: Chip,
    pub(super) text: String,
    /// Whether another place would remember visitors longer.
    pub(super) can_improve: bool,
    pub(super) ways: Vec<Extra>,
}

/// A host with visits that is not in the site's settings.
pub(super) struct UnknownHost {
    pub(super) host: String,
    pub(super) visits: String,
    pub(super) action: String,
}

/// A text to copy.
pub(super) struct Extra {
    pub(super) title: &'static str,
    pub(super) text: String,
    /// May be empty.
    pub(super) copy: String,
}

/// Problems with the tag.
pub(super) fn alarms(viewer: &Viewer, signs: &TagSigns) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    if signs.is_cached() {
        let what = if signs.shared > 0 {
            format!("{} were used by two visitors", counted(signs.shared, "click ID", "click IDs"))
        } else {
            format!(
                "{} of the last {} visits came with an old copy of the tag",
                count(signs.client_made),
                count(signs.visits)
            )
        };
        alarms.push(Alarm {
            title: "A CDN or an optimizer caches your tag".to_owned(),
            text: format!(
                "{what}. Payments still match, but two visitors may count as one. Don’t let anything cache, combine or copy \
                 {}/t/: exclude it in your CDN and in plugins such as WP Rocket, LiteSpeed or Perfmatters.",
                viewer.client.base
            ),
        });
    }
    if !viewer.client.prefix().is_empty() {
        alarms.push(Alarm {
            title: "Every script of your landing page can use this dashboard".to_owned(),
            text: "The dashboard is below a path of your page’s own host, so a third-party script on that page, such as a \
                   chat or an A/B tool, could read and change everything while you are signed in. Give it a host of its \
                   own: CLICKSTAMP_DASHBOARD_URL=https://admin.example.com."
                .to_owned(),
        });
    }
    if let Some(proxy) = viewer.client.unlisted_proxy {
        alarms.push(Alarm {
            title: "All visitors have the same IP address".to_owned(),
            text: format!(
                "Requests come through the proxy {proxy}, which isn’t trusted. All visitors share its IP address, so rate \
                 limits reject visits. Start with CLICKSTAMP_TRUSTED_PROXIES={proxy}/{}.",
                if proxy.is_ipv4() { 32 } else { 128 }
            ),
        });
    }
    alarms
}

/// Hosts to accept or to ignore.
pub(super) fn unknown_hosts(viewer: &Viewer, signs: &TagSigns) -> Vec<UnknownHost> {
    let action = viewer.link("/setup/hosts").to_string();
    signs
        .unknown_hosts
        .iter()
        .map(|(host, visits)| UnknownHost {
            host: host.clone(),
            visits: counted(*visits, "visit", "visits"),
            action: action.clone(),
        })
        .collect()
}

/// Where the tag is served from.
pub(super) async fn place(viewer: &Viewer, signs: &TagSigns) -> Place {
    let own = own_host(&viewer.client.base);
    let page = signs.page_host.clone().or_else(|| viewer.site.domains.first().cloned());
    let page = page.unwrap_or_else(|| "www.example.com".to_owned());
    let days = "Safari remembers visitors up to 400 days";
    let (chip, text) = match signs.tag_host.as_deref() {
        Some("same-origin") => (
            Chip::ok("Best place"),
            format!("It is served from your page’s own host, {page}: {days}."),
        ),
        Some("same-site") => match nearness(&own, &page).await {
            Some(Nearness::SameNetwork) => (
                Chip::ok("Good place"),
                format!("It is served from {own}, in the same network as {page}: {days}."),
            ),
            Some(Nearness::OtherNetwork) => (
                Chip::wait("7 days in Safari"),
                format!(
                    "It is served from {own}: your domain, but another network than {page}. Safari remembers visitors for 7 \
                     days. Everything else works."
                ),
            ),
            Some(Nearness::AliasOf(name)) => (
                Chip::wait("7 days in Safari"),
                format!(
                    "It is served from {own}, an alias (CNAME) of {name} on another domain. Safari remembers visitors for 7 \
                     days. Everything else works."
                ),
            ),
            None => (
                Chip::quiet("Unknown"),
                format!(
                    "It is served from {own}, on the same domain as {page}. Their IP addresses could not be looked up. In the \
                     same network, {days}, otherwise 7 days."
                ),
            ),
        },
        Some(_) => (
            Chip::wait("7 days in Safari"),
            format!(
                "It is served from {own}, another domain than {page}. Safari remembers visitors for 7 days, and for one day \
                 after an ad click."
            ),
        ),
        None => (
            Chip::quiet("Unknown"),
            "Not known yet. The first visit over https reports it.".to_owned(),
        ),
    };
    let can_improve = chip.class != "chip ok";
    Place {
        ways: ways((&viewer.client.base, &viewer.client.pages), &page),
        chip,
        text,
        can_improve,
    }
}

fn own_host(base: &str) -> String {
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest);
    hosts::without_port(authority.split('/').next().unwrap_or_default()).to_owned()
}

/// How Safari treats our host on a page of the same domain.
#[derive(Debug, PartialEq, Eq)]
enum Nearness {
    /// The script's cookies live as long as the page's own.
    SameNetwork,
    OtherNetwork,
    /// It is an alias of a name on another domain.
    AliasOf(String),
}

/// Result of a DNS lookup.
struct Found {
    addresses: Vec<IpAddr>,
    /// The name at the end of its aliases; the host itself if it has none.
    name: String,
}

/// `None` if one of the two could not be looked up.
async fn nearness(own: &str, page: &str) -> Option<Nearness> {
    let (own_found, page_found) = tokio::join!(look_up(own), look_up(page));
    Some(judge(page, &own_found?, &page_found?))
}

/// WebKit's rule: first, an alias to another domain counts, unless the page's own alias is on the same domain; then the IP
/// addresses count. A name that only this machine or network knows is no alias that a browser sees.
fn judge(page: &str, own: &Found, page_found: &Found) -> Nearness {
    let leaves = |there: &str| !hosts::same_site(&own.name, there);
    if hosts::registrable_domain(&own.name).is_some() && leaves(page) && leaves(&page_found.name) {
        return Nearness::AliasOf(own.name.clone());
    }
    let is_near =
        |one: &IpAddr| page_found.addresses.iter().any(|two| hosts::same_network(*one, *two));
    match own.addresses.iter().any(is_near) {
        true => Nearness::SameNetwork,
        false => Nearness::OtherNetwork,
    }
}

async fn look_up(host: &str) -> Option<Found> {
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let asked = tokio::task::spawn_blocking(move || ask_for(host));
    tokio::time::timeout(LOOKUP_TIMEOUT, asked).await.ok()?.ok()?
}

/// Looks a host up with the system's resolver, including the name at the end of its aliases.
fn ask_for(host: String) -> Option<Found> {
    let hints = AddrInfoHints {
        flags: libc::AI_CANONNAME,
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found = dns_lookup::getaddrinfo(Some(&host), None, Some(hints)).ok()?;
    let found: Vec<AddrInfo> = found.filter_map(Result::ok).collect();
    let name = found.iter().find_map(|one| one.canonname.clone());
    let name = name.map_or(host, |name| name.trim_end_matches('.').to_ascii_lowercase());
    let addresses: Vec<IpAddr> = found.iter().map(|one| one.sockaddr.ip()).collect();
    (!addresses.is_empty()).then_some(Found { addresses, name })
}

/// Configurations that serve the tag from a path on the page's own host.
fn ways((base, pages): (&str, &str), page: &str) -> Vec<Extra> {
    let own = own_host(base);
    let origin = base.split('/').take(3).collect::<Vec<_>>().join("/");
    // Without it, nginx sends no server name (SNI), which hosts with several certificates need.
    let named = if origin.starts_with("https:") { "\n    proxy_ssl_server_name on;" } else { "" };
    let way = |title, copy: String| Extra { title, text: String::new(), copy };
    vec![
        way(
            "nginx, in the server of your page",
            format!(
                "location /k/ {{\n    proxy_pass {origin};{named}\n    proxy_set_header Host {own};\n    proxy_set_header \
                 X-Forwarded-Host $host;\n    proxy_set_header X-Forwarded-Proto $scheme;\n    proxy_set_header X-Forwarded-For \
                 $remote_addr;\n    proxy_cache off;\n}}"
            ),
        ),
        way(
            "Caddy, in the site of your page",
            format!(
                "handle /k/* {{\n    reverse_proxy {origin} {{\n        header_up Host {own}\n    }}\n}}"
            ),
        ),
        way(
            "Cloudflare, a Worker on the route of /k/*",
            format!(
                "export default {{\n  fetch(request) {{\n    const url = new URL(request.url);\n    url.host = \"{own}\";\n    return \
                 fetch(new Request(url, request), {{ cf: {{ cacheTtl: 0 }} }});\n  }}\n}};"
            ),
        ),
        way(
            "Then start Clickstamp with",
            format!(
                "CLICKSTAMP_PUBLIC_URL=https://{page}/k\nCLICKSTAMP_DASHBOARD_URL={pages}\nCLICKSTAMP_TRUSTED_PROXIES=the \
                 proxy’s address"
            ),
        ),
    ]
}

/// Snippets that pages may need in addition to the tag.
///
/// # Errors
/// If the static tag cannot be built.
pub(super) fn extras(viewer: &Viewer, settings: &Snapshot) -> Result<Vec<Extra>> {
    let base = &viewer.client.base;
    let origin = base.split('/').take(3).collect::<Vec<_>>().join("/");
    let consent = match viewer.site.tag.consent {
        Consent::Off => {
            "Consent isn’t required: the tag works as soon as the page opens. You can change that in the site’s settings."
        }
        Consent::Cookieless => {
            "Consent isn’t required: the tag stores nothing in the browser. You can change that in the site’s settings."
        }
        Consent::Required => {
            "The tag waits for this call. Before it, and after a refusal, it stores, stamps and sends nothing, and payments arrive \
             with --CLICK-ID-- not replaced."
        }
        Consent::Google => {
            "The tag waits until Google’s consent mode grants ad_storage. Before it, and after a refusal, it stores, stamps and sends \
             nothing."
        }
        Consent::Tcf => {
            "The tag waits until your consent tool reports purposes 1 and 7. Before it, and after a refusal, it stores, stamps and \
             sends nothing."
        }
    };
    Ok(vec![
        Extra {
            title: "Content Security Policy",
            text: "If your page has a policy, these two entries allow the tag. A tag on your page’s own host needs none.".to_owned(),
            copy: format!("script-src {origin}; connect-src {origin}"),
        },
        Extra {
            title: "WordPress with an optimizer",
            text: "These additions keep optimizers from changing the line. Also exclude the URL from “combine”, “host locally” and “delay JavaScript”.".to_owned(),
            copy: format!(
                "<script async fetchpriority=\"high\" referrerpolicy=\"no-referrer-when-downgrade\" data-no-optimize=\"1\" \
                 data-no-defer=\"1\" data-cfasync=\"false\" src=\"{base}/t/{}.js\"></script>",
                viewer.site.key
            ),
        },
        Extra {
            title: "Without an inline script",
            text: format!(
                "The first line makes a click on a payment link wait for the tag, at most 1.5 seconds, and lets your \
                 scripts call clickstamp(…) at any time. If your page’s policy forbids inline scripts, allow it with {}, \
                 or use this line alone.",
                race_stub_hash()
            ),
            copy: copied(settings, base, &viewer.site).tag,
        },
        Extra {
            title: "A tag that the page does not wait for",
            text: "Browsers count a page as loaded only when this server has answered. If your page has an overlay that \
                   waits for that, use this instead of the second line. Firefox waits for it all the same."
                .to_owned(),
            copy: format!(
                "<script type=\"module\">import(\"{base}/t/{}.js\")</script>",
                viewer.site.key
            ),
        },
        Extra {
            title: "Consent",
            text: consent.to_owned(),
            copy: if viewer.site.tag.consent == Consent::Required {
                "clickstamp(\"consent\", true)".to_owned()
            } else {
                String::new()
            },
        },
        fixed_tag(viewer, settings)?,
    ])
}

/// The static tag, for pages whose policy allows only scripts that never change.
fn fixed_tag(viewer: &Viewer, settings: &Snapshot) -> Result<Extra> {
    let (site, base) = (&viewer.site, &viewer.client.base);
    let script = Fixed::of(settings, site, base)?;
    let cookie = site.domains.first().map_or_else(
        || {
            "The site has no hosts yet, so its cookie works only on the host that sets it."
                .to_owned()
        },
        |domain| {
            format!("Its cookie works only on pages of {domain}, the first of the site’s hosts.")
        },
    );
    Ok(Extra {
        title: "A tag that never changes",
        text: format!(
            "Only for pages whose policy requires it: browsers may cache it, it is pinned by its hash, and you may host the file \
             yourself. {cookie} Browsers create the click IDs. After a change to the site’s settings, this server’s URL or \
             Clickstamp’s version, copy this line again: browsers reject a script with another hash."
        ),
        copy: format!(
            "<script async fetchpriority=\"high\" crossorigin=\"anonymous\" integrity=\"{}\" \
             src=\"{base}/t/{}.static.js?v={}\"></script>",
            script.integrity, site.key, script.version
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_name_our_host_and_the_page() {
        assert_eq!(own_host("https://go.shop.com:8443/k"), "go.shop.com");
        let ways = ways(("https://go.shop.com:8443/k", "https://admin.shop.com"), "www.shop.com");
        let https = "proxy_pass https://go.shop.com:8443;\n    proxy_ssl_server_name on;\n";
        assert!(ways[0].copy.contains(https), "{}", ways[0].copy);
        assert!(!super::ways(("http://10.0.0.7:8080", ""), "www.shop.com")[0].copy.contains("ssl"));
        assert!(ways[3].copy.contains("CLICKSTAMP_PUBLIC_URL=https://www.shop.com/k"));
    }

    #[tokio::test]
    async fn addresses_need_no_name_server() {
        assert_eq!(nearness("127.0.0.1", "127.0.9.9").await, Some(Nearness::SameNetwork));
        assert_eq!(nearness("127.0.0.1", "10.0.0.1").await, Some(Nearness::OtherNetwork));
        assert_eq!(nearness("not a host", "10.0.0.1").await, None);
    }

    #[test]
    fn an_alias_that_leaves_the_domain_counts_before_the_network() {
        let found = |name: &str, address: [u8; 4]| Found {
            addresses: vec![address.into()],
            name: name.to_owned(),
        };
        let page = found("www.shop.com", [192, 0, 2, 1]);
        let rows = [
            ("go.shop.com", [192, 0, 2, 9], Nearness::SameNetwork),
            ("edge.shop.com", [192, 0, 2, 9], Nearness::SameNetwork),
            ("server", [192, 0, 2, 9], Nearness::SameNetwork),
            ("go.shop.com", [198, 51, 100, 9], Nearness::OtherNetwork),
            ("shop.hosting.com", [192, 0, 2, 9], Nearness::AliasOf("shop.hosting.com".to_owned())),
        ];
        for (name, address, expected) in rows {
            assert_eq!(judge("www.shop.com", &found(name, address), &page), expected, "{name}");
        }
        let hosted = found("page.hosting.com", [192, 0, 2, 1]);
        let beside = found("tag.hosting.com", [192, 0, 2, 9]);
        assert_eq!(judge("www.shop.com", &beside, &hosted), Nearness::SameNetwork);
    }
}
