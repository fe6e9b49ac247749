//! SQL of `conversion_days` and `conversion_sums`, the rollups of conversions. Private to this
//! module.

use anyhow::{Context as _, Result};
use sqlx::AnyConnection;

use crate::store::turn::{self, Hold, Names};
use crate::store::{Store, sql};

/// A stretch of time, rolled up or to be rolled up: its first instant, and the first instant after
/// it.
pub(in crate::conversion) type Stretch = (i64, i64);

const TURN: &str = "sums of conversions";

/// Waits until no other transaction rolls up days or changes rolled-up ones, and blocks others
/// until this one ends.
pub(in crate::conversion) async fn take_sums_turn(tx: &mut AnyConnection) -> Result<()> {
    turn::take(tx, &Names::default().with(Hold::Alone, TURN)).await
}

/// Waits until no other transaction rolls up days, and blocks that until this one ends. Other
/// transactions may change rolled-up days meanwhile.
pub(in crate::conversion) async fn share_sums_turn(tx: &mut AnyConnection) -> Result<()> {
    turn::take(tx, &Names::default().with(Hold::Shared, TURN)).await
}

/// Removes the rolled-up day of this time, so that reports read the conversions themselves.
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
    .context("could not remove a rolled-up day of conversions")?;
    Ok(())
}

/// The same for all times and sites.
pub(in crate::conversion) async fn unsum_all(tx: &mut AnyConnection) -> Result<()> {
    take_sums_turn(tx).await?;
    sql("delete from conversion_days")
        .execute(tx)
        .await
        .context("could not remove the rolled-up days of conversions")?;
    Ok(())
}

/// The rolled-up stretches in order, each with its zone.
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
    .context("could not read which days are rolled up")?;
    rows.iter()
        .map(|row| Ok(((row.get("from_ms")?, row.get("to_ms")?), row.get("zone")?)))
        .collect()
}

/// Removes rolled-up stretches of other zones, and those that end after `until_ms`: they were
/// rolled up while the clock was wrong.
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
    .context("could not remove rolled-up days of another time zone")?;
    Ok(())
}

/// True if any part of this stretch is rolled up.
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
    .context("could not check what is rolled up")?;
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
    .context("could not find the first conversion to roll up")?;
    Ok(row.get("first_ms")?)
}

/// The statement for one dimension: its number, the column with its names, and the join that
/// provides the column.
macro_rules! sum {
    ($dimension:literal, $name:literal, $touch:literal) => {
        concat!(
            "insert into conversion_sums (site, livemode, dimension, from_ms, name, currency, conversions, gross_minor,
                                          refunded_minor, disputed_minor, lost_minor, firsts, renewals, page_events)
             select site, livemode, ", $dimension, ", from_ms, name, currency, cast(sum(1 - is_page_event) as bigint),
                    cast(sum(gross) as bigint), cast(sum(refunded) as bigint), cast(sum(disputed) as bigint),
                    cast(sum(lost) as bigint), cast(sum(is_first - is_first * is_page_event) as bigint),
                    cast(sum(is_renewal - is_renewal * is_page_event) as bigint), cast(sum(is_page_event) as bigint)
               from (select s.number as site, c.livemode, d.from_ms, ", $name, " as name,
                            coalesce(c.currency, '') as currency, coalesce(c.amount_minor, 0) as gross,
                            c.refunded_minor as refunded, c.disputed_minor as disputed, c.lost_minor as lost,
                            case when c.kind in ('purchase', 'trial', 'lead') then 1 else 0 end as is_first,
                            case when c.kind = 'renewal' then 1 else 0 end as is_renewal,
                            case when coalesce(c.source_id, '') in (select id from sources where kind = 'page') then 1 else 0 end as is_page_event
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

/// Rolls up a stretch that is not rolled up.
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
            .context("could not begin a rollup of conversions")?;
    }
    for text in SUMS {
        sql(text)
            .set("site", site)
            .set("livemode", livemode)
            .set("from_ms", from_ms)
            .execute(&mut *tx)
            .await
            .context("could not roll up conversions")?;
    }
    Ok(())
}
