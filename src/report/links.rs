//! Numbers of redirect links. Takes a scope and a period; returns clicks, conversions and net
//! revenue by alias. A payment counts once for every link in its customer journey, so the sum over
//! all links may exceed the total.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::counted::{counted, in_period};
use super::{Period, Scope, add, within};
use crate::money::Totals;
use crate::store::{Store, Text};

/// Tolerance when a payment's time is compared with a visit's: payments have whole seconds, visits
/// have milliseconds.
const ROUNDING_MS: i64 = 1000;

/// Numbers of one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkNumbers {
    /// Clicks without bots; each is a visit.
    pub(crate) clicks: i64,
    /// Paid conversions of these visitors after their click.
    pub(crate) conversions: i64,
    /// Net revenue: what was paid, without refunds and lost disputes.
    pub(crate) net: Totals,
}

/// Numbers by alias; links without any are left out.
pub(crate) async fn links(
    store: &Store,
    scope: &Scope,
    period: Period,
) -> Result<BTreeMap<String, LinkNumbers>> {
    let text = Text::from("select name, cast(sum(visits) as bigint) from (")
        + counted(4, "landing_path")
        + ") as counted where substr(name, 1, 3) = '/p/' group by name";
    let clicks: Vec<(String, i64)> = in_period(text, &scope.site_id, period)
        .all(store.pool())
        .await
        .context("could not count the clicks of links")?;
    let conversions: Vec<(String, Option<String>, i64, i64)> = within(
        "select landing_path, currency, count(*), cast(coalesce(sum(net_minor), 0) as bigint)
           from (select distinct c.id, c.currency, c.amount_minor - c.refunded_minor - c.lost_minor as net_minor, v.landing_path
                   from conversions c
                   join visits v on v.click_id = c.click_id
                  where c.site_id = :site_id and c.livemode = :livemode and c.occurred_at_ms >= :from and c.occurred_at_ms < :to
                    and c.paid_at_ms is not null
                    and substr(v.landing_path, 1, 3) = '/p/' and v.at_ms < c.occurred_at_ms + :rounding_ms) as led
          group by landing_path, currency",
        scope,
        period,
    )
    .set("rounding_ms", ROUNDING_MS)
    .all(store.pool())
    .await
    .context("could not sum the conversions of links")?;
    let mut numbers = BTreeMap::<String, LinkNumbers>::new();
    let alias = |path: String| path.trim_start_matches("/p/").to_owned();
    for (path, clicks) in clicks {
        numbers.entry(alias(path)).or_default().clicks += clicks;
    }
    for (path, currency, conversions, net_minor) in conversions {
        let link = numbers.entry(alias(path)).or_default();
        link.conversions += conversions;
        add(&mut link.net, net_minor, currency.as_deref());
    }
    Ok(numbers)
}
