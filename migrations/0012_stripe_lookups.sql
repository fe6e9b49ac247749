-- Payments that came without their checkout: Stripe is asked for it by payment intent.
create table stripe_lookups (
    account text not null,
    payment_intent text not null,
    source_id text not null references sources (id),
    event_id text not null,                   -- sev_…: the event because of which we ask, and on whose page it is told
    due_at_ms bigint,                         -- null: answered, or not asked any more
    tries bigint not null,
    said text not null,                       -- what came of it so far
    constraint stripe_lookups_key primary key (account, payment_intent)
);
create index stripe_lookups_due on stripe_lookups (due_at_ms) where due_at_ms is not null;
create index stripe_lookups_event on stripe_lookups (event_id);
