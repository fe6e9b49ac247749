//! A database with sample rows for this module's tests. Returns a SQLite store, or one on the
//! PostgreSQL server in `CLICKSTAMP_TEST_POSTGRES`, with the same rows. Every query of this module
//! is tested on the database of the run, with rows that differ from each other in all relevant
//! columns.

use crate::clock::Timestamp;
use crate::config::Config;
use crate::ids;
use crate::settings::{self, Settings};
use crate::store::{Batch, Kind, Store, Tally};

/// 2026-09-21T14:13:20Z, in the quarter hour that begins at 14:00.
pub(super) const NOON: i64 = 1_790_000_000_000;
/// A minute, in ms.
pub(super) const MINUTE: i64 = 60_000;

// The tests insert with SQL. The writer of visits needs these tables only to start.
static BATCH: Batch = Batch {
    table: "visits",
    columns: &[("click_id", Kind::Text), ("sent_at_ms", Kind::Int)],
    key: &["click_id", "sent_at_ms"],
};
static TALLY: Tally = Tally {
    table: "visit_counts",
    columns: &[
        ("site_id", Kind::Text),
        ("quarter", Kind::Int),
        ("channel", Kind::Text),
        ("source", Kind::Text),
        ("medium", Kind::Text),
        ("campaign", Kind::Text),
        ("landing_path", Kind::Text),
        ("device", Kind::Text),
    ],
    count: "visits",
};

/// An open database with the sample rows.
pub(super) struct Filled {
    pub(super) store: Store,
    pub(super) site_id: String,
    pub(super) destination_id: String,
    directory: Option<std::path::PathBuf>,
}

impl Drop for Filled {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            let _ = std::fs::remove_dir_all(directory); // A left-over in the temporary folder harms nobody.
        }
    }
}

/// Creates a database with the sample rows. Each test gets its own.
pub(super) async fn filled() -> Filled {
    let name = format!("report_{}", ids::new_secret());
    #[expect(
        clippy::disallowed_methods,
        reason = "the one variable that chooses the engine of a test run"
    )]
    let server = std::env::var("CLICKSTAMP_TEST_POSTGRES").ok().filter(|url| !url.is_empty());
    if let Some(server) = server {
        sqlx::any::install_default_drivers();
        let admin = sqlx::AnyPool::connect(&format!("{server}/postgres")).await;
        let admin = admin.expect("the PostgreSQL server of CLICKSTAMP_TEST_POSTGRES answers");
        let create = sqlx::AssertSqlSafe(format!("create database {name}"));
        sqlx::query(create).execute(&admin).await.expect("a database can be created");
        return fill(&format!("{server}/{name}"), None).await;
    }
    let directory = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&directory).expect("the temporary folder is writable");
    let url = format!("sqlite://{}/clickstamp.db", directory.display());
    fill(&url, Some(directory)).await
}

async fn fill(url: &str, directory: Option<std::path::PathBuf>) -> Filled {
    let store = Store::open(url, &BATCH, &TALLY).await.expect("a new database opens");
    let config = Config::with(&[("CLICKSTAMP_ANYTRACK_URL", "https://t1.anytrack.io/x/collect/y")]);
    let config = config.expect("the configuration is right");
    settings::prepare(&store, &config, Timestamp::from_ms(NOON)).await.expect("prepared");
    let settings = Settings::load(&store).await.expect("settings load").current();
    let filled = Filled {
        site_id: settings.sites[0].id.clone(),
        destination_id: settings.destinations[0].id.clone(),
        store,
        directory,
    };
    let mut tx = filled.store.begin().await.expect("a transaction begins");
    for statement in STORY {
        let text = statement
            .replace("SITE", &filled.site_id)
            .replace("SOURCE", &settings.sources[0].id)
            .replace("DEST", &filled.destination_id)
            .replace("NOON", &NOON.to_string())
            .replace("QUARTER", &(NOON / super::QUARTER_MS).to_string());
        let mut query = sqlx::query(sqlx::AssertSqlSafe(text));
        if statement.contains("$1") {
            query = query.bind(&b"{}"[..]); // Neither engine understands the other's literal of bytes.
        }
        let outcome = query.execute(&mut *tx).await;
        outcome.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    tx.commit().await.expect("the story commits");
    filled
}

/// Columns of `conversions` that the sample rows set.
macro_rules! conversion {
    ($values:literal) => {
        concat!(
            "insert into conversions (id, livemode, kind, status, occurred_at_ms, paid_at_ms, amount_minor, currency,
                                      refunded_minor, client_reference_id, email, match_state, match_by, match_reason,
                                      click_id, account, site_id, source_id, transaction_id, recorded_at_ms,
                                      updated_at_ms)
             values (", $values, ", '', 'SITE', 'SOURCE', 'cs_of_it', NOON, NOON)"
        )
    };
}

