//! Whatever makes a delivery due wakes the worker up.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LATEST, Running, SCHEDULE, TOKEN, wait_for_arrivals};
use crate::harness::{Reaction, Server};

/// Waits until one more delivery has arrived than `before`, and asserts that it came at once.
async fn assert_prompt(running: &Running, before: usize, after_what: &str) {
    let begun = clickstamp::clock::Clock::stopwatch();
    wait_for_arrivals(&running.anytrack, before + 1).await;
    let took = begun.elapsed();
    assert!(took < LATEST, "the delivery after {after_what} took {took:?}");
}

/// The answer to a request of the JSON API.
async fn api(running: &Running, method: reqwest::Method, path: &str) -> Value {
    let url = format!("{}/api/v1{path}", running.server.url);
    let request = running.server.client.request(method, url).bearer_auth(TOKEN);
    let answer = request.send().await.expect("an answer");
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_request_is_delivered_at_once() {
    let running = Running::start(&[]).await;
    let tokens = running.database.texts("select token from sources where kind = 'custom'").await;
    let url = format!("{}/webhooks/custom/{}", running.server.url, tokens[0]);
    for n in 0..2 {
        let before = running.anytrack.arrivals().len();
        let click_id = running.server.mint().await;
        assert_eq!(running.server.post_visit(&click_id).await, 204);
        let report = json!({"click_id": click_id, "value": 5, "transaction_id": format!("o_{n}")});
        let post = running.server.client.post(&url).body(report.to_string());
        assert_eq!(post.send().await.expect("an answer").status().as_u16(), 200);
        assert_prompt(&running, before, "a custom request").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_page_is_delivered_at_once() {
    let mut running = Running::start(&[]).await;
    // Leads are off unless somebody switches them on.
    assert!(running.server.stop().await);
    running.database.change("update destinations set options = '{\"sends_leads\":true}'").await;
    running.server = Server::start_with(&running.database, &running.anytrack, &[SCHEDULE]).await;
    let before = running.anytrack.arrivals().len();
    let click_id = running.server.mint().await;
    assert_eq!(running.server.post_visit(&click_id).await, 204);
    let event = json!({"s": "main", "i": click_id, "t": 2, "u": "https://www.shop.localhost/", "e": "Lead"});
    let post = running.server.client.post(format!("{}/v", running.server.url));
    let answer = post.body(event.to_string()).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 204);
    assert_prompt(&running, before, "an event of a page").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_that_comes_late_sends_the_delivery_that_waited_for_it() {
    let running = Running::start(&[]).await;
    for n in 0..2 {
        let before = running.anytrack.arrivals().len();
        let click_id = running.server.mint().await;
        running.server.pay(&format!("cs_live_late_{n}"), &click_id).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(running.anytrack.arrivals().len(), before, "it waits for its visit");
        assert_eq!(running.server.post_visit(&click_id).await, 204);
        assert_prompt(&running, before, "a late visit").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn send_again_sends_at_once() {
    let running = Running::start(&[]).await;
    let before = running.anytrack.arrivals().len();
    running.anytrack.reacts([Reaction::Answer(400, "no".to_owned(), None)]);
    running.server.sale("cs_live_refused").await;
    wait_for_arrivals(&running.anytrack, before + 1).await;
    let failed = loop {
        let listed = api(&running, reqwest::Method::GET, "/deliveries?state=given_up").await;
        if let Some(id) = listed["data"][0]["id"].as_str() {
            break id.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    api(&running, reqwest::Method::POST, &format!("/deliveries/{failed}/retry")).await;
    assert_prompt(&running, before + 1, "“send again”").await;
}

/// Somebody who is signed in over the network.
struct Owner {
    cookie: String,
}

impl Owner {
    const SETTINGS: [(&str, &str); 2] = [
        ("CLICKSTAMP_ADMIN_EMAIL", "ada@example.com"),
        ("CLICKSTAMP_ADMIN_PASSWORD", "watercolor-2026"),
    ];

    async fn of(running: &Running) -> Self {
        let pairs = [("email", "ada@example.com"), ("password", "watercolor-2026")];
        let answer = post(running, "/login", "", &pairs).await;
        let cookie = answer.headers()["set-cookie"].to_str().expect("text");
        Self { cookie: cookie.split(';').next().expect("a cookie").to_owned() }
    }

    async fn saves(&self, running: &Running, path: &str, pairs: &[(&str, &str)]) {
        let answer = post(running, path, &self.cookie, pairs).await;
        assert_eq!(answer.status().as_u16(), 303, "{path}");
    }
}

/// A form; redirects are not followed.
async fn post(
    running: &Running,
    path: &str,
    cookie: &str,
    pairs: &[(&str, &str)],
) -> reqwest::Response {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.no_proxy().build().expect("a client");
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let post = client.post(format!("{}{path}", running.server.url)).header("cookie", cookie);
    let post = post.header("content-type", "application/x-www-form-urlencoded").body(form);
    post.send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_enabled_again_gets_what_waited_at_once() {
    let running = Running::start(&Owner::SETTINGS).await;
    let owner = Owner::of(&running).await;
    let page = "/settings/destinations/anytrack";
    for n in 0..2 {
        let before = running.anytrack.arrivals().len();
        owner.saves(&running, &format!("{page}/disable"), &[]).await;
        running.server.sale(&format!("cs_live_held_{n}")).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(running.anytrack.arrivals().len(), before, "it is disabled");
        owner.saves(&running, &format!("{page}/enable"), &[]).await;
        assert_prompt(&running, before, "enabling its destination").await;
    }
}
