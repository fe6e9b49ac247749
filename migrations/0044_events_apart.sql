-- A page event counts once a visit with its click ID counts. Until then, or if it came from another website, it is in no report.
alter table page_events add column foreign_host text;        -- host of its page or of its Origin, if that is none of the site's
create index page_events_apart on page_events (site_id, received_at_ms, id) where conversion_id is null;

-- Page events are counted apart from payments: anybody can report them.
alter table conversion_sums add column page_events bigint not null default 0;
-- The days rolled up so far do not have this count: reports read their conversions until they are rolled up again.
delete from conversion_days;
