-- What Stripe is asked for: not only the checkout of a payment intent, but also that of a subscription, those of a customer, and the invoice
-- that a payment intent paid.
alter table stripe_lookups rename to stripe_lookups_before;
create table stripe_lookups (
    account text not null,
    subject text not null,                    -- checkout_of_intent, checkout_of_subscription, checkouts_of_customer, invoice_of_intent
    object_id text not null,                  -- the payment intent, subscription or customer
    source_id text not null references sources (id),
    event_id text not null,                   -- sev_…: the event because of which we ask, and on whose page the answer is shown
    due_at_ms bigint,                         -- null: answered, or not asked any more
    tries bigint not null,
    said text not null,                       -- what came of it so far
    constraint stripe_lookups_once primary key (account, subject, object_id)
);
insert into stripe_lookups (account, subject, object_id, source_id, event_id, due_at_ms, tries, said)
    select account, 'checkout_of_intent', payment_intent, source_id, event_id, due_at_ms, tries, said
      from stripe_lookups_before;
drop table stripe_lookups_before;
create index stripe_lookups_due on stripe_lookups (due_at_ms) where due_at_ms is not null;
create index stripe_lookups_event on stripe_lookups (event_id);
