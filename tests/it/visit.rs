//! Visits: what `POST /v` accepts, rejects and stores.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Session, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer?utm_source=google&utm_medium=cpc&gclid=AbC";

fn body(click_id: &str, more: Value) -> String {
    let mut body = json!({"s": "main", "i": click_id, "t": 1_790_000_000_000_i64, "u": PAGE});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body.to_string()
}

#[tokio::test]
async fn a_visit_is_stored_before_the_response() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    let rows = app.database.texts(
        "select click_id from visits where channel = 'paid search' and landing_path = '/offer'",
    );
    assert_eq!(rows.await, [click_id]);
    assert_eq!(
        app.database.number("select visits from visit_counts where source = 'google'").await,
        1
    );
}

#[tokio::test]
async fn a_repeated_request_stores_no_second_visit() {
    let app = TestApp::start().await;
    let body = body(&app.mint().await, json!({}));
    for _ in 0..3 {
        assert_eq!(app.post_visit(body.clone()).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 1);
    assert_eq!(
        app.database.number("select cast(sum(visits) as bigint) from visit_counts").await,
        1
    );
}

#[tokio::test]
async fn concurrent_visits_are_all_stored_and_counted_once() {
    let app = TestApp::start().await;
    let mut bodies = Vec::new();
    for _ in 0..50 {
        bodies.push(body(&app.mint().await, json!({})));
    }
    let twice = bodies.iter().chain(&bodies).map(|body| app.post_visit(body.clone()));
    for reply in futures_util::future::join_all(twice).await {
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 50);
    assert_eq!(
        app.database.number("select cast(sum(visits) as bigint) from visit_counts").await,
        50
    );
}

#[tokio::test]
async fn invalid_bodies_are_rejected_with_one_line_and_never_a_500() {
    let app = TestApp::start_with(&[("CLICKSTAMP_VISIT_RATE", "0")]).await;
    let id = app.mint().await;
    let rows: Vec<(&str, Vec<u8>, StatusCode)> = vec![
        ("empty", vec![], StatusCode::BAD_REQUEST),
        ("junk", b"hello".to_vec(), StatusCode::BAD_REQUEST),
        ("binary", vec![0xff, 0x00, 0xfe], StatusCode::BAD_REQUEST),
        ("an array", b"[1]".to_vec(), StatusCode::BAD_REQUEST),
        ("70 kB", vec![b'x'; 70_000], StatusCode::PAYLOAD_TOO_LARGE),
        (
            "70 kB of JSON",
            body(&id, json!({"u": "x".repeat(70_000)})).into_bytes(),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
        (
            "no such site",
            json!({"s": "other", "i": id, "t": 1}).to_string().into_bytes(),
            StatusCode::BAD_REQUEST,
        ),
        (
            "header injection",
            body("ck_0123456789abcdefghjkmnpqrs\r\nX: y", json!({})).into_bytes(),
            StatusCode::BAD_REQUEST,
        ),
        ("deep", "[".repeat(8000).into_bytes(), StatusCode::BAD_REQUEST),
    ];
    for (name, bytes, status) in rows {
        let reply = app.post_visit(bytes).await;
        assert_eq!(reply.status, status, "{name}");
        assert!(reply.text().lines().count() <= 1, "{name}: {}", reply.text());
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 0);
}

/// The tag keeps a body until it can read the answer, so pages of every origin may.
#[tokio::test]
async fn every_page_may_read_whether_its_visit_was_stored() {
    let app = TestApp::start_with(&[("CLICKSTAMP_VISIT_RATE", "2")]).await;
    let good = body(&app.mint().await, json!({}));
    for (sent, status) in [(good.clone(), 204), ("junk".to_owned(), 400), (good, 429)] {
        for origin in ["https://www.shop.localhost", "https://elsewhere.example", "null"] {
            let reply = app.send("POST", "/v", &[("origin", origin)], sent.clone()).await;
            assert!([status, 429].contains(&reply.status.as_u16()), "{}", reply.status);
            assert_eq!(reply.header("access-control-allow-origin"), origin);
            assert_eq!(reply.header("access-control-allow-credentials"), "true");
            assert_eq!(reply.header("vary"), "Origin");
        }
    }
}

/// A page of somebody else can name the site's own URL in the body, but not in its origin.
#[tokio::test]
async fn a_visit_from_a_foreign_origin_is_stored_and_not_counted() {
    let app = TestApp::start().await;
    let database = &app.database.look().await;
    let domain = sqlx::query("update sites set domains = 'shop.localhost'").execute(database);
    domain.await.expect("a domain");
    app.app().state().settings.reload(&app.app().state().store).await.expect("it reloads");
    let counted = "select cast(coalesce(sum(visits), 0) as bigint) from visit_counts";
    let rows = [
        (Some("https://evil.example"), 0),
        (Some("https://www.shop.localhost"), 1),
        (Some("null"), 2),
        (None, 3),
    ];
    for (origin, expected) in rows {
        let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let sent = body(&app.mint().await, json!({}));
        assert_eq!(app.send("POST", "/v", &headers, sent).await.status, StatusCode::NO_CONTENT);
        assert_eq!(app.database.number(counted).await, expected, "{origin:?}");
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 4);
}

#[tokio::test]
async fn invalid_optional_values_are_cut_dropped_or_replaced_and_the_visit_is_stored() {
    let app = TestApp::start().await;
    let mut bytes =
        body(&app.mint().await, json!({"r": 7, "k": "\u{0}_fbp=1", "p": "junk", "f": "x"}))
            .into_bytes();
    let at = bytes.windows(3).position(|window| window == b"AbC").expect("the gclid");
    bytes[at] = 0xff;
    assert_eq!(app.post_visit(bytes).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        app.database
            .number(
                "select count(*) from visits where referrer is null and previous_click_id is null"
            )
            .await,
        1
    );
}

#[tokio::test]
async fn a_forged_id_or_one_of_another_site_is_replaced_and_never_matches() {
    let app = TestApp::start().await;
    let forged = format!("ck_1{}", "0".repeat(34));
    assert_eq!(app.post_visit(body(&forged, json!({}))).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        app.post_visit(body(&forged, json!({}))).await.status,
        StatusCode::NO_CONTENT,
        "a repeat"
    );
    let rows = app
        .database
        .texts("select alias from visits where flags >= 256 and click_id <> alias")
        .await;
    assert_eq!(rows, [forged]);
}

#[tokio::test]
async fn a_click_id_made_by_the_browser_gets_one_signed_id() {
    let app = TestApp::start().await;
    let made = format!("ck_z{}", "7".repeat(32));
    for t in [1, 2, 2] {
        assert_eq!(
            app.post_visit(body(&made, json!({"t": t}))).await.status,
            StatusCode::NO_CONTENT
        );
    }
    let signed = app.database.texts("select distinct click_id from visits").await;
    assert_eq!((signed.len(), app.database.number("select count(*) from visits").await), (1, 2));
}

#[tokio::test]
async fn the_cookie_is_set_only_for_the_id_that_the_browser_has() {
    let app = TestApp::start().await;
    let id = app.mint().await;
    let held = format!("_ck={id}");
    let post = async |cookie: &str, site: &str| {
        let headers = [("cookie", cookie), ("sec-fetch-site", site)];
        app.send("POST", "/v", &headers, body(&id, json!({}))).await.header("set-cookie").to_owned()
    };
    let cookie = post(&held, "same-site").await;
    assert!(
        cookie.starts_with(&format!(
            "_ck={id}; Path=/; Max-Age=34560000; SameSite=Lax; Domain=shop.localhost"
        )),
        "{cookie}"
    );
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    assert_eq!(post("_ck=ck_another0000000000000000000000000000", "same-site").await, "");
    assert_eq!(post("", "same-origin").await, "");
    assert_eq!(post(&held, "cross-site").await, "");
}

#[tokio::test]
async fn many_requests_from_one_address_are_rate_limited() {
    let app = TestApp::start_with(&[("CLICKSTAMP_VISIT_RATE", "2")]).await;
    let id = app.mint().await;
    let mut statuses = Vec::new();
    for t in 0..3 {
        statuses.push(app.post_visit(body(&id, json!({"t": t}))).await.status.as_u16());
    }
    assert_eq!(statuses, [204, 204, 429]);
    app.advance(std::time::Duration::from_secs(60));
    assert_eq!(app.post_visit(body(&id, json!({"t": 9}))).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn only_post_and_options_are_allowed() {
    let app = TestApp::start().await;
    assert_eq!(app.get("/v").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(app.send("OPTIONS", "/v", &[], "").await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/nothing/here").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_preflight_of_the_sites_own_pages_is_allowed_and_no_other() {
    let app = TestApp::start().await;
    let database = &app.database.look().await;
    sqlx::query("update sites set domains = 'shop.localhost'")
        .execute(database)
        .await
        .expect("a domain");
    app.app().state().settings.reload(&app.app().state().store).await.expect("it reloads");
    let rows = [
        (Some("https://www.shop.localhost"), true),
        (Some("https://shop.localhost:8443"), true),
        (Some("https://evil.example"), false),
        (Some("null"), false),
        (None, false),
    ];
    for (origin, is_allowed) in rows {
        let headers: Vec<(&str, &str)> =
            origin.map(|origin| ("origin", origin)).into_iter().collect();
        let reply = app.send("OPTIONS", "/v", &headers, "").await;
        assert_eq!((reply.status, reply.text()), (StatusCode::NO_CONTENT, ""), "{origin:?}");
        let allowed = if is_allowed { origin.unwrap_or_default() } else { "" };
        assert_eq!(reply.header("access-control-allow-origin"), allowed, "{origin:?}");
        let (methods, names) = if is_allowed { ("POST", "Content-Type") } else { ("", "") };
        assert_eq!(reply.header("access-control-allow-methods"), methods, "{origin:?}");
        assert_eq!(reply.header("access-control-allow-headers"), names, "{origin:?}");
        assert_eq!((reply.header("vary"), reply.header("cache-control")), ("Origin", "no-store"));
    }
}

#[tokio::test]
async fn a_later_body_never_replaces_the_first_visit_of_a_click_id() {
    let app = TestApp::start().await;
    let id = app.visit(PAGE).await;
    app.advance(std::time::Duration::from_secs(5));
    let other =
        body(&id, json!({"t": 0, "u": "https://www.shop.localhost/other?utm_source=somebody"}));
    assert_eq!(app.post_visit(other).await.status, StatusCode::NO_CONTENT);
    app.stripe_processed(&Session::paid("cs_live_1").reference(&id).completed()).await;
    app.deliver_due().await;
    assert_eq!(app.database.texts("select source from touches").await, ["google"]);
}

#[tokio::test]
async fn long_texts_are_cut_and_never_rejected() {
    let app = TestApp::start().await;
    // All characters are different and have four bytes, so that no database can compress them in an
    // index.
    let signs = |from: u32| -> String { (from..from + 255).filter_map(char::from_u32).collect() };
    let url = format!(
        "https://www.shop.localhost/{}?utm_source={}&utm_medium={}&utm_campaign={}",
        signs(0x1f000),
        signs(0x20000),
        signs(0x21000),
        signs(0x22000)
    );
    let reply = app.post_visit(body(&app.mint().await, json!({"u": url}))).await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
}

#[tokio::test]
async fn personal_data_in_urls_is_never_stored() {
    const PERSONAL: &str = "https://www.shop.localhost/offer?email=ada%40x.org&gclid=A&password=hunter2#token=secret&name=Ada";
    let app = TestApp::start().await;
    let id = app.mint().await;
    let visit =
        body(&id, json!({"u": PERSONAL, "r": "https://search.example/?q=bob%40y.org&page=2"}));
    assert_eq!(app.post_visit(visit).await.status, StatusCode::NO_CONTENT);
    let event = body(&id, json!({"u": PERSONAL, "e": "Lead"}));
    assert_eq!(app.post_visit(event).await.status, StatusCode::NO_CONTENT);
    app.load_tag("/t/main.js", &[("referer", PERSONAL)]).await;
    app.advance(std::time::Duration::from_secs(60));
    assert_eq!(
        app.keep_landings().await,
        1,
        "also a landing that only the script's request showed"
    );
    let kept = "https://www.shop.localhost/offer?gclid=A";
    let urls = "select url from visits union all select url from page_events
                union all select url from provisional_visits";
    assert_eq!(app.database.texts(urls).await, [kept; 3]);
    let referrers = app.database.texts("select referrer from visits").await;
    assert_eq!(referrers, ["https://search.example/?page=2"]);
    let channels = app.database.texts("select channel from visits").await;
    assert_eq!(channels, ["paid search"], "the ad click is read as before");
    app.process_events().await;
}
