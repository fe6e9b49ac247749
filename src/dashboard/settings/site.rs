//! The settings of a site, and the form that adds one. Takes form fields; saves a record and redirects, or shows the form
//! again with errors. Hosts are stored as browsers write them, so that the tag can compare them.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use jiff::tz::TimeZone;

use super::{SettingsQuery, key, refuse};
use crate::dashboard::form::FormData;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::Field;
use crate::domain::Word as _;
use crate::error::AppError;
use crate::money::Currency;
use crate::settings::{self, Added, Consent, Site, TagSettings};
use crate::state::AppState;

/// Maximum length of a site's name, which is in the header of every page.
const MAX_NAME_CHARS: usize = 80;
/// Maximum number of hosts in a list.
const MAX_HOSTS: usize = 100;
/// Maximum number of hosts in the script, where each costs every visitor some bytes.
const MAX_BAKED_HOSTS: usize = 20;

/// The form's fields.
struct SiteForm {
    name: Field,
    timezone: Field,
    currency: Field,
    domains: Field,
    consent: Field,
    payment_hosts: Field,
    linked_domains: Field,
    auto_stamp: bool,
    capture_anytrack: bool,
    yield_to_anytrack: bool,
}

fn site_form(site: &Site, form: &FormData) -> SiteForm {
    SiteForm {
        name: form.field("name", site.name.as_str()),
        timezone: form.field("timezone", site.timezone.as_str()),
        currency: form.field("currency", site.currency.code()),
        domains: form.field("domains", site.domains.join("\n")),
        consent: form.field("consent", site.tag.consent.as_str()),
        payment_hosts: form.field("payment_hosts", site.tag.payment_hosts.join("\n")),
        linked_domains: form.field("linked_domains", site.tag.linked_domains.join("\n")),
        auto_stamp: form.tick("auto_stamp", site.tag.auto_stamp),
        capture_anytrack: form.tick("capture_anytrack", site.tag.capture_anytrack),
        yield_to_anytrack: form.tick("yield_to_anytrack", site.tag.yield_to_anytrack),
    }
}

/// One answer to what the tag stores.
pub(in crate::dashboard) struct ConsentChoice {
    pub(in crate::dashboard) word: &'static str,
    pub(in crate::dashboard) label: &'static str,
    pub(in crate::dashboard) hint: &'static str,
    pub(in crate::dashboard) is_chosen: bool,
}

#[derive(Template)]
#[template(path = "site.html")]
struct SitePage {
    frame: Frame,
    key: String,
    /// What was just saved.
    done: Option<&'static str>,
    action: String,
    back: String,
    form: SiteForm,
    consents: Vec<ConsentChoice>,
    /// For the field's list.
    timezones: Vec<String>,
    /// Whether AnyTrack is a destination; otherwise its settings have no effect.
    has_anytrack: bool,
}

/// `GET /settings/sites/{key}`.
pub(in crate::dashboard) async fn show_site(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Query(query): Query<SettingsQuery>,
) -> Result<Response, AppError> {
    let viewer = at(&state, viewer, &key)?;
    let done = match query.saved.as_deref() {
        Some("site") => Some("Saved. Pages use the new settings when they next load the tag."),
        Some("added") => Some("Site added. Enter its hosts, then put its tag on its pages."),
        _ => None,
    };
    page::show(&site_page(&state, &viewer, done, &FormData::default()).await?)
}

/// `POST /settings/sites/{key}`.
pub(in crate::dashboard) async fn save_site(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    mut form: FormData,
) -> Result<Response, AppError> {
    let viewer = at(&state, viewer, &key)?;
    let site = read_site(&viewer.site, &mut form);
    if !form.is_right() {
        return page::refuse(&site_page(&state, &viewer, None, &form).await?);
    }
    settings::save_site(&state.store, &state.settings, &site).await?;
    let here = viewer.link(&format!("/settings/sites/{key}"));
    Ok(page::see_other(&here.with("saved", "site").to_string()))
}

fn at(state: &AppState, viewer: Viewer, key: &str) -> Result<Viewer, AppError> {
    let snapshot = state.settings.current();
    let site = snapshot.site_by_key(key).cloned();
    Ok(viewer.looking_at(site.ok_or_else(|| AppError::not_found("Site not found."))?))
}

async fn site_page(
    state: &AppState,
    viewer: &Viewer,
    done: Option<&'static str>,
    form: &FormData,
) -> Result<SitePage, AppError> {
    let site = &viewer.site;
    let form = site_form(site, form);
    Ok(SitePage {
        frame: viewer.frame(state, Tab::Settings).await?,
        key: site.key.clone(),
        done,
        action: viewer.link(&format!("/settings/sites/{}", site.key)).to_string(),
        back: viewer.link("/settings").to_string(),
        consents: consent_choices(&form.consent.value),
        form,
        timezones: jiff::tz::db().available().map(|name| name.to_string()).collect(),
        has_anytrack: state.settings.current().anytrack_of(&site.id).is_some(),
    })
}

