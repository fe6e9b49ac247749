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

/// One visit.
#[derive(Clone, Serialize, ToSchema)]
struct OneVisit {
    /// The site's key.
    site: String,
    /// When the visit happened.
    at: String,
    /// The click ID made by the browser that this one replaces.
    alias: Option<String>,
    /// The click ID before this visit.
    previous_click_id: Option<String>,
    /// The page's address.
    url: Option<String>,
    /// Where the visitor came from.
    referrer: Option<String>,
    /// Kind of traffic.
    channel: String,
    /// google, newsletter, …
    source: Option<String>,
    /// cpc, email, …
    medium: Option<String>,
    /// The campaign's name.
    campaign: Option<String>,
    /// The path of the landing page.
    landing_path: Option<String>,
    /// phone, tablet, computer, bot, unknown.
    device: String,
    /// False if it is known only from the request for the tag's script.
    is_reported: bool,
    /// Ad click IDs, further UTMs, ad cookies, language, browser, tag host.
    #[schema(value_type = Object)]
    details: Option<Box<RawValue>>,
}

/// A conversion of a visit.
#[derive(Serialize, ToSchema)]
struct VisitedConversion {
    /// `cnv_…`.
    id: String,
    /// When it happened.
    occurred_at: String,
    /// purchase, renewal, trial, lead, or a custom event name.
    kind: ConversionKind,
    /// The status of the payment.
    status: ConversionStatus,
    /// Live or test mode.
    livemode: bool,
    /// Exact decimal text.
    amount: Option<String>,
    /// Three letters.
    currency: Option<String>,
}

impl Visit {
    /// `None` only if there is no visit at all, which `report` never returns.
    pub(crate) fn new(found: report::Visit, settings: &Snapshot) -> Option<Self> {
        let visits: Vec<OneVisit> =
            found.visits.into_iter().map(|visit| OneVisit::new(visit, settings)).collect();
        let conversion = |conversion: report::VisitedConversion| VisitedConversion {
            id: conversion.id,
            occurred_at: time(conversion.occurred_at),
            kind: conversion.kind,
            status: conversion.status,
            livemode: conversion.livemode,
            amount: conversion.amount.map(Money::decimal),
            currency: conversion.amount.map(code),
        };
        Some(Self {
            click_id: found.click_id,
            anytrack_click_ids: found.anytrack_click_ids,
            first: visits.first()?.clone(),
            visits,
            conversions: found.conversions.into_iter().map(conversion).collect(),
        })
    }
}

impl OneVisit {
    fn new(found: report::VisitRow, settings: &Snapshot) -> Self {
        Self {
            site: site_key(settings, found.site_id),
            at: time(found.at),
            alias: found.alias,
            previous_click_id: found.previous_click_id,
            url: found.url,
            referrer: found.referrer,
            channel: found.channel,
            source: found.source,
            medium: found.medium,
            campaign: found.campaign,
            landing_path: found.landing_path,
            device: found.device,
            is_reported: !found.is_unreported,
            details: RawValue::from_string(found.details).ok(),
        }
    }
}
