//! Crashes: the real binary is killed with SIGKILL under load, many times; everything that it
//! acknowledged is stored, once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickstamp::clock::{Clock, Timestamp};
use clickstamp::ids;
use clickstamp::stripe::replay;
use serde_json::{Value, json};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{
    Database, FakeDestination, FakeStripe, SECRET, Server, Session, TestApp, Trouble, program, sign,
};

/// Number of responses after which the process is killed, by round: early, late, in the middle.
const KILLED_AFTER: [usize; 12] = [1, 3, 10, 40, 90, 160, 17, 250, 5, 120, 60, 333];
const VISITORS: usize = 12;

/// Everything that got a 2xx response, over all rounds.
#[derive(Clone, Default)]
struct Acknowledged {
    visits: Arc<Mutex<BTreeSet<String>>>,
    events: Arc<Mutex<BTreeSet<String>>>,
}

/// A visitor who lands, pays and lands again until the server is gone. Reports each acknowledged
/// response.
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

    // After the last start everything that is queued is sent: an hour later, so that leases on
    // PostgreSQL have expired.
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
    assert_eq!(bodies.into_keys().collect::<BTreeSet<_>>(), once, "every queued delivery was made");
    assert!(done.events.lock().unwrap().len() > 300, "there was load");
}

#[tokio::test]
async fn the_database_is_configured_to_survive_power_loss() {
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
    let second = program()
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

/// A command of the real binary, under way.
fn command(database: &Database, stripe: &FakeStripe, arguments: &[&str]) -> Child {
    program()
        .args(arguments)
        .env("CLICKSTAMP_DATABASE_URL", &database.url)
        .envs(stripe.settings())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts")
}

/// An app at the present time, as commands have it.
async fn app_of_today() -> TestApp {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    TestApp::on(database, anytrack, Clock::manual(Clock::system().now())).await
}

/// Sessions as Stripe lists them, one a minute, the last one an hour ago; and their events.
fn listed(app: &TestApp, count: i64) -> Vec<Value> {
    let now = app.now().as_seconds();
    let session = |n: i64| {
        let made = now - 3600 - n * 60;
        let values = json!({"status": "complete", "created": made});
        Session::paid(&format!("cs_live_{n}")).with(values).at(made).completed()
    };
    (1..=count).map(session).collect()
}

#[tokio::test]
async fn commands_that_ask_stripe_may_be_killed_at_every_call() {
    const SALES: i64 = 9;
    for arguments in [&["backfill", "--days", "2"][..], &["reconcile", "--repair"]] {
        let (app, stripe) = (app_of_today().await, FakeStripe::start().await);
        let sales = listed(&app, SALES);
        app.stripe_processed(&sales[4]).await;
        stripe.has("/v1/events", sales.clone());
        stripe
            .has("/v1/checkout/sessions", sales.iter().map(|sale| sale["data"]["object"].clone()));
        stripe.pages_of(2);
        let mut kills = 0;
        for call in 0.. {
            stripe.troubles(vec![None; call].into_iter().chain([Some(Trouble::Hang)]));
            let mut child = command(&app.database, &stripe, arguments);
            let killed = tokio::select! {
                () = stripe.hung() => true,
                ended = child.wait() => {
                    assert!(ended.expect("it ends").success(), "{arguments:?} at call {call}");
                    false
                }
            };
            stripe.no_more_troubles();
            if !killed {
                break;
            }
            child.kill().await.expect("SIGKILL");
            kills += 1;
        }
        assert!(kills >= 3, "{arguments:?} was killed {kills} times");
        let again = command(&app.database, &stripe, arguments).wait().await.expect("it ends");
        assert!(again.success(), "{arguments:?}");
        // The commands went by the real clock.
        app.advance(Duration::from_secs(3600));
        app.process_events().await;
        app.deliver_due().await;
        let conversions = app.conversions().await;
        let once: BTreeSet<&String> = conversions.iter().map(|sale| &sale.transaction_id).collect();
        assert_eq!((conversions.len(), once.len()), (9, 9), "{arguments:?}");
        let stored = "select count(*) from stripe_events";
        assert_eq!(app.database.number(stored).await, SALES, "{arguments:?}");
        let wanted = replay::Wanted::default();
        let replayed = app.app().replay(&wanted).await.expect("it can be rebuilt");
        assert!(replayed.differences.is_empty(), "{replayed:#?}");
    }
}

#[tokio::test]
async fn a_replay_that_is_killed_corrects_all_or_nothing_and_sends_nothing_again() {
    const SALES: i64 = 40;
    let (app, stripe) = (app_of_today().await, FakeStripe::start().await);
    for sale in listed(&app, SALES) {
        app.stripe(&sale).await;
    }
    app.process_events().await;
    app.deliver_due().await;
    let (before, sent) = (app.conversions().await, app.anytrack.received().len());
    let pool = app.database.look().await;
    let meddle = sqlx::query("update conversions set amount_minor = 5").execute(&pool).await;
    meddle.expect("it can be changed behind everybody's back");
    pool.close().await;
    let wrong = "select count(*) from conversions where amount_minor = 5";
    let (mut kills, mut moment) = (0, Duration::from_millis(10));
    // From a moment after its start to beyond its end, however fast the machine is.
    loop {
        moment = moment * 6 / 5;
        let mut child = command(&app.database, &stripe, &["replay", "--apply"]);
        match tokio::time::timeout(moment, child.wait()).await {
            Ok(ended) => {
                assert!(ended.expect("it ends").success());
                break;
            }
            Err(_) => child.kill().await.expect("SIGKILL"),
        }
        kills += 1;
        let left = app.database.number(wrong).await;
        assert!(left == 0 || left == SALES, "{left} lines are still wrong after {moment:?}");
    }
    assert!(kills >= 3, "it was killed {kills} times");
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!((app.conversions().await, app.anytrack.received().len()), (before, sent));
    let wanted = replay::Wanted::default();
    let replayed = app.app().replay(&wanted).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}
