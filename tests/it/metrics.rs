//! `/metrics`: who may read it, and that every number is right.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::harness::{Session, TestApp};

const ON: [(&str, &str); 1] = [("CLICKSTAMP_METRICS", "true")];
const TOKEN: (&str, &str) = ("authorization", "Bearer a-token-for-tests");

/// The samples by name and labels.
async fn samples(app: &TestApp) -> BTreeMap<String, i64> {
    let reply = app.send("GET", "/metrics", &[TOKEN], "").await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a whole number"))
        })
        .collect()
}

#[tokio::test]
async fn only_where_it_is_wanted_and_only_with_the_token() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/metrics").await.status, StatusCode::NOT_FOUND);

    let app = TestApp::start_with(&ON).await;
    assert_eq!(app.get("/metrics").await.status, StatusCode::UNAUTHORIZED);
    for wrong in ["Bearer another-token-for-tests", "Basic a-token-for-tests", "Bearer "] {
        let reply = app.send("GET", "/metrics", &[("authorization", wrong)], "").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{wrong}");
        assert!(!reply.text().contains("clickstamp_"));
    }
    let reply = app.send("POST", "/metrics", &[TOKEN], "").await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_new_installation_has_zeros_and_no_times() {
    let app = TestApp::start_with(&ON).await;
    let samples = samples(&app).await;
    for name in [
        "clickstamp_visits_recorded_total",
        "clickstamp_stripe_events{state=\"received\"}",
        "clickstamp_stripe_events{state=\"failed\"}",
        "clickstamp_page_events_failed",
        "clickstamp_deliveries{destination=\"anytrack\",state=\"pending\"}",
        "clickstamp_deliveries{destination=\"anytrack\",state=\"held\"}",
        "clickstamp_deliveries{destination=\"anytrack\",state=\"given_up\"}",
        "clickstamp_destination_down{destination=\"anytrack\"}",
    ] {
        assert_eq!(samples.get(name), Some(&0), "{name}: {samples:#?}");
    }
    assert_eq!(samples["clickstamp_ready"], 1);
    assert!(samples.keys().any(|name| name.starts_with("clickstamp_build_info{version=")));
    assert!(!samples.keys().any(|name| name.contains("timestamp")), "{samples:#?}");
}

#[tokio::test]
async fn counts_are_shown_without_money_or_people() {
    let mut app = TestApp::start_with(&ON).await;
    app.leave_things_undone();
    let began = app.now().as_ms() / 1000;
    let click_id = app.visit("https://www.shop.localhost/?gclid=AbC").await;
    app.visit("https://www.shop.localhost/").await;
    app.advance(Duration::from_secs(60));
    // The first is refused for good, the second is pending.
    app.anytrack.answers([422, 500]);
    for id in ["cs_live_1", "cs_live_2"] {
        let paid = Session::paid(id).reference(&click_id).with(json!({"livemode": true}));
        app.stripe_processed(&paid.completed()).await;
        app.deliver_due().await;
    }
    let waiting = Session::paid("cs_live_3").with(json!({"livemode": true}));
    app.stripe(&waiting.completed()).await;

    let samples = samples(&app).await;
    let expected = [
        ("clickstamp_visits_recorded_total", 2),
        ("clickstamp_last_visit_timestamp_seconds{site=\"main\"}", began),
        ("clickstamp_last_stripe_event_timestamp_seconds{site=\"main\"}", began + 60),
        ("clickstamp_stripe_events{state=\"received\"}", 1),
        ("clickstamp_deliveries{destination=\"anytrack\",state=\"given_up\"}", 1),
        ("clickstamp_deliveries{destination=\"anytrack\",state=\"pending\"}", 1),
        (
            "clickstamp_oldest_delivery_timestamp_seconds{destination=\"anytrack\",state=\"pending\"}",
            began + 60,
        ),
    ];
    for (name, value) in expected {
        assert_eq!(samples.get(name), Some(&value), "{name}: {samples:#?}");
    }
    let reply = app.send("GET", "/metrics", &[TOKEN], "").await;
    let text = reply.text();
    for secret in ["example.com", "102", "cs_live", "ck_", "slug", "whsec"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn a_destination_that_is_only_probed_is_down() {
    let app = TestApp::start_with(&ON).await;
    app.anytrack.answers([404; 3]);
    for id in ["cs_live_1", "cs_live_2", "cs_live_3"] {
        let paid = Session::paid(id).reference("order-1").with(json!({"livemode": true}));
        app.stripe_processed(&paid.completed()).await;
        app.deliver_due().await;
    }
    assert_eq!(samples(&app).await["clickstamp_destination_down{destination=\"anytrack\"}"], 1);
}
