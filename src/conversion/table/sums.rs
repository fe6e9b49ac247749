//! SQL of `conversion_days` and `conversion_sums`. Private to this room.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::store::turn::{self, Hold, Names};
use crate::store::{Store, sql};

/// A summed stretch, or one to be summed: its first instant, and the first after it.
pub(in crate::conversion) type Stretch = (i64, i64);

const TURN: &str = "sums of conversions";

/// Waits until nobody else sums days or changes summed ones, and keeps them waiting until this transaction ends.
pub(in crate::conversion) async fn take_sums_turn(tx: &mut AnyConnection) -> Result<()> {
    turn::take(tx, &Names::default().with(Hold::Alone, TURN)).await
}

/// Waits until nobody sums days, and keeps them from it until this transaction ends. Others may change summed days beside.
pub(in crate::conversion) async fn share_sums_turn(tx: &mut AnyConnection) -> Result<()> {
    turn::take(tx, &Names::default().with(Hold::Shared, TURN)).await
}

/// Lets reports read the conversions themselves around this time.
pub(in crate::conversion) async fn unsum(
    tx: &mut AnyConnection,
    site_id: &str,
    livemode: bool,
    at_ms: i64,
) -> Result<()> {
    sql("delete from conversion_days
          where site = (select number from sites where id = :site_id) and livemode = :livemode and from_ms <= :at_ms and to_ms > :at_ms")
    .set("site_id", site_id)
    .set("livemode", livemode)
    .set("at_ms", at_ms)
    .execute(tx)
    .await
    .context("could not take a day out of the sums of conversions")?;
    Ok(())
}

/// The same of all times and sites.
pub(in crate::conversion) async fn unsum_all(tx: &mut AnyConnection) -> Result<()> {
    take_sums_turn(tx).await?;
    sql("delete from conversion_days")
        .execute(tx)
        .await
        .context("could not take all days out of the sums of conversions")?;
    Ok(())
}

/// What is summed, in order, each with its zone.
pub(in crate::conversion) async fn summed(
    store: &Store,
    site: i64,
    livemode: bool,
) -> Result<Vec<(Stretch, String)>> {
    let rows = sql("select from_ms, to_ms, zone from conversion_days where site = :site and livemode = :livemode order by from_ms")
    .set("site", site)
    .set("livemode", livemode)
    .fetch_all(store.pool())
    .await
    .context("could not see which days are summed")?;
    rows.iter()
        .map(|row| Ok(((row.get("from_ms")?, row.get("to_ms")?), row.get("zone")?)))
        .collect()
}

/// Takes out what is no day of this zone, and what is not over yet: the clock was wrong when it was summed.
pub(in crate::conversion) async fn unsum_others(
    tx: &mut AnyConnection,
    (site, livemode): (i64, bool),
    zone: &str,
    until_ms: i64,
) -> Result<()> {
    take_sums_turn(tx).await?;
    sql("delete from conversion_days where site = :site and livemode = :livemode and (zone <> :zone or to_ms > :until_ms)")
    .set("site", site)
    .set("livemode", livemode)
    .set("zone", zone)
    .set("until_ms", until_ms)
    .execute(tx)
    .await
    .context("could not take other days out of the sums of conversions")?;
    Ok(())
}

/// True when something is summed there.
pub(in crate::conversion) async fn is_summed(
    tx: &mut AnyConnection,
    (site, livemode): (i64, bool),
    (from_ms, to_ms): Stretch,
) -> Result<bool> {
    let row = sql("select 1 from conversion_days where site = :site and livemode = :livemode and from_ms < :to_ms and to_ms > :from_ms limit 1")
    .set("site", site)
    .set("livemode", livemode)
    .set("to_ms", to_ms)
    .set("from_ms", from_ms)
    .fetch_optional(tx)
    .await
    .context("could not see what is summed")?;
    Ok(row.is_some())
}

/// When the first conversion of a stretch occurred.
pub(in crate::conversion) async fn first_conversion(
    connection: &mut AnyConnection,
    site_id: &str,
    livemode: bool,
    (from_ms, to_ms): Stretch,
) -> Result<Option<i64>> {
    let row = sql("select min(occurred_at_ms) as first_ms
           from conversions
          where site_id = :site_id and livemode = :livemode and occurred_at_ms >= :from_ms and occurred_at_ms < :to_ms")
    .set("site_id", site_id)
    .set("livemode", livemode)
    .set("from_ms", from_ms)
    .set("to_ms", to_ms)
    .fetch_one(connection)
    .await
    .context("could not find the first conversion to sum")?;
    Ok(row.get("first_ms")?)
}

/// A dimension's number, the names in it, and where they are read.
macro_rules! sum {
    ($dimension:literal, $name:literal, $touch:literal) => {
        concat!(
            "insert into conversion_sums (site, livemode, dimension, from_ms, name, currency, conversions, gross_minor,
                                          refunded_minor, disputed_minor, lost_minor, firsts, renewals)
             select site, livemode, ", $dimension, ", from_ms, name, currency, count(*),
                    cast(sum(gross) as bigint), cast(sum(refunded) as bigint), cast(sum(disputed) as bigint),
                    cast(sum(lost) as bigint), cast(sum(is_first) as bigint), cast(sum(is_renewal) as bigint)
               from (select s.number as site, c.livemode, d.from_ms, ", $name, " as name,
                            coalesce(c.currency, '') as currency, coalesce(c.amount_minor, 0) as gross,
                            c.refunded_minor as refunded, c.disputed_minor as disputed, c.lost_minor as lost,
                            case when c.kind in ('purchase', 'trial', 'lead') then 1 else 0 end as is_first,
                            case when c.kind = 'renewal' then 1 else 0 end as is_renewal
                       from conversion_days d
                       join sites s on s.number = d.site
                       join conversions c on c.site_id = s.id and c.livemode = d.livemode
                        and c.occurred_at_ms >= d.from_ms and c.occurred_at_ms < d.to_ms ", $touch, "
                      where d.site = :site and d.livemode = :livemode and d.from_ms = :from_ms and c.paid_at_ms is not null) as paid
              group by site, livemode, from_ms, name, currency"
        )
    };
    ($dimension:literal, $column:literal) => {
        sum!(
            $dimension,
            $column,
            "join touches t on t.conversion_id = c.id and t.is_last = 1"
        )
    };
}

const SUMS: [&str; 7] = [
    sum!(
        "0",
        "case when c.match_state = 'matched' then '' else coalesce(c.match_reason, 'no_object') end",
        ""
    ),
    sum!("1", "t.channel"),
    sum!("2", "coalesce(t.source, '')"),
    sum!("3", "coalesce(t.campaign, '')"),
    sum!("4", "coalesce(t.landing_path, '')"),
    sum!("5", "t.device"),
    sum!(
        "6",
        "''",
        "and not exists (select 1 from touches t where t.conversion_id = c.id and t.is_last = 1)"
    ),
];

/// Sums a stretch that is not summed.
pub(in crate::conversion) async fn sum(
    tx: &mut AnyConnection,
    (site, livemode): (i64, bool),
    (from_ms, to_ms): Stretch,
    zone: &str,
) -> Result<()> {
    let steps = [
        "delete from conversion_sums
          where site = :site and livemode = :livemode and dimension in (0, 1, 2, 3, 4, 5, 6) and from_ms >= :from_ms and from_ms < :to_ms",
        "insert into conversion_days (site, livemode, from_ms, to_ms, zone) values (:site, :livemode, :from_ms, :to_ms, :zone)",
    ];
    for step in steps {
        sql(step)
            .set("site", site)
            .set("livemode", livemode)
            .set("from_ms", from_ms)
            .set("to_ms", to_ms)
            .set("zone", zone)
            .execute(&mut *tx)
            .await
            .context("could not begin a sum of conversions")?;
    }
    for text in SUMS {
        sql(text)
            .set("site", site)
            .set("livemode", livemode)
            .set("from_ms", from_ms)
            .execute(&mut *tx)
            .await
            .context("could not sum conversions")?;
    }
    Ok(())
}
