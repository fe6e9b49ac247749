//! Experimental: the server registers visits with AnyTrack, only if switched on, and only those
//! that AnyTrack can't know.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{FakeDestination, Session, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer?utm_source=google&gclid=Cj0K";
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const HERE: &str = "/settings/destinations/anytrack";
const RIPE: Duration = Duration::from_secs(31);

/// Boxes and fields of AnyTrack's page, with the switch on.
fn fields(collect: &FakeDestination) -> Vec<(&'static str, String)> {
    let base = collect.url.split("/acc/").next().expect("a base").to_owned();
    let ticked =
        ["sends_purchases", "sends_renewals", "sends_unmatched", "falls_back_to_our_click_id"];
    let mut fields: Vec<_> = ticked.into_iter().map(|name| (name, "1".to_owned())).collect();
    fields.extend([
        ("name", "AnyTrack".to_owned()),
        ("message", "standard".to_owned()),
        ("refuse_if_body_contains", "not exists anymore".to_owned()),
        ("registers_visits", "1".to_owned()),
        ("anytrack_property", "abcdefABCDEF".to_owned()),
        ("anytrack_collect_base", base),
    ]);
    fields
}

async fn save(app: &TestApp, fields: &[(&'static str, String)]) -> StatusCode {
    let owner = app.owner().await;
    let pairs: Vec<(&str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    owner.post(HERE, &pairs).await.status
}

impl TestApp {
    async fn browse(&self, more: Value, headers: &[(&str, &str)]) -> String {
        let click_id = self.mint().await;
        let mut body = json!({"s": "main", "i": click_id, "t": self.now().as_ms(), "u": PAGE,
            "r": "https://www.google.com/"});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let mut all = vec![("content-type", "text/plain;charset=UTF-8")];
        all.extend_from_slice(headers);
        let reply = self.send("POST", "/v", &all, body.to_string()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
        click_id
    }

    async fn register(&self) -> usize {
        self.app().register_visits().await.expect("visits can be registered")
    }
}

#[tokio::test]
async fn it_is_off_until_somebody_switches_it_on_with_a_property() {
    let (app, collect) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    app.browse(json!({}), &[("user-agent", BROWSER)]).await;
    app.advance(RIPE);
    assert_eq!(app.register().await, 0);
    let kept = app.database.texts("select details from visits").await.remove(0);
    assert!(!kept.contains("Mozilla"), "the browser's whole name is not kept for nothing: {kept}");
    let page = app.owner().await.page(HERE).await;
    assert!(page.contains("Experimental") && page.contains("doesn’t document"), "{page}");
    let mut wrong = fields(&collect);
    wrong.retain(|(name, _)| *name != "anytrack_property");
    assert_eq!(save(&app, &wrong).await, StatusCode::UNPROCESSABLE_ENTITY);
    for base in ["hunter2", "https://a.example/?x=1"] {
        let mut wrong = fields(&collect);
        wrong.last_mut().expect("the base").1 = base.to_owned();
        assert_eq!(save(&app, &wrong).await, StatusCode::UNPROCESSABLE_ENTITY, "{base}");
    }
    assert_eq!(save(&app, &fields(&collect)).await, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_visit_is_registered_once_and_its_conversion_has_the_id() {
    let (app, collect) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    assert_eq!(save(&app, &fields(&collect)).await, StatusCode::SEE_OTHER);
    let click_id = app.browse(json!({}), &[("user-agent", BROWSER)]).await;
    assert_eq!(app.register().await, 0, "a captured ID may still come");
    app.advance(RIPE);
    assert_eq!(app.register().await, 1);
    assert_eq!(app.register().await, 0);
    let (query, headers) = (collect.queries().remove(0), collect.headers().remove(0));
    let parsed: std::collections::BTreeMap<String, String> =
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let names: Vec<&str> = parsed.keys().map(String::as_str).collect();
    assert_eq!(names, ["cid", "dl", "dr", "en", "nc", "rid", "ts"], "and nothing else");
    assert_eq!((parsed["dl"].as_str(), parsed["rid"].as_str()), (PAGE, click_id.as_str()));
    assert_eq!(headers["user-agent"], BROWSER);
    for name in ["cookie", "x-forwarded-for", "forwarded", "referer"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.deliver_due().await;
    let body: Value = serde_json::from_str(&app.anytrack.received()[0]).expect("JSON");
    assert_eq!(body["clickid"], format!("abcdefABCDEF{}", parsed["cid"]));
    assert_eq!(body["ref_id"], click_id);
}

#[tokio::test]
async fn visitors_who_must_not_or_need_not_be_registered_are_left_out() {
    let (app, collect) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    assert_eq!(save(&app, &fields(&collect)).await, StatusCode::SEE_OTHER);
    let browser = ("user-agent", BROWSER);
    app.browse(json!({}), &[("user-agent", "Googlebot/2.1 (+http://www.google.com/bot.html)")])
        .await;
    app.browse(json!({}), &[browser, ("sec-gpc", "1")]).await;
    app.browse(json!({"f": 1}), &[browser]).await;
    app.browse(json!({"k": "_atcid=abcdefghijklmn"}), &[browser]).await;
    let captured = app.browse(json!({}), &[browser]).await;
    let note = json!({"s": "main", "i": captured, "t": app.now().as_ms(), "a": "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys"});
    let reply = app.post_visit(note.to_string()).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    app.advance(RIPE);
    assert_eq!(app.register().await, 0, "{:?}", collect.queries());
}

#[tokio::test]
async fn visitors_known_to_anytrack_do_not_block_others() {
    let (app, collect) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    assert_eq!(save(&app, &fields(&collect)).await, StatusCode::SEE_OTHER);
    for _ in 0..60 {
        app.browse(json!({"k": "_atcid=abcdefghijklmn"}), &[("user-agent", BROWSER)]).await;
    }
    app.browse(json!({}), &[("user-agent", BROWSER)]).await;
    app.advance(RIPE);
    assert_eq!(app.register().await, 1);
}

#[tokio::test]
async fn nothing_of_the_visitor_is_kept_that_is_not_needed() {
    let settings = [("CLICKSTAMP_RETENTION_DAYS", "30")];
    let (app, collect) = (TestApp::owned(&settings).await, FakeDestination::start().await);
    assert_eq!(save(&app, &fields(&collect)).await, StatusCode::SEE_OTHER);
    app.browse(json!({"k": "_atcid=abcdefghijklmn"}), &[("user-agent", BROWSER)]).await;
    let kept = app.database.texts("select details from visits").await.remove(0);
    assert!(!kept.contains("Mozilla"), "it is not registered: {kept}");
    app.browse(json!({}), &[("user-agent", BROWSER)]).await;
    app.advance(RIPE);
    assert_eq!(app.register().await, 1);
    assert_eq!(app.database.texts("select url || user_agent from registrations").await, [""]);
    app.advance(Duration::from_secs(31 * 86_400));
    assert!(app.app().prune_daily().await.expect("old visits can go"));
    assert_eq!(app.database.number("select count(*) from registrations").await, 0);
}

#[tokio::test]
async fn three_tries_within_ten_minutes_then_the_conversion_goes_as_before() {
    let (app, collect) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    assert_eq!(save(&app, &fields(&collect)).await, StatusCode::SEE_OTHER);
    collect.answers([503, 503, 503]);
    let click_id = app.browse(json!({}), &[("user-agent", BROWSER)]).await;
    for (pause, tries) in [(31, 1), (31, 1), (301, 1), (3600, 0)] {
        app.advance(Duration::from_secs(pause));
        assert_eq!(app.register().await, tries, "after {pause} s more");
    }
    assert_eq!(app.database.texts("select state from registrations").await, ["given_up"]);
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.deliver_due().await;
    let body: Value = serde_json::from_str(&app.anytrack.received()[0]).expect("JSON");
    assert_eq!(body["clickid"], click_id);
    // A dead property is refused in a 200, and is not asked again.
    collect.answer(200, "console.log('property not exists anymore')", None);
    app.browse(json!({}), &[("user-agent", BROWSER)]).await;
    app.advance(RIPE);
    assert_eq!(app.register().await, 1);
    assert_eq!(
        app.database.number("select count(*) from registrations where state = 'accepted'").await,
        0
    );
}
