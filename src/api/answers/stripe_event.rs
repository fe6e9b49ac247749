//! A Stripe event as received.
//! In: a row of `report`. Out: JSON without the body.

use serde::Serialize;
use utoipa::ToSchema;

use super::{source_key, time};
use crate::domain::{EventOrigin, EventState};
use crate::report;
use crate::settings::Snapshot;

/// One Stripe event as received; its body stays on the dashboard.
#[derive(Serialize, ToSchema)]
pub(crate) struct StripeEvent {
    /// `sev_…`.
    id: String,
    /// Stripe's `evt_…`.
    event_id: String,
    /// Stripe's type.
    #[serde(rename = "type")]
    #[schema(example = "checkout.session.completed")]
    kind: String,
    /// What it is about: `cs_…`, `in_…`, …
    object_id: String,
    /// `acct_…`, or empty for the source's own.
    account: String,
    /// The source's key.
    source: String,
    /// Live or test.
    livemode: bool,
    /// Of Stripe's API.
    api_version: Option<String>,
    /// Stripe's time.
    created_at: Option<String>,
    /// Ours.
    received_at: String,
    /// How it was received.
    origin: EventOrigin,
    /// What has become of it.
    state: EventState,
    /// Why ignored.
    reason: Option<String>,
    /// Why failed.
    error: Option<String>,
    /// What was read, in a sentence.
    summary: Option<String>,
    /// What it changed, in sentences.
    note: Option<String>,
    /// `cnv_…`, where it belongs to one.
    conversion_id: Option<String>,
    /// How often it was processed.
    attempts: i64,
    /// How often the same event came again.
    repeats: i64,
}

impl StripeEvent {
    pub(crate) fn new(found: report::StripeEventRow, settings: &Snapshot) -> Self {
        Self {
            id: found.id,
            event_id: found.event_id,
            kind: found.kind,
            object_id: found.object_id,
            account: found.account,
            source: source_key(settings, found.source_id),
            livemode: found.livemode,
            api_version: found.api_version,
            created_at: found.created_at.map(time),
            received_at: time(found.received_at),
            origin: found.origin,
            state: found.state,
            reason: found.reason,
            error: found.error,
            summary: found.summary,
            note: found.note,
            conversion_id: found.conversion_id,
            attempts: found.attempts,
            repeats: found.repeats,
        }
    }
}
