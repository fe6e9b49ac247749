//! Destinations: several of them, each with its conditions, message and log, through the
//! dashboard's forms.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::harness::{FakeDestination, Reaction, Session, TestApp};

const PAGE: &str =
    "https://www.shop.localhost/offer?utm_source=google&utm_campaign=spring&gclid=Cj0K";

/// Submits a form as a signed-in user; returns the page, or the one it redirects to.
async fn press(
    app: &TestApp,
    cookie: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> (StatusCode, String) {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("cookie", cookie),
        ("sec-fetch-site", "same-origin"),
    ];
    let reply = app.send("POST", path, &headers, body).await;
    (reply.status, reply.text().to_owned())
}

async fn sign_in(app: &TestApp) -> String {
    let fields = [("email", "owner@shop.localhost"), ("password", "correct horse battery")];
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let reply = app.send("POST", "/login", &headers, body).await;
    reply.header("set-cookie").split(';').next().expect("a cookie").to_owned()
}

async fn look(app: &TestApp, cookie: &str, path: &str) -> String {
    let reply = app.send("GET", path, &[("cookie", cookie)], "").await;
    assert_eq!(reply.status, StatusCode::OK, "{path}");
    reply.text().to_owned()
}

/// An app with a signed-in user, and a second destination beside AnyTrack.
async fn with_hook(preset: &str) -> (TestApp, String, FakeDestination) {
    let app = TestApp::start_with(&[
        ("CLICKSTAMP_ADMIN_EMAIL", "owner@shop.localhost"),
        ("CLICKSTAMP_ADMIN_PASSWORD", "correct horse battery"),
    ])
    .await;
    let cookie = sign_in(&app).await;
    let hook = FakeDestination::start().await;
    let fields = [("name", "My Hook"), ("url", hook.url.as_str()), ("preset", preset)];
    let (status, text) = press(&app, &cookie, "/settings/destinations", &fields).await;
    // Only a program of one's own has a place for the secret that is shown once.
    let expected = if preset == "webhook" { StatusCode::OK } else { StatusCode::SEE_OTHER };
    assert_eq!(status, expected, "{text}");
    assert_eq!(text.contains("whsec_"), preset == "webhook", "{text}");
    (app, cookie, hook)
}

async fn sale(app: &TestApp, session: &str) -> String {
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid(session).reference(&click_id).completed()).await;
    click_id
}

const HERE: &str = "/settings/destinations/my-hook";

/// Every box that is ticked when nobody changed anything.
const TICKED: [(&str, &str); 5] = [
    ("name", "My Hook"),
    ("sends_purchases", "1"),
    ("sends_renewals", "1"),
    ("sends_unmatched", "1"),
    ("falls_back_to_our_click_id", "1"),
];

#[tokio::test]
async fn a_webhook_gets_the_conversion_as_the_api_shows_it_signed() {
    let (app, _, hook) = with_hook("webhook").await;
    sale(&app, "cs_live_1").await;
    assert_eq!(app.deliver_due().await, 2, "AnyTrack and the hook");
    let body: serde_json::Value = serde_json::from_str(&hook.received()[0]).unwrap();
    let mut shown = app.api("/api/v1/conversions").await["data"][0].clone();
    shown.as_object_mut().unwrap().remove("deliveries");
    assert_eq!((body["type"].as_str(), &body["data"]), (Some("conversion.purchase"), &shown));
    let secret = app
        .database
        .texts("select secrets from destinations where key = 'my-hook'")
        .await
        .remove(0);
    let headers = hook.headers().remove(0);
    let id = headers["webhook-id"].to_str().unwrap();
    assert!(app.deliveries().await.iter().any(|found| found.id == id));
    let at: i64 = headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
    assert_eq!(at, app.now().as_seconds());
    let webhook = standardwebhooks::Webhook::new(&secret).unwrap();
    let signature = webhook.sign(id, at, hook.received()[0].as_bytes()).unwrap();
    assert_eq!(headers["webhook-signature"], signature);
}

#[tokio::test]
async fn a_slow_destination_delays_no_other() {
    let (app, _, hook) = with_hook("webhook").await;
    let holds: Vec<_> = (0..4).map(|_| hook.hold()).collect();
    for number in 0..10 {
        sale(&app, &format!("cs_live_{number}")).await;
    }
    let working = app.deliver_due();
    let watching = async {
        // All four requests to the hook hang; AnyTrack still gets all ten.
        for _ in 0..10 {
            app.anytrack.asked().await;
        }
        assert!(hook.received().len() <= 4);
        holds.iter().for_each(|hold| hold.notify_one());
    };
    let (attempts, ()) = tokio::join!(working, watching);
    assert_eq!((attempts, hook.received().len()), (20, 10));
}

