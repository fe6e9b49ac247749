-- The owner has answered what the tag may store. Sites from before this question have an answer: what they are set to.
alter table sites add column is_consent_chosen bigint not null default 1;
-- The latest visit of a visitor on the same day, for sites without cookies (flag 32768). Other sites do not pay for it.
create index visits_cookieless on visits (visitor, received_at_ms) where flags & 32768 <> 0;
