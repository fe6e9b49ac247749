-- Events that their endpoint should not have received: live money on an endpoint of test mode, or another account's. They are in state `held`
-- (reason: live_on_test, other_account) until the owner accepts them.
alter table stripe_events add column accepted_at_ms bigint;
