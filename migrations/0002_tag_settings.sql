-- What a site may ask of its tag. One a line where there are several, as in `domains`.
alter table sites add column consent text not null default 'off';               -- off, required, google, tcf
alter table sites add column auto_stamp bigint not null default 0;              -- 1: payment links without a reference get one
alter table sites add column payment_hosts text not null default '';            -- payment links live there too, beside Stripe's own hosts
alter table sites add column linked_domains text not null default '';           -- the click ID is handed over to pages there
alter table sites add column capture_anytrack bigint not null default 1;        -- 1: AnyTrack's click IDs are noted beside ours
alter table sites add column yield_to_anytrack bigint not null default 0;       -- 1: AnyTrack's tag goes first
