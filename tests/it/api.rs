//! The JSON API: who may ask, what it answers, how it refuses.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Reply, Session, TestApp};

const TOKEN: (&str, &str) = ("authorization", "Bearer a-token-for-tests");

/// What a refusal says; checks that it has the one form every refusal has.
fn problem(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("cache-control"), "no-store");
    let problem = reply.json();
    assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)));
    problem["detail"].as_str().expect("a detail").to_owned()
}

/// One matched payment that AnyTrack refused at first, one whose tag did not run, one in test mode.
async fn story() -> (TestApp, String) {
    let app = TestApp::start().await;
    let first = app.visit("https://www.shop.localhost/?utm_source=letter&utm_medium=email").await;
    app.advance(Duration::from_secs(60));
    let click_id = app.mint().await;
    let page =
        "https://www.shop.localhost/offer?utm_source=google&utm_medium=cpc&utm_campaign=spring";
    app.visit_as(&click_id, page, Some(&first)).await;
    let matched = Session::paid("cs_live_1").reference(&click_id).at(1_790_000_060);
    app.stripe_processed(&matched.with(json!({"livemode": true})).completed()).await;
    let missing = Session::paid("cs_live_2").reference("--CLICK-ID--").at(1_790_000_050);
    let yen = json!({"livemode": true, "currency": "jpy", "amount_total": 12_800});
    app.stripe_processed(&missing.with(yen).completed()).await;
    let test = Session::paid("cs_test_3").reference(&click_id).at(1_790_000_040);
    app.stripe_processed(&test.with(json!({"livemode": false})).completed()).await;
    app.deliver_due().await;
    (app, click_id)
}

