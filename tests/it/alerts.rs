//! Alerts: one per problem, durable, to Slack, webhooks and mailboxes; and what is never in them.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::clock::Clock;
use serde_json::{Value, json};

use crate::harness::{
    Database, FakeDestination, FakeMail, MAIL_CERTIFICATE, MailTls, Server, Session, TestApp,
};

const HERE: &str = "/settings/alerts";
const RECIPIENTS: &str = "/settings/alerts/recipients";
const MAIL_SERVER: &str = "/settings/alerts/mail";
const RULES_FORM: &str = "/settings/alerts/rules";
const PAGE: &str = "https://www.shop.localhost/offer";
const MINUTE: Duration = Duration::from_secs(60);

/// An app with one recipient of this kind; and the signing secret, where there is one.
async fn watched(kind: &str) -> (TestApp, FakeDestination, String) {
    watched_with(kind, &[]).await
}

async fn watched_with(kind: &str, settings: &[(&str, &str)]) -> (TestApp, FakeDestination, String) {
    let app = TestApp::owned(settings).await;
    let hook = FakeDestination::start().await;
    let owner = app.owner().await;
    let fields = [("kind", kind), ("name", "Ops"), ("address", hook.url.as_str())];
    let reply = owner.post(RECIPIENTS, &fields).await;
    assert!(matches!(reply.status, StatusCode::SEE_OTHER | StatusCode::OK), "{}", reply.text());
    let secret = reply.text().find("whsec_").map(|at| &reply.text()[at..]);
    let secret = secret.map(|rest| rest.split('<').next().unwrap_or_default().to_owned());
    (app, hook, secret.unwrap_or_default())
}

async fn sale(app: &TestApp, session: &str) {
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid(session).reference(&click_id).completed()).await;
}

/// Texts that Slack got.
fn texts(hook: &FakeDestination) -> Vec<String> {
    let bodies = hook.received();
    let text = |body: &String| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body.as_object().expect("an object").len(), 1, "Slack knows no other field");
        body["text"].as_str().expect("a text").to_owned()
    };
    bodies.iter().map(text).collect()
}

#[tokio::test]
async fn what_is_given_up_is_told_once_then_together_then_that_it_is_over() {
    let (app, slack, _) = watched("slack").await;
    assert_eq!(app.send_alerts().await, 0, "nothing is wrong");
    app.anytrack.answers([422, 422, 422]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 1);
    assert_eq!(app.send_alerts().await, 0, "sent once");
    let first = texts(&slack).remove(0);
    let id = app.database.texts("select id from conversions").await.remove(0);
    for part in [
        "AnyTrack: 1 delivery (102.60 USD) failed.",
        "The destination rejected them",
        "Last error: it answered 422.",
        &format!("- cs_live_1, 102.60 USD http://go.shop.localhost/conversions/{id}"),
        "http://go.shop.localhost/settings/destinations/anytrack",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert!(
        !first.contains('@') && !first.contains("k7Qe"),
        "nothing personal, no secret: {first}"
    );

    // Two more within the quarter of an hour are one message after it.
    for session in ["cs_live_2", "cs_live_3"] {
        app.advance(MINUTE);
        sale(&app, session).await;
        app.deliver_due().await;
        assert_eq!(app.send_alerts().await, 0);
    }
    app.advance(MINUTE * 15);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[1].starts_with("AnyTrack: 3 deliveries (307.80 USD) failed."));
    app.advance(MINUTE * 60);
    assert_eq!(app.send_alerts().await, 0, "nothing new");

    let owner = app.owner().await;
    assert!(owner.page(HERE).await.contains("Active alerts"));
    let fields = [("days", "7"), ("reason", "refused")];
    owner.save("/settings/destinations/anytrack/retry", &fields).await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 0, "it might come back");
    app.advance(MINUTE * 3);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[2].starts_with("AnyTrack: no more failed deliveries."));
    let page = owner.page(HERE).await;
    assert!(page.contains("No active alerts") && page.contains("Resolved "), "{page}");
}

