//! The app under test: the real router and workers, driven step by step.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::app::App;
use clickstamp::clock::{Clock, Timestamp};
use clickstamp::config::Config;
use serde_json::{Value, json};
use sqlx::Row as _;
use tower::ServiceExt as _;

use super::events::{SECRET, sign};
use super::http::{Reply, request};
use super::{Database, FakeDestination};

/// Where the clock of tests starts: 2026-09-21T14:13:20Z.
const START: Timestamp = Timestamp::from_seconds(1_790_000_000);

/// An app with a fake AnyTrack, an API token and a signing secret.
pub(crate) struct TestApp {
    app: App,
    pub(crate) database: Database,
    pub(crate) anytrack: FakeDestination,
    sent: std::cell::Cell<i64>,
    leftovers_are_fine: bool,
}

/// A conversion as stored in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Conversion {
    pub(crate) transaction_id: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) amount_minor: Option<i64>,
    pub(crate) refunded_minor: i64,
    pub(crate) disputed_minor: i64,
    pub(crate) lost_minor: i64,
    pub(crate) account: String,
    pub(crate) currency: Option<String>,
    pub(crate) livemode: i64,
    pub(crate) occurred_at_ms: i64,
    pub(crate) paid_at_ms: Option<i64>,
    pub(crate) matched_by: Option<String>,
    pub(crate) reason: Option<String>,
    pub(crate) click_id: Option<String>,
    pub(crate) touches: Vec<String>,
    pub(crate) email: Option<String>,
}

/// A delivery as stored in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) attempts: i64,
    pub(crate) request: String,
}

impl TestApp {
    /// Starts an app with the default test configuration.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts an app with additional settings; later ones win.
    pub(crate) async fn start_with(settings: &[(&str, &str)]) -> Self {
        let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
        let app = Self::build(&database, &anytrack, settings, Clock::manual(START)).await;
        Self { app, database, anytrack, sent: std::cell::Cell::new(0), leftovers_are_fine: false }
    }

    /// Starts an app on an existing database, at a time that the test chooses.
    pub(crate) async fn on(database: Database, anytrack: FakeDestination, clock: Clock) -> Self {
        let app = Self::build(&database, &anytrack, &[], clock).await;
        Self { app, database, anytrack, sent: std::cell::Cell::new(0), leftovers_are_fine: false }
    }

