//! Redirect links, through `/p/{alias}` and through the dashboard.

use std::time::Duration;

use axum::http::StatusCode;

use crate::harness::{Reply, Session, TestApp};

const TARGET: &str = "https://buy.stripe.com/8wM3cd?locale=de";

async fn with_link() -> TestApp {
    let app = TestApp::owned(&[]).await;
    let form = [("name", "Spring letter"), ("alias", "spring"), ("target", TARGET)];
    let there = app.owner().await.save("/links", &form).await;
    assert_eq!(there, "/links/spring?saved=added");
    app
}

/// The click ID in the URL of a redirect.
fn reference(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::FOUND, "{}", reply.text());
    let location = reply.header("location");
    assert!(location.starts_with("https://buy.stripe.com/8wM3cd?locale=de"), "{location}");
    let (_, after) = location.split_once("client_reference_id=").unwrap_or_default();
    after.split('&').next().unwrap_or_default().to_owned()
}

async fn click(app: &TestApp, query: &str, headers: &[(&str, &str)]) -> Reply {
    app.send("GET", &format!("/p/spring{query}"), headers, "").await
}

#[tokio::test]
async fn a_click_without_script_or_cookie_becomes_a_payment_with_a_source() {
    let app = with_link().await;
    let reply =
        click(&app, "?utm_source=letter&utm_medium=email&prefilled_email=a%40b.de", &[]).await;
    let id = reference(&reply);
    assert!(reply.header("location").contains("prefilled_email=a%40b.de"));
    assert_eq!(reply.header("cache-control"), "no-store");
    assert_eq!(reply.header("referrer-policy"), "strict-origin-when-cross-origin");
    app.stripe_processed(&Session::paid("cs_live_1").reference(&id).completed()).await;
    app.deliver_due().await;
    let conversion = app.conversion().await;
    assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
    assert_eq!(app.database.texts("select source from touches").await, ["letter"]);
    let owner = app.owner().await;
    let text = owner.page("/links").await;
    assert!(
        text.contains("<td class=\"n\">1</td><td class=\"n\">1</td><td class=\"n\">$"),
        "{text}"
    );
    assert!(owner.page("/visits").await.contains("/p/spring"));
}

#[tokio::test]
async fn a_click_on_a_page_keeps_the_pages_click_id() {
    let app = with_link().await;
    let id = app.visit("https://www.shop.localhost/offer?gclid=Cj0KCQ").await;
    // The signature that the tag computes, see fixtures/signatures.json.
    let held = format!("_ck={id}; _ck_s=2o44sdi.{}", app.now().as_seconds());
    app.advance(Duration::from_secs(9));
    for query in ["", "?gclid=Cj0KCQ"] {
        let reply = click(&app, query, &[("cookie", &held)]).await;
        assert_eq!(reference(&reply), id, "the same ad click: {query}");
        let cookies: Vec<_> = reply.headers.get_all("set-cookie").iter().collect();
        let activity = format!("_ck_s=2o44sdi.{};", app.now().as_seconds());
        assert!(cookies.len() == 1 && cookies[0].as_bytes().starts_with(activity.as_bytes()));
        app.advance(Duration::from_secs(9));
    }
    let paid = Session::paid("cs_live_1").reference(&id).at(app.now().as_seconds());
    app.stripe_processed(&paid.completed()).await;
    app.deliver_due().await;
    assert_eq!(app.database.texts("select source from touches").await, ["google"]);
    let text = app.owner().await.page("/links").await;
    assert!(
        text.contains("<td class=\"n\">2</td><td class=\"n\">1</td>"),
        "the link counts the payment too"
    );
    // Another campaign in the link itself starts a new click ID.
    let reply = click(&app, "?utm_source=letter", &[("cookie", &held)]).await;
    assert_ne!(reference(&reply), id);
    let before =
        app.database.texts("select previous_click_id from visits where source = 'letter'").await;
    assert_eq!(before, [id]);
}

