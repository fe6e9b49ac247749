//! Judges a page: is the tag on it and undisturbed, and do its payment links carry a click ID?
//! Takes the page as served, and the copies of the tag among its scripts; returns findings, each a
//! problem with its fix or something that is right.
//! Pure.

use url::Url;

use super::copies::TagCopy;
use super::fetch::Answer;
use super::find::{scripts, tags};
use super::page::{Element, Page};
use super::policy::Policy;
use crate::settings::{STRIPE_LINK_HOSTS, placeholders, shows_existing_checkout};

/// Plugins and services that delay scripts: a text in the rewritten element, and the name of the
/// plugin or service.
const HOLDERS: [(&str, &str); 5] = [
    ("rocketlazyloadscript", "WP Rocket (“delay JavaScript”)"),
    ("data-rocket-src", "WP Rocket (“delay JavaScript”)"),
    ("litespeed/javascript", "LiteSpeed (“delay” or “defer”)"),
    ("pmdelayedscript", "Perfmatters (“delay JavaScript”)"),
    ("-text/javascript", "Cloudflare’s Rocket Loader"),
];
/// Plugins that combine or cache scripts: a part of the resulting script's path, and the name of
/// the plugin.
const COMBINERS: [(&str, &str); 4] = [
    ("/wp-content/cache/min/", "WP Rocket"),
    ("/wp-content/litespeed/js/", "LiteSpeed"),
    ("/wp-content/cache/autoptimize/", "Autoptimize"),
    ("/wp-content/cache/perfmatters/", "Perfmatters"),
];

/// One finding about the page: a problem or something that is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) is_fault: bool,
    pub(super) text: String,
}

fn good(text: impl Into<String>) -> Finding {
    Finding { is_fault: false, text: text.into() }
}

fn fault(text: impl Into<String>) -> Finding {
    Finding { is_fault: true, text: text.into() }
}

/// All findings about a page. `copies` are the copies of the tag among its scripts; `ours` is the
/// server's public URL, if it is set.
pub(super) fn judge(
    answer: &Answer,
    page: &Page,
    copies: &[TagCopy],
    ours: Option<&Url>,
) -> Vec<Finding> {
    let tags = tags(page, ours);
    let mut findings = Vec::new();
    judge_presence(page, &tags, copies, &mut findings);
    let copy = copies.first().and_then(|copy| {
        let element = scripts(page).find(|(_, address)| *address == copy.address)?.0;
        judge_copy(copy, ours, &mut findings);
        Some((element, &copy.address, copy.endpoint.clone()))
    });
    let tag = tags.first().map(|(element, address)| (*element, address, Some(endpoint(address))));
    if let Some((element, address, endpoint)) = tag.or(copy) {
        judge_delay(page, element, &mut findings);
        judge_policies(page, answer, element, (address, endpoint.as_ref()), &mut findings);
    }
    judge_links(page, &mut findings);
    findings
}

/// The URL to which the tag at this address posts visits.
fn endpoint(address: &Url) -> Url {
    let mut endpoint = address.clone();
    let prefix = address.path().rsplit_once("/t/").map_or("", |(prefix, _)| prefix);
    endpoint.set_path(&format!("{prefix}/v"));
    endpoint.set_query(None);
    endpoint
}

fn judge_presence(
    page: &Page,
    tags: &[(&Element, Url)],
    copies: &[TagCopy],
    findings: &mut Vec<Finding>,
) {
    match (tags, copies) {
        ([], []) => findings.push(fault(match combiner(scripts(page).map(|(_, address)| address)) {
            Some(who) => format!(
                "The tag is not on this page, or {who} has combined it with other scripts: exclude its address there. A combined \
                 copy has an outdated click ID and outdated settings."
            ),
            None => "The tag is not on this page: put the line shown in Setup first into its <head>. A tag that another \
                     script adds (a tag manager) cannot be detected."
                .to_owned(),
        })),
        ([], [_]) => {}
        ([(_, address)], _) => {
            findings.push(good(format!("The tag is on the page, once: {address}")));
        }
        _ => findings.push(fault(format!(
            "The tag is on the page {} times. The first one works and the others are ignored: remove them.",
            tags.len().max(copies.len())
        ))),
    }
}

/// The plugin that combined one of these scripts, if its path shows it.
fn combiner(addresses: impl Iterator<Item = Url>) -> Option<&'static str> {
    addresses
        .filter_map(|address| COMBINERS.iter().find(|(part, _)| address.path().contains(part)))
        .map(|(_, who)| *who)
        .next()
}

