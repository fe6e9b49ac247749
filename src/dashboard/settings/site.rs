//! The settings of a site, and the form that adds one. Takes form fields; saves a record and redirects, or shows the form
//! again with errors. Hosts are stored as browsers write them, so that the tag can compare them.

use askama::Template;
use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Refused, SettingsQuery, key, refuse};
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::{Field, entered};
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

/// The form as browsers send it; unchecked boxes are missing.
#[derive(Deserialize)]
pub(in crate::dashboard) struct SiteSent {
    #[serde(default)]
    name: String,
    #[serde(default)]
    timezone: String,
    #[serde(default)]
    currency: String,
    #[serde(default)]
    domains: String,
    /// If missing, it is not changed: a form without it must not turn off required consent.
    consent: Option<String>,
    #[serde(default)]
    payment_hosts: String,
    #[serde(default)]
    linked_domains: String,
    auto_stamp: Option<String>,
    capture_anytrack: Option<String>,
    yield_to_anytrack: Option<String>,
}

/// The form's fields as entered, with their errors.
struct Entered {
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

impl Entered {
    fn of(site: &Site) -> Self {
        Self {
            name: Field::of(site.name.as_str()),
            timezone: Field::of(site.timezone.as_str()),
            currency: Field::of(site.currency.code()),
            domains: Field::of(site.domains.join("\n")),
            consent: Field::of(site.tag.consent.as_str()),
            payment_hosts: Field::of(site.tag.payment_hosts.join("\n")),
            linked_domains: Field::of(site.tag.linked_domains.join("\n")),
            auto_stamp: site.tag.auto_stamp,
            capture_anytrack: site.tag.capture_anytrack,
            yield_to_anytrack: site.tag.yield_to_anytrack,
        }
    }

    fn read(old: &Site, sent: &SiteSent) -> Self {
        let field = |text: &str| Field::of(entered(Some(text)).unwrap_or_default());
        Self {
            name: field(&sent.name),
            timezone: field(&sent.timezone),
            currency: field(&sent.currency),
            domains: field(&sent.domains),
            consent: field(sent.consent.as_deref().unwrap_or(old.tag.consent.as_str())),
            payment_hosts: field(&sent.payment_hosts),
            linked_domains: field(&sent.linked_domains),
            auto_stamp: sent.auto_stamp.is_some(),
            capture_anytrack: sent.capture_anytrack.is_some(),
            yield_to_anytrack: sent.yield_to_anytrack.is_some(),
        }
    }

