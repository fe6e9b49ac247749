//! The list of Stripe webhook endpoints, and reconciliation with Stripe. Takes the key of a new endpoint; returns the
//! page, or adds a record and redirects. Each endpoint shows its last event; each difference names the payment,
//! refund or dispute and how to fix it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::{Tick, key, sites};
use super::{api_key, heard, mode_label};
use crate::dashboard::form::FormData;
use crate::dashboard::frame::{Frame, Tab, Viewer};
use crate::dashboard::page;
use crate::dashboard::views::{Field, numbers};
use crate::error::AppError;
use crate::report;
use crate::settings::{self, Added, Snapshot};
use crate::state::AppState;
use crate::stripe::reconcile::{Difference, Kind, Reconciled};

/// One webhook endpoint in the list.
struct SourceItem {
    key: String,
    href: String,
    site: String,
    mode: &'static str,
    secrets: String,
    api_key: String,
    heard: String,
}

/// The reconciliation of one endpoint with Stripe.
struct Reconciliation {
    /// Key of the endpoint.
    source: String,
    /// `ok`, `bad`.
    class: &'static str,
    headline: String,
    /// When it ran, for which days, and what was not compared.
    when: String,
    error: Option<String>,
    totals: Vec<String>,
    differences: Vec<DifferenceItem>,
    /// `and 20 more`
    more: String,
}

struct DifferenceItem {
    kind: &'static str,
    day: String,
    stripe_id: String,
    stripe: String,
    here: String,
    href: Option<String>,
    fix: String,
}

#[derive(Template)]
#[template(path = "sources.html")]
struct SourcesPage {
    frame: Frame,
    back: String,
    custom_href: String,
    rows: Vec<SourceItem>,
    has_key: bool,
    reconciliations: Vec<Reconciliation>,
    action: String,
    key: Field,
    sites: Vec<Tick>,
    has_several_sites: bool,
}

/// `GET /settings/sources`.
pub(in crate::dashboard) async fn list_sources(
    State(state): State<AppState>,
    viewer: Viewer,
) -> Result<Response, AppError> {
    page::show(&sources_page(&state, &viewer, &FormData::default()).await?)
}

/// `POST /settings/sources`.
pub(in crate::dashboard) async fn add_source(
    State(state): State<AppState>,
    viewer: Viewer,
    mut form: FormData,
) -> Result<Response, AppError> {
    let key = key::read(&mut form, "the webhook’s URL");
    let snapshot = state.settings.current();
    let site = snapshot.site_by_key(&form.text("source_site")).unwrap_or(&viewer.site).clone();
    if form.is_right() {
        let (store, settings) = (&state.store, &state.settings);
        let added = settings::add_source(store, settings, viewer.now, &key, &site.id).await?;
        if added == Added::Done {
            let there = viewer.link(&format!("/settings/sources/{}", key));
            return Ok(page::see_other(&there.with("saved", "added").to_string()));
        }
        let fault =
            key::fault(&added, "Another webhook or site", settings::MAX_SOURCES, "webhooks");
        form.refuse("key", fault.unwrap_or_default());
    }
    page::refuse(&sources_page(&state, &viewer, &form).await?)
}

