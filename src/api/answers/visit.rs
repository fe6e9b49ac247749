//! A click ID with its visits and conversions.
//! Takes what `report` found; returns JSON in which the first visit's fields are beside the list.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{code, site_key, time};
use crate::domain::{ConversionKind, ConversionStatus};
use crate::money::Money;
use crate::report;
use crate::settings::Snapshot;

/// A click ID with its visits and conversions. The fields of the first visit are beside the list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Visit {
    /// `ck_…`; if an alias was requested, the signed click ID that replaces it.
    click_id: String,
    /// AnyTrack click IDs captured with it.
    anytrack_click_ids: Vec<String>,
    #[serde(flatten)]
    first: OneVisit,
    /// All visits, oldest first.
    visits: Vec<OneVisit>,
    /// Its conversions, newest first.
    conversions: Vec<VisitedConversion>,
}

answer! {
    /// One visit.
    #[derive(Clone)]
    struct OneVisit = |found: report::VisitRow, settings: &Snapshot| {
        /// The site's key.
        site: String = site_key(settings, found.site_id),
        /// When the visit happened.
        at: String = time(found.at),
        /// The click ID made by the browser that this one replaces.
        alias: Option<String> = found.alias,
        /// The click ID before this visit.
        previous_click_id: Option<String> = found.previous_click_id,
        /// The page's address.
        url: Option<String> = found.url,
        /// Where the visitor came from.
        referrer: Option<String> = found.referrer,
        /// Kind of traffic.
        channel: String = found.channel,
        /// google, newsletter, …
        source: Option<String> = found.source,
        /// cpc, email, …
        medium: Option<String> = found.medium,
        /// The campaign's name.
        campaign: Option<String> = found.campaign,
        /// The path of the landing page.
        landing_path: Option<String> = found.landing_path,
        /// phone, tablet, computer, bot, unknown.
        device: String = found.device,
        /// False if it is known only from the request for the tag's script.
        is_reported: bool = !found.is_unreported,
        /// Ad click IDs, further UTMs, ad cookies, language, browser, tag host.
        #[schema(value_type = Object)]
        details: Option<Box<RawValue>> = RawValue::from_string(found.details).ok(),
    }
}

answer! {
    /// A conversion of a visit.
    struct VisitedConversion = |found: report::VisitedConversion| {
        /// `cnv_…`.
        id: String = found.id,
        /// When it happened.
        occurred_at: String = time(found.occurred_at),
        /// purchase, renewal, trial, lead, or a custom event name.
        kind: ConversionKind = found.kind,
        /// The status of the payment.
        status: ConversionStatus = found.status,
        /// Live or test mode.
        livemode: bool = found.livemode,
        /// Exact decimal text.
        amount: Option<String> = found.amount.map(Money::decimal),
        /// Three letters.
        currency: Option<String> = found.amount.map(code),
    }
}

impl Visit {
    /// `None` only if there is no visit at all, which `report` never returns.
    pub(crate) fn new(found: report::Visit, settings: &Snapshot) -> Option<Self> {
        let visits: Vec<OneVisit> =
            found.visits.into_iter().map(|visit| OneVisit::new(visit, settings)).collect();
        Some(Self {
            click_id: found.click_id,
            anytrack_click_ids: found.anytrack_click_ids,
            first: visits.first()?.clone(),
            visits,
            conversions: found.conversions.into_iter().map(VisitedConversion::new).collect(),
        })
    }
}
