//! Postbacks through their endpoint: every form of a request, every error, repeats, and queued
//! messages.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::stripe::replay::{Replayed, Wanted, What};
use serde_json::{Value, json};

use crate::harness::{Conversion, Reply, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer?utm_source=google&utm_campaign=spring";
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
/// What a Zap made by AnyTrack's guide for Stripe sends.
const ZAP: &str = include_str!("../fixtures/custom/zap.json");

impl TestApp {
    async fn token(&self) -> String {
        let sources = self.api("/api/v1/sources").await;
        let all = sources["data"].as_array().expect("a list");
        let custom = all.iter().find(|source| source["key"] == "custom").expect("a custom source");
        assert_eq!(custom["kind"], "custom");
        custom["token"].as_str().expect("its token").to_owned()
    }

    async fn postback_url(&self) -> String {
        format!("/webhooks/custom/{}", self.token().await)
    }

    async fn report(&self, parameters: &Value) -> Value {
        let url = self.postback_url().await;
        let body = parameters.to_string();
        let reply = self.send("POST", &url, &[("content-type", JSON)], body).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()
    }
}

fn encoded(parameters: &Value) -> String {
    let pairs = parameters.as_object().expect("an object").iter().map(|(name, value)| {
        (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    });
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

async fn count(app: &TestApp) -> (usize, i64) {
    let requests = app.database.number("select count(*) from custom_requests").await;
    (app.conversions().await.len(), requests)
}

fn error(reply: &Reply) -> String {
    reply.json()["error"].as_str().expect("an error").to_owned()
}

#[tokio::test]
async fn a_zap_made_for_anytrack_works_as_json_as_a_form_and_as_a_query() {
    let mut seen = Vec::new();
    let zap: Value = serde_json::from_str(ZAP).expect("it is JSON");
    let query = encoded(&zap);
    for way in ["json", "form", "get", "text", "nested"] {
        let app = TestApp::start().await;
        let url = app.postback_url().await;
        let reply = match way {
            "json" => app.send("POST", &url, &[("content-type", JSON)], ZAP).await,
            "form" => app.send("POST", &url, &[("content-type", FORM)], query.clone()).await,
            "get" => app.get(&format!("{url}?{query}")).await,
            "text" => app.send("POST", &url, &[("content-type", "text/plain")], ZAP).await,
            _ => app.send("POST", &url, &[], format!("[{ZAP}]")).await,
        };
        assert_eq!(reply.status, StatusCode::OK, "{way}: {}", reply.text());
        assert_eq!(reply.header("cache-control"), "no-store");
        let answer = reply.json();
        assert_eq!((&answer["duplicate"], &answer["warnings"]), (&json!(false), &json!([])));
        assert_eq!(answer["match"], json!({"state": "unmatched", "reason": "foreign_reference"}));
        assert!(answer["id"].as_str().expect("an ID").starts_with("cnv_"));
        app.deliver_due().await;
        // The source's own ID differs from one installation to the next.
        let conversion = Conversion { account: String::new(), ..app.conversion().await };
        seen.push((conversion, app.anytrack.received()));
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "{seen:#?}");
    let (conversion, received) = &seen[0];
    assert_eq!((conversion.kind.as_str(), conversion.status.as_str()), ("purchase", "paid"));
    assert_eq!(
        (conversion.amount_minor, conversion.currency.as_deref()),
        (Some(10_000), Some("USD"))
    );
    let expected = r#"{"clickid":"p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys","value":100.00,"currency":"USD","email":"jenny.rosen@example.com","status":"paid","transaction_id":"evt_1M5sv6JhmZq84NMqbCfCcgRL","event_name":"Purchase"}"#;
    assert_eq!(received, &[expected.to_owned()]);
}

#[tokio::test]
async fn a_click_id_of_ours_matches_from_either_parameter_and_anytracks_from_a_note() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    let rows = [
        json!({"click_id": click_id, "value": 1, "transaction_id": "a"}),
        json!({"ref_id": click_id, "value": 1, "transaction_id": "b"}),
        json!({"click_id": "{clickid}", "ref_id": click_id, "value": 1, "transaction_id": "c"}),
        json!({"click_id": "aff-1", "ref_id": click_id, "value": 1, "transaction_id": "d"}),
    ];
    for row in &rows {
        let answer = app.report(row).await;
        assert_eq!(answer["match"], json!({"state": "matched", "by": "click_id"}), "{row}");
    }
    for conversion in app.conversions().await {
        assert_eq!(
            conversion.touches,
            std::slice::from_ref(&click_id),
            "{}",
            conversion.transaction_id
        );
    }
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 4);
}

#[tokio::test]
async fn a_visit_that_arrives_later_is_matched_automatically() {
    let app = TestApp::start().await;
    let click_id = app.mint().await;
    let answer =
        app.report(&json!({"click_id": click_id, "value": 7, "transaction_id": "a"})).await;
    assert_eq!(answer["match"], json!({"state": "unmatched", "reason": "unknown_click_id"}));
    app.visit_as(&click_id, PAGE, None).await;
    app.rejoin().await;
    assert_eq!(app.conversion().await.matched_by.as_deref(), Some("click_id"));
    app.deliver_due().await;
}

#[tokio::test]
async fn an_unreplaced_placeholder_is_recorded_and_explained() {
    let app = TestApp::start().await;
    for (at, text) in
        ["--CLICK-ID--", "{clickid}", "{{click.id}}", "[click_id]", "%SUBID%"].iter().enumerate()
    {
        let answer = app.report(&json!({"click_id": text, "value": 1, "transaction_id": at})).await;
        let matched = json!({"state": "unmatched", "reason": "placeholder_not_replaced"});
        assert_eq!(answer["match"], matched, "{text}");
        assert_eq!(answer["warnings"].as_array().map(Vec::len), Some(1), "{text}");
    }
    // Nothing to identify the buyer for AnyTrack.
    let reasons = app.deliveries().await.into_iter().map(|it| it.reason);
    assert_eq!(reasons.collect::<Vec<_>>(), vec![Some("no_identity".to_owned()); 5]);
}

#[tokio::test]
async fn fifty_equal_requests_at_once_are_one_conversion_and_one_delivery() {
    let app = TestApp::start().await;
    let url = app.postback_url().await;
    let requests = (0..50).map(|_| app.send("POST", &url, &[("content-type", JSON)], ZAP));
    let replies = futures_util::future::join_all(requests).await;
    let answers: Vec<Value> = replies.iter().map(Reply::json).collect();
    assert!(replies.iter().all(|reply| reply.status == StatusCode::OK), "{answers:?}");
    assert!(answers.iter().all(|answer| answer["id"] == answers[0]["id"]), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer["duplicate"] == false).count(), 1);
    assert_eq!(count(&app).await, (1, 50));
    // The fifty-first within a second is over the limit, and not stored.
    let one_more = app.send("POST", &url, &[("content-type", JSON)], ZAP).await;
    assert_eq!(one_more.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(one_more.header("retry-after"), "1");
    app.advance(Duration::from_secs(1));
    assert_eq!(app.report(&json!({"email": "a@b.example", "test": "1"})).await["duplicate"], false);
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 1);
    // Once more after all is done.
    let again = app.send("POST", &url, &[("content-type", JSON)], ZAP).await.json();
    assert_eq!((&again["duplicate"], &again["id"]), (&json!(true), &answers[0]["id"]));
    assert_eq!(app.deliver_due().await, 0);
}

