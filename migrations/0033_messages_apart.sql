-- A message that a mapping makes is computed after the transaction that queued it; until then its row holds what the mapping may use. Kept until
-- the destination accepted the message, so that one that failed can be made again.
alter table deliveries add column facts text;                           -- JSON; null for messages that no mapping makes
create index deliveries_unmade on deliveries (created_at_ms) where request = '' and settled_at_ms is null;
