//! The headline numbers of a period.
//! In: a scope and a period. Out: one `Overview`.
//! Promise: a conversion counts once, in the period in which it occurred, also when several things went wrong with it.

use anyhow::{Context as _, Result};

use super::counted::{counted, in_period};
use super::{Period, Scope, Share, add, within};
use crate::money::Totals;
use crate::store::Store;

/// The headline numbers of a period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// Visits without bots, counted by quarter hour: every quarter hour the period touches counts whole.
    pub(crate) visits: i64,
    /// Paid conversions.
    pub(crate) conversions: i64,
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
    let groups: Vec<Group> = within(
        "select currency, match_state, is_placeholder, is_undelivered, count(*) as conversions,
                cast(coalesce(sum(amount_minor), 0) as bigint) as gross,
                cast(coalesce(sum(refunded_minor), 0) as bigint) as refunded,
                cast(coalesce(sum(disputed_minor), 0) as bigint) as disputed,
                cast(coalesce(sum(lost_minor), 0) as bigint) as lost
           from (select c.currency, c.match_state, c.amount_minor, c.refunded_minor, c.disputed_minor,
                        c.lost_minor,
                        case when c.match_reason = 'placeholder_not_replaced' then 1 else 0 end as is_placeholder,
                        case when c.id in (select d.conversion_id
                                             from deliveries d
                                            where d.state <> 'delivered' and d.state <> 'skipped')
                             then 1 else 0 end as is_undelivered
                   from conversions c
                  where c.site_id = $1 and c.livemode = $2
                    and c.occurred_at_ms >= $3 and c.occurred_at_ms < $4
                    and c.paid_at_ms is not null) as paid
          group by currency, match_state, is_placeholder, is_undelivered",
        scope,
        period,
    )
    .fetch_all(store.pool())
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
    let text = concat!(
        "select cast(coalesce(sum(visits), 0) as bigint) from (",
        counted!("0", "''"),
        ") as counted"
    );
    let (visits,): (i64,) = in_period(text, &scope.site_id, period)
        .fetch_one(store.pool())
        .await
        .context("could not count visits")?;
    Ok(visits)
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
          where c.site_id = $1 and c.livemode = $2 and c.occurred_at_ms >= $3 and c.occurred_at_ms < $4
            and c.paid_at_ms is not null and d.state <> 'skipped'",
        scope,
        period,
    )
    .fetch_one(store.pool())
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
          where c.site_id = $1 and c.livemode = $2 and c.occurred_at_ms >= $3 and c.occurred_at_ms < $4
            and c.paid_at_ms is not null
            and (c.match_state <> 'matched' and c.currency is not null
                 or c.id in (select d.conversion_id
                               from deliveries d
                              where d.state <> 'delivered' and d.state <> 'skipped'))",
        scope,
        period,
    )
    .fetch_one(store.pool())
    .await
    .context("could not count what leaks")?;
    Ok(leaking)
}

/// Conversions that have all this in common.
#[derive(sqlx::FromRow)]
struct Group {
    currency: Option<String>,
    match_state: String,
    is_placeholder: i64,
    is_undelivered: i64,
    conversions: i64,
    gross: i64,
    refunded: i64,
    disputed: i64,
    lost: i64,
}

impl Overview {
    /// Unmatched conversions that state money.
    pub(crate) fn unmatched_payments(&self) -> i64 {
        self.unmatched - self.unmatched_events
    }

    fn take(&mut self, group: &Group) {
        let currency = group.currency.as_deref();
        let net = group.gross.saturating_sub(group.refunded).saturating_sub(group.lost);
        let is_unmatched = group.match_state != "matched";
        self.conversions += group.conversions;
        add(&mut self.gross, group.gross, currency);
        add(&mut self.refunded, group.refunded, currency);
        add(&mut self.net, net, currency);
        let states_money = group.currency.is_some();
        let events = if states_money { 0 } else { group.conversions };
        if is_unmatched {
            self.unmatched += group.conversions;
            self.unmatched_events += events;
            add(&mut self.unmatched_money, net, currency);
        } else {
            self.matched += group.conversions;
            self.matched_events += events;
        }
        if group.is_placeholder == 1 && states_money {
            self.lost_to_missing_tag += group.conversions;
            add(&mut self.lost_to_missing_tag_money, net, currency);
        }
        add(&mut self.disputed, group.disputed, currency);
        add(&mut self.lost, group.lost, currency);
        if group.is_undelivered == 1 {
            self.undelivered += group.conversions;
            add(&mut self.undelivered_money, net, currency);
        }
        if (is_unmatched && states_money) || group.is_undelivered == 1 {
            self.leaking += group.conversions;
            add(&mut self.at_risk, net, currency);
        }
    }
}