#[tokio::test]
async fn pending_and_failed_come_before_paid_and_paid_is_sent() {
    let app = TestApp::start().await;
    let sale = |status: &str| json!({"click_id": "aff-1", "email": "a@b.example", "value": "10", "transaction_id": "t", "status": status});
    let rows = [
        ("pending", "pending", false, 0),
        ("pending", "pending", true, 0),
        ("failed", "failed", false, 0),
        ("pending", "failed", true, 0),
        ("approved", "paid", false, 1),
        ("rejected", "paid", true, 0),
        ("unpaid", "paid", true, 0),
        ("refunded", "refunded", false, 0),
        ("paid", "paid", false, 0),
        ("chargeback", "disputed", false, 0),
    ];
    for (sent, becomes, is_repeat, delivered) in rows {
        let answer = app.report(&sale(sent)).await;
        assert_eq!(answer["duplicate"], is_repeat, "{sent}");
        assert_eq!(app.conversion().await.status, becomes, "{sent}");
        assert_eq!(app.deliver_due().await, delivered, "{sent}");
    }
}

#[tokio::test]
async fn a_status_without_value_and_event_means_the_sale_that_is_there() {
    let app = TestApp::start().await;
    app.report(
        &json!({"click_id": "aff-1", "value": "10", "transaction_id": "t", "status": "pending"}),
    )
    .await;
    let news = json!({"click_id": "aff-1", "transaction_id": "t", "status": "reversed"});
    assert_eq!(app.report(&news).await["duplicate"], false);
    assert_eq!(app.conversion().await.status, "refunded");
    let refunded = app.database.number("select refunded_minor from conversions").await;
    assert_eq!(refunded, 1000);
    assert_eq!(app.report(&news).await["duplicate"], true);
}