#[tokio::test]
async fn a_visit_of_a_page_with_a_links_path_is_not_counted_as_a_click_on_the_link() {
    let app = with_link().await;
    let id = app.visit("https://www.shop.localhost/p/spring?gclid=A").await;
    app.visit("https://www.shop.localhost/p/summer").await;
    let paid = Session::paid("cs_live_1").reference(&id).at(app.now().as_seconds());
    app.stripe_processed(&paid.completed()).await;
    app.deliver_due().await;
    let owner = app.owner().await;
    let counted = "<td class=\"n\">1</td><td class=\"n\">1</td>";
    let text = owner.page("/links").await;
    assert!(!text.contains(counted), "{text}");
    let pages = app.database.texts("select landing_path from visits order by landing_path").await;
    assert_eq!(pages, ["/p/spring/", "/p/summer"]);
    let held = format!("_ck={id}");
    app.advance(Duration::from_secs(9));
    assert_eq!(reference(&click(&app, "", &[("cookie", &held)]).await), id);
    let text = owner.page("/links").await;
    assert!(text.contains("<td class=\"n\">1</td>"), "the click counts: {text}");
}

#[tokio::test]
async fn a_new_click_id_is_set_as_a_cookie_for_the_whole_domain() {
    let app = with_link().await;
    let reply = click(&app, "", &[("host", "go.shop.com")]).await;
    let id = reference(&reply);
    let cookies: Vec<_> =
        reply.headers.get_all("set-cookie").iter().filter_map(|v| v.to_str().ok()).collect();
    assert_eq!(
        cookies,
        [
            format!("_ck={id}; Path=/; Max-Age=34560000; SameSite=Lax; Domain=shop.com"),
            format!(
                "_ck_s=.{}; Path=/; Max-Age=34560000; SameSite=Lax; Domain=shop.com",
                app.now().as_seconds()
            ),
        ]
    );
}

#[tokio::test]
async fn forged_ids_are_replaced_and_browser_made_ids_get_a_signed_one() {
    let app = with_link().await;
    for wrong in [format!("ck_1{}", "0".repeat(34)), "junk".to_owned(), String::new()] {
        let reply = click(&app, "", &[("cookie", &format!("_ck={wrong}"))]).await;
        assert_ne!(reference(&reply), wrong);
    }
    let made = format!("ck_z{}", "7".repeat(32));
    let cookie = format!("_ck={made}");
    let signed = reference(&click(&app, "", &[("cookie", &cookie)]).await);
    assert!(!signed.starts_with("ck_z"));
    app.advance(Duration::from_secs(1));
    assert_eq!(reference(&click(&app, "", &[("cookie", &cookie)]).await), signed);
    assert_eq!(
        app.database.texts("select distinct alias from visits where alias is not null").await,
        [made]
    );
}

#[tokio::test]
async fn a_click_id_in_the_url_is_used_for_two_minutes() {
    let app = with_link().await;
    let id = app.mint().await;
    let fresh = format!("?_ck={id}.{}", app.now().as_seconds());
    assert_eq!(reference(&click(&app, &fresh, &[]).await), id);
    let urls = app.database.texts("select url from visits").await;
    assert!(urls[0].ends_with("/p/spring"), "{urls:?}");
    app.advance(Duration::from_secs(121));
    assert_ne!(reference(&click(&app, &fresh, &[]).await), id);
}

#[tokio::test]
async fn previews_and_prefetches_record_no_visit() {
    let app = with_link().await;
    let preview = [("user-agent", "Slackbot-LinkExpanding 1.0")];
    let speculative = [("sec-purpose", "prefetch;prerender")];
    for reply in [
        app.send("HEAD", "/p/spring", &[], "").await,
        click(&app, "", &preview).await,
        click(&app, "", &speculative).await,
    ] {
        assert_eq!((reference(&reply).as_str(), reply.header("set-cookie")), ("", ""));
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 0);
}