async fn sources_page(
    state: &AppState,
    viewer: &Viewer,
    form: &FormData,
) -> Result<SourcesPage, AppError> {
    let snapshot = state.settings.current();
    let mut rows = Vec::new();
    let main_key = snapshot.stripe_source("main").and_then(|main| api_key(state, main));
    for source in snapshot.stripe_sources() {
        let heard = heard(state, source).await?;
        let secrets = i64::try_from(source.secrets.len()).unwrap_or(i64::MAX);
        rows.push(SourceItem {
            key: source.key.clone(),
            href: viewer.link(&format!("/settings/sources/{}", source.key)).to_string(),
            site: snapshot.site(&source.site_id).map_or_else(String::new, |site| site.name.clone()),
            mode: mode_label(source.mode),
            secrets: match secrets {
                0 => "none: all webhooks are rejected".to_owned(),
                _ => numbers::count(secrets),
            },
            api_key: match (api_key(state, source), &main_key) {
                (Some(shown), _) => shown,
                (None, Some(_)) => "same as main".to_owned(),
                (None, None) => "none".to_owned(),
            },
            heard: match heard {
                Some(heard) => viewer.times.ago(heard.at, viewer.now),
                None => "not yet".to_owned(),
            },
        });
    }
    let comparisons = report::comparisons(&state.store).await?;
    Ok(SourcesPage {
        frame: viewer.frame(state, Tab::Settings).await?,
        back: viewer.link("/settings").to_string(),
        custom_href: viewer.link("/settings/custom").to_string(),
        rows,
        has_key: snapshot.stripe_sources().any(|source| api_key(state, source).is_some()),
        reconciliations: comparisons
            .iter()
            .filter_map(|found| of_source(state, &snapshot, viewer, found))
            .collect(),
        action: viewer.link("/settings/sources").to_string(),
        key: form.field("key", ""),
        has_several_sites: snapshot.sites.len() > 1,
        sites: sites(&snapshot, &form.field("source_site", viewer.site.key.clone()).value),
    })
}

/// The reconciliation of an endpoint that still has an API key.
fn of_source(
    state: &AppState,
    snapshot: &Snapshot,
    viewer: &Viewer,
    found: &report::Comparison,
) -> Option<Reconciliation> {
    let source = snapshot.source(&found.source_id)?;
    api_key(state, source)?;
    Some(Reconciliation { source: source.key.clone(), ..reconciliation(viewer, found) })
}

fn reconciliation(viewer: &Viewer, found: &report::Comparison) -> Reconciliation {
    let result = found.result.as_deref();
    let result = result.and_then(|text| serde_json::from_str::<Reconciled>(text).ok());
    let Some(result) = result else {
        return Reconciliation {
            source: String::new(),
            class: "bad",
            headline: "Not compared yet".to_owned(),
            when: "It is retried automatically.".to_owned(),
            error: found.error.clone(),
            totals: Vec::new(),
            differences: Vec::new(),
            more: String::new(),
        };
    };
    let counted = |count: usize| {
        numbers::counted(i64::try_from(count).unwrap_or(i64::MAX), "difference", "differences")
    };
    let mode = if result.livemode { "" } else { ", test mode" };
    let (from, until) = (viewer.times.minute(result.from), viewer.times.minute(result.until));
    let compared = found.checked_at.map(|at| viewer.times.ago(at, viewer.now)).unwrap_or_default();
    let none = || "none".to_owned();
    let difference = |found: &Difference| DifferenceItem {
        kind: match found.kind {
            Kind::Payment => "Payment",
            Kind::Refund => "Refund",
            Kind::Dispute => "Dispute",
        },
        day: found.day.clone(),
        stripe_id: found.stripe_id.clone(),
        stripe: found.stripe.clone().unwrap_or_else(none),
        here: found.here.clone().unwrap_or_else(none),
        href: found
            .conversion_id
            .as_ref()
            .map(|id| viewer.link(&format!("/conversions/{id}")).to_string()),
        fix: found.fix.clone(),
    };
    let more = result.gap.saturating_sub(result.differences.len());
    Reconciliation {
        source: String::new(),
        class: if result.gap == 0 { "ok" } else { "bad" },
        headline: match result.gap {
            0 => "Matches Stripe’s records".to_owned(),
            gap => format!("{} from Stripe’s records", counted(gap)),
        },
        when: format!(
            "Compared {compared}: created from {} to {}{mode}. {}",
            from.text,
            until.text,
            result.left_out()
        ),
        error: found.error.clone(),
        totals: result.totals.iter().map(ToString::to_string).collect(),
        differences: result.differences.iter().map(difference).collect(),
        more: if more > 0 { format!("And {}.", counted(more)) } else { String::new() },
    }
}
