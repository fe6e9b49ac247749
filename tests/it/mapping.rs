//! Messages that a mapping makes: after the commit, apart from everything else, and frozen before the first try.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{FakeDestination, Session, TestApp};

const LIST: &str = "/settings/destinations";
const HERE: &str = "/settings/destinations/my-hook";
const PAGE: &str = "https://www.shop.localhost/?utm_source=x";

/// Expressions that once stopped the whole server, each with one that makes it look harmless when it is saved.
const WORST: [&str; 7] = [
    "[1]*1000000",
    "[1]*4000000",
    "[[1]*10000]*1000",
    "[1]*100000000",
    "'x' if conversion.amount_minor < 2000000 else [[1]*10000]*10000",
    "'x' if conversion.amount_minor < 2000000 else [[[1]*10000]*10000]*10000",
    "[[[1]*10000]*10000]*10000 == touches",
];

/// An app with an owner and a second destination, and the fields of its form with one row.
async fn with_hook() -> (TestApp, FakeDestination) {
    let app = TestApp::owned(&[]).await;
    let hook = FakeDestination::start().await;
    let fields = [("name", "My Hook"), ("url", hook.url.as_str()), ("preset", "zapier")];
    app.owner().await.save(LIST, &fields).await;
    (app, hook)
}

/// Saves rows behind the form's back, as an earlier version did that refused less.
async fn save_rows(app: &TestApp, rows: &[(&str, &str)]) {
    let rows: Vec<Value> = rows
        .iter()
        .map(|(field, expression)| json!({"field": field, "kind": "text", "expression": expression, "is_on": true}))
        .collect();
    let options = json!({"rows": rows, "sends_refunds": true}).to_string();
    let pool = app.database.look().await;
    let saved = sqlx::query("update destinations set options = $1 where key = 'my-hook'");
    saved.bind(options).execute(&pool).await.expect("rows are saved");
    pool.close().await;
    app.database.change("update settings_revision set revision = revision + 1").await;
    app.app().state().settings.refresh(&app.app().state().store).await.expect("settings load");
}

/// State, reason and message of the hook's deliveries, oldest conversion first.
async fn hooked(app: &TestApp) -> Vec<String> {
    app.database
        .texts("select d.state || ' ' || coalesce(d.reason, '') || ' ' || d.request from deliveries d join destinations t on t.id = d.destination_id where t.key = 'my-hook' order by d.transaction_id")
        .await
}

async fn hooked_id(app: &TestApp) -> String {
    let ids = app.database.texts("select d.id from deliveries d join destinations t on t.id = d.destination_id where t.key = 'my-hook' order by d.transaction_id desc").await;
    ids.into_iter().next().expect("a delivery")
}

