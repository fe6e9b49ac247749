-- What is owed and has an end, by its end: asked for every few seconds while somebody is told of alerts, so that a deadline is told of in
-- time whatever else is owed. What is settled leaves it, and what has no end never enters.
create index deliveries_expiring on deliveries (destination_id, expires_at_ms, created_at_ms)
    where expires_at_ms is not null and settled_at_ms is null;
