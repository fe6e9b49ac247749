//! The headline numbers of a period. Takes a scope and a period; returns one `Overview`.
//! Guarantees that a conversion counts once, in the period in which it occurred, even if it is both
//! unmatched and undelivered.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::counted::{counted, in_period};
use super::filter::{SiteKey, filter};
use super::summed::{in_gaps, in_sums, summed_days};
use super::{Period, Scope, Share, add, conversion_rate, within};
use crate::clock::Timestamp;
use crate::domain::{UnmatchedReason, Word as _};
use crate::money::Totals;
use crate::store::{Store, Text, from_row};

filter! {
    /// What an overview is about.
    OverviewFilter {
        /// RFC 3339 or a date (UTC); by default 30 days ago.
        from: Timestamp = "from";
        /// The first instant after the period; by default now.
        to: Timestamp = "to";
        /// A site's key; by default the first site.
        site_id: SiteKey = "site";
        /// False counts test payments; by default live ones.
        livemode: bool = "livemode";
    }
}

/// The headline numbers of a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// Visits without bots. Every quarter hour that the period overlaps counts as a whole.
    pub(crate) visits: i64,
    /// Paid conversions, without events of pages.
    pub(crate) conversions: i64,
    /// Of these: purchases, trials and leads. The conversion rate uses them.
    pub(crate) firsts: i64,
    /// Of these: renewals, which need no visit.
    pub(crate) renewals: i64,
    /// Events that pages reported. They are none of the conversions, because anybody can report
    /// them.
    pub(crate) page_events: i64,
    pub(crate) matched: i64,
    pub(crate) unmatched: i64,
    /// Of the matched ones: those without an amount, such as leads. They are no measure of how well
    /// payments are matched.
    pub(crate) matched_events: i64,
    /// The same of the unmatched ones.
    pub(crate) unmatched_events: i64,
    pub(crate) gross: Totals,
    /// The refunded part of it.
    pub(crate) refunded: Totals,
    /// The amount that lost disputes took.
    pub(crate) lost: Totals,
    /// `gross` without `refunded` and `lost`.
    pub(crate) net: Totals,
    /// The part of `net` that open disputes withhold.
    pub(crate) disputed: Totals,
    /// Matched conversions of all that have an amount.
    pub(crate) match_rate: Share,
    /// Net revenue of unmatched conversions.
    pub(crate) unmatched_money: Totals,
    /// The unmatched ones with an amount: number and net revenue by reason.
    pub(crate) unmatched_by: BTreeMap<UnmatchedReason, (i64, Totals)>,
    /// Conversions that a destination has not received: pending, failed or paused.
    pub(crate) undelivered: i64,
    pub(crate) undelivered_money: Totals,
    /// Conversions that are unmatched or undelivered, each counted once.
    pub(crate) leaking: i64,
    /// Net revenue of conversions that are unmatched or undelivered, each counted once.
    pub(crate) at_risk: Totals,
    /// Conversions whose placeholder was not replaced, because the tag didn't run.
    pub(crate) lost_to_missing_tag: i64,
    pub(crate) lost_to_missing_tag_money: Totals,
}

/// Reads the headline numbers of a period.
pub(crate) async fn overview(store: &Store, scope: &Scope, period: Period) -> Result<Overview> {
    // There are few undelivered conversions in a period, so they are read from their own index.
    let groups: Vec<Group> = within(
        summed_days("")
            +
            "select 0 as is_undelivered, reason, currency, cast(sum(conversions) as bigint) as conversions,
                    cast(sum(gross) as bigint) as gross, cast(sum(refunded) as bigint) as refunded,
                    cast(sum(disputed) as bigint) as disputed, cast(sum(lost) as bigint) as lost,
                    cast(sum(firsts) as bigint) as firsts, cast(sum(renewals) as bigint) as renewals,
                    cast(sum(page_events) as bigint) as page_events
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
                    cast(0 as bigint) as firsts, cast(0 as bigint) as renewals, cast(0 as bigint) as page_events
               from (select case when c.match_state = 'matched' then '' else coalesce(c.match_reason, 'no_object') end as reason,
                            coalesce(c.currency, '') as currency, coalesce(c.amount_minor, 0) as gross,
                            c.refunded_minor as refunded, c.disputed_minor as disputed, c.lost_minor as lost
                       from (select distinct conversion_id
                               from deliveries
                              where state <> 'delivered' and state <> 'skipped') as unsent
                      cross join conversions c
                      where c.id = unsent.conversion_id and c.site_id = :site_id and c.livemode = :livemode
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

/// Visits without bots. Every quarter hour that the period overlaps counts as a whole.
pub(crate) async fn visits_in(store: &Store, scope: &Scope, period: Period) -> Result<i64> {
    let text = Text::from("select cast(coalesce(sum(visits), 0) as bigint) from (")
        + counted(0, "''")
        + ") as counted";
    in_period(text, &scope.site_id, period)
        .value(store.pool())
        .await
        .context("could not count visits")
}

/// Accepted deliveries of a period's paid conversions, of all that are not skipped.
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

/// Reads [`Overview::leaking`] alone, for the tabs of every page.
pub(crate) async fn leaking(store: &Store, scope: &Scope, period: Period) -> Result<i64> {
    within(
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
    .value(store.pool())
    .await
    .context("could not count unmatched and undelivered conversions")
}

/// A group of conversions with these values in common.
struct Group {
    /// 1: these are also part of a group with 0, and a destination has not received them.
    is_undelivered: i64,
    /// Why they are unmatched; empty for matched ones.
    reason: String,
    /// Empty if they have no amount.
    currency: String,
    conversions: i64,
    gross: i64,
    refunded: i64,
    disputed: i64,
    lost: i64,
    firsts: i64,
    renewals: i64,
    page_events: i64,
}

from_row!(Group |row| {
    is_undelivered, reason, currency, conversions, gross, refunded, disputed, lost, firsts, renewals,
    page_events,
});

impl Overview {
    /// Purchases, trials and leads per visit; never more than 1.
    pub(crate) fn conversion_rate(&self) -> Share {
        conversion_rate(self.firsts, self.visits)
    }

    /// Unmatched conversions with an amount.
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
        self.page_events += group.page_events;
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
