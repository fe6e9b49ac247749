//! Bodies that a strict reader refuses, and lists that never end: kept, read as far as possible, named.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::stripe::ApiError;
use clickstamp::stripe::backfill::{Backfilled, Wanted};
use serde_json::{Value, json};

use crate::harness::{FakeStripe, Session, TestApp};

/// A paid checkout whose body has this text in the place of an unused field's value.
fn with_unused(id: &str, value: &[u8]) -> Vec<u8> {
    let event = Session::paid(id).with(json!({"locale": "HERE"})).completed();
    replaced(&event, b"\"HERE\"", value)
}

fn replaced(event: &Value, place: &[u8], value: &[u8]) -> Vec<u8> {
    let text = event.to_string().into_bytes();
    let at = text.windows(place.len()).position(|part| part == place).expect("the place");
    [&text[..at], value, &text[at + place.len()..]].concat()
}

fn deep(levels: usize) -> Vec<u8> {
    [vec![b'['; levels], vec![b']'; levels]].concat()
}

/// What is wrong, and an unused value that has it.
fn odd_values() -> [(&'static str, Vec<u8>); 4] {
    [
        ("a lone surrogate", br#""B\ud83d""#.to_vec()),
        ("a number that cannot be held", b"1e400".to_vec()),
        ("more than 100 levels of nesting", deep(130)),
        ("a byte that is not UTF-8", b"\"\xe4\"".to_vec()),
    ]
}

#[tokio::test]
async fn one_bad_spot_in_an_unused_field_costs_no_payment() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let click_id = app.visit("https://shop.example/?gclid=abc").await;
    for (at, (what, value)) in odd_values().into_iter().enumerate() {
        app.advance(Duration::from_secs(1)); // IDs sort by time.
        let event = Session::paid(&format!("cs_live_{at}"))
            .reference(&click_id)
            .with(json!({"locale": "HERE"}))
            .completed();
        let body = replaced(&event, b"\"HERE\"", &value);
        for _ in 0..2 {
            assert_eq!(app.stripe_bytes(body.clone()).await.status, StatusCode::OK, "{what}");
        }
        app.process_events().await;
        let found = app.conversions().await.pop().expect("a conversion");
        assert_eq!(
            (found.amount_minor, found.matched_by.as_deref()),
            (Some(10_260), Some("click_id"))
        );
        let said = app.database.texts("select summary from stripe_events order by id desc").await;
        assert!(said[0].contains(what), "{what}: {said:?}");
        let id =
            app.database.texts("select id from stripe_events order by id desc").await.remove(0);
        assert_eq!(body_of(&app, &id).await, body, "{what}: the bytes are kept as they came");
        let page = owner.page(&format!("/events/{id}")).await;
        assert!(page.contains("Event body") && page.contains(what), "{page}");
    }
    assert_eq!(
        app.database.number("select count(*) from stripe_events where repeats = 1").await,
        4
    );
    assert_eq!(app.conversions().await.len(), 4);
    app.deliver_due().await;
    let wanted = clickstamp::stripe::replay::Wanted::default();
    assert!(app.app().replay(&wanted).await.unwrap().differences.is_empty());
}

async fn body_of(app: &TestApp, id: &str) -> Vec<u8> {
    let pool = app.database.look().await;
    let row = sqlx::query("select body from stripe_events where id = $1").bind(id);
    let row = row.fetch_one(&pool).await.expect("it is there");
    pool.close().await;
    sqlx::Row::get(&row, 0)
}

#[tokio::test]
async fn what_is_needed_and_cannot_be_read_fails_with_its_place_and_runs_again() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let event = Session::paid("cs_live_1").with(json!({"amount_total": "HERE"})).completed();
    let needed = replaced(&event, b"\"HERE\"", b"1e400");
    let torn =
        br#"{"id":"evt_torn","type":"checkout.session.completed","data":{"object":"#.to_vec();
    let nameless = b" {\"type\": nothing}".to_vec();
    let rows = [
        (
            needed,
            "data.object.amount_total is text, not a number. The body is not valid JSON: a number that cannot be held at byte",
        ),
        (torn, "the body is not JSON: EOF while parsing a value at line 1 column 70"),
        (nameless, "the body is not JSON: expected ident at line 1 column 12"),
    ];
    for (body, error) in rows {
        app.advance(Duration::from_secs(1));
        for _ in 0..2 {
            assert_eq!(app.stripe_bytes(body.clone()).await.status, StatusCode::OK, "{error}");
            app.process_events().await;
        }
        let found = app.database.texts("select error from stripe_events order by id desc").await;
        assert!(found[0].starts_with(error), "{found:?}");
        let id =
            app.database.texts("select id from stripe_events order by id desc").await.remove(0);
        assert!(
            owner
                .page(&format!("/events/{id}"))
                .await
                .contains("This event could not be processed")
        );
    }
    let ids = app.database.texts("select event_id from stripe_events order by id").await;
    assert!(ids[1] == "evt_torn" && ids[2].starts_with("body_"), "{ids:?}");
    assert_eq!(
        app.database.number("select count(*) from stripe_events where repeats = 1").await,
        3
    );
    assert!(owner.page("/events?state=failed").await.contains("not JSON"));
}

