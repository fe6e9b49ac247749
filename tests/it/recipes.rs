//! The recipes of docs/destinations.md: each destination is added as described there, and delivers
//! to a fake that responds as the real service does.
//! Source of the responses: the services' own documentation.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{FakeDestination, Session, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=Cj0K";
const HERE: &str = "/settings/destinations/my-tool";

/// An app with one destination from a preset, at a URL whose query belongs to the tool.
async fn with_tool(preset: &str) -> (TestApp, FakeDestination) {
    let (app, tool) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    let fields = [("name", "My tool"), ("url", tool.url.as_str()), ("preset", preset)];
    let reply = app.owner().await.post("/settings/destinations", &fields).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
    (app, tool)
}

/// A visitor who came by an ad pays. Returns the click ID.
async fn sale(app: &TestApp, session: &str, page: &str) -> String {
    let click_id = app.visit(page).await;
    app.stripe_processed(&Session::paid(session).reference(&click_id).completed()).await;
    app.deliver_due().await;
    click_id
}

/// State, reason and last error of the last delivery, and its page.
async fn told(app: &TestApp) -> (String, String, String) {
    let found = app
        .database
        .texts(
            "select d.id || '|' || d.state || '|' || coalesce(d.reason, '') || '|' || coalesce(d.last_error, '')
               from deliveries d join destinations t on t.id = d.destination_id
              where t.key = 'my-tool' order by d.id desc",
        )
        .await
        .remove(0);
    let parts: Vec<&str> = found.split('|').collect();
    let page = app.owner().await.page(&format!("/deliveries/{}", parts[0])).await;
    (parts[1..3].join(" ").trim().to_owned(), parts[3].to_owned(), page)
}

#[tokio::test]
async fn zapier_make_and_n8n_get_one_flat_message_per_sale() {
    for answer in [
        // A catch hook of Zapier's; a custom webhook of Make's; n8n's webhook node.
        r#"{"attempt":"01995b2f-7e6c","id":"01995b2f-7e6c","request_id":"01995b2f-7e6c","status":"success"}"#,
        "Accepted",
        r#"{"message":"Workflow was started"}"#,
    ] {
        let (app, tool) = with_tool("zapier").await;
        tool.answer(200, answer, None);
        let click_id = sale(&app, "cs_live_1", PAGE).await;
        let id = app.database.texts("select id from conversions").await.remove(0);
        let expected = format!(
            concat!(
                r#"{{"event":"Purchase","conversion_id":"{id}","transaction_id":"cs_live_1","kind":"purchase","status":"paid","#,
                r#""value":102.60,"amount_minor":10260,"currency":"USD","email":"jenny.rosen@example.com","name":"Jenny Rosen","#,
                r#""country":"US","click_id":"{click_id}","utm_source":"google","utm_medium":"cpc","utm_campaign":"spring","#,
                r#""gclid":"Cj0K","landing_url":"{page}","first_source":"google","first_campaign":"spring","#,
                r#""occurred_at":"2026-09-21T14:13:20Z","match":"matched","test":false}}"#
            ),
            id = id,
            click_id = click_id,
            page = PAGE,
        );
        assert_eq!(tool.received(), [expected], "{answer}");
        let (state, error, page) = told(&app).await;
        assert_eq!((state.as_str(), error.as_str()), ("delivered", ""), "{answer}");
        assert!(page.contains("Accepted (200 OK)"), "{page}");
        // A tool finds its fields by name: none is nested, and a repeat can be recognized.
        let body: Value = serde_json::from_str(&tool.received()[0]).expect("JSON");
        let fields = body.as_object().expect("an object");
        assert!(fields.values().all(|value| !value.is_object() && !value.is_array()));
        assert!(tool.headers()[0].contains_key("webhook-id"));
    }
}

#[tokio::test]
async fn a_sample_fills_every_field_that_the_tools_are_to_learn() {
    let (app, tool) = with_tool("zapier").await;
    tool.answer(200, "Accepted", None);
    let reply = app.owner().await.post(&format!("{HERE}/test"), &[]).await;
    assert!(reply.text().contains("Response: 200 OK"), "{}", reply.text());
    let body: Value = serde_json::from_str(&tool.received()[0]).expect("JSON");
    let fields: Vec<&String> = body.as_object().expect("an object").keys().collect();
    let options = app
        .database
        .texts("select options from destinations where key = 'my-tool'")
        .await
        .remove(0);
    let options: Value = serde_json::from_str(&options).expect("JSON");
    let rows = options["rows"].as_array().expect("rows");
    let names: Vec<&str> = rows.iter().map(|row| row["field"].as_str().expect("a name")).collect();
    assert_eq!(fields.len(), names.len(), "{fields:?}");
    assert_eq!(
        (&body["test"], &body["email"]),
        (&json!(true), &json!("clickstamp-test@example.com"))
    );
}

