//! Paid conversions of a period: read from the sums of the days that have one, and from the conversions of all other times.
//! In: a dimension. Out: the SQL of one statement over both.
//! Promise: every conversion of the period is read once; one statement sees one moment, so that neither a change of a conversion nor a new
//! sum beside it makes a number wrong.

/// The beginning of a statement: two tables for it, `summed` (the summed days that lie in the period) and `gaps` (what is left of it), of
/// the site `$1`, the mode `$2` and the period `$3` to `$4`. Takes a further condition on the days.
macro_rules! summed_days {
    ($condition:literal) => {
        concat!(
            "with summed as materialized (
                  select site, livemode, from_ms, to_ms
                    from conversion_days
                   where site = (select number from sites where id = $1) and livemode = $2
                     and from_ms >= $3 and to_ms <= $4 ", $condition, "),
              gaps as materialized (
                  select since_ms, until_ms
                    from (select coalesce(lag(to_ms) over (order by from_ms), cast($3 as bigint)) as since_ms,
                                 from_ms as until_ms
                            from (select from_ms, to_ms from summed
                                   union all
                                  select cast($4 as bigint), cast($4 as bigint)) as stretches) as edges
                   where since_ms < until_ms) "
        )
    };
}
pub(super) use summed_days;

/// The conversions of the gaps, `c`, with what is read of them and further joins: behind `summed_days!`. The gaps go first, whatever the planner
/// thinks: they are few, and each is a range of the index.
macro_rules! in_gaps {
    ($columns:literal, $joins:literal) => {
        concat!(
            "select ", $columns, ", coalesce(c.currency, '') as currency, 1 as conversions,
                    coalesce(c.amount_minor, 0) as gross, c.refunded_minor as refunded,
                    c.disputed_minor as disputed, c.lost_minor as lost,
                    case when c.kind in ('purchase', 'trial', 'lead') then 1 else 0 end as firsts,
                    case when c.kind = 'renewal' then 1 else 0 end as renewals
               from gaps g
              cross join conversions c ", $joins, "
              where c.site_id = $1 and c.livemode = $2 and c.occurred_at_ms >= g.since_ms and c.occurred_at_ms < g.until_ms
                and c.paid_at_ms is not null "
        )
    };
}
pub(super) use in_gaps;

/// The sums of the summed days, `s`, of dimensions, with what is read of them and of the day, `d`: behind `summed_days!`.
macro_rules! in_sums {
    ($columns:literal, $dimensions:literal) => {
        concat!(
            "select ",
            $columns,
            ", s.currency, s.conversions, s.gross_minor as gross, s.refunded_minor as refunded,
                    s.disputed_minor as disputed, s.lost_minor as lost, s.firsts, s.renewals
               from summed d
              cross join conversion_sums s
              where s.site = d.site and s.livemode = d.livemode and s.dimension in (",
            $dimensions,
            ")
                and s.from_ms = d.from_ms "
        )
    };
}
pub(super) use in_sums;
