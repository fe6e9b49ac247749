//! A Stripe event as received.
//! Takes a row of `report`; returns JSON without the body.

use serde::Serialize;
use utoipa::ToSchema;

use super::{source_key, time};
use crate::domain::{EventOrigin, EventState};
use crate::report;
use crate::settings::Snapshot;

/// One Stripe event as received; only the dashboard shows its body.
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
    /// The ID of its object: `cs_…`, `in_…`, …
    object_id: String,
    /// `acct_…`; empty for the source's own account.
    account: String,
    /// The source's key.
    source: String,
    /// Live or test mode.
    livemode: bool,
    /// The version of Stripe's API.
    api_version: Option<String>,
    /// When Stripe created it.
    created_at: Option<String>,
    /// When it was received.
    received_at: String,
    /// How it was received.
    origin: EventOrigin,
    /// Its state.
    state: EventState,
    /// Why it was ignored.
    reason: Option<String>,
    /// Why it failed.
    error: Option<String>,
    /// What was read, in a sentence.
    summary: Option<String>,
    /// What it changed, in sentences.
    note: Option<String>,
    /// `cnv_…`, if it belongs to a conversion.
    conversion_id: Option<String>,
    /// How often it was processed.
    attempts: i64,
    /// How often the same event was received again.
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
