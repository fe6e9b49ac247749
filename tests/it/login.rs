//! Signing in while others guess passwords.

use axum::http::StatusCode;

use crate::harness::{Reply, TestApp};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "watercolor-2026";
const PROXY: (&str, &str) = ("CLICKSTAMP_TRUSTED_PROXIES", "127.0.0.1/32");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const USED_UP: &str = "insert into login_tries (user_id, began_at_ms, tries)
     select id, created_at_ms, 100 from users";

/// An app behind a proxy, so that a test can come from any address.
async fn start() -> TestApp {
    TestApp::owned(&[PROXY]).await
}

async fn sign_in(app: &TestApp, address: &str, cookie: &str, email: &str, password: &str) -> Reply {
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("email", email), ("password", password)])
        .finish();
    let headers = [FORM, ("x-forwarded-for", address), ("cookie", cookie)];
    app.send("POST", "/login", &headers, form).await
}

/// The device cookie that a successful sign-in sets beside the session.
fn device(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
    let cookies =
        reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().expect("text"));
    let device = cookies.into_iter().find(|cookie| cookie.starts_with("clickstamp_device="));
    device.expect("a device cookie").split(';').next().expect("a first part").to_owned()
}

#[tokio::test]
async fn a_guesser_waits_and_locks_nobody_else_out() {
    let app = start().await;
    for _ in 0..10 {
        let reply = sign_in(&app, "203.0.113.1", "", EMAIL, "a wrong guess").await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    let refused = sign_in(&app, "203.0.113.1", "", EMAIL, PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("retry-after"), "901");
    // Another address floods the limit with made-up emails, which made the old one forget.
    for n in 0..400 {
        let email = format!("{n}@example.com");
        sign_in(&app, "203.0.113.2", "", &email, if n < 40 { "a wrong guess" } else { "" }).await;
    }
    let refused = sign_in(&app, "203.0.113.1", "", EMAIL, PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    device(&sign_in(&app, "198.51.100.1", "", EMAIL, PASSWORD).await);
}

#[tokio::test]
async fn neither_a_restart_nor_another_copy_forgives_and_a_known_browser_passes() {
    let app = start().await;
    let known = device(&sign_in(&app, "198.51.100.1", "", EMAIL, PASSWORD).await);
    app.database.change("delete from login_tries").await;
    app.database.change(USED_UP).await;
    let settings =
        [PROXY, ("CLICKSTAMP_ADMIN_EMAIL", EMAIL), ("CLICKSTAMP_ADMIN_PASSWORD", PASSWORD)];
    let app = app.restart(&settings).await;
    let refused = sign_in(&app, "203.0.113.1", "", EMAIL, PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "also with the right password");
    let unknown = sign_in(&app, "203.0.113.1", "", "nobody@example.com", PASSWORD).await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    for forged in [
        known.replace("device=", "device=x"),
        known[..known.len() - 1].to_owned(),
        "clickstamp_device=.".to_owned(),
        "clickstamp_device=a.b.c".to_owned(),
        format!("clickstamp_device={}", "a".repeat(10_000)),
    ] {
        let refused = sign_in(&app, "203.0.113.3", &forged, EMAIL, PASSWORD).await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{forged}");
    }
    device(&sign_in(&app, "203.0.113.1", &known, EMAIL, PASSWORD).await);
    // The cookie is worth nothing without the password, and is made for one email.
    for _ in 0..10 {
        let wrong = sign_in(&app, "203.0.113.1", &known, EMAIL, "a wrong guess").await;
        assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    }
    let refused = sign_in(&app, "203.0.113.9", &known, EMAIL, PASSWORD).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn the_tries_of_an_email_are_over_after_a_quarter_of_an_hour() {
    let app = start().await;
    app.database.change(USED_UP).await;
    app.advance(std::time::Duration::from_secs(15 * 60));
    device(&sign_in(&app, "203.0.113.1", "", EMAIL, PASSWORD).await);
    assert_eq!(app.database.number("select tries from login_tries").await, 0);
    // A clock that was ahead locks nobody out until it is that late.
    app.database.change("delete from login_tries").await;
    app.database.change(USED_UP).await;
    app.set_back(std::time::Duration::from_secs(86_400));
    device(&sign_in(&app, "203.0.113.2", "", EMAIL, PASSWORD).await);
}

/// Three hundred at once: each is answered, none with 500, and the owner's own browser gets in.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_door_is_asked_to_come_again() {
    let app = start().await;
    let known = device(&sign_in(&app, "198.51.100.1", "", EMAIL, PASSWORD).await);
    let addresses: Vec<String> =
        (0..300).map(|n| format!("10.9.{}.{}", n / 250, n % 250)).collect();
    let crowd =
        addresses.iter().map(|address| sign_in(&app, address, "", "x@example.com", "guess"));
    let owner = sign_in(&app, "198.51.100.1", &known, EMAIL, PASSWORD);
    let (replies, owner) = tokio::join!(futures_util::future::join_all(crowd), owner);
    device(&owner);
    let (mut refused, mut busy) = (0, 0);
    for reply in replies {
        match reply.status {
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS => refused += 1,
            StatusCode::SERVICE_UNAVAILABLE => {
                assert_eq!(reply.header("retry-after"), "5");
                busy += 1;
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    assert!(refused > 0 && busy > 0, "{refused} checked, {busy} asked to come again");
}

#[tokio::test]
async fn nothing_that_is_typed_into_the_form_is_our_fault() {
    let app = start().await;
    let long = "x".repeat(20_000);
    let rows = [
        ("", ""),
        ("a\0b@example.com", "\0"),
        (EMAIL, "\0"),
        ("\u{202e}@\u{fffd}", "ä"),
        ("' or 1=1 --", "' or 1=1 --"),
        (long.as_str(), "x"),
        (EMAIL, long.as_str()),
    ];
    for (email, password) in rows {
        let reply = sign_in(&app, "203.0.113.1", "clickstamp_device", email, password).await;
        // No text has a NUL character, so such a form is refused before it is read.
        let has_nul = email.contains('\0') || password.contains('\0');
        let refused = if has_nul { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED };
        assert_eq!(reply.status, refused, "{email:.40}");
    }
    for (n, body) in
        ["", "email", "email=%ff&password=%00", "email=a&email=b", "\u{1}"].into_iter().enumerate()
    {
        let address = format!("203.0.113.{}", 10 + n);
        let headers = [FORM, ("x-forwarded-for", address.as_str())];
        let reply = app.send("POST", "/login", &headers, body).await;
        assert!(reply.status.is_client_error(), "{body:?}: {}", reply.status);
    }
}
