//! Unmatched and undelivered money. Takes a scope and a period; returns unmatched payments by
//! reason, and undelivered ones by destination and state. Guarantees that every unmatched and every
//! undelivered payment of the period is counted in exactly one row of its list.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{Period, Scope, add, within};
use crate::clock::Timestamp;
use crate::domain::{DeliveryState, UnmatchedReason};
use crate::money::Totals;
use crate::store::{Store, from_row, sql};

/// Unmatched and undelivered money of a period.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaks {
    /// Paid but unmatched, by reason, most conversions first.
    pub(crate) unmatched: Vec<Leak>,
    /// Unmatched conversions without an amount: page events, leads.
    pub(crate) events: Vec<Leak>,
    /// Not delivered yet, by destination and state.
    pub(crate) undelivered: Vec<Undelivered>,
    /// Checkouts that expired unpaid, by campaign, most first. They are not conversions, so they
    /// are not part of the sums above.
    pub(crate) abandoned: Vec<Abandoned>,
}

/// Checkouts that expired unpaid.
#[derive(Clone, Debug)]
pub(crate) struct Abandoned {
    /// Their campaign, or their source if there is no campaign; `None` if no visit is known.
    pub(crate) campaign: Option<String>,
    pub(crate) checkouts: i64,
    /// How many of them were recovered by a later checkout.
    pub(crate) recovered: i64,
    /// The sum of their amounts.
    pub(crate) money: Totals,
}

/// Unmatched conversions of one reason.
#[derive(Clone, Debug)]
pub(crate) struct Leak {
    pub(crate) reason: UnmatchedReason,
    pub(crate) conversions: i64,
    pub(crate) money: Totals,
    /// When the first of them occurred.
    pub(crate) first_at: Timestamp,
    /// When the last of them occurred.
    pub(crate) last_at: Timestamp,
    /// The newest three.
    pub(crate) examples: Vec<LeakExample>,
}

/// One unmatched conversion.
#[derive(Clone, Debug)]
pub(crate) struct LeakExample {
    /// The reference in Stripe's event.
    pub(crate) reference: Option<String>,
    /// What was bought.
    pub(crate) description: Option<String>,
}

/// Deliveries of one destination in one state other than delivered and skipped.
#[derive(Clone, Debug)]
pub(crate) struct Undelivered {
    pub(crate) destination_id: String,
    /// Pending, given up or held.
    pub(crate) state: DeliveryState,
    /// How many messages.
    pub(crate) deliveries: i64,
    /// Net revenue of their conversions, each counted once.
    pub(crate) money: Totals,
    /// When the oldest was created.
    pub(crate) oldest_at: Timestamp,
    /// The newest of them.
    pub(crate) example_delivery_id: String,
    pub(crate) last_status: Option<i64>,
    pub(crate) last_error: Option<String>,
}

/// Reads the unmatched and undelivered money of a period.
pub(crate) async fn leaks(store: &Store, scope: &Scope, period: Period) -> Result<Leaks> {
    let (unmatched, events) = unmatched(store, scope, period).await?;
    Ok(Leaks {
        unmatched,
        events,
        undelivered: undelivered(store, scope, period).await?,
        abandoned: abandoned(store, scope, period).await?,
    })
}

struct UnmatchedGroup {
    reason: UnmatchedReason,
    states_money: i64,
    currency: Option<String>,
    conversions: i64,
    net: i64,
    first_at: Timestamp,
    last_at: Timestamp,
}

from_row!(UnmatchedGroup { reason, states_money, currency, conversions, net, first_at, last_at });

/// Unmatched conversions with an amount, and without.
async fn unmatched(store: &Store, scope: &Scope, period: Period) -> Result<(Vec<Leak>, Vec<Leak>)> {
    let groups: Vec<UnmatchedGroup> = within(
        "select coalesce(match_reason, 'no_object') as reason, currency, count(*) as conversions,
                case when currency is null then 0 else 1 end as states_money,
                cast(coalesce(sum(amount_minor - refunded_minor - lost_minor), 0) as bigint) as net,
                min(occurred_at_ms) as first_at, max(occurred_at_ms) as last_at
           from conversions
          where site_id = :site_id and livemode = :livemode and occurred_at_ms >= :from and occurred_at_ms < :to
            and paid_at_ms is not null and match_state = 'unmatched'
          group by coalesce(match_reason, 'no_object'), currency",
        scope,
        period,
    )
    .all(store.pool())
    .await
    .context("could not sum unmatched conversions")?;
    let examples: Vec<(UnmatchedReason, i64, Option<String>, Option<String>)> = within(
        "select reason, states_money, client_reference_id, description
           from (select coalesce(match_reason, 'no_object') as reason, client_reference_id, description,
                        case when currency is null then 0 else 1 end as states_money,
                        row_number() over (partition by coalesce(match_reason, 'no_object'), case when currency is null then 0 else 1 end
                                           order by occurred_at_ms desc, id desc) as place
                   from conversions
                  where site_id = :site_id and livemode = :livemode and occurred_at_ms >= :from and occurred_at_ms < :to
                    and paid_at_ms is not null and match_state = 'unmatched') as newest
          where place <= 3
          order by reason, states_money, place",
        scope,
        period,
    )
    .all(store.pool())
    .await
    .context("could not find examples of unmatched conversions")?;

    let mut by_reason = BTreeMap::<(i64, UnmatchedReason), Leak>::new();
    for group in groups {
        let key = (group.states_money, group.reason);
        let leak = by_reason.entry(key).or_insert_with(|| Leak {
            reason: group.reason,
            conversions: 0,
            money: Totals::default(),
            first_at: group.first_at,
            last_at: group.last_at,
            examples: Vec::new(),
        });
        leak.conversions += group.conversions;
        leak.first_at = leak.first_at.min(group.first_at);
        leak.last_at = leak.last_at.max(group.last_at);
        add(&mut leak.money, group.net, group.currency.as_deref());
    }
    for (reason, states_money, reference, description) in examples {
        if let Some(leak) = by_reason.get_mut(&(states_money, reason)) {
            leak.examples.push(LeakExample { reference, description });
        }
    }
    let (mut with_money, mut without) = (Vec::new(), Vec::new());
    for ((states_money, _), leak) in by_reason {
        if states_money == 1 { with_money.push(leak) } else { without.push(leak) }
    }
    with_money.sort_by_key(|leak| std::cmp::Reverse(leak.conversions));
    without.sort_by_key(|leak| std::cmp::Reverse(leak.conversions));
    Ok((with_money, without))
}

