//! The numbers of a period.
//! Takes the sums of `report`; returns JSON with rates as exact numbers.

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
    /// Whether live or test payments are counted.
    livemode: bool,
    /// The first instant of the period.
    from: String,
    /// The first instant after the period.
    to: String,
    /// Visits without bots.
    visits: i64,
    /// Paid conversions.
    conversions: i64,
    /// Of these: purchases, trials and leads.
    new_conversions: i64,
    /// Of these: renewals.
    renewals: i64,
    /// Purchases, trials and leads per visit, at most 1; null without visits.
    conversion_rate: Option<Rate>,
    /// Matched conversions.
    matched: i64,
    /// Unmatched conversions.
    unmatched: i64,
    /// The amount paid, by currency.
    revenue: Vec<Amount>,
    /// The refunded part of it.
    refunded: Vec<Amount>,
    /// The part of it that lost disputes took.
    lost: Vec<Amount>,
    /// `revenue` without `refunded` and `lost`.
    net: Vec<Amount>,
    /// The part of `net` that open disputes withhold.
    disputed: Vec<Amount>,
    /// Net revenue of conversions that are unmatched, or that a destination has not received.
    at_risk: Vec<Amount>,
    /// By source of the last touch, best first.
    by_source: Ranking,
    /// By campaign of the last touch, best first.
    by_campaign: Ranking,
    /// Matched conversions of all that have an amount; null if there are none. Events without an
    /// amount are no measure of how well payments are matched.
    match_rate: Option<Rate>,
    /// Accepted deliveries of all that were not skipped; null if there are none.
    delivered_rate: Option<Rate>,
}

/// A ranking by visits and revenue.
#[derive(Serialize, ToSchema)]
struct Ranking {
    /// The best twelve, by net revenue in the site's currency. An empty name means visits without
    /// one.
    rows: Vec<RankingRow>,
    /// The sum of all others; null if there are none.
    others: Option<RankingRow>,
    /// Unmatched conversions; null if there are none.
    unmatched: Option<RankingRow>,
}

/// One line of a ranking.
#[derive(Serialize, ToSchema)]
struct RankingRow {
    /// The source or campaign; null for a sum of several.
    name: Option<String>,
    /// Visits without bots.
    visits: i64,
    /// Paid conversions.
    conversions: i64,
    /// Of these: purchases, trials and leads.
    new_conversions: i64,
    /// Of these: renewals.
    renewals: i64,
    /// As in the overview.
    conversion_rate: Option<Rate>,
    /// The amount paid, without refunds and lost disputes.
    net: Vec<Amount>,
}

impl Ranking {
    fn new(found: &report::Ranking) -> Self {
        let is_some = |row: &report::RankingRow| row.conversions > 0 || row.visits > 0;
        let sum = |row: &report::RankingRow| is_some(row).then(|| RankingRow::new(row, None));
        let named = |row: &report::RankingRow| RankingRow::new(row, Some(row.name.clone()));
        Self {
            rows: found.rows.iter().map(named).collect(),
            others: sum(&found.rest),
            unmatched: sum(&found.unmatched),
        }
    }
}

impl RankingRow {
    fn new(row: &report::RankingRow, name: Option<String>) -> Self {
        Self {
            name,
            visits: row.visits,
            conversions: row.conversions,
            new_conversions: row.firsts,
            renewals: row.renewals,
            conversion_rate: Rate::of(report::conversion_rate(row.firsts, row.visits)),
            net: amounts(&row.net),
        }
    }
}

impl Overview {
    pub(crate) fn new(
        found: &report::Overview,
        [by_source, by_campaign]: [&report::Ranking; 2],
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
            new_conversions: found.firsts,
            renewals: found.renewals,
            conversion_rate: Rate::of(found.conversion_rate()),
            matched: found.matched,
            unmatched: found.unmatched,
            revenue: amounts(&found.gross),
            refunded: amounts(&found.refunded),
            lost: amounts(&found.lost),
            net: amounts(&found.net),
            disputed: amounts(&found.disputed),
            at_risk: amounts(&found.at_risk),
            by_source: Ranking::new(by_source),
            by_campaign: Ranking::new(by_campaign),
            match_rate: Rate::of(found.match_rate),
            delivered_rate: Rate::of(delivered),
        }
    }
}
