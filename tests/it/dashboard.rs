//! The dashboard through its HTTP endpoints: who gets access, what is rejected, what is shown.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::harness::{Reply, Session, TestApp};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "watercolor-2026";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const PAGES: [&str; 15] = [
    "/",
    "/conversions",
    "/leaks",
    "/visits",
    "/deliveries",
    "/events",
    "/events/pages",
    "/links",
    "/setup",
    "/settings",
    "/settings/sites/main",
    "/settings/sources",
    "/settings/sources/main",
    "/settings/custom",
    "/settings/custom/custom",
];

pub(crate) async fn with_admin(further: &[(&str, &str)]) -> TestApp {
    let mut settings =
        vec![("CLICKSTAMP_ADMIN_EMAIL", EMAIL), ("CLICKSTAMP_ADMIN_PASSWORD", PASSWORD)];
    settings.extend_from_slice(further);
    TestApp::start_with(&settings).await
}

fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

pub(crate) async fn post(app: &TestApp, path: &str, cookie: &str, pairs: &[(&str, &str)]) -> Reply {
    app.send("POST", path, &[FORM, ("cookie", cookie)], encode(pairs)).await
}

async fn sign_in_as(app: &TestApp, email: &str, password: &str) -> Reply {
    post(app, "/login", "", &[("email", email), ("password", password), ("next", "/leaks")]).await
}

/// Signs in; answers the cookie.
pub(crate) async fn sign_in(app: &TestApp) -> String {
    let reply = sign_in_as(app, EMAIL, PASSWORD).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
    cookie_of(&reply)
}

fn cookie_of(reply: &Reply) -> String {
    reply.header("set-cookie").split(';').next().expect("a cookie").to_owned()
}

pub(crate) async fn page(app: &TestApp, cookie: &str, path: &str) -> Reply {
    app.send("GET", path, &[("cookie", cookie)], "").await
}

/// Visits, payments of every fate, a delivery that was given up, an event that cannot be read.
async fn seed(app: &TestApp) {
    let hostile = "<script>alert(1)</script>";
    let campaign =
        encode(&[("utm_source", hostile), ("utm_campaign", hostile), ("utm_medium", "cpc")]);
    let first = app.visit("https://shop.example/first?gclid=AbC").await;
    app.advance(Duration::from_secs(3600));
    let last = app.mint().await;
    app.visit_as(&last, &format!("https://shop.example/offer?{campaign}"), Some(&first)).await;
    let at = app.now().as_seconds();
    let hostile_buyer = json!({"customer_details": {"email": "\"><img src=x onerror=alert(2)>@example.com", "name": hostile}});
    let sessions = [
        Session::paid("cs_live_1").reference(&last).with(hostile_buyer).at(at),
        Session::paid("cs_live_2").reference("--CLICK-ID--").at(at),
        Session::paid("cs_live_3").reference(hostile).at(at),
        Session::paid("cs_live_4").with(json!({"currency": "jpy", "amount_total": 500})).at(at),
        Session::paid("cs_test_5").with(json!({"livemode": false})).reference(&last).at(at),
    ];
    for session in sessions {
        app.stripe_processed(&session.completed()).await;
    }
    let unreadable = Session::paid("cs_live_6").with(json!({"amount_total": "much"})).at(at);
    app.stripe_processed(&unreadable.completed()).await;
    app.stripe_processed(&Session::paid("cs_live_7").at(at).event("customer.created")).await;
    app.anytrack.answers([422, 200, 503, 200]);
    app.deliver_due().await;
    app.advance(Duration::from_secs(600));
    app.deliver_due().await;
}

