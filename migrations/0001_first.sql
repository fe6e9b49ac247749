-- The first layout. One text for SQLite and PostgreSQL: times are milliseconds since 1970 (UTC), money is minor units,
-- flags are 0/1, and every ID that a hot table is indexed by sorts by time.

-- ── settings: what the owner configures ──────────────────────────────────────────────────────────────────────────────
create table settings (
    name text not null primary key,
    value text not null
);

create table sites (
    id text not null primary key,
    number bigint not null unique,            -- stands inside every click ID of the site
    key text not null unique,                 -- stands in the URL of its tag
    name text not null,
    timezone text not null,                   -- IANA name
    currency text not null,                   -- the one charts show first
    domains text not null,                    -- one a line; empty accepts all
    created_at_ms bigint not null
);

create table sources (
    id text not null primary key,
    key text not null unique,                 -- stands in the webhook's URL
    site_id text not null references sites (id),
    kind text not null,                       -- stripe, custom
    secrets text not null,                    -- comma-separated signing secrets, newest last
    metadata_key text not null,               -- where a click ID stands in Stripe's metadata
    token text unique,                        -- of a custom source
    from_environment bigint not null,         -- 1: its secrets are set from outside and read-only here
    created_at_ms bigint not null
);

create table destinations (
    id text not null primary key,
    key text not null unique,
    site_id text not null references sites (id),
    kind text not null,                       -- anytrack
    name text not null,
    url text not null,                        -- a secret: shown masked
    enabled bigint not null,
    accepts_test bigint not null,             -- 1: test-mode conversions are sent too
    options text not null,                    -- JSON, by kind
    revision bigint not null,                 -- grows with every change of what is sent
    from_environment bigint not null,
    created_at_ms bigint not null
);

create table api_tokens (
    id text not null primary key,
    name text not null,
    token_hash text not null unique,          -- SHA-256, hex
    created_at_ms bigint not null
);

-- ── dashboard: who may look ──────────────────────────────────────────────────────────────────────────────────────────
create table users (
    id text not null primary key,
    email text not null unique,               -- lower case
    password_hash text not null,              -- argon2id, PHC text
    created_at_ms bigint not null
);

create table sessions (
    token_hash text not null primary key,     -- SHA-256 of the cookie's value, hex
    user_id text not null references users (id),
    created_at_ms bigint not null,
    expires_at_ms bigint not null
);

-- ── visits: the hot table ────────────────────────────────────────────────────────────────────────────────────────────
-- Its key is the browser's own repeat key. No further index unless a report cannot live without it: each costs as much as the request.
create table visits (
    click_id text not null,                   -- server-made and signed, always
    sent_at_ms bigint not null,               -- the browser's time of the body; never trusted as a time
    site_id text not null,
    at_ms bigint not null,                    -- mint time for the ID's first visit, else arrival
    received_at_ms bigint not null,
    alias text,                               -- the client-made ID this signed one stands for
    previous_click_id text,                   -- the click ID before this visit
    url text,
    referrer text,
    channel text not null,
    source text,
    medium text,
    campaign text,
    landing_host text,
    landing_path text,
    device text not null,                     -- phone, tablet, computer, bot, unknown
    flags bigint not null,                    -- bits, see visit::flags
    visitor text not null,                    -- keyed hash of address and user agent, another one each day
    details text not null,                    -- JSON: ad click IDs, further UTMs, ad cookies, language, browser, tag host
    constraint visits_key primary key (click_id, sent_at_ms)
);
create unique index visits_alias on visits (alias, sent_at_ms) where alias is not null;  -- a repeat of a body whose ID was replaced

-- AnyTrack click IDs captured beside a visit.
create table visit_notes (
    anytrack_click_id text not null,
    click_id text not null,
    at_ms bigint not null,
    constraint visit_notes_key primary key (anytrack_click_id, click_id)
);
create index visit_notes_click_id on visit_notes (click_id);

-- Roll-up of visits by quarter hour, written in the transaction of the visits it counts. Bots have a device of their own.
create table visit_counts (
    site_id text not null,
    quarter bigint not null,                  -- at_ms / 900000
    channel text not null,
    source text not null,
    medium text not null,
    campaign text not null,
    landing_path text not null,
    device text not null,
    visits bigint not null,
    constraint visit_counts_key primary key (site_id, quarter, channel, source, medium, campaign, landing_path, device)
);

-- ── stripe: what Stripe told us, raw ─────────────────────────────────────────────────────────────────────────────────
create table stripe_events (
    id text not null primary key,             -- sev_…
    account text not null,                    -- acct_…, or empty for the source's own
    event_id text not null,                   -- Stripe's evt_…, or body_… where there is none
    source_id text not null references sources (id),
    type text not null,
    object_id text not null,                  -- data.object.id, or empty
    livemode bigint not null,
    api_version text,
    created_at_ms bigint,                     -- Stripe's; never compared with the clock
    received_at_ms bigint not null,
    signature text not null,                  -- the header as received
    secret_position bigint not null,          -- which of the source's secrets fitted, from 0
    origin text not null,                     -- webhook, backfill, fetched
    body bytea not null,
    state text not null,                      -- received, processed, ignored, failed
    reason text,                              -- of ignored
    error text,                               -- of failed
    note text,                                -- of processed: what it changed
    conversion_id text,
    attempts bigint not null,
    due_at_ms bigint not null,                -- when processing may be tried (again)
    processed_at_ms bigint,
    repeats bigint not null,                  -- how often the same event came again
    constraint stripe_events_once unique (account, event_id)
);
create index stripe_events_waiting on stripe_events (due_at_ms) where state = 'received';
create index stripe_events_object on stripe_events (account, object_id, type);
create index stripe_events_state on stripe_events (state, id);
create index stripe_events_conversion on stripe_events (conversion_id) where conversion_id is not null;

