-- What was sold on days that are over, summed by one thing at a time, so that a report over a long period reads a few hundred rows and not
-- one for each conversion. A conversion may change for years (a refund, a late visit, a match by hand): whoever writes one takes the day it
-- stands on out of `conversion_days`, in the same transaction, and until that day is summed anew reports read its conversions.
create table conversion_days (
    site bigint not null,                     -- the site's number
    livemode bigint not null,
    from_ms bigint not null,
    to_ms bigint not null,                    -- without it; a stretch without a conversion may be longer than a day. No two overlap
    zone text not null,                       -- in which it is a day
    constraint conversion_days_key primary key (site, livemode, from_ms)
);

-- Paid conversions of those days. What stands here of a day that is not above is out of date.
create table conversion_sums (
    site bigint not null,
    livemode bigint not null,
    dimension bigint not null,                -- 0 why unmatched, empty: matched; of the last touch: 1 channel, 2 source, 3 campaign,
                                              -- 4 landing page, 5 device; 6 without a touch
    from_ms bigint not null,                  -- of the day
    name text not null,
    currency text not null,                   -- empty: states no money
    conversions bigint not null,
    gross_minor bigint not null,
    refunded_minor bigint not null,
    disputed_minor bigint not null,
    lost_minor bigint not null,
    constraint conversion_sums_key primary key (site, livemode, dimension, from_ms, name, currency)
);

-- One row, updated first by whoever sums a day and by whoever changes one that may be summed: its lock makes them take turns.
create table conversion_sums_turn (
    turn bigint not null
);
insert into conversion_sums_turn (turn) values (0);
