//! A delivery as lists show it.
//! Takes a row of `report`; returns JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::{code, time};
use crate::domain::{DeliveryReason, DeliveryState};
use crate::money::Money;
use crate::report;

answer! {
    /// One delivery.
    pub(crate) struct Delivery = |found: report::DeliveryRow| {
        /// `dlv_…`.
        id: String = found.id,
        /// The destination's key.
        destination: String = found.destination_key,
        /// `cnv_…`.
        conversion_id: String = found.conversion_id,
        /// The transaction ID that the destination receives.
        transaction_id: String = found.transaction_id,
        /// The event's name at the destination.
        event_name: String = found.event_name,
        /// Live or test mode.
        livemode: bool = found.livemode,
        /// Its state.
        state: DeliveryState = found.state,
        /// Why it failed or was skipped.
        reason: Option<DeliveryReason> = found.reason,
        /// Number of attempts.
        attempts: i64 = found.attempts,
        /// HTTP status of the last response.
        last_status: Option<i64> = found.last_status,
        /// The last error.
        last_error: Option<String> = found.last_error,
        /// When it was queued.
        created_at: String = time(found.created_at),
        /// When the next attempt may start; null unless pending.
        due_at: Option<String> = (found.state == DeliveryState::Pending).then(|| time(found.due_at)),
        /// When it ended.
        settled_at: Option<String> = found.settled_at.map(time),
        /// When it fails if it was not accepted until then; null without a limit, and unless pending or
        /// held.
        expires_at: Option<String> = found.expires_at.filter(|_| is_open(found.state)).map(time),
        /// The conversion's amount: exact decimal text.
        amount: Option<String> = found.amount.map(Money::decimal),
        /// Three letters.
        currency: Option<String> = found.amount.map(code),
    }
}

fn is_open(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Pending | DeliveryState::Held)
}
