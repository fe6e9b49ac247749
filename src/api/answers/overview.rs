//! The numbers of a period.
//! Takes the sums of `report`; returns JSON with rates as exact numbers.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Amount, Rate, amounts, time};
use crate::report;
use crate::settings;

answer! {
    /// The numbers of a period.
    pub(crate) struct Overview = |found: &report::Overview, rankings: [&report::Ranking; 2], delivered: report::Share, period: report::Period, site: &settings::Site, livemode: bool| {
        /// The site's key.
        site: String = site.key.clone(),
        /// Whether live or test payments are counted.
        livemode: bool = livemode,
        /// The first instant of the period.
        from: String = time(period.from),
        /// The first instant after the period.
        to: String = time(period.to),
        /// Visits without bots.
        visits: i64 = found.visits,
        /// Paid conversions, without events of pages.
        conversions: i64 = found.conversions,
        /// Of these: purchases, trials and leads.
        new_conversions: i64 = found.firsts,
        /// Of these: renewals.
        renewals: i64 = found.renewals,
        /// Events that pages reported; they are none of the conversions.
        page_events: i64 = found.page_events,
        /// Purchases, trials and leads per visit, at most 1; null without visits.
        conversion_rate: Option<Rate> = Rate::of(found.conversion_rate()),
        /// Matched conversions.
        matched: i64 = found.matched,
        /// Unmatched conversions.
        unmatched: i64 = found.unmatched,
        /// The amount paid, by currency.
        revenue: Vec<Amount> = amounts(&found.gross),
        /// The refunded part of it.
        refunded: Vec<Amount> = amounts(&found.refunded),
        /// The part of it that lost disputes took.
        lost: Vec<Amount> = amounts(&found.lost),
        /// `revenue` without `refunded` and `lost`.
        net: Vec<Amount> = amounts(&found.net),
        /// The part of `net` that open disputes withhold.
        disputed: Vec<Amount> = amounts(&found.disputed),
        /// Net revenue of conversions that are unmatched, or that a destination has not received.
        at_risk: Vec<Amount> = amounts(&found.at_risk),
        /// By source of the last touch, best first.
        by_source: Ranking = Ranking::new(rankings[0]),
        /// By campaign of the last touch, best first.
        by_campaign: Ranking = Ranking::new(rankings[1]),
        /// Matched conversions of all that have an amount; null if there are none. Events without an
        /// amount are no measure of how well payments are matched.
        match_rate: Option<Rate> = Rate::of(found.match_rate),
        /// Accepted deliveries of all that were not skipped; null if there are none.
        delivered_rate: Option<Rate> = Rate::of(delivered),
    }
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

answer! {
    /// One line of a ranking.
    struct RankingRow = |row: &report::RankingRow, name: Option<String>| {
        /// The source or campaign; null for a sum of several.
        name: Option<String> = name,
        /// Visits without bots.
        visits: i64 = row.visits,
        /// Paid conversions, without events of pages.
        conversions: i64 = row.conversions,
        /// Of these: purchases, trials and leads.
        new_conversions: i64 = row.firsts,
        /// Of these: renewals.
        renewals: i64 = row.renewals,
        /// As in the overview.
        conversion_rate: Option<Rate> = Rate::of(report::conversion_rate(row.firsts, row.visits)),
        /// The amount paid, without refunds and lost disputes.
        net: Vec<Amount> = amounts(&row.net),
    }
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
