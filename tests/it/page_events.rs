//! Events that pages report with `clickstamp("event", …)`: stored before the response, once,
//! matched by click ID, without money.

use axum::http::StatusCode;
use clickstamp::stripe::replay::Wanted;
use serde_json::{Value, json};

use crate::harness::TestApp;

const PAGE: &str = "https://www.shop.localhost/offer?utm_source=google&utm_campaign=spring";
const CLIENT_MADE: &str = "ck_z0123456789abcdefghjkmnpqrstvwxy";

fn event(click_id: &str, name: &str, more: Value) -> String {
    let mut body =
        json!({"s": "main", "i": click_id, "t": 1_790_000_000_000_i64, "u": PAGE, "e": name});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body.to_string()
}

impl TestApp {
    async fn page_event(&self, click_id: &str, name: &str, more: Value) {
        let reply = self.post_visit(event(click_id, name, more)).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }
}

#[tokio::test]
async fn notes_and_events_of_invented_click_ids_are_refused() {
    let app = TestApp::start().await;
    let mut forged = app.visit(PAGE).await;
    let last = if forged.ends_with('0') { '1' } else { '0' };
    forged.replace_range(forged.len() - 1.., &last.to_string());
    let note = json!({"s": "main", "i": forged, "t": 1, "a": "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys"});
    for body in [event(&forged, "Lead", json!({})), note.to_string()] {
        let reply = app.post_visit(body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(reply.text().contains("that this server has not made"), "{}", reply.text());
    }
    for table in ["select count(*) from page_events", "select count(*) from visit_notes"] {
        assert_eq!(app.database.number(table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn an_event_is_one_conversion_of_its_click_id_however_often_it_comes() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    for _ in 0..2 {
        app.page_event(&click_id, "Lead", json!({})).await;
    }
    assert_eq!(app.database.number("select count(*) from page_events").await, 1);
    app.process_events().await;
    app.deliver_due().await;
    app.page_event(&click_id, "Lead", json!({})).await;
    assert_eq!(app.process_events().await, 0);
    let conversion = app.conversion().await;
    assert_eq!((conversion.kind.as_str(), conversion.status.as_str()), ("lead", "paid"));
    assert_eq!(conversion.click_id.as_deref(), Some(click_id.as_str()));
    assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
    assert_eq!(conversion.touches, std::slice::from_ref(&click_id));
    // One more, at another time or of another name, is another one.
    app.page_event(&click_id, "Lead", json!({"t": 1_790_000_000_001_i64})).await;
    app.page_event(&click_id, "Signed up", json!({})).await;
    assert_eq!(app.process_events().await, 2);
    app.deliver_due().await;
    let kinds: Vec<String> = app.conversions().await.into_iter().map(|it| it.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "Signed up").count(), 1, "{kinds:?}");
    assert_eq!(kinds.len(), 3);
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be replayed");
    assert!(replayed.differences.is_empty(), "{replayed:?}");
    assert_eq!(replayed.conversions, 3);
}

#[tokio::test]
async fn what_a_browser_says_of_money_counts_for_nothing() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    let money = json!({"v": {"value": 1000, "amount": "99.00", "currency": "USD"}});
    for name in ["Purchase", "renewal", "trial"] {
        app.page_event(&click_id, name, money.clone()).await;
    }
    app.process_events().await;
    app.deliver_due().await;
    for conversion in app.conversions().await {
        assert_eq!((conversion.amount_minor, conversion.currency), (None, None));
    }
    let sent: Vec<String> = app.deliveries().await.into_iter().map(|it| it.request).collect();
    assert!(
        sent.iter().all(|body| !body.contains("Purchase") && !body.contains("1000")),
        "{sent:?}"
    );
    let overview = app.api("/api/v1/overview").await;
    assert_eq!(overview["revenue"], json!([]));
}

#[tokio::test]
async fn an_event_before_its_visit_is_matched_when_the_visit_arrives() {
    let app = TestApp::start().await;
    let minted = app.mint().await;
    for click_id in [CLIENT_MADE, &minted] {
        app.page_event(click_id, "Signed up", json!({})).await;
    }
    app.process_events().await;
    for conversion in app.conversions().await {
        assert_eq!(conversion.reason.as_deref(), Some("unknown_click_id"));
    }
    for click_id in [CLIENT_MADE, &minted] {
        app.visit_as(click_id, PAGE, None).await;
    }
    assert_eq!(app.rejoin().await, 2);
    for conversion in app.conversions().await {
        assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
        assert_ne!(conversion.click_id.as_deref(), Some(CLIENT_MADE), "the signed one");
    }
    app.deliver_due().await;
}

#[tokio::test]
async fn what_can_never_be_right_is_refused_and_a_flood_is_stopped() {
    let app = TestApp::start_with(&[("CLICKSTAMP_VISIT_RATE", "8")]).await;
    let id = app.mint().await;
    let long = "a".repeat(65);
    for name in ["", "  ", "a\nb", "<b>", "käufe", long.as_str()] {
        let reply = app.post_visit(event(&id, name, json!({}))).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}");
        assert!(reply.text().contains("e is not an event's name"), "{}", reply.text());
    }
    let elsewhere = event(&id, "Lead", json!({"s": "elsewhere"}));
    assert_eq!(app.post_visit(elsewhere).await.status, StatusCode::BAD_REQUEST);
    app.page_event(&id, "Odd values", json!({"v": [1]})).await;
    let flood = app.post_visit(event(&id, "Lead", json!({}))).await;
    assert_eq!(flood.status, StatusCode::TOO_MANY_REQUESTS);
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 1);
}

