-- Facts and conversions apart: what Stripe's objects say together is a payment, also before anything makes it a conversion.

-- One row per payment group: the set of Stripe's identity IDs proven to name one payment, and every fact known of it.
-- A conversion, where the facts state one, has the same ID.
create table payments (
    id text not null primary key,             -- cnv_…
    account text not null,
    facts text not null,                      -- JSON: everything its events said, merged
    recorded_at_ms bigint not null,
    merged_into text                          -- of a group that turned out to be another one: where its story goes on
);
create index payments_merged on payments (merged_into) where merged_into is not null;
insert into payments (id, account, facts, recorded_at_ms)
    select id, account, '{}', recorded_at_ms from conversions;

-- What is known of a subscription itself: its customer and its metadata.
create table subscriptions (
    account text not null,
    subscription_id text not null,
    facts text not null,                      -- JSON
    constraint subscriptions_key primary key (account, subscription_id)
);

-- Checkouts that expired unpaid; no conversions. Recovered ones are those that a later checkout names.
create table abandoned (
    payment_id text not null primary key references payments (id),
    site_id text not null references sites (id),
    livemode bigint not null,
    expired_at_ms bigint not null,
    amount_minor bigint,
    currency text,
    click_id text,                            -- of the visit that led to it
    channel text,
    source text,
    medium text,
    campaign text,
    landing_path text
);
create index abandoned_by_time on abandoned (site_id, expired_at_ms);

-- Matches made by hand, by an identity ID of the payment, so that they survive re-joins and a ledger written anew.
create table manual_matches (
    account text not null,
    object_id text not null,
    click_id text not null,
    made_by text not null,                    -- the user's e-mail address
    made_at_ms bigint not null,
    constraint manual_matches_key primary key (account, object_id)
);

-- The same two tables as before, but about payments: what waits or was learned need not be a conversion yet.
alter table waits rename to waits_before;
create table waits (
    awaited text not null,
    conversion_id text not null references payments (id),
    constraint waits_once primary key (awaited, conversion_id)
);
insert into waits (awaited, conversion_id) select awaited, conversion_id from waits_before;
drop table waits_before;
create index waits_payment on waits (conversion_id);

alter table stripe_objects rename to objects_before;
create table stripe_objects (
    account text not null,
    object_id text not null,
    conversion_id text not null references payments (id),
    role text not null,                       -- identity: names the payment; lineage: only lends a click ID
    constraint stripe_objects_once primary key (account, object_id, conversion_id)
);
insert into stripe_objects (account, object_id, conversion_id, role)
    select account, object_id, conversion_id, role from objects_before;
drop table objects_before;
create unique index stripe_objects_name_one on stripe_objects (account, object_id) where role = 'identity';
create index stripe_objects_payment on stripe_objects (conversion_id);

alter table conversions drop column payment;
alter table conversions add column disputed_minor bigint not null default 0;  -- in open disputes
alter table conversions add column lost_minor bigint not null default 0;      -- taken by lost disputes
alter table conversions add column owed_from_ms bigint;                       -- nothing is owed before: its checkout may still come
create index conversions_held on conversions (owed_from_ms) where owed_from_ms is not null;

alter table stripe_events add column summary text;                            -- what was read
-- The facts are read again from the raw events, with the types that are known now. What was delivered is not sent again.
update stripe_events set state = 'received', reason = null, due_at_ms = received_at_ms
 where state = 'processed' or reason = 'unsupported_type';
