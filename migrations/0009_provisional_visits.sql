-- Visits known only from the request for the tag's script, because their report has not arrived. They count for nothing until a
-- payment names them; then the row moves to `visits`, with `sent_at_ms` -1, which no browser can send.
create table provisional_visits (
    click_id text not null primary key,
    sent_at_ms bigint not null,
    site_id text not null,
    at_ms bigint not null,
    received_at_ms bigint not null,
    previous_click_id text,
    url text,
    referrer text,
    channel text not null,
    source text,
    medium text,
    campaign text,
    landing_host text,
    landing_path text,
    device text not null,
    flags bigint not null,
    visitor text not null,
    details text not null
);
