//! Delivery at least once: whatever a destination does, each queued message is delivered or visibly
//! failed, and delays no other destination.

use std::time::Duration;

use axum::http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::harness::{FakeDestination, Reaction, Session, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer";
const CONVERSIONS: usize = 5;
/// Rounds of the longest case: every attempt of every message alone, with a probe's pause between.
const MOST_TURNS: usize = 200;

fn answer(status: u16, text: &str, header: Option<&str>) -> Reaction {
    Reaction::Answer(status, text.to_owned(), header.map(str::to_owned))
}

fn any_reaction() -> impl Strategy<Value = Reaction> {
    let statuses = [200, 204, 301, 400, 401, 404, 408, 410, 429, 500, 502, 503];
    let pauses = ["0", "90", "999999", "soon", "Wed, 21 Oct 2026 07:28:00 GMT"];
    let text = "Missing click_id, ref_id and email";
    prop_oneof![
        4 => proptest::sample::select(statuses.to_vec()).prop_map(|status| answer(status, "", None)),
        2 => proptest::sample::select(pauses.to_vec()).prop_map(|pause| answer(429, "", Some(pause))),
        1 => proptest::sample::select(pauses.to_vec()).prop_map(|pause| answer(503, "", Some(pause))),
        1 => Just(answer(200, text, None)),
        2 => Just(Reaction::Cut),
        2 => Just(Reaction::Stall),
    ]
}

/// Delivers until nothing is pending. A message without a response ends the worker that sent it, as
/// a crash does; then the next worker starts.
async fn deliver_all(app: &TestApp, pauses: &[u64]) {
    for turn in 0..MOST_TURNS {
        tokio::select! {
            _ = app.deliver_due() => {}
            () = app.anytrack.stalled() => {}
        }
        if app.deliveries().await.iter().all(|found| found.state != "pending") {
            return;
        }
        app.advance(Duration::from_secs(pauses[turn % pauses.len()]));
    }
    panic!("something is still queued after {MOST_TURNS} turns: {:?}", app.deliveries().await);
}

async fn holds_whatever_it_does(reactions: Vec<Reaction>, pauses: &[u64]) {
    let app = TestApp::start_with(&[("CLICKSTAMP_RETRY_SCHEDULE", "5s,1m,10m")]).await;
    let click_id = app.visit(PAGE).await;
    let sessions: Vec<String> = (0..CONVERSIONS).map(|n| format!("cs_live_{n}x")).collect();
    for session in &sessions {
        app.stripe_processed(&Session::paid(session).reference(&click_id).completed()).await;
    }
    let owed = app.deliveries().await;
    app.anytrack.reacts(reactions);
    deliver_all(&app, pauses).await;

    let (ended, received) = (app.deliveries().await, app.anytrack.received());
    assert_eq!(ended.len(), sessions.len(), "each conversion is queued once");
    for session in &sessions {
        let delivery = ended.iter().find(|found| found.request.contains(session)).expect("queued");
        let frozen = owed.iter().find(|found| found.id == delivery.id).expect("as before");
        assert_eq!(delivery.request, frozen.request, "its bytes never change");
        let bodies: Vec<_> = received.iter().filter(|body| body.contains(session)).collect();
        assert!(bodies.iter().all(|body| **body == frozen.request), "each time the same bytes");
        let attempts = usize::try_from(delivery.attempts).expect("few");
        assert!(bodies.len() <= attempts, "every message on the wire is a listed attempt");
        let is_taken = |(body, status, text): &(String, u16, String)| {
            body == &frozen.request && (200..300).contains(status) && text.is_empty()
        };
        let was_taken = app.anytrack.answered().iter().any(is_taken);
        match (delivery.state.as_str(), delivery.reason.as_deref()) {
            ("delivered", None) => assert!(was_taken, "{session}: nobody took it"),
            ("given_up", Some("refused" | "exhausted")) => assert!(attempts > 0),
            other => panic!("{session} ended as {other:?}"),
        }
    }
}

#[test]
fn whatever_a_destination_does_each_conversion_is_delivered_or_visibly_failed() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config =
        ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() };
    // Some turns come too early for anything, some after every lease, probe and pause.
    let pauses = proptest::collection::vec(prop_oneof![1_u64..90, Just(3_700)], 1..6).prop_map(
        |mut pauses| {
            pauses.push(3_700);
            pauses
        },
    );
    let course = (proptest::collection::vec(any_reaction(), 0..24), pauses);
    TestRunner::new(config)
        .run(&course, |(reactions, pauses)| {
            runtime.block_on(holds_whatever_it_does(reactions, &pauses));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_dead_destination_with_thousands_queued_does_not_delay_another() {
    let mut app = TestApp::owned(&[]).await;
    app.leave_things_undone();
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid("cs_live_first").reference(&click_id).completed()).await;
    let pool = app.database.look().await;
    sqlx::query(
        "insert into deliveries (id, destination_id, conversion_id, event_key, event_name, transaction_id, state, request,
                                 content_type, revision, attempts, schedule_from, due_at_ms, created_at_ms)
         with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < 3000)
         select id || n, destination_id, conversion_id, event_key || n, event_name, transaction_id, state, request,
                content_type, revision, 0, 0, due_at_ms, created_at_ms
           from deliveries cross join numbers",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    app.anytrack.reacts(std::iter::repeat_n(Reaction::Cut, 40));
    let tried = app.deliver_due().await;
    assert!((10..=11).contains(&tried), "{tried}: it is held after ten failures");

    let hook = FakeDestination::start().await;
    let owner = app.owner().await;
    let fields = [("name", "My Hook"), ("url", hook.url.as_str()), ("preset", "webhook")];
    let added = owner.post("/settings/destinations", &fields).await;
    assert_eq!(added.status, StatusCode::OK, "{}", added.text());
    for session in ["cs_live_a", "cs_live_b", "cs_live_c"] {
        app.stripe_processed(&Session::paid(session).reference(&click_id).completed()).await;
    }
    assert_eq!(app.deliver_due().await, 3, "the other one’s go at once, and nothing else");
    assert_eq!((hook.received().len(), app.anytrack.received().len()), (3, tried));
    let owed = app.database.number("select count(*) from deliveries where state = 'pending'").await;
    assert_eq!(owed, 3_004, "nothing was given up");
}
