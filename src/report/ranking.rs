//! Visits and net revenue by channel, source, campaign, landing page or device, best first. Takes a
//! scope, a period and a dimension; returns one row per value. A conversion counts for its last
//! touch. Guarantees that the rows add up to the total: conversions without a touchpoint have a row
//! of their own.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::counted::{counted, in_period};
use super::summed::{in_gaps, in_sums, summed_days};
use super::{Period, Scope, add, within};
use crate::money::{Currency, Totals};
use crate::store::{Store, Text, from_row};

/// Maximum number of rows. The others are summed in [`Ranking::rest`].
const SHOWN: usize = 12;

/// The dimension by which a ranking groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dimension {
    /// Paid search, social, email, direct, …
    Channel,
    /// google, instagram, newsletter, …
    Source,
    /// The campaign's name.
    Campaign,
    /// The path of the page.
    LandingPage,
    /// Phone, tablet, computer.
    Device,
}

/// Visits and net revenue by the values of a dimension.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranking {
    /// Best first: by net revenue in the requested currency, then by visits.
    pub(crate) rows: Vec<RankingRow>,
    /// The sum of the remaining rows.
    pub(crate) rest: RankingRow,
    /// The number of the remaining rows.
    pub(crate) rest_rows: usize,
    /// Conversions without a touchpoint. Its number of visits is zero.
    pub(crate) unmatched: RankingRow,
}

/// One row of a ranking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RankingRow {
    /// The value; empty if the visit has none, for example no campaign.
    pub(crate) name: String,
    /// Visits without bots.
    pub(crate) visits: i64,
    /// Paid conversions whose last touch has this value.
    pub(crate) conversions: i64,
    /// Those of them that are purchases, trials or leads.
    pub(crate) firsts: i64,
    pub(crate) renewals: i64,
    /// Net revenue: what was paid, without refunds and lost disputes.
    pub(crate) net: Totals,
}

/// Ranks a dimension by last touch; `currency` decides the order.
pub(crate) async fn ranking(
    store: &Store,
    scope: &Scope,
    period: Period,
    dimension: Dimension,
    currency: Currency,
) -> Result<Ranking> {
    let (visits_sql, conversions_sql) = dimension.statements();
    let visits: Vec<(String, i64)> = in_period(visits_sql, &scope.site_id, period)
        .all(store.pool())
        .await
        .context("could not rank visits")?;
    let conversions: Vec<Group> = within(conversions_sql, scope, period)
        .all(store.pool())
        .await
        .context("could not rank conversions")?;
    Ok(rank(visits, conversions, currency))
}

impl Dimension {
    /// Its number in `visit_sums` and `conversion_sums`, with that of conversions without a
    /// touchpoint; its column in `visit_counts`; and an expression that reads it for one
    /// conversion that is not rolled up. The expression is a subquery, because with a join
    /// PostgreSQL would read all touchpoints.
    fn sql(self) -> (i64, &'static str, &'static str, &'static str) {
        match self {
            Self::Channel => (
                1,
                "1, 6",
                "channel",
                "(select coalesce(t.channel, '') from touches t where t.conversion_id = c.id and t.is_last = 1) as name",
            ),
            Self::Source => (
                2,
                "2, 6",
                "source",
                "(select coalesce(t.source, '') from touches t where t.conversion_id = c.id and t.is_last = 1) as name",
            ),
            Self::Campaign => (
                3,
                "3, 6",
                "campaign",
                "(select coalesce(t.campaign, '') from touches t where t.conversion_id = c.id and t.is_last = 1) as name",
            ),
            Self::LandingPage => (
                4,
                "4, 6",
                "landing_path",
                "(select coalesce(t.landing_path, '') from touches t where t.conversion_id = c.id and t.is_last = 1) as name",
            ),
            Self::Device => (
                5,
                "5, 6",
                "device",
                "(select coalesce(t.device, '') from touches t where t.conversion_id = c.id and t.is_last = 1) as name",
            ),
        }
    }

