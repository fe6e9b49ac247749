//! The setup page: six steps. Takes the settings and the health report; returns steps with the evidence that they are
//! done, or with text to copy. Only real data completes a step, never a click, and each completed step shows its evidence.

mod place;

use std::time::Duration;

use anyhow::Result;
use askama::Template;
use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::settings::{
    ConsentChoice, Copied, add_anytrack, consent_choices, copied, explain, read_hosts,
};
use crate::dashboard::views::times::Moment;
use crate::dashboard::views::{Chip, numbers, words};
use crate::dashboard::{assets, page};
use crate::domain::{MatchState, Word as _};
use crate::error::AppError;
use crate::report::{self, ConversionFilter, ConversionRow, Health, VisitFilter, VisitRow};
use crate::settings::{self, Consent, Destination, TagSettings};
use crate::state::AppState;
use crate::visit;

/// Progress of the setup, for the empty overview.
pub(in crate::dashboard) struct Progress {
    pub(in crate::dashboard) href: String,
    pub(in crate::dashboard) done: usize,
    pub(in crate::dashboard) steps: usize,
}

/// How long the step of Stripe shows the reason of a rejected webhook.
const REFUSED_SINCE: Duration = Duration::from_secs(7 * 86_400);

/// One step.
struct Step {
    number: usize,
    title: &'static str,
    is_done: bool,
    /// Whether it is the first step that is not done.
    is_current: bool,
    /// The evidence, or what is missing.
    text: String,
    /// Time of the evidence.
    at: Option<Moment>,
    /// Text to copy; may be empty.
    copy: String,
    copy_label: &'static str,
    link: Option<(String, &'static str)>,
    /// What the tag may store, to choose from; empty in other steps.
    consents: Vec<ConsentChoice>,
    chip: Chip,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct SetupPage {
    frame: Frame,
    summary: String,
    /// Confirmation of the last action.
    done: Option<&'static str>,
    /// Where the choice of what the tag stores is sent.
    choose: String,
    alarms: Vec<place::Alarm>,
    steps: Vec<Step>,
    place: place::Place,
    unknown_hosts: Vec<place::UnknownHost>,
    extras: Vec<place::Extra>,
    types: String,
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct SetupQuery {
    saved: Option<String>,
}

/// `GET /setup`.
pub(in crate::dashboard) async fn show_setup(
    State(state): State<AppState>,
    viewer: Viewer,
    Query(query): Query<SetupQuery>,
) -> Result<Response, AppError> {
    let frame = viewer.frame(&state, Tab::Setup).await?;
    let signs = report::tag_signs(&state.store, &viewer.site.id, viewer.now).await?;
    let steps = steps(&state, &viewer, &frame.health).await?;
    let done = steps.iter().filter(|step| step.is_done).count();
    let summary = if done == steps.len() {
        "All steps are done. Each shows its latest data.".to_owned()
    } else {
        format!(
            "{done} of {} steps done. They complete automatically; reload this page to see progress.",
            steps.len()
        )
    };
    let done = match query.saved.as_deref() {
        Some("host") => {
            Some("Host accepted. Its visits are counted, including those of the last 90 days.")
        }
        Some("consent") => Some("Saved. Pages use it when they next load the tag."),
        _ => None,
    };
    let choose = viewer.link("/setup/consent").to_string();
    page::show(&SetupPage {
        frame,
        summary,
        done,
        choose,
        alarms: place::alarms(&viewer, &signs),
        steps,
        place: place::place(&viewer, &signs).await,
        unknown_hosts: place::unknown_hosts(&viewer, &signs),
        extras: place::extras(&viewer, &state.settings.current())?,
        types: format!("{}{}", viewer.client.prefix(), assets::types()),
    })
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct HostSent {
    #[serde(default)]
    host: String,
}

/// `POST /setup/hosts`: adds a host whose visits were seen to the site.
pub(in crate::dashboard) async fn accept_host(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<HostSent>,
) -> Result<Response, AppError> {
    let hosts = read_hosts(&sent.host)
        .map_err(|fault| AppError::new(StatusCode::UNPROCESSABLE_ENTITY, fault))?;
    let [host] =
        <[String; 1]>::try_from(hosts).map_err(|_| AppError::bad_request("Enter one host."))?;
    let mut site = viewer.site.clone();
    // A site without hosts counts all hosts.
    if !site.domains.is_empty() && !site.domains.contains(&host) {
        site.domains.push(host.clone());
        settings::save_site(&state.store, &state.settings, &site).await?;
    }
    visit::count_host(&state.store, viewer.now, &site.id, &host).await?;
    Ok(page::see_other(&viewer.link("/setup").with("saved", "host").to_string()))
}

#[derive(Deserialize)]
pub(in crate::dashboard) struct ConsentSent {
    #[serde(default)]
    consent: String,
}

/// `POST /setup/consent`: stores what the owner chose for the site's tag.
pub(in crate::dashboard) async fn choose_consent(
    State(state): State<AppState>,
    viewer: Viewer,
    Form(sent): Form<ConsentSent>,
) -> Result<Response, AppError> {
    let consent = Consent::parse(&sent.consent)
        .ok_or_else(|| AppError::bad_request("Choose what the tag stores."))?;
    let mut site = viewer.site.clone();
    site.tag = TagSettings { consent, is_consent_chosen: true, ..site.tag };
    settings::save_site(&state.store, &state.settings, &site).await?;
    Ok(page::see_other(&viewer.link("/setup").with("saved", "consent").to_string()))
}

/// Progress of the setup, or `None` if a visit or an event was ever received.
pub(in crate::dashboard) async fn progress_if_new(
    state: &AppState,
    viewer: &Viewer,
    health: &Health,
) -> Result<Option<Progress>> {
    if health.last_visit_at.is_some() || health.last_event_at.is_some() {
        return Ok(None);
    }
    let steps = steps(state, viewer, health).await?;
    let done = steps.iter().filter(|step| step.is_done).count();
    Ok(Some(Progress { href: viewer.link("/setup").to_string(), done, steps: steps.len() }))
}

async fn steps(state: &AppState, viewer: &Viewer, health: &Health) -> Result<Vec<Step>> {
    let filter = VisitFilter {
        site_id: Some(viewer.site.id.clone()),
        // If no visit was counted, one that was not shows the reason.
        bots: Some(health.last_visit_at.is_none()),
        ..VisitFilter::default()
    };
    let visit = report::visits(&state.store, &filter, None, 1).await?.rows.pop();
    let filter = ConversionFilter {
        site_id: Some(viewer.site.id.clone()),
        match_state: Some(MatchState::Matched),
        ..ConversionFilter::default()
    };
    let matched = report::conversions(&state.store, &filter, None, 1).await?.rows.pop();
    let mut steps = vec![
        site(viewer),
        consent(viewer),
        tag(state, viewer, health, visit.as_ref()),
        link(state, viewer, matched.as_ref()),
        stripe(state, viewer).await?,
        destination(state, viewer).await?,
    ];
    if let Some(current) = steps.iter_mut().find(|step| !step.is_done) {
        current.is_current = true;
    }
    for (at, step) in steps.iter_mut().enumerate() {
        step.number = at + 1;
        step.chip = match (step.is_done, step.is_current) {
            (true, _) => Chip::ok("Done"),
            (false, true) => Chip::wait("Not yet"),
            (false, false) => Chip::quiet("To do"),
        };
    }
    Ok(steps)
}

fn step(title: &'static str, is_done: bool, text: String) -> Step {
    Step {
        number: 0,
        title,
        is_done,
        is_current: false,
        text,
        at: None,
        copy: String::new(),
        copy_label: "",
        link: None,
        consents: Vec::new(),
        chip: Chip::quiet(""),
    }
}

fn to_copy(state: &AppState, viewer: &Viewer) -> Copied {
    copied(&state.settings.current(), &viewer.client.base, &viewer.site)
}

/// Name of the site after the first start.
const UNNAMED: &str = "My site";

fn site(viewer: &Viewer) -> Step {
    let site = &viewer.site;
    let facts = format!("times in {}, main currency {}", viewer.times.place, site.currency);
    let is_named = site.name != UNNAMED;
    let text = if is_named {
        format!("{}, {facts}.", site.name)
    } else {
        format!("It is still named “{UNNAMED}”, {facts}. Set its name, timezone and currency.")
    };
    let title = if is_named { "Your site is added" } else { "Name your site" };
    let link = site_settings(viewer);
    Step { link: Some((link, "Open the site’s settings")), ..step(title, is_named, text) }
}

fn consent(viewer: &Viewer) -> Step {
    let TagSettings { consent, is_consent_chosen, .. } = viewer.site.tag;
    if !is_consent_chosen {
        let text = "Until you choose, the first applies.".to_owned();
        let consents = consent_choices(consent.as_str());
        return Step { consents, ..step("Choose what the tag stores", false, text) };
    }
    let text = format!("{}.", explain(consent).0);
    let link = Some((site_settings(viewer), "Change it"));
    Step { link, ..step("You chose what the tag stores", true, text) }
}

fn site_settings(viewer: &Viewer) -> String {
    viewer.link(&format!("/settings/sites/{}", viewer.site.key)).to_string()
}

fn tag(state: &AppState, viewer: &Viewer, health: &Health, visit: Option<&VisitRow>) -> Step {
    let snippet = to_copy(state, viewer).snippet;
    let page = visit
        .and_then(|visit| Some((visit.landing_host.as_deref()?, visit.landing_path.as_deref()?)));
    let page = page.map_or_else(String::new, |(host, path)| format!(" on {host}{path}"));
    let Some(at) = health.last_visit_at else {
        let text = "Put these two lines into the <head> of every page with a payment link, then open the page once.";
        let not_counted = visit.map(|_| {
            format!(
                "A visit{page} was not counted: a bot opened the page, or its host isn’t in the site’s settings."
            )
        });
        return Step {
            copy: snippet,
            copy_label: "The tag",
            link: not_counted.is_some().then(|| (site_settings(viewer), "Check the hosts")),
            ..step(
                "Put the tag on your page",
                false,
                not_counted.unwrap_or_else(|| text.to_owned()),
            )
        };
    };
    Step {
        at: Some(viewer.times.short_second(at, viewer.now)),
        // For further pages.
        copy: snippet,
        copy_label: "The tag",
        link: Some((viewer.link("/visits").to_string(), "See the visits")),
        ..step("The tag is on your page", true, format!("Latest visit{page},"))
    }
}

fn link(state: &AppState, viewer: &Viewer, matched: Option<&ConversionRow>) -> Step {
    let title = "A payment link carries the click ID";
    match matched {
        Some(row) => {
            let amount = row.amount.map_or_else(String::new, numbers::money);
            let href = viewer.link(&format!("/conversions/{}", row.id)).to_string();
            Step {
                at: Some(viewer.times.short(row.occurred_at, viewer.now)),
                link: Some((href, "See the customer journey")),
                ..step(title, true, format!("A payment of {amount} was matched to a visit,"))
            }
        }
        None => Step {
            copy: to_copy(state, viewer).ending,
            copy_label: "Payment link parameter",
            ..step(
                title,
                false,
                "Add this text to the end of every payment link. If the link already has a ?, start with & instead. \
                 The tag replaces --CLICK-ID-- when the page opens. The first matched payment, live or test, \
                 completes this step."
                    .to_owned(),
            )
        },
    }
}

async fn stripe(state: &AppState, viewer: &Viewer) -> Result<Step> {
    let title = "Stripe sends events";
    let snapshot = state.settings.current();
    let has_secret =
        snapshot.stripe_source_of(&viewer.site.id).is_some_and(|source| !source.secrets.is_empty());
    let filter = report::EventFilter {
        site_id: Some(viewer.site.id.clone()),
        ..report::EventFilter::default()
    };
    let newest = report::stripe_events(&state.store, &filter, None, 1).await?.rows.pop();
    if let Some(event) = newest {
        let mode = if event.livemode { "live" } else { "test" };
        return Ok(Step {
            at: Some(viewer.times.short_second(event.received_at, viewer.now)),
            link: Some((viewer.link("/events").to_string(), "See Stripe events")),
            ..step(title, true, format!("Latest event: {}, {mode} mode,", event.kind))
        });
    }
    let since = viewer.now.minus(REFUSED_SINCE);
    let refused = report::rejections(&state.store, &viewer.site.id, since).await?;
    let newest = refused.iter().max_by_key(|rejection| rejection.last_at_ms);
    let settings = match snapshot.stripe_source_of(&viewer.site.id) {
        Some(source) => viewer.link(&format!("/settings/sources/{}", source.key)).to_string(),
        None => viewer.link("/settings/sources").to_string(),
    };
    let text = match newest {
        Some(newest) if has_secret || newest.reason != "config" => {
            let at = viewer.times.short_second(Timestamp::from_ms(newest.last_at_ms), viewer.now);
            let why = words::rejected(&newest.reason);
            return Ok(Step {
                link: Some((settings, "Enter the signing secret")),
                ..step(
                    title,
                    false,
                    format!(
                        "A webhook arrived at {}, but it was rejected: {why}. Find the right secret in Stripe on this \
                         endpoint’s page.",
                        at.text
                    ),
                )
            });
        }
        _ if has_secret => {
            "The signing secret is set, but Stripe has not sent anything yet. Check that the endpoint in Stripe, under \
             Developers, Webhooks, has this URL."
        }
        _ => {
            "In Stripe, under Developers, Webhooks, add this endpoint. The next page lists the events to select there, and \
             has a field for the signing secret that Stripe then shows."
        }
    };
    let label = if has_secret { "Open the webhook" } else { "Select events, enter the secret" };
    Ok(Step {
        copy: to_copy(state, viewer).webhook,
        copy_label: "Endpoint URL",
        link: Some((settings, label)),
        ..step(title, false, text.to_owned())
    })
}

async fn destination(state: &AppState, viewer: &Viewer) -> Result<Step> {
    let title = "A destination accepts messages";
    let snapshot = state.settings.current();
    let known: Vec<&Destination> = snapshot.destinations_about(&viewer.site).collect();
    let Some(first) = known.first() else {
        let text = "For AnyTrack, enter the webhook URL that it shows for your custom integration. For Zapier, Make, Slack \
                    or your own program, add a destination in the settings.";
        let link = Some((add_anytrack(viewer), "Enter the AnyTrack URL"));
        return Ok(Step { link, ..step(title, false, text.to_owned()) });
    };
    let mut sites: Vec<&str> = known.iter().map(|found| found.site_id.as_str()).collect();
    sites.sort_unstable();
    sites.dedup();
    let (mut newest, mut sent) = (None, None);
    for site_id in sites {
        for totals in report::destination_totals(&state.store, site_id).await? {
            let Some(found) = known.iter().find(|found| found.id == totals.destination_id) else {
                continue;
            };
            newest = newest.max(totals.last_accepted_at.map(|at| (at, found.name.as_str())));
            if totals.pending + totals.given_up > 0 {
                sent = Some(found.name.as_str());
            }
        }
    }
    let link = Some((viewer.link("/deliveries").to_string(), "See the deliveries"));
    Ok(match (newest, sent) {
        (Some((at, name)), _) => Step {
            at: Some(viewer.times.short_second(at, viewer.now)),
            link,
            ..step(title, true, format!("{name} accepted a message,"))
        },
        (None, Some(name)) => {
            let text = format!(
                "{name} has not accepted a message yet. The deliveries show its responses."
            );
            Step { link, ..step(title, false, text) }
        }
        (None, None) => {
            let name = &first.name;
            let text = format!(
                "{name} is set. The first live payment that it accepts completes this step."
            );
            Step { link, ..step(title, false, text) }
        }
    })
}