macro_rules! delivery {
    ($values:literal) => {
        concat!(
            "insert into deliveries (id, conversion_id, event_key, state, reason, attempts, last_status, last_error,
                                     created_at_ms, settled_at_ms, destination_id, event_name, transaction_id, request,
                                     content_type, revision, schedule_from, due_at_ms)
             values (", $values, ", 'DEST', 'Purchase', 'cs_of_it', '{\"a\":1}', 'application/json', 1, 0, NOON)"
        )
    };
}

macro_rules! event {
    ($values:literal) => {
        concat!(
            "insert into stripe_events (id, event_id, type, object_id, livemode, state, reason, error, conversion_id,
                                        received_at_ms, account, source_id, signature, secret_position, origin, body,
                                        attempts, due_at_ms, repeats)
             values (", $values, ", '', 'SOURCE', 't=1,v1=0', 0, 'webhook', $1, 1, NOON, 0)"
        )
    };
}

/// The sample rows: a payment after two clicks of one visitor, and payments that are unmatched, in
/// test mode, unpaid, without an amount, or before the period.
const STORY: &[&str] = &[
    "insert into visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, alias, previous_click_id, url, channel,
                         source, medium, campaign, landing_path, device, flags, visitor, details)
     values ('ck_1a', 1, 'SITE', NOON - 86400000, NOON, null, null, 'https://shop.com/offer?a', 'paid_search',
             'google', 'cpc', 'spring', '/offer', 'phone', 0, 'v', '{\"gclid\":\"G\"}'),
            ('ck_1a', 2, 'SITE', NOON - 80000000, NOON, null, null, 'https://shop.com/offer', 'direct',
             null, null, null, '/offer', 'phone', 0, 'v', '{}'),
            ('ck_2b', 1, 'SITE', NOON - 600000, NOON, 'ck_zalias', 'ck_1a', 'https://shop.com/', 'email',
             'newsletter', 'email', null, '/', 'phone', 0, 'v', 'no json'),
            ('ck_3c', 1, 'SITE', NOON - 500000, NOON, null, null, 'https://shop.com/', 'direct',
             null, null, null, '/', 'bot', 0, 'v', '{}')",
    "insert into visit_notes (anytrack_click_id, click_id, at_ms) values ('AT1', 'ck_2b', NOON)",
    "insert into visit_counts (site_id, quarter, channel, source, medium, campaign, landing_path, device, visits)
     values ('SITE', QUARTER - 96, 'paid_search', 'google', 'cpc', 'spring', '/offer', 'phone', 30),
            ('SITE', QUARTER, 'email', 'newsletter', 'email', '', '/', 'phone', 12),
            ('SITE', QUARTER, 'direct', '', '', '', '/', 'computer', 3),
            ('SITE', QUARTER, 'direct', '', '', '', '/', 'bot', 500)",
    "insert into payments (id, account, facts, recorded_at_ms)
     values ('cnv_1', '', '{\"livemode\":true}', NOON), ('cnv_9', '', '{}', NOON)",
    conversion!("'cnv_1', 1, 'purchase', 'paid', NOON, NOON, 10260, 'USD', 0, 'ck_2b', 'Jenny@Example.com',
                 'matched', 'click_id', null, 'ck_2b'"),
    conversion!("'cnv_2', 1, 'purchase', 'partially_refunded', NOON - 60000, NOON, 5000, 'USD', 1000, '--CLICK-ID--',
                 'omar@example.org', 'unmatched', null, 'placeholder_not_replaced', null"),
    conversion!("'cnv_3', 1, 'renewal', 'disputed', NOON - 60000, NOON, 700, 'EUR', 0, null, null, 'unmatched', null,
                 'no_reference', null"),
    conversion!("'cnv_4', 0, 'purchase', 'paid', NOON, NOON, 9999, 'USD', 0, 'ck_2b', null, 'matched', 'click_id', null,
                 'ck_2b'"),
    conversion!("'cnv_5', 1, 'purchase', 'pending', NOON, null, 100, 'USD', 0, 'ck_1a', null, 'matched', 'click_id', null,
                 'ck_1a'"),
    conversion!("'cnv_6', 1, 'lead', 'paid', NOON - 120000, NOON, null, null, 0, null, null, 'matched', 'metadata', null,
                 'ck_9z'"),
    conversion!("'cnv_7', 1, 'purchase', 'paid', NOON - 8640000000, NOON, 1, 'USD', 0, null, null, 'unmatched', null,
                 'no_object', null"),
    "update conversions set disputed_minor = 700 where id = 'cnv_3'",
    "insert into touches (conversion_id, position, is_last, click_id, at_ms, channel, source, medium, campaign,
                          landing_path, device)
     values ('cnv_1', 0, 0, 'ck_1a', NOON - 86400000, 'paid_search', 'google', 'cpc', 'spring', '/offer', 'phone'),
            ('cnv_1', 1, 1, 'ck_2b', NOON - 600000, 'email', 'newsletter', 'email', null, '/', 'phone'),
            ('cnv_4', 0, 1, 'ck_2b', NOON - 600000, 'email', 'newsletter', 'email', null, '/', 'phone')",
    delivery!("'dlv_1', 'cnv_1', 'paid', 'delivered', null, 2, 200, null, NOON, NOON + 5000"),
    delivery!("'dlv_2', 'cnv_2', 'paid', 'given_up', 'refused', 1, 422, 'archived', NOON + 1, NOON + 6000"),
    delivery!("'dlv_3', 'cnv_3', 'paid', 'pending', null, 3, 503, 'busy', NOON + 2, null"),
    delivery!("'dlv_4', 'cnv_3', 'refund:re_1', 'pending', null, 0, null, null, NOON + 3, null"),
    delivery!("'dlv_5', 'cnv_4', 'paid', 'skipped', 'test_mode', 0, null, null, NOON + 4, null"),
    "insert into attempts (delivery_id, n, started_at_ms, took_ms, outcome, status, answer)
     values ('dlv_1', 1, NOON, 1200, 'retry', 502, 'Bad Gateway'), ('dlv_1', 2, NOON + 5000, 310, 'accepted', 200, 'ok')",
    event!("'sev_1', 'evt_1', 'checkout.session.completed', 'cs_1', 1, 'processed', null, null, 'cnv_1', NOON"),
    event!("'sev_2', 'evt_2', 'charge.succeeded', 'ch_1', 1, 'processed', null, null, null, NOON + 1"),
    event!("'sev_3', 'evt_3', 'plan.created', 'pl_1', 1, 'ignored', 'unsupported_type', null, null, NOON + 2"),
    event!("'sev_4', 'evt_4', 'charge.refunded', 'ch_2', 1, 'failed', null, 'no amount', null, NOON + 3"),
    event!("'sev_5', 'evt_5', 'charge.refunded', 'ch_3', 0, 'received', null, null, null, NOON + 4"),
    "insert into stripe_objects (account, object_id, conversion_id, role)
     values ('', 'cs_1', 'cnv_1', 'identity'), ('', 'ch_1', 'cnv_1', 'identity'), ('', 'cus_1', 'cnv_1', 'lineage')",
    "insert into stripe_rejections (source_id, day, reason, rejected, last_at_ms)
     values ('SOURCE', NOON / 86400000, 'mismatch', 12, NOON), ('SOURCE', NOON / 86400000 - 9, 'too_old', 1, NOON)",
];
