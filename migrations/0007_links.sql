-- Redirect links: an address of ours that leads to one payment link, for everything a script cannot reach.
create table links (
    id text not null primary key,             -- lnk_…
    alias text not null unique,               -- stands in its address: /p/{alias}
    site_id text not null references sites (id),
    name text not null,                       -- what the owner calls it
    target text not null,                     -- the payment link, checked when it was saved
    is_paused bigint not null,                -- 1: it leads nowhere
    created_at_ms bigint not null
);
