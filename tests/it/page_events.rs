//! Events that pages report with `clickstamp("event", …)`: stored before the response, once,
//! matched by click ID, without money.

use axum::http::StatusCode;
use clickstamp::clock::Clock;
use clickstamp::stripe::replay::Wanted;
use serde_json::{Value, json};

use crate::harness::{Database, FakeDestination, Server, TestApp};

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

/// The overview's conversions, events of pages, and conversion rate.
async fn counted(app: &TestApp) -> (Value, Value, String) {
    let found = app.api("/api/v1/overview").await;
    let rate = found["conversion_rate"].to_string();
    (found["conversions"].clone(), found["page_events"].clone(), rate)
}

#[tokio::test]
async fn an_event_counts_once_its_visit_arrives_and_only_then() {
    let app = TestApp::owned(&[]).await;
    let other = app.replica().await;
    let owner = app.owner().await;
    let minted = app.mint().await;
    for click_id in [CLIENT_MADE, &minted] {
        app.page_event(click_id, "Signed up", json!({})).await;
    }
    assert_eq!(app.process_events().await, 0, "no visit, no conversion");
    assert_eq!(app.conversions().await.len() + app.deliveries().await.len(), 0);
    assert_eq!(counted(&app).await, (json!(0), json!(0), "null".to_owned()));
    assert!(owner.page("/events").await.contains("Page events that don’t count: 2"));
    let page = owner.page("/events/pages").await;
    assert_eq!(page.matches("No counted visit has its click ID").count(), 2, "{page}");
    assert!(page.contains(CLIENT_MADE) && page.contains(&minted), "{page}");
    // However late the visit is; events of more than an hour ago are searched once a minute.
    app.advance(std::time::Duration::from_secs(7_200));
    for click_id in [CLIENT_MADE, &minted] {
        app.visit_as(click_id, PAGE, None).await;
    }
    if let Some(other) = &other {
        let both = tokio::join!(app.app().process_events(), other.process_events());
        both.0.and(both.1).expect("both can process");
    }
    app.process_events().await;
    let conversions = app.conversions().await;
    assert_eq!(conversions.len(), 2, "each counts once");
    for conversion in conversions {
        assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
        assert_ne!(conversion.click_id.as_deref(), Some(CLIENT_MADE), "the signed one");
    }
    for click_id in [CLIENT_MADE, &minted] {
        app.page_event(click_id, "Signed up", json!({})).await;
    }
    assert_eq!(app.process_events().await, 0, "a repeat is known");
    assert_eq!(counted(&app).await, (json!(0), json!(2), "0".to_owned()));
    assert!(owner.page("/events/pages").await.contains("Every page event has a counted visit"));
    app.deliver_due().await;
    if let Some(other) = other {
        other.close().await;
    }
}

#[tokio::test]
async fn an_event_that_waits_for_its_visit_survives_a_killed_server() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let mut server = Server::start(&database, &anytrack).await;
    let (first, second) = (server.mint().await, server.mint().await);
    for click_id in [&first, &second] {
        let post = server.client.post(format!("{}/v", server.url));
        let answer = post.body(event(click_id, "Signed up", json!({}))).send().await;
        assert_eq!(answer.expect("an answer").status().as_u16(), 204);
    }
    server.kill().await;
    let mut server = Server::start(&database, &anytrack).await;
    server.visit(&first).await;
    server.kill().await;
    let app = TestApp::on(database, anytrack, Clock::system()).await;
    app.process_events().await;
    let conversion = app.conversion().await;
    assert_eq!((conversion.kind.as_str(), conversion.click_id), ("Signed up", Some(first)));
    app.deliver_due().await;
}

const DOMAINS: [(&str, &str); 4] =
    [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD"), ("domains", "shop.localhost")];

impl TestApp {
    /// What `POST /v` answers to a page of this origin.
    async fn posted_from(&self, origin: &str, body: String) {
        let reply = self.send("POST", "/v", &[("origin", origin)], body).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    }
}

#[tokio::test]
async fn an_event_of_another_website_never_counts_until_the_owner_accepts_the_website() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    owner.save("/settings/sites/main", &DOMAINS).await;
    let click_id = app.visit(PAGE).await;
    let evil = "https://evil.example";
    app.posted_from(evil, event(&click_id, "Lead", json!({}))).await;
    app.posted_from("https://www.shop.localhost", event(&click_id, "Seen", json!({}))).await;
    let elsewhere = json!({"u": "https://shop.example/page"});
    app.page_event(&click_id, "Elsewhere", elsewhere).await;
    // A visit that another website sent is not counted, so its events are not either.
    let theirs = app.mint().await;
    let visit = json!({"s": "main", "i": theirs, "t": 1, "u": PAGE}).to_string();
    app.posted_from(evil, visit).await;
    app.page_event(&theirs, "Theirs", json!({})).await;
    assert_eq!(app.process_events().await, 1);
    assert_eq!(app.conversion().await.kind, "Seen");
    let page = owner.page("/events/pages?reason=other_website").await;
    for host in ["evil.example", "shop.example"] {
        assert!(page.contains(&format!("Sent from {host}, which isn’t")), "{page}");
    }
    assert!(!page.contains("Theirs"), "{page}");
    let page = owner.page("/events/pages?reason=no_visit").await;
    assert!(page.contains("Theirs") && !page.contains("Sent from"), "{page}");
    owner.save("/setup/hosts", &[("host", "evil.example")]).await;
    assert_eq!(app.process_events().await, 1, "its event counts now");
    assert_eq!(app.conversions().await.len(), 2);
    app.deliver_due().await;
}

