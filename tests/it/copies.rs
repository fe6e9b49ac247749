//! Copies of the program on one PostgreSQL server, and what they do when one of them freezes or the way to the server breaks.
//! Whatever happens to one copy, the others go on within seconds, nothing is recorded twice, and nobody needs a restart.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::app::App;
use clickstamp::clock::Clock;
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{
    Database, FakeDestination, Line, SECRET, Server, Session, TestApp, request, sign,
};

/// The longest that a frozen copy may hold the others' money.
const HELD_AT_MOST: Duration = Duration::from_secs(15);

async fn post(app: &App, event: &Value, seconds: i64) -> StatusCode {
    let body = event.to_string();
    let signature = sign(SECRET, seconds, body.as_bytes());
    let request =
        request("POST", "/webhooks/stripe/main", &[("stripe-signature", &signature)], body);
    app.router().oneshot(request).await.expect("an answer").status()
}

/// An app behind a line to the server; `None` where the database is a file.
async fn app_on(line: &Line) -> TestApp {
    let database =
        Database { url: line.database.url.clone(), directory: line.database.directory.clone() };
    let clock = Clock::manual(Clock::system().now());
    TestApp::on(database, FakeDestination::start().await, clock).await
}

/// Waits until a query answers this number; how long it took.
async fn wait_for(database: &Database, query: &'static str, number: i64) -> Duration {
    let begun = tokio::time::Instant::now();
    while database.number(query).await != number {
        assert!(begun.elapsed() < Duration::from_secs(60), "{query} is not {number}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    begun.elapsed()
}

const OPEN_TRANSACTIONS: &str = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_hang_up_while_their_transaction_begins_leave_none_open() {
    let database = Database::create().await;
    let Some(line) = Line::to(&database, Duration::from_millis(5)).await else { return };
    let mut app = app_on(&line).await;
    app.leave_things_undone();
    let now = app.now().as_seconds();
    for round in 0..5 {
        let hung_up = (0..20_u64).map(|n| {
            let event = Session::paid(&format!("cs_live_{round}_{n}")).completed();
            let app = app.app();
            // From before the connection is there to after the commit.
            async move {
                let patience = Duration::from_millis(3 * n);
                let _ = tokio::time::timeout(patience, post(app, &event, now)).await; // It hangs up.
            }
        });
        join_all(hung_up).await;
        // Long enough for every answer to arrive, too short for the server to end what was left open.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(database.number(OPEN_TRANSACTIONS).await, 0, "round {round}");
    }
    let reads = (0..24).map(|_| app.api("/api/v1/conversions"));
    join_all(reads).await;
    let event = Session::paid("cs_live_last").completed();
    assert_eq!(post(app.app(), &event, now).await, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_went_dead_are_replaced_within_seconds() {
    let database = Database::create().await;
    let Some(line) = Line::to(&database, Duration::ZERO).await else { return };
    let mut app = app_on(&line).await;
    app.leave_things_undone();
    let now = app.now().as_seconds();
    // Every connection is open and idle.
    join_all((0..12).map(|_| app.api("/api/v1/conversions"))).await;
    app.visit("https://www.shop.localhost/").await;
    line.cut();
    let begun = tokio::time::Instant::now();
    let mut tries = 0;
    while post(app.app(), &Session::paid("cs_live_1").completed(), now).await != StatusCode::OK {
        tries += 1;
        assert!(begun.elapsed() < HELD_AT_MOST, "{tries} tries");
    }
    let visit = async {
        let click_id = app.mint().await;
        let body = json!({"s": "main", "i": click_id, "t": 2, "u": "https://www.shop.localhost/"});
        while app.post_visit(body.to_string()).await.status != StatusCode::NO_CONTENT {
            assert!(begun.elapsed() < 2 * HELD_AT_MOST);
        }
    };
    let reads = join_all((0..12).map(|_| app.api("/api/v1/conversions")));
    join(visit, reads).await;
    assert!(begun.elapsed() < 2 * HELD_AT_MOST, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordered_stop_does_not_wait_for_dead_connections() {
    let database = Database::create().await;
    let Some(line) = Line::to(&database, Duration::ZERO).await else { return };
    let mut app = app_on(&line).await;
    app.leave_things_undone();
    join_all((0..12).map(|_| app.api("/api/v1/conversions"))).await;
    line.close();
    let now = app.now().as_seconds();
    let event = Session::paid("cs_live_1").completed();
    let begun = tokio::time::Instant::now();
    // Some are in the middle of something.
    let _ = tokio::time::timeout(Duration::from_millis(200), post(app.app(), &event, now)).await;
    app.app().close().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The test's own look at what is left undone goes another way.
    app.database.url.clone_from(&database.url);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_copy_holds_the_others_money_for_seconds_only() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    if !database.url.starts_with("postgres") {
        return;
    }
    let mut frozen = Server::halting_at("processing", &database, &anytrack).await;
    frozen.sale("cs_live_1").await;
    // It is inside the transaction of its event, with everything locked that this needs.
    frozen.says("halted at processing").await;
    frozen.freeze().await;
    let other = Server::start(&database, &anytrack).await;
    other.sale("cs_live_2").await;
    let others = "select count(*) from conversions where transaction_id = 'cs_live_2'";
    let took = wait_for(&database, others, 1).await;
    assert!(took < Duration::from_secs(5), "another payment waited for {took:?}");
    let took = wait_for(&database, "select count(*) from conversions", 2).await;
    assert!(took < HELD_AT_MOST, "the payment it had in hand waited for {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_copies_process_at_least_twice_the_events_of_one() {
    let database = Database::create().await;
    // A server on another machine: time passes on the way, not in this machine's two cores.
    let Some(line) = Line::to(&database, Duration::from_millis(5)).await else { return };
    let mut one = app_on(&line).await;
    one.leave_things_undone();
    let others = [one.replica().await.expect("a copy"), one.replica().await.expect("a copy")];
    let now = one.now().as_seconds();
    let posted = |name: &'static str| {
        let app = one.app();
        async move {
            let posts = (0..24).map(async |n| {
                let event = Session::paid(&format!("cs_live_{name}_{n}"))
                    .with(json!({"customer": format!("cus_{name}_{n}")}));
                assert_eq!(post(app, &event.completed(), now).await, StatusCode::OK);
            });
            join_all(posts).await;
        }
    };
    posted("warm").await;
    for app in others.iter().chain([one.app()]) {
        app.process_events().await.expect("events are processed");
    }
    posted("alone").await;
    let begun = tokio::time::Instant::now();
    assert_eq!(one.app().process_events().await.expect("events are processed"), 24);
    let alone = begun.elapsed();
    posted("together").await;
    let begun = tokio::time::Instant::now();
    let (first, rest) =
        join(one.app().process_events(), join_all(others.iter().map(App::process_events))).await;
    let together = begun.elapsed();
    let ended: usize =
        [first].into_iter().chain(rest).map(|ended| ended.expect("events are processed")).sum();
    assert_eq!(ended, 24, "each is processed once");
    assert!(together * 2 <= alone, "one copy took {alone:?}, three took {together:?}");
    for other in others {
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_copies_write_the_ledger_that_one_would_write() {
    let mut one = TestApp::start().await;
    one.leave_things_undone();
    let Some(two) = one.replica().await else { return };
    let three = one.replica().await.expect("a copy");
    let now = one.now().as_seconds();
    let click_id = one.visit("https://www.shop.localhost/?utm_source=x").await;
    let mut events = Vec::new();
    for customer in 0..12 {
        let buyer = json!({"customer": format!("cus_{customer}")});
        let first = Session::paid(&format!("cs_live_{customer}_first")).with(buyer.clone());
        let second =
            Session::paid(&format!("cs_live_{customer}_second")).with(buyer).at(1_790_000_100);
        let payment_intent = format!("pi_cs_live_{customer}_first");
        events.push(first.reference(&click_id).completed());
        events.push(second.completed());
        let charge = |kind: &str, refunded: i64| {
            json!({"id": format!("evt_{kind}_{customer}"), "object": "event", "type": kind, "livemode": true,
                "api_version": "2026-08-26.dahlia", "created": 1_790_000_050,
                "data": {"object": {"id": format!("ch_{customer}"), "object": "charge", "amount": 10_260,
                    "amount_captured": 10_260, "captured": true, "status": "succeeded", "paid": true,
                    "currency": "usd", "amount_refunded": refunded, "payment_intent": payment_intent,
                    "livemode": true, "created": 1_790_000_000}}})
        };
        events.push(charge("charge.succeeded", 0));
        events.push(charge("charge.refunded", 500));
    }
    // Neither by customer nor by kind, and the same on every run.
    events.sort_by_key(|event| clickstamp::ids::sha256_hex(event["id"].to_string().as_bytes()));
    for event in &events {
        assert_eq!(post(one.app(), event, now).await, StatusCode::OK);
    }
    let copies = [one.app(), &two, &three];
    // A copy that meets others at every event ends its round; the next one finds what is left.
    while one.database.number("select count(*) from stripe_events where state = 'received'").await
        > 0
    {
        for ended in join_all(copies.map(App::process_events)).await {
            ended.expect("events are processed");
        }
    }
    let found = one.conversions().await;
    assert_eq!(found.len(), 24, "{found:#?}");
    for conversion in found {
        let is_first = conversion.transaction_id.ends_with("first");
        let expected = match is_first {
            true => ("partially_refunded", 500, Some("click_id")),
            false => ("paid", 0, Some("stripe_object")),
        };
        let (status, by) = (conversion.status.as_str(), conversion.matched_by.as_deref());
        assert_eq!(
            (status, conversion.refunded_minor, by),
            expected,
            "{}",
            conversion.transaction_id
        );
        assert_eq!(conversion.click_id.as_deref(), Some(click_id.as_str()));
    }
    two.close().await;
    three.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_connection_and_says_so() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let Some(line) = Line::to(&database, Duration::ZERO).await else { return };
    drop(Server::start(&database, &anytrack).await);
    line.refuse(1);
    let server = Server::start(&line.database, &anytrack).await;
    let said = |text: &str| server.heard.iter().any(|line| line.contains(text));
    assert!(said("waiting for a connection to PostgreSQL"), "{:#?}", server.heard);
    assert!(!said("already exists"), "{:#?}", server.heard);
}
