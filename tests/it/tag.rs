//! The tag's answer: fresh, uncached, and valid in both encodings.

use std::io::Read as _;

use axum::http::StatusCode;

use crate::harness::TestApp;

#[tokio::test]
async fn every_answer_has_its_own_id_and_nobody_may_keep_it() {
    let app = TestApp::start().await;
    let (one, two) = (app.mint().await, app.mint().await);
    assert_ne!(one, two);
    let reply = app.get("/t/main.js").await;
    assert_eq!(reply.header("cache-control"), "private, no-store, no-transform");
    assert_eq!(reply.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("cross-origin-resource-policy"), "cross-origin");
    assert!(reply.headers.get("set-cookie").is_none() && reply.headers.get("etag").is_none());
}

#[tokio::test]
async fn gzip_and_plain_hold_the_same_script() {
    // Without add-ons: the form does not name AnyTrack's.
    let app = TestApp::owned(&[]).await;
    let usual = [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD")];
    app.owner().await.save("/settings/sites/main", &usual).await;
    let zipped = app.send("GET", "/t/main.js", &[("accept-encoding", "gzip, br")], "").await;
    assert_eq!(zipped.header("content-encoding"), "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).expect("valid gzip");
    let plain = app.get("/t/main.js").await;
    assert_eq!(plain.header("content-encoding"), "");
    let code = |text: &str| text[..text.rfind("({").expect("a config")].to_owned();
    assert_eq!(code(&text), code(plain.text()));
    assert!(zipped.body.len() < 2206, "{} bytes", zipped.body.len());
}

#[tokio::test]
async fn the_config_follows_the_page_and_nothing_else_of_the_request() {
    let app = TestApp::start().await;
    let headers =
        [("referer", "https://www.shop.com/offer?x=</script>"), ("origin", "https://www.shop.com")];
    let reply = app.send("GET", "/t/main.js?x=%3C/script%3E", &headers, "").await;
    assert!(
        reply.text().contains(r#""k":";domain=shop.com;secure""#)
            && !reply.text().contains("</script>")
    );
    assert!(reply.text().contains(r#""e":"http://go.shop.localhost/v""#));
    assert_eq!(reply.header("access-control-allow-origin"), "https://www.shop.com");
}

#[tokio::test]
async fn unknown_sites_and_methods_are_told_so() {
    let app = TestApp::start().await;
    for path in ["/t/other.js", "/t/main", "/t/main.js.map", "/t/%00.js"] {
        assert_eq!(app.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        app.send("POST", "/t/main.js", &[], "").await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(app.send("HEAD", "/t/main.js", &[], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn visits_of_https_pages_are_posted_over_https() {
    // A proxy that ends TLS may not be known as one; a browser would block http from an https page as mixed content.
    let app = TestApp::start().await;
    for (host, page, expected) in [
        ("go.shop.com", "https://www.shop.com/", "https://go.shop.com/v"),
        ("go.shop.com", "http://www.shop.com/", "http://go.shop.com/v"),
        ("127.0.0.1:8080", "https://www.shop.com/", "http://127.0.0.1:8080/v"),
        ("localhost:8080", "https://www.shop.com/", "http://localhost:8080/v"),
    ] {
        let reply = app.send("GET", "/t/main.js", &[("host", host), ("referer", page)], "").await;
        assert!(reply.text().contains(&format!(r#""e":"{expected}""#)), "{host} {page}");
    }
}

#[tokio::test]
async fn a_page_gets_the_add_ons_its_site_needs_and_no_other() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let usual = [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD")];
    let (auto, linked) = ("[publishable-key]:not(", "history.replaceState(");
    let (anytrack, google, tcf) = ("AnyTrack", "dataLayer", "__tcfapi");
    let all = [auto, linked, anytrack, google, tcf];
    for (further, expected) in [
        (&[][..], &[][..]),
        (&[("consent", "required")], &[]),
        (&[("consent", "off"), ("auto_stamp", "1")], &[auto]),
        (&[("linked_domains", "shop.fr")], &[linked]),
        (&[("consent", "google"), ("yield_to_anytrack", "1")], &[anytrack, google]),
        (
            &[("consent", "tcf"), ("auto_stamp", "1"), ("linked_domains", "shop.fr")],
            &[auto, linked, tcf],
        ),
    ] {
        let form: Vec<_> = usual.iter().chain(further).copied().collect();
        owner.save("/settings/sites/main", &form).await;
        let headers = [("accept-encoding", "gzip")];
        let zipped = app.send("GET", "/t/main.js", &headers, "").await;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).expect("gzip");
        let found: Vec<_> = all.iter().filter(|part| text.contains(**part)).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{further:?}");
        assert!(!text.contains("clickstamp-debug"));
    }
}

#[tokio::test]
async fn the_debug_add_on_comes_only_on_demand() {
    let app = TestApp::start().await;
    for (path, page, is_there) in [
        ("/t/main.js", "https://www.shop.com/?a=1&ck_debug", true),
        ("/t/main.js", "https://www.shop.com/?ck_debug=1#top", true),
        ("/t/main.js?debug=1", "https://www.shop.com/", true),
        ("/t/main.js", "https://www.shop.com/ck_debug", false),
        ("/t/main.js?debug=2", "https://www.shop.com/?x=ck_debug", false),
    ] {
        let reply = app.send("GET", path, &[("referer", page)], "").await;
        assert_eq!(reply.text().contains("clickstamp-debug"), is_there, "{path} {page}");
    }
}