    /// The SQL that counts visits by name, and the SQL that sums conversions by name and currency.
    fn statements(self) -> (Text, Text) {
        let (dimension, or_none, column, of_touch) = self.sql();
        let visits = Text::from("select name, cast(sum(visits) as bigint) from (")
            + counted(dimension, column)
            + ") as counted group by name having sum(visits) <> 0";
        let conversions = summed_days("")
            + "select name, currency, cast(sum(conversions) as bigint) as conversions,
                      cast(sum(firsts) as bigint) as firsts, cast(sum(renewals) as bigint) as renewals,
                      cast(sum(gross - refunded - lost) as bigint) as net_minor
                 from ("
            + in_sums("case when s.dimension = 6 then null else s.name end as name", or_none)
            + " union all "
            + in_gaps(of_touch, "")
            + ") as counted
                group by name, currency
               having sum(conversions) > 0";
        (visits, conversions)
    }
}

/// Conversions of one name and currency; without a name, those without a touch.
struct Group {
    name: Option<String>,
    currency: String,
    conversions: i64,
    firsts: i64,
    renewals: i64,
    net_minor: i64,
}

from_row!(Group { name, currency, conversions, firsts, renewals, net_minor });

fn rank(visits: Vec<(String, i64)>, conversions: Vec<Group>, currency: Currency) -> Ranking {
    let mut by_name = BTreeMap::<String, RankingRow>::new();
    let mut ranking = Ranking::default();
    for (name, visits) in visits {
        by_name.entry(name).or_default().visits += visits;
    }
    for group in conversions {
        let row = match group.name {
            Some(name) => by_name.entry(name).or_default(),
            None => &mut ranking.unmatched,
        };
        row.conversions += group.conversions;
        row.firsts += group.firsts;
        row.renewals += group.renewals;
        add(&mut row.net, group.net_minor, Some(&group.currency));
    }
    let named = by_name.into_iter().map(|(name, row)| RankingRow { name, ..row });
    ranking.rows = named.collect();
    ranking
        .rows
        .sort_by_key(|row| Reverse((row.net.of(currency).minor, row.conversions, row.visits)));
    let rest = ranking.rows.split_off(SHOWN.min(ranking.rows.len()));
    ranking.rest_rows = rest.len();
    for row in rest {
        ranking.rest.visits += row.visits;
        ranking.rest.conversions += row.conversions;
        ranking.rest.firsts += row.firsts;
        ranking.rest.renewals += row.renewals;
        row.net.iter().for_each(|sum| ranking.rest.net.add(sum));
    }
    ranking
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_money_then_visits_and_add_up() {
        let usd = Currency::parse("usd").unwrap();
        let mut visits: Vec<_> = (0..20).map(|n| (format!("c{n:02}"), n)).collect();
        visits.push((String::new(), 1));
        let group = |name: Option<&str>, currency: &str, conversions, net_minor| Group {
            name: name.map(str::to_owned),
            currency: currency.to_owned(),
            conversions,
            firsts: 1,
            renewals: conversions - 1,
            net_minor,
        };
        let conversions = vec![
            group(Some("c03"), "USD", 2, 900),
            group(Some("c04"), "EUR", 9, 99_900),
            group(Some("unseen"), "USD", 1, 1000),
            group(None, "USD", 4, 77),
            group(None, "", 1, 0),
        ];
        let ranking = rank(visits, conversions, usd);
        let names: Vec<_> = ranking.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names[..4], ["unseen", "c03", "c04", "c19"]);
        assert_eq!((names.len(), ranking.rest_rows), (SHOWN, 10));
        assert_eq!((ranking.unmatched.conversions, ranking.unmatched.net.of(usd).minor), (5, 77));
        assert_eq!((ranking.unmatched.firsts, ranking.unmatched.renewals), (2, 3));
        let shown: i64 = ranking.rows.iter().map(|row| row.visits).sum();
        assert_eq!(shown + ranking.rest.visits, (0..20).sum::<i64>() + 1);
    }
}
