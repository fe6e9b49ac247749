//! Numbers for the actions on a destination's page. Takes a destination and a time; returns failed
//! deliveries by reason, past conversions that were never sent, and whether its circuit breaker is
//! open.
//! Guarantees that each list is bounded.

use anyhow::{Context as _, Result};

use super::add;
use crate::clock::Timestamp;
use crate::money::Totals;
use crate::store::{FromRow as _, Store, from_row, sql};

/// Maximum number of past conversions that are offered at once.
const MAX_PAST: i64 = 10_000;

/// Failed deliveries with the same reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct GivenUp {
    pub(crate) reason: String,
    pub(crate) count: i64,
    pub(crate) money: Totals,
}

/// Conversions that were never sent to a destination.
#[derive(Clone, Debug, Default)]
pub(crate) struct Past {
    /// `cnv_…`, oldest first.
    pub(crate) ids: Vec<String>,
    pub(crate) money: Totals,
}

/// A destination whose circuit breaker is open.
#[derive(Clone, Debug)]
pub(crate) struct Down {
    pub(crate) since: Timestamp,
    pub(crate) probe_at: Option<Timestamp>,
    pub(crate) error: Option<String>,
}

from_row!(Down { since, probe_at, error });

/// Failed deliveries of a destination that were created since a time, by reason.
pub(crate) async fn given_up(
    store: &Store,
    destination_id: &str,
    since: Timestamp,
) -> Result<Vec<GivenUp>> {
    let rows = sql("select coalesce(d.reason, '') as reason, c.currency, count(*) as deliveries,
                cast(coalesce(sum(c.amount_minor), 0) as bigint) as amount
           from deliveries d
           join conversions c on c.id = d.conversion_id
          where d.state = 'given_up' and d.destination_id = :destination_id and d.created_at_ms >= :since
          group by coalesce(d.reason, ''), c.currency
          order by coalesce(d.reason, '')")
    .set("destination_id", destination_id)
    .set("since", since)
    .fetch_all(store.pool())
    .await
    .context("could not count failed deliveries")?;
    let mut groups = Vec::<GivenUp>::new();
    for row in rows {
        let reason: String = row.get("reason")?;
        if groups.last().is_none_or(|last| last.reason != reason) {
            groups.push(GivenUp { reason, ..GivenUp::default() });
        }
        let Some(group) = groups.last_mut() else { continue };
        group.count += row.get::<i64>("deliveries")?;
        let currency: Option<String> = row.get("currency")?;
        add(&mut group.money, row.get("amount")?, currency.as_deref());
    }
    Ok(groups)
}

/// Paid, matched live conversions of a site without a delivery to a destination, or with one that
/// was skipped as too old.
pub(crate) async fn past(
    store: &Store,
    destination_id: &str,
    site_id: &str,
    since: Timestamp,
) -> Result<Past> {
    let rows = sql("select c.id, c.amount_minor, c.currency
           from conversions c
          where c.site_id = :site_id and c.occurred_at_ms >= :since and c.paid_at_ms is not null and c.livemode = 1
            and c.match_state = 'matched'
            and not exists (select 1 from deliveries d
                             where d.conversion_id = c.id and d.destination_id = :destination_id
                               and coalesce(d.reason, '') not in ('before_destination', 'too_old'))
          order by c.occurred_at_ms
          limit :max_past")
    .set("site_id", site_id)
    .set("since", since)
    .set("destination_id", destination_id)
    .set("max_past", MAX_PAST)
    .fetch_all(store.pool())
    .await
    .context("could not read past conversions")?;
    let mut past = Past::default();
    for row in rows {
        past.ids.push(row.get("id")?);
        let currency: Option<String> = row.get("currency")?;
        let amount: Option<i64> = row.get("amount_minor")?;
        add(&mut past.money, amount.unwrap_or(0), currency.as_deref());
    }
    Ok(past)
}

/// The destinations whose circuit breaker is open now.
pub(crate) async fn down(store: &Store) -> Result<Vec<(String, Down)>> {
    let rows = sql(
        "select destination_id, held_at_ms as since, probe_at_ms as probe_at, last_error as error
           from breakers
          where held_at_ms is not null",
    )
    .fetch_all(store.pool())
    .await
    .context("could not read which destinations are down")?;
    rows.iter().map(|row| Ok((row.get("destination_id")?, Down::from_row(row)?))).collect()
}