#[tokio::test]
async fn rows_make_the_message_and_wrong_ones_are_refused_with_their_place() {
    let (app, cookie, hook) = with_hook("zapier").await;
    let mut fields = TICKED.to_vec();
    fields.extend([("message", "rows"), ("encoding", "json")]);
    let wrong = [
        ("field_0", "mail"),
        ("kind_0", "text"),
        ("expression_0", "conversion.emial"),
        ("on_0", "1"),
    ];
    let (status, page) =
        press(&app, &cookie, HERE, &[fields.clone(), wrong.to_vec()].concat()).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        page.contains("did you mean conversion.email?")
            && page.contains("<mark>conversion.emial</mark>"),
        "{page}"
    );
    let bad = [
        ("{% for x in y %}", "text"),
        ("conversion.amount_minor / 100", "number"),
        ("'x' * 100000000", "text"),
        ("conversion.email | shout", "text"),
        ("(", "text"),
    ];
    for (expression, kind) in bad {
        let row = [("field_0", "a"), ("kind_0", kind), ("expression_0", expression), ("on_0", "1")];
        let (status, _) =
            press(&app, &cookie, HERE, &[fields.clone(), row.to_vec()].concat()).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{expression}");
    }
    let right = [
        ("field_0", "sum"),
        ("kind_0", "number"),
        ("expression_0", "conversion.value"),
        ("on_0", "1"),
        ("field_1", "ad"),
        ("kind_1", "text"),
        ("expression_1", "visit.gclid"),
        ("on_1", "1"),
        ("field_2", "nothing"),
        ("kind_2", "text"),
        ("expression_2", "visit.ttclid"),
        ("on_2", "1"),
    ];
    let (status, page) = press(&app, &cookie, HERE, &[fields, right.to_vec()].concat()).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(hook.received(), [r#"{"sum":102.60,"ad":"Cj0K"}"#]);
    // The earlier rows come back on demand.
    let (status, _) = press(&app, &cookie, &format!("{HERE}/restore"), &[("revision", "1")]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    sale(&app, "cs_live_2").await;
    app.deliver_due().await;
    assert!(hook.received()[1].contains(r#""utm_campaign":"spring""#), "{}", hook.received()[1]);
}

#[tokio::test]
async fn a_mapping_that_fails_fails_the_delivery_and_a_rebuild_fixes_it() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let pool = app.database.look().await;
    let broken =
        r#"{"rows":[{"field":"n","kind":"integer","expression":"conversion.email","is_on":true}]}"#;
    sqlx::query("update destinations set options = $1 where key = 'my-hook'")
        .bind(broken)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    app.app().state().settings.reload(&app.app().state().store).await.unwrap();
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    let found = app.deliveries().await.into_iter().find(|found| found.reason.is_some()).unwrap();
    assert_eq!(
        (found.state.as_str(), found.reason.as_deref()),
        ("given_up", Some("mapping_error"))
    );
    let page = look(&app, &cookie, &format!("/deliveries/{}", found.id)).await;
    assert!(
        page.contains("The mapping of “n” fails") && page.contains("is not a whole number"),
        "{page}"
    );
    let mut fields = TICKED.to_vec();
    fields.push(("message", "standard"));
    assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    let (status, _) = press(&app, &cookie, &format!("/deliveries/{}/rebuild", found.id), &[]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    assert!(hook.received()[0].contains("cs_live_1"));
    // Once more only for somebody who says so, and with both bodies kept.
    let path = format!("/deliveries/{}/rebuild", found.id);
    assert_eq!(press(&app, &cookie, &path, &[]).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(press(&app, &cookie, &path, &[("sure", "1")]).await.0, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    assert_eq!(hook.received()[0], hook.received()[1]);
}

#[tokio::test]
async fn a_disabled_destination_receives_its_queued_messages_when_enabled() {
    let (app, cookie, hook) = with_hook("webhook").await;
    sale(&app, "cs_live_1").await;
    assert_eq!(
        press(&app, &cookie, &format!("{HERE}/disable"), &[]).await.0,
        StatusCode::SEE_OTHER
    );
    sale(&app, "cs_live_2").await;
    app.deliver_due().await;
    assert_eq!((hook.received().len(), app.anytrack.received().len()), (0, 2));
    let held = app.deliveries().await.iter().filter(|found| found.state == "held").count();
    assert_eq!(held, 2);
    assert!(look(&app, &cookie, HERE).await.contains("2 deliveries paused; nothing is lost"));
    assert_eq!(press(&app, &cookie, &format!("{HERE}/enable"), &[]).await.0, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 2);
}

#[tokio::test]
async fn queued_messages_of_a_deleted_destination_fail_visibly() {
    let (app, cookie, hook) = with_hook("webhook").await;
    sale(&app, "cs_live_1").await;
    assert_eq!(
        press(&app, &cookie, &format!("{HERE}/delete"), &[]).await.0,
        StatusCode::BAD_REQUEST
    );
    let (status, _) = press(&app, &cookie, &format!("{HERE}/delete"), &[("sure", "1")]).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 0);
    let reasons =
        app.database.texts("select reason from deliveries where state = 'given_up'").await;
    assert_eq!(reasons, ["destination_deleted"]);
    let url = app.database.texts("select url from destinations where key = 'my-hook'").await;
    assert_eq!(url, [""], "its secrets are gone");
}

#[tokio::test]
async fn past_conversions_are_offered_and_sent_only_on_request() {
    let app = TestApp::start_with(&[
        ("CLICKSTAMP_ADMIN_EMAIL", "owner@shop.localhost"),
        ("CLICKSTAMP_ADMIN_PASSWORD", "correct horse battery"),
    ])
    .await;
    let cookie = sign_in(&app).await;
    sale(&app, "cs_live_old").await;
    app.deliver_due().await;
    app.advance(Duration::from_secs(3600));
    let hook = FakeDestination::start().await;
    let fields = [("name", "My Hook"), ("url", hook.url.as_str()), ("preset", "webhook")];
    assert_eq!(press(&app, &cookie, "/settings/destinations", &fields).await.0, StatusCode::OK);
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 0);
    let page = look(&app, &cookie, HERE).await;
    assert!(page.contains("1 matched conversion ($102.60) of the last 30 days"), "{page}");
    for _ in 0..2 {
        let pressed = press(&app, &cookie, &format!("{HERE}/past"), &[("days", "30")]).await;
        assert_eq!(pressed.0, StatusCode::SEE_OTHER);
    }
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 1, "once, however often it is asked for");
}

/// More of them than one transaction takes, and each once.
#[tokio::test]
async fn many_past_conversions_are_queued_in_few_transactions() {
    let app = TestApp::start_with(&[
        ("CLICKSTAMP_ADMIN_EMAIL", "owner@shop.localhost"),
        ("CLICKSTAMP_ADMIN_PASSWORD", "correct horse battery"),
    ])
    .await;
    let (cookie, click_id) = (sign_in(&app).await, app.visit(PAGE).await);
    for number in 0..130 {
        let paid = Session::paid(&format!("cs_live_{number:03}")).reference(&click_id).completed();
        assert_eq!(app.stripe(&paid).await.status, StatusCode::OK);
    }
    app.process_events().await;
    app.deliver_due().await;
    app.advance(Duration::from_secs(3600));
    let hook = FakeDestination::start().await;
    let fields = [("name", "My Hook"), ("url", hook.url.as_str()), ("preset", "webhook")];
    assert_eq!(press(&app, &cookie, "/settings/destinations", &fields).await.0, StatusCode::OK);
    let pressed = press(&app, &cookie, &format!("{HERE}/past"), &[("days", "30")]).await;
    assert_eq!(pressed.0, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    let bodies: std::collections::BTreeSet<_> = hook.received().into_iter().collect();
    assert_eq!((hook.received().len(), bodies.len()), (130, 130));
    assert!(look(&app, &cookie, HERE).await.contains("No matched conversions of"), "none is left");
}

#[tokio::test]
async fn failed_deliveries_are_counted_with_their_money_and_resent_by_reason() {
    let (app, cookie, hook) = with_hook("webhook").await;
    hook.answers([400, 400]);
    sale(&app, "cs_live_1").await;
    sale(&app, "cs_live_2").await;
    app.deliver_due().await;
    let page = look(&app, &cookie, HERE).await;
    assert!(page.contains("2 deliveries ($205.20)"), "{page}");
    let retry = format!("{HERE}/retry");
    let wrong = [("reason", "exhausted"), ("days", "30")];
    press(&app, &cookie, &retry, &wrong).await;
    assert_eq!(app.deliver_due().await, 0);
    let right = [("reason", "refused"), ("days", "30")];
    press(&app, &cookie, &retry, &right).await;
    assert_eq!(app.deliver_due().await, 2);
    let log = look(&app, &cookie, "/deliveries?destination=my-hook&state=delivered").await;
    assert_eq!(log.matches("/deliveries/dlv_").count() / 2, 1, "{log}");
}

#[tokio::test]
async fn a_postback_appends_its_parameters_and_headers_stay_secret() {
    let (app, cookie, hook) = with_hook("postback").await;
    let mut fields = TICKED.to_vec();
    fields.extend([
        ("message", "rows"),
        ("encoding", "query"),
        ("headers", "X-Key: hunter2-secret"),
    ]);
    fields.extend([
        ("field_0", "tx"),
        ("kind_0", "text"),
        ("expression_0", "conversion.transaction_id"),
        ("on_0", "1"),
    ]);
    assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(hook.queries(), ["tx=cs_live_1"]);
    assert_eq!(hook.headers()[0]["x-key"], "hunter2-secret");
    let delivery =
        app.deliveries().await.into_iter().find(|found| found.request.starts_with("tx=")).unwrap();
    for path in [HERE.to_owned(), format!("/deliveries/{}", delivery.id)] {
        let page = look(&app, &cookie, &path).await;
        assert!(
            page.contains("x-key: ***") && !page.contains("hunter2") && !page.contains("slug-k7Qe"),
            "{path}"
        );
    }
    // The name alone, or its stars, keep the value.
    fields.retain(|(name, _)| *name != "headers");
    fields.push(("headers", "x-key: ***"));
    assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    sale(&app, "cs_live_2").await;
    app.deliver_due().await;
    assert_eq!(hook.headers()[1]["x-key"], "hunter2-secret");
}

#[tokio::test]
async fn invalid_forms_change_nothing_and_explain_why() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let rows = [
        ("name", "", "A destination needs a name"),
        ("url", "https://user:pw@example.com/", "user name or password"),
        ("minimum_value", "ten", "Enter an amount such as 10"),
        ("max_age_days", "soon", "Enter a whole number from 1 to 3650"),
        ("max_age_days", "0", "Enter a whole number from 1 to 3650"),
        ("at_a_time", "65", "Enter a whole number from 1 to 64"),
        ("rate", "-1", "Enter a whole number; 0 means no limit"),
        ("retry_also", "4x", "Enter status codes from 100 to 599"),
        ("headers", "host: elsewhere", "Clickstamp sets the header host"),
        ("headers", "webhook-id: 1", "Clickstamp sets the header webhook-id"),
        ("headers", "no header: at all", "Write each header as Name: value"),
    ];
    for (name, value, said) in rows {
        let mut fields = TICKED.to_vec();
        fields.retain(|(known, _)| *known != name);
        fields.push((name, value));
        let (status, page) = press(&app, &cookie, HERE, &fields).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert!(page.contains(said), "{name}: {page}");
    }
    let anytrack = [
        TICKED.to_vec(),
        vec![
            ("message", "rows"),
            ("field_0", "value"),
            ("expression_0", "conversion.value"),
            ("kind_0", "number"),
            ("on_0", "1"),
        ],
    ]
    .concat();
    let (status, page) = press(&app, &cookie, "/settings/destinations/anytrack", &anytrack).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    for said in [
        "a field clickid, ref_id or email",
        "a field transaction_id",
        "a field event_name",
        "A value needs a field currency",
    ] {
        assert!(page.contains(said), "{said}");
    }
    assert!(page.contains("rows-error\" aria-invalid=\"true\""), "{page}");
    for (path, fields, expected) in [
        ("/settings/destinations/my-hook/dance", vec![], StatusCode::NOT_FOUND),
        ("/settings/destinations/my-hook/restore", vec![("revision", "99")], StatusCode::NOT_FOUND),
        ("/settings/destinations/nobody", vec![], StatusCode::NOT_FOUND),
        ("/settings/destinations/nobody/test", vec![], StatusCode::NOT_FOUND),
        ("/settings/destinations/anytrack/delete", vec![("sure", "1")], StatusCode::CONFLICT),
        ("/deliveries/dlv_none/rebuild", vec![], StatusCode::NOT_FOUND),
        (
            "/settings/destinations",
            vec![("name", "x"), ("url", "ftp://x"), ("preset", "webhook")],
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        assert_eq!(press(&app, &cookie, path, &fields).await.0, expected, "{path} {fields:?}");
    }
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 1, "it works as before");
}

#[tokio::test]
async fn a_new_webhooks_secret_is_shown_once() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let fields = [("name", "Other"), ("url", hook.url.as_str()), ("preset", "webhook")];
    let (_, page) = press(&app, &cookie, "/settings/destinations", &fields).await;
    let secret =
        app.database.texts("select secrets from destinations where key = 'other'").await.remove(0);
    assert!(secret.starts_with("whsec_") && page.contains(&secret), "{page}");
    let again = look(&app, &cookie, "/settings/destinations/other").await;
    assert!(!again.contains("whsec_"));
}

#[tokio::test]
async fn a_test_conversion_is_sent_once_and_counts_nowhere() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let (_, page) = press(&app, &cookie, &format!("{HERE}/test"), &[]).await;
    assert!(page.contains("Accepted") && page.contains("Response: 200 OK"), "{page}");
    let body: serde_json::Value = serde_json::from_str(&hook.received()[0]).unwrap();
    let transaction = body["data"]["transaction_id"].as_str().unwrap();
    assert!(transaction.starts_with("test_") && page.contains(transaction), "{page}");
    assert_eq!(
        (&body["data"]["livemode"], &body["data"]["amount"]),
        (&false.into(), &"1.00".into())
    );
    assert_eq!(hook.headers()[0]["webhook-id"], transaction);
    assert!(hook.headers()[0].contains_key("webhook-signature"));
    assert!(app.deliveries().await.is_empty() && app.conversions().await.is_empty());
    assert_eq!(app.deliver_due().await, 0);
    assert_eq!(hook.received().len(), 1, "once");
}

#[tokio::test]
async fn a_test_shows_what_went_wrong_and_hides_our_secrets() {
    let (app, cookie, _hook) = with_hook("webhook").await;
    let url = app.anytrack.url.clone();
    app.anytrack.answer(400, &format!("<b>no match found</b> at {url}"), None);
    app.anytrack.reacts([Reaction::Cut]);
    let path = "/settings/destinations/anytrack";
    let (status, page) = press(&app, &cookie, &format!("{path}/test"), &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Rejected") && page.contains("Response: 400 Bad Request"), "{page}");
    assert!(page.contains("no match found&#60;/b&#62; at ***"), "{page}");
    let (_, page) = press(&app, &cookie, &format!("{path}/test"), &[]).await;
    assert!(page.contains("Temporary error") && page.contains("No response"), "{page}");
    let ids: Vec<_> = app.anytrack.received();
    assert!(ids.len() == 2 && ids[0] != ids[1], "each test is a transaction of its own");
    assert_eq!(
        app.database.number("select count(*) from breakers").await,
        0,
        "a test does not affect its health"
    );
}

#[tokio::test]
async fn the_api_shows_the_state_of_a_destination() {
    let mut app = TestApp::start().await;
    app.leave_things_undone();
    let fields = async || {
        let found = app.api("/api/v1/destinations").await["data"][0].clone();
        ["success_rate", "pending", "oldest_pending_at"].map(|name| found[name].clone())
    };
    assert_eq!(fields().await, [json!(null), json!(0), json!(null)]);
    app.anytrack.answers([200, 400]);
    for session in ["cs_live_1", "cs_live_2"] {
        sale(&app, session).await;
        app.deliver_due().await;
    }
    sale(&app, "cs_live_3").await;
    assert_eq!(fields().await, [json!(0.5), json!(1), json!("2026-09-21T14:13:20Z")]);
}

#[tokio::test]
async fn rows_can_read_the_event_as_stripe_sent_it() {
    let (app, cookie, hook) = with_hook("zapier").await;
    let mut fields = TICKED.to_vec();
    fields.extend([("message", "rows"), ("encoding", "json")]);
    let rows = [
        ("field_0", "size"),
        ("kind_0", "text"),
        ("expression_0", "stripe.data.object.custom_fields[0].text.value"),
        ("on_0", "1"),
        ("field_1", "type"),
        ("kind_1", "text"),
        ("expression_1", "stripe.type"),
        ("on_1", "1"),
        ("field_2", "nothing"),
        ("kind_2", "text"),
        ("expression_2", "stripe.data.object.not_there.further"),
        ("on_2", "1"),
    ];
    let all = [&fields[..], &rows[..], &[("sample", "sample")]].concat();
    let (status, page) = press(&app, &cookie, &format!("{HERE}/preview"), &all).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("&#34;size&#34;:&#34;M&#34;"), "tried on the made-up one: {page}");
    assert!(page.contains("stripe.data.object.locale"), "the names are offered");
    let (status, page) = press(&app, &cookie, HERE, &[fields, rows.to_vec()].concat()).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    let fields = json!([{"key": "size", "type": "text", "text": {"value": "XL"}}]);
    let session = Session::paid("cs_live_1").with(json!({"custom_fields": fields}));
    app.stripe_processed(&session.completed()).await;
    app.deliver_due().await;
    assert_eq!(hook.received(), [r#"{"size":"XL","type":"checkout.session.completed"}"#]);
    // A loop, a misspelt root and a huge text are refused, and nothing is saved.
    for wrong in ["strpe.type", "stripe.data.object.id * 100000000", "[x for x in stripe]"] {
        let mut fields = TICKED.to_vec();
        fields.extend([("message", "rows"), ("field_0", "a"), ("kind_0", "text"), ("on_0", "1")]);
        fields.push(("expression_0", wrong));
        let (status, page) = press(&app, &cookie, HERE, &fields).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        assert!(page.contains("id=\"fault-0\""), "{wrong}: the error is shown at the field");
    }
    let revision = app.database.number("select revision from destinations where key = 'my-hook'");
    assert_eq!(revision.await, 2);
}

#[tokio::test]
async fn a_destination_receives_the_conversions_of_its_selected_sites() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let site = [("name", "Second"), ("key", "second")];
    assert_eq!(press(&app, &cookie, "/settings/sites", &site).await.0, StatusCode::SEE_OTHER);
    let mut fields = TICKED.to_vec();
    fields.extend([("message", "standard"), ("names_sites", "1")]);
    let (status, page) = press(&app, &cookie, HERE, &fields).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.contains("Select at least one site"), "{page}");
    fields.push(("site_second", "1"));
    assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    let reasons = app.database.texts("select reason from deliveries where state = 'skipped'").await;
    assert_eq!((reasons.as_slice(), hook.received().len()), (&["site_off".to_owned()][..], 0));
    let id = app.database.texts("select id from conversions").await.remove(0);
    let journey = look(&app, &cookie, &format!("/conversions/{id}")).await;
    assert!(journey.contains("this site is turned off for the destination"), "{journey}");
    // The other site's payments come, though the destination is not its own.
    let secret = [("value", crate::harness::SECRET)];
    let path = "/settings/sources/second/secrets?site=second";
    assert_eq!(press(&app, &cookie, path, &secret).await.0, StatusCode::SEE_OTHER);
    let body = Session::paid("cs_live_2").completed().to_string().into_bytes();
    let signature = crate::harness::sign(crate::harness::SECRET, app.now().as_seconds(), &body);
    let headers = [("stripe-signature", signature.as_str())];
    let reply = app.send("POST", "/webhooks/stripe/second", &headers, body).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 1);
    assert!(hook.received()[0].contains(r#""site":"second""#), "{}", hook.received()[0]);
}

/// The text inside the first element with this label, as a browser would show it.
fn shown(page: &str, label: &str) -> String {
    let at = page.find(&format!("aria-label=\"{label}\"")).unwrap_or_else(|| panic!("{page}"));
    let text = page[at..].split_once('>').expect("a tag's end").1;
    let text = text.split_once("</pre>").expect("an end").0;
    let entities =
        [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    entities.iter().fold(text.to_owned(), |text, (entity, sign)| text.replace(entity, sign))
}

#[tokio::test]
async fn the_curl_command_sends_the_same_bytes_from_a_shell() {
    let hostile = "it's $(id) `id` \"q\" \\ %0a\n@file ü漢🎈 !! ~ * <b>&amp;";
    for (preset, encoding) in [("zapier", "json"), ("zapier", "form"), ("postback", "query")] {
        let (app, cookie, hook) = with_hook(preset).await;
        let mut fields = TICKED.to_vec();
        fields.extend([
            ("message", "rows"),
            ("encoding", encoding),
            ("headers", "Authorization: Bearer $(id) 'x'\n1-2: two"),
            ("field_0", "@it's a \"field\""),
            ("kind_0", "text"),
            ("expression_0", "payment.name"),
            ("on_0", "1"),
        ]);
        assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
        let customer = json!({"email": "jenny.rosen@example.com", "name": hostile});
        let session = Session::paid("cs_live_1").with(json!({"customer_details": customer}));
        app.stripe_processed(&session.completed()).await;
        app.deliver_due().await;
        let id = app
            .database
            .texts(
                "select d.id from deliveries d join destinations t on t.id = d.destination_id where t.key = 'my-hook'",
            )
            .await
            .remove(0);
        let page = look(&app, &cookie, &format!("/deliveries/{id}")).await;
        let command = shown(&page, "As a curl command");
        assert!(!command.contains("Bearer") && !command.contains("k7Qe"), "{command}");
        let ran = tokio::process::Command::new("bash")
            .args(["-c", &format!("{command} --silent --noproxy '*'")])
            .env("URL", &hook.url)
            .env("HEADER_AUTHORIZATION", "Bearer $(id) 'x'")
            .env("HEADER_1_2", "two")
            .output()
            .await
            .expect("bash and curl are there");
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
        let (bodies, queries, headers) = (hook.received(), hook.queries(), hook.headers());
        assert_eq!(bodies.len(), 2, "{command}");
        assert_eq!((&bodies[0], &queries[0]), (&bodies[1], &queries[1]), "{command}");
        assert!(!bodies[0].is_empty() || !queries[0].is_empty());
        for name in ["authorization", "1-2", "content-type"] {
            assert!(
                encoding == "query" || headers[0][name] == headers[1][name],
                "{name}: {command}"
            );
        }
    }
}

#[tokio::test]
async fn conversions_without_consent_are_not_sent_where_consent_is_required() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let save = async |choice: &'static str| {
        let fields = [TICKED.to_vec(), vec![("message", "standard"), ("consent", choice)]].concat();
        assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    };
    // What the tag of a page that asks sends, it sends after a yes, and to an address of its own.
    let pay = async |session: &'static str, door: &'static str| {
        let click_id = app.mint().await;
        let body = json!({"s": "main", "i": click_id, "t": app.now().as_ms(), "u": PAGE});
        let reply =
            app.send("POST", door, &[("content-type", "text/plain")], body.to_string()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text());
        app.stripe_processed(&Session::paid(session).reference(&click_id).completed()).await;
        app.deliver_due().await;
    };
    save("skip").await;
    pay("cs_live_1", "/v").await;
    pay("cs_live_2", "/v?fixed").await;
    app.stripe_processed(&Session::paid("cs_live_3").completed()).await;
    app.deliver_due().await;
    assert!(hook.received().is_empty(), "{:?}", hook.received());
    let reasons = app.database.texts("select reason from deliveries where state = 'skipped'").await;
    assert_eq!(reasons, ["no_consent"; 3]);
    let id = app
        .database
        .texts("select id from conversions where transaction_id = 'cs_live_1'")
        .await
        .remove(0);
    let journey = look(&app, &cookie, &format!("/conversions/{id}")).await;
    assert!(journey.contains("the visitor gave no consent"), "{journey}");
    let log = look(&app, &cookie, "/deliveries?reason=no_consent").await;
    assert!(log.contains("Not sent: the visitor gave no consent"), "{log}");
    pay("cs_live_4", "/v?asks").await;
    assert_eq!(hook.received().len(), 1);
    assert!(hook.received()[0].contains("jenny.rosen"));
    // A softer choice sends the sale, but not the person.
    save("without_personal").await;
    pay("cs_live_5", "/v").await;
    pay("cs_live_6", "/v?fixed&asks").await;
    let told = hook.received();
    assert!(told[1].contains("cs_live_5") && !told[1].contains("jenny"), "{}", told[1]);
    assert!(told[2].contains("cs_live_6") && told[2].contains("jenny.rosen"), "{}", told[2]);
    let all = app.api("/api/v1/destinations").await["data"].clone();
    let shown = all.as_array().unwrap().iter().find(|found| found["key"] == "my-hook").unwrap();
    assert_eq!(shown["consent"], "without_personal");
    assert_eq!(shown["sites"], json!(["main"]));
    assert_eq!(shown["kinds"], json!(["purchase", "renewal"]));
}

#[tokio::test]
async fn a_message_that_was_not_accepted_in_time_fails_and_can_be_resent() {
    let (app, cookie, hook) = with_hook("webhook").await;
    let fields = [TICKED.to_vec(), vec![("message", "standard"), ("expires_days", "2")]].concat();
    assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    assert_eq!(
        press(&app, &cookie, &format!("{HERE}/disable"), &[]).await.0,
        StatusCode::SEE_OTHER
    );
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    let held = app.api("/api/v1/deliveries?state=held").await["data"][0].clone();
    assert_eq!(held["expires_at"], "2026-09-23T14:13:20Z");
    let its_page = format!("/deliveries/{}", held["id"].as_str().unwrap());
    let journey = format!("/conversions/{}", held["conversion_id"].as_str().unwrap());
    app.advance(Duration::from_secs(42 * 3600 + 120));
    for path in ["/deliveries?state=held", &its_page, &journey] {
        let page = look(&app, &cookie, path).await;
        assert!(page.contains("expires in 5 hours 58 minutes"), "{path}: {page}");
    }
    app.advance(Duration::from_secs(6 * 3600));
    assert!(look(&app, &cookie, &its_page).await.contains("It expired ("));
    assert_eq!(press(&app, &cookie, &format!("{HERE}/enable"), &[]).await.0, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    assert!(hook.received().is_empty());
    let given_up = "select id from deliveries where state = 'given_up' and reason = 'expired'";
    let id = app.database.texts(given_up).await.remove(0);
    let page = look(&app, &cookie, &format!("/deliveries/{id}")).await;
    assert!(page.contains("it expired before it was accepted"), "{page}");
    let pressed = press(&app, &cookie, &format!("/deliveries/{id}/retry"), &[]).await;
    assert_eq!(pressed.0, StatusCode::SEE_OTHER);
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 1, "a user asked for it, so its age is ignored");
    // A refund is news from when it came, not from when the payment was.
    let fields = [&fields[..], &[("sends_refunds", "1")]].concat();
    assert_eq!(press(&app, &cookie, HERE, &fields).await.0, StatusCode::SEE_OTHER);
    for (text, reason) in
        [("0", "Stop retrying after (days)"), ("3651", "Stop retrying after (days)")]
    {
        let wrong = [TICKED.to_vec(), vec![("expires_days", text)]].concat();
        let (status, page) = press(&app, &cookie, HERE, &wrong).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        assert!(page.contains(reason), "{page}");
    }
}

#[tokio::test]
async fn pages_show_that_messages_wait_for_a_destination_that_is_down() {
    let mut app = TestApp::owned(&[]).await;
    app.leave_things_undone();
    app.anytrack.answers([404; 4]);
    for number in 0..6 {
        sale(&app, &format!("cs_live_{number}")).await;
    }
    app.deliver_due().await;
    let waiting = app.api("/api/v1/deliveries?state=pending").await["data"][0].clone();
    let (id, conversion) = (&waiting["id"], &waiting["conversion_id"]);
    let (id, conversion) = (id.as_str().unwrap(), conversion.as_str().unwrap());
    let owner = app.owner().await;
    let list = owner.page("/deliveries").await;
    assert!(list.contains("when the destination recovers") && list.contains("Failing: "), "{list}");
    let page = owner.page(&format!("/deliveries/{id}")).await;
    assert!(page.contains("AnyTrack has accepted nothing since <time"), "{page}");
    assert!(!page.contains("The next attempt is"), "{page}");
    let journey = owner.page(&format!("/conversions/{conversion}")).await;
    assert!(journey.contains("AnyTrack has accepted nothing since 14:13."), "{journey}");
    // It is fixed, and a resend does not wait for the next probe. A refused probe stays the only
    // one.
    let bulk = [("reason", "refused"), ("days", "30")];
    for _ in app.anytrack.received().len()..4 {
        owner.save("/settings/destinations/anytrack/retry", &bulk).await;
        assert_eq!(app.deliver_due().await, 1, "a probe");
        assert_eq!(app.deliver_due().await, 0, "and no second one");
    }
    owner.save("/settings/destinations/anytrack/retry", &bulk).await;
    app.deliver_due().await;
    assert!(app.deliveries().await.iter().all(|found| found.state == "delivered"));
}

#[tokio::test]
async fn a_resend_returns_to_the_same_page() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    app.anytrack.answers([422; 4]);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    let id = app.delivery().await.id;
    let (list, path) = ("/deliveries?state=given_up&reason=refused", format!("/deliveries/{id}"));
    let retry = format!("{path}/retry");
    for page in [list, &path] {
        let text = owner.page(page).await;
        let form = text.find(&format!("action=\"{retry}\"")).map(|at| &text[at..]).expect("a form");
        let back = form.split_once("name=\"back\" value=\"").expect("a place to come back to").1;
        let back = back.split('"').next().unwrap_or_default().replace("&#38;", "&");
        let reply = owner.post(&retry, &[("back", &back)]).await;
        assert_eq!((reply.status, reply.header("location")), (StatusCode::SEE_OTHER, page));
        app.deliver_due().await;
    }
    // A URL of another site is not followed.
    let reply = owner.post(&retry, &[("back", "https://evil.example/")]).await;
    assert_eq!(reply.header("location"), "/");
    app.deliver_due().await;
}