    async fn build(
        database: &Database,
        anytrack: &FakeDestination,
        settings: &[(&str, &str)],
        clock: Clock,
    ) -> App {
        let mut values = vec![
            ("CLICKSTAMP_DATABASE_URL", database.url.as_str()),
            ("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", SECRET),
            ("CLICKSTAMP_ANYTRACK_URL", &anytrack.url),
            ("CLICKSTAMP_API_TOKEN", "a-token-for-tests"),
            ("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "true"),
        ];
        values.retain(|(name, _)| !settings.iter().any(|(other, _)| other == name));
        values.extend_from_slice(settings);
        let watch = Clock::stopwatch();
        loop {
            let config = Config::with(&values).expect("a right configuration");
            match App::build(config, clock.clone()).await {
                // A process that another test starts at this moment holds the locks of all files
                // that are open here, until it has become that program.
                Err(error) if is_locked(&error) && watch.elapsed() < Duration::from_secs(20) => {
                    tokio::task::yield_now().await;
                }
                built => return built.expect("the app starts"),
            }
        }
    }

    /// A second process on the same database. Only on PostgreSQL; a SQLite file has one owner.
    pub(crate) async fn replica(&self) -> Option<App> {
        self.replica_with(&[]).await
    }

    /// The same with further settings.
    pub(crate) async fn replica_with(&self, settings: &[(&str, &str)]) -> Option<App> {
        let clock = self.app.state().clock.clone();
        let is_shared = self.database.url.starts_with("postgres");
        if is_shared {
            Some(Self::build(&self.database, &self.anytrack, settings, clock).await)
        } else {
            None
        }
    }

    /// Uses this network for everything that the app sends from now on.
    pub(crate) fn move_to(&mut self, network: clickstamp::destination::Network) {
        self.app.move_to(network).expect("a client for it");
    }

    /// Closes the app and starts it again on the same database, as after an orderly stop.
    pub(crate) async fn restart(mut self, settings: &[(&str, &str)]) -> Self {
        let clock = self.app.state().clock.clone();
        self.app.close().await;
        // The file's lock is free only when the old app is gone.
        let placeholder = Database::create().await;
        let spare = Self::build(&placeholder, &self.anytrack, settings, clock.clone()).await;
        drop(std::mem::replace(&mut self.app, spare));
        let app = Self::build(&self.database, &self.anytrack, settings, clock).await;
        std::mem::replace(&mut self.app, app).close().await;
        self
    }

    /// Allows this test to leave events or deliveries unprocessed.
    pub(crate) fn leave_things_undone(&mut self) {
        self.leftovers_are_fine = true;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.app.state().clock.now()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.app.state().clock.advance(by);
    }

    pub(crate) fn set_back(&self, by: Duration) {
        self.app.state().clock.set_back(by);
    }

    pub(crate) fn app(&self) -> &App {
        &self.app
    }

    /// Any request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<axum::body::Body>,
    ) -> Reply {
        let response = self.app.router().oneshot(request(method, path, headers, body)).await;
        Reply::read(response.expect("a router always answers")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    /// A GET of the JSON API with the token.
    pub(crate) async fn api(&self, path: &str) -> Value {
        let reply =
            self.send("GET", path, &[("authorization", "Bearer a-token-for-tests")], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        reply.json()
    }

    /// A click ID as the tag's script contains it.
    pub(crate) async fn mint(&self) -> String {
        self.load_tag("/t/main.js", &[]).await
    }

    /// A browser asks for the tag's script; answers the click ID in it.
    pub(crate) async fn load_tag(&self, path: &str, headers: &[(&str, &str)]) -> String {
        let script = self.send("GET", path, headers, "").await;
        let text = script.text();
        let config = &text[text.rfind("({").expect("the baked config") + 1..text.len() - 1];
        let config: Value = serde_json::from_str(config).expect("the config is JSON");
        config["i"].as_str().expect("a click ID").to_owned()
    }

    /// A body of the tag, as `POST /v` gets it.
    pub(crate) async fn post_visit(&self, body: impl Into<axum::body::Body>) -> Reply {
        self.send("POST", "/v", &[("content-type", "text/plain;charset=UTF-8")], body).await
    }

    /// A visitor lands on a page; answers the click ID.
    pub(crate) async fn visit(&self, url: &str) -> String {
        let click_id = self.mint().await;
        self.visit_as(&click_id, url, None).await;
        click_id
    }

    /// A visit under a given click ID, after another one.
    pub(crate) async fn visit_as(&self, click_id: &str, url: &str, previous: Option<&str>) {
        self.sent.set(self.sent.get() + 1);
        let mut body = json!({"s": "main", "i": click_id, "t": self.now().as_ms() + self.sent.get(), "u": url});
        if let Some(previous) = previous {
            body["p"] = previous.into();
        }
        let reply = self.post_visit(body.to_string()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }

    /// A webhook, signed as Stripe does.
    pub(crate) async fn stripe(&self, event: &Value) -> Reply {
        self.stripe_bytes(event.to_string().into_bytes()).await
    }

    /// Bytes of a webhook, signed as Stripe does.
    pub(crate) async fn stripe_bytes(&self, body: Vec<u8>) -> Reply {
        let signature = sign(SECRET, self.now().as_seconds(), &body);
        self.send("POST", "/webhooks/stripe/main", &[("stripe-signature", &signature)], body).await
    }

    /// A webhook that must be accepted, and is processed right away.
    pub(crate) async fn stripe_processed(&self, event: &Value) {
        let reply = self.stripe(event).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        self.process_events().await;
    }

    pub(crate) async fn process_events(&self) -> usize {
        let ended = self.app.process_events().await.expect("events can be processed");
        self.app.make_messages().await.expect("messages can be made");
        ended
    }

    pub(crate) async fn fetch_thin_events(&self) -> u64 {
        self.app.fetch_thin_events().await.expect("thin events can be fetched")
    }

    pub(crate) async fn look_up_checkouts(&self) -> u64 {
        self.app.look_up_checkouts().await.expect("Stripe can be asked for checkouts")
    }

    pub(crate) async fn rejoin(&self) -> usize {
        let rejoined = self.app.rejoin_late_visits().await.expect("late visits can be joined");
        self.app.make_messages().await.expect("messages can be made");
        rejoined
    }

    /// Writes the provisional visits whose report should have arrived by now.
    pub(crate) async fn keep_landings(&self) -> usize {
        self.app.keep_landings().await.expect("landings can be written")
    }

    pub(crate) async fn deliver_due(&self) -> usize {
        self.app.deliver_due().await.expect("deliveries can be tried")
    }

    pub(crate) async fn send_alerts(&self) -> usize {
        self.app.send_alerts().await.expect("alerts can be sent")
    }

    /// All conversions, sorted by transaction.
    pub(crate) async fn conversions(&self) -> Vec<Conversion> {
        let pool = self.database.look().await;
        let rows = sqlx::query(
            "select id, account, transaction_id, kind, status, amount_minor, refunded_minor, disputed_minor, lost_minor, currency, livemode, occurred_at_ms, paid_at_ms, match_by, match_reason, click_id, email
               from conversions",
        )
        .fetch_all(&pool)
        .await
        .expect("conversions can be read");
        let mut found = Vec::new();
        for row in rows {
            let id: String = row.get("id");
            let touches = sqlx::query(
                "select click_id from touches where conversion_id = $1 order by position",
            )
            .bind(id)
            .fetch_all(&pool)
            .await
            .expect("touches can be read");
            found.push(Conversion {
                transaction_id: row.get("transaction_id"),
                kind: row.get("kind"),
                status: row.get("status"),
                amount_minor: row.get("amount_minor"),
                refunded_minor: row.get("refunded_minor"),
                disputed_minor: row.get("disputed_minor"),
                lost_minor: row.get("lost_minor"),
                account: row.get("account"),
                currency: row.get("currency"),
                livemode: row.get("livemode"),
                occurred_at_ms: row.get("occurred_at_ms"),
                paid_at_ms: row.get("paid_at_ms"),
                matched_by: row.get("match_by"),
                reason: row.get("match_reason"),
                click_id: row.get("click_id"),
                touches: touches.iter().map(|touch| touch.get(0)).collect(),
                email: row.get("email"),
            });
        }
        pool.close().await;
        found.sort();
        found
    }

    /// The only conversion there is.
    pub(crate) async fn conversion(&self) -> Conversion {
        let [only] = <[_; 1]>::try_from(self.conversions().await).expect("exactly one conversion");
        only
    }

    /// All deliveries, oldest first.
    pub(crate) async fn deliveries(&self) -> Vec<Delivery> {
        let pool = self.database.look().await;
        let rows =
            sqlx::query("select id, state, reason, attempts, request from deliveries order by id")
                .fetch_all(&pool)
                .await
                .expect("deliveries can be read");
        pool.close().await;
        rows.iter()
            .map(|row| Delivery {
                id: row.get("id"),
                state: row.get("state"),
                reason: row.get("reason"),
                attempts: row.get("attempts"),
                request: row.get("request"),
            })
            .collect()
    }

    /// The only delivery there is.
    pub(crate) async fn delivery(&self) -> Delivery {
        let [only] = <[_; 1]>::try_from(self.deliveries().await).expect("exactly one delivery");
        only
    }
}

impl Drop for TestApp {
    /// A test that leaves events unprocessed or deliveries due without declaring so has forgotten
    /// something.
    fn drop(&mut self) {
        if std::thread::panicking() || self.leftovers_are_fine {
            return;
        }
        let (database, now) = (&self.database, self.now().as_ms());
        let undone = std::thread::scope(|scope| {
            let count = || async {
                let pool = database.look().await;
                let row = sqlx::query(
                    "select (select count(*) from stripe_events where state = 'received')
                          + (select count(*) from page_events e join visits v on v.click_id = e.click_id
                              where e.conversion_id is null and e.failed_at_ms is null and e.foreign_host is null and v.flags & 1024 = 0)
                          + (select count(*) from deliveries where state = 'pending' and due_at_ms <= $1)",
                )
                .bind(now)
                .fetch_one(&pool)
                .await
                .expect("what is undone can be counted");
                pool.close().await;
                row.get::<i64, _>(0)
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            scope.spawn(move || runtime.block_on(count())).join().expect("the count ends")
        });
        assert_eq!(
            undone, 0,
            "this test left events unprocessed or deliveries due without declaring so"
        );
    }
}

fn is_locked(error: &anyhow::Error) -> bool {
    error.to_string().contains("is in use by another clickstamp process")
}
