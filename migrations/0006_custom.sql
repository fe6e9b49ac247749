-- Conversions from elsewhere: an endpoint that takes AnyTrack's parameters.

alter table sources add column currency text;               -- of a custom source: of amounts that name none; null: the site's
alter table sources add column old_token text;              -- the token before the last rotation …
alter table sources add column old_token_until_ms bigint;   -- … which is good until then

-- Every request of a custom source, raw: the ledger can be written anew from them.
create table custom_requests (
    id text not null primary key,             -- crq_…
    source_id text not null references sources (id),
    received_at_ms bigint not null,
    method text not null,
    query text not null,                      -- as received, percent-encoded
    content_type text not null,
    body bytea not null,
    state text not null,                      -- recorded, repeated, refused; of refused ones only the last few are kept
    conversion_id text,
    error text,                               -- why refused
    parameter text,                           -- which one the error is about
    warnings text not null                    -- what the sender was told, one a line
);
create index custom_requests_by_state on custom_requests (source_id, state, id);
create index custom_requests_conversion on custom_requests (conversion_id) where conversion_id is not null;