#[tokio::test]
async fn leads_without_a_transaction_are_one_per_click_and_purchases_are_not() {
    let app = TestApp::start().await;
    let lead = json!({"click_id": "aff-1"});
    let first = app.report(&lead).await;
    let second = app.report(&lead).await;
    assert_eq!((&second["id"], &second["duplicate"]), (&first["id"], &json!(true)));
    assert_eq!(app.report(&json!({"click_id": "aff-2"})).await["duplicate"], false);
    for _ in 0..2 {
        let answer = app.report(&json!({"click_id": "aff-1", "value": 5})).await;
        assert_eq!(answer["duplicate"], false);
        let warning = answer["warnings"][0].as_str().expect("a warning");
        assert!(warning.contains("can't be recognized"), "{warning}");
    }
    assert_eq!(app.conversions().await.len(), 4);
    app.deliver_due().await;
}

#[tokio::test]
async fn test_conversions_and_purchases_without_a_value_go_nowhere() {
    let app = TestApp::start().await;
    app.report(&json!({"click_id": "a-1", "value": 5, "transaction_id": "t", "test": true})).await;
    let answer = app
        .report(&json!({"click_id": "a-1", "event_name": "Purchase", "transaction_id": "u"}))
        .await;
    assert!(answer["warnings"][0].as_str().expect("one").contains("without a value"));
    let delivery = app.delivery().await;
    assert_eq!(delivery.reason.as_deref(), Some("test_mode"));
    // The value comes later.
    app.report(&json!({"email": "a@b.example", "event_name": "Purchase", "transaction_id": "u", "value": 5})).await;
    assert_eq!(app.deliver_due().await, 1);
}

