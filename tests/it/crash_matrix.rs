//! The crash matrix of deliveries: the real binary is killed with SIGKILL at each place between a sale and its settled delivery.
//! What holds at every place: nothing is lost, a repeat has the same bytes, and nothing is repeated that was settled.
//! The tests here need failpoints, which only debug builds have.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clickstamp::clock::Clock;
use serde_json::Value;

use crate::harness::{Database, FakeDestination, Server, TestApp};

/// Longer than a lease, and than the wait for a visit.
const LATER: Duration = Duration::from_secs(600);

/// What a row of the matrix says.
struct Row {
    /// What the database says when the process is dead: the event's state, and the delivery's with its attempts' outcomes.
    event: &'static str,
    delivery: &'static str,
    /// How the delivery's attempts end.
    attempts: &'static str,
    /// Messages that the destination saw before and after.
    seen: [usize; 2],
}

const EVENT: &str = "select state from stripe_events";
const DELIVERY: &str = "select state || case when claimed_until_ms is null then '' else ', leased' end from deliveries";
const ATTEMPTS: &str = "select outcome from attempts order by n";

/// Kills the process where it halts after a sale.
async fn killed_at(place: &str, row: Row) {
    killed_after_answer(place, 200, row).await;
}

async fn killed_after_answer(place: &str, status: u16, row: Row) {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    anytrack.answers([status]);
    let mut server = Server::halting_at(place, &database, &anytrack).await;
    server.sale("cs_live_1").await;
    server.says(&format!("halted at {place}")).await;
    server.kill().await;
    holds(row, database, anytrack).await;
}

/// What the killed process left is found by two workers at once; on PostgreSQL they are two processes.
async fn holds(row: Row, database: Database, anytrack: FakeDestination) {
    assert_eq!(database.texts(EVENT).await, [row.event]);
    let mut left = database.texts(DELIVERY).await;
    left.extend(database.texts(ATTEMPTS).await);
    assert_eq!(left.join(", "), row.delivery);
    assert_eq!(anytrack.received().len(), row.seen[0]);

    let later = Clock::manual(Clock::system().now().plus(LATER));
    let app = TestApp::on(database, anytrack, later).await;
    let replica = app.replica().await;
    let other = replica.as_ref().unwrap_or(app.app());
    for _ in 0..2 {
        let (one, two) = tokio::join!(app.app().process_events(), other.process_events());
        one.and(two).expect("both process");
        let (one, two) = tokio::join!(app.app().deliver_due(), other.deliver_due());
        one.and(two).expect("both deliver");
        app.advance(LATER);
    }
    assert_eq!(app.conversions().await.len(), 1);
    assert_eq!(app.delivery().await.state, "delivered");
    assert_eq!(app.database.texts(ATTEMPTS).await.join(", "), row.attempts);
    let received = app.anytrack.received();
    assert_eq!(received.len(), row.seen[1]);
    let frozen = app.delivery().await.request;
    assert!(received.iter().all(|body| *body == frozen), "the same bytes each time");
    let body: Value = serde_json::from_str(&frozen).expect("JSON");
    assert_eq!(body["transaction_id"], "cs_live_1");
    if let Some(replica) = replica {
        replica.close().await;
    }
}

#[tokio::test]
async fn killed_before_processing_commits_the_event_is_processed_later() {
    let row = Row { event: "received", delivery: "", attempts: "accepted", seen: [0, 1] };
    killed_at("processing", row).await;
}

#[tokio::test]
async fn killed_between_the_commit_and_the_claim_the_delivery_is_still_owed() {
    let row = Row { event: "processed", delivery: "pending", attempts: "accepted", seen: [0, 1] };
    killed_at("claiming", row).await;
}

/// A message that a mapping makes has two more places to die at: it is queued, and it is not made or not sent yet.
#[tokio::test]
async fn killed_around_the_making_of_a_message_it_is_made_once_and_sent() {
    for place in ["making", "made"] {
        let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
        assert!(Server::start(&database, &anytrack).await.stop().await);
        let rows = r#"update destinations set options = '{"rows":[{"field":"transaction_id","kind":"text","expression":"conversion.transaction_id","is_on":true}]}'"#;
        database.change(rows).await;
        let mut server = Server::halting_at(place, &database, &anytrack).await;
        server.sale("cs_live_1").await;
        server.says(&format!("halted at {place}")).await;
        server.kill().await;
        let row =
            Row { event: "processed", delivery: "pending", attempts: "accepted", seen: [0, 1] };
        holds(row, database, anytrack).await;
    }
}

#[tokio::test]
async fn killed_between_the_claim_and_the_send_the_lease_ends() {
    let row = Row {
        event: "processed",
        delivery: "pending, leased, unknown",
        attempts: "unknown, accepted",
        seen: [0, 1],
    };
    killed_at("claimed", row).await;
}

#[tokio::test]
async fn killed_while_sending_the_same_bytes_go_again() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let _never_rung = anytrack.hold();
    let mut server = Server::start(&database, &anytrack).await;
    server.sale("cs_live_1").await;
    anytrack.asked().await;
    server.kill().await;
    let row = Row {
        event: "processed",
        delivery: "pending, leased, unknown",
        attempts: "unknown, accepted",
        seen: [1, 2],
    };
    holds(row, database, anytrack).await;
}