#[tokio::test]
async fn nobody_sees_a_page_without_signing_in() {
    let app = with_admin(&[]).await;
    for path in PAGES.iter().chain(&["/conversions/cnv_1", "/events/sev_1"]) {
        let reply = app.get(path).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{path}");
        assert!(reply.header("location").starts_with("/login"), "{path}");
    }
    assert_eq!(
        app.get("/leaks?mode=test").await.header("location"),
        "/login?next=%2Fleaks%3Fmode%3Dtest"
    );
    for path in ["/deliveries/dlv_1/retry", "/events/sev_1/rerun", "/settings/sites/main"] {
        let reply = post(&app, path, "clickstamp_session=guessed", &[]).await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (StatusCode::SEE_OTHER, "/login"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn signing_in_lasts_until_signing_out_or_thirty_days() {
    let app = with_admin(&[]).await;
    let reply = sign_in_as(&app, "ADA@example.com", PASSWORD).await;
    assert_eq!((reply.status, reply.header("location")), (StatusCode::SEE_OTHER, "/leaks"));
    let attributes = reply.header("set-cookie").to_owned();
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=2592000"] {
        assert!(attributes.contains(attribute), "{attributes}");
    }
    let cookie = cookie_of(&reply);
    let secret = cookie.split_once('=').expect("a value").1;
    let stored = app.database.texts("select token_hash from sessions").await;
    assert!(stored.iter().all(|hash| !hash.contains(secret)), "only its hash is stored");
    assert_eq!(page(&app, &cookie, "/").await.status, StatusCode::OK);
    post(&app, "/logout", &cookie, &[]).await;
    assert_eq!(page(&app, &cookie, "/").await.status, StatusCode::SEE_OTHER);
    let cookie = sign_in(&app).await;
    app.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(page(&app, &cookie, "/").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn behind_https_and_a_prefix_the_cookie_is_secure_and_links_have_the_prefix() {
    let app = with_admin(&[("CLICKSTAMP_PUBLIC_URL", "https://www.shop.example/k")]).await;
    let reply = sign_in_as(&app, EMAIL, PASSWORD).await;
    assert!(reply.header("set-cookie").contains("Secure"));
    assert!(reply.header("set-cookie").contains("Path=/k;"), "the shop beside it gets no session");
    assert_eq!(reply.header("location"), "/k/leaks");
    let text = page(&app, &cookie_of(&reply), "/settings").await.text().to_owned();
    assert!(text.contains("src=&#34;https://www.shop.example/k/t/main.js&#34;"), "{text}");
    assert!(text.contains("https://www.shop.example/k/webhooks/stripe/main"));
    let links = attributes(&text, " href=\"");
    assert!(links.iter().all(|link| link.starts_with("/k/") || link.starts_with('#')), "{links:?}");
}

#[tokio::test]
async fn an_unknown_email_and_a_wrong_password_get_the_same_answer() {
    let app = with_admin(&[]).await;
    let wrong = sign_in_as(&app, EMAIL, "wrong-password").await;
    let unknown = sign_in_as(&app, "eve@example.com", "wrong-password").await;
    assert_eq!(
        (wrong.status, unknown.status),
        (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED)
    );
    assert_eq!(wrong.text().replace(EMAIL, ""), unknown.text().replace("eve@example.com", ""));
    assert!(!wrong.text().contains("wrong-password") && wrong.header("set-cookie").is_empty());
}

#[tokio::test]
async fn the_eleventh_try_is_refused_for_a_quarter_of_an_hour() {
    let app = with_admin(&[]).await;
    for _ in 0..10 {
        assert_eq!(
            sign_in_as(&app, EMAIL, "wrong-password").await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(sign_in_as(&app, EMAIL, PASSWORD).await.status, StatusCode::TOO_MANY_REQUESTS);
    app.advance(Duration::from_secs(15 * 60));
    sign_in(&app).await;
}

#[tokio::test]
async fn a_form_from_another_site_does_nothing() {
    let app = with_admin(&[("CLICKSTAMP_PUBLIC_URL", "https://www.shop.example/k")]).await;
    let cookie = sign_in(&app).await;
    let send = async |headers: &[(&str, &str)]| {
        let headers: Vec<_> =
            [FORM, ("cookie", cookie.as_str())].iter().chain(headers).copied().collect();
        app.send("POST", "/settings/sites/main", &headers, "name=Taken&timezone=UTC&currency=USD")
            .await
    };
    for headers in [
        vec![("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")],
        vec![("origin", "https://evil.example")],
        vec![("sec-fetch-site", "same-site"), ("origin", "https://blog.shop.example")],
        vec![("origin", "null")],
    ] {
        let reply = send(&headers).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
        assert!(reply.text().contains("from another site"), "it is a page: {}", reply.text());
    }
    assert_eq!(app.database.texts("select name from sites").await, ["My site"]);
    let trusted = send(&[("origin", "https://www.shop.example")]).await;
    assert_eq!(trusted.status, StatusCode::SEE_OTHER, "the public address is ours");
    assert_eq!(app.database.texts("select name from sites").await, ["Taken"]);
}

#[tokio::test]
async fn the_setup_url_makes_the_first_account_once() {
    let app = TestApp::start().await;
    assert!(app.get("/login").await.text().contains("No account yet"));
    let store = &app.app().state().store;
    let url = || clickstamp::dashboard::setup_url(store, "http://go.shop.localhost");
    let first = url().await.expect("a readable database").expect("nobody has an account");
    assert_eq!(
        url().await.expect("a readable database").as_ref(),
        Some(&first),
        "it stays the same"
    );
    let path = first.strip_prefix("http://go.shop.localhost").expect("the base");
    let token = path.split_once("token=").expect("a token").1;
    assert_eq!(app.get("/setup/account?token=guessed").await.status, StatusCode::FORBIDDEN);
    assert!(app.get(path).await.text().contains("Create your account"));
    let make = async |token: &str, email: &str, password: &str| {
        post(
            &app,
            "/setup/account",
            "",
            &[("token", token), ("email", email), ("password", password)],
        )
        .await
    };
    assert_eq!(make("guessed", EMAIL, PASSWORD).await.status, StatusCode::FORBIDDEN);
    let refused = make(token, "ada", "short").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused.text().contains("Enter an email address") && refused.text().contains("too short")
    );
    assert!(
        refused.text().contains("value=\"ada\"") && !refused.text().contains("value=\"short\"")
    );
    let made = make(token, EMAIL, PASSWORD).await;
    assert_eq!((made.status, made.header("location")), (StatusCode::SEE_OTHER, "/setup"));
    assert_eq!(page(&app, &cookie_of(&made), "/setup").await.status, StatusCode::OK);
    assert_eq!(make(token, "eve@example.com", PASSWORD).await.status, StatusCode::FORBIDDEN);
    assert_eq!(app.get(path).await.status, StatusCode::FORBIDDEN);
    assert_eq!(url().await.expect("a readable database"), None);
    sign_in(&app).await;
}

#[tokio::test]
async fn every_page_has_the_headers_that_keep_others_out() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    for path in PAGES.iter().chain(&["/login", "/conversions/cnv_1"]) {
        let reply = page(&app, &cookie, path).await;
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{path}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        let text = reply.text();
        assert!(!text.contains(" style="), "{path}");
        // The only script is the one that adds copy buttons; it is ours, and nobody needs it.
        let ours = text.matches("<script defer src=\"/static/copy.").count();
        assert_eq!(ours, usize::from(text.contains("<header class=\"top\">")), "{path}");
        assert_eq!(text.matches("<script").count(), ours, "{path}");
    }
    let missing = page(&app, &cookie, "/conversions/cnv_1").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert!(missing.text().contains("Conversion not found."));
    let css = attributes(app.get("/login").await.text(), "stylesheet\" href=\"").pop_first();
    let css = app.get(&css.expect("a stylesheet")).await;
    assert_eq!(css.status, StatusCode::OK);
    assert!(css.header("cache-control").contains("immutable"));
    assert_eq!(css.header("content-type"), "text/css; charset=utf-8");
    let setup = page(&app, &cookie, "/setup").await;
    let copy = attributes(setup.text(), "<script defer src=\"").pop_first();
    let copy = app.get(&copy.expect("a script")).await;
    assert_eq!(copy.header("content-type"), "text/javascript; charset=utf-8");
}

#[tokio::test]
async fn hostile_values_are_text_on_every_page() {
    let mut app = with_admin(&[]).await;
    app.leave_things_undone();
    seed(&app).await;
    let cookie = sign_in(&app).await;
    let crawled = crawl(&app, &cookie, &["/", "/?from_by=source", "/?mode=test"]).await;
    let mut seen = 0;
    for (path, text) in crawled {
        assert!(!text.contains("<script>") && !text.contains("<img"), "{path}");
        seen += usize::from(text.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
    }
    assert!(seen > 8, "the hostile campaign was shown on {seen} pages only");
}

#[tokio::test]
async fn every_link_leads_somewhere() {
    let mut app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let empty = crawl(&app, &cookie, &["/"]).await;
    assert!(empty.iter().any(|(_, text)| text.contains("Your first visit will appear here")));
    app.leave_things_undone();
    seed(&app).await;
    let full = crawl(
        &app,
        &cookie,
        &["/", "/?mode=test", "/?period=12m", "/?period=today", "/?chart=rate"],
    )
    .await;
    assert!(full.len() > 60, "only {} pages were reached", full.len());
    // The types of the tag are for programmers; they speak of attributes of elements.
    let pages = full.into_iter().filter(|(path, _)| !path.starts_with("/static/"));
    let all: String = pages.map(|(_, text)| text).collect();
    assert!(!all.contains("is not understood"), "links name only filters that exist");
    for words in [
        "Unmatched: tag didn’t run",
        "Sales without a source: $102.60",
        "¥500",
        "1 failed delivery ($102.60) needs your attention",
        "Process again",
    ] {
        assert!(all.contains(words), "{words}");
    }
    assert!(
        !all.to_lowercase().contains("attribut"),
        "no page claims what AnyTrack does not report"
    );
}

/// Follows every link from the starts; each must answer 200. Answers all pages.
async fn crawl(app: &TestApp, cookie: &str, starts: &[&str]) -> Vec<(String, String)> {
    let mut queue: VecDeque<String> = starts.iter().map(|path| (*path).to_owned()).collect();
    let mut known: BTreeSet<String> = queue.iter().cloned().collect();
    let mut pages = Vec::new();
    while let Some(path) = queue.pop_front() {
        let reply = page(app, cookie, &path).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        if !reply.header("content-type").starts_with("text/html") {
            continue;
        }
        let text = reply.text().to_owned();
        let ids = attributes(&text, " id=\"");
        for link in attributes(&text, " href=\"") {
            assert!(!link.is_empty() && link != "#", "{path} has a dead link");
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            if target.is_empty() {
                assert!(ids.contains(anchor), "{path} has no #{anchor}");
            } else if known.len() < 400 && known.insert(target.to_owned()) {
                queue.push_back(target.to_owned());
            }
        }
        pages.push((path, text));
    }
    pages
}

/// Every value of an attribute, with its entities read.
fn attributes(text: &str, start: &str) -> BTreeSet<String> {
    text.split(start)
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .map(|value| value.replace("&#38;", "&"))
        .collect()
}

#[tokio::test]
async fn a_filter_that_is_not_understood_is_named_on_the_page() {
    let mut app = with_admin(&[]).await;
    app.leave_things_undone();
    seed(&app).await;
    let cookie = sign_in(&app).await;
    let states = "pending, delivered, given_up, held, skipped";
    let rows = [
        ("/deliveries", "state", "nonsense", format!("Possible values: {states}.")),
        ("/deliveries", "destination", "none", "It must be the key of a destination.".to_owned()),
        ("/deliveries", "reason", "why", "Possible values: exhausted, refused,".to_owned()),
        ("/deliveries", "livemode", "false", "Possible filters: mode, site, state,".to_owned()),
        ("/conversions", "site", "none", "Possible values: main.".to_owned()),
        ("/conversions", "delivery", "failed", format!("Possible values: {states}.")),
        ("/conversions", "period", "1y", "Possible values: 28d, today, 7d, 12m.".to_owned()),
        ("/conversions", "from", "2026-09-01", "It must be given together with".to_owned()),
        ("/conversions", "tab", "matched", "Possible filters: mode, site,".to_owned()),
        ("/visits", "bots", "yes", "Possible values: true, false.".to_owned()),
        ("/visits", "to", "tomorrow", "It must be a date like 2026-09-21.".to_owned()),
        ("/events", "state", "delivered", "Possible values: received, processed,".to_owned()),
        ("/events", "after", "5", "It must be the end of a link".to_owned()),
        ("/events", "kind", "x", "Possible filters: mode, site, state, type.".to_owned()),
        ("/", "chart", "sales", "Possible values: conversions, rate, per_visit.".to_owned()),
        ("/", "site", "none", "Possible values: main.".to_owned()),
        ("/", "currency", "dollars", "It must be the code of a currency".to_owned()),
        ("/leaks", "period", "1y", "Possible values: 28d, today, 7d, 12m.".to_owned()),
        ("/leaks", "site", "none", "Possible values: main.".to_owned()),
        ("/leaks", "state", "held", "Possible filters: mode, site, from, to, period.".to_owned()),
        ("/settings", "site", "none", "Possible values: main.".to_owned()),
    ];
    for (path, name, value, rule) in rows {
        let reply = page(&app, &cookie, &format!("{path}?{name}={value}")).await;
        let said = format!(
            "<p class=\"notice\" role=\"status\">The filter {name}={value} is not understood, so it is not applied. {rule}"
        );
        assert_eq!(reply.status, StatusCode::OK, "{path}?{name}={value}");
        assert_eq!(reply.text().matches("is not understood").count(), 1, "{path}?{name}={value}");
        assert!(reply.text().contains(&said), "{path}: {said}\n{}", reply.text());
    }
}

#[tokio::test]
async fn pages_know_the_filters_of_the_api() {
    let mut app = with_admin(&[]).await;
    app.leave_things_undone();
    seed(&app).await;
    let cookie = sign_in(&app).await;
    let schema = app.get("/api/v1/openapi.json").await.json();
    let mut checked = 0;
    for (of_api, path) in [
        ("/conversions", "/conversions"),
        ("/deliveries", "/deliveries"),
        ("/stripe-events", "/events"),
    ] {
        let known = schema["paths"][of_api]["get"]["parameters"].as_array().expect("parameters");
        for parameter in known {
            let name = parameter["name"].as_str().expect("a name");
            if ["site", "livemode", "cursor", "limit", "from", "to"].contains(&name) {
                continue; // These have another form on pages.
            }
            let schema = match parameter["schema"]["$ref"].as_str() {
                Some(place) => schema.pointer(place.trim_start_matches('#')).expect("a schema"),
                None => &parameter["schema"],
            };
            let value = match (name, schema["type"].as_str()) {
                ("destination", _) => "anytrack",
                (_, Some("boolean")) => "true",
                _ => schema["enum"][0].as_str().unwrap_or("renewal"),
            };
            let reply = page(&app, &cookie, &format!("{path}?{name}={value}")).await;
            assert!(!reply.text().contains("is not understood"), "{path}?{name}={value}");
            checked += 1;
        }
    }
    assert_eq!(checked, 13);
    let page = page(&app, &cookie, "/conversions?kind=renewal&status=paid&match=matched").await;
    for chip in ["Kind: renewal", "Status: paid", "Match: matched"] {
        assert!(
            page.text().contains(&format!("\">{chip} <span aria-hidden=\"true\">×</span>")),
            "{chip}"
        );
    }
    assert!(page.text().contains("Filtered conversions"));
}

#[tokio::test]
async fn a_failed_delivery_is_resent_from_its_journey() {
    let mut app = with_admin(&[]).await;
    app.leave_things_undone();
    seed(&app).await;
    let cookie = sign_in(&app).await;
    let id =
        app.database.texts("select id from deliveries where state = 'given_up'").await.remove(0);
    let received = app.anytrack.received().len();
    let path = format!("/deliveries/{id}/retry");
    let reply = post(&app, &path, &cookie, &[("back", "/conversions/cnv_1")]).await;
    assert_eq!(
        (reply.status, reply.header("location")),
        (StatusCode::SEE_OTHER, "/conversions/cnv_1")
    );
    app.deliver_due().await;
    assert!(app.anytrack.received().len() > received);
    assert_eq!(
        post(&app, &path, &cookie, &[]).await.status,
        StatusCode::CONFLICT,
        "it was accepted"
    );
    assert_eq!(
        post(&app, "/deliveries/dlv_0/retry", &cookie, &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_failed_event_is_read_again() {
    let mut app = with_admin(&[]).await;
    app.leave_things_undone();
    seed(&app).await;
    let cookie = sign_in(&app).await;
    let id =
        app.database.texts("select id from stripe_events where state = 'failed'").await.remove(0);
    let reply = post(&app, &format!("/events/{id}/rerun"), &cookie, &[]).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER);
    assert_eq!(app.process_events().await, 1);
}

#[tokio::test]
async fn settings_from_the_environment_are_read_only_and_no_secret_is_shown() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let text = page(&app, &cookie, "/settings").await.text().to_owned();
    assert!(text.contains("CLICKSTAMP_STRIPE_WEBHOOK_SECRET") && !text.contains("whsec_test"));
    assert!(!text.contains(&app.anytrack.url), "the address is masked");
    let secrets = "/settings/sources/main/secrets";
    let reply = post(&app, secrets, &cookie, &[("value", "whsec_other")]).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text().contains("An environment variable sets this value"));
}

#[tokio::test]
async fn refused_settings_say_why_and_right_ones_are_kept() {
    let settings = [("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", ""), ("CLICKSTAMP_ANYTRACK_URL", "")];
    let app = with_admin(&settings).await;
    let cookie = sign_in(&app).await;
    let secrets = "/settings/sources/main/secrets";
    let refused = post(&app, secrets, &cookie, &[("value", "sk_live_hunter2")]).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.text().contains("That was an API key: it started with sk_."));
    assert!(!refused.text().contains("hunter2"));
    let site = [("name", "Shop"), ("timezone", "Mars/Base"), ("currency", "EUR"), ("domains", "")];
    let refused = post(&app, "/settings/sites/main", &cookie, &site).await;
    assert!(
        refused.text().contains("Unknown timezone")
            && refused.text().contains("value=\"Mars/Base\"")
    );
    let site = [
        ("name", "Shop"),
        ("timezone", "Europe/Berlin"),
        ("currency", "EUR"),
        ("domains", "shop.example"),
    ];
    for (path, pairs) in [
        (secrets, &[("value", "whsec_new")][..]),
        (
            "/settings/destinations",
            &[
                ("preset", "anytrack"),
                ("name", "AnyTrack"),
                ("url", "https://t1.anytrack.io/a/collect/secret-k7Qe"),
            ],
        ),
        ("/settings/sites/main", &site),
    ] {
        assert_eq!(post(&app, path, &cookie, pairs).await.status, StatusCode::SEE_OTHER, "{path}");
    }
    let text = page(&app, &cookie, "/settings").await.text().to_owned();
    assert!(
        text.contains("One signing secret is set.")
            && text.contains("https://t1.anytrack.io/…k7Qe")
    );
    assert!(!text.contains("whsec_new"));
    let text = page(&app, &cookie, "/settings/sites/main").await.text().to_owned();
    assert!(text.contains("value=\"Europe/Berlin\"") && text.contains("shop.example"));
}

#[tokio::test]
async fn a_changed_password_ends_every_other_session() {
    let app = with_admin(&[]).await;
    let (here, there) = (sign_in(&app).await, sign_in(&app).await);
    let change = async |current: &str, new: &str| {
        post(&app, "/settings/password", &here, &[("current", current), ("new", new)]).await
    };
    let refused = change("wrong-password", "short").await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        refused.text().contains("Wrong current password.") && refused.text().contains("too short")
    );
    assert_eq!(change(PASSWORD, "another-watercolor").await.status, StatusCode::SEE_OTHER);
    assert_eq!(page(&app, &here, "/").await.status, StatusCode::OK);
    assert_eq!(page(&app, &there, "/").await.status, StatusCode::SEE_OTHER);
    assert_eq!(sign_in_as(&app, EMAIL, PASSWORD).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_restart_with_another_password_keeps_the_one_that_was_set() {
    let app = with_admin(&[]).await;
    let settings =
        [("CLICKSTAMP_ADMIN_EMAIL", EMAIL), ("CLICKSTAMP_ADMIN_PASSWORD", "a-different-one")];
    let app = app.restart(&settings).await;
    sign_in(&app).await;
}

#[tokio::test]
async fn an_unknown_address_is_a_page_for_browsers_and_a_line_for_programs() {
    let app = with_admin(&[]).await;
    let reply = app.send("GET", "/nothing", &[("accept", "text/html,*/*;q=0.8")], "").await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND);
    assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(reply.text().contains("Page not found"), "{}", reply.text());
    let reply = app.get("/nothing").await;
    assert_eq!(
        (reply.status, reply.text()),
        (StatusCode::NOT_FOUND, "This page does not exist.\n")
    );
}

#[tokio::test]
async fn the_setup_tells_of_a_webhook_that_was_refused() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let setup = async || page(&app, &cookie, "/setup").await.text().to_owned();
    assert!(setup().await.contains("Stripe has not sent anything yet"));
    let signature = [("stripe-signature", "t=1,v1=00")];
    let reply = app.send("POST", "/webhooks/stripe/main", &signature, "{}").await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    app.app().flush_counts().await.unwrap();
    let shown = setup().await;
    assert!(shown.contains("but it was rejected: its signature"), "{shown}");
}

/// The number of a card.
fn card(page: &str, label: &str) -> String {
    let at = page
        .find(&format!("class=\"label\">{label}<"))
        .unwrap_or_else(|| panic!("{label} in {page}"));
    let rest = &page[at..];
    let rest = &rest[rest.find('>').unwrap_or(0)..];
    let end = rest.find("</a>").unwrap_or(rest.len());
    let mut text = String::new();
    let mut is_tag = false;
    for c in rest[..end].chars().skip(1) {
        match c {
            '<' => is_tag = true,
            '>' => is_tag = false,
            _ if !is_tag => text.push(c),
            _ => {}
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_conversion_rate_is_about_new_customers_and_renewals_are_apart() {
    let app = with_admin(&[]).await;
    let cookie = sign_in(&app).await;
    let source = app.api("/api/v1/sources").await;
    let token =
        source["data"].as_array().expect("sources").iter().find(|it| it["kind"] == "custom");
    let endpoint =
        format!("/webhooks/custom/{}", token.expect("one")["token"].as_str().expect("text"));
    let mut visits = Vec::new();
    for _ in 0..4 {
        visits.push(app.visit("https://www.shop.localhost/offer?utm_source=google").await);
    }
    let click_id = &visits[0];
    let report = async |event: &str, at: usize| {
        let query =
            format!("click_id={click_id}&event_name={event}&value=10&transaction_id={event}{at}");
        assert_eq!(app.get(&format!("{endpoint}?{query}")).await.status, StatusCode::OK);
    };
    report("trial", 0).await;
    for at in 0..5 {
        report("renewal", at).await;
    }
    let page = page(&app, &cookie, "/").await.text().to_owned();
    let rate = card(&page, "Conversion rate");
    assert!(rate.contains("25"), "{rate}");
    let conversions = card(&page, "Conversions");
    assert!(conversions.contains(" 1 ") && conversions.contains("and 5 renewals"), "{conversions}");
    assert!(page.contains(">5 renewals<"), "the lists say it too: {page}");
    let found = app.api("/api/v1/overview").await;
    assert_eq!(
        (&found["conversions"], &found["new_conversions"], &found["renewals"]),
        (&serde_json::json!(6), &serde_json::json!(1), &serde_json::json!(5))
    );
    assert_eq!(found["conversion_rate"].to_string(), "0.25");
    assert_eq!(found["by_source"]["rows"][0]["conversion_rate"].to_string(), "0.25");
    app.deliver_due().await;
}
