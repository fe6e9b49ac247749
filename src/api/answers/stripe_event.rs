//! A Stripe event as received.
//! Takes a row of `report`; returns JSON without the body.

use serde::Serialize;
use utoipa::ToSchema;

use super::{source_key, time};
use crate::domain::{EventOrigin, EventState};
use crate::report;
use crate::settings::Snapshot;

answer! {
    /// One Stripe event as received; only the dashboard shows its body.
    pub(crate) struct StripeEvent = |found: report::StripeEventRow, settings: &Snapshot| {
        /// `sev_…`.
        id: String = found.id,
        /// Stripe's `evt_…`.
        event_id: String = found.event_id,
        /// Stripe's type.
        #[serde(rename = "type")]
        #[schema(example = "checkout.session.completed")]
        kind: String = found.kind,
        /// The ID of its object: `cs_…`, `in_…`, …
        object_id: String = found.object_id,
        /// `acct_…`; empty for the source's own account.
        account: String = found.account,
        /// The source's key.
        source: String = source_key(settings, found.source_id),
        /// Live or test mode.
        livemode: bool = found.livemode,
        /// The version of Stripe's API.
        api_version: Option<String> = found.api_version,
        /// When Stripe created it.
        created_at: Option<String> = found.created_at.map(time),
        /// When it was received.
        received_at: String = time(found.received_at),
        /// How it was received.
        origin: EventOrigin = found.origin,
        /// Its state.
        state: EventState = found.state,
        /// Why it was ignored.
        reason: Option<String> = found.reason,
        /// Why it failed.
        error: Option<String> = found.error,
        /// What was read, in a sentence.
        summary: Option<String> = found.summary,
        /// What it changed, in sentences.
        note: Option<String> = found.note,
        /// `cnv_…`, if it belongs to a conversion.
        conversion_id: Option<String> = found.conversion_id,
        /// How often it was processed.
        attempts: i64 = found.attempts,
        /// How often the same event was received again.
        repeats: i64 = found.repeats,
    }
}
