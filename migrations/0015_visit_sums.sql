-- What was counted, summed by one thing at a time, so that a report over a long period reads a few hundred rows and not one for
-- each visit. `visit_counts` holds only what came lately: it is folded into here, and the two add up.
create table visit_sums (
    site bigint not null,                     -- the site's number
    dimension bigint not null,                -- 0 all, 1 channel, 2 source, 3 campaign, 4 landing page: without bots; 5 device: with them
    width bigint not null,                    -- quarter hours in it: 1, 96 (a day), 768, 6144
    quarter bigint not null,                  -- its first: a multiple of its width
    name text not null,
    visits bigint not null,
    constraint visit_sums_key primary key (site, dimension, width, quarter, name)
);
create index visit_sums_all on visit_sums (site, dimension, width, quarter, visits) where dimension = 0;  -- the chart reads every quarter hour

-- What somebody should look at: counted on every page, and few unless a destination is down. A list of states would read better, but
-- with one SQLite goes by an index of states instead.
create index deliveries_unsettled on deliveries (destination_id, state, created_at_ms)
    where state <> 'delivered' and state <> 'skipped';
create index deliveries_unsettled_of on deliveries (conversion_id, destination_id, state, created_at_ms, id)
    where state <> 'delivered' and state <> 'skipped';

-- Reports sum without reading rows.
create index conversions_summed on conversions (site_id, livemode, occurred_at_ms, paid_at_ms, currency, match_state, match_reason,
                                                amount_minor, refunded_minor, disputed_minor, lost_minor, id);
create index touches_last on touches (conversion_id, is_last, channel, source, campaign, landing_path, device);