#[tokio::test]
async fn every_bad_request_says_what_is_wrong_and_records_no_conversion() {
    let app = TestApp::start().await;
    let url = app.postback_url().await;
    let rows = [
        (JSON, "{\"click_id\":", "not a JSON object", None),
        (JSON, "[1]", "not a JSON object", None),
        (JSON, "[{},{}]", "exactly one", None),
        (JSON, "", "Missing click_id, ref_id and email", None),
        (JSON, "{}", "Missing click_id, ref_id and email", None),
        (JSON, r#"{"value":1}"#, "Missing click_id, ref_id and email", None),
        (JSON, r#"{"click_id":"a","value":"1,5"}"#, "comma", Some("value")),
        (JSON, r#"{"click_id":"a","Amount-Total":"1"}"#, "amount_minor", Some("Amount-Total")),
        (JSON, r#"{"click_id":"a","status":"maybe"}"#, "use one of these statuses", Some("status")),
        (JSON, r#"{"click_id":"a","currency":"US"}"#, "three-letter code", Some("currency")),
        (JSON, r#"{"click_id":"a","test":"x"}"#, "true or false", Some("test")),
        (JSON, r#"{"click_id":"a\u0000"}"#, "NUL", Some("click_id")),
        (JSON, r#"{"id":"evt_1","object":"event"}"#, "/webhooks/stripe/{source}", None),
        ("text/plain", "hello", "neither JSON nor a form", None),
        ("multipart/form-data", "x=1", "application/json", None),
    ];
    for (content_type, body, expected, parameter) in rows {
        let reply = app.send("POST", &url, &[("content-type", content_type)], body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}: {}", reply.text());
        assert!(error(&reply).contains(expected), "{body}: {}", reply.text());
        assert_eq!(reply.json()["parameter"], json!(parameter), "{body}");
    }
    let long = format!("click_id=a&x={}", "y".repeat(70_000));
    let reply = app.send("POST", &url, &[("content-type", FORM)], long).await;
    assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{}", reply.text());
    assert!(error(&reply).contains("64 KiB"));
    assert_eq!(count(&app).await, (0, 16), "each is kept for troubleshooting");
    let reply = app.send("POST", "/webhooks/custom/nobody", &[("content-type", JSON)], ZAP).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(error(&reply).contains("unknown address"));
    assert_eq!(app.send("PUT", &url, &[], "").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn head_and_options_record_nothing() {
    let app = TestApp::start().await;
    let (url, query) = (app.postback_url().await, "?click_id=a&value=1");
    let head = app.send("HEAD", &format!("{url}{query}"), &[], "").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(app.send("HEAD", "/webhooks/custom/x", &[], "").await.status, StatusCode::NOT_FOUND);
    let options = app.send("OPTIONS", &format!("{url}{query}"), &[], "").await;
    assert_eq!(options.status, StatusCode::NO_CONTENT);
    assert_eq!(options.header("allow"), "GET, HEAD, OPTIONS, POST");
    assert_eq!(count(&app).await, (0, 0));
}

#[tokio::test]
async fn only_the_last_two_hundred_refused_requests_are_kept() {
    let app = TestApp::start().await;
    let url = app.postback_url().await;
    for n in 0..205 {
        app.advance(Duration::from_millis(100));
        app.get(&format!("{url}?n={n}")).await;
    }
    assert_eq!(count(&app).await, (0, 200));
    let oldest = app.database.texts("select query from custom_requests order by id limit 1").await;
    assert_eq!(oldest, ["n=5"]);
}

async fn replay(app: &TestApp, apply: bool) -> Replayed {
    let wanted = Wanted { apply, ..Wanted::default() };
    app.app().replay(&wanted).await.expect("it can be rebuilt")
}

#[tokio::test]
async fn a_replay_gives_the_same_custom_conversions() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    let requests = [
        json!({"click_id": click_id, "value": "10.50", "transaction_id": "a", "status": "pending", "sub1": "x"}),
        json!({"click_id": click_id, "value": "10.50", "transaction_id": "a"}),
        json!({"click_id": click_id}),
        json!({"click_id": click_id}),
        json!({"click_id": click_id, "value": 5}),
        json!({"click_id": click_id, "value": 5}),
        json!({"email": "a@b.example", "transaction_id": "a", "status": "refunded"}),
        json!({"click_id": "{x}", "value": 3, "transaction_id": "b", "test": 1}),
    ];
    for request in &requests {
        app.report(request).await;
        app.advance(Duration::from_secs(1));
    }
    let url = app.postback_url().await;
    app.get(&url).await; // Refused; it makes nothing in either ledger.
    app.deliver_due().await;
    let (before, sent) = (app.conversions().await, app.anytrack.received().len());
    let replayed = replay(&app, false).await;
    assert_eq!((replayed.events, replayed.conversions), (8, 5));
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
    let pool = app.database.look().await;
    let meddled = "update conversions set amount_minor = 7, match_by = null, match_state = 'unmatched', match_reason = 'no_reference', click_id = null where transaction_id = 'a'";
    sqlx::query(meddled).execute(&pool).await.expect("it can be changed");
    pool.close().await;
    let replayed = replay(&app, true).await;
    assert_eq!(replayed.differences.len(), 1, "{replayed:#?}");
    assert_eq!(replayed.differences[0].what, What::Changed);
    app.deliver_due().await;
    assert_eq!((app.conversions().await, app.anytrack.received().len()), (before, sent));
}

async fn status(app: &TestApp, url: &str) -> StatusCode {
    app.send("POST", url, &[("content-type", JSON)], ZAP).await.status
}

#[tokio::test]
async fn a_new_token_works_at_once_and_the_old_one_until_its_overlap_ends() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let first = app.postback_url().await;
    let to = owner.save("/settings/custom/custom/rotate", &[("overlap", "day")]).await;
    assert!(owner.page(&to).await.contains("works until"), "the page says until when");
    let second = app.postback_url().await;
    assert_ne!(first, second);
    for url in [&first, &second] {
        assert_eq!(status(&app, url).await, StatusCode::OK, "{url}");
    }
    assert_eq!(app.conversions().await.len(), 1, "it is one source");
    app.advance(Duration::from_secs(24 * 3600));
    assert_eq!(status(&app, &first).await, StatusCode::NOT_FOUND);
    assert_eq!(status(&app, &second).await, StatusCode::OK);
    owner.save("/settings/custom/custom/rotate", &[("overlap", "none")]).await;
    assert_eq!(status(&app, &second).await, StatusCode::NOT_FOUND, "the token was replaced");
    let bad = owner.post("/settings/custom/custom/rotate", &[("overlap", "ever")]).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    app.deliver_due().await;
}

#[tokio::test]
async fn the_pages_show_accepted_and_refused_requests_with_reasons() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let (url, path) = (app.postback_url().await, "/settings/custom/custom");
    assert!(owner.page("/settings").await.contains("/settings/custom"));
    assert!(owner.page(path).await.contains(&url), "the address to copy");
    let sale =
        json!({"click_id": "aff-1", "value": "10.005", "transaction_id": "A-17", "sub1": "<b>"});
    let answer = app.report(&sale).await;
    app.get(&format!("{url}?click_id=a&value=1%2C5")).await;
    let page = owner.page(path).await;
    assert!(page.contains("comma") && page.contains("rounded to 10.01"), "{page}");
    let requests = app.database.texts("select id from custom_requests order by state").await;
    let taken = owner.page(&format!("{path}/requests/{}", requests[0])).await;
    assert!(taken.contains("A-17") && taken.contains("#60;b") && !taken.contains("<b>"), "{taken}");
    let refused = owner.page(&format!("{path}/requests/{}", requests[1])).await;
    let token = app.token().await;
    assert!(
        refused.contains("value: use a value such as") && !refused.contains(&token),
        "{refused}"
    );
    let journey =
        owner.page(&format!("/conversions/{}", answer["id"].as_str().expect("one"))).await;
    for shown in ["custom reported it", "Other parameters", "sub1", "A-17", "/requests/crq_"] {
        assert!(journey.contains(shown), "{shown} in {journey}");
    }
    assert!(owner.page("/conversions").await.contains("reported by custom"));
    for nowhere in
        ["/settings/custom/x", "/settings/custom/main", "/settings/custom/custom/requests/x"]
    {
        assert_eq!(owner.get(nowhere).await.status, StatusCode::NOT_FOUND, "{nowhere}");
    }
    app.deliver_due().await;
}

#[tokio::test]
async fn a_test_conversion_and_the_forms_of_a_source() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let click_id = app.visit(PAGE).await;
    let form = [("click_id", click_id.as_str()), ("value", "1.00")];
    let to = owner.save("/settings/custom/custom/test", &form).await;
    assert!(owner.page(&to).await.contains("TEST"));
    let conversion = app.conversion().await;
    assert_eq!((conversion.livemode, conversion.matched_by.as_deref()), (0, Some("click_id")));
    let bad = owner.post("/settings/custom/custom/test", &[("value", "one")]).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.text().contains("without currency sign"));
    owner.save("/settings/custom/custom/test", &[("value", "1")]).await; // Without a click ID.

    owner.save("/settings/custom/custom", &[("source_site", "main"), ("currency", "eur")]).await;
    app.report(&json!({"click_id": "aff-1", "value": 5, "transaction_id": "t"})).await;
    let currencies =
        app.database.texts("select currency from conversions where livemode = 1").await;
    assert_eq!(currencies, ["EUR"]);
    let bad = [("source_site", "main"), ("currency", "euros"), ("never_anytrack", "1")];
    let bad = owner.post("/settings/custom/custom", &bad).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    let kept = ["value=\"euros\"", "name=\"never_anytrack\" value=\"1\" checked"];
    assert!(kept.iter().all(|kept| bad.text().contains(kept)), "{}", bad.text());

    owner.save("/settings/custom", &[("key", "affiliates"), ("source_site", "main")]).await;
    for key in ["affiliates", "main", "No Key", ""] {
        let bad = owner.post("/settings/custom", &[("key", key)]).await;
        assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY, "{key}");
    }
    let sources = app.api("/api/v1/sources").await;
    let tokens = sources["data"].as_array().expect("a list").iter();
    assert_eq!(tokens.filter(|source| source["token"].is_string()).count(), 2);
    app.deliver_due().await;
}

#[tokio::test]
async fn a_conversion_from_a_destination_is_not_sent_back_to_it() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let path = "/settings/custom/custom";
    assert!(owner.page(path).await.contains("Never send its conversions to"));
    let fields = [("source_site", "main"), ("currency", ""), ("never_anytrack", "1")];
    owner.save(path, &fields).await;
    let zap: Value = serde_json::from_str(ZAP).expect("JSON");
    let first = app.report(&zap).await;
    assert_eq!(app.deliver_due().await, 0);
    let skipped = app.database.texts("select reason from deliveries").await;
    assert_eq!(skipped, ["echo"]);
    let page = owner.page(&format!("/conversions/{}", first["id"].as_str().expect("an ID"))).await;
    assert!(page.contains("the conversion came from this destination"), "{page}");
    // Unticked, the next one goes.
    owner.save(path, &fields[..2]).await;
    let mut other = zap.clone();
    other["transaction_id"] = "cs_live_other".into();
    app.report(&other).await;
    assert_eq!(app.deliver_due().await, 1);
}

/// What the ledger holds: status, amount, currency, refunded, disputed.
async fn money(app: &TestApp) -> (String, Option<i64>, Option<String>, i64, i64) {
    let conversion = app.conversion().await;
    let refunded = app.database.number("select refunded_minor from conversions").await;
    let disputed = app.database.number("select disputed_minor from conversions").await;
    (conversion.status, conversion.amount_minor, conversion.currency, refunded, disputed)
}

fn warnings(answer: &Value) -> String {
    answer["warnings"].as_array().expect("a list").iter().map(|it| format!("{it}\n")).collect()
}

#[tokio::test]
async fn a_transaction_is_corrected_by_the_last_request_and_what_is_ignored_is_named() {
    let app = TestApp::start().await;
    // The request, the resulting status, amount, refunded and disputed money, whether it changed
    // nothing, and a part of its warnings.
    let rows = [
        (json!({"value": 100, "currency": "USD"}), "paid", 10_000, 0, 0, false, ""),
        (json!({"value": 100, "currency": "USD"}), "paid", 10_000, 0, 0, true, ""),
        (json!({"value": 90, "currency": "USD"}), "paid", 9_000, 0, 0, false, ""),
        (json!({"value": 110}), "paid", 11_000, 0, 0, false, ""),
        (
            json!({"status": "pending", "value": 1}),
            "paid",
            11_000,
            0,
            0,
            true,
            "status pending is not used",
        ),
        (json!({"status": "rejected"}), "paid", 11_000, 0, 0, true, "status failed is not used"),
        (json!({"value": -30}), "partially_refunded", 11_000, 3_000, 0, false, ""),
        (json!({"value": -30}), "partially_refunded", 11_000, 3_000, 0, true, "send refund_id"),
        (
            json!({"value": 20, "status": "refunded", "refund_id": "r1"}),
            "partially_refunded",
            11_000,
            5_000,
            0,
            false,
            "",
        ),
        (
            json!({"value": 20, "status": "refunded", "refund_id": "r1"}),
            "partially_refunded",
            11_000,
            5_000,
            0,
            true,
            "",
        ),
        (
            json!({"value": -20, "refund_id": "r2"}),
            "partially_refunded",
            11_000,
            7_000,
            0,
            false,
            "",
        ),
        (json!({"refunded_total": 80}), "partially_refunded", 11_000, 8_000, 0, false, ""),
        (
            json!({"value": -5, "currency": "EUR"}),
            "partially_refunded",
            11_000,
            8_000,
            0,
            true,
            "is not counted: the sale is in USD",
        ),
        (json!({"value": 110}), "partially_refunded", 11_000, 8_000, 0, true, "send status=paid"),
        (
            json!({"status": "paid"}),
            "paid",
            11_000,
            0,
            0,
            false,
            "cancels what was recorded before: a refund of 80.00 USD",
        ),
        (json!({"status": "chargeback"}), "disputed", 11_000, 0, 11_000, false, ""),
        (
            json!({"status": "paid", "value": 110}),
            "paid",
            11_000,
            0,
            0,
            false,
            "a dispute of 110.00 USD",
        ),
        (json!({"status": "refunded"}), "refunded", 11_000, 11_000, 0, false, ""),
        (json!({"status": "paid"}), "paid", 11_000, 0, 0, false, "cancels"),
        (
            json!({"event_name": "Refund", "value": 10}),
            "partially_refunded",
            11_000,
            1_000,
            0,
            false,
            "",
        ),
        (json!({"status": "reversed", "value": 0}), "refunded", 11_000, 11_000, 0, false, ""),
        (json!({"status": "approved"}), "paid", 11_000, 0, 0, false, "cancels"),
        (json!({"value": 0, "status": "paid"}), "paid", 0, 0, 0, false, ""),
        (json!({"value": 50, "currency": "USD"}), "paid", 5_000, 0, 0, false, ""),
    ];
    for (sent, status, amount, refunded, disputed, is_repeat, warning) in rows {
        let mut request = sent.clone();
        request["click_id"] = json!("aff-1");
        request["transaction_id"] = json!("t");
        app.advance(Duration::from_secs(1));
        let answer = app.report(&request).await;
        let expected =
            (status.to_owned(), Some(amount), Some("USD".to_owned()), refunded, disputed);
        assert_eq!(money(&app).await, expected, "{sent}");
        assert_eq!(answer["duplicate"], is_repeat, "{sent}");
        let warned = warnings(&answer);
        assert_eq!(warned.is_empty(), warning.is_empty(), "{sent}: {warned}");
        assert!(warned.contains(warning), "{sent}: {warned}");
    }
    let replayed = replay(&app, false).await;
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
    app.deliver_due().await;
}

#[tokio::test]
async fn another_currency_is_a_correction_only_where_the_request_names_it() {
    let app = TestApp::start().await;
    let sale = |more: Value| {
        let mut request = json!({"click_id": "aff-1", "transaction_id": "t"});
        request.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        request
    };
    app.report(&sale(json!({"value": 100, "currency": "EUR"}))).await;
    let answer = app.report(&sale(json!({"value": 90}))).await;
    assert!(warnings(&answer).contains("without a currency, and the sale is in EUR"), "{answer}");
    assert_eq!((money(&app).await.1, money(&app).await.2.as_deref()), (Some(10_000), Some("EUR")));
    let answer = app.report(&sale(json!({"value": 90, "currency": "USD"}))).await;
    assert_eq!((&answer["duplicate"], &answer["warnings"]), (&json!(false), &json!([])));
    assert_eq!((money(&app).await.1, money(&app).await.2.as_deref()), (Some(9_000), Some("USD")));
    let replayed = replay(&app, false).await;
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
    let url = app.postback_url().await;
    for bad in ["XXX", "BTC"] {
        let reply = app.get(&format!("{url}?click_id=a&value=1&currency={bad}")).await;
        assert_eq!(
            (reply.status, error(&reply).contains("ISO 4217")),
            (StatusCode::BAD_REQUEST, true)
        );
    }
    app.deliver_due().await;
}

#[tokio::test]
async fn a_refund_before_its_sale_and_beside_it_come_to_the_same() {
    let app = TestApp::start().await;
    let refund =
        json!({"email": "a@b.example", "transaction_id": "t", "value": -30, "refund_id": "r"});
    app.report(&refund).await;
    assert_eq!(
        money(&app).await,
        ("partially_refunded".to_owned(), None, Some("USD".to_owned()), 3_000, 0)
    );
    app.report(&json!({"email": "a@b.example", "transaction_id": "t", "value": 100})).await;
    let expected =
        ("partially_refunded".to_owned(), Some(10_000), Some("USD".to_owned()), 3_000, 0);
    assert_eq!(money(&app).await, expected);
    assert!(replay(&app, false).await.differences.is_empty());
    app.deliver_due().await;
}

#[tokio::test]
async fn transactions_that_are_not_utf8_stay_different() {
    let app = TestApp::start().await;
    let url = app.postback_url().await;
    for (at, byte) in ["%E4", "%F6", "%FC", "%80", "%81"].into_iter().enumerate() {
        let query = format!("email=a%40b.example&value=10&transaction_id=Bestellung-{byte}");
        let reply = match at % 2 {
            0 => app.get(&format!("{url}?{query}")).await,
            _ => app.send("POST", &url, &[("content-type", FORM)], query).await,
        };
        assert_eq!(reply.json()["duplicate"], false, "{byte}");
    }
    let mut ids: Vec<String> =
        app.conversions().await.into_iter().map(|it| it.transaction_id).collect();
    ids.sort();
    let expected =
        ["Bestellung-\u{81}", "Bestellung-ä", "Bestellung-ö", "Bestellung-ü", "Bestellung-€"];
    assert_eq!(ids, expected);
    // The same name in UTF-8 is the same transaction.
    let again = app
        .get(&format!("{url}?email=a%40b.example&value=10&transaction_id=Bestellung-%C3%A4"))
        .await;
    assert_eq!(again.json()["duplicate"], true);
    let body =
        [&b"{\"email\":\"a@b.example\",\"value\":1,\"transaction_id\":\"\xDF\"}"[..]].concat();
    let reply = app.send("POST", &url, &[("content-type", JSON)], body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert!(app.conversions().await.iter().any(|it| it.transaction_id == "ß"));
    assert!(replay(&app, false).await.differences.is_empty());
    app.deliver_due().await;
}

#[tokio::test]
async fn an_events_name_is_a_kind_in_any_letter_case() {
    let app = TestApp::start().await;
    for (at, (name, kind)) in [
        ("renewal", "renewal"),
        ("Renewal", "renewal"),
        ("RENEWAL", "renewal"),
        ("Trial", "trial"),
        ("LEAD", "lead"),
        ("purchase", "purchase"),
        ("Upsell", "Upsell"),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = app
            .report(
                &json!({"click_id": "aff-1", "value": 1, "transaction_id": at, "event_name": name}),
            )
            .await;
        let id = answer["id"].as_str().expect("an ID");
        assert_eq!(app.api(&format!("/api/v1/conversions/{id}")).await["kind"], kind, "{name}");
    }
    app.deliver_due().await;
}

#[tokio::test]
async fn unreplaced_and_unread_parameters_cause_warnings() {
    let app = TestApp::start().await;
    for (at, text) in ["null", "undefined", "None"].iter().enumerate() {
        let answer = app.report(&json!({"click_id": text, "value": 1, "transaction_id": at})).await;
        let matched = json!({"state": "unmatched", "reason": "placeholder_not_replaced"});
        assert_eq!(answer["match"], matched, "{text}");
        assert!(warnings(&answer).contains("not filled in"), "{answer}");
    }
    let deep = json!({"click_id": "a", "transaction_id": "d", "data": {"order": {"value": 9}}});
    assert!(warnings(&app.report(&deep).await).contains("not read: data_order"));
    let odd = json!({"click_id": "a", "transaction_id": "e", "value": {"a": 5}});
    assert!(warnings(&app.report(&odd).await).contains("not read: value_a"));
    let url = app.postback_url().await;
    let reply = app.get(&format!("{url}?click_id=a;value=5;transaction_id=f")).await;
    assert_eq!(reply.json()["warnings"], json!([]));
    let id = reply.json()["id"].as_str().expect("an ID").to_owned();
    let found = app.api(&format!("/api/v1/conversions/{id}")).await;
    assert_eq!((&found["amount"], &found["kind"]), (&json!("5.00"), &json!("purchase")));
    app.deliver_due().await;
}