/// The answers to what the tag stores, for a form. `chosen` is the word of the current one.
pub(in crate::dashboard) fn consent_choices(chosen: &str) -> Vec<ConsentChoice> {
    let choice = |consent: &Consent| {
        let (label, hint) = explain(*consent);
        let word = consent.as_str();
        ConsentChoice { word, label, hint, is_chosen: word == chosen }
    };
    Consent::ALL.iter().map(choice).collect()
}

/// What a choice is called, and what it stores.
pub(in crate::dashboard) fn explain(consent: Consent) -> (&'static str, &'static str) {
    match consent {
        Consent::Off => (
            "With a cookie, without asking",
            "The tag stores a click ID in a cookie of your site for 400 days, as soon as the page opens. A sale \
             weeks later still finds its ad. In the EU and the UK, that needs the visitor’s consent.",
        ),
        Consent::Cookieless => (
            "Without a cookie",
            "Nothing is stored in the browser. The server joins the pages that a visitor opens on one day; a sale \
             on a later day counts as a new visit. Recommended if your page has no cookie banner.",
        ),
        Consent::Required => (
            "With a cookie, after my page asks",
            "The tag stores and sends nothing until your page calls clickstamp(\"consent\", true).",
        ),
        Consent::Google => (
            "With a cookie, after Google’s consent mode",
            "The tag stores and sends nothing until ad_storage is granted.",
        ),
        Consent::Tcf => (
            "With a cookie, after a consent tool with TCF",
            "The tag stores and sends nothing until purposes 1 and 7 have consent.",
        ),
    }
}

/// The site as entered. What is wrong is refused.
fn read_site(old: &Site, form: &mut FormData) -> Site {
    let name = form.text("name");
    if let Some(fault) = name_fault(&name) {
        form.refuse("name", fault);
    }
    // Stores the official spelling: `europe/berlin` is accepted, too.
    let timezone = form.text("timezone");
    let zone = TimeZone::get(&timezone)
        .map(|zone| zone.iana_name().unwrap_or(&timezone).to_owned())
        .map_err(|_| "Unknown timezone. Use a name like Europe/Berlin or America/New_York.");
    let timezone = form.take("timezone", zone);
    let currency = Currency::parse(&form.text("currency"));
    if currency.is_none() {
        form.refuse("currency", "A currency is three letters, such as USD or EUR.");
    }
    // A form without it must not turn off required consent.
    let consent = form.typed("consent").map_or(Some(old.tag.consent), Consent::parse);
    if consent.is_none() {
        form.refuse("consent", "Select one of the options.");
    }
    let mut hosts = |name, most| {
        let hosts = read_at_most(&form.text(name), most);
        form.take(name, hosts)
    };
    let domains = hosts("domains", MAX_HOSTS);
    let payment_hosts = hosts("payment_hosts", MAX_BAKED_HOSTS);
    let linked_domains = hosts("linked_domains", MAX_BAKED_HOSTS);
    if let Some(checkout) =
        payment_hosts.iter().find(|host| settings::shows_existing_checkout(host))
    {
        form.refuse("payment_hosts", format!(
            "{checkout} shows existing checkouts, which can’t get a reference. Enter the host of your payment links."
        ));
    }
    Site {
        name,
        timezone,
        currency: currency.unwrap_or(old.currency),
        domains,
        tag: TagSettings {
            consent: consent.unwrap_or(old.tag.consent),
            is_consent_chosen: old.tag.is_consent_chosen || form.typed("consent").is_some(),
            auto_stamp: form.is_on("auto_stamp"),
            payment_hosts,
            linked_domains,
            capture_anytrack: form.is_on("capture_anytrack"),
            yield_to_anytrack: form.is_on("yield_to_anytrack"),
        },
        ..old.clone()
    }
}

fn name_fault(name: &str) -> Option<String> {
    (name.is_empty() || name.chars().count() > MAX_NAME_CHARS)
        .then(|| format!("A site needs a name of at most {MAX_NAME_CHARS} characters."))
}

/// Reads hosts, separated by lines, commas or spaces. A pasted URL is reduced to its host; international names become
/// punycode, which browsers compare.
pub(in crate::dashboard) fn read_hosts(text: &str) -> Result<Vec<String>, String> {
    read_at_most(text, MAX_HOSTS)
}

