//! Sites whose tag stores nothing in the browser: which page views are one click, and what the
//! server answers. Also what a site that needs consent refuses, and how the owner chooses.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::stripe::replay::Wanted;
use serde_json::{Value, json};

use crate::harness::{Session, TestApp};

const LANDING: &str = "https://www.shop.example/?gclid=A&utm_campaign=spring";
const OFFER: &str = "https://www.shop.example/offer";
const SITE: [(&str, &str); 3] = [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD")];
const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0";
const CHROME: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36";
const HOUR: Duration = Duration::from_secs(3600);

async fn site(consent: &str) -> TestApp {
    let mut app = TestApp::owned(&[]).await;
    app.leave_things_undone();
    app.owner()
        .await
        .save("/settings/sites/main", &[&SITE[..], &[("consent", consent)]].concat())
        .await;
    app
}

/// What a page's tag sends, with a referrer and a browser.
fn body(app: &TestApp, click_id: &str, url: &str, more: &Value) -> String {
    let mut body = json!({"s": "main", "i": click_id, "t": app.now().as_ms(), "u": url});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body.to_string()
}

/// A page is opened in a browser; answers the click ID that it was given.
async fn open(app: &TestApp, browser: &str, url: &str, referrer: &str) -> String {
    let click_id = app.mint().await;
    let sent = body(app, &click_id, url, &json!({"r": referrer}));
    let reply = app.send("POST", "/v", &[("user-agent", browser)], sent).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
    assert_eq!(reply.header("set-cookie"), "");
    app.advance(Duration::from_secs(5));
    click_id
}

/// Channels of the touchpoints of a payment with this reference, first touch first.
async fn pay(app: &TestApp, number: usize, reference: &str) -> String {
    let session = Session::paid(&format!("cs_live_{number}")).reference(reference);
    app.stripe_processed(&session.with(json!({"customer": null})).completed()).await;
    app.rejoin().await;
    channels(app, number).await
}

async fn channels(app: &TestApp, number: usize) -> String {
    let touches = "select c.transaction_id || ' ' || t.channel
                     from touches t join conversions c on c.id = t.conversion_id
                    order by c.transaction_id, t.position";
    let touches = app.database.texts(touches).await;
    let of_payment = touches.iter().filter_map(|row| row.split_once(' '));
    let of_payment = of_payment.filter(|(id, _)| id.ends_with(&format!("_{number}")));
    of_payment.map(|(_, channel)| channel).collect::<Vec<_>>().join(", ")
}

async fn visits(app: &TestApp) -> (i64, i64) {
    let counted = "select cast(coalesce(sum(visits), 0) as bigint) from visit_counts";
    let page = app.owner().await.page("/visits").await;
    let listed = page.matches("<tr").count() - 1;
    (app.database.number(counted).await, i64::try_from(listed).expect("small"))
}

#[tokio::test]
async fn the_pages_of_a_day_lead_to_the_click_that_brought_the_visitor() {
    let app = site("cookieless").await;
    let landing = open(&app, FIREFOX, LANDING, "https://www.google.com/").await;
    let reloaded = open(&app, FIREFOX, LANDING, "https://www.google.com/").await;
    let offer = open(&app, FIREFOX, OFFER, LANDING).await;
    assert_eq!(visits(&app).await, (1, 1), "further pages are no visits");
    for (number, reference) in [&landing, &reloaded, &offer].into_iter().enumerate() {
        assert_eq!(pay(&app, number, reference).await, "paid search", "{number}");
    }
    let clicks = app.database.texts("select distinct click_id from touches").await;
    assert_eq!(clicks, [landing], "each is one click, by another name");
    let known = format!("/api/v1/visits/{offer}");
    assert_eq!(app.api(&known).await["visits"].as_array().map(Vec::len), Some(1));
    assert_eq!(app.database.number("select count(*) from visits where url is null").await, 2);
    let id = app.database.texts("select id from conversions").await.remove(0);
    let page = app.owner().await.page(&format!("/conversions/{id}")).await;
    assert!(page.contains("only visits of the same day are joined"), "{page}");
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn another_ad_is_another_click_and_the_last_one_counts() {
    let app = site("cookieless").await;
    open(&app, FIREFOX, LANDING, "").await;
    app.advance(HOUR);
    open(&app, FIREFOX, "https://www.shop.example/?utm_source=facebook&utm_medium=paid", "").await;
    let offer = open(&app, FIREFOX, OFFER, LANDING).await;
    assert_eq!(pay(&app, 1, &offer).await, "paid search, paid social");
    assert_eq!(visits(&app).await, (2, 2));
    app.advance(HOUR);
    open(&app, FIREFOX, OFFER, "").await;
    assert_eq!(visits(&app).await, (3, 3), "a visit of the same click, after an hour");
}

#[tokio::test]
async fn nobody_else_and_no_other_day_is_joined() {
    let app = site("cookieless").await;
    open(&app, FIREFOX, LANDING, "").await;
    let other_browser = open(&app, CHROME, OFFER, "").await;
    app.advance(Duration::from_secs(86_400));
    let next_day = open(&app, FIREFOX, OFFER, "").await;
    assert_eq!(pay(&app, 1, &other_browser).await, "direct");
    assert_eq!(pay(&app, 2, &next_day).await, "direct");
    assert_eq!(visits(&app).await, (3, 3));
}

#[tokio::test]
async fn a_payment_before_its_page_view_is_matched_when_that_arrives() {
    let app = site("cookieless").await;
    open(&app, FIREFOX, LANDING, "").await;
    let offer = app.mint().await;
    assert_eq!(pay(&app, 1, &offer).await, "", "the page view is still under way");
    let sent = body(&app, &offer, OFFER, &json!({}));
    for _ in 0..2 {
        let reply = app.send("POST", "/v", &[("user-agent", FIREFOX)], sent.clone()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
    }
    app.rejoin().await;
    assert_eq!(channels(&app, 1).await, "paid search");
    assert_eq!(visits(&app).await, (1, 1));
}

#[tokio::test]
async fn two_pages_of_the_same_millisecond_both_lead_to_the_click() {
    let app = site("cookieless").await;
    open(&app, FIREFOX, LANDING, "").await;
    let mut pages = Vec::new();
    for _ in 0..5 {
        pages.push(app.mint().await);
    }
    let post = |page: &String| {
        let sent = body(&app, page, OFFER, &json!({}));
        app.send("POST", "/v", &[("user-agent", FIREFOX)], sent)
    };
    for reply in futures_util::future::join_all(pages.iter().map(post)).await {
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
    }
    for (number, page) in pages.iter().enumerate() {
        assert_eq!(pay(&app, number, page).await, "paid search", "{number}");
    }
}

#[tokio::test]
async fn a_browser_that_always_sends_the_same_time_costs_no_search_and_no_page() {
    let app = site("cookieless").await;
    open(&app, FIREFOX, LANDING, "").await;
    let mut pages = Vec::new();
    for time in [i64::MAX, i64::MAX, i64::MAX, 0, 0, 0] {
        let page = app.mint().await;
        for _ in 0..2 {
            let sent = body(&app, &page, OFFER, &json!({"t": time}));
            let reply = app.send("POST", "/v", &[("user-agent", FIREFOX)], sent).await;
            assert_eq!(reply.status, StatusCode::NO_CONTENT, "{time}: {}", reply.text());
        }
        pages.push(page);
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 7, "repeats are none");
    for (number, page) in pages.iter().enumerate() {
        assert_eq!(pay(&app, number, page).await, "paid search", "{number}");
    }
}

#[tokio::test]
async fn a_second_click_in_one_document_follows_the_first() {
    let app = site("cookieless").await;
    let landing = open(&app, FIREFOX, LANDING, "").await;
    let second = format!("ck_z{}", "7".repeat(32));
    let more = json!({"p": landing});
    let sent = body(&app, &second, "https://www.shop.example/?fbclid=F", &more);
    app.send("POST", "/v", &[("user-agent", FIREFOX)], sent).await;
    assert_eq!(pay(&app, 1, &second).await, "paid search, social");
}

#[tokio::test]
async fn nothing_is_stored_in_the_browser_and_nothing_that_it_stored_is_used() {
    let app = site("cookieless").await;
    let script = app.get("/t/main.js").await.text().to_owned();
    assert!(!script.contains("cookie=") || !script.contains("34560000"), "no cookie for 400 days");
    assert!(script.contains(r#""y":1"#), "links are stamped when they are used");
    let old = app.mint().await;
    let cookies = format!("_ck={old}; _ck_s=x.{}", app.now().as_seconds());
    let more = json!({"k": "_fbp=fb.1.2.3", "p": old});
    let sent = body(&app, &app.mint().await, LANDING, &more);
    let headers =
        [("user-agent", FIREFOX), ("cookie", &cookies), ("sec-fetch-site", "same-origin")];
    let reply = app.send("POST", "/v", &headers, sent).await;
    assert_eq!((reply.status, reply.header("set-cookie")), (StatusCode::NO_CONTENT, ""));
    let kept = "select count(*) from visits where details like '%fb.1.2.3%'";
    assert_eq!(app.database.number(kept).await, 0);
}

#[tokio::test]
async fn a_redirect_link_is_counted_and_joined_without_a_cookie() {
    let app = site("cookieless").await;
    let form = [
        ("name", "Letter"),
        ("alias", "spring"),
        ("target", "https://buy.stripe.com/test_1?client_reference_id=--CLICK-ID--"),
    ];
    app.owner().await.save("/links", &form).await;
    open(&app, FIREFOX, LANDING, "").await;
    let headers = [("user-agent", FIREFOX), ("cookie", "_ck=ck_00000000000000000000000000000000")];
    let reply = app.send("GET", "/p/spring", &headers, "").await;
    assert_eq!((reply.status, reply.header("set-cookie")), (StatusCode::FOUND, ""));
    let target = url::Url::parse(reply.header("location")).expect("a URL");
    let (_, reference) = target.query_pairs().next().expect("a reference");
    assert_eq!(pay(&app, 1, &reference).await, "paid search");
    let clicks =
        "select cast(sum(visits) as bigint) from visit_counts where landing_path = '/p/spring'";
    assert_eq!(app.database.number(clicks).await, 1);
}

#[tokio::test]
async fn further_pages_are_never_counted_when_a_host_is_accepted() {
    let app = TestApp::owned(&[]).await;
    let form = [&SITE[..], &[("consent", "cookieless"), ("domains", "other.example")]].concat();
    app.owner().await.save("/settings/sites/main", &form).await;
    open(&app, FIREFOX, LANDING, "").await;
    open(&app, FIREFOX, OFFER, LANDING).await;
    let counted = "select cast(coalesce(sum(visits), 0) as bigint) from visit_counts";
    assert_eq!(app.database.number(counted).await, 0);
    app.owner().await.save("/setup/hosts", &[("host", "www.shop.example")]).await;
    assert_eq!(app.database.number(counted).await, 1);
}

#[tokio::test]
async fn an_event_of_a_further_page_counts_for_its_visit() {
    let app = site("cookieless").await;
    open(&app, FIREFOX, LANDING, "").await;
    let offer = open(&app, FIREFOX, OFFER, LANDING).await;
    let reply = app.post_visit(body(&app, &offer, OFFER, &json!({"e": "Signed up"}))).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    app.process_events().await;
    assert_eq!(app.database.texts("select channel from touches").await, ["paid search"]);
}

#[tokio::test]
async fn robots_get_a_tag_that_leaves_the_placeholder_in_the_page() {
    let app = TestApp::start().await;
    for (agent, is_robot) in [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", true),
        ("Mozilla/5.0 HeadlessChrome/156.0 Prerender (+https://prerender.io)", true),
        (FIREFOX, false),
        (CHROME, false),
    ] {
        let reply = app.send("GET", "/t/main.js", &[("user-agent", agent)], "").await;
        assert_eq!(reply.text().contains(r#""y":1"#), is_robot, "{agent}");
    }
}

#[tokio::test]
async fn without_consent_the_server_refuses_what_it_needs_consent_for() {
    for consent in ["required", "google", "tcf"] {
        let app = site(consent).await;
        let id = app.mint().await;
        let bodies = [json!({}), json!({"a": "ABCDEFGHIJKLMNOPQRSTUVWX"}), json!({"e": "Lead"})];
        for more in bodies {
            let reply = app.post_visit(body(&app, &id, OFFER, &more)).await;
            assert_eq!(reply.status, StatusCode::FORBIDDEN, "{consent} {more}");
            assert!(reply.text().contains("only with consent"), "{}", reply.text());
        }
        let stored = "select (select count(*) from visits) + (select count(*) from visit_notes)
                           + (select count(*) from page_events) + (select count(*) from visit_counts)";
        assert_eq!(app.database.number(stored).await, 0, "{consent}");
        let reply = app.send("POST", "/v?asks", &[], body(&app, &id, OFFER, &json!({}))).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{consent}");
    }
}

#[tokio::test]
async fn a_landing_that_waits_is_dropped_when_the_site_begins_to_need_consent() {
    let app = TestApp::owned(&[]).await;
    app.load_tag("/t/main.js", &[("referer", LANDING)]).await;
    let form = [&SITE[..], &[("consent", "required")]].concat();
    app.owner().await.save("/settings/sites/main", &form).await;
    app.advance(Duration::from_secs(60));
    assert_eq!(app.keep_landings().await, 0);
}

#[tokio::test]
async fn the_owner_is_asked_what_the_tag_may_store() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let page = owner.page("/setup").await;
    assert!(page.contains("Choose what the tag stores") && page.contains("Without a cookie"));
    for word in ["off", "cookieless", "required", "google", "tcf"] {
        assert!(page.contains(&format!("value=\"{word}\"")), "{word}");
    }
    for wrong in ["", "maybe"] {
        let reply = owner.post("/setup/consent", &[("consent", wrong)]).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{wrong:?}");
    }
    let there = owner.save("/setup/consent", &[("consent", "cookieless")]).await;
    let page = owner.page(&there).await;
    assert!(page.contains("You chose what the tag stores") && !page.contains("name=\"consent\""));
    let sites = app.api("/api/v1/sites").await;
    assert_eq!(sites["data"][0]["consent"], "cookieless");
    owner.save("/settings/sites", &[("name", "Second"), ("key", "second")]).await;
    let page = owner.page("/setup?site=second").await;
    assert!(page.contains("Choose what the tag stores"), "each site has its own answer");
}
