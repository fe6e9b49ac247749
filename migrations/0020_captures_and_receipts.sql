-- An invoice made by hand and paid outside Stripe may be the receipt of a checkout, which Stripe does not say. This is its customer, whose
-- checkouts of the same amount it is compared with; null for everything else.
alter table conversions add column receipt_customer text;

-- Invoices that somebody said are receipts of another payment: they count for nothing. By an identity ID of the payment, like matches made
-- by hand, so that it survives re-joins and a ledger written anew.
create table duplicates (
    account text not null,
    object_id text not null,
    made_by text not null,                    -- the user's e-mail address
    made_at_ms bigint not null,
    constraint duplicates_key primary key (account, object_id)
);

-- Events that failed over a field that is not counted, and types that are read now, are processed again.
update stripe_events set state = 'received', reason = null, error = null, due_at_ms = received_at_ms
 where (state = 'failed' and error like 'data.object.% not an amount in minor units')
    or (reason = 'unsupported_type'
        and type in ('charge.captured', 'payment_intent.canceled', 'payment_intent.amount_capturable_updated'));
