//! Webhooks: believed or not, stored before the answer, read afterwards.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use clickstamp::stripe;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::harness::{SECRET, Session, TestApp, request, sign};

const PATH: &str = "/webhooks/stripe/main";

#[tokio::test]
async fn an_event_is_stored_before_the_200_and_processed_after() {
    let mut app = TestApp::start().await;
    app.leave_things_undone();
    let reply = app.stripe(&Session::paid("cs_live_1").completed()).await;
    assert_eq!((reply.status, reply.text()), (StatusCode::OK, "ok\n"));
    assert_eq!(app.database.texts("select state from stripe_events").await, ["received"]);
    assert_eq!(app.process_events().await, 1);
    assert_eq!(app.database.texts("select state from stripe_events").await, ["processed"]);
    assert_eq!(app.conversion().await.transaction_id, "cs_live_1");
}

#[tokio::test]
async fn a_repeat_is_one_event_and_one_conversion_also_after_the_work_is_done() {
    let app = TestApp::start().await;
    let event = Session::paid("cs_live_1").completed();
    for _ in 0..3 {
        app.stripe_processed(&event).await;
    }
    let at_once = (0..10).map(|_| app.stripe(&event));
    assert!(
        futures_util::future::join_all(at_once)
            .await
            .iter()
            .all(|reply| reply.status == StatusCode::OK)
    );
    assert_eq!(app.database.number("select repeats from stripe_events").await, 12);
    assert_eq!(app.process_events().await, 0);
    app.deliver_due().await;
    assert_eq!((app.conversions().await.len(), app.anytrack.received().len()), (1, 1));
}

#[tokio::test]
async fn unbelievable_webhooks_get_their_code_and_leave_nothing() {
    let app = TestApp::start().await;
    let body = Session::paid("cs_live_1").completed().to_string();
    let now = app.now().as_seconds();
    let post = async |path: &str, headers: &[(&str, &str)], body: Vec<u8>| {
        app.send("POST", path, headers, body).await
    };
    let signed = |seconds: i64, body: &[u8]| sign(SECRET, seconds, body);
    let good = signed(now, body.as_bytes());
    type Row<'a> = (&'a str, &'a str, Option<String>, Vec<u8>, u16);
    let rows: Vec<Row<'_>> = vec![
        ("unsigned", PATH, None, body.clone().into(), 400),
        (
            "another secret",
            PATH,
            Some(sign("whsec_other", now, body.as_bytes())),
            body.clone().into(),
            400,
        ),
        ("too old", PATH, Some(signed(now - 301, body.as_bytes())), body.clone().into(), 400),
        ("too new", PATH, Some(signed(now + 301, body.as_bytes())), body.clone().into(), 400),
        ("changed body", PATH, Some(good.clone()), format!("{body} ").into(), 400),
        ("not JSON", PATH, Some(signed(now, b"hello")), b"hello".to_vec(), 400),
        ("an array", PATH, Some(signed(now, b"[]")), b"[]".to_vec(), 400),
        ("empty", PATH, Some(signed(now, b"")), vec![], 400),
        ("too large", PATH, Some(good.clone()), vec![b' '; 1024 * 1024 + 1], 413),
        ("no such source", "/webhooks/stripe/other", Some(good), body.clone().into(), 404),
    ];
    for (name, path, signature, body, status) in rows {
        let headers: Vec<(&str, &str)> =
            signature.iter().map(|text| ("stripe-signature", text.as_str())).collect();
        let reply = post(path, &headers, body).await;
        assert_eq!(reply.status.as_u16(), status, "{name}");
        for word in ["mismatch", "too_old", "secret", "signature"] {
            assert!(!reply.text().contains(word), "{name} tells {word}");
        }
    }
    assert_eq!(app.get(PATH).await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(app.database.number("select count(*) from stripe_events").await, 0);
    app.app().flush_counts().await.unwrap();
    let counted = app.database.texts("select reason from stripe_rejections order by reason").await;
    assert_eq!(counted, ["json", "mismatch", "missing", "too_new", "too_old"]);
}

#[tokio::test]
async fn the_largest_allowed_body_is_taken() {
    let app = TestApp::start().await;
    let mut body =
        json!({"id": "evt_big", "type": "some.type", "pad": ""}).to_string().into_bytes();
    let pad = vec![b'x'; 1024 * 1024 - body.len()];
    let at = body.len() - 2;
    body.splice(at..at, pad);
    assert_eq!(body.len(), 1024 * 1024);
    assert_eq!(app.stripe_bytes(body).await.status, StatusCode::OK);
    app.process_events().await;
}