/// Adds findings about a copy of the tag: a cached response that was made for one visitor is a
/// problem, the static tag is not.
fn judge_copy(copy: &TagCopy, ours: Option<&Url>, findings: &mut Vec<Finding>) {
    let address = &copy.address;
    if copy.has_click_id {
        let who = combiner([address.clone()].into_iter());
        let who = who.unwrap_or("An optimizer or a CDN");
        let of = copy.endpoint.as_ref().map_or_else(String::new, |endpoint| {
            format!(" of {}", endpoint.host_str().unwrap_or_default())
        });
        findings.push(fault(format!(
            "{who} keeps a copy of the tag{of}: {address}. Its click ID is outdated, so browsers create their own, and changed \
             settings don’t reach it. Exclude the tag’s address there from “combine”, “host locally” and the cache."
        )));
    } else {
        findings.push(good(format!("The static tag is on the page, as a copy: {address}")));
    }
    let is_elsewhere = |url: &&Url| ours.is_some_and(|ours| ours.host_str() != url.host_str());
    if let Some(endpoint) = copy.endpoint.as_ref().filter(is_elsewhere) {
        findings.push(fault(format!("The copy sends visits to another server: {endpoint}")));
    }
}

fn judge_delay(page: &Page, tag: &Element, findings: &mut Vec<Finding>) {
    let is_held = |word: &str| {
        tag.attributes.iter().any(|(name, value)| name == word || value.contains(word))
    };
    if let Some((_, who)) = HOLDERS.iter().find(|(word, _)| is_held(word)) {
        findings.push(fault(format!(
            "{who} delays the tag, so early clicks have no click ID: exclude the tag’s address there."
        )));
    }
    let has_rocket_loader = page
        .elements
        .iter()
        .any(|element| element.get("src").is_some_and(|src| src.contains("rocket-loader.min.js")));
    if has_rocket_loader && tag.get("data-cfasync") != Some("false") && !is_held("-text/javascript")
    {
        findings.push(fault(
            "Cloudflare’s Rocket Loader is on: add data-cfasync=\"false\" to the tag, or it runs late.",
        ));
    }
    let is_late = !["async", "defer"].iter().any(|name| tag.get(name).is_some())
        && tag.get("type") != Some("module");
    if is_late {
        findings.push(fault(
            "The tag’s script element has no async: the page waits for it. Use the line shown in Setup.",
        ));
    }
}

fn judge_policies(
    page: &Page,
    answer: &Answer,
    tag: &Element,
    (address, endpoint): (&Url, Option<&Url>),
    findings: &mut Vec<Finding>,
) {
    // Policies in meta elements apply like those in headers.
    let policies: Vec<Policy> = answer
        .policies
        .iter()
        .chain(&page.policies)
        .flat_map(|text| text.split(','))
        .map(|text| Policy::read(text, &answer.url))
        .collect();
    if policies.is_empty() {
        findings.push(good("The page has no Content Security Policy that could block the tag."));
        return;
    }
    let origin = address.origin().ascii_serialization();
    if policies.iter().all(|policy| policy.allows_script(address, tag)) {
        findings.push(good("Its Content Security Policy allows the tag."));
    } else {
        findings.push(fault(format!(
            "Its Content Security Policy blocks the tag: add {origin} to script-src."
        )));
    }
    let Some(endpoint) = endpoint else { return };
    let origin = endpoint.origin().ascii_serialization();
    if policies.iter().all(|policy| policy.allows_connection(endpoint)) {
        findings.push(good("Its Content Security Policy allows the tag to send visits."));
    } else {
        findings.push(fault(format!(
            "Its Content Security Policy blocks sending visits, so payments will have unknown click IDs: add {origin} to \
             connect-src."
        )));
    }
}

fn judge_links(page: &Page, findings: &mut Vec<Finding>) {
    let before = findings.len();
    for (value, element) in page.values() {
        if let Some(finding) = judge_value(page, value, element) {
            findings.push(finding);
        }
    }
    for element in &page.elements {
        let is_embed =
            ["stripe-buy-button", "stripe-pricing-table"].contains(&element.name.as_str());
        if is_embed && element.get("client-reference-id").is_none() {
            findings.push(fault(format!(
                "<{}> has no client-reference-id: add client-reference-id=\"--CLICK-ID--\", or turn on stamping of links without a \
                 reference in the site’s settings.",
                element.name
            )));
        }
    }
    if findings.len() == before {
        findings.push(good(
            "The page’s HTML contains no payment link. The tag stamps links that a script adds, but this check cannot see them.",
        ));
    }
}

