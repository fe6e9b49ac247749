//! `clickstamp check URL`: does this page lead its buyers to Stripe with a click ID?
//! In: a page's address. Out: findings in plain words, and an exit code: 0 all is well, 1 something to mend, 2 the page could not be read.
//! Promise: it opens no database and changes nothing; one page is read, and its scripts where the tag is not among them, bounded in time and size.

mod copies;
mod fetch;
mod page;
mod policy;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Arg, ArgMatches, Command};
use url::Url;

use self::copies::TagCopy;
use self::page::{Element, Page};
use self::policy::Policy;
use crate::config::Config;
use crate::settings::{STRIPE_LINK_HOSTS, placeholders, shows_existing_checkout};

/// The page could not be read.
const NOT_READ: u8 = 2;

/// Plugins and services that hold scripts back: a word of the rewritten element, and who writes it.
const HOLDERS: [(&str, &str); 5] = [
    ("rocketlazyloadscript", "WP Rocket (“delay JavaScript”)"),
    ("data-rocket-src", "WP Rocket (“delay JavaScript”)"),
    ("litespeed/javascript", "LiteSpeed (“delay” or “defer”)"),
    ("pmdelayedscript", "Perfmatters (“delay JavaScript”)"),
    ("-text/javascript", "Cloudflare’s Rocket Loader"),
];
/// Parts of a script's address that say: several scripts were combined here, or copies of others are kept.
const COMBINERS: [(&str, &str); 4] = [
    ("/wp-content/cache/min/", "WP Rocket"),
    ("/wp-content/litespeed/js/", "LiteSpeed"),
    ("/wp-content/cache/autoptimize/", "Autoptimize"),
    ("/wp-content/cache/perfmatters/", "Perfmatters"),
];

/// How it is called.
pub fn command() -> Command {
    Command::new("check")
        .about("Look at a page: is the tag on it, do its payment links carry the placeholder, would its policy let the tag work?")
        .after_help(
            "Reads the page as it is served, and its scripts where the tag is not among them; runs none, and needs no server. Exit code 0: all is well, 1: something to mend, \
             2: the page could not be read.",
        )
        .arg(Arg::new("url").required(true).value_name("URL").help("the page’s address"))
}

/// Runs it.
///
/// # Errors
/// When nothing can be printed.
pub async fn run(config: &Config, arguments: &ArgMatches) -> Result<ExitCode> {
    let url = arguments.get_one::<String>("url").context("the command line requires it")?;
    let answer = match fetch::page(url).await {
        Ok(answer) => answer,
        Err(fault) => {
            writeln!(std::io::stderr(), "clickstamp: {fault:#}").context("could not print")?;
            return Ok(ExitCode::from(NOT_READ));
        }
    };
    let ours = config.public_url.as_ref();
    let page = Page::read(&answer.html, &answer.url);
    let scripts = fetch::scripts(&to_look_into(&page, ours)).await?;
    let copies = scripts.into_iter().filter_map(|(address, text)| TagCopy::read(address, &text));
    let findings = judge(&answer, &page, &copies.collect::<Vec<_>>(), ours);
    let faults = findings.iter().filter(|finding| finding.is_fault).count();
    let mut said = format!("{}\n", answer.url);
    for finding in &findings {
        said.push_str(if finding.is_fault { "\n  ✗ " } else { "\n  ✓ " });
        said.push_str(&finding.text);
    }
    said.push_str(&match faults {
        0 => "\n\nAll is well.".to_owned(),
        1 => "\n\n1 thing to mend.".to_owned(),
        _ => format!("\n\n{faults} things to mend."),
    });
    writeln!(std::io::stdout(), "{said}").context("could not print")?;
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A page as it was served.
pub(crate) struct Answer {
    /// Its address, after redirects.
    url: Url,
    /// The headers `Content-Security-Policy`.
    policies: Vec<String>,
    html: String,
}

/// One sentence about the page.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    is_fault: bool,
    text: String,
}

fn good(text: impl Into<String>) -> Finding {
    Finding { is_fault: false, text: text.into() }
}