#[tokio::test]
async fn without_a_secret_stripe_is_asked_to_come_again() {
    let app = TestApp::start_with(&[("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "")]).await;
    let reply = app.stripe(&Session::paid("cs_live_1").completed()).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn two_secrets_serve_while_rotating() {
    let app =
        TestApp::start_with(&[("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "whsec_old,whsec_new")]).await;
    for (id, secret) in [("cs_live_1", "whsec_old"), ("cs_live_2", "whsec_new")] {
        let body = Session::paid(id).completed().to_string();
        let signature = sign(secret, app.now().as_seconds(), body.as_bytes());
        let reply = app.send("POST", PATH, &[("stripe-signature", &signature)], body).await;
        assert_eq!(reply.status, StatusCode::OK, "{secret}");
    }
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(
        app.database.number("select count(*) from stripe_events where secret_position = 1").await,
        1
    );
}

#[tokio::test]
async fn other_events_are_kept_and_shown_as_ignored() {
    let app = TestApp::start().await;
    app.stripe_processed(&Session::paid("cs_live_1").event("payout.paid")).await;
    app.stripe_processed(&json!({"id": "evt_x", "type": "a.type.of.tomorrow"})).await;
    app.stripe_processed(&json!({"anything": true})).await;
    let reasons =
        app.database.texts("select reason from stripe_events where state = 'ignored'").await;
    assert_eq!(reasons, ["unsupported_type"; 3]);
    assert!(app.conversions().await.is_empty());
}

#[tokio::test]
async fn an_event_that_cannot_be_read_fails_visibly_and_can_run_again() {
    let app = TestApp::start().await;
    let broken = Session::paid("cs_live_1").with(json!({"amount_total": "102.60"})).completed();
    app.stripe_processed(&broken).await;
    let errors = app.database.texts("select error from stripe_events where state = 'failed'").await;
    assert_eq!(errors, ["data.object.amount_total is text, not a number"]);
    let id = app.database.texts("select id from stripe_events").await.remove(0);
    let state = app.app().state();
    assert!(stripe::rerun(&state.store, app.now(), &id).await.unwrap());
    assert_eq!(app.process_events().await, 1);
    assert!(!stripe::rerun(&state.store, app.now(), "sev_none").await.unwrap());
    app.stripe_processed(&broken).await;
    assert_eq!(
        app.database.number("select repeats from stripe_events where state = 'failed'").await,
        1
    );
}

#[tokio::test]
async fn hostile_but_signed_bodies_never_become_a_500() {
    let app = TestApp::start().await;
    let bodies = [
        json!({"id": "evt_\u{0}", "type": "checkout.session.completed", "data": {"object": {"id": "cs_\u{0}", "amount_total": 5, "currency": "usd",
               "client_reference_id": "a\u{0}b", "metadata": {"click_id": "\u{0}"}, "customer_details": {"email": "a\u{0}@b.example"}}}}),
        json!({"id": 5, "type": {"a": 1}, "data": []}),
        json!({"id": "evt_2", "type": "checkout.session.completed", "data": {"object": {"id": "cs_2", "amount_total": i64::MAX, "currency": "usd"}}}),
        json!({"id": "evt_3", "type": "checkout.session.completed", "data": {"object": {"id": "cs_3", "amount_total": 5, "currency": "usd", "metadata": {"k": "x".repeat(100_000)}}}}),
        json!({"id": "evt_4", "type": "checkout.session.completed", "data": null}),
    ];
    for body in bodies {
        assert_eq!(app.stripe(&body).await.status, StatusCode::OK, "{body}");
        app.process_events().await;
    }
    app.deliver_due().await;
    assert_eq!(
        app.database.number("select count(*) from stripe_events where state = 'received'").await,
        0
    );
}

#[tokio::test]
async fn the_seed_documents_own_example_becomes_a_conversion() {
    let app = TestApp::start().await;
    let body = include_bytes!("../fixtures/seed-example.json").to_vec();
    assert_eq!(app.stripe_bytes(body.clone()).await.status, StatusCode::OK);
    assert_eq!(app.stripe_bytes(body).await.status, StatusCode::OK, "the same bytes are a repeat");
    app.process_events().await;
    app.deliver_due().await;
    let conversion = app.conversion().await;
    assert_eq!(conversion.transaction_id, "evt_1M5sv6JhmZq84NMqbCfCcgRL");
    assert_eq!(
        (conversion.amount_minor, conversion.status.as_str(), conversion.email),
        (Some(10_000), "paid", None)
    );
    assert_eq!(conversion.reason.as_deref(), Some("foreign_reference"));
    let sent: Value = serde_json::from_str(&app.anytrack.received()[0]).unwrap();
    assert_eq!(sent["clickid"], "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys");
    assert!(sent.get("email").is_none() && sent.get("ref_id").is_none());
}

#[tokio::test]
async fn large_bodies_that_never_end_leave_memory_and_room_for_the_others() {
    let app = TestApp::start().await;
    let router = app.app().router();
    let large = || {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b' '; 65 * 1024])]);
        Body::from_stream(first.chain(futures_util::stream::pending()))
    };
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..64 {
        held.spawn(router.clone().oneshot(request("POST", PATH, &[], large())));
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await; // Until all of them wait for more.
    }
    let one_more = router.clone().oneshot(request("POST", PATH, &[], large()));
    // They make way for each other every second, so its turn depends on how fast this machine is.
    let one_more = tokio::time::timeout(Duration::from_secs(60), one_more).await;
    let status = one_more.expect("it is turned away").expect("an answer").status();
    let is_turned_away = |status: &StatusCode| {
        [StatusCode::REQUEST_TIMEOUT, StatusCode::SERVICE_UNAVAILABLE].contains(status)
    };
    assert!(is_turned_away(&status), "{status}");
    let body = Session::paid("cs_live_1").completed().to_string();
    let signature = sign(SECRET, app.now().as_seconds(), body.as_bytes());
    let small = request("POST", PATH, &[("stripe-signature", signature.as_str())], body);
    assert_eq!(router.oneshot(small).await.expect("an answer").status(), StatusCode::OK);
    while let Some(ended) = held.try_join_next() {
        let status = ended.expect("no panic").expect("an answer").status();
        assert!(is_turned_away(&status), "{status}: it brought nothing more");
    }
    app.process_events().await;
    app.deliver_due().await;
}