/// The finding about a value that may be a payment link.
fn judge_value(page: &Page, value: &str, element: &Element) -> Option<Finding> {
    let shown: String = value.chars().take(120).collect();
    if !placeholders(value).is_empty() {
        return Some(good(format!("Has the placeholder: {shown}")));
    }
    if element.get("client-reference-id") == Some(value) {
        return Some(fault(format!(
            "<{}> has another tool’s reference, which the tag does not change: {shown}",
            element.name
        )));
    }
    let url = page.base.join(value.trim()).ok()?;
    let host = url.host_str()?;
    if shows_existing_checkout(host) {
        return Some(fault(format!(
            "Links to an existing checkout, to which no click ID can be added; use a payment link: {shown}"
        )));
    }
    if !STRIPE_LINK_HOSTS.contains(&host) {
        return None;
    }
    let reference = url.query_pairs().find(|(name, _)| name == "client_reference_id");
    Some(fault(match reference {
        Some((_, reference)) if reference.starts_with("ck_") => format!(
            "Contains one visitor’s click ID, which all buyers would share; replace it with --CLICK-ID--: {shown}"
        ),
        Some((_, reference)) if !reference.is_empty() => {
            format!("Has another tool’s reference, which the tag does not change: {shown}")
        }
        _ => format!(
            "Has no placeholder; add client_reference_id=--CLICK-ID--, or turn on stamping of links without a reference in the \
             site’s settings: {shown}"
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::check::find::to_look_into;

    fn faults_of(html: &str, policies: &[&str], ours: Option<&str>) -> Vec<String> {
        faults_with(html, policies, ours, &[])
    }

    fn faults_with(
        html: &str,
        policies: &[&str],
        ours: Option<&str>,
        copies: &[TagCopy],
    ) -> Vec<String> {
        let answer = Answer {
            url: Url::parse("https://www.shop.com/offer").unwrap(),
            policies: policies.iter().map(|text| (*text).to_owned()).collect(),
            html: html.to_owned(),
        };
        let ours = ours.map(|ours| Url::parse(ours).unwrap());
        let page = Page::read(&answer.html, &answer.url);
        let findings = judge(&answer, &page, copies, ours.as_ref());
        findings
            .into_iter()
            .filter(|finding| finding.is_fault)
            .map(|finding| finding.text)
            .collect()
    }

    const TAG: &str = r#"<script async src="https://go.shop.com/t/main.js"></script>"#;
    const LINK: &str =
        r#"<a href="https://buy.stripe.com/a?x=1&amp;client_reference_id=--CLICK-ID--">Buy</a>"#;

    #[test]
    fn a_correct_page_has_no_problem() {
        for further in [
            "",
            "<!-- <script src='https://go.shop.com/t/main.js'></script> -->",
            "<noscript><script src='https://go.shop.com/t/main.js'></script></noscript>",
            "<script>document.write('<script src=/t/main.js>')</script>",
            "<a href='/about'>About</a><a href='mailto:a@b.c'>Write</a><a href>x</a>",
            "<stripe-buy-button client-reference-id='--click-id--'></stripe-buy-button>",
        ] {
            let found = faults_of(&format!("{TAG}{LINK}{further}"), &[], None);
            assert!(found.is_empty(), "{further}: {found:?}");
        }
        assert!(faults_of(TAG, &[], Some("https://go.shop.com/")).is_empty());
    }

    #[test]
    fn every_problem_is_reported() {
        let instead_of_the_tag = [
            (LINK, "The tag is not on this page: put"),
            ("<script async src='/t/main.css'></script>", "not on this"),
            ("<script src='/t/main.js'></script>", "no async"),
            ("<script src='/wp-content/cache/min/1/a.js'></script>", "WP Rocket has combined"),
            (
                "<script async type='rocketlazyloadscript' data-rocket-src='/t/main.js'></script>",
                "WP Rocket (“delay JavaScript”) delays",
            ),
            (
                "<script async type='0f3-text/javascript' src='/t/main.js'></script>",
                "Rocket Loader delays",
            ),
        ];
        let link = |rest: &str| format!("{TAG}<a href='https://{rest}'>Buy</a>");
        let reference = |text: &str| link(&format!("buy.stripe.com/a?client_reference_id={text}"));
        let button = |rest: &str| format!("{TAG}<stripe-buy-button{rest}></stripe-buy-button>");
        let loader = "<script src='/cdn-cgi/scripts/rocket-loader.min.js'></script>";
        let beside_the_tag = [
            (format!("{TAG}{TAG}"), "2 times"),
            (format!("{TAG}{loader}"), "data-cfasync"),
            (link("buy.stripe.com/a?x=1"), "Has no placeholder"),
            (reference(""), "Has no placeholder"),
            (reference("order-7"), "another tool’s"),
            (reference("ck_0abc"), "all buyers would share"),
            (link("checkout.stripe.com/c/pay/cs_1"), "existing checkout"),
            (button(""), "no client-reference-id"),
            (button(" client-reference-id='7'"), "does not change"),
        ];
        let alone = instead_of_the_tag.map(|(html, expected)| (html.to_owned(), expected));
        for (html, expected) in alone.into_iter().chain(beside_the_tag) {
            let found = faults_of(&html, &[], None);
            assert!(found.len() == 1 && found[0].contains(expected), "{html}: {found:?}");
        }
        let found = faults_of(TAG, &[], Some("https://clicks.other.com/"));
        assert!(found[0].contains("not on this page"), "another server’s tag is not ours");
    }

    #[test]
    fn a_cached_response_is_a_problem_and_a_copy_of_the_static_tag_is_not() {
        let (src, endpoint) = ("/wp-content/cache/min/1/a.js", "https://go.shop.com/v");
        let html = format!("<script defer src='{src}'></script>{LINK}");
        let copy = |has_click_id| TagCopy {
            address: Url::parse(&format!("https://www.shop.com{src}")).unwrap(),
            endpoint: Some(Url::parse(endpoint).unwrap()),
            has_click_id,
        };
        let found = faults_with(&html, &[], None, &[copy(true)]);
        assert!(
            found.len() == 1 && found[0].starts_with("WP Rocket keeps a copy of the tag of go."),
            "{found:?}"
        );
        assert!(faults_with(&html, &[], None, &[copy(false)]).is_empty(), "the static tag");
        let policy = ["script-src 'self'; connect-src 'self'"];
        let found = faults_with(&html, &policy, None, &[copy(false)]);
        assert!(found.len() == 1 && found[0].contains("add https://go.shop.com to connect-src"));
        let found = faults_with(&html, &[], Some("https://clicks.other.com/"), &[copy(false)]);
        assert!(found.len() == 1 && found[0].contains("another server: https://go.shop.com/v"));
        let page = Page::read(&html, &Url::parse("https://www.shop.com/").unwrap());
        assert_eq!(to_look_into(&page, None).len(), 1);
        let page = Page::read(TAG, &Url::parse("https://www.shop.com/").unwrap());
        let other = Url::parse("https://clicks.other.com/").unwrap();
        assert!(
            to_look_into(&page, None).is_empty() && to_look_into(&page, Some(&other)).is_empty()
        );
    }

    #[test]
    fn a_blocking_content_security_policy_is_reported() {
        let rows = [
            ("script-src https://go.shop.com; connect-src go.shop.com", &[][..]),
            ("default-src 'self' *.shop.com", &[]),
            ("style-src 'none'", &[]),
            ("default-src 'self'", &["blocks the tag", "blocks sending"]),
            ("script-src go.shop.com; connect-src 'self'", &["blocks sending"]),
            ("script-src 'none'", &["blocks the tag"]),
        ];
        for (policy, expected) in rows {
            let meta = format!(
                r#"<meta http-equiv="Content-Security-Policy" content="{policy}">{TAG}{LINK}"#
            );
            let in_page = faults_of(&meta, &[], None);
            let in_header = faults_of(&format!("{TAG}{LINK}"), &[policy], None);
            assert_eq!(in_page, in_header, "{policy}");
            assert_eq!(in_header.len(), expected.len(), "{policy}: {in_header:?}");
            for (found, expected) in in_header.iter().zip(expected) {
                assert!(found.contains(expected), "{policy}: {found}");
            }
        }
        let both = ["script-src go.shop.com", "script-src 'self'"];
        assert_eq!(faults_of(TAG, &both, None).len(), 1, "every policy must agree");
    }
}