#[tokio::test]
async fn nothing_is_answered_without_a_token() {
    let app = TestApp::start().await;
    let paths = [
        "overview", "conversions", "conversions/x", "visits/x", "stripe-events", "deliveries",
        "sites", "sources", "destinations", "overview?from=nonsense",
    ];
    for path in paths {
        let path = format!("/api/v1/{path}");
        for headers in
            [vec![], vec![("authorization", "Bearer wrong")], vec![("authorization", "Basic eA==")]]
        {
            let reply = app.send("GET", &path, &headers, "").await;
            problem(&reply, 401);
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{path}");
        }
    }
    problem(&app.send("POST", "/api/v1/deliveries/x/retry", &[], "").await, 401);
    assert_eq!(app.get("/api/v1/openapi.json").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_conversion_has_the_promised_shape() {
    let (app, click_id) = story().await;
    let list = app.api("/api/v1/conversions").await;
    let names: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|row| &row["transaction_id"]).collect();
    assert_eq!(names, ["cs_live_1", "cs_live_2", "cs_test_3"], "live and test, newest first");
    assert_eq!(list["next"], Value::Null);

    let mut found = list["data"][0].clone();
    let one = app.api(&format!("/api/v1/conversions/{}", found["id"].as_str().unwrap())).await;
    assert_eq!(found, one);
    assert!(found["id"].take().as_str().unwrap().starts_with("cnv_"));
    assert!(found["deliveries"][0]["id"].take().as_str().unwrap().starts_with("dlv_"));
    assert_eq!(found["touches"].as_array().unwrap().len(), 2);
    assert_eq!(found["touches"][0]["source"], "letter");
    let email = found["email"].take();
    assert!(email.as_str().unwrap().contains('@'));
    found["touches"].as_array_mut().unwrap().remove(0);
    assert_eq!(
        found,
        json!({
            "id": null, "site": "main", "source": "main", "kind": "purchase", "status": "paid", "livemode": true,
            "occurred_at": "2026-09-21T14:14:20Z", "amount": "102.60", "currency": "USD", "refunded": "0.00",
            "disputed": "0.00", "lost": "0.00", "paid_at": "2026-09-21T14:14:20Z",
            "transaction_id": "cs_live_1", "client_reference_id": click_id, "email": null,
            "match": {"state": "matched", "by": "click_id", "reason": null, "click_id": click_id},
            "touches": [{"click_id": click_id, "at": "2026-09-21T14:14:20Z", "source": "google", "medium": "cpc",
                         "campaign": "spring", "landing_path": "/offer"}],
            "deliveries": [{"id": null, "destination": "anytrack", "state": "delivered", "attempts": 1,
                            "last_status": 200}],
        })
    );
    let test = &list["data"][2];
    assert_eq!(test["deliveries"][0]["state"], "skipped");
    assert_eq!(test["deliveries"][0]["reason"], "test_mode");
    let missing = &list["data"][1];
    assert_eq!((&missing["amount"], &missing["currency"]), (&json!("12800"), &json!("JPY")));
    assert_eq!(missing["match"]["reason"], "placeholder_not_replaced");
}

#[tokio::test]
async fn the_overview_counts_live_money_by_currency() {
    let (app, _) = story().await;
    let found = app.api("/api/v1/overview").await;
    assert_eq!((&found["visits"], &found["conversions"]), (&json!(2), &json!(2)));
    assert_eq!(
        found["revenue"],
        json!([{"currency": "JPY", "amount": "12800"}, {"currency": "USD", "amount": "102.60"}])
    );
    assert_eq!(found["match_rate"].as_number().map(ToString::to_string).as_deref(), Some("0.5"));
    assert!(found["delivered_rate"].is_number(), "{found}");
    assert_eq!(found["net"], found["revenue"]);
    for nothing in ["refunded", "lost", "disputed"] {
        let sums = found[nothing].as_array().expect("a list");
        assert!(
            sums.iter().all(|sum| sum["amount"]
                .as_str()
                .expect("text")
                .trim_matches(['0', '.'])
                .is_empty()),
            "{found}"
        );
    }
    let google = json!({
        "name": "google", "visits": 1, "conversions": 1, "new_conversions": 1, "renewals": 0, "conversion_rate": 1,
        "net": [{"currency": "USD", "amount": "102.60"}],
    });
    let rows = found["by_source"]["rows"].as_array().expect("rows");
    assert!(rows.contains(&google), "{found}");
    assert_eq!(found["by_source"]["unmatched"]["conversions"], 1);
    assert!(
        found["by_campaign"]["rows"]
            .as_array()
            .expect("rows")
            .iter()
            .any(|row| row["name"] == "spring")
    );
    let test = app.api("/api/v1/overview?livemode=false").await;
    assert_eq!(test["revenue"], json!([{"currency": "USD", "amount": "102.60"}]));
    assert_eq!(test["delivered_rate"], Value::Null);
    let before = app.api("/api/v1/overview?from=2026-08-01&to=2026-09-01").await;
    assert_eq!((&before["conversions"], &before["match_rate"]), (&json!(0), &Value::Null));
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let (app, click_id) = story().await;
    let count = async |query: &str| {
        let list = app.api(&format!("/api/v1/{query}")).await;
        list["data"].as_array().expect("a list").len()
    };
    let rows = [
        ("conversions?livemode=true", 2),
        ("conversions?livemode=false", 1),
        ("conversions?match=unmatched", 1),
        ("conversions?reason=placeholder_not_replaced", 1),
        ("conversions?reason=no_reference", 0),
        ("conversions?status=paid&site=main", 3),
        ("conversions?delivery=delivered&livemode=true&match=matched", 1),
        ("conversions?search=cs_live_1", 1),
        ("conversions?from=2026-09-22", 0),
        ("conversions?limit=2", 2),
        ("stripe-events", 3),
        ("stripe-events?state=processed", 3),
        ("stripe-events?state=failed", 0),
        ("stripe-events?livemode=false", 1),
        ("deliveries?state=skipped", 1),
        ("deliveries?destination=anytrack", 3),
        ("deliveries?livemode=false", 1),
        ("deliveries?livemode=true", 2),
        ("deliveries?reason=test_mode", 1),
        ("deliveries?reason=gpc", 0),
        ("conversions?kind=purchase", 3),
        ("conversions?kind=renewal", 0),
        ("conversions?paid=true&livemode=true", 2),
        ("conversions?paid=false", 0),
        ("conversions?destination=anytrack", 3),
        ("conversions?destination=anytrack&delivery=skipped", 1),
        ("sites", 1),
        ("sources", 2),
        ("destinations", 1),
    ];
    for (query, expected) in rows {
        assert_eq!(count(query).await, expected, "{query}");
    }
    assert_eq!(count(&format!("conversions?search={click_id}")).await, 2);
    for list in ["conversions", "stripe-events", "deliveries"] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = app.api(&format!("/api/v1/{list}?limit=1&cursor={next}")).await;
            seen.extend(page["data"].as_array().unwrap().iter().map(|row| row["id"].to_string()));
            assert!(seen.len() <= 3, "{list}: {seen:?}");
            match page["next"].as_str() {
                Some(cursor) => cursor.clone_into(&mut next),
                None => break,
            }
        }
        seen.dedup();
        assert_eq!(seen.len(), 3, "{list}");
    }
}

