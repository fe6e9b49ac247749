//! The numbers of a period.
//! In: what `report` summed. Out: JSON with rates as exact numbers.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Amount, Rate, amounts, time};
use crate::report;
use crate::settings;

/// The numbers of a period.
#[derive(Serialize, ToSchema)]
pub(crate) struct Overview {
    /// The site's key.
    site: String,
    /// Live or test payments.
    livemode: bool,
    /// Belongs to the period.
    from: String,
    /// The first instant after it.
    to: String,
    /// Without bots.
    visits: i64,
    /// Paid ones.
    conversions: i64,
    /// Those with a visit.
    matched: i64,
    /// What was paid, by currency.
    revenue: Vec<Amount>,
    /// What of it was given back.
    refunded: Vec<Amount>,
    /// Matched conversions of all that state money; null when there are none. Events without money say nothing of how well payments match.
    match_rate: Option<Rate>,
    /// Accepted deliveries of all that are or were owed; null when there are none.
    delivered_rate: Option<Rate>,
}

impl Overview {
    pub(crate) fn new(
        found: &report::Overview,
        delivered: report::Share,
        period: report::Period,
        site: &settings::Site,
        livemode: bool,
    ) -> Self {
        Self {
            site: site.key.clone(),
            livemode,
            from: time(period.from),
            to: time(period.to),
            visits: found.visits,
            conversions: found.conversions,
            matched: found.matched,
            revenue: amounts(&found.gross),
            refunded: amounts(&found.refunded),
            match_rate: Rate::of(found.match_rate),
            delivered_rate: Rate::of(delivered),
        }
    }
}
