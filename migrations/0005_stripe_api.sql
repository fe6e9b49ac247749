-- What Stripe's own API adds: thin events are fetched, missed ones are listed, and the books are compared.

-- ── thin events: they name what happened and leave it to us to fetch it ──────────────────────────────────────────────
alter table stripe_events add column fetch_path text;      -- what to fetch before it can be read; set when that was found out
alter table stripe_events add column snapshot_event text;  -- the ordinary event that says the same, if there is one
create index stripe_events_to_fetch on stripe_events (due_at_ms) where state = 'received' and fetch_path is not null;
create index stripe_events_snapshot on stripe_events (account, snapshot_event) where snapshot_event is not null;

-- ── backfill: a row lives while a list is not read to its end ────────────────────────────────────────────────────────
create table stripe_backfills (
    source_id text not null references sources (id),
    account text not null,
    list text not null,                       -- events, undelivered, sessions
    from_ms bigint not null,
    until_ms bigint not null,
    cursor text not null,                     -- the last item that was stored
    constraint stripe_backfills_key primary key (source_id, account, list)
);

-- ── reconciliation: the last comparison with Stripe's own numbers, and who does the next ─────────────────────────────
create table stripe_reconciliations (
    source_id text not null references sources (id),
    account text not null,
    due_at_ms bigint not null,
    claimed_until_ms bigint,                  -- the lease
    checked_at_ms bigint,                     -- when it last came to a result
    result text,                              -- JSON
    error text,                               -- why the last try came to none
    constraint stripe_reconciliations_key primary key (source_id, account)
);

-- ── sources: more of them, each with its own habits ──────────────────────────────────────────────────────────────────
alter table sources add column record_bare_payment_intents bigint not null default 0;  -- 1: payment intents without our metadata count too
alter table sources add column account text not null default '';                        -- its own acct_…, where the owner told it
alter table sources add column mode text not null default 'any';                        -- live, test, any: what the endpoint was made for
alter table sources add column secrets_changed_at_ms bigint not null default 0;         -- positions of secrets count from here
create index stripe_events_source on stripe_events (source_id, secret_position, received_at_ms);
