//! The demo: sample data written by the real code, and the walk-through with simulated services.

use std::future::Future;

use axum::Router;
use axum::http::StatusCode;
use clickstamp::clock::Timestamp;
use clickstamp::config::Listen;
use clickstamp::demo::Demo;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::harness::{Reply, request};

/// The time at which the sample data ends: 2026-09-21T14:13:20Z.
const NOW: Timestamp = Timestamp::from_seconds(1_790_000_000);
/// The dashboard's default period at that time.
const PERIOD: &str = "from=2026-08-25&to=2026-09-21T14:13:20Z";

/// The routers of a demo, which stay usable after the demo is moved into `run`.
struct Walk {
    clickstamp: Router,
    world: Router,
    bearer: String,
}

impl Walk {
    async fn prepare() -> (Demo, Self) {
        let listen = Listen::Tcp(([127, 0, 0, 1], 0).into());
        let demo = Demo::prepare(&listen, NOW, &TimeZone::UTC).await.expect("the demo is ready");
        let printed = demo.walk_through().to_string();
        let after = |mark: &str| {
            let rest = printed.split_once(mark).expect("it is printed").1;
            rest.split(['\'', '\n']).next().expect("a first part").to_owned()
        };
        let bearer = format!("Bearer {}", after("Bearer "));
        let walk = Self { clickstamp: demo.app().router(), world: demo.pages(), bearer };
        (demo, walk)
    }

    async fn api(&self, path: &str) -> Value {
        let headers = [("authorization", self.bearer.as_str())];
        let reply = send(&self.clickstamp, "GET", &format!("/api/v1/{path}"), &headers, "").await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
        reply.json()
    }

    /// All rows of a list.
    async fn all(&self, path: &str) -> Vec<Value> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.api(&format!("{path}limit=200{cursor}")).await;
            rows.extend(page["data"].as_array().expect("a list").iter().cloned());
            let Some(next) = page["next"].as_str() else { return rows };
            cursor = format!("&cursor={next}");
        }
    }

    async fn page(&self, path: &str) -> String {
        let reply = send(&self.world, "GET", path, &[], "").await;
        assert_eq!(reply.status, StatusCode::OK, "{path}");
        reply.text().to_owned()
    }

    async fn pay(&self, reference: &str) -> String {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body =
            format!("reference={reference}&name=Jenny+Rosen&email=jenny.rosen%40example.com");
        let reply = send(&self.world, "POST", "/pay/desk-lamp", &form, &body).await;
        assert_eq!(reply.status, StatusCode::SEE_OTHER, "{}", reply.text());
        reply.header("location").to_owned()
    }
}

async fn send(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let response = router.clone().oneshot(request(method, path, headers, body.to_owned())).await;
    Reply::read(response.expect("a router always answers")).await
}

/// Runs a demo until `play` is done.
async fn with_running<T>(demo: Demo, play: impl Future<Output = T>) -> T {
    let (stop, stopped) = oneshot::channel::<()>();
    let directory = demo.directory().to_owned();
    assert!(directory.exists());
    let stopped = async { stopped.await.expect("the test says when") };
    let played = async {
        let played = play.await;
        stop.send(()).expect("it still runs");
        played
    };
    let (ended, played) = tokio::join!(demo.run(stopped), played);
    ended.expect("it stops in order");
    assert!(!directory.exists(), "the directory is deleted");
    played
}

#[tokio::test]
async fn the_sample_data_is_always_the_same_and_has_an_example_of_every_case() {
    let (demo, walk) = Walk::prepare().await;
    let overview = walk.api(&format!("overview?{PERIOD}")).await;
    // The same time gives the same numbers. After a change of the story, put its new numbers here.
    let revenue = json!([{"currency": "EUR", "amount": "3909.00"}, {"currency": "USD", "amount": "12537.00"}]);
    assert_eq!(
        (&overview["visits"], &overview["conversions"], &overview["revenue"]),
        (&json!(2706), &json!(117), &revenue)
    );
    let conversions = walk.all("conversions?").await;
    let has = |what: &str, test: &dyn Fn(&Value) -> bool| {
        assert!(conversions.iter().any(test), "there is no {what}");
    };
    let reasons = [
        "no_reference",
        "placeholder_not_replaced",
        "foreign_reference",
        "unknown_click_id",
        "forged_click_id",
    ];
    for reason in reasons {
        has(reason, &|row| row["match"]["reason"] == reason);
    }
    for by in ["click_id", "anytrack_click_id", "metadata", "stripe_object"] {
        has(by, &|row| row["match"]["by"] == by);
    }
    for status in ["paid", "pending", "failed"] {
        has(status, &|row| row["status"] == status);
    }
    has("payment by the redirect link", &|row| row["touches"][0]["landing_path"] == "/p/card");
    has("test payment", &|row| row["livemode"] == false);
    has("way of three touches", &|row| row["touches"].as_array().is_some_and(|way| way.len() == 3));
    for currency in ["USD", "EUR"] {
        has(currency, &|row| row["currency"] == currency);
    }
    // No event and no delivery is unfinished.
    let events = walk.all("stripe-events?").await;
    let states = |state: &str| events.iter().filter(|row| row["state"] == state).count();
    assert_eq!((states("received"), states("failed"), states("ignored")), (0, 0, 0));
    let deliveries = walk.all("deliveries?").await;
    let ended = |state: &str| deliveries.iter().filter(|row| row["state"] == state).count();
    assert_eq!((ended("pending"), ended("given_up"), ended("skipped")), (0, 1, 2));
    assert!(deliveries.iter().any(|row| row["state"] == "delivered" && row["attempts"] == 4));
    demo.app().close().await;
}