fn fault(text: impl Into<String>) -> Finding {
    Finding { is_fault: true, text: text.into() }
}

/// What there is to say about a page, among whose scripts are these copies of the tag; `ours` is the address under which the server
/// is known, when it is set.
fn judge(answer: &Answer, page: &Page, copies: &[TagCopy], ours: Option<&Url>) -> Vec<Finding> {
    let tags = tags(page, ours);
    let mut findings = Vec::new();
    judge_presence(page, &tags, copies, &mut findings);
    let copy = copies.first().and_then(|copy| {
        let element = scripts(page).find(|(_, address)| *address == copy.address)?.0;
        judge_copy(copy, ours, &mut findings);
        Some((element, &copy.address, copy.door.clone()))
    });
    let tag = tags.first().map(|(element, address)| (*element, address, Some(door(address))));
    if let Some((element, address, door)) = tag.or(copy) {
        judge_holding(page, element, &mut findings);
        judge_policies(page, answer, element, (address, door.as_ref()), &mut findings);
    }
    judge_links(page, &mut findings);
    findings
}

/// The page's scripts that have an address, those included that an optimiser holds back.
fn scripts(page: &Page) -> impl Iterator<Item = (&Element, Url)> {
    page.elements.iter().filter(|element| element.name == "script").filter_map(|script| {
        let src =
            ["src", "data-rocket-src", "data-src"].iter().find_map(|name| script.get(name))?;
        Some((script, page.base.join(src.trim()).ok()?))
    })
}

/// The scripts that are the tag, by their address.
fn tags<'a>(page: &'a Page, ours: Option<&Url>) -> Vec<(&'a Element, Url)> {
    scripts(page).filter(|(_, address)| is_tag(address) && is_below(address, ours)).collect()
}

/// Scripts in which a copy of the tag may stand; none where the tag itself is on the page.
fn to_look_into(page: &Page, ours: Option<&Url>) -> Vec<Url> {
    if !tags(page, ours).is_empty() {
        return Vec::new();
    }
    // What has the tag's own address, and is not ours, is another server's.
    let others = scripts(page).map(|(_, address)| address).filter(|address| !is_tag(address));
    others.filter(|address| matches!(address.scheme(), "http" | "https")).collect()
}

/// True for an address of the tag: `…/t/{site}.js`.
fn is_tag(address: &Url) -> bool {
    let path = address.path().rsplit_once('/');
    path.is_some_and(|(before, file)| before.ends_with("/t") && file.ends_with(".js"))
}

/// True for an address below our own, where that is known.
fn is_below(address: &Url, ours: Option<&Url>) -> bool {
    ours.is_none_or(|ours| {
        let prefix = ours.path().trim_end_matches('/');
        let before = address.path().rsplit_once('/').map(|(before, _)| before);
        ours.host_str() == address.host_str() && before == Some(&format!("{prefix}/t"))
    })
}

/// Where the tag of this address posts visits.
fn door(address: &Url) -> Url {
    let mut door = address.clone();
    let prefix = address.path().rsplit_once("/t/").map_or("", |(prefix, _)| prefix);
    door.set_path(&format!("{prefix}/v"));
    door.set_query(None);
    door
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
                 copy gives every visitor an ID of an old copy."
            ),
            None => "The tag is not on this page: put the line that Setup shows first into its <head>. A tag that another \
                     script adds (a tag manager) cannot be seen from here."
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

/// Who combines scripts, if one of these addresses tells.
fn combiner(addresses: impl Iterator<Item = Url>) -> Option<&'static str> {
    addresses
        .filter_map(|address| COMBINERS.iter().find(|(part, _)| address.path().contains(part)))
        .map(|(_, who)| *who)
        .next()
}