async fn backfill(app: &TestApp) -> anyhow::Result<Backfilled> {
    let (source, account) = ("main".to_owned(), String::new());
    app.app().backfill(&Wanted { days: 30, source, account, undelivered: false }).await
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [
        b"{\"object\":\"list\",\"has_more\":false,\"data\":[".as_slice(),
        &items.join(&b","[..]),
        b"]}",
    ]
    .concat()
}

#[tokio::test]
async fn a_backfill_keeps_names_and_passes_what_cannot_be_read() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let mut items: Vec<Vec<u8>> = odd_values()
        .into_iter()
        .enumerate()
        .map(|(at, (_, value))| with_unused(&format!("cs_live_{at}"), &value))
        .collect();
    items.insert(2, b"{\"id\":\"evt_hollow\"}".to_vec());
    items.insert(3, b"[1]".to_vec());
    items.push(Session::paid("cs_live_9").completed().to_string().into_bytes());
    stripe.answers("/v1/events", list(&items));
    let done = backfill(&app).await.expect("it goes on");
    assert_eq!((done.events, done.stored), (7, 7));
    assert_eq!(done.unreadable[0], "evt_hollow");
    assert!(done.unreadable[1].starts_with("body_") && done.unreadable.len() == 2, "{done:?}");
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 5, "every payment counts");
    let again = backfill(&app).await.expect("it goes on");
    assert_eq!((again.stored, again.unreadable.len()), (0, 0));
}

#[tokio::test]
async fn a_list_that_does_not_move_on_ends_with_a_clear_error() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let stuck = |error: &anyhow::Error| match error.downcast_ref::<ApiError>() {
        Some(ApiError::Stuck(said)) => said.clone(),
        other => panic!("{other:?}: {error:#}"),
    };
    let mut event = Session::paid("cs_live_1").completed();
    event["created"] = (app.now().as_seconds() - 3600).into();
    stripe.has("/v1/events", [event]);
    stripe.never_moves_on("/v1/events");
    for _ in 0..2 {
        let error = backfill(&app).await.expect_err("it ends");
        assert!(stuck(&error).contains("/v1/events does not move on"), "{error:#}");
        assert!(stripe.calls().len() <= 3);
    }
    assert_eq!(app.conversions().await.len(), 1, "what it had given is kept");
    let (source, account) = ("main".to_owned(), String::new());
    let wanted = clickstamp::stripe::reconcile::Wanted {
        source,
        account,
        from: None,
        until: None,
        repair: false,
    };
    for path in ["/v1/invoices", "/v1/checkout/sessions"] {
        stripe.has(path, [json!({"id": format!("of {path}"), "created": 5})]);
        stripe.never_moves_on(path);
        let error = app.app().reconcile(&wanted).await.expect_err("it ends");
        assert!(stuck(&error).contains(path), "{error:#}");
    }
    app.deliver_due().await;
}