#[tokio::test]
async fn an_invalid_field_is_marked_and_nothing_is_saved() {
    let (app, cookie, hook) = with_hook("zapier").await;
    let deep = format!("{}1{}", "(".repeat(240), ")".repeat(240));
    let lists = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let chain = format!("conversion.email{}", " | upper".repeat(55));
    let wide = format!("'{}' * 500", "x".repeat(480));
    let many = format!("touches | map({}) | join", "'x'");
    // Expression, and the part of it that is marked.
    let rows: [(&str, &str); 18] = [
        ("conversion.emial", "conversion.emial"),
        ("convrsion.email", "convrsion.email"),
        ("conversion.email | shout", "shout"),
        ("conversion.email |", ""),
        ("conversion.value +", ""),
        ("(conversion.value", ""),
        ("'open", ""),
        ("{% for x in touches %}{% endfor %}", ""),
        ("{{ conversion.value }}", ""),
        ("[x for x in touches]", ""),
        ("range(100000000)", "range"),
        ("'x' * 100000000", ""),
        (
            "conversion.email | replace('', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') | replace('x', 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy')",
            "",
        ),
        (&wide, ""),
        (&many, ""),
        ("9999999999 * 9999999999 * 9999999999 * 9999999999", ""),
        ("1 // 0", ""),
        ("self.x", ""),
    ];
    for (expression, marked) in rows {
        let mut fields = TICKED.to_vec();
        fields.extend([("message", "rows"), ("encoding", "json")]);
        fields.extend([("field_0", "right"), ("kind_0", "text"), ("expression_0", "'a'")]);
        fields.extend([("on_0", "1"), ("field_1", "wrong"), ("kind_1", "json"), ("on_1", "1")]);
        fields.push(("expression_1", expression));
        let (status, page) = press(&app, &cookie, HERE, &fields).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{expression}");
        assert!(
            page.contains("href=\"#fault-1\">Field 2, wrong"),
            "the list leads to it: {expression}"
        );
        assert!(
            page.contains("id=\"fault-1\"") && !page.contains("id=\"fault-0\""),
            "{expression}"
        );
        let row = &page[page.find("id=\"fault-1\"").unwrap()..];
        let row = &row[..row.find("</p>").unwrap()];
        assert!(row.contains("<mark>"), "{expression}: {row}");
        assert!(row.contains(&format!("<mark>{marked}")), "{expression}: {row}");
    }
    // What is only deep or long is harmless: it ends at once, whatever it gives.
    for expression in [&deep, &lists, &chain] {
        let mut fields = TICKED.to_vec();
        fields.extend([("message", "rows"), ("encoding", "json")]);
        fields.extend([("field_0", "x"), ("kind_0", "json"), ("on_0", "1")]);
        fields.push(("expression_0", expression));
        let (status, _) = press(&app, &cookie, &format!("{HERE}/preview"), &fields).await;
        assert!(status.is_success() || status.is_client_error(), "{expression}: {status}");
    }
    let revision = "select revision from destinations where key = 'my-hook'";
    assert_eq!(app.database.number(revision).await, 1);
    sale(&app, "cs_live_1").await;
    app.deliver_due().await;
    assert_eq!(hook.received().len(), 1);
}