#[tokio::test]
async fn a_destination_that_is_down_is_one_alert_with_reminders_and_an_end() {
    let (app, slack, _) =
        watched_with("slack", &[("CLICKSTAMP_RETRY_SCHEDULE", "1s,10h,10h")]).await;
    app.anytrack.answers([503; 12]);
    for number in 0..12 {
        sale(&app, &format!("cs_live_{number}")).await;
    }
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 1);
    let text = texts(&slack).remove(0);
    assert!(
        text.starts_with("AnyTrack accepts no conversions: 12 deliveries (1231.20 USD) pending."),
        "{text}"
    );
    assert!(text.contains("Last error: it answered 503."), "{text}");
    app.advance(MINUTE * 30);
    assert_eq!(app.send_alerts().await, 0, "it is slow, too; that is not sent twice");
    app.advance(MINUTE * 6 * 60);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[1].starts_with("AnyTrack still accepts no conversions"));
    // It comes back; deliveries never noticed that somebody watched.
    for _ in 0..24 {
        app.advance(MINUTE * 60);
        app.deliver_due().await;
    }
    app.send_alerts().await;
    app.advance(MINUTE * 3);
    app.send_alerts().await;
    let last = texts(&slack).pop().unwrap();
    assert!(last.starts_with("AnyTrack accepts conversions again."), "{last}");
    assert!(app.deliveries().await.iter().all(|found| found.state == "delivered"));
}

#[tokio::test]
async fn a_slow_backlog_is_told_of() {
    let (mut app, slack, _) = watched("slack").await;
    app.leave_things_undone();
    sale(&app, "cs_live_1").await;
    app.advance(MINUTE * 14);
    assert_eq!(app.send_alerts().await, 0);
    app.advance(MINUTE * 2);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[0].starts_with("AnyTrack is slow: 1 delivery (102.60 USD) pending"));
    // One that is tried again and again waits, too, since its first try.
    let (mut app, slack, _) = watched_with("slack", &[("CLICKSTAMP_RETRY_SCHEDULE", "10h")]).await;
    app.leave_things_undone();
    app.anytrack.answers([500]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    app.advance(MINUTE * 16);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[0].contains("Last error: it answered 500."));
}

/// Deliveries to AnyTrack expire after a day, and it answers `down` until the test says otherwise.
async fn that_expires(app: &TestApp) {
    let fields = [
        ("name", "AnyTrack"),
        ("sends_purchases", "1"),
        ("sends_unmatched", "1"),
        ("falls_back_to_our_click_id", "1"),
        ("message", "standard"),
        ("expires_days", "1"),
    ];
    app.owner().await.save("/settings/destinations/anytrack", &fields).await;
}

#[tokio::test]
async fn what_expires_soon_is_told_of_while_it_can_still_be_saved() {
    let (app, slack, _) =
        watched_with("slack", &[("CLICKSTAMP_RETRY_SCHEDULE", "1h,10h,10h")]).await;
    that_expires(&app).await;
    let owner = app.owner().await;
    let mut rules = RULES.to_vec();
    rules[3].1 = "0"; // Other tests show the alert about a slow backlog.
    owner.save(RULES_FORM, &rules).await;
    app.anytrack.answers([503, 503]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    app.advance(MINUTE * 60 * 11);
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 0, "13 hours are left");
    app.advance(MINUTE * 60);
    assert_eq!(app.send_alerts().await, 1);
    assert_eq!(app.send_alerts().await, 0, "sent once");
    let text = texts(&slack).remove(0);
    for part in [
        "AnyTrack: 1 delivery (102.60 USD) expires within 12 hours.",
        "The first one expires Tue 22 Sep, 14:13 UTC unless it is accepted by then.",
        "Last error: it answered 503.",
        "- cs_live_1, 102.60 USD",
        "http://go.shop.localhost/settings/destinations/anytrack",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A pending delivery that has time left is not counted.
    app.anytrack.answers([503]);
    sale(&app, "cs_live_2").await;
    app.deliver_due().await;
    app.advance(MINUTE * 60 * 6);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[1].starts_with("AnyTrack: 1 delivery (102.60 USD) expires"), "reminded");
    app.advance(MINUTE * 60 * 5 + MINUTE * 30);
    app.deliver_due().await;
    app.send_alerts().await;
    app.advance(MINUTE * 3);
    app.send_alerts().await;
    let last = texts(&slack).pop().unwrap();
    assert!(last.starts_with("AnyTrack: no delivery is about to expire."), "{last}");
    assert!(app.deliveries().await.iter().all(|found| found.state == "delivered"));
}

