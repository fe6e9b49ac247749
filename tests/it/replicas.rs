//! Two processes on one PostgreSQL database: nothing is done twice, nothing is missed.

use axum::http::StatusCode;
use clickstamp::app::App;
use futures_util::future::{join, join_all};
use serde_json::json;
use tower::ServiceExt as _;

use crate::harness::{SECRET, Session, TestApp, request, sign};

async fn post(app: &App, event: &serde_json::Value, seconds: i64) -> StatusCode {
    let body = event.to_string();
    let signature = sign(SECRET, seconds, body.as_bytes());
    let request =
        request("POST", "/webhooks/stripe/main", &[("stripe-signature", &signature)], body);
    app.router().oneshot(request).await.expect("an answer").status()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_events_on_two_replicas_at_once_become_one_ledger() {
    let one = TestApp::start().await;
    let Some(two) = one.replica().await else { return };
    let click_id = one.visit("https://www.shop.localhost/?utm_source=x").await;
    let now = one.now().as_seconds();
    let events: Vec<_> = (0..30)
        .map(|n| {
            // One customer: the first is matched, the others through it, whichever replica sees
            // them.
            let session = Session::paid(&format!("cs_live_{n:02}"))
                .at(1_790_000_000 + n)
                .with(json!({"customer": "cus_1"}));
            if n == 0 { session.reference(&click_id).completed() } else { session.completed() }
        })
        .collect();
    let posts =
        events.iter().flat_map(|event| [post(one.app(), event, now), post(&two, event, now)]);
    assert!(join_all(posts).await.iter().all(|status| *status == StatusCode::OK));
    let (first, second) = join(one.app().process_events(), two.process_events()).await;
    assert!(first.unwrap() + second.unwrap() >= 30);
    let (first, second) = join(one.app().deliver_due(), two.deliver_due()).await;
    assert_eq!(
        first.unwrap() + second.unwrap(),
        30,
        "each queued delivery is claimed by one of them"
    );

    let conversions = one.conversions().await;
    assert_eq!(conversions.len(), 30);
    assert!(
        conversions
            .iter()
            .all(|conversion| conversion.click_id.as_deref() == Some(click_id.as_str()))
    );
    assert_eq!(one.anytrack.received().len(), 30);
    two.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_visits_on_two_replicas_at_once_are_counted_once() {
    let one = TestApp::start().await;
    let Some(two) = one.replica().await else { return };
    let mut bodies = Vec::new();
    for t in 0..200 {
        let body = json!({"s": "main", "i": one.mint().await, "t": t, "u": "https://www.shop.localhost/?utm_source=x"});
        bodies.push(body.to_string());
    }
    let visit =
        |app: &App, body: &str| app.router().oneshot(request("POST", "/v", &[], body.to_owned()));
    let posts = bodies.iter().flat_map(|body| [visit(one.app(), body), visit(&two, body)]);
    for answer in join_all(posts).await {
        assert_eq!(answer.expect("an answer").status(), StatusCode::NO_CONTENT);
    }
    assert_eq!(one.database.number("select count(*) from visits").await, 200);
    assert_eq!(
        one.database.number("select cast(sum(visits) as bigint) from visit_counts").await,
        200
    );
    two.close().await;
}