#[tokio::test]
async fn no_request_redirects_to_another_target() {
    let app = with_link().await;
    for query in [
        "?target=https://evil.example",
        "?url=//evil.example&to=https://evil.example",
        "?client_reference_id=mine",
        "?utm_source=%0d%0aLocation:%20https://evil.example",
        "?utm_source=a%00b",
        &format!("?utm_source={}", "x".repeat(9000)),
    ] {
        let reply = click(&app, query, &[("x-forwarded-host", "evil.example")]).await;
        assert!(reference(&reply).starts_with("ck_"), "{query}");
        let there = url::Url::parse(reply.header("location")).expect("an address");
        assert_eq!(there.host_str(), Some("buy.stripe.com"), "{query}");
        assert!(there.query_pairs().all(|(name, _)| name != "target" && name != "url"), "{query}");
    }
    for unknown in ["/p/other", "/p/https:%2F%2Fevil.example", "/p/%00", "/p/spring%2F..%2Fx"] {
        let reply = app.get(unknown).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{unknown}");
        assert!(reply.text().contains("This link doesn’t exist."));
    }
    assert_eq!(app.send("POST", "/p/spring", &[], "").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn without_consent_the_redirect_sets_no_cookie_and_records_no_visit() {
    let app = with_link().await;
    let site =
        [("name", "Shop"), ("timezone", "UTC"), ("currency", "USD"), ("consent", "required")];
    app.owner().await.save("/settings/sites/main", &site).await;
    let reply = click(&app, "?gclid=A", &[]).await;
    assert_eq!((reference(&reply).as_str(), reply.header("set-cookie")), ("", ""));
    assert_eq!(app.database.number("select count(*) from visits").await, 0);
    let agreed = format!("_ck={}", app.mint().await);
    assert!(reference(&click(&app, "", &[("cookie", &agreed)]).await).starts_with("ck_"));
}

#[tokio::test]
async fn the_redirect_works_if_the_database_cannot_be_written() {
    let app = with_link().await;
    app.app().close().await;
    assert!(reference(&click(&app, "", &[]).await).starts_with("ck_"));
}

#[tokio::test]
async fn clicks_above_the_rate_limit_are_redirected_but_not_recorded() {
    let app = TestApp::owned(&[("CLICKSTAMP_VISIT_RATE", "2")]).await;
    let form = [("name", "Spring letter"), ("alias", "spring"), ("target", TARGET)];
    app.owner().await.save("/links", &form).await;
    for _ in 0..5 {
        assert!(reference(&click(&app, "", &[]).await).starts_with("ck_"));
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 2);
}

#[tokio::test]
async fn links_are_paused_edited_and_deleted() {
    let app = with_link().await;
    let owner = app.owner().await;
    assert!(
        owner.page(&owner.save("/links/spring/pause", &[]).await).await.contains("Link paused.")
    );
    let reply = click(&app, "", &[]).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(reply.text().contains("isn’t active at the moment"));
    assert_eq!(app.api("/api/v1/links").await["data"][0]["paused"], true);
    owner.save("/links/spring/resume", &[]).await;
    let form = [("name", "Autumn"), ("target", "https://buy.stripe.com/other")];
    assert!(owner.page(&owner.save("/links/spring", &form).await).await.contains("Autumn"));
    assert!(
        click(&app, "", &[]).await.header("location").starts_with("https://buy.stripe.com/other?")
    );
    let qr = owner.get("/links/spring/qr.svg").await;
    assert_eq!((qr.status, qr.header("content-type")), (StatusCode::OK, "image/svg+xml"));
    assert!(qr.text().contains("<svg"));
    let there = owner.save("/links/spring/delete", &[]).await;
    assert!(owner.page(&there).await.contains("Link deleted."));
    assert_eq!(click(&app, "", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(owner.get("/links/spring/qr.svg").await.status, StatusCode::NOT_FOUND);
    assert_eq!(owner.post("/links/spring/delete", &[]).await.status, StatusCode::NOT_FOUND);
    assert_eq!(app.database.number("select count(*) from visits").await, 1, "its visits stay");
}

#[tokio::test]
async fn invalid_links_are_rejected_with_a_reason() {
    let app = with_link().await;
    let owner = app.owner().await;
    for (name, alias, target, why) in [
        ("", "a", TARGET, "A link needs a name"),
        ("A", "a b", TARGET, "lowercase letters, digits and dashes"),
        ("A", "SPRING", TARGET, "Another link has this slug"),
        ("A", "a", "", "Enter the complete payment link"),
        ("A", "a", "javascript:alert(1)", "must start with https"),
        ("A", "a", "https://evil.example/x", "is not a host of payment links"),
        ("A", "a", "https://checkout.stripe.com/c/pay/cs_1", "shows an existing checkout"),
        ("A", "a", "https://buy.stripe.com/<script>", "Enter a complete URL"),
    ] {
        let form = [("name", name), ("alias", alias), ("target", target)];
        let reply = owner.post("/links", &form).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{name} {alias} {target}");
        assert!(
            reply.text().contains(why) && !reply.text().contains("<script>"),
            "{}",
            reply.text()
        );
    }
    let reply =
        owner.post("/links/spring", &[("name", "A"), ("target", "https://evil.example/")]).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(app.database.texts("select target from links").await, [TARGET]);
    let given = owner.save("/links", &[("name", "No ending"), ("target", TARGET)]).await;
    assert!(given.starts_with("/links/") && given.len() > "/links/?saved=added".len(), "{given}");
}