#[tokio::test]
async fn the_walk_through_works_from_the_ad_to_anytrack_and_the_dashboard() {
    let (demo, walk) = Walk::prepare().await;
    let mut taken = demo.taken_by_anytrack();
    let tag = format!("{}/t/main.js", base(&demo));
    with_running(demo, async {
        // The shop's page has the official snippet and the placeholder; with `tag=off`, only the
        // placeholder.
        let landing = walk.page("/lamp?gclid=x").await;
        assert!(landing.contains(&tag) && landing.contains("client_reference_id=--CLICK-ID--"));
        assert!(!walk.page("/lamp?tag=off").await.contains("<script"));

        // Does what the tag would do: gets a click ID, sends the visit, passes the click ID to the
        // checkout.
        let script = send(&walk.clickstamp, "GET", "/t/main.js", &[], "").await;
        let text = script.text();
        let config = &text[text.rfind("({").expect("the baked config") + 1..text.len() - 1];
        let config: Value = serde_json::from_str(config).expect("the config is JSON");
        let click_id = config["i"].as_str().expect("a click ID");
        let visit =
            json!({"s": "main", "i": click_id, "t": 1, "u": "http://127.0.0.1/lamp?gclid=x"});
        let reply = send(&walk.clickstamp, "POST", "/v", &[], &visit.to_string()).await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT);
        let checkout = walk.page(&format!("/pay/desk-lamp?client_reference_id={click_id}")).await;
        assert!(checkout.contains(click_id) && checkout.contains("$129.00"));

        // Paying sends a signed webhook to the real endpoint, and AnyTrack receives the conversion.
        let thanks = walk.pay(click_id).await;
        taken.wait_for(|count| *count == 1).await.expect("AnyTrack is there");
        let session =
            thanks.trim_start_matches("/thank-you/").split('?').next().expect("a session");
        assert!(walk.page(&thanks).await.contains(&format!("/conversion/{session}")));
        let anytrack = walk.page("/anytrack").await;
        assert!(anytrack.contains(session) && anytrack.contains("129.00"));

        // The dashboard shows the conversion.
        let list = walk.api(&format!("conversions?search={session}")).await;
        let conversion = &list["data"][0];
        assert_eq!(
            conversion["match"],
            json!({"state": "matched", "by": "click_id", "reason": null, "click_id": click_id})
        );
        let link = send(&walk.world, "GET", &format!("/conversion/{session}"), &[], "").await;
        let id = conversion["id"].as_str().expect("an ID");
        assert!(link.header("location").ends_with(&format!("/conversions/{id}")));

        // The redirect link leads to the simulated checkout, not to Stripe, with a new click ID.
        let link =
            send(&walk.clickstamp, "GET", "/p/card", &[("user-agent", "Mozilla/5.0")], "").await;
        let there = link.header("location");
        assert!(
            there.starts_with("http://127.0.0.1:") && there.contains("client_reference_id=ck_")
        );

        // Without the tag, the payment is recorded too, with the reason why it is unmatched.
        let thanks = walk.pay("--CLICK-ID--").await;
        taken.wait_for(|count| *count == 2).await.expect("AnyTrack is there");
        let session =
            thanks.trim_start_matches("/thank-you/").split('?').next().expect("a session");
        let list = walk.api(&format!("conversions?search={session}")).await;
        assert_eq!(list["data"][0]["match"]["reason"], "placeholder_not_replaced");
    })
    .await;
}

#[tokio::test]
async fn the_error_for_a_port_in_use_shows_the_port() {
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let taken = holder.local_addr().expect("bound");
    let refused = Demo::prepare(&Listen::Tcp(taken), NOW, &TimeZone::UTC).await;
    let error = refused.err().expect("the port is taken").to_string();
    assert!(error.contains(&taken.to_string()) && error.contains("--listen"), "{error}");
}

/// The base URL of a demo's Clickstamp.
fn base(demo: &Demo) -> String {
    let printed = demo.walk_through().to_string();
    let api = printed.split_once("' http").expect("it is printed").1;
    format!("http{}", api.split_once("/api/").expect("it is printed").0)
}
