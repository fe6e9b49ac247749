//! A delivery as lists show it.
//! Takes a row of `report`; returns JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::{code, time};
use crate::domain::{DeliveryReason, DeliveryState};
use crate::money::Money;
use crate::report;

/// One delivery.
#[derive(Serialize, ToSchema)]
pub(crate) struct Delivery {
    /// `dlv_…`.
    id: String,
    /// The destination's key.
    destination: String,
    /// `cnv_…`.
    conversion_id: String,
    /// The transaction ID that the destination receives.
    transaction_id: String,
    /// The event's name at the destination.
    event_name: String,
    /// Live or test mode.
    livemode: bool,
    /// Its state.
    state: DeliveryState,
    /// Why it failed or was skipped.
    reason: Option<DeliveryReason>,
    /// Number of attempts.
    attempts: i64,
    /// HTTP status of the last response.
    last_status: Option<i64>,
    /// The last error.
    last_error: Option<String>,
    /// When it was queued.
    created_at: String,
    /// When the next attempt may start; null unless pending.
    due_at: Option<String>,
    /// When it ended.
    settled_at: Option<String>,
    /// When it fails if it was not accepted until then; null without a limit, and unless pending or
    /// held.
    expires_at: Option<String>,
    /// The conversion's amount: exact decimal text.
    amount: Option<String>,
    /// Three letters.
    currency: Option<String>,
}

impl Delivery {
    pub(crate) fn new(found: report::DeliveryRow) -> Self {
        let is_pending = found.state == DeliveryState::Pending;
        let is_open = is_pending || found.state == DeliveryState::Held;
        Self {
            id: found.id,
            destination: found.destination_key,
            conversion_id: found.conversion_id,
            transaction_id: found.transaction_id,
            event_name: found.event_name,
            livemode: found.livemode,
            state: found.state,
            reason: found.reason,
            attempts: found.attempts,
            last_status: found.last_status,
            last_error: found.last_error,
            created_at: time(found.created_at),
            due_at: is_pending.then(|| time(found.due_at)),
            settled_at: found.settled_at.map(time),
            expires_at: found.expires_at.filter(|_| is_open).map(time),
            amount: found.amount.map(Money::decimal),
            currency: found.amount.map(code),
        }
    }
}
