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
    /// Of them: purchases, trials and leads.
    new_conversions: i64,
    /// Of them: renewals.
    renewals: i64,
    /// Purchases, trials and leads of all visits, at most 1; null without visits.
    conversion_rate: Option<Rate>,
    /// Those with a visit.
    matched: i64,
    /// Those without.
    unmatched: i64,
    /// What was paid, by currency.
    revenue: Vec<Amount>,
    /// What of it was given back.
    refunded: Vec<Amount>,
    /// What lost disputes took of it.
    lost: Vec<Amount>,
    /// `revenue` without `refunded` and `lost`.
    net: Vec<Amount>,
    /// What of `net` open disputes withhold.
    disputed: Vec<Amount>,
    /// Net money of conversions that are unmatched or that some destination does not have.
    at_risk: Vec<Amount>,
    /// By source of the last touch, best first.
    by_source: Ranking,
    /// By campaign of the last touch, best first.
    by_campaign: Ranking,
    /// Matched conversions of all that state money; null when there are none. Events without money say nothing of how well payments match.
    match_rate: Option<Rate>,
    /// Accepted deliveries of all that are or were owed; null when there are none.
    delivered_rate: Option<Rate>,
}

/// A list of what brought visits and money.
#[derive(Serialize, ToSchema)]
struct Ranking {
    /// The best twelve, by net money in the site's currency. An empty name: the visits name none.
    rows: Vec<RankingRow>,
    /// The sum of all further ones; null where there are none.
    others: Option<RankingRow>,
    /// Conversions without a visit; null where there are none.
    unmatched: Option<RankingRow>,
}

/// One line of a ranking.
#[derive(Serialize, ToSchema)]
struct RankingRow {
    /// Of the source or campaign; null for a sum of several.
    name: Option<String>,
    /// Without bots.
    visits: i64,
    /// Paid ones.
    conversions: i64,
    /// Of them: purchases, trials and leads.
    new_conversions: i64,
    /// Of them: renewals.
    renewals: i64,
    /// As in the overview.
    conversion_rate: Option<Rate>,
    /// What was paid, without what was refunded or lost.
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