    fn fields(&self) -> [&Field; 7] {
        let Self {
            name, timezone, currency, domains, consent, payment_hosts, linked_domains, ..
        } = self;
        [name, timezone, currency, domains, consent, payment_hosts, linked_domains]
    }
}

/// One consent option.
struct ConsentChoice {
    word: &'static str,
    label: &'static str,
    hint: &'static str,
    is_chosen: bool,
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
    form: Entered,
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
    let form = Entered::of(&viewer.site);
    page::show(&site_page(&state, &viewer, done, form).await?)
}

/// `POST /settings/sites/{key}`.
pub(in crate::dashboard) async fn save_site(
    State(state): State<AppState>,
    viewer: Viewer,
    Path(key): Path<String>,
    Form(sent): Form<SiteSent>,
) -> Result<Response, AppError> {
    let viewer = at(&state, viewer, &key)?;
    match read_site(&viewer.site, &sent) {
        Ok(site) => {
            settings::save_site(&state.store, &state.settings, &site).await?;
            let here = viewer.link(&format!("/settings/sites/{key}"));
            Ok(page::see_other(&here.with("saved", "site").to_string()))
        }
        Err(form) => {
            let page = site_page(&state, &viewer, None, *form).await?;
            Ok((StatusCode::UNPROCESSABLE_ENTITY, page::show(&page)?).into_response())
        }
    }
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
    form: Entered,
) -> Result<SitePage, AppError> {
    let site = &viewer.site;
    Ok(SitePage {
        frame: viewer.frame(state, Tab::Settings).await?,
        key: site.key.clone(),
        done,
        action: viewer.link(&format!("/settings/sites/{}", site.key)).to_string(),
        back: viewer.link("/settings").to_string(),
        consents: Consent::ALL
            .iter()
            .map(|one| consent_choice(*one, &form.consent.value))
            .collect(),
        form,
        timezones: jiff::tz::db().available().map(|name| name.to_string()).collect(),
        has_anytrack: state.settings.current().anytrack_of(&site.id).is_some(),
    })
}

fn consent_choice(consent: Consent, chosen: &str) -> ConsentChoice {
    let (label, hint) = match consent {
        Consent::Off => ("Don’t ask", "The tag works as soon as the page opens."),
        Consent::Required => (
            "Ask on the page",
            "The tag waits until your page calls clickstamp(\"consent\", true). Until then it stores, stamps and sends nothing.",
        ),
        Consent::Google => ("Google’s consent mode", "The tag waits until ad_storage is granted."),
        Consent::Tcf => {
            ("A consent tool with TCF", "The tag waits until purposes 1 and 7 have consent.")
        }
    };
    ConsentChoice { word: consent.as_str(), label, hint, is_chosen: consent.as_str() == chosen }
}

/// The site as entered, or the fields with errors.
fn read_site(old: &Site, sent: &SiteSent) -> Result<Site, Box<Entered>> {
    let mut form = Entered::read(old, sent);
    form.name.error = name_fault(&form.name.value);
    match TimeZone::get(&form.timezone.value) {
        // Stores the official spelling: `europe/berlin` is accepted, too.
        Ok(zone) => {
            form.timezone.value = zone.iana_name().unwrap_or(&form.timezone.value).to_owned()
        }
        Err(_) => {
            form.timezone.error = Some(
                "Unknown timezone. Use a name like Europe/Berlin or America/New_York.".to_owned(),
            );
        }
    }
    let currency = Currency::parse(&form.currency.value);
    if currency.is_none() {
        form.currency.error = Some("A currency is three letters, such as USD or EUR.".to_owned());
    }
    let consent = Consent::parse(&form.consent.value);
    if consent.is_none() {
        form.consent.error = Some("Select one of the options.".to_owned());
    }
    let hosts = |field: &mut Field, most: usize| {
        let hosts = read_at_most(&field.value, most);
        field.error = hosts.as_ref().err().cloned();
        hosts.unwrap_or_default()
    };
    let domains = hosts(&mut form.domains, MAX_HOSTS);
    let payment_hosts = hosts(&mut form.payment_hosts, MAX_BAKED_HOSTS);
    let linked_domains = hosts(&mut form.linked_domains, MAX_BAKED_HOSTS);
    if let Some(checkout) =
        payment_hosts.iter().find(|host| settings::shows_existing_checkout(host))
    {
        form.payment_hosts.error = Some(format!(
            "{checkout} shows existing checkouts, which can’t get a reference. Enter the host of your payment links."
        ));
    }
    match (currency, consent) {
        (Some(currency), Some(consent))
            if form.fields().iter().all(|field| field.error.is_none()) =>
        {
            Ok(Site {
                name: form.name.value,
                timezone: form.timezone.value,
                currency,
                domains,
                tag: TagSettings {
                    consent,
                    auto_stamp: form.auto_stamp,
                    payment_hosts,
                    linked_domains,
                    capture_anytrack: form.capture_anytrack,
                    yield_to_anytrack: form.yield_to_anytrack,
                },
                ..old.clone()
            })
        }
        _ => Err(Box::new(form)),
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

/// The form of a new site.
#[derive(Deserialize)]
pub(in crate::dashboard) struct NewSiteSent {
    #[serde(default)]
    name: String,
    #[serde(default)]
    key: String,
}

/// `POST /settings/sites`.
pub(in crate::dashboard) async fn add_site(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<NewSiteSent>,
) -> Result<Response, AppError> {
    let mut name = Field::of(entered(Some(&sent.name)).unwrap_or_default());
    let mut key = key::read(&sent.key, "the tag’s URL");
    name.error = name_fault(&name.value);
    if name.error.is_none() && key.error.is_none() {
        let (store, settings) = (&state.store, &state.settings);
        let added =
            settings::add_site(store, settings, viewer.now, &key.value, &name.value).await?;
        if added == Added::Done {
            let viewer = at(&state, viewer, &key.value)?;
            let there = viewer.link(&format!("/settings/sites/{}", key.value));
            return Ok(page::see_other(&there.with("saved", "added").to_string()));
        }
        key.error = key::fault(&added, "Another site or webhook", settings::MAX_SITES, "sites");
    }
    refuse(&state, &viewer, Refused { new_site: Some([name, key]), ..Refused::default() }).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(name: &str, timezone: &str, currency: &str, domains: &str) -> SiteSent {
        SiteSent {
            name: name.to_owned(),
            timezone: timezone.to_owned(),
            currency: currency.to_owned(),
            domains: domains.to_owned(),
            consent: None,
            payment_hosts: String::new(),
            linked_domains: String::new(),
            auto_stamp: None,
            capture_anytrack: None,
            yield_to_anytrack: None,
        }
    }

    #[test]
    fn a_right_site_is_read() {
        let domains =
            "www.shop.com, https://Go.Shop.com:8080/x\n\nwww.shop.com *.shop.de bücher.example";
        let sent = SiteSent {
            consent: Some("tcf".to_owned()),
            payment_hosts: "Pay.Shop.com".to_owned(),
            linked_domains: "https://shop.fr/".to_owned(),
            auto_stamp: Some("1".to_owned()),
            ..sent(" Shop ", "america/new_york", "eur", domains)
        };
        let read = read_site(&Site::example(), &sent).ok().unwrap();
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

    #[test]
    fn every_wrong_field_says_so_and_keeps_its_value() {
        let sent = SiteSent {
            consent: Some("maybe".to_owned()),
            payment_hosts: "checkout.stripe.com".to_owned(),
            linked_domains: "not_a_host".to_owned(),
            ..sent("", "Mars/Base", "dollar", "exa mple^.com")
        };
        let form = read_site(&Site::example(), &sent).err().unwrap();
        assert!(form.fields().iter().all(|field| field.error.is_some()));
        assert_eq!(form.timezone.value, "Mars/Base");
    }

    #[test]
    fn one_wrong_field_leaves_the_others_alone() {
        let form =
            read_site(&Site::example(), &sent("Shop", "Mars/Base", "USD", "")).err().unwrap();
        assert_eq!(form.fields().iter().filter(|field| field.error.is_some()).count(), 1);
    }
}
