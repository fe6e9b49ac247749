-- Several destinations of several kinds, the circuit breaker of each, and what a delivery remembers beside its message.

-- ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
alter table destinations add column secrets text not null default '';   -- signing secrets, newest first: whsec_… or whsec_…@until_ms, comma-separated
alter table destinations add column deleted_at_ms bigint;               -- its deliveries stay, so its row stays

-- What a destination's message and conditions were at each revision, so that an old mapping can be brought back.
create table destination_revisions (
    destination_id text not null references destinations (id),
    revision bigint not null,
    options text not null,
    saved_at_ms bigint not null,
    saved_by text not null,                   -- an e-mail, or empty for the program itself
    constraint destination_revisions_key primary key (destination_id, revision)
);

-- ── delivery ─────────────────────────────────────────────────────────────────────────────────────────────────────────
-- One row per destination. Locked first by every transaction that claims or settles for it: replicas take turns there.
create table breakers (
    destination_id text not null primary key references destinations (id),
    failures bigint not null,                 -- attempts in a row that call for a retry
    wrong_answers bigint not null,            -- answers in a row that mean a wrong address or credential
    held_at_ms bigint,                        -- since when nothing but probes is sent
    probes bigint not null,                   -- probes that failed since then
    probe_at_ms bigint,                       -- when the next one may go
    slots bigint,                             -- at a time, after reopening; null: as many as the destination allows
    paused_until_ms bigint,                   -- it asked for a pause
    last_error text
);

alter table deliveries add column expires_at_ms bigint;                 -- not sent any more after this
alter table deliveries add column earlier_request text;                 -- the body before a rebuild
create index deliveries_leased on deliveries (destination_id, claimed_until_ms) where claimed_until_ms is not null;