#[tokio::test]
async fn a_destination_may_be_deleted_while_it_is_sent_to() {
    for (status, state, reason) in
        [(200, "delivered", ""), (503, "given_up", "destination_deleted")]
    {
        let (app, cookie, hook) = with_hook("webhook").await;
        hook.answers([status]);
        let letting_go = hook.hold();
        sale(&app, "cs_live_1").await;
        let working = app.deliver_due();
        let deleting = async {
            hook.asked().await;
            let delete = format!("{HERE}/delete");
            let sure = [("sure", "1")];
            assert_eq!(press(&app, &cookie, &delete, &sure).await.0, StatusCode::SEE_OTHER);
            letting_go.notify_one();
        };
        tokio::join!(working, deleting);
        let ended = "select state || ' ' || coalesce(reason, '') from deliveries d join destinations t on t.id = d.destination_id where t.key = 'my-hook'";
        assert_eq!(app.database.texts(ended).await, [format!("{state} {reason}")], "{status}");
        app.advance(Duration::from_secs(3600));
        assert_eq!(app.deliver_due().await, 0);
        assert_eq!(hook.received().len(), 1);
    }
}

/// Keys, kinds and addresses of the destinations that are not deleted.
async fn known(app: &TestApp) -> Vec<String> {
    let text = "select key || ' ' || kind || ' ' || url from destinations where deleted_at_ms is null order by key";
    app.database.texts(text).await
}

