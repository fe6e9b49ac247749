//! The response with the tag: a new click ID, not cached, valid plain and with gzip.

use std::io::Read as _;

use axum::http::StatusCode;

use crate::harness::TestApp;

#[tokio::test]
async fn every_response_has_a_new_click_id_and_must_not_be_cached() {
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
async fn gzip_and_plain_contain_the_same_script() {
    // This form turns off the add-on for AnyTrack, so that the script has no add-ons.
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
    assert!(zipped.body.len() < 2640, "{} bytes", zipped.body.len());
}

#[tokio::test]
async fn the_config_depends_on_the_page_and_on_nothing_else_in_the_request() {
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
async fn unknown_sites_are_404_and_other_methods_405() {
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
    // The proxy that ends TLS may not forward the scheme; browsers block http on an https page as
    // mixed content.
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

/// Firefox sends the address of the importing script as the referrer.
#[tokio::test]
async fn a_tag_that_a_script_of_another_host_imports_gets_the_domain_of_the_page() {
    let app = TestApp::start().await;
    for (origin, referer) in [
        ("https://www.shop.com", "https://cdn.example.net/app.js"),
        ("https://www.shop.com", "https://www.shop.com/offer"),
        ("null", "https://www.shop.com/offer"),
    ] {
        let headers = [("origin", origin), ("referer", referer)];
        let reply = app.send("GET", "/t/main.js", &headers, "").await;
        assert!(reply.text().contains(r#""k":";domain=shop.com;secure""#), "{origin} {referer}");
    }
}

#[tokio::test]
async fn a_page_gets_only_the_add_ons_that_its_site_needs() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let usual = [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD")];
    let (auto, linked) = ("(buy|book|donate)", "history.replaceState(");
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
        let headers = [("accept-encoding", "gzip"), ("referer", "https://www.shop.com/")];
        let zipped = app.send("GET", "/t/main.js", &headers, "").await;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).expect("gzip");
        let found: Vec<_> = all.iter().filter(|part| text.contains(**part)).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{further:?}");
        assert!(!text.contains("clickstamp-debug"));
    }
}

/// Without a pattern, the add-on would treat every link as linked.
#[tokio::test]
async fn a_page_with_an_unknown_address_gets_no_add_on_for_linked_domains() {
    let app = TestApp::owned(&[]).await;
    let form = [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD")];
    let form = [&form[..], &[("linked_domains", "shop.fr")]].concat();
    app.owner().await.save("/settings/sites/main", &form).await;
    for (page, is_there) in [
        (&[][..], false),
        (&[("origin", "null")], false),
        (&[("referer", "https://shop.fr/")], false),
        (&[("referer", "https://www.shop.com/")], true),
    ] {
        let reply = app.send("GET", "/t/main.js", page, "").await;
        let text = reply.text();
        let found = (text.contains("history.replaceState("), text.contains("\"d\":"));
        assert_eq!(found, (is_there, is_there), "{page:?}");
    }
}

#[tokio::test]
async fn the_debug_add_on_is_served_only_if_requested() {
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

/// The script element that Setup shows for the static variant: its path and its `integrity`.
async fn fixed_line(app: &TestApp) -> (String, String) {
    let page = app.owner().await.page("/setup").await.replace("&#34;", "\"").replace("&#38;", "&");
    let at = page.find("/t/main.static.js?v=").expect("the static variant's address");
    let address = page[at..].split('"').next().expect("its end").to_owned();
    let integrity = page.split("integrity=\"").nth(1).and_then(|rest| rest.split('"').next());
    (address, integrity.expect("an integrity attribute").to_owned())
}

#[tokio::test]
async fn the_static_variant_is_the_same_for_all_and_cached_for_a_year() {
    let app = TestApp::owned(&[]).await;
    let (address, integrity) = fixed_line(&app).await;
    let one = app.send("GET", &address, &[("referer", "https://www.shop.com/?ck_debug")], "").await;
    let two = app.send("GET", &address, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(one.header("cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(one.header("vary"), "Accept-Encoding");
    assert_eq!(one.header("access-control-allow-origin"), "*");
    assert_eq!(one.header("x-content-type-options"), "nosniff");
    assert!(one.headers.get("set-cookie").is_none());
    assert_eq!((one.header("content-encoding"), two.header("content-encoding")), ("", "gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&two.body[..]).read_to_string(&mut text).expect("valid gzip");
    assert_eq!(text, one.text(), "neither the page nor the encoding changes it");
    let config = &text[text.rfind("({").expect("a config")..];
    assert!(
        config
            .starts_with(r#"({"__proto__":null,"s":"main","e":"http://go.shop.localhost/v?fixed""#),
        "{config}"
    );
    use base64::Engine as _;
    use sha2::Digest as _;
    let digest = sha2::Sha384::digest(one.body.as_ref());
    let expected = base64::engine::general_purpose::STANDARD.encode(digest);
    assert_eq!(integrity, format!("sha384-{expected}"));

    // A conditional request gets a 304; plain and gzip have different ETags.
    assert_ne!(one.header("etag"), two.header("etag"));
    let known = [("if-none-match", one.header("etag"))];
    let again = app.send("GET", &address, &known, "").await;
    assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0));
    let other = [("if-none-match", one.header("etag")), ("accept-encoding", "gzip")];
    assert_eq!(app.send("GET", &address, &other, "").await.status, StatusCode::OK);
    assert_eq!(app.send("HEAD", &address, &[], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_old_address_of_the_static_variant_is_cached_for_a_short_time() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let (old, _) = fixed_line(&app).await;
    let form = [
        ("name", "Shop"),
        ("timezone", "UTC"),
        ("currency", "USD"),
        ("domains", "shop.de"),
        ("auto_stamp", "1"),
    ];
    owner.save("/settings/sites/main", &form).await;
    assert!(owner.page("/setup").await.contains("only on pages of shop.de"));
    let (new, _) = fixed_line(&app).await;
    assert_ne!(old, new, "a setting changes the script");
    for path in [&*old, "/t/main.static.js", "/t/main.static.js?v=", "/t/main.static.js?v=%00"] {
        let reply = app.get(path).await;
        assert_eq!(
            (reply.status, reply.header("cache-control")),
            (StatusCode::OK, "public, max-age=300")
        );
        assert!(reply.text().contains(";domain=shop.de") && reply.text().contains(r#""u":1"#));
    }
    // Options in the URL change the script and its hash.
    let without_consent = app.get(&format!("{new}&nc=1")).await;
    assert!(without_consent.text().contains(r#""m":1"#));
    assert_eq!(without_consent.header("cache-control"), "public, max-age=300");
    assert!(app.get(&format!("{new}&debug=1")).await.text().contains("clickstamp-debug"));
    assert_eq!(app.get(&new).await.header("cache-control"), "public, max-age=31536000, immutable");
    for path in
        ["/t/other.static.js", "/t/.static.js", "/t/main.static", "/t/main.static.static.js"]
    {
        assert_eq!(app.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn visits_of_the_static_variant_are_not_reported_as_cached_copies() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    for t in 0..3 {
        let id = format!("ck_z{t}{}", "7".repeat(31));
        let body = serde_json::json!({"s": "main", "i": id, "t": t, "u": "https://shop.example/"});
        let reply = app.send("POST", "/v?fixed", &[], body.to_string()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(
        app.database.number("select count(*) from visits where alias like 'ck_z%'").await,
        3
    );
    assert!(!owner.page("/setup").await.contains("caches your tag"));
}