#[tokio::test]
async fn events_that_do_not_count_are_deleted_by_day_or_all_at_once() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let click_id = app.visit(PAGE).await;
    app.page_event(&click_id, "Counts", json!({})).await;
    let mut day = String::new();
    for name in ["One", "Two", "Three"] {
        app.page_event(CLIENT_MADE, name, json!({})).await;
        day = app.now().to_rfc3339()[..10].to_owned();
        app.advance(std::time::Duration::from_secs(86_400));
    }
    let apart = || app.database.texts("select name from page_events order by received_at_ms");
    let delete = "/events/pages/delete";
    for refused in [vec![("day", "all")], vec![("day", "nonsense"), ("sure", "1")]] {
        assert_eq!(owner.post(delete, &refused).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(apart().await.len(), 4);
    let there = owner.save(delete, &[("day", &day), ("sure", "1")]).await;
    assert!(owner.page(&there).await.contains("1 event deleted"));
    assert_eq!(apart().await, ["Counts", "One", "Two"], "what counts stays, and other days");
    owner.save(delete, &[("day", "all"), ("sure", "1")]).await;
    assert_eq!(apart().await, ["Counts"]);
    assert_eq!(app.process_events().await, 1);
    app.deliver_due().await;
}

#[tokio::test]
async fn events_that_do_not_count_are_bounded_and_deleted_after_thirty_days() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.page_event(CLIENT_MADE, "Waits", json!({})).await;
    app.database
        .change(
            "insert into page_events (id, site_id, click_id, sent_at_ms, name, received_at_ms, properties)
             with recursive n (i) as (select 1 union all select i + 1 from n where i < 10000)
             select 'pev_x' || i, e.site_id, e.click_id, i, e.name, e.received_at_ms, e.properties
               from page_events e, n",
        )
        .await;
    let more = app.post_visit(event(CLIENT_MADE, "More", json!({}))).await;
    assert_eq!(more.status, StatusCode::TOO_MANY_REQUESTS, "{}", more.text());
    app.page_event(CLIENT_MADE, "Waits", json!({})).await;
    app.page_event(&click_id, "Counts", json!({})).await;
    assert_eq!(app.process_events().await, 1, "one with a visit is taken all the same");
    assert!(app.app().prune_daily().await.expect("it can be asked"));
    let count = "select count(*) from page_events";
    assert_eq!(app.database.number(count).await, 10_002);
    app.advance(std::time::Duration::from_secs(31 * 86_400));
    assert!(app.app().prune_daily().await.expect("it can be asked"));
    assert_eq!(app.database.number(count).await, 1, "without a setting; what counts stays");
    app.deliver_due().await;
}

#[tokio::test]
async fn events_of_pages_are_no_conversions_in_any_number_before_and_after_the_rollup() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    for name in ["Purchase", "renewal", "trial", "Lead", "Signed up"] {
        app.page_event(&click_id, name, json!({})).await;
    }
    app.process_events().await;
    for _ in 0..2 {
        assert_eq!(counted(&app).await, (json!(0), json!(5), "0".to_owned()));
        let found = app.api("/api/v1/overview").await;
        let row = &found["by_source"]["rows"][0];
        assert_eq!((&row["name"], &row["conversions"]), (&json!("google"), &json!(0)));
        assert_eq!((&row["renewals"], &row["new_conversions"]), (&json!(0), &json!(0)));
        app.advance(std::time::Duration::from_secs(2 * 86_400));
        assert!(app.app().sum_days().await.expect("days can be rolled up") < 9);
    }
    app.deliver_due().await;
}

#[tokio::test]
async fn what_can_never_be_right_is_refused_and_a_flood_is_stopped() {
    let app = TestApp::start_with(&[("CLICKSTAMP_VISIT_RATE", "9")]).await;
    let id = app.visit(PAGE).await;
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
    // A lead of a postback whose click ID has no visit.
    let token = app.database.texts("select token from sources where key = 'custom'").await;
    let lead = format!("event_name=lead&transaction_id=l1&click_id={}", app.mint().await);
    let reply = app.get(&format!("/webhooks/custom/{}?{lead}", token[0])).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
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
