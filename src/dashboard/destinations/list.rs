//! The list of destinations, and the form that adds one. Takes a name, a URL and a preset; returns the status of each
//! destination, or adds a new one. A new webhook's secret is shown once, in the response, so that it is in no URL.

use askama::Template;
use axum::extract::{RawQuery, State};
use axum::response::Response;

use super::form::{name_fault, url_fault};
use super::{ADDED, Draft, OWN_ADDRESS, destination_page};
use crate::config::Secret;
use crate::dashboard::form::FormData;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::numbers::{count, counted};
use crate::dashboard::views::times::{self, Moment};
use crate::dashboard::views::{Chip, Field};
use crate::destination::{self, presets};
use crate::error::AppError;
use crate::report::{self, DestinationTotals};
use crate::settings::{self, Destination, NewDestination};
use crate::state::AppState;

#[derive(Template)]
#[template(path = "destinations.html")]
struct ListPage {
    frame: Frame,
    items: Vec<Item>,
    action: String,
    back: String,
    new_name: Field,
    new_url: Field,
    preset: String,
    presets: Vec<(&'static str, &'static str)>,
    faults: Vec<String>,
}

struct Item {
    name: String,
    href: String,
    address: String,
    kind: &'static str,
    state: Chip,
    note: String,
    rate: String,
    pending: String,
    oldest: Option<Moment>,
    given_up: String,
    log: String,
}

/// `GET /settings/destinations`.
pub(in crate::dashboard) async fn list_destinations(
    State(state): State<AppState>,
    viewer: Viewer,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    // A link may preset the kind and the name.
    let begun = FormData::read(query.unwrap_or_default().as_bytes());
    page::show(&list_page(&state, &viewer, begun).await?)
}

async fn list_page(
    state: &AppState,
    viewer: &Viewer,
    form: FormData,
) -> Result<ListPage, AppError> {
    let snapshot = state.settings.current();
    let sums = report::destination_totals(&state.store, &viewer.site.id).await?;
    let down = report::down(&state.store).await?;
    let item = |found: &Destination| {
        let none = DestinationTotals::default();
        let sum = sums.iter().find(|sum| sum.destination_id == found.id).unwrap_or(&none);
        let down = down.iter().find(|(id, _)| *id == found.id).map(|(_, down)| down);
        let (state, note) = health(viewer, found, sum, down);
        Item {
            name: found.name.clone(),
            href: viewer.link(&format!("/settings/destinations/{}", found.key)).to_string(),
            address: settings::mask_url(&found.url),
            kind: destination::kind(found.kind).name,
            state,
            note,
            rate: success_rate(sum),
            pending: count(sum.pending + sum.held),
            oldest: sum.oldest_pending_at.map(|at| viewer.times.short(at, viewer.now)),
            given_up: count(sum.given_up),
            log: viewer.link("/deliveries").with("destination", found.key.as_str()).to_string(),
        }
    };
    Ok(ListPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        items: snapshot.destinations_of(&viewer.site.id).map(item).collect(),
        action: viewer.link("/settings/destinations").to_string(),
        back: viewer.link("/settings").to_string(),
        new_name: form.field("name", ""),
        new_url: form.field("url", ""),
        preset: form.text("preset"),
        presets: std::iter::once(("webhook", "Webhook (signed, complete conversion)"))
            .chain(presets::PRESETS.iter().map(|preset| (preset.word, preset.name)))
            .collect(),
        faults: form.general,
    })
}

/// The share of finished deliveries that were accepted.
fn success_rate(sum: &DestinationTotals) -> String {
    let ended = sum.accepted + sum.given_up;
    if ended == 0 { "–".to_owned() } else { format!("{} %", sum.accepted * 100 / ended) }
}

pub(super) fn health(
    viewer: &Viewer,
    found: &Destination,
    sum: &DestinationTotals,
    down: Option<&report::Down>,
) -> (Chip, String) {
    if !found.enabled {
        let note =
            format!("{} paused; nothing is lost", counted(sum.held, "delivery", "deliveries"));
        return (Chip::quiet("Disabled"), note);
    }
    if let Some(down) = down {
        let since = viewer.times.ago(down.since, viewer.now);
        let probe = down.probe_at.map(|at| times::distance(at.since(viewer.now)));
        let next =
            probe.map_or_else(String::new, |probe| format!(" The next probe is in {probe}."));
        let error = down.error.as_deref().unwrap_or_default();
        return (Chip::bad("Failing"), format!("Since {since}: {error}.{next}"));
    }
    let chip = if sum.pending > 0 {
        Chip::wait(format!("{} pending", count(sum.pending)))
    } else if sum.last_accepted_at.is_some() {
        Chip::ok("Working")
    } else {
        Chip::quiet("Nothing sent yet")
    };
    (chip, String::new())
}

/// `POST /settings/destinations`: adds a destination.
pub(in crate::dashboard) async fn add_destination(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    let (name, url) = (form.text("name"), form.text("url"));
    if let Some(fault) = name_fault(&name) {
        form.refuse("name", fault);
    }
    let preset = form.text("preset");
    let template = presets::Preset::find(&preset);
    let kind_of = destination::of_preset(&preset);
    let kind = destination::kind(kind_of);
    let is_on = template.map_or(kind.url_is_on, |template| template.url_is_on);
    if let Some(fault) = url_fault(&url, is_on, state.config.allow_private_destinations) {
        form.refuse("url", fault);
    }
    if viewer.client.is_ours(&url) {
        form.refuse("url", OWN_ADDRESS);
    }
    let known = state.settings.current();
    let mut known = known.destinations_of(&viewer.site.id);
    if let Some(known) = known
        .find(|known| destination::kind(known.kind).counts_repeats && known.url.expose() == url)
    {
        form.refuse(
            "url",
            format!("{} already uses this URL. Every sale would be sent twice.", known.name),
        );
    }
    if form.is_right() {
        let options = (kind.new_options)(&preset);
        let secret = Secret::new(destination::new_secret());
        let new = NewDestination {
            site_id: &viewer.site.id,
            kind: kind_of,
            name: &name,
            url: &Secret::new(url),
            options: &options,
            secret: kind.is_signed.then_some(&secret),
        };
        let by = &viewer.user.email;
        let id =
            settings::add_destination(&state.store, &state.settings, viewer.now, &new, by).await?;
        let snapshot = state.settings.current();
        if let Some(added) = id.and_then(|id| snapshot.destination(&id).cloned()) {
            // Zapier, Slack and similar tools have no field for a secret. The destination's page can create one.
            if kind.is_signed && template.is_none() {
                let done = Some(ADDED.to_owned());
                let draft =
                    Draft { secret: Some(secret.expose().to_owned()), done, ..Draft::of(&added) };
                return page::show(&destination_page(&state, &viewer, &added, draft).await?);
            }
            let there = viewer.link(&format!("/settings/destinations/{}", added.key));
            return Ok(page::see_other(&there.with("done", "added").to_string()));
        }
        let most = settings::MAX_DESTINATIONS;
        form.general.push(format!("You already have {most} destinations, which is the maximum."));
    }
    let page = list_page(&state, &viewer, form).await?;
    page::refuse(&page)
}