#[tokio::test]
async fn the_environments_address_belongs_to_the_destination_of_kind_anytrack() {
    let app = TestApp::owned(&[("CLICKSTAMP_ANYTRACK_URL", "")]).await;
    let owner = app.owner().await;
    let hook = [("preset", "slack"), ("name", "AnyTrack"), ("url", "http://127.0.0.1:9/hook")];
    owner.save("/settings/destinations", &hook).await;
    let named = [("preset", "anytrack"), ("name", "AnyTrack EU"), ("url", "http://127.0.0.1:9/a")];
    let there = owner.save("/settings/destinations", &named).await;
    assert!(there.starts_with("/settings/destinations/anytrack-eu"), "{there}");
    let settings = owner.page("/settings").await;
    assert!(settings.contains("href=\"/settings/destinations/anytrack-eu\""), "{settings}");
    let secret = "href=\"/settings/sources/main\"";
    assert!(settings.contains(secret) && !settings.contains("/settings/anytrack\""), "{settings}");
    let twice = owner.post("/settings/destinations", &named).await;
    assert_eq!(twice.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(twice.text().contains("AnyTrack EU already uses this URL"), "{}", twice.text());
    assert_eq!(
        known(&app).await,
        ["anytrack webhook http://127.0.0.1:9/hook", "anytrack-eu anytrack http://127.0.0.1:9/a"]
    );
    let app = app.restart(&[("CLICKSTAMP_ANYTRACK_URL", "http://127.0.0.1:9/b")]).await;
    assert_eq!(
        known(&app).await,
        ["anytrack webhook http://127.0.0.1:9/hook", "anytrack-eu anytrack http://127.0.0.1:9/b"]
    );
    // A deleted one stays deleted, and the webhook of that name stays what it is.
    let app = app.restart(&[("CLICKSTAMP_ANYTRACK_URL", "")]).await;
    let pool = app.database.look().await;
    let deleted = "update destinations set deleted_at_ms = 1, url = '' where key = 'anytrack-eu'";
    sqlx::query(deleted).execute(&pool).await.expect("it can be deleted");
    pool.close().await;
    let app = app.restart(&[("CLICKSTAMP_ANYTRACK_URL", "http://127.0.0.1:9/c")]).await;
    assert_eq!(
        known(&app).await,
        ["anytrack webhook http://127.0.0.1:9/hook", "anytrack-2 anytrack http://127.0.0.1:9/c"]
    );
}

#[tokio::test]
async fn a_form_that_is_refused_keeps_what_was_typed_and_marks_each_field() {
    let (app, cookie, _hook) = with_hook("webhook").await;
    let path = "/settings/destinations/my-hook";
    let typed = [
        ("name", "Mine"),
        ("rate", "abc"),
        ("max_age_days", "0"),
        ("expires_days", "-3"),
        ("minimum_value", "ten"),
        ("at_a_time", "999"),
        ("retry_also", "9999"),
        ("headers", "no colon here!"),
        ("url", "not a url"),
    ];
    let mut fields = vec![("message", "standard")];
    fields.extend(typed);
    let (status, page) = press(&app, &cookie, path, &fields).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    for (name, value) in typed {
        assert!(page.contains(&format!("name=\"{name}\"")), "{name}");
        let kept = format!("value=\"{value}\"");
        let kept = page.contains(&kept) || page.contains(&format!(">{value}</textarea>"));
        assert!(kept, "{name} keeps {value}: {page}");
        if name != "name" {
            let error = format!("id=\"{name}-error\"");
            assert!(page.contains(&error), "{name} has its sentence beside it: {page}");
            let described = format!("{name}-error\" aria-invalid=\"true\"");
            assert!(page.contains(&described), "{name} is marked: {page}");
        }
    }
    assert_eq!(page.matches("aria-invalid=\"true\"").count(), 8, "{page}");
    let again = look(&app, &cookie, path).await;
    assert!(!again.contains("aria-invalid") && again.contains("value=\"My Hook\""), "{again}");
}

#[tokio::test]
async fn a_wrong_address_names_where_the_right_one_is_shown() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    for (preset, shown_by) in [
        ("slack", "hooks.slack.com"),
        ("zapier", "Zapier"),
        ("anytrack", "in AnyTrack"),
        ("webhook", "program"),
    ] {
        let fields = [("preset", preset), ("name", "X"), ("url", "hooks.slack.com/services/x")];
        let reply = owner.post("/settings/destinations", &fields).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
        let page = reply.text();
        let error = page.split("id=\"url-error\">").nth(1).expect("a sentence beside the field");
        let error = error.split("</p>").next().expect("its end");
        assert!(error.contains(shown_by), "{preset}: {error}");
        assert_eq!(error.contains("AnyTrack"), preset == "anytrack", "{preset}: {error}");
    }
}
