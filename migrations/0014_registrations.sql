-- Experimental, off by default: AnyTrack is told of visits by the server, under a client ID made from our click ID.
create table registrations (
    destination_id text not null references destinations (id),
    click_id text not null,
    url text not null,                        -- what is asked for, frozen
    user_agent text not null,                 -- the visitor's, as received with the visit
    state text not null,                      -- pending, accepted, given_up
    attempts bigint not null,
    due_at_ms bigint not null,
    claimed_until_ms bigint,                  -- the lease
    last_status bigint,
    last_error text,
    created_at_ms bigint not null,
    settled_at_ms bigint,
    constraint registrations_key primary key (destination_id, click_id)
);
create index registrations_due on registrations (destination_id, due_at_ms) where state = 'pending';
