//! The setup page: what it shows about the tag, and hosts that a user accepts.

use axum::http::StatusCode;
use serde_json::json;

use crate::harness::{FakeDestination, Session, TestApp};

const SITE: [(&str, &str); 4] =
    [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD"), ("domains", "shop.example")];

/// A visit with headers of the browser's own.
async fn visit(app: &TestApp, t: i64, id: &str, url: &str, headers: &[(&str, &str)]) {
    let body = json!({"s": "main", "i": id, "t": t, "u": url}).to_string();
    let reply = app.send("POST", "/v", headers, body).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
}

#[tokio::test]
async fn the_page_says_where_the_tag_comes_from_and_what_safari_makes_of_it() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    assert!(owner.page("/setup").await.contains("Not known yet. The first visit over https"));
    for (at, (place, says)) in
        [("same-origin", "your page’s own host"), ("cross-site", "for one day after an ad click")]
            .into_iter()
            .enumerate()
    {
        app.advance(std::time::Duration::from_secs(5));
        let id = app.mint().await;
        let t = i64::try_from(at).expect("small");
        visit(&app, t, &id, "https://www.shop.example/", &[("sec-fetch-site", place)]).await;
        let text = owner.page("/setup").await;
        assert!(text.contains(says), "{place}: {text}");
        assert_eq!(text.contains("location /k/"), place == "cross-site");
    }
    let text = owner.page("/setup").await;
    assert!(
        text.contains("script-src http://go.shop.localhost; connect-src")
            && text.contains("data-cfasync")
    );
    let types =
        text.split("href=\"").find(|part| part.starts_with("/static/tag.")).expect("the types");
    let types = owner.page(types.split('"').next().expect("an address")).await;
    assert!(types.contains("interface Clickstamp"));
}

#[tokio::test]
async fn a_copied_script_raises_an_alarm() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let id = app.mint().await;
    visit(&app, 1, &id, "https://shop.example/", &[("user-agent", "one")]).await;
    visit(&app, 2, &id, "https://shop.example/b", &[("user-agent", "one")]).await;
    assert!(
        !owner.page("/setup").await.contains("caches your tag"),
        "one visitor twice is no copy"
    );
    visit(&app, 3, &id, "https://shop.example/", &[("user-agent", "another")]).await;
    assert!(owner.page("/setup").await.contains("A CDN or an optimizer caches your tag"));
}

#[tokio::test]
async fn many_ids_made_in_browsers_raise_it_too() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    for t in 0..3 {
        visit(&app, t, &format!("ck_z{t}{}", "7".repeat(31)), "https://shop.example/", &[]).await;
    }
    assert!(owner.page("/setup").await.contains("3 of the last 3 visits came with an old copy"));
}

#[tokio::test]
async fn a_host_nobody_named_is_shown_accepted_and_counted() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    owner.save("/settings/sites/main", &SITE).await;
    app.visit("https://www.shop-test.example/offer?gclid=A").await;
    app.visit("https://www.shop-test.example/offer?gclid=B").await;
    let overview = owner.page("/").await;
    assert!(
        overview.contains("Tag seen on www.shop-test.example")
            && !overview.contains("Tag not seen yet")
    );
    assert!(owner.page("/setup").await.contains("2 visits in 7 days"));
    assert_eq!(app.database.number("select count(*) from visit_counts").await, 0);
    let there = owner.save("/setup/hosts", &[("host", "www.shop-test.example")]).await;
    assert!(owner.page(&there).await.contains("Host accepted."));
    let counted = "select cast(sum(visits) as bigint) from visit_counts where source = 'google'";
    assert_eq!(app.database.number(counted).await, 2);
    owner.save("/setup/hosts", &[("host", "www.shop-test.example")]).await;
    assert_eq!(app.database.number(counted).await, 2, "accepting twice counts once");
    app.visit("https://www.shop-test.example/offer?gclid=C").await;
    assert_eq!(app.database.number(counted).await, 3);
    assert!(owner.page("/settings/sites/main").await.contains("www.shop-test.example"));
}

#[tokio::test]
async fn only_a_host_is_accepted() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    owner.save("/settings/sites/main", &SITE).await;
    for wrong in ["", "a_b", "<script>", "one.example two.example", "%"] {
        let reply = owner.post("/setup/hosts", &[("host", wrong)]).await;
        assert!(reply.status.is_client_error(), "{wrong}: {}", reply.status);
    }
    assert_eq!(app.database.texts("select domains from sites").await, ["shop.example"]);
}

#[tokio::test]
async fn a_proxy_that_is_not_listed_is_reported() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    assert!(!owner.page("/setup").await.contains("All visitors have the same IP address"));
    let text = owner.page_with("/setup", &[("x-forwarded-for", "198.51.100.1")]).await;
    assert!(text.contains("CLICKSTAMP_TRUSTED_PROXIES=127.0.0.1/32"), "{text}");
}

#[tokio::test]
async fn any_destination_that_answers_ticks_the_last_step() {
    let app = TestApp::owned(&[("CLICKSTAMP_ANYTRACK_URL", "")]).await;
    let (owner, tool) = (app.owner().await, FakeDestination::start().await);
    assert!(owner.page("/setup").await.contains("For AnyTrack, enter the webhook URL"));
    let fields = [("name", "My Zap"), ("url", tool.url.as_str()), ("preset", "zapier")];
    owner.post("/settings/destinations", &fields).await;
    assert!(owner.page("/setup").await.contains("My Zap is set."));
    tool.answer(200, "Accepted", None);
    let click_id = app.visit("https://www.shop.localhost/offer?gclid=A").await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.deliver_due().await;
    assert!(owner.page("/setup").await.contains("My Zap accepted a message,"));
}

#[tokio::test]
async fn the_step_for_stripe_leads_to_the_events_to_select() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let text = owner.page("/setup").await;
    let href = text.split("href=\"").find(|part| part.starts_with("/settings/sources/"));
    let href = href.and_then(|part| part.split('"').next()).expect("a webhook's page");
    assert!(owner.page(href).await.contains("charge.dispute.closed"));
}