fn read_at_most(text: &str, most: usize) -> Result<Vec<String>, String> {
    let mut hosts = Vec::<String>::new();
    for entry in
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty())
    {
        // A host includes its subdomains, so a leading `*.` adds nothing.
        let name = entry.trim_start_matches("*.");
        let address =
            if name.contains("://") { name.to_owned() } else { format!("https://{name}") };
        let host = url::Url::parse(&address).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.map(|host| host.trim_end_matches('.').to_owned());
        let fits = |host: &String| {
            !host.is_empty()
                && host.bytes().all(|b| {
                    b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-')
                })
        };
        let host = host.filter(fits).ok_or_else(|| {
            format!("“{entry}” isn’t a host name. Enter names like www.example.com, one per line.")
        })?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.len() > most {
        return Err(format!("Enter at most {most} hosts. A host includes its subdomains."));
    }
    Ok(hosts)
}

/// `POST /settings/sites`.
pub(in crate::dashboard) async fn add_site(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    let (name, key) = (form.text("name"), key::read(&mut form, "the tag’s URL"));
    if let Some(fault) = name_fault(&name) {
        form.refuse("name", fault);
    }
    if form.is_right() {
        let (store, settings) = (&state.store, &state.settings);
        let added = settings::add_site(store, settings, viewer.now, &key, &name).await?;
        if added == Added::Done {
            let viewer = at(&state, viewer, &key)?;
            let there = viewer.link(&format!("/settings/sites/{key}"));
            return Ok(page::see_other(&there.with("saved", "added").to_string()));
        }
        let fault = key::fault(&added, "Another site or webhook", settings::MAX_SITES, "sites");
        form.refuse("key", fault.unwrap_or_default());
    }
    refuse(&state, &viewer, &form).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> FormData {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        FormData::read(form.extend_pairs(fields).finish().as_bytes())
    }

    #[test]
    fn a_right_site_is_read() {
        let domains =
            "www.shop.com, https://Go.Shop.com:8080/x\n\nwww.shop.com *.shop.de bücher.example";
        let mut form = form(&[
            ("name", " Shop "),
            ("timezone", "america/new_york"),
            ("currency", "eur"),
            ("domains", domains),
            ("consent", "tcf"),
            ("payment_hosts", "Pay.Shop.com"),
            ("linked_domains", "https://shop.fr/"),
            ("auto_stamp", "1"),
        ]);
        let read = read_site(&Site::example(), &mut form);
        assert!(form.is_right());
        assert_eq!((read.name.as_str(), read.currency.code()), ("Shop", "EUR"));
        assert_eq!(read.timezone, "America/New_York");
        assert_eq!(
            read.domains,
            ["www.shop.com", "go.shop.com", "shop.de", "xn--bcher-kva.example"]
        );
        assert_eq!(
            read.tag,
            TagSettings {
                consent: Consent::Tcf,
                is_consent_chosen: true,
                auto_stamp: true,
                payment_hosts: vec!["pay.shop.com".to_owned()],
                linked_domains: vec!["shop.fr".to_owned()],
                capture_anytrack: false,
                yield_to_anytrack: false,
            }
        );
    }

    #[test]
    fn what_is_no_host_name_is_refused() {
        for wrong in
            ["www.*.com", "exa mple^.com", "my_shop.com", "[::1]", "https://", "a|b.com", "<b>"]
        {
            assert!(read_hosts(wrong).is_err(), "{wrong}");
        }
        let many: Vec<String> = (0..21).map(|n| format!("h{n}.com")).collect();
        assert!(read_at_most(&many.join(" "), MAX_BAKED_HOSTS).unwrap_err().contains("at most 20"));
    }

    const WRONG: [(&str, &str); 7] = [
        ("name", ""),
        ("timezone", "Mars/Base"),
        ("currency", "dollar"),
        ("domains", "exa mple^.com"),
        ("consent", "maybe"),
        ("payment_hosts", "checkout.stripe.com"),
        ("linked_domains", "not_a_host"),
    ];

    #[test]
    fn every_wrong_field_says_so_and_keeps_its_value() {
        let mut form = form(&WRONG);
        read_site(&Site::example(), &mut form);
        for (name, value) in WRONG {
            let field = form.field(name, "stored");
            assert!(field.error.is_some() && field.value == value, "{name}");
        }
    }

    #[test]
    fn one_wrong_field_leaves_the_others_alone() {
        let mut form = form(&[("name", "Shop"), ("timezone", "Mars/Base"), ("currency", "USD")]);
        read_site(&Site::example(), &mut form);
        let wrong = WRONG.iter().filter(|(name, _)| form.error(name).is_some());
        assert_eq!(wrong.map(|(name, _)| *name).collect::<Vec<_>>(), ["timezone"]);
    }
}
