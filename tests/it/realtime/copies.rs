//! Two and three copies on one PostgreSQL database: each wakes up for its own work, and takes over that of one that stops.

use std::time::Duration;

use clickstamp::clock::Clock;

use super::{LATEST, Running, SCHEDULE, wait_for_arrivals};
use crate::harness::{Reaction, Server};

const SECOND: Duration = Duration::from_secs(1);
/// How often a copy polls for work of others.
const POLL: Duration = Duration::from_secs(5);

/// Copies beside a running one; none on SQLite, whose file has one owner.
async fn copies(running: &Running, count: usize) -> Vec<Server> {
    let mut copies = Vec::new();
    if running.database.url.starts_with("postgres") {
        for _ in 0..count {
            copies
                .push(Server::start_with(&running.database, &running.anytrack, &[SCHEDULE]).await);
        }
    }
    copies
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_copies_keeps_the_schedule_and_nothing_is_sent_twice() {
    let running = Running::start(&[]).await;
    let copies = copies(&running, 2).await;
    let mut expected = 1;
    for (n, copy) in copies.iter().enumerate() {
        let failing = Reaction::Answer(503, String::new(), None);
        running.anytrack.reacts([failing.clone(), failing]);
        copy.sale(&format!("cs_live_copy_{n}")).await;
        let arrivals = wait_for_arrivals(&running.anytrack, expected + 3).await;
        for two in arrivals[expected..].windows(2) {
            let pause = two[1] - two[0];
            let latest = SECOND * 12 / 10 + running.slack();
            assert!(pause >= SECOND * 8 / 10 && pause <= latest, "{pause:?}");
        }
        expected += 3;
    }
    tokio::time::sleep(SECOND).await;
    assert_eq!(running.anytrack.arrivals().len(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_copy_was_sending_is_sent_by_the_other_one() {
    let mut running = Running::start(&[]).await;
    let Some(_other) = copies(&running, 1).await.pop() else { return };
    // Whichever of them sends hangs; then that one is stopped. The event is processed by the one that received it, nearly always.
    running.anytrack.reacts([Reaction::Stall]);
    running.server.sale("cs_live_hangs").await;
    running.anytrack.stalled().await;
    let before = running.anytrack.arrivals().len();
    let begun = Clock::stopwatch();
    assert!(running.server.stop().await);
    wait_for_arrivals(&running.anytrack, before + 1).await;
    // The stop waits eight seconds for the attempt, which takes twenty; its lease takes sixty.
    let latest = Duration::from_secs(8) + POLL + LATEST;
    assert!(begun.elapsed() < latest, "it took {:?}", begun.elapsed());
}