#[tokio::test]
async fn the_owner_sees_the_event_with_its_properties() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let click_id = app.visit(PAGE).await;
    let said = json!({"v": {"plan": "pro <b>", "seats": 3.5, "yearly": true, "odd": {"a": 1}}});
    app.page_event(&click_id, "Signed up", said).await;
    app.process_events().await;
    app.deliver_due().await;
    let list = owner.page("/conversions").await;
    assert!(list.contains("Signed up"), "{list}");
    let id = app.api("/api/v1/conversions").await["data"][0]["id"].clone();
    let page = owner.page(&format!("/conversions/{}", id.as_str().expect("an ID"))).await;
    for seen in ["Someone triggered", "<dt>seats</dt><dd>3.5</dd>", "<dt>yearly</dt><dd>true</dd>"]
    {
        assert!(page.contains(seen), "{seen} in {page}");
    }
    assert!(!page.contains("pro <b>") && !page.contains("<dt>odd</dt>"));
}

#[tokio::test]
async fn an_event_that_the_ledger_cannot_take_fails_alone_and_can_be_read_again() {
    let app = TestApp::owned(&[]).await;
    let click_id = app.visit(PAGE).await;
    app.page_event(&click_id, "Broken", json!({})).await;
    app.page_event(&click_id, "Signed up", json!({})).await;
    let break_it = "update page_events set properties = '{' where name = 'Broken'";
    app.database.change(break_it).await;
    assert_eq!(app.process_events().await, 2, "one recorded, one failed");
    assert_eq!(app.process_events().await, 0, "it is not retried forever");
    assert_eq!(app.conversion().await.kind, "Signed up");
    let owner = app.owner().await;
    let page = owner.page("/events").await;
    assert!(page.contains("Page events that could not be recorded"), "{page}");
    assert!(page.contains("the properties of a page event"), "{page}");
    let id = app.database.texts("select id from page_events where failed_at_ms is not null").await;
    let rerun = format!("/events/pages/{}/rerun", id[0]);
    owner.save(&rerun, &[]).await;
    assert_eq!(app.process_events().await, 1, "it fails again, and says so");
    app.database.change("update page_events set properties = '{}' where name = 'Broken'").await;
    owner.save(&rerun, &[]).await;
    assert_eq!(app.process_events().await, 1);
    assert_eq!(app.conversions().await.len(), 2);
    assert_eq!(
        owner.post(&rerun, &[]).await.status,
        StatusCode::CONFLICT,
        "there is nothing to do"
    );
    let missing = owner.post("/events/pages/pev_none/rerun", &[]).await;
    assert_eq!(missing.status, StatusCode::CONFLICT);
    assert!(!owner.page("/events").await.contains("could not be recorded"));
    app.deliver_due().await;
}

#[tokio::test]
async fn events_without_money_move_no_match_rate_and_have_words_of_their_own() {
    let app = TestApp::owned(&[]).await;
    let click_id = app.visit(PAGE).await;
    let paid = crate::harness::Session::paid("cs_live_1").reference(&click_id).completed();
    app.stripe_processed(&paid).await;
    app.page_event(CLIENT_MADE, "Signed up", json!({})).await;
    app.process_events().await;
    app.advance(std::time::Duration::from_secs(180));
    app.deliver_due().await;
    let overview = app.api("/api/v1/overview").await;
    assert_eq!((&overview["conversions"], &overview["match_rate"]), (&json!(2), &json!(1)));
    let page = app.owner().await.page("/leaks").await;
    assert!(page.contains("Events without a visit: 1"), "{page}");
    assert!(
        page.contains("1 event are ours") || page.contains("The click IDs of 1 event"),
        "{page}"
    );
    assert!(!page.contains("Not matched:"), "no payment is unmatched: {page}");
}