#[tokio::test]
async fn killed_between_the_answer_and_its_settling_the_same_bytes_go_again() {
    let row = Row {
        event: "processed",
        delivery: "pending, leased, unknown",
        attempts: "unknown, accepted",
        seen: [1, 2],
    };
    killed_at("answered", row).await;
}

#[tokio::test]
async fn killed_inside_settle_nothing_of_it_happened() {
    for status in [200, 400, 503] {
        let row = Row {
            event: "processed",
            delivery: "pending, leased, unknown",
            attempts: "unknown, accepted",
            seen: [1, 2],
        };
        killed_after_answer("settling", status, row).await;
    }
}

#[tokio::test]
async fn killed_after_settle_it_is_done() {
    let row = Row {
        event: "processed",
        delivery: "delivered, accepted",
        attempts: "accepted",
        seen: [1, 1],
    };
    killed_at("settled", row).await;
}

#[tokio::test]
async fn killed_after_a_settled_failure_the_schedule_goes_on() {
    let row = Row {
        event: "processed",
        delivery: "pending, retry",
        attempts: "retry, accepted",
        seen: [1, 2],
    };
    killed_after_answer("settled", 503, row).await;
}

/// A process that stalls past its lease while another one takes over; only PostgreSQL has two on one database.
/// On SQLite, two workers of one process show the same (`delivery::a_late_acceptance_still_settles…`).
#[tokio::test]
async fn a_process_that_stalls_past_its_lease_changes_nothing_but_to_accepted() {
    for (late, second) in [(200, 503), (200, 400), (503, 200), (400, 200)] {
        let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
        if database.url.starts_with("sqlite") {
            return;
        }
        anytrack.answers([second, late]);
        let stalling = anytrack.hold();
        let mut first = Server::start(&database, &anytrack).await;
        first.sale("cs_live_1").await;
        anytrack.asked().await;
        let later = Clock::manual(Clock::system().now().plus(LATER));
        let mut app = TestApp::on(database, anytrack, later).await;
        app.leave_things_undone();
        assert_eq!(app.deliver_due().await, 1, "the lease has ended");
        stalling.notify_one();
        first.says("tried a delivery").await;
        assert!(first.stop().await);
        let delivery = app.delivery().await;
        assert_eq!((delivery.state.as_str(), delivery.attempts), ("delivered", 2), "{late}");
        let word = |status| match status {
            200 => "accepted",
            400 => "refused",
            _ => "retry",
        };
        assert_eq!(app.database.texts(ATTEMPTS).await, [word(late), word(second)]);
        let received = app.anytrack.received();
        assert!(received.len() == 2 && received[0] == received[1]);
    }
}

/// Of two processes on one PostgreSQL database one dies with claims in its hands; the other one goes on as soon as their leases end.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_one_dies_and_the_other_one_delivers_everything() {
    for place in ["claimed", "answered", "settling", "settled"] {
        let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
        if database.url.starts_with("sqlite") {
            return; // A SQLite file has one owner.
        }
        let mut dying = Server::halting_at(place, &database, &anytrack).await;
        let sessions: Vec<String> = (0..24).map(|n| format!("cs_live_{n:02}")).collect();
        let (early, late) = sessions.split_at(12);
        for session in early {
            dying.sale(session).await;
        }
        dying.says(&format!("halted at {place}")).await;
        // Not before: it could be quicker, and nothing would be left for the other one to halt at.
        let mut living = Server::start(&database, &anytrack).await;
        dying.kill().await;
        let leased = "select transaction_id from deliveries where claimed_until_ms is not null and state = 'pending'";
        let in_doubt: BTreeSet<String> = database.texts(leased).await.into_iter().collect();
        // As if a minute had passed.
        let pool = database.look().await;
        let end = "update deliveries set claimed_until_ms = 1 where claimed_until_ms is not null";
        sqlx::query(end).execute(&pool).await.expect("leases can end");
        pool.close().await;
        for session in late {
            living.sale(session).await;
        }
        let done = |anytrack: &FakeDestination| -> BTreeMap<String, Vec<String>> {
            let mut seen = BTreeMap::<String, Vec<String>>::new();
            for (body, _, _) in anytrack.answered() {
                let read: Value = serde_json::from_str(&body).expect("JSON");
                let id = read["transaction_id"].as_str().expect("an ID").to_owned();
                seen.entry(id).or_default().push(body);
            }
            seen
        };
        let owed: BTreeSet<String> = sessions.iter().cloned().collect();
        // Some sales may not even be processed yet.
        let delivered = "select count(*) from deliveries where state = 'delivered'";
        while database.number(delivered).await < 24 {
            living.says("tried a delivery").await;
        }
        assert!(living.stop().await);
        let seen = done(&anytrack);
        assert_eq!(seen.keys().cloned().collect::<BTreeSet<_>>(), owed, "{place}");
        for (id, bodies) in seen {
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{place}: the same bytes");
            let most = 1 + usize::from(in_doubt.contains(&id));
            assert!(bodies.len() <= most, "{place}: {id} went {} times", bodies.len());
        }
        assert!(in_doubt.len() <= 2, "no more than AnyTrack takes at a time: {in_doubt:?}");
    }
}