/// A copy of the tag is its answer to one visitor, kept for all, or the static tag, which may be kept.
fn judge_copy(copy: &TagCopy, ours: Option<&Url>, findings: &mut Vec<Finding>) {
    let address = &copy.address;
    if copy.has_click_id {
        let who = combiner([address.clone()].into_iter());
        let who = who.unwrap_or("An optimiser or a CDN");
        let of = copy.door.as_ref().map_or_else(String::new, |door| {
            format!(" of {}", door.host_str().unwrap_or_default())
        });
        findings.push(fault(format!(
            "{who} keeps a copy of the tag{of}: {address}. Its click ID is used up, so browsers make their own, and no change of \
             the settings reaches it: exclude the tag’s address there, from “combine”, “host locally” and the cache."
        )));
    } else {
        findings.push(good(format!("The static tag is on the page, as a copy: {address}")));
    }
    let is_elsewhere = |door: &&Url| ours.is_some_and(|ours| ours.host_str() != door.host_str());
    if let Some(door) = copy.door.as_ref().filter(is_elsewhere) {
        findings.push(fault(format!("The copy reports visits to another server: {door}")));
    }
}

fn judge_holding(page: &Page, tag: &Element, findings: &mut Vec<Finding>) {
    let is_held = |word: &str| {
        tag.attributes.iter().any(|(name, value)| name == word || value.contains(word))
    };
    if let Some((_, who)) = HOLDERS.iter().find(|(word, _)| is_held(word)) {
        findings.push(fault(format!(
            "{who} holds the tag back, so that early clicks leave without a click ID: exclude the tag’s address there."
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
            "The tag’s line has no async: the page waits for it. Take the line that Setup shows.",
        ));
    }
}

fn judge_policies(
    page: &Page,
    answer: &Answer,
    tag: &Element,
    (address, door): (&Url, Option<&Url>),
    findings: &mut Vec<Finding>,
) {
    // A meta element counts as a header does.
    let policies: Vec<Policy> = answer
        .policies
        .iter()
        .chain(&page.policies)
        .flat_map(|text| text.split(','))
        .map(|text| Policy::read(text, &answer.url))
        .collect();
    if policies.is_empty() {
        findings.push(good("The page has no Content Security Policy that could stop the tag."));
        return;
    }
    let origin = address.origin().ascii_serialization();
    if policies.iter().all(|policy| policy.allows_script(address, tag)) {
        findings.push(good("Its Content Security Policy lets the tag in."));
    } else {
        findings.push(fault(format!(
            "Its Content Security Policy stops the tag: add {origin} to script-src."
        )));
    }
    let Some(door) = door else { return };
    let origin = door.origin().ascii_serialization();
    if policies.iter().all(|policy| policy.allows_connection(door)) {
        findings.push(good("Its Content Security Policy lets visits be reported."));
    } else {
        findings.push(fault(format!(
            "Its Content Security Policy stops the report of visits, so payments come with unknown click IDs: add {origin} to \
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
                "<{}> has no client-reference-id: add client-reference-id=\"--CLICK-ID--\", or let the site’s settings stamp what \
                 has no reference.",
                element.name
            )));
        }
    }
    if findings.len() == before {
        findings.push(good(
            "No payment link stands in the page’s own text. Links that a script adds are stamped too, but cannot be seen from here.",
        ));
    }
}

