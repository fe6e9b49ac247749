//! Retries begin when they are due: whatever ended the attempt before, and whatever else goes on.

use std::time::Duration;

use super::{Running, wait_for_arrivals};
use crate::harness::Reaction;

const SECOND: Duration = Duration::from_secs(1);

/// One sale whose deliveries meet these reactions; answers the pauses between the attempts.
async fn pauses(running: &Running, reactions: Vec<Reaction>) -> Vec<Duration> {
    let (before, attempts) = (running.anytrack.arrivals().len(), reactions.len() + 1);
    running.anytrack.reacts(reactions);
    running.server.sale(&format!("cs_live_{before}")).await;
    let arrivals = wait_for_arrivals(&running.anytrack, before + attempts).await;
    arrivals[before..].windows(2).map(|two| two[1] - two[0]).collect()
}

/// Asserts that pauses are those of the schedule, which a jitter spreads over a fifth.
fn assert_planned(running: &Running, found: &[Duration], planned: &[Duration]) {
    assert_eq!(found.len(), planned.len());
    for (found, planned) in found.iter().zip(planned) {
        let range = *planned * 8 / 10..=*planned * 12 / 10 + running.slack();
        // The destination notes an arrival a little before the attempt ends.
        assert!(range.contains(found), "{found:?} is not in {range:?}");
    }
}

fn status(status: u16) -> Reaction {
    Reaction::Answer(status, String::new(), None)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_retries_when_the_schedule_says() {
    let running = Running::start(&[]).await;
    let reactions = vec![status(503), status(500), Reaction::Cut, status(502)];
    let found = pauses(&running, reactions).await;
    assert_planned(&running, &found, &[SECOND, SECOND, SECOND, SECOND * 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_asks_for_a_second_gets_a_second() {
    let running = Running::start(&[]).await;
    let asks = |status| Reaction::Answer(status, String::new(), Some("1".to_owned()));
    let found = pauses(&running, vec![asks(429), asks(503)]).await;
    assert_planned(&running, &found, &[SECOND, SECOND]);
    assert!(found.iter().all(|pause| *pause >= SECOND), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_never_ends_is_followed_by_the_next_one() {
    let running = Running::start(&[]).await;
    let found = pauses(&running, vec![Reaction::Stall, status(503)]).await;
    assert_planned(&running, &found, &[SECOND * 21, SECOND]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_not_held_up_by_other_deliveries_and_does_not_hold_them_up() {
    let running = Running::start(&[]).await;
    // One attempt of the three hangs all the time; the others go on beside it.
    running.anytrack.reacts([Reaction::Stall]);
    running.server.sale("cs_live_hangs").await;
    running.anytrack.stalled().await;
    let found = pauses(&running, vec![status(503), status(503)]).await;
    assert_planned(&running, &found, &[SECOND, SECOND]);
}