struct AbandonedGroup {
    name: Option<String>,
    currency: Option<String>,
    checkouts: i64,
    recovered: i64,
    worth: i64,
}

from_row!(AbandonedGroup { name, currency, checkouts, recovered, worth });

async fn abandoned(store: &Store, scope: &Scope, period: Period) -> Result<Vec<Abandoned>> {
    let groups: Vec<AbandonedGroup> = within(
        "select name, currency, count(*) as checkouts, cast(sum(is_recovered) as bigint) as recovered,
                cast(coalesce(sum(amount_minor), 0) as bigint) as worth
           from (select coalesce(a.campaign, a.source, a.channel) as name, a.currency, a.amount_minor,
                        case when exists (select 1
                                            from stripe_objects mine
                                            join stripe_objects later on later.account = mine.account
                                             and later.object_id = mine.object_id and later.role = 'lineage'
                                           where mine.conversion_id = a.payment_id and mine.role = 'identity')
                             then 1 else 0 end as is_recovered
                   from abandoned a
                  where a.site_id = :site_id and a.livemode = :livemode and a.expired_at_ms >= :from and a.expired_at_ms < :to) as expired
          group by name, currency",
        scope,
        period,
    )
    .all(store.pool())
    .await
    .context("could not count abandoned checkouts")?;
    let mut by_name = BTreeMap::<Option<String>, Abandoned>::new();
    for group in groups {
        let line = by_name.entry(group.name.clone()).or_insert_with(|| Abandoned {
            campaign: group.name,
            checkouts: 0,
            recovered: 0,
            money: Totals::default(),
        });
        line.checkouts += group.checkouts;
        line.recovered += group.recovered;
        add(&mut line.money, group.worth, group.currency.as_deref());
    }
    let mut lines: Vec<Abandoned> = by_name.into_values().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.checkouts));
    Ok(lines)
}

struct UndeliveredGroup {
    destination_id: String,
    state: DeliveryState,
    currency: Option<String>,
    deliveries: i64,
    net: i64,
    oldest_at: Timestamp,
    newest_id: String,
}

from_row!(UndeliveredGroup |row| {
    destination_id, state, currency, deliveries, net, oldest_at, newest_id,
});

/// Deliveries of the period's conversions that are pending, paused or failed, by destination and
/// state.
pub(crate) async fn undelivered(
    store: &Store,
    scope: &Scope,
    period: Period,
) -> Result<Vec<Undelivered>> {
    // The inner grouping counts a conversion with two messages to one destination once. It is
    // forced to run first, because undelivered messages are few compared with the conversions of a
    // period, and their index is in this order.
    let groups: Vec<UndeliveredGroup> = within(
        "select destination_id, state, currency,
                cast(sum(messages) as bigint) as deliveries,
                cast(coalesce(sum(amount_minor - refunded_minor - lost_minor), 0) as bigint) as net,
                min(oldest_ms) as oldest_at, max(newest_id) as newest_id
           from (select conversion_id, destination_id, state,
                        count(*) as messages, min(created_at_ms) as oldest_ms, max(id) as newest_id
                   from deliveries
                  where state <> 'delivered' and state <> 'skipped'
                  group by conversion_id, destination_id, state) as undelivered
          cross join conversions c
          where c.id = undelivered.conversion_id and c.site_id = :site_id and c.livemode = :livemode
            and c.occurred_at_ms >= :from and c.occurred_at_ms < :to and c.paid_at_ms is not null
          group by destination_id, state, currency
          order by destination_id, state, currency nulls last",
        scope,
        period,
    )
    .all(store.pool())
    .await
    .context("could not sum undelivered conversions")?;

    let mut lines = Vec::<Undelivered>::new();
    for group in groups {
        let is_same = |line: &Undelivered| {
            line.destination_id == group.destination_id && line.state == group.state
        };
        if !lines.last().is_some_and(is_same) {
            lines.push(Undelivered {
                destination_id: group.destination_id,
                state: group.state,
                deliveries: 0,
                money: Totals::default(),
                oldest_at: group.oldest_at,
                example_delivery_id: group.newest_id.clone(),
                last_status: None,
                last_error: None,
            });
        }
        let Some(line) = lines.last_mut() else { continue };
        line.deliveries += group.deliveries;
        line.oldest_at = line.oldest_at.min(group.oldest_at);
        line.example_delivery_id = line.example_delivery_id.clone().max(group.newest_id);
        add(&mut line.money, group.net, group.currency.as_deref());
    }
    for line in &mut lines {
        let last: Option<(Option<i64>, Option<String>)> =
            sql("select last_status, last_error from deliveries where id = :example_delivery_id")
                .set("example_delivery_id", &line.example_delivery_id)
                .optional(store.pool())
                .await
                .context("could not read an undelivered message's last answer")?;
        (line.last_status, line.last_error) = last.unwrap_or_default();
    }
    Ok(lines)
}