-- Webhooks we did not believe, counted by reason and day, so that the events page can say so. Their bodies are not kept.
create table stripe_rejections (
    source_id text not null,
    day bigint not null,                      -- days since 1970, UTC
    reason text not null,
    rejected bigint not null,
    last_at_ms bigint not null,
    constraint stripe_rejections_key primary key (source_id, day, reason)
);

-- ── conversion: the ledger ───────────────────────────────────────────────────────────────────────────────────────────
-- One row per account, updated first by every transaction that writes conversions of it: the row's lock makes them take turns.
create table ledgers (
    account text not null primary key,
    turn bigint not null
);

create table conversions (
    id text not null primary key,             -- cnv_…
    account text not null,
    site_id text not null references sites (id),
    source_id text not null references sources (id),
    livemode bigint not null,
    kind text not null,                       -- purchase, renewal, trial, lead, or a custom name
    status text not null,                     -- pending, paid, failed, partially_refunded, refunded, disputed
    occurred_at_ms bigint not null,
    paid_at_ms bigint,
    amount_minor bigint,
    currency text,
    refunded_minor bigint not null,
    transaction_id text not null,
    client_reference_id text,
    email text,
    description text,                         -- what was bought, where Stripe says so
    match_state text not null,                -- matched, unmatched
    match_by text,                            -- click_id, anytrack_click_id, metadata, stripe_object, email
    match_reason text,                        -- why unmatched
    click_id text,                            -- of the visit it is matched to
    payment text not null,                    -- JSON: everything its events said, merged
    recorded_at_ms bigint not null,
    updated_at_ms bigint not null
);
create index conversions_by_time on conversions (site_id, occurred_at_ms);
create index conversions_click_id on conversions (click_id) where click_id is not null;

-- What a conversion waits for: a click ID whose visit, or an AnyTrack ID whose note, has not arrived yet.
create table waits (
    awaited text not null,
    conversion_id text not null references conversions (id),
    constraint waits_key primary key (awaited, conversion_id)
);
create index waits_conversion on waits (conversion_id);

-- The visitor's way to a conversion, first touch at position 0.
create table touches (
    conversion_id text not null references conversions (id),
    position bigint not null,
    is_last bigint not null,
    click_id text not null,
    at_ms bigint not null,
    channel text not null,
    source text,
    medium text,
    campaign text,
    landing_path text,
    device text not null,
    constraint touches_key primary key (conversion_id, position)
);

-- What we learned from events: which conversion an object of Stripe's belongs to.
create table stripe_objects (
    account text not null,
    object_id text not null,
    conversion_id text not null references conversions (id),
    role text not null,                       -- identity: names the payment; lineage: only lends a click ID
    constraint stripe_objects_key primary key (account, object_id, conversion_id)
);
create unique index stripe_objects_identity on stripe_objects (account, object_id) where role = 'identity';
create index stripe_objects_conversion on stripe_objects (conversion_id);

-- ── delivery: what is owed ───────────────────────────────────────────────────────────────────────────────────────────
create table deliveries (
    id text not null primary key,             -- dlv_…
    destination_id text not null references destinations (id),
    conversion_id text not null references conversions (id),
    event_key text not null,                  -- what is told: paid, refund:…
    event_name text not null,
    transaction_id text not null,
    state text not null,                      -- pending, delivered, given_up, held, skipped
    reason text,                              -- of given_up and skipped
    request text not null,                    -- the frozen body
    content_type text not null,
    revision bigint not null,                 -- of the destination, when frozen
    attempts bigint not null,
    schedule_from bigint not null,            -- attempts made before the present schedule began (a manual retry begins a new one)
    due_at_ms bigint not null,
    claimed_until_ms bigint,                  -- the lease
    last_status bigint,
    last_error text,
    created_at_ms bigint not null,
    settled_at_ms bigint,
    constraint deliveries_once unique (destination_id, conversion_id, event_key)
);
create index deliveries_due on deliveries (destination_id, due_at_ms) where state = 'pending';
create index deliveries_conversion on deliveries (conversion_id, state);  -- reports count states without reading rows
create index deliveries_by_time on deliveries (created_at_ms);
create index deliveries_state on deliveries (state, id, destination_id);

create table attempts (
    delivery_id text not null references deliveries (id),
    n bigint not null,
    started_at_ms bigint not null,
    took_ms bigint,
    outcome text not null,                    -- unknown until settled, then accepted, retry, refused, blocked
    status bigint,
    address text,
    answer text,                              -- its first 4 KiB
    error text,
    constraint attempts_key primary key (delivery_id, n)
);