/// What there is to say about a value that may be a payment link.
fn judge_value(page: &Page, value: &str, element: &Element) -> Option<Finding> {
    let shown: String = value.chars().take(120).collect();
    if !placeholders(value).is_empty() {
        return Some(good(format!("Carries the placeholder: {shown}")));
    }
    if element.get("client-reference-id") == Some(value) {
        return Some(fault(format!(
            "<{}> has a reference of somebody else’s, which the tag leaves alone: {shown}",
            element.name
        )));
    }
    let url = page.base.join(value.trim()).ok()?;
    let host = url.host_str()?;
    if shows_existing_checkout(host) {
        return Some(fault(format!(
            "Leads to a checkout that exists already, where no click ID can be added; use a payment link: {shown}"
        )));
    }
    if !STRIPE_LINK_HOSTS.contains(&host) {
        return None;
    }
    let reference = url.query_pairs().find(|(name, _)| name == "client_reference_id");
    Some(fault(match reference {
        Some((_, reference)) if reference.starts_with("ck_") => format!(
            "Has one visitor’s click ID written into it, which all buyers would share; put --CLICK-ID-- in its place: {shown}"
        ),
        Some((_, reference)) if !reference.is_empty() => {
            format!("Has a reference of somebody else’s, which the tag leaves alone: {shown}")
        }
        _ => format!(
            "Carries no placeholder; add client_reference_id=--CLICK-ID--, or let the site’s settings stamp links without a \
             reference: {shown}"
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_page_as_it_should_be_has_no_fault() {
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
    fn each_fault_is_named() {
        let rows = [
            ("no tag", LINK.to_owned(), "The tag is not on this page: put"),
            (
                "a foreign /t/",
                "<script async src='/t/main.css'></script>".to_owned(),
                "not on this",
            ),
            ("twice", format!("{TAG}{TAG}"), "2 times"),
            ("waits", "<script src='/t/main.js'></script>".to_owned(), "no async"),
            (
                "combined",
                "<script src='/wp-content/cache/min/1/a.js'></script>".to_owned(),
                "WP Rocket has combined",
            ),
            (
                "delayed",
                "<script async type='rocketlazyloadscript' data-rocket-src='/t/main.js'></script>"
                    .to_owned(),
                "WP Rocket (“delay JavaScript”) holds",
            ),
            (
                "Rocket Loader has rewritten it",
                "<script async type='0f3-text/javascript' src='/t/main.js'></script>".to_owned(),
                "Rocket Loader holds",
            ),
            (
                "Rocket Loader is on",
                format!("{TAG}<script src='/cdn-cgi/scripts/rocket-loader.min.js'></script>"),
                "data-cfasync",
            ),
            (
                "no reference",
                format!("{TAG}<a href='https://buy.stripe.com/a?x=1'>Buy</a>"),
                "Carries no placeholder",
            ),
            (
                "empty reference",
                format!("{TAG}<a href='https://buy.stripe.com/a?client_reference_id='>Buy</a>"),
                "Carries no placeholder",
            ),
            (
                "foreign reference",
                format!("{TAG}<a href='//buy.stripe.com/a?client_reference_id=order-7'>Buy</a>"),
                "somebody else’s",
            ),
            (
                "copied click ID",
                format!(
                    "{TAG}<a href='https://buy.stripe.com/a?client_reference_id=ck_0abc'>B</a>"
                ),
                "all buyers would share",
            ),
            (
                "a checkout",
                format!("{TAG}<a href='https://checkout.stripe.com/c/pay/cs_1'>Buy</a>"),
                "exists already",
            ),
            (
                "button",
                format!("{TAG}<stripe-buy-button></stripe-buy-button>"),
                "no client-reference-id",
            ),
            (
                "button of somebody else",
                format!("{TAG}<stripe-buy-button client-reference-id='7'></stripe-buy-button>"),
                "leaves alone",
            ),
        ];
        for (name, html, expected) in rows {
            let found = faults_of(&html, &[], None);
            assert!(found.len() == 1 && found[0].contains(expected), "{name}: {found:?}");
        }
        let found = faults_of(TAG, &[], Some("https://clicks.other.com/"));
        assert!(found[0].contains("not on this page"), "another server’s tag is not ours");
    }

    #[test]
    fn a_copy_of_the_tag_is_judged_as_what_it_is() {
        let (src, door) = ("/wp-content/cache/min/1/a.js", "https://go.shop.com/v");
        let html = format!("<script defer src='{src}'></script>{LINK}");
        let copy = |has_click_id| TagCopy {
            address: Url::parse(&format!("https://www.shop.com{src}")).unwrap(),
            door: Some(Url::parse(door).unwrap()),
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
    fn a_policy_that_stops_something_is_named() {
        let rows = [
            ("script-src https://go.shop.com; connect-src go.shop.com", &[][..]),
            ("default-src 'self' *.shop.com", &[]),
            ("style-src 'none'", &[]),
            ("default-src 'self'", &["stops the tag", "stops the report"]),
            ("script-src go.shop.com; connect-src 'self'", &["stops the report"]),
            ("script-src 'none'", &["stops the tag"]),
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
