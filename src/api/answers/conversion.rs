//! A conversion with its match, its touchpoints and its deliveries.
//! Takes a row of `report`; returns the form that a conversion has everywhere in the API.

use serde::Serialize;
use utoipa::ToSchema;

use super::{code, site_key, source_key, time};
use crate::destination::facts;
use crate::domain::{DeliveryReason, DeliveryState};
use crate::money::Money;
use crate::report;
use crate::settings::Snapshot;

/// One conversion.
#[derive(Serialize, ToSchema)]
pub(crate) struct Conversion {
    /// The fields that webhooks contain too.
    #[serde(flatten)]
    facts: facts::Conversion,
    /// The state of its deliveries.
    deliveries: Vec<ConversionDelivery>,
}

answer! {
    /// The state of a delivery.
    struct ConversionDelivery = |found: report::DeliverySummary| {
        /// `dlv_…`.
        id: String = found.id,
        /// The destination's key.
        destination: String = found.destination_key,
        /// Its state.
        state: DeliveryState = found.state,
        /// Why it failed or was skipped.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<DeliveryReason> = found.reason,
        /// Number of attempts.
        attempts: i64 = found.attempts,
        /// HTTP status of the last response.
        last_status: Option<i64> = found.last_status,
    }
}

impl Conversion {
    pub(crate) fn new(found: report::ConversionRow, settings: &Snapshot) -> Self {
        let touch = |touch: report::Touch| facts::Touch {
            click_id: touch.click_id,
            at: time(touch.at),
            source: touch.source,
            medium: touch.medium,
            campaign: touch.campaign,
            landing_path: touch.landing_path,
        };
        let facts = facts::Conversion {
            id: found.id,
            site: site_key(settings, found.site_id),
            source: source_key(settings, found.source_id),
            kind: found.kind,
            status: found.status,
            livemode: found.livemode,
            occurred_at: time(found.occurred_at),
            amount: found.amount.map(Money::decimal),
            currency: found.refunded.or(found.amount).map(code),
            refunded: found.refunded.map(Money::decimal),
            disputed: found.disputed.map(Money::decimal),
            lost: found.lost.map(Money::decimal),
            paid_at: found.paid_at.map(time),
            transaction_id: found.transaction_id,
            client_reference_id: found.client_reference_id,
            email: found.email,
            joined: facts::Match {
                state: found.match_state,
                by: found.match_by,
                reason: found.match_reason,
                click_id: found.click_id,
            },
            touches: found.touches.into_iter().map(touch).collect(),
        };
        let deliveries = found.deliveries.into_iter().map(ConversionDelivery::new).collect();
        Self { facts, deliveries }
    }
}
