//! Crashes: the real binary is killed with SIGKILL under load, many times; what it acknowledged is there, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickstamp::clock::{Clock, Timestamp};
use clickstamp::ids;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{Database, FakeDestination, SECRET, Server, Session, TestApp, sign};

/// Answers after which the process is killed, round by round: early, late, in the middle of everything.
const KILLED_AFTER: [usize; 12] = [1, 3, 10, 40, 90, 160, 17, 250, 5, 120, 60, 333];
const VISITORS: usize = 12;

/// What was answered with 2xx, over all rounds.
#[derive(Clone, Default)]
struct Acknowledged {
    visits: Arc<Mutex<BTreeSet<String>>>,
    events: Arc<Mutex<BTreeSet<String>>>,
}

/// A visitor who lands, pays, lands again, until the server is gone. Reports each acknowledged answer.
async fn visit_and_pay(
    url: String,
    token: String,
    client: reqwest::Client,
    done: Acknowledged,
    answered: mpsc::Sender<()>,
) {
    for t in 1.. {
        let Ok(script) = client.get(format!("{url}/t/main.js")).send().await else { return };
        let Ok(script) = script.text().await else { return };
        let config: Value = serde_json::from_str(
            &script[script.rfind("({").expect("a config") + 1..script.len() - 1],
        )
        .expect("JSON");
        let click_id = config["i"].as_str().expect("a click ID").to_owned();
        let visit = json!({"s": "main", "i": click_id, "t": t, "u": "https://www.shop.localhost/?utm_source=x"}).to_string();
        let Ok(answer) = client.post(format!("{url}/v")).body(visit).send().await else { return };
        assert_eq!(answer.status().as_u16(), 204);
        done.visits.lock().expect("no visitor panics").insert(click_id.clone());
        let _ = answered.send(()).await; // Nobody counts any more once the server is killed.

        let session = format!("cs_live_{click_id}");
        let body = Session::paid(&session).reference(&click_id).completed().to_string();
        let signature = sign(SECRET, Clock::system().now().as_seconds(), body.as_bytes());
        let post = client
            .post(format!("{url}/webhooks/stripe/main"))
            .header("stripe-signature", signature)
            .body(body);
        let Ok(answer) = post.send().await else { return };
        assert_eq!(answer.status().as_u16(), 200);
        done.events.lock().expect("no visitor panics").insert(session);
        let _ = answered.send(()).await; // As above.

        let transaction = format!("order_{click_id}");
        let report = json!({"click_id": click_id, "value": 5, "transaction_id": transaction});
        let post = client.post(format!("{url}/webhooks/custom/{token}"));
        let Ok(answer) = post.body(report.to_string()).send().await else { return };
        match answer.status().as_u16() {
            200 => done.events.lock().expect("no visitor panics").insert(transaction),
            status => {
                assert_eq!(status, 429, "more than fifty within a second");
                continue;
            }
        };
        let _ = answered.send(()).await; // As above.
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_many_kills_under_load() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let done = Acknowledged::default();
    let client = http_client();
    for killed_after in KILLED_AFTER {
        let mut server = Server::start(&database, &anytrack).await;
        let token = database.texts("select token from sources where kind = 'custom'").await;
        let (answered, mut answers) = mpsc::channel(1024);
        let mut visitors = JoinSet::new();
        for _ in 0..VISITORS {
            visitors.spawn(visit_and_pay(
                server.url.clone(),
                token[0].clone(),
                client.clone(),
                done.clone(),
                answered.clone(),
            ));
        }
        drop(answered);
        for _ in 0..killed_after {
            answers.recv().await.expect("visitors go on as long as the server lives");
        }
        server.kill().await;
        drop(answers);
        while let Some(ended) = visitors.join_next().await {
            ended.expect("no answer was wrong");
        }
    }

    // After the last start everything owed is made: an hour later, so that leases of PostgreSQL have run out.
    let later = Clock::manual(Clock::system().now().plus(Duration::from_secs(3600)));
    let app = TestApp::on(database, anytrack, later).await;
    app.process_events().await;
    app.rejoin().await;
    app.deliver_due().await;
    app.advance(Duration::from_secs(121));
    app.deliver_due().await;

    let recorded: BTreeSet<String> =
        app.database.texts("select click_id from visits").await.into_iter().collect();
    let lost: Vec<_> = done.visits.lock().unwrap().difference(&recorded).cloned().collect();
    assert!(lost.is_empty(), "{} acknowledged visits are missing: {lost:?}", lost.len());

    let conversions = app.database.texts("select transaction_id from conversions").await;
    let once: BTreeSet<String> = conversions.iter().cloned().collect();
    assert_eq!(once.len(), conversions.len(), "every conversion exists once");
    let lost: Vec<_> = done.events.lock().unwrap().difference(&once).cloned().collect();
    assert!(lost.is_empty(), "{} acknowledged events are missing: {lost:?}", lost.len());

    assert_eq!(
        app.database.number("select count(*) from deliveries where state <> 'delivered'").await,
        0
    );
    let mut bodies = BTreeMap::<String, BTreeSet<String>>::new();
    for body in app.anytrack.received() {
        let read: Value = serde_json::from_str(&body).expect("JSON");
        bodies
            .entry(read["transaction_id"].as_str().expect("an ID").to_owned())
            .or_default()
            .insert(body);
    }
    assert!(bodies.values().all(|variants| variants.len() == 1), "every repeat has the same bytes");
    assert_eq!(bodies.into_keys().collect::<BTreeSet<_>>(), once, "every owed delivery was made");
    assert!(done.events.lock().unwrap().len() > 300, "there was load");
}

#[tokio::test]
async fn the_database_is_told_to_survive_power_loss() {
    let app = TestApp::start().await;
    let setting = app.app().durability().await.expect("the engine answers");
    assert!(["2", "on"].contains(&setting.as_str()), "{setting}");
}

#[tokio::test]
async fn two_processes_cannot_own_one_data_directory() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    if !database.url.starts_with("sqlite") {
        return; // Replicas on PostgreSQL may.
    }
    let _first = Server::start(&database, &anytrack).await;
    let second = Command::new(env!("CARGO_BIN_EXE_clickstamp"))
        .env_clear()
        .env("CLICKSTAMP_LISTEN", "127.0.0.1:0")
        .env("CLICKSTAMP_DATABASE_URL", &database.url)
        .output()
        .await
        .expect("the binary runs");
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("in use by another clickstamp process")
    );
}

#[tokio::test]
async fn sigterm_stops_in_order_with_code_0() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let mut server = Server::start(&database, &anytrack).await;
    let click_id = ids::ClickIdKey::new(b"not the server's").mint(Timestamp::from_ms(1), 1);
    let visit = json!({"s": "main", "i": click_id, "t": 1}).to_string();
    let answer = http_client()
        .post(format!("{}/v", server.url))
        .body(visit)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status().as_u16(), 204);
    assert!(server.stop().await);
}

fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default(); // Another test may have been faster.
    reqwest::Client::builder().no_proxy().build().expect("a client")
}