#[tokio::test]
async fn error_responses_of_the_tools_have_their_outcome() {
    let n8n = r#"{"code":404,"message":"The requested webhook \"POST 5f1c\" is not registered.","hint":"The workflow must be active for a production URL to run successfully."}"#;
    let rows = [
        // n8n, and its workflow is off.
        (404, n8n, "given_up refused", "it answered 404", "The workflow must be active"),
        // Make: the queue is full; no scenario for five days; more than 300 within ten seconds.
        (400, "Queue is full.", "pending", "it answered 400", "Queue is full."),
        (
            410,
            "There is no scenario listening for this webhook.",
            "given_up refused",
            "it answered 410",
            "no scenario listening",
        ),
        (429, "Too many requests", "pending", "it answered 429", "Too many requests"),
        // Zapier: the Zap's address was deleted; its side is down.
        (404, r#"{"status":"error"}"#, "given_up refused", "it answered 404", "status"),
        (502, "", "pending", "it answered 502", "Not accepted yet"),
    ];
    for (status, text, state, error, shown) in rows {
        let (mut app, tool) = with_tool("zapier").await;
        app.leave_things_undone();
        tool.answer(status, text, None);
        sale(&app, "cs_live_1", PAGE).await;
        let (is, said, page) = told(&app).await;
        assert_eq!((is.as_str(), said.as_str()), (state, error), "{status} {text}");
        assert!(page.contains(shown), "{status}: the person sees what it said: {page}");
    }
}

#[tokio::test]
async fn slack_gets_a_readable_message_per_sale() {
    let (app, slack) = with_tool("slack").await;
    slack.answer(200, "ok", None);
    sale(&app, "cs_live_1", PAGE).await;
    assert_eq!(slack.received(), [r#"{"text":"Purchase: 102.60 USD from google, spring"}"#]);
    assert_eq!(told(&app).await.0, "delivered");
    app.stripe_processed(&Session::paid("cs_live_2").completed()).await;
    app.deliver_due().await;
    assert_eq!(slack.received()[1], r#"{"text":"Purchase: 102.60 USD (no visit known)"}"#);
    // Anybody can write an ad's URL, but it is only text in the channel.
    let hostile = "https://www.shop.localhost/?utm_source=%3C!channel%3E&utm_campaign=%3Chttps://x.example%7Chere%3E%26";
    sale(&app, "cs_live_3", hostile).await;
    let text = r#"{"text":"Purchase: 102.60 USD from &lt;!channel&gt;, &lt;https://x.example|here&gt;&amp;"}"#;
    assert_eq!(slack.received()[2], text);
}

#[tokio::test]
async fn slacks_refusals_are_final_and_its_limit_is_kept() {
    let rows = [
        (400, "invalid_payload", None, "given_up refused"),
        (403, "action_prohibited", None, "given_up refused"),
        (404, "no_service", None, "given_up refused"),
        (410, "channel_is_archived", None, "given_up refused"),
        (429, "rate_limited", Some("30"), "pending"),
        (500, "rollup_error", None, "pending"),
    ];
    for (status, text, retry_after, state) in rows {
        let (mut app, slack) = with_tool("slack").await;
        app.leave_things_undone();
        slack.answer(status, text, retry_after);
        sale(&app, "cs_live_1", PAGE).await;
        let (is, error, page) = told(&app).await;
        assert_eq!((is.as_str(), error), (state, format!("it answered {status}")), "{text}");
        assert!(page.contains(text), "{text}: {page}");
        if retry_after.is_some() {
            app.advance(std::time::Duration::from_secs(29));
            app.deliver_due().await;
            assert_eq!(slack.received().len(), 1, "Slack asked for half a minute");
            app.advance(std::time::Duration::from_secs(2));
            app.deliver_due().await;
            assert_eq!(told(&app).await.0, "delivered");
        }
    }
}

#[tokio::test]
async fn a_postback_keeps_the_query_of_its_address() {
    let (app, network) = (TestApp::owned(&[]).await, FakeDestination::start().await);
    let url = format!("{}?adv_id=42", network.url);
    let fields = [("name", "My tool"), ("url", url.as_str()), ("preset", "postback")];
    let reply = app.owner().await.post("/settings/destinations", &fields).await;
    assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
    let click_id = sale(&app, "cs_live_1", PAGE).await;
    let query = format!(
        "adv_id=42&clickid={click_id}&value=102.60&currency=USD&txid=cs_live_1&event=Purchase"
    );
    assert_eq!(network.queries(), [query]);
}

#[tokio::test]
async fn a_test_to_anytrack_is_not_a_sale() {
    let app = TestApp::owned(&[]).await;
    let here = "/settings/destinations/anytrack";
    let owner = app.owner().await;
    assert!(owner.page(here).await.contains("ClickstampTest"), "the button says what it does");
    let reply = owner.post(&format!("{here}/test"), &[]).await;
    assert!(reply.text().contains("Response: 200 OK"), "{}", reply.text());
    let body: Value = serde_json::from_str(&app.anytrack.received()[0]).expect("JSON");
    assert_eq!(body["event_name"], "ClickstampTest");
    assert!(body["transaction_id"].as_str().expect("one").starts_with("test_"));
    assert!(body.get("value").is_none() && body.get("currency").is_none(), "{body}");
}