#[tokio::test]
async fn an_expression_that_could_never_end_is_refused_when_it_is_saved_or_tried() {
    let (app, _hook) = with_hook().await;
    let owner = app.owner().await;
    for expression in WORST {
        for what in ["", "/preview"] {
            let fields = [
                ("name", "My Hook"),
                ("sends_purchases", "1"),
                ("message", "rows"),
                ("field_0", "x"),
                ("expression_0", expression),
                ("kind_0", "json"),
                ("on_0", "1"),
            ];
            let path = format!("{HERE}{what}");
            let reply = tokio::time::timeout(Duration::from_secs(10), owner.post(&path, &fields));
            let reply = reply.await.unwrap_or_else(|_| panic!("{expression}: no answer"));
            assert!(
                reply.text().contains("only numbers can be multiplied"),
                "{expression}: {what}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_that_fails_gives_up_its_own_delivery_and_nothing_else_waits() {
    let (app, hook) = with_hook().await;
    let owner = app.owner().await;
    let rows: Vec<_> = WORST.iter().map(|expression| ("x", *expression)).collect();
    save_rows(&app, &rows).await;
    let event = Session::paid("cs_live_1").with(json!({"amount_total": 5_000_000})).completed();
    let first = async {
        app.stripe_processed(&event).await;
    };
    let others = async {
        let click_id = app.visit(PAGE).await;
        let paid = Session::paid("cs_live_2").reference(&click_id).completed();
        assert_eq!(app.stripe(&paid).await.status, StatusCode::OK);
        assert_eq!(app.get("/healthz").await.status, StatusCode::OK);
    };
    let both = async { tokio::join!(first, others) };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("nothing waits for it");
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 2);
    assert_eq!(hooked(&app).await, ["given_up mapping_error ", "given_up mapping_error "]);
    let page = owner.page(&format!("/deliveries/{}", hooked_id(&app).await)).await;
    assert!(page.contains("only numbers can be multiplied"), "{page}");

    // Both come back once the mapping is right: one by its own button, the other by the destination's.
    save_rows(&app, &[("n", "conversion.transaction_id")]).await;
    owner.save(&format!("/deliveries/{}/retry", hooked_id(&app).await), &[]).await;
    app.deliver_due().await;
    assert_eq!(hook.received(), [r#"{"n":"cs_live_2"}"#]);
    owner.save(&format!("{HERE}/retry"), &[("reason", "mapping_error"), ("days", "30")]).await;
    app.deliver_due().await;
    assert_eq!(hook.received()[1..], [r#"{"n":"cs_live_1"}"#]);
}

#[tokio::test]
async fn a_message_is_made_after_the_commit_and_every_retry_has_its_bytes() {
    let (app, hook) = with_hook().await;
    save_rows(&app, &[("n", "conversion.transaction_id"), ("v", "conversion.value")]).await;
    assert_eq!(app.stripe(&Session::paid("cs_live_1").completed()).await.status, StatusCode::OK);
    app.app().process_events().await.unwrap();
    assert_eq!(hooked(&app).await, ["pending  "], "queued with the conversion, and not made yet");
    let made = r#"{"n":"cs_live_1","v":"102.60"}"#;
    assert_eq!(app.app().make_messages().await.unwrap(), 1);
    assert_eq!(app.app().make_messages().await.unwrap(), 0);
    assert_eq!(hooked(&app).await, [format!("pending  {made}")]);
    hook.answers([503]);
    app.deliver_due().await;
    save_rows(&app, &[("other", "conversion.id")]).await;
    app.advance(Duration::from_secs(60));
    app.deliver_due().await;
    assert_eq!(hook.received(), [made, made]);
    let left = "select count(*) from deliveries where facts is not null";
    assert_eq!(app.database.number(left).await, 0, "what was delivered needs its facts no more");
}

#[tokio::test]
async fn what_a_visit_corrects_before_the_first_try_is_made_again() {
    let (app, hook) = with_hook().await;
    save_rows(&app, &[("source", "visit.source or 'none'")]).await;
    let click_id = app.mint().await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    assert_eq!(hooked(&app).await, [r#"pending  {"source":"none"}"#]);
    app.visit_as(&click_id, PAGE, None).await;
    app.rejoin().await;
    app.deliver_due().await;
    assert_eq!(hook.received(), [r#"{"source":"twitter"}"#]);
}

#[tokio::test]
async fn a_refund_whose_mapping_failed_is_made_again_from_its_own_facts() {
    let (app, hook) = with_hook().await;
    save_rows(&app, &[("n", "conversion.refund_amount or 'paid'")]).await;
    app.stripe_processed(&Session::paid("cs_live_1").completed()).await;
    app.deliver_due().await;
    save_rows(&app, &[("n", "'x' * 3")]).await;
    let charge = json!({
        "id": "ch_1", "payment_intent": "pi_cs_live_1", "amount": 10_260, "amount_captured": 10_260, "captured": true,
        "amount_refunded": 260, "refunded": false, "currency": "usd",
    });
    let refunded = json!({
        "id": "evt_refund", "type": "charge.refunded", "livemode": true, "created": 1_790_000_100, "data": {"object": charge},
    });
    app.stripe_processed(&refunded).await;
    app.deliver_due().await;
    let states = hooked(&app).await;
    assert_eq!(states[1..], ["given_up mapping_error "], "{states:?}");
    save_rows(&app, &[("n", "conversion.refund_amount"), ("t", "conversion.transaction_id")]).await;
    let path = format!("/deliveries/{}/rebuild", hooked_id(&app).await);
    app.owner().await.save(&path, &[]).await;
    app.deliver_due().await;
    assert!(hook.received()[1].contains(r#""t":"cs_live_1-refund-"#), "{:?}", hook.received());
}

#[tokio::test]
async fn an_empty_message_is_an_error_of_the_mapping() {
    let (app, _hook) = with_hook().await;
    let pool = app.database.look().await;
    let options = json!({"encoding": "query", "rows": [{"field": "a", "kind": "text", "expression": "visit.nothing", "is_on": true}]});
    let saved = sqlx::query("update destinations set options = $1 where key = 'my-hook'");
    saved.bind(options.to_string()).execute(&pool).await.unwrap();
    pool.close().await;
    app.app().state().settings.reload(&app.app().state().store).await.unwrap();
    app.stripe_processed(&Session::paid("cs_live_1").completed()).await;
    assert_eq!(hooked(&app).await, ["given_up mapping_error "]);
    app.deliver_due().await;
}