#[tokio::test]
async fn what_a_disabled_destination_holds_expires_too_unless_nobody_wants_to_know() {
    let (mut app, hook, _) = watched("webhook").await;
    app.leave_things_undone();
    that_expires(&app).await;
    let owner = app.owner().await;
    owner.save("/settings/destinations/anytrack/disable", &[]).await;
    sale(&app, "cs_live_1").await;
    app.advance(MINUTE * 60 * 13);
    let mut rules = RULES.to_vec();
    rules[4].1 = "0";
    owner.save(RULES_FORM, &rules).await;
    assert_eq!(app.send_alerts().await, 0, "turned off");
    rules[4].1 = "24";
    owner.save(RULES_FORM, &rules).await;
    assert_eq!(app.send_alerts().await, 1);
    let body: Value = serde_json::from_str(&hook.received()[0]).unwrap();
    let data = &body["data"];
    assert_eq!((&data["what"], &data["destination"]), (&"expiring".into(), &"anytrack".into()));
    assert_eq!((&data["until"], &data["deliveries"]), (&"2026-09-22T14:13:20Z".into(), &1.into()));
    assert_eq!(data["money"][0]["amount"], "102.60");
    assert_eq!(data["oldest"]["pending_since"], "2026-09-21T14:13:20Z");
    assert!(data["text"].as_str().unwrap().contains("It is disabled"), "{data}");
    // What was only just written goes out before anybody could read of it, though all of it expires within a day.
    owner.save("/settings/destinations/anytrack/enable", &[]).await;
    app.deliver_due().await;
    app.advance(MINUTE * 3);
    sale(&app, "cs_live_2").await;
    app.send_alerts().await;
    app.advance(MINUTE * 3);
    app.send_alerts().await;
    let open = "select count(*) from incidents where resolved_at_ms is null";
    assert_eq!(app.database.number(open).await, 0);
}

