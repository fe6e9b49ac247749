//! The headline numbers of a period.
//! In: a scope and a period. Out: one `Overview`.
//! Promise: a conversion counts once, in the period in which it occurred, also when several things went wrong with it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::counted::{counted, in_period};
use super::summed::{in_gaps, in_sums, summed_days};
use super::{Period, Scope, Share, add, conversion_rate, within};
use crate::domain::{UnmatchedReason, Word as _};
use crate::money::Totals;
use crate::store::{Store, Text, from_row};

/// The headline numbers of a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// Visits without bots, counted by quarter hour: every quarter hour the period touches counts whole.
    pub(crate) visits: i64,
    /// Paid conversions.
    pub(crate) conversions: i64,
    /// Of them: purchases, trials and leads. The conversion rate is about these.
    pub(crate) firsts: i64,
    /// Of them: renewals, for which nobody has to visit.
    pub(crate) renewals: i64,
    /// Those that have a visit.
    pub(crate) matched: i64,
    /// Those that have none.
    pub(crate) unmatched: i64,
    /// Of the matched ones: those that state no money, such as events of pages. They say nothing of how well payments match.
    pub(crate) matched_events: i64,
    /// Of the unmatched ones, likewise.
    pub(crate) unmatched_events: i64,
    /// What was paid.
    pub(crate) gross: Totals,
    /// What of it was given back.
    pub(crate) refunded: Totals,
    /// What lost disputes took.
    pub(crate) lost: Totals,
    /// `gross` without `refunded` and `lost`.
    pub(crate) net: Totals,
    /// What of `net` is withheld by open disputes.
    pub(crate) disputed: Totals,
    /// Matched conversions of all that state money.
    pub(crate) match_rate: Share,
    /// Net money of unmatched conversions.
    pub(crate) unmatched_money: Totals,
    /// Of the unmatched ones that state money: how many of each reason, and their net money.
    pub(crate) unmatched_by: BTreeMap<UnmatchedReason, (i64, Totals)>,
    /// How many conversions some destination does not have yet: pending, given up or held.
    pub(crate) undelivered: i64,
    /// Their net money.
    pub(crate) undelivered_money: Totals,
    /// How many conversions are unmatched or undelivered, each counted once.
    pub(crate) leaking: i64,
    /// Net money of conversions that are unmatched or undelivered, each counted once.
    pub(crate) at_risk: Totals,
    /// How many came with the placeholder unreplaced: the tag did not run.
    pub(crate) lost_to_missing_tag: i64,
    /// Their net money.
    pub(crate) lost_to_missing_tag_money: Totals,
}

/// The headline numbers of a period.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn overview(store: &Store, scope: &Scope, period: Period) -> Result<Overview> {
    // What is undelivered is few beside the conversions of a period, so it is looked for from its own index.
    let groups: Vec<Group> = within(
        summed_days("")
            +
            "select 0 as is_undelivered, reason, currency, cast(sum(conversions) as bigint) as conversions,
                    cast(sum(gross) as bigint) as gross, cast(sum(refunded) as bigint) as refunded,
                    cast(sum(disputed) as bigint) as disputed, cast(sum(lost) as bigint) as lost,
                    cast(sum(firsts) as bigint) as firsts, cast(sum(renewals) as bigint) as renewals
               from ("
            + in_sums("s.name as reason", "0")
            + " union all "
            + in_gaps(
                "case when c.match_state = 'matched' then '' else coalesce(c.match_reason, 'no_object') end as reason",
                ""
            )
            + ") as counted
              group by reason, currency
              union all
             select 1 as is_undelivered, reason, currency, count(*) as conversions,
                    cast(sum(gross) as bigint) as gross, cast(sum(refunded) as bigint) as refunded,
                    cast(sum(disputed) as bigint) as disputed, cast(sum(lost) as bigint) as lost,
                    cast(0 as bigint) as firsts, cast(0 as bigint) as renewals
               from (select case when c.match_state = 'matched' then '' else coalesce(c.match_reason, 'no_object') end as reason,
                            coalesce(c.currency, '') as currency, coalesce(c.amount_minor, 0) as gross,
                            c.refunded_minor as refunded, c.disputed_minor as disputed, c.lost_minor as lost
                       from (select distinct conversion_id
                               from deliveries
                              where state <> 'delivered' and state <> 'skipped') as owed
                      cross join conversions c
                      where c.id = owed.conversion_id and c.site_id = :site_id and c.livemode = :livemode
                        and c.occurred_at_ms >= :from and c.occurred_at_ms < :to
                        and c.paid_at_ms is not null) as undelivered
              group by reason, currency",
        scope,
        period,
    )
    .all(store.pool())
    .await
    .context("could not sum conversions")?;

    let visits = visits_in(store, scope, period).await?;
    let mut overview = Overview { visits, ..Overview::default() };
    for group in &groups {
        overview.take(group);
    }
    let part = overview.matched - overview.matched_events;
    overview.match_rate = Share { part, whole: part + overview.unmatched_payments() };
    Ok(overview)
}

