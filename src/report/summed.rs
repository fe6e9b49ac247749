//! Paid conversions of a period, from the sums of rolled-up days and from the conversions of all
//! other times. Takes a dimension; returns the SQL of one statement over both. Guarantees that
//! every conversion of the period counts once. One statement reads one snapshot, so neither a
//! concurrent change of a conversion nor a concurrent rollup makes a number wrong.

use crate::store::Text;

/// The `with` clause of a statement: `summed` (the rolled-up days that lie in the period) and
/// `gaps` (the rest of the period), of `:site_id`, `:livemode` and the period `:from` to `:to`.
/// Takes an additional condition on the days.
pub(super) fn summed_days(condition: &'static str) -> Text {
    Text::from(
        "with summed as materialized (
              select site, livemode, from_ms, to_ms
                from conversion_days
               where site = (select number from sites where id = :site_id) and livemode = :livemode
                 and from_ms >= :from and to_ms <= :to ",
    ) + condition
        + "),
          gaps as materialized (
              select since_ms, until_ms
                from (select coalesce(lag(to_ms) over (order by from_ms), cast(:from as bigint)) as since_ms,
                             from_ms as until_ms
                        from (select from_ms, to_ms from summed
                               union all
                              select cast(:to as bigint), cast(:to as bigint)) as stretches) as edges
               where since_ms < until_ms) "
}

/// A condition on a conversion `c`: a page reported it. Anybody can report such events, so they are
/// counted apart.
const IS_PAGE_EVENT: &str =
    "coalesce(c.source_id, '') in (select id from sources where kind = 'page')";

/// A select over the conversions `c` in the gaps, to follow [`summed_days`]. Takes columns and
/// additional joins. The cross join makes the planner start with the gaps: they are few, and each
/// is a range of the index.
pub(super) fn in_gaps(columns: &'static str, joins: &'static str) -> Text {
    Text::from("select ")
        + columns
        + ", coalesce(c.currency, '') as currency, coalesce(c.amount_minor, 0) as gross,
             c.refunded_minor as refunded, c.disputed_minor as disputed, c.lost_minor as lost,
             case when "
        + IS_PAGE_EVENT
        + " then 0 else 1 end as conversions, case when "
        + IS_PAGE_EVENT
        + " then 1 else 0 end as page_events,
             case when c.kind in ('purchase', 'trial', 'lead') and not "
        + IS_PAGE_EVENT
        + " then 1 else 0 end as firsts,
             case when c.kind = 'renewal' and not "
        + IS_PAGE_EVENT
        + " then 1 else 0 end as renewals
           from gaps g
          cross join conversions c "
        + joins
        + "
          where c.site_id = :site_id and c.livemode = :livemode
            and c.occurred_at_ms >= g.since_ms and c.occurred_at_ms < g.until_ms
            and c.paid_at_ms is not null "
}

/// A select over the sums `s` of the rolled-up days `d`, to follow [`summed_days`]. Takes columns
/// and the numbers of dimensions.
pub(super) fn in_sums(columns: &'static str, dimensions: &'static str) -> Text {
    Text::from("select ")
        + columns
        + ", s.currency, s.gross_minor as gross, s.refunded_minor as refunded,
             s.disputed_minor as disputed, s.lost_minor as lost, s.conversions, s.page_events,
             s.firsts, s.renewals
           from summed d
          cross join conversion_sums s
          where s.site = d.site and s.livemode = d.livemode and s.dimension in ("
        + dimensions
        + ")
            and s.from_ms = d.from_ms "
}