#[tokio::test]
async fn a_visit_shows_what_it_led_to() {
    let (app, click_id) = story().await;
    let found = app.api(&format!("/api/v1/visits/{click_id}")).await;
    assert_eq!(found["click_id"], json!(click_id));
    assert_eq!((&found["source"], &found["campaign"]), (&json!("google"), &json!("spring")));
    assert_eq!(found["conversions"].as_array().unwrap().len(), 2);
    assert!(found["details"].is_object(), "{found}");
    let reply = app.send("GET", "/api/v1/visits/ck_none", &[TOKEN], "").await;
    problem(&reply, 404);
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let app = TestApp::start().await;
    let rows = [
        ("overview?from=yesterday", "from"),
        ("overview?from=2026-09-02&to=2026-09-01", "from"),
        ("overview?livemode=maybe", "livemode"),
        ("overview?site=nowhere", "site"),
        ("conversions?limit=0", "limit"),
        ("conversions?limit=201", "limit"),
        ("conversions?limit=many", "limit"),
        ("conversions?cursor=junk", "cursor"),
        ("conversions?match=maybe", "match"),
        ("conversions?search=%00", "search"),
        ("stripe-events?state=delivered", "state"),
        ("deliveries?state=failed", "state"),
        ("deliveries?destination=nobody", "destination"),
        ("deliveries?reason=because", "reason"),
        ("deliveries?stat=given_up", "stat is unknown; the parameters are state, reason,"),
        ("conversions?live=false", "live is unknown; the parameters are site, livemode,"),
        ("conversions?Status=paid", "Status is unknown"),
        ("conversions/cnv_1?x=1", "x is unknown: this takes no parameters"),
        ("overview?site=main&match=matched", "match is unknown"),
        ("stripe-events?reason=ping", "reason is unknown"),
        ("sites?limit=1", "limit is unknown"),
        ("sources?kind=stripe", "kind is unknown"),
        ("links?site=main", "site is unknown"),
        ("destinations?site=main", "site is unknown"),
        ("visits/ck_1?site=main", "site is unknown"),
    ];
    for (query, name) in rows {
        let reply = app.send("GET", &format!("/api/v1/{query}"), &[TOKEN], "").await;
        let detail = problem(&reply, 400);
        assert!(detail.starts_with(name), "{query}: {detail}");
    }
}