/// Visits without bots, counted by quarter hour: every quarter hour the period touches counts whole.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn visits_in(store: &Store, scope: &Scope, period: Period) -> Result<i64> {
    let text = Text::from("select cast(coalesce(sum(visits), 0) as bigint) from (")
        + counted(0, "''")
        + ") as counted";
    in_period(text, &scope.site_id, period)
        .value(store.pool())
        .await
        .context("could not count visits")
}

/// Deliveries of a period's paid conversions that were accepted, of all that are owed or were; skipped ones are not owed.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn delivered_rate(store: &Store, scope: &Scope, period: Period) -> Result<Share> {
    let (part, whole): (i64, i64) = within(
        "select count(*) filter (where d.state = 'delivered'), count(*)
           from conversions c
           join deliveries d on d.conversion_id = c.id
          where c.site_id = :site_id and c.livemode = :livemode and c.occurred_at_ms >= :from and c.occurred_at_ms < :to
            and c.paid_at_ms is not null and d.state <> 'skipped'",
        scope,
        period,
    )
    .one(store.pool())
    .await
    .context("could not count deliveries")?;
    Ok(Share { part, whole })
}

/// [`Overview::leaking`] alone, for every page's tabs.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn leaking(store: &Store, scope: &Scope, period: Period) -> Result<i64> {
    let (leaking,): (i64,) = within(
        "select count(*)
           from conversions c
          where c.site_id = :site_id and c.livemode = :livemode and c.occurred_at_ms >= :from and c.occurred_at_ms < :to
            and c.paid_at_ms is not null
            and (c.match_state <> 'matched' and c.currency is not null
                 or exists (select 1
                              from deliveries d
                             where d.conversion_id = c.id and d.state <> 'delivered' and d.state <> 'skipped'))",
        scope,
        period,
    )
    .one(store.pool())
    .await
    .context("could not count what leaks")?;
    Ok(leaking)
}

/// Conversions that have all this in common.
struct Group {
    /// 1: they are in a group of 0 already, and some destination does not have them yet.
    is_undelivered: i64,
    /// Why they are unmatched; empty for matched ones.
    reason: String,
    /// Empty where no money is stated.
    currency: String,
    conversions: i64,
    gross: i64,
    refunded: i64,
    disputed: i64,
    lost: i64,
    firsts: i64,
    renewals: i64,
}

from_row!(Group {
    is_undelivered,
    reason,
    currency,
    conversions,
    gross,
    refunded,
    disputed,
    lost,
    firsts,
    renewals
});

impl Overview {
    /// Purchases, trials and leads of all visits; never more than all.
    pub(crate) fn conversion_rate(&self) -> Share {
        conversion_rate(self.firsts, self.visits)
    }

    /// Unmatched conversions that state money.
    pub(crate) fn unmatched_payments(&self) -> i64 {
        self.unmatched - self.unmatched_events
    }

    fn take(&mut self, group: &Group) {
        let currency = Some(group.currency.as_str());
        let net = group.gross.saturating_sub(group.refunded).saturating_sub(group.lost);
        let is_unmatched = !group.reason.is_empty();
        let states_money = !group.currency.is_empty();
        let leaks_unmatched = is_unmatched && states_money;
        if group.is_undelivered == 1 {
            self.undelivered += group.conversions;
            add(&mut self.undelivered_money, net, currency);
            if !leaks_unmatched {
                self.leaking += group.conversions;
                add(&mut self.at_risk, net, currency);
            }
            return;
        }
        self.conversions += group.conversions;
        self.firsts += group.firsts;
        self.renewals += group.renewals;
        add(&mut self.gross, group.gross, currency);
        add(&mut self.refunded, group.refunded, currency);
        add(&mut self.net, net, currency);
        add(&mut self.disputed, group.disputed, currency);
        add(&mut self.lost, group.lost, currency);
        let events = if states_money { 0 } else { group.conversions };
        if is_unmatched {
            self.unmatched += group.conversions;
            self.unmatched_events += events;
            add(&mut self.unmatched_money, net, currency);
        } else {
            self.matched += group.conversions;
            self.matched_events += events;
        }
        if leaks_unmatched {
            self.leaking += group.conversions;
            add(&mut self.at_risk, net, currency);
            let reason = UnmatchedReason::or_no_object(Some(&group.reason));
            let (conversions, money) = self.unmatched_by.entry(reason).or_default();
            *conversions += group.conversions;
            add(money, net, currency);
        }
        if group.reason == UnmatchedReason::PlaceholderNotReplaced.as_str() && states_money {
            self.lost_to_missing_tag += group.conversions;
            add(&mut self.lost_to_missing_tag_money, net, currency);
        }
    }
}
