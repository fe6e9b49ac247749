-- First purchases, trials and leads, and renewals, are counted apart: the conversion rate is about the former.
alter table conversion_sums add column firsts bigint not null default 0;
alter table conversion_sums add column renewals bigint not null default 0;
-- The days rolled up so far do not have these counts: reports read their conversions until they are rolled up again.
delete from conversion_days;