#[tokio::test]
async fn every_described_parameter_is_read_and_no_other() {
    let app = TestApp::start().await;
    let schema = app.get("/api/v1/openapi.json").await.json();
    let ask = async |query: String| app.send("GET", &format!("/api/v1{query}"), &[TOKEN], "").await;
    for (path, methods) in schema["paths"].as_object().expect("paths") {
        if methods.get("get").is_none() || path.contains('{') {
            continue;
        }
        let all = methods["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = all.iter().map(|it| it["name"].as_str().expect("text")).collect();
        let query: Vec<String> = names.iter().map(|name| format!("{name}=")).collect();
        let reply = ask(format!("{path}?{}", query.join("&"))).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        let detail = problem(&ask(format!("{path}?unknown=1")).await, 400);
        let expected = match names.as_slice() {
            [] => "unknown is unknown: this takes no parameters.".to_owned(),
            names => format!("unknown is unknown; the parameters are {}.", names.join(", ")),
        };
        assert_eq!(detail, expected, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let app = TestApp::start().await;
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v2/conversions",
        "/api/v1/nothing",
        "/api/v1/conversions/cnv_0",
        "/api/v1/conversions/%00",
        "/api/v1/conversions/%ff",
    ] {
        let reply = app.send("GET", path, &[TOKEN], "").await;
        let status = if path.ends_with("%ff") { 400 } else { 404 };
        problem(&reply, status);
    }
    let reply = app.send("DELETE", "/api/v1/sites", &[TOKEN], "").await;
    problem(&reply, 405);
    assert!(reply.header("allow").contains("GET"));
    assert_eq!(app.send("GET", "/api/v1/deliveries/x/retry", &[TOKEN], "").await.status, 405);
}

#[tokio::test]
async fn a_given_up_delivery_is_sent_again_on_request() {
    let app = TestApp::start_with(&[("CLICKSTAMP_RETRY_SCHEDULE", "1s")]).await;
    let click_id = app.visit("https://www.shop.localhost/").await;
    app.anytrack.answers([500, 500]);
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.deliver_due().await;
    app.advance(Duration::from_secs(5));
    app.deliver_due().await;
    let delivery = app.delivery().await;
    assert_eq!(delivery.state, "given_up");

    let retry = format!("/api/v1/deliveries/{}/retry", delivery.id);
    for _ in 0..2 {
        let reply = app.send("POST", &retry, &[TOKEN], "").await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
        assert_eq!(reply.json()["state"], "pending");
    }
    app.deliver_due().await;
    assert_eq!(app.delivery().await.state, "delivered");
    let received = app.anytrack.received();
    assert_eq!((received.len(), &received[0]), (3, &received[2]), "the same bytes");

    let detail = problem(&app.send("POST", &retry, &[TOKEN], "").await, 409);
    assert!(detail.contains("delivered"), "{detail}");
    let reply = app.send("POST", "/api/v1/deliveries/dlv_0/retry", &[TOKEN], "").await;
    problem(&reply, 404);
}

/// As during a rolling update: a newer version has written reasons that this one does not know.
#[tokio::test]
async fn reasons_of_a_newer_version_break_neither_lists_nor_processing() {
    let app = TestApp::start().await;
    app.anytrack.answers([400]);
    let click_id = app.visit("https://www.shop.localhost/").await;
    let paid = Session::paid("cs_live_1").reference(&click_id);
    app.stripe_processed(&paid.completed()).await;
    app.deliver_due().await;
    app.database.change("update deliveries set reason = 'tomorrow'").await;
    app.database.change("update conversions set match_by = 'tomorrow'").await;
    let first = async |list: &str| {
        let reply = app.send("GET", &format!("/api/v1/{list}"), &[TOKEN], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["data"][0].clone()
    };
    let delivery = first("deliveries").await;
    assert_eq!((&delivery["state"], &delivery["reason"]), (&json!("given_up"), &json!(null)));
    let conversion = first("conversions").await;
    assert_eq!(conversion["transaction_id"], delivery["transaction_id"], "{conversion}");
    app.stripe_processed(&paid.event("checkout.session.async_payment_succeeded")).await;
    let failed = "select count(*) from stripe_events where state = 'failed'";
    assert_eq!(app.database.number(failed).await, 0);
}

#[tokio::test]
async fn the_description_names_every_path() {
    let app = TestApp::start().await;
    let reply = app.get("/api/v1/openapi.json").await;
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("cache-control"), "no-store");
    let paths = reply.json()["paths"].clone();
    let names: Vec<_> = paths.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "/conversions", "/conversions/{id}", "/deliveries", "/deliveries/{id}/retry",
        "/destinations", "/links", "/overview", "/sites", "/sources", "/stripe-events",
        "/visits/{click_id}",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn no_secret_is_shown() {
    let app = TestApp::start().await;
    for path in ["sites", "sources", "destinations"] {
        let text = app.api(&format!("/api/v1/{path}")).await.to_string();
        assert!(!text.contains("whsec_"), "{text}");
        assert!(!text.contains("collect"), "{text}");
    }
}
