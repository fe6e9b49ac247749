//! `GET /metrics`: the state of this server, for Prometheus.
//! Takes a bearer token; returns gauges as OpenMetrics text, read from the database for each
//! request.
//! Guarantees that it contains no money, no visitor and no secret, and that a published name or
//! label keeps its meaning.

use anyhow::Context as _;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::access::Access;
use crate::clock::Timestamp;
use crate::error::AppError;
use crate::report::{self, Down, Scope, Vitals};
use crate::settings::Snapshot;
use crate::state::AppState;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Every state in which a delivery can wait. Each is always present, so that a rate or an alert
/// starts from zero.
const UNSETTLED: [&str; 3] = ["pending", "held", "given_up"];

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge>;

/// Signs of life of a site.
struct Life {
    site: String,
    last_visit_at: Option<Timestamp>,
    last_event_at: Option<Timestamp>,
}

/// # Errors
/// If the token is not valid, or the database fails.
pub(crate) async fn read_metrics(
    _: Access,
    State(state): State<AppState>,
) -> Result<Response, AppError> {
    let (store, snapshot) = (&state.store, state.settings.current());
    let mut sites = Vec::new();
    for site in &snapshot.sites {
        let scope = Scope { site_id: site.id.clone(), livemode: true };
        let (last_visit_at, last_event_at) = report::last_seen(store, &scope).await?;
        sites.push(Life { site: site.key.clone(), last_visit_at, last_event_at });
    }
    let mut registry = Registry::with_prefix("clickstamp");
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    registry.register("build", "This program", Info::new(version.to_vec()));
    let ready = ConstGauge::new(i64::from(store.unready(state.clock.now()).await.is_none()));
    registry.register("ready", "1 when the database answers and takes what is written", ready);
    let recorded = ConstCounter::new(store.rows_recorded());
    registry.register("visits_recorded", "Visits written since this program started", recorded);
    tell_of_sites(&mut registry, &sites);
    tell_of_vitals(&mut registry, &snapshot, &report::vitals(store).await?);
    tell_of_breakers(&mut registry, &snapshot, &report::down(store).await?);
    let mut body = String::new();
    text::encode(&mut body, &registry).context("could not write the metrics")?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], body).into_response())
}

/// Seconds since 1970, as Prometheus expects.
fn seconds(at: Timestamp) -> i64 {
    at.as_ms().div_euclid(1000)
}

fn tell_of_sites(registry: &mut Registry, sites: &[Life]) {
    let (visits, events) = (Gauges::default(), Gauges::default());
    for life in sites {
        let labels = vec![("site", life.site.clone())];
        if let Some(at) = life.last_visit_at {
            visits.get_or_create(&labels).set(seconds(at));
        }
        if let Some(at) = life.last_event_at {
            events.get_or_create(&labels).set(seconds(at));
        }
    }
    let help = "When the newest visit of a person was recorded; missing before the first";
    registry.register("last_visit_timestamp_seconds", help, visits);
    let help = "When Stripe's newest live event was received; none before the first";
    registry.register("last_stripe_event_timestamp_seconds", help, events);
}

fn tell_of_vitals(registry: &mut Registry, snapshot: &Snapshot, vitals: &Vitals) {
    let events = Gauges::default();
    let of_state = |state: &str| vec![("state", state.to_owned())];
    events.get_or_create(&of_state("received")).set(vitals.events_waiting);
    events.get_or_create(&of_state("failed")).set(vitals.events_failed);
    let help = "Stripe's events that are not processed yet (received), or need a person (failed)";
    registry.register("stripe_events", help, events);
    let failed = ConstGauge::new(vitals.page_events_failed);
    registry.register("page_events_failed", "Failed page events", failed);

    let (deliveries, oldest) = (Gauges::default(), Gauges::default());
    for destination in &snapshot.destinations {
        for state in UNSETTLED {
            let labels =
                vec![("destination", destination.key.clone()), ("state", state.to_owned())];
            let found = vitals
                .unsettled
                .iter()
                .find(|found| found.destination_id == destination.id && found.state == state);
            deliveries.get_or_create(&labels).set(found.map_or(0, |found| found.deliveries));
            if let Some(found) = found {
                oldest.get_or_create(&labels).set(seconds(found.oldest_at));
            }
        }
    }
    let help =
        "Messages that a destination has not received: pending, held (paused), given_up (failed)";
    registry.register("deliveries", help, deliveries);
    let help = "When the oldest of them was queued; missing if there are none";
    registry.register("oldest_delivery_timestamp_seconds", help, oldest);
}

fn tell_of_breakers(registry: &mut Registry, snapshot: &Snapshot, down: &[(String, Down)]) {
    let gauges = Gauges::default();
    for destination in &snapshot.destinations {
        let is_down = down.iter().any(|(id, _)| *id == destination.id);
        let labels = vec![("destination", destination.key.clone())];
        gauges.get_or_create(&labels).set(i64::from(is_down));
    }
    let help = "1 while a destination fails so often that it is only probed";
    registry.register("destination_down", help, gauges);
}
