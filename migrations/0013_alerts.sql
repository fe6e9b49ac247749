-- Alerts: who is told when something goes wrong, what is going wrong, and what is owed to whom because of it.

-- Where alerts go.
create table alert_targets (
    id text not null primary key,             -- alt_…
    kind text not null,                       -- slack, webhook, email
    name text not null,
    address text not null,                    -- a URL, which is a secret; or e-mail addresses, comma-separated
    secret text not null,                     -- signs a webhook's messages; else empty
    enabled bigint not null,
    created_at_ms bigint not null
);

-- Single values: the thresholds, the mail server, the address of these pages. JSON by name.
create table alert_settings (
    name text not null primary key,
    value text not null
);

-- One row per trouble, from when it was seen until it was over. While it is open no second one has its subject.
create table incidents (
    id text not null primary key,             -- inc_…
    subject text not null,                    -- what it is about: given_up:dst_…:refused
    what text not null,                       -- held, given_up, slow, failing, events_failed, silent, unmatched
    headline text not null,                   -- in plain words
    raised_at_ms bigint not null,
    told_at_ms bigint not null,               -- when targets were last told of it
    newest_at_ms bigint not null,             -- of what counts one by one: the newest that was told
    gone_at_ms bigint,                        -- since when it is not seen any more
    resolved_at_ms bigint
);
create unique index incidents_open on incidents (subject) where resolved_at_ms is null;

-- What is owed to a target: frozen when it is written, like a delivery.
create table alert_messages (
    id text not null primary key,             -- alm_…
    target_id text not null references alert_targets (id),
    incident_id text not null references incidents (id),
    phase text not null,                      -- raised, reminder, resolved
    headline text not null,
    body text not null,                       -- JSON, or the text of an e-mail
    state text not null,                      -- pending, sent, given_up
    attempts bigint not null,
    due_at_ms bigint not null,
    claimed_until_ms bigint,                  -- the lease
    said text,                                -- what the other side said last
    created_at_ms bigint not null,
    settled_at_ms bigint
);
create index alert_messages_due on alert_messages (target_id, due_at_ms) where state = 'pending';
create index alert_messages_incident on alert_messages (incident_id, target_id);
create index alert_messages_settled on alert_messages (target_id, settled_at_ms) where settled_at_ms is not null;

-- What was given up lately, read every few seconds while there is a target.
create index deliveries_given_up on deliveries (settled_at_ms) where state = 'given_up';

-- What pages report and the ledger cannot take: tried again for a while, then failed, visibly, like an event of Stripe's.
alter table page_events add column attempts bigint not null default 0;
alter table page_events add column due_at_ms bigint not null default 0;
alter table page_events add column error text;                -- of the last try
alter table page_events add column failed_at_ms bigint;       -- since when nobody tries any more
create index page_events_failed on page_events (site_id, failed_at_ms) where failed_at_ms is not null;

-- Destinations that a source's conversions never go to, because they came from there: IDs, comma-separated.
alter table sources add column never_to text not null default '';
