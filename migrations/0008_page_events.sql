-- What pages report by `clickstamp("event", …)`: kept raw before the page is answered, so that the ledger can be written anew.

create table page_events (
    id text not null primary key,             -- pev_…
    site_id text not null references sites (id),
    click_id text not null,                   -- as the page presented it: signed, client-made, or neither of ours
    sent_at_ms bigint not null,               -- the browser's time of the body; never trusted as a time
    name text not null,
    received_at_ms bigint not null,
    url text,
    properties text not null,                 -- JSON: texts by name
    conversion_id text,                       -- null until the ledger has it
    constraint page_events_once unique (site_id, click_id, sent_at_ms, name)
);
create index page_events_waiting on page_events (received_at_ms, id) where conversion_id is null;
