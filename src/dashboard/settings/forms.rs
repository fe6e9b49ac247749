//! The forms of the settings.
//! In: what was entered. Out: a record saved and a redirect, or the reason beside the field.
//! Promise: checked before it is written; the message says what was wrong with this value and where the right one is.

use axum::Form;
use axum::extract::State;
use axum::response::Response;
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Refused, SOURCE, refuse};
use crate::config::{Secret, parse_webhook_secrets};
use crate::dashboard::frame::Viewer;
use crate::dashboard::session::see_other;
use crate::dashboard::views::{Field, entered};
use crate::dashboard::{password, table};
use crate::destination;
use crate::error::AppError;
use crate::money::Currency;
use crate::settings::{self, Site};
use crate::state::AppState;

/// Longest name of a site; it stands in every page's first row.
const MAX_NAME_CHARS: usize = 80;
/// Most host names of a site.
const MAX_DOMAINS: usize = 100;

const FROM_ENVIRONMENT: &str = "The environment sets this value, so it cannot be changed here. Change it there and start again.";

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
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct SecretSent {
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct PasswordSent {
    #[serde(default)]
    current: String,
    #[serde(default)]
    new: String,
}

fn saved(viewer: &Viewer, what: &str) -> Response {
    let mode = if viewer.is_test { "&mode=test" } else { "" };
    see_other(&viewer.client, &format!("/settings?saved={what}{mode}"))
}

/// `POST /settings/site`.
pub(in crate::dashboard) async fn save_site(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<SiteSent>,
) -> Result<Response, AppError> {
    match read_site(&viewer.site, &sent) {
        Ok(site) => {
            settings::save_site(&state.store, &state.settings, &site).await?;
            Ok(saved(&viewer, "site"))
        }
        Err(fields) => {
            refuse(&state, &viewer, Refused { site: Some(*fields), ..Refused::default() }).await
        }
    }
}

/// The site as entered, or the four fields with what is wrong in them.
fn read_site(old: &Site, sent: &SiteSent) -> Result<Site, Box<[Field; 4]>> {
    let mut fields = [&sent.name, &sent.timezone, &sent.currency, &sent.domains]
        .map(|text| Field::of(entered(Some(text)).unwrap_or_default()));
    let [name, timezone, currency, domains] = &mut fields;
    if name.value.is_empty() || name.value.chars().count() > MAX_NAME_CHARS {
        name.error = Some(format!("A site needs a name of at most {MAX_NAME_CHARS} characters."));
    }
    match TimeZone::get(&timezone.value) {
        // The zone's own spelling: `europe/berlin` is understood too.
        Ok(zone) => timezone.value = zone.iana_name().unwrap_or(&timezone.value).to_owned(),
        Err(_) => {
            timezone.error = Some(
                "There is no such timezone. It looks like Europe/Berlin or America/New_York."
                    .to_owned(),
            );
        }
    }
    let code = Currency::parse(&currency.value);
    if code.is_none() {
        currency.error = Some("A currency is three letters, such as USD or EUR.".to_owned());
    }
    let hosts = read_domains(&domains.value);
    domains.error = hosts.as_ref().err().cloned();
    match (code, hosts) {
        (Some(currency), Ok(domains)) if fields.iter().all(|field| field.error.is_none()) => {
            Ok(Site {
                name: fields[0].value.clone(),
                timezone: fields[1].value.clone(),
                currency,
                domains,
                ..old.clone()
            })
        }
        _ => Err(Box::new(fields)),
    }
}

/// Host names, one a line; commas and blanks separate too. People paste whole addresses, so their host is taken.
fn read_domains(text: &str) -> Result<Vec<String>, String> {
    let mut hosts = Vec::<String>::new();
    for entry in
        text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty())
    {
        // A name covers all below it, so the star says nothing more.
        let entry = entry.trim_start_matches("*.");
        let address =
            if entry.contains("://") { entry.to_owned() } else { format!("https://{entry}") };
        let host = url::Url::parse(&address).ok().and_then(|url| url.host_str().map(str::to_owned));
        let host = host.filter(|host| !host.contains('*'));
        let host = host.ok_or_else(|| {
            format!("“{entry}” is not a host name. Write names like www.example.com, one a line.")
        })?;
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    if hosts.len() > MAX_DOMAINS {
        return Err(format!(
            "That is too many: at most {MAX_DOMAINS} host names. A name covers all below it."
        ));
    }
    Ok(hosts)
}

/// `POST /settings/stripe`.
pub(in crate::dashboard) async fn save_stripe(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<SecretSent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let source = snapshot
        .stripe_source(SOURCE)
        .ok_or_else(|| AppError::not_found("There is no such source."))?;
    let secrets = if source.from_environment {
        Err(FROM_ENVIRONMENT.to_owned())
    } else {
        read_secrets(&sent.value)
    };
    match secrets {
        Ok(secrets) => {
            settings::save_webhook_secrets(&state.store, &state.settings, source, &secrets).await?;
            Ok(saved(&viewer, "stripe"))
        }
        Err(fault) => {
            refuse(&state, &viewer, Refused { stripe: Some(fault), ..Refused::default() }).await
        }
    }
}

fn read_secrets(text: &str) -> Result<Vec<Secret>, String> {
    let text = entered(Some(text)).unwrap_or_default();
    let secrets = parse_webhook_secrets(&text)
        .map_err(|fault| format!("{fault} What you entered was not kept."))?;
    if secrets.is_empty() {
        return Err("Nothing was entered. The signing secret starts with whsec_ and stands on the endpoint’s own page in Stripe.".to_owned());
    }
    // An endpoint's ID or address would be taken for a secret, and every webhook refused.
    if secrets.iter().any(|secret| !secret.expose().starts_with("whsec_")) {
        return Err(
            "That was no signing secret: it starts with whsec_ and stands on the endpoint’s own page in Stripe. \
             What you entered was not kept."
                .to_owned(),
        );
    }
    Ok(secrets)
}

/// `POST /settings/anytrack`.
pub(in crate::dashboard) async fn save_anytrack(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<SecretSent>,
) -> Result<Response, AppError> {
    let snapshot = state.settings.current();
    let is_fixed = snapshot.destinations_of(&viewer.site.id).any(|found| found.from_environment);
    let url = if is_fixed {
        Err(FROM_ENVIRONMENT.to_owned())
    } else {
        read_url(&sent.value, state.config.allow_private_destinations)
    };
    match url {
        Ok(url) => {
            let site_id = &viewer.site.id;
            settings::save_anytrack_url(&state.store, &state.settings, viewer.now, site_id, &url)
                .await?;
            state.bells.delivery_owed.notify_one();
            Ok(saved(&viewer, "anytrack"))
        }
        Err(fault) => {
            refuse(&state, &viewer, Refused { anytrack: Some(fault), ..Refused::default() }).await
        }
    }
}

fn read_url(text: &str, allow_private: bool) -> Result<Secret, String> {
    let text = entered(Some(text)).unwrap_or_default();
    if text.is_empty() {
        return Err("Nothing was entered. The address stands in AnyTrack on your custom integration’s own page; copy it whole.".to_owned());
    }
    destination::check_url(&text, allow_private)
        .map_err(|fault| format!("{fault} What you entered was not kept."))?;
    Ok(Secret::new(text))
}

/// `POST /settings/password`.
pub(in crate::dashboard) async fn change_password(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<PasswordSent>,
) -> Result<Response, AppError> {
    let mut refused = Refused::default();
    let user = table::find_user(&state.store, &viewer.user.email).await?;
    let stored = user.as_ref().map(|user| user.password_hash.as_str());
    let fits = sent.current.len() <= password::MAX_BYTES
        && password::fits(&Secret::new(sent.current), stored).await?;
    if !fits {
        refused.current_password = Some("That is not the password you signed in with.".to_owned());
    }
    refused.new_password = password::fault(&sent.new).map(str::to_owned);
    if refused.current_password.is_some() || refused.new_password.is_some() {
        return refuse(&state, &viewer, refused).await;
    }
    let hash = password::hash(&Secret::new(sent.new)).await?;
    table::set_password(&state.store, &viewer.user.email, &hash, &viewer.user.token_hash).await?;
    Ok(saved(&viewer, "password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            id: "site_1".to_owned(),
            number: 1,
            key: "main".to_owned(),
            name: "My site".to_owned(),
            timezone: "UTC".to_owned(),
            currency: Currency::parse("usd").unwrap(),
            domains: Vec::new(),
        }
    }

    fn sent(name: &str, timezone: &str, currency: &str, domains: &str) -> SiteSent {
        SiteSent {
            name: name.to_owned(),
            timezone: timezone.to_owned(),
            currency: currency.to_owned(),
            domains: domains.to_owned(),
        }
    }

    #[test]
    fn a_right_site_is_read() {
        let domains = "www.shop.com, https://Go.Shop.com:8080/x\n\nwww.shop.com *.shop.de";
        let read =
            read_site(&site(), &sent(" Shop ", "america/new_york", "eur", domains)).ok().unwrap();
        assert_eq!((read.name.as_str(), read.currency.code()), ("Shop", "EUR"));
        assert_eq!(read.timezone, "America/New_York");
        assert_eq!(read.domains, ["www.shop.com", "go.shop.com", "shop.de"]);
        assert!(read_domains("www.*.com").is_err());
    }

    #[test]
    fn every_wrong_field_says_so_and_keeps_its_value() {
        let fields =
            read_site(&site(), &sent("", "Mars/Base", "dollar", "exa mple^.com")).err().unwrap();
        assert!(fields.iter().all(|field| field.error.is_some()));
        assert_eq!(fields[1].value, "Mars/Base");
        let fields = read_site(&site(), &sent("Shop", "Mars/Base", "USD", "")).err().unwrap();
        assert_eq!(fields.iter().filter(|field| field.error.is_some()).count(), 1);
    }

    #[test]
    fn refused_secrets_are_explained_and_never_repeated() {
        let fault = read_secrets("sk_live_hunter2").unwrap_err();
        assert!(fault.starts_with("That was an API key: it started with sk_."), "{fault}");
        assert!(!fault.contains("hunter2"));
        assert!(read_secrets(" , ").is_err());
        assert_eq!(read_secrets("whsec_a,whsec_b").unwrap().len(), 2);
        for wrong in ["whsec_a,we_1Nabc", "https://go.shop.com/webhooks/stripe/main"] {
            assert!(read_secrets(wrong).unwrap_err().contains("starts with whsec_"), "{wrong}");
        }
    }

    #[test]
    fn refused_addresses_are_explained_and_never_repeated() {
        let rows = [
            ("", "Nothing was entered."),
            ("hunter2", "That is not a URL."),
            ("ftp://hunter2.example/b", "The URL must start with https://."),
            ("http://hunter2.example/b", "The URL starts with http://."),
            ("https://hunter2:pw@t1.anytrack.io/b", "The URL holds a user name or password."),
            ("https://10.0.0.1/hunter2", "10.0.0.1 is a private or local address."),
        ];
        for (wrong, start) in rows {
            let fault = read_url(wrong, false).unwrap_err();
            assert!(fault.starts_with(start) && !fault.contains("hunter2"), "{wrong}: {fault}");
        }
        assert!(read_url("http://127.0.0.1:9000/a", true).is_ok());
        assert!(read_url(" https://t1.anytrack.io/a/collect/b ", false).is_ok());
    }
}
