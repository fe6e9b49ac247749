//! Sites: how their settings change the tag, and several sites in one installation.

use axum::http::StatusCode;
use serde_json::Value;

use crate::harness::TestApp;

const SITE: [(&str, &str); 3] = [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD")];

async fn baked(app: &TestApp, path: &str) -> Value {
    let page = [("referer", "https://www.shop.example/")];
    let script = app.send("GET", path, &page, "").await;
    let text = script.text();
    let at = text.rfind("({").expect("the baked config") + 1;
    serde_json::from_str(&text[at..text.len() - 1]).expect("the config is JSON")
}

#[tokio::test]
async fn a_site_with_default_settings_has_a_minimal_config() {
    let app = TestApp::start().await;
    let config = baked(&app, "/t/main.js").await;
    let keys: Vec<_> = config.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["__proto__", "e", "i", "k", "o", "s", "t"]);
    let asking = baked(&app, "/t/main.js?nc=1").await;
    assert_eq!(asking["m"], 1);
    assert!(asking["e"].as_str().unwrap().ends_with("/v?asks"), "what comes there was agreed to");
}

#[tokio::test]
async fn saved_settings_are_in_the_next_script() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let further = [
        ("consent", "google"),
        ("payment_hosts", "pay.shop.example, https://Bücher.example/b/1"),
        ("linked_domains", "shop.fr"),
        ("auto_stamp", "1"),
        ("yield_to_anytrack", "1"),
    ];
    let form: Vec<_> = SITE.into_iter().chain(further).collect();
    let there = owner.save("/settings/sites/main", &form).await;
    assert!(owner.page(&there).await.contains("Saved. Pages use the new settings"));
    let config = baked(&app, "/t/main.js").await;
    assert_eq!((&config["u"], &config["m"], &config["y"]), (&1.into(), &1.into(), &1.into()));
    let payment_links = config["h"].as_str().expect("a pattern");
    assert!(
        payment_links.contains(r"pay\.shop\.example|xn--bcher-kva\.example"),
        "{payment_links}"
    );
    assert_eq!(config["d"], r"^https?://([^/]+\.)?(shop\.fr)(:\d+)?/");
    assert!(config["o"].as_str().expect("a pattern").contains(r"shop\.fr"));
    let text = owner.page("/settings/sites/main").await;
    assert!(
        text.contains("value=\"google\" aria-describedby=\"consent-google\" required checked"),
        "{text}"
    );
    assert!(!text.contains(
        "name=\"capture_anytrack\" value=\"1\" aria-describedby=\"capture_anytrack-hint\" checked"
    ));
    // A form without the field for consent does not turn it off.
    owner.save("/settings/sites/main", &SITE).await;
    let config = baked(&app, "/t/main.js").await;
    assert_eq!((&config["m"], &config["u"], &config["h"]), (&1.into(), &Value::Null, &Value::Null));
    let sites = app.api("/api/v1/sites").await;
    assert_eq!(sites["data"][0]["consent"], "google");
}

#[tokio::test]
async fn invalid_settings_are_explained_and_not_saved() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    for (field, wrong, why) in [
        ("payment_hosts", "pay_shop.example", "“pay_shop.example” isn’t a host name."),
        ("payment_hosts", "checkout.stripe.com", "shows existing checkouts"),
        ("linked_domains", "*.*", "isn’t a host name"),
        ("domains", "<script>", "isn’t a host name"),
        ("consent", "maybe", "Select one of the options."),
    ] {
        let form: Vec<_> = SITE.into_iter().chain([(field, wrong)]).collect();
        let reply = owner.post("/settings/sites/main", &form).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {wrong}");
        assert!(
            reply.text().contains(why) && !reply.text().contains("<script>"),
            "{}",
            reply.text()
        );
    }
    assert_eq!(app.database.texts("select name from sites").await, ["My site"]);
    assert_eq!(owner.get("/settings/sites/other").await.status, StatusCode::NOT_FOUND);
    assert_eq!(owner.post("/settings/sites/other", &SITE).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_second_site_has_its_own_tag_webhook_and_pages() {
    let app = TestApp::owned(&[("CLICKSTAMP_ANYTRACK_URL", "")]).await;
    let owner = app.owner().await;
    let there = owner.save("/settings/sites", &[("name", "Second"), ("key", "shop-2")]).await;
    assert_eq!(there, "/settings/sites/shop-2?site=shop-2&saved=added");
    assert!(owner.page(&there).await.contains("Site added."));
    assert_eq!(baked(&app, "/t/shop-2.js").await["s"], "shop-2");
    let id = baked(&app, "/t/shop-2.js").await["i"].as_str().expect("an ID").to_owned();
    let body =
        serde_json::json!({"s": "shop-2", "i": id, "t": 1, "u": "https://two.example/offer"});
    assert_eq!(app.post_visit(body.to_string()).await.status, StatusCode::NO_CONTENT);
    assert!(owner.page("/visits?site=shop-2").await.contains("two.example"));
    assert!(!owner.page("/visits").await.contains("two.example"));
    let settings = owner.page("/settings?site=shop-2").await;
    assert!(settings.contains("/webhooks/stripe/shop-2") && settings.contains("/t/shop-2.js"));
    owner.save("/settings/sources/shop-2/secrets?site=shop-2", &[("value", "whsec_two")]).await;
    let anytrack = [
        ("preset", "anytrack"),
        ("name", "AnyTrack shop-2"),
        ("url", "https://t1.anytrack.io/a/collect/two-k7Qe"),
    ];
    owner.save("/settings/destinations?site=shop-2", &anytrack).await;
    assert_eq!(
        app.database.texts("select secrets from sources where key = 'shop-2'").await,
        ["whsec_two"]
    );
    assert_eq!(app.database.texts("select key from destinations").await, ["anytrack-shop-2"]);
    let reply = app
        .send("POST", "/webhooks/stripe/shop-2", &[("stripe-signature", "t=1,v1=00")], "{}")
        .await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "the endpoint is there and checks");
}

#[tokio::test]
async fn a_key_is_short_plain_and_unique() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let long = "a".repeat(33);
    for key in ["", "My Shop", "a/b", "ü", "main", &long] {
        let reply = owner.post("/settings/sites", &[("name", "Second"), ("key", key)]).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{key}");
    }
    let reply = owner.post("/settings/sites", &[("name", ""), ("key", "two")]).await;
    assert!(reply.text().contains("A site needs a name"));
    assert_eq!(app.database.number("select count(*) from sites").await, 1);
}
