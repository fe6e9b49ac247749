//! A conversion with its match, its touches and its deliveries.
//! In: a row of `report`. Out: the one shape a conversion has everywhere in the API.

use serde::Serialize;
use utoipa::ToSchema;

use super::{code, site_key, source_key, time};
use crate::money::Money;
use crate::report;
use crate::settings::Snapshot;

/// One conversion.
#[derive(Serialize, ToSchema)]
pub(crate) struct Conversion {
    /// `cnv_…`.
    id: String,
    /// The site's key.
    site: String,
    /// The source's key.
    source: String,
    /// purchase, renewal, trial, lead, or a custom event name.
    kind: String,
    /// pending, paid, failed, partially_refunded, refunded, disputed.
    status: String,
    /// Live or test.
    livemode: bool,
    /// When it happened.
    occurred_at: String,
    /// Exact decimal text; null where no event told.
    amount: Option<String>,
    /// Three letters; null where no event told.
    currency: Option<String>,
    /// What was given back.
    refunded: Option<String>,
    /// What destinations know it by.
    transaction_id: String,
    /// What Stripe brought back.
    client_reference_id: Option<String>,
    /// The buyer's address.
    email: Option<String>,
    /// The answer of the join.
    #[serde(rename = "match")]
    joined: Match,
    /// The visitor's way, first touch first.
    touches: Vec<Touch>,
    /// What became of its deliveries.
    deliveries: Vec<ConversionDelivery>,
}

/// The answer of the join.
#[derive(Serialize, ToSchema)]
struct Match {
    /// matched, unmatched.
    state: String,
    /// manual, click_id, anytrack_click_id, metadata, stripe_object, email.
    by: Option<String>,
    /// Why unmatched.
    reason: Option<String>,
    /// Of the visit it is matched to.
    click_id: Option<String>,
}

/// One step of a visitor's way.
#[derive(Serialize, ToSchema)]
struct Touch {
    /// `ck_…`.
    click_id: String,
    /// When.
    at: String,
    /// google, newsletter, …
    source: Option<String>,
    /// cpc, email, …
    medium: Option<String>,
    /// The campaign's name.
    campaign: Option<String>,
    /// The path of the page.
    landing_path: Option<String>,
}

/// What became of one delivery.
#[derive(Serialize, ToSchema)]
struct ConversionDelivery {
    /// `dlv_…`.
    id: String,
    /// The destination's key.
    destination: String,
    /// pending, delivered, given_up, held, skipped.
    state: String,
    /// Why given up or skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Tries so far.
    attempts: i64,
    /// HTTP status of the last answer.
    last_status: Option<i64>,
}

impl Conversion {
    pub(crate) fn new(found: report::ConversionRow, settings: &Snapshot) -> Self {
        let touch = |touch: report::Touch| Touch {
            click_id: touch.click_id,
            at: time(touch.at),
            source: touch.source,
            medium: touch.medium,
            campaign: touch.campaign,
            landing_path: touch.landing_path,
        };
        let delivery = |delivery: report::DeliverySummary| ConversionDelivery {
            id: delivery.id,
            destination: delivery.destination_key,
            state: delivery.state,
            reason: delivery.reason,
            attempts: delivery.attempts,
            last_status: delivery.last_status,
        };
        Self {
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
            transaction_id: found.transaction_id,
            client_reference_id: found.client_reference_id,
            email: found.email,
            joined: Match {
                state: found.match_state,
                by: found.match_by,
                reason: found.match_reason,
                click_id: found.click_id,
            },
            touches: found.touches.into_iter().map(touch).collect(),
            deliveries: found.deliveries.into_iter().map(delivery).collect(),
        }
    }
}