#[tokio::test]
async fn a_destination_that_refuses_a_share_is_told_of() {
    let (app, slack, _) = watched("slack").await;
    let owner = app.owner().await;
    let mut rules = RULES.to_vec();
    rules.retain(|(name, _)| *name != "given_up");
    owner.save(RULES_FORM, &rules).await;
    for number in 0..24 {
        // Never three refusals in a row.
        app.anytrack.answers([if number % 6 == 0 { 422 } else { 200 }]);
        sale(&app, &format!("cs_live_{number}")).await;
        app.deliver_due().await;
    }
    assert_eq!(app.send_alerts().await, 1);
    let text = texts(&slack).remove(0);
    assert!(
        text.starts_with("AnyTrack is failing: 4 of the last 24 attempts were not accepted."),
        "{text}"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_processed_is_told_of() {
    let (app, slack, _) = watched("slack").await;
    let mut event = Session::paid("cs_live_1").completed();
    event["data"]["object"]["amount_total"] = "much".into();
    app.stripe_processed(&event).await;
    assert_eq!(app.send_alerts().await, 1);
    let text = texts(&slack).remove(0);
    assert!(text.starts_with("1 event could not be processed."), "{text}");
    assert!(text.contains("http://go.shop.localhost/events?state=failed"), "{text}");
}

#[tokio::test]
async fn silence_of_stripe_and_payments_without_a_visit_are_told_of() {
    let (app, slack, _) = watched("slack").await;
    let owner = app.owner().await;
    let mut rules = RULES.to_vec();
    rules.retain(|(name, _)| *name != "slow_minutes");
    rules.push(("slow_minutes", "0"));
    owner.save(RULES_FORM, &rules).await;
    for number in 0..24 {
        app.advance(MINUTE * 60);
        let session = Session::paid(&format!("cs_live_{number}")).at(app.now().as_seconds());
        app.stripe_processed(&session.completed()).await;
    }
    app.deliver_due().await;
    app.send_alerts().await;
    let text = texts(&slack).remove(0);
    // Nobody came through a tagged page at all.
    assert!(
        text.contains("23 of 23 payments (2359.80 USD) of the last day have no visit"),
        "{text}"
    );
    app.advance(MINUTE * 5 * 60);
    assert_eq!(app.send_alerts().await, 0);
    app.advance(MINUTE * 75);
    app.send_alerts().await;
    let silent =
        texts(&slack).into_iter().filter(|text| text.contains("receives no Stripe events"));
    assert_eq!(silent.count(), 1, "{:?}", texts(&slack));
}

#[tokio::test]
async fn a_webhook_is_signed_and_what_is_owed_to_it_survives_a_restart() {
    let (app, hook, secret) = watched("webhook").await;
    hook.answers([500]);
    app.anytrack.answers([422]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 1);
    let app = app.restart(&[]).await;
    assert_eq!(app.send_alerts().await, 0, "not due yet");
    app.advance(MINUTE);
    assert_eq!(app.send_alerts().await, 1);
    app.advance(MINUTE * 60);
    assert_eq!(app.send_alerts().await, 0, "it was taken");
    let (bodies, headers) = (hook.received(), hook.headers());
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
    assert_eq!(headers[0]["webhook-id"], headers[1]["webhook-id"]);
    let webhook = standardwebhooks::Webhook::new(&secret).unwrap();
    let at: i64 = headers[1]["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    let id = headers[1]["webhook-id"].to_str().unwrap();
    let signature = webhook.sign(id, at, bodies[1].as_bytes()).unwrap();
    assert_eq!(headers[1]["webhook-signature"], signature);
    let body: Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!(body["type"], "alert.raised");
    let data = &body["data"];
    assert_eq!((&data["what"], &data["destination"]), (&"given_up".into(), &"anytrack".into()));
    assert_eq!((&data["reason"], &data["deliveries"]), (&"refused".into(), &1.into()));
    assert_eq!(data["money"][0]["amount"], "102.60");
    assert_eq!(data["conversions"][0]["transaction_id"], "cs_live_1");
    assert!(!bodies[0].contains("jenny"));
}

#[tokio::test]
async fn a_target_gets_no_more_than_it_may_and_never_what_is_over() {
    let (app, slack, _) = watched_with("slack", &[("CLICKSTAMP_RETRY_SCHEDULE", "10h")]).await;
    let owner = app.owner().await;
    let mut rules = RULES.to_vec();
    rules.retain(|(name, _)| *name != "per_hour");
    rules.push(("per_hour", "1"));
    owner.save(RULES_FORM, &rules).await;
    app.anytrack.answers([422, 500]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 1);
    sale(&app, "cs_live_2").await;
    app.deliver_due().await;
    app.advance(MINUTE * 20);
    assert_eq!(app.send_alerts().await, 0, "the hour is full");
    assert_eq!(
        app.database.number("select count(*) from incidents where resolved_at_ms is null").await,
        2
    );
    // The second problem ends before its alert was sent.
    app.advance(MINUTE * 20);
    let id = app.deliveries().await.into_iter().find(|found| found.state == "pending").unwrap().id;
    owner.save(&format!("/deliveries/{id}/retry"), &[]).await;
    app.deliver_due().await;
    app.send_alerts().await;
    app.advance(MINUTE * 3);
    app.send_alerts().await;
    app.advance(MINUTE * 60);
    assert_eq!(app.send_alerts().await, 0);
    assert_eq!(texts(&slack).len(), 1);
}

const MAIL: [(&str, &str); 5] = [
    ("host", "127.0.0.1"),
    ("security", "plain"),
    ("user", "ada"),
    ("password", "swordfish-77"),
    ("from", "alerts@shop.example"),
];

#[tokio::test]
async fn a_letter_goes_through_the_owners_mail_server() {
    let (app, mail) = (TestApp::owned(&[]).await, FakeMail::start().await);
    let owner = app.owner().await;
    let port = mail.port.to_string();
    let fields =
        [("kind", "email"), ("name", "Ada"), ("address", "ada@shop.example, ops@shop.example")];
    owner.save(RECIPIENTS, &fields).await;
    assert!(owner.page(HERE).await.contains("Emails wait about a day for a mail server"));
    app.anytrack.answers([422]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 1, "it is tried, and waits");
    let fields: Vec<_> = MAIL.into_iter().chain([("port", port.as_str())]).collect();
    owner.save(MAIL_SERVER, &fields).await;
    mail.answer("451 come again");
    app.advance(MINUTE);
    assert_eq!(app.send_alerts().await, 1);
    assert!(owner.page(HERE).await.contains("the mail server answered 451"));
    app.advance(MINUTE * 2);
    assert_eq!(app.send_alerts().await, 1);
    let received = mail.heard();
    for part in [
        "EHLO shop.example",
        "MAIL FROM:<alerts@shop.example>",
        "RCPT TO:<ada@shop.example>",
        "RCPT TO:<ops@shop.example>",
        "Subject: AnyTrack: 1 delivery (102.60 USD) failed",
        "- cs_live_1, 102.60 USD http://go.shop.localhost/conversions/cnv_",
        "Date: Mon, 21 Sep 2026 14:13:20",
    ] {
        assert!(received.contains(part), "{part}: {received}");
    }
    let ids: Vec<&str> = received.lines().filter(|line| line.starts_with("Message-ID:")).collect();
    assert!(ids.len() == 2 && ids[0] == ids[1], "a repeat can be recognized: {ids:?}");
    let page = owner.page(HERE).await;
    assert!(!page.contains("swordfish"), "a password is never shown again");
    // An empty password keeps the one that is set; for another server it does not.
    let fields: Vec<_> = MAIL
        .into_iter()
        .map(|(name, value)| if name == "password" { (name, "") } else { (name, value) })
        .chain([("port", port.as_str())])
        .collect();
    owner.save(MAIL_SERVER, &fields).await;
    let elsewhere: Vec<_> = fields
        .iter()
        .map(|(name, value)| if *name == "host" { (*name, "localhost") } else { (*name, *value) })
        .collect();
    let reply = owner.post(MAIL_SERVER, &elsewhere).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(reply.text().contains("Enter both user and password"));
}

#[tokio::test]
async fn a_mail_server_without_tls_hears_no_password() {
    let (app, mail) = (TestApp::owned(&[]).await, FakeMail::start().await);
    let owner = app.owner().await;
    let port = mail.port.to_string();
    let mut fields: Vec<_> = MAIL.into_iter().chain([("port", port.as_str())]).collect();
    fields[1] = ("security", "starttls");
    owner.save(MAIL_SERVER, &fields).await;
    owner
        .save(RECIPIENTS, &[("kind", "email"), ("name", "Ada"), ("address", "ada@shop.example")])
        .await;
    let id = app.database.texts("select id from alert_targets").await.remove(0);
    let reply = owner.post(&format!("{RECIPIENTS}/{id}/test"), &[]).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.text().contains("Not sent") && !reply.text().contains("swordfish"));
    assert!(
        !mail.heard().contains("AUTH") && !mail.heard().contains("MAIL FROM"),
        "{}",
        mail.heard()
    );
}

#[tokio::test]
async fn a_letter_goes_over_tls_to_a_server_that_somebody_vouches_for() {
    let trusting = [("CLICKSTAMP_SMTP_CA", MAIL_CERTIFICATE)];
    let unsafe_words = "no encrypted connection";
    let rows = [
        ("starttls", MailTls::OnDemand, "127.0.0.1", &trusting[..], None),
        ("tls", MailTls::FromTheStart, "localhost", &trusting[..], None),
        ("starttls", MailTls::OnDemand, "127.0.0.1", &[][..], Some(unsafe_words)),
        ("tls", MailTls::FromTheStart, "127.0.0.1", &[][..], Some(unsafe_words)),
        // Its certificate is for another address.
        ("starttls", MailTls::OnDemand, "127.0.0.2", &trusting[..], Some(unsafe_words)),
        ("tls", MailTls::FromTheStart, "127.0.0.2", &trusting[..], Some(unsafe_words)),
    ];
    for (security, tls, host, settings, fault) in rows {
        let case = format!("{security} {host} {settings:?}");
        let (app, mail) = (TestApp::owned(settings).await, FakeMail::speaking(tls).await);
        let owner = app.owner().await;
        let port = mail.port.to_string();
        let mut fields: Vec<_> = MAIL.into_iter().chain([("port", port.as_str())]).collect();
        (fields[0], fields[1]) = (("host", host), ("security", security));
        owner.save(MAIL_SERVER, &fields).await;
        let fields = [("kind", "email"), ("name", "Ada"), ("address", "ada@shop.example")];
        owner.save(RECIPIENTS, &fields).await;
        app.anytrack.answers([422]);
        sale(&app, "cs_live_1").await;
        app.deliver_due().await;
        assert_eq!(app.send_alerts().await, 1, "{case}");
        let (clear, private) = (mail.heard(), mail.heard_in_private());
        for word in ["AUTH", "MAIL FROM", "cs_live_1"] {
            assert!(!clear.contains(word), "{case}: {word} in the clear: {clear}");
            assert_eq!(private.contains(word), fault.is_none(), "{case}: {word}: {private}");
        }
        let state = app.database.texts("select state from alert_messages").await;
        let page = owner.page(HERE).await;
        match fault {
            None => assert_eq!(state, ["sent"], "{case}: {page}"),
            Some(words) => {
                assert_eq!(state, ["pending"], "{case}: it is tried again: {page}");
                assert!(page.contains(words), "{case}: {page}");
            }
        }
    }
}

#[tokio::test]
async fn a_test_shows_the_real_answer_and_is_kept_nowhere() {
    let (app, hook, _) = watched("slack").await;
    let owner = app.owner().await;
    let id = app.database.texts("select id from alert_targets").await.remove(0);
    hook.answer(200, "ok", None);
    let reply = owner.post(&format!("{RECIPIENTS}/{id}/test"), &[]).await;
    assert!(
        reply.text().contains("Accepted") && reply.text().contains("200 ok"),
        "{}",
        reply.text()
    );
    assert!(texts(&hook)[0].starts_with("This is a test alert from Clickstamp."));
    let url = hook.url.clone();
    hook.answer(404, &format!("no_service at {url}"), None);
    let reply = owner.post(&format!("{RECIPIENTS}/{id}/test"), &[]).await;
    assert!(reply.text().contains("it answered 404 no_service at ***"), "{}", reply.text());
    assert!(!reply.text().contains("slug-k7Qe"), "the address works like a password");
    assert_eq!(app.database.number("select count(*) from alert_messages").await, 0);
    // Disabled, it receives nothing; deleted, it is gone.
    owner.save(&format!("{RECIPIENTS}/{id}/disable"), &[]).await;
    app.anytrack.answers([422]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 0);
    owner.save(&format!("{RECIPIENTS}/{id}/enable"), &[]).await;
    assert_eq!(app.send_alerts().await, 1);
    owner.save(&format!("{RECIPIENTS}/{id}/delete"), &[]).await;
    assert_eq!(
        owner.post(&format!("{RECIPIENTS}/{id}/test"), &[]).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn an_alert_that_fails_raises_none() {
    let (app, hook, _) = watched("slack").await;
    hook.answers([404]);
    app.anytrack.answers([422]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(app.send_alerts().await, 1);
    app.advance(MINUTE * 60 * 24);
    assert_eq!(app.send_alerts().await, 0);
    let page = app.owner().await.page(HERE).await;
    assert!(page.contains("Failed") && page.contains("it answered 404"), "{page}");
}

/// A payment of this buyer with this click ID.
async fn bought(app: &TestApp, session: &str, click_id: &str, email: &str, customer: Option<&str>) {
    let buyer = json!({"customer_details": {"email": email}, "customer": customer});
    let session = Session::paid(session).reference(click_id).with(buyer);
    app.stripe_processed(&session.at(app.now().as_seconds()).completed()).await;
    app.deliver_due().await;
}

#[tokio::test]
async fn a_click_id_that_pays_for_several_customers_is_one_alert() {
    let (app, slack, _) = watched("slack").await;
    // One person with two addresses, who buys three times, and again under another name of the
    // same mailbox.
    let own = app.visit(PAGE).await;
    bought(&app, "cs_live_1", &own, "ada@example.com", Some("cus_1")).await;
    bought(&app, "cs_live_2", &own, "ada@work.example", Some("cus_1")).await;
    bought(&app, "cs_live_3", &own, "Ada+shop@example.com", None).await;
    // Two people, and a third one more than thirty days before.
    let shared = app.visit(PAGE).await;
    bought(&app, "cs_live_4", &shared, "old@example.com", None).await;
    app.advance(MINUTE * 60 * 24 * 31);
    for (session, email) in [("cs_live_5", "bob@example.com"), ("cs_live_6", "eve@example.com")] {
        bought(&app, session, &shared, email, None).await;
    }
    assert_eq!(app.send_alerts().await, 0, "each may be one person, or a couple");
    bought(&app, "cs_live_7", &shared, "zoe@example.com", None).await;
    assert_eq!(app.send_alerts().await, 1);
    assert_eq!(app.send_alerts().await, 0, "sent once");
    let text = texts(&slack).remove(0);
    for part in [
        ": 3 customers paid with the same click ID (307.80 USD).",
        "credited to the wrong visit",
        "- cs_live_7, 102.60 USD",
        &format!("http://go.shop.localhost/conversions?search={shared}"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('@'), "{text}");
    app.advance(MINUTE * 60 * 25);
    assert_eq!(app.send_alerts().await, 0, "it might come back");
    app.advance(MINUTE * 3);
    assert_eq!(app.send_alerts().await, 1);
    assert!(texts(&slack)[1].contains("no new payments with a click ID of several customers"));
}

/// Every box and number as it is by default.
const RULES: [(&str, &str); 13] = [
    ("held", "1"),
    ("given_up", "1"),
    ("events_failed", "1"),
    ("slow_minutes", "15"),
    ("expires_hours", "12"),
    ("refused_percent", "10"),
    ("failing_percent", "50"),
    ("silent_hours", "6"),
    ("unmatched_percent", "20"),
    ("shared_customers", "3"),
    ("digest_minutes", "15"),
    ("remind_hours", "6"),
    ("per_hour", "20"),
];

/// Checks that a field has this error beside it, and is marked and described by it.
fn assert_marked(page: &str, field: &str, said: &str) {
    let error = page.split(&format!("id=\"{field}-error\">")).nth(1);
    let error = error.and_then(|rest| rest.split("</p>").next()).unwrap_or_default();
    assert!(error.contains(said), "{field}, {said}: {page}");
    assert_eq!(page.matches("aria-invalid=\"true\"").count(), 1, "{field}: {page}");
    assert!(page.contains(&format!("{field}-error\" aria-invalid=\"true\"")), "{field}: {page}");
}

#[tokio::test]
async fn bad_input_is_refused_with_its_reason_and_nothing_is_kept() {
    let app = TestApp::owned(&[("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "false")]).await;
    let owner = app.owner().await;
    let add = |kind: &'static str, name: &'static str, address: &'static str| {
        [("kind", kind), ("name", name), ("address", address)]
    };
    let rows = [
        (
            add("slack", "Ops", "https://10.0.0.1/hunter2"),
            "is a private or local address",
            "address",
        ),
        (
            add("slack", "Ops", "http://hooks.slack.com/hunter2"),
            "The URL starts with http://",
            "address",
        ),
        (
            add("webhook", "Ops", "hunter2"),
            "Enter a complete URL that starts with https://.",
            "address",
        ),
        (add("webhook", "", "https://hooks.slack.com/x"), "Enter a name", "name"),
        (add("email", "Ops", "hunter2"), "Enter one email address", "address"),
        (add("email", "Ops", "a@b.example,,c@d.example"), "Enter one email address", "address"),
        (add("pigeon", "Ops", "a@b.example"), "Select Slack, webhook or email", "kind"),
    ];
    for (fields, said, field) in rows {
        let reply = owner.post(RECIPIENTS, &fields).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{fields:?}");
        assert_marked(reply.text(), field, said);
        for (_, value) in &fields[1..] {
            assert!(reply.text().contains(&format!("value=\"{value}\"")), "{value} is kept");
        }
    }
    assert_eq!(app.database.number("select count(*) from alert_targets").await, 0);
    let mail = |at: usize, value: &'static str| {
        let mut fields = MAIL.to_vec();
        fields.push(("port", "587"));
        fields[0] = ("host", "smtp.example.com");
        fields[1] = ("security", "starttls");
        fields[at].1 = value;
        fields
    };
    for (at, value, said) in [
        (0, "smtp example", "Enter the name of the mail server"),
        (1, "plain", "Without TLS, others could read the password"),
        (2, "", "Enter both user and password"),
        (4, "nobody", "Enter one email address as the sender"),
        (5, "0", "Enter the port"),
        (5, "99999", "Enter the port"),
    ] {
        let reply = owner.post(MAIL_SERVER, &mail(at, value)).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{at} {value}");
        let field = if at == 2 { "password" } else { mail(at, value)[at].0 };
        assert_marked(reply.text(), field, said);
        let kept = reply.text().contains(&format!("value=\"{value}\""));
        assert!(kept || field == "security", "{value} is kept");
        assert!(!reply.text().contains("swordfish"));
    }
    // A private mail server is refused when it is tried, too.
    let mut fields = mail(0, "127.0.0.1");
    fields[5] = ("port", "25");
    owner.save(MAIL_SERVER, &fields).await;
    owner.save(RECIPIENTS, &add("email", "Ada", "ada@shop.example")).await;
    let id = app.database.texts("select id from alert_targets").await.remove(0);
    let reply = owner.post(&format!("{RECIPIENTS}/{id}/test"), &[]).await;
    assert!(reply.text().contains("127.0.0.1 is a private or local address"), "{}", reply.text());

    for (at, value) in [
        (3, "-1"),
        (3, "often"),
        (4, "-1"),
        (4, "soon"),
        (4, "1.5"),
        (4, "10001"),
        (4, ""),
        (5, "101"),
        (11, ""),
    ] {
        let mut rules = RULES.to_vec();
        rules[at].1 = value;
        let reply = owner.post(RULES_FORM, &rules).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{at} {value}");
        assert_marked(reply.text(), RULES[at].0, "Enter a whole number from 0 to");
    }
    assert_eq!(
        owner.post(&format!("{RECIPIENTS}/alt_no/test"), &[]).await.status,
        StatusCode::NOT_FOUND
    );
    let stranger = app
        .send("POST", RULES_FORM, &[("content-type", "application/x-www-form-urlencoded")], "")
        .await;
    assert_eq!(stranger.status, StatusCode::SEE_OTHER, "only who is signed in may look");
}

/// What a row of the table below says.
struct Killed {
    place: &'static str,
    /// What the database says when the process is dead: the message's state, and whether somebody holds it.
    left: &'static [&'static str],
    /// Messages that the target saw before and after.
    seen: [usize; 2],
}

/// The real binary is killed with SIGKILL at each place between seeing a problem and having sent its alert: nothing that was decided is lost, and
/// what was cut off goes once more, as the same message.
#[tokio::test]
async fn an_alert_survives_a_kill_at_every_place() {
    let rows = [
        Killed { place: "alert_writing", left: &[], seen: [0, 1] },
        Killed { place: "alert_written", left: &["pending"], seen: [0, 1] },
        Killed { place: "alert_claimed", left: &["pending, leased"], seen: [0, 1] },
        Killed { place: "alert_answered", left: &["pending, leased"], seen: [1, 2] },
        Killed { place: "alert_settled", left: &["sent"], seen: [1, 1] },
    ];
    for Killed { place, left, seen } in rows {
        let hook = FakeDestination::start().await;
        let (database, anytrack) = troubled(&hook).await;
        let mut server = Server::halting_at(place, &database, &anytrack).await;
        server.says(&format!("halted at {place}")).await;
        server.kill().await;
        let state = "select state || case when claimed_until_ms is null then '' else ', leased' end from alert_messages";
        assert_eq!(database.texts(state).await, left, "{place}");
        assert_eq!(hook.received().len(), seen[0], "{place}");
        // After the lease two workers look at once; on PostgreSQL they are two processes.
        let later = Clock::manual(Clock::system().now().plus(MINUTE * 2));
        let app = TestApp::on(database, anytrack, later).await;
        let replica = app.replica().await;
        let other = replica.as_ref().unwrap_or(app.app());
        for _ in 0..3 {
            let (one, two) = tokio::join!(app.app().send_alerts(), other.send_alerts());
            one.and(two).expect("both look");
            app.advance(MINUTE);
        }
        let bodies = hook.received();
        assert_eq!(bodies.len(), seen[1], "{place}: {bodies:?}");
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{place}: the same message");
        assert!(bodies[0].contains("AnyTrack: 1 delivery (102.60 USD) failed"), "{place}");
        assert_eq!(app.database.texts("select state from alert_messages").await, ["sent"]);
        if let Some(replica) = replica {
            replica.close().await;
        }
    }
}

/// A database with one failed delivery, and a recipient that has no alert about it yet.
async fn troubled(hook: &FakeDestination) -> (Database, FakeDestination) {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    anytrack.answers([422]);
    let mut server = Server::start(&database, &anytrack).await;
    server.sale("cs_live_1").await;
    server.says("tried a delivery").await;
    assert!(server.stop().await);
    let pool = database.look().await;
    sqlx::query(
        "insert into alert_targets (id, kind, name, address, secret, enabled, created_at_ms)
         values ('alt_1', 'slack', 'Ops', $1, '', 1, 1)",
    )
    .bind(&hook.url)
    .execute(&pool)
    .await
    .expect("a target can be written");
    pool.close().await;
    (database, anytrack)
}

#[tokio::test]
async fn an_alert_that_kills_the_process_every_time_is_given_up_at_last() {
    let (app, slack, _) = watched("slack").await;
    app.anytrack.answers([422]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    slack.answers([503]);
    assert_eq!(app.send_alerts().await, 1);
    let pool = app.database.look().await;
    sqlx::query("update alert_messages set attempts = 10").execute(&pool).await.unwrap();
    pool.close().await;
    app.advance(MINUTE);
    assert_eq!(app.send_alerts().await, 0);
    assert_eq!(app.database.texts("select state from alert_messages").await, ["given_up"]);
    let page = app.owner().await.page(HERE).await;
    assert!(page.contains("no attempt ever finished"), "{page}");
    assert_eq!(slack.received().len(), 1);
}
