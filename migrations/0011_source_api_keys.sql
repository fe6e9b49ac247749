-- ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
alter table sources add column api_key text not null default '';        -- restricted key of its Stripe account; empty: that of `main`
