//! Deliveries: every queued message is delivered or visibly failed, and its bytes never change.

use std::time::Duration;

use clickstamp::delivery::{self, Retried};
use serde_json::Value;

use crate::harness::{Session, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer";

/// An app with one paid conversion and a queued message for AnyTrack.
async fn owing(settings: &[(&str, &str)]) -> (TestApp, String) {
    let app = TestApp::start_with(settings).await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    (app, click_id)
}

#[tokio::test]
async fn anytrack_gets_exactly_the_documented_message_once() {
    let (app, click_id) = owing(&[]).await;
    assert_eq!(app.deliver_due().await, 1);
    assert_eq!(app.deliver_due().await, 0);
    let expected = format!(
        r#"{{"clickid":"{click_id}","value":102.60,"currency":"USD","email":"jenny.rosen@example.com","status":"paid","transaction_id":"cs_live_1","event_name":"Purchase","ref_id":"{click_id}"}}"#
    );
    assert_eq!(app.anytrack.received(), [expected]);
    assert_eq!(app.delivery().await.state, "delivered");
}

#[tokio::test]
async fn a_failing_destination_gets_the_same_bytes_again_on_schedule() {
    let (app, _) = owing(&[("CLICKSTAMP_RETRY_SCHEDULE", "10s,1m")]).await;
    app.anytrack.answers([500, 429]);
    assert_eq!(app.deliver_due().await, 1);
    assert_eq!(app.deliver_due().await, 0, "not due yet");
    app.advance(Duration::from_secs(12));
    assert_eq!(app.deliver_due().await, 1);
    app.advance(Duration::from_secs(72));
    assert_eq!(app.deliver_due().await, 1);
    let received = app.anytrack.received();
    assert!(received.len() == 3 && received.iter().all(|body| *body == received[0]));
    let delivery = app.delivery().await;
    assert_eq!((delivery.state.as_str(), delivery.attempts), ("delivered", 3));
    assert_eq!(
        app.database.texts("select outcome from attempts order by n").await,
        ["retry", "retry", "accepted"]
    );
}

#[tokio::test]
async fn a_delivery_fails_at_the_end_of_its_schedule_and_a_retry_restarts_it() {
    let (app, _) = owing(&[("CLICKSTAMP_RETRY_SCHEDULE", "10s")]).await;
    app.anytrack.answers([500, 500, 500]);
    app.deliver_due().await;
    app.advance(Duration::from_secs(12));
    app.deliver_due().await;
    let given_up = app.delivery().await;
    assert_eq!(
        (given_up.state.as_str(), given_up.reason.as_deref()),
        ("given_up", Some("exhausted"))
    );
    app.advance(Duration::from_secs(86_400));
    assert_eq!(app.deliver_due().await, 0, "nothing is sent until a user asks");
    let state = app.app().state();
    assert_eq!(
        delivery::retry(&state.store, app.now(), &given_up.id).await.unwrap(),
        Retried::Queued
    );
    app.deliver_due().await;
    assert_eq!(
        app.delivery().await.state,
        "pending",
        "a fresh schedule: the first failure of it is not the last"
    );
    app.advance(Duration::from_secs(12));
    app.deliver_due().await;
    assert_eq!(
        (app.delivery().await.state.as_str(), app.delivery().await.attempts),
        ("delivered", 4)
    );
    let again = delivery::retry(&state.store, app.now(), &given_up.id).await.unwrap();
    assert_eq!(again, Retried::NotRetryable("delivered".to_owned()));
    assert_eq!(
        delivery::retry(&state.store, app.now(), "dlv_none").await.unwrap(),
        Retried::NotFound
    );
}

#[tokio::test]
async fn refusals_are_final_and_visible() {
    let rows = [
        (400, "", None, "refused"),
        (404, "", None, "refused"),
        (302, "", Some("https://elsewhere.example/"), "refused"),
        (200, "Missing click_id, ref_id and email", None, "refused"),
        (200, "{\"message\":\"no match found\"}", None, "refused"),
    ];
    for (status, body, header, reason) in rows {
        let (app, _) = owing(&[]).await;
        app.anytrack.answer(status, body, header);
        app.deliver_due().await;
        let delivery = app.delivery().await;
        assert_eq!(
            (delivery.state.as_str(), delivery.reason.as_deref()),
            ("given_up", Some(reason)),
            "{status} {body}"
        );
        assert_eq!(app.anytrack.received().len(), 1, "redirects are not followed");
    }
}

#[tokio::test]
async fn retry_after_is_respected() {
    let (app, _) = owing(&[("CLICKSTAMP_RETRY_SCHEDULE", "1s")]).await;
    app.anytrack.answer(429, "", Some("120"));
    app.deliver_due().await;
    app.advance(Duration::from_secs(119));
    assert_eq!(app.deliver_due().await, 0);
    app.advance(Duration::from_secs(2));
    assert_eq!(app.deliver_due().await, 1);
}

#[tokio::test]
async fn private_addresses_are_refused_unless_allowed() {
    for url in [
        "https://127.0.0.1:9/x",
        "https://localhost:9/x",
        "https://169.254.169.254/latest",
        "http://[::1]/x",
    ] {
        let settings =
            [("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "false"), ("CLICKSTAMP_ANYTRACK_URL", url)];
        let (app, _) = owing(&settings).await;
        app.deliver_due().await;
        let delivery = app.delivery().await;
        assert_eq!(
            (delivery.state.as_str(), delivery.reason.as_deref()),
            ("given_up", Some("blocked_address")),
            "{url}"
        );
    }
}

#[tokio::test]
async fn an_unreachable_destination_is_retried() {
    let (app, _) =
        owing(&[("CLICKSTAMP_ANYTRACK_URL", "http://127.0.0.1:1/secret-slug-k7Qe")]).await;
    app.deliver_due().await;
    assert_eq!(app.delivery().await.state, "pending");
    let error = app.database.texts("select error from attempts").await.remove(0);
    assert!(
        error.starts_with("it could not be reached: the connection was refused")
            && !error.contains("k7Qe"),
        "{error}"
    );
}

#[tokio::test]
async fn a_worker_that_dies_after_its_claim_is_replaced_when_the_lease_ends() {
    let (app, _) = owing(&[]).await;
    let claimed = "update deliveries set claimed_until_ms = due_at_ms + 60000, attempts = 1 where state = 'pending'";
    let pool = app.database.look().await;
    sqlx::query(claimed).execute(&pool).await.unwrap();
    sqlx::query("insert into attempts (delivery_id, n, started_at_ms, outcome) select id, 1, due_at_ms, 'unknown' from deliveries")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    assert_eq!(app.deliver_due().await, 0, "another worker has its lease");
    app.advance(Duration::from_secs(61));
    assert_eq!(app.deliver_due().await, 1);
    let body: Value = serde_json::from_str(&app.anytrack.received()[0]).unwrap();
    assert_eq!(body["transaction_id"], "cs_live_1");
    assert_eq!(
        app.database.texts("select outcome from attempts order by n").await,
        ["unknown", "accepted"]
    );
}

#[tokio::test]
async fn a_message_that_crashes_its_worker_every_time_fails_in_the_end() {
    let (app, _) = owing(&[("CLICKSTAMP_RETRY_SCHEDULE", "1s,1s")]).await;
    let pool = app.database.look().await;
    sqlx::query("update deliveries set attempts = 3").execute(&pool).await.unwrap();
    pool.close().await;
    assert_eq!(app.deliver_due().await, 0);
    assert_eq!(app.delivery().await.reason.as_deref(), Some("exhausted"));
}

#[tokio::test]
async fn a_corrected_url_applies_to_queued_messages() {
    let (app, _) = owing(&[("CLICKSTAMP_ANYTRACK_URL", "http://127.0.0.1:1/x")]).await;
    app.deliver_due().await;
    let fake = app.anytrack.url.clone();
    let app = app.restart(&[("CLICKSTAMP_ANYTRACK_URL", fake.as_str())]).await;
    assert_eq!(app.database.texts("select url from destinations").await, [fake]);
}

/// An app with this many paid conversions and queued messages for AnyTrack.
async fn owing_many(count: usize, settings: &[(&str, &str)]) -> TestApp {
    let app = TestApp::start_with(settings).await;
    let click_id = app.visit(PAGE).await;
    for number in 0..count {
        let session = format!("cs_live_{number:03}");
        app.stripe_processed(&Session::paid(&session).reference(&click_id).completed()).await;
    }
    app
}

async fn states(app: &TestApp) -> (usize, usize, usize) {
    let deliveries = app.deliveries().await;
    let count = |state: &str| deliveries.iter().filter(|found| found.state == state).count();
    (count("pending"), count("delivered"), count("given_up"))
}

#[tokio::test]
async fn a_destination_that_is_down_is_only_probed_and_gets_everything_when_it_is_back() {
    let mut app = owing_many(14, &[]).await;
    app.leave_things_undone();
    app.anytrack.answers([500; 11]);
    assert_eq!(app.deliver_due().await, 10, "ten failures in a row are enough");
    assert_eq!(app.deliver_due().await, 0);
    app.advance(Duration::from_secs(31));
    assert_eq!(app.deliver_due().await, 1, "one probe");
    app.advance(Duration::from_secs(31));
    assert_eq!(app.deliver_due().await, 0, "the next one waits twice as long");
    app.advance(Duration::from_secs(31));
    assert!(app.deliver_due().await >= 4, "an accepted probe lets the others go");
    app.advance(Duration::from_secs(600));
    app.deliver_due().await;
    assert_eq!(states(&app).await, (0, 14, 0), "nothing was lost");
    let bodies = app.anytrack.received();
    for number in 0..14 {
        let id = format!("cs_live_{number:03}");
        let mut same: Vec<_> = bodies.iter().filter(|body| body.contains(&id)).collect();
        same.dedup();
        assert_eq!(same.len(), 1, "{id}: the same bytes each time");
    }
}

#[tokio::test]
async fn a_resend_probes_at_once() {
    let app = owing_many(14, &[]).await;
    app.anytrack.answers([500; 11]);
    app.deliver_due().await;
    assert_eq!(app.deliver_due().await, 0, "the next probe is half a minute away");
    let state = app.app().state();
    let id = app.deliveries().await.into_iter().find(|found| found.attempts == 0).unwrap().id;
    let retried = delivery::retry(&state.store, app.now(), &id).await.unwrap();
    assert_eq!(retried, Retried::Queued);
    assert_eq!(app.deliver_due().await, 1, "one probe, which fails");
    assert_eq!(app.deliver_due().await, 0);
    delivery::retry(&state.store, app.now(), &id).await.unwrap();
    assert!(app.deliver_due().await >= 3, "it is back, so all that is due goes");
    app.advance(Duration::from_secs(600));
    app.deliver_due().await;
    assert_eq!(states(&app).await, (0, 14, 0));
    // A delivery that can't be resent causes no probe.
    app.deliver_due().await;
    let again = delivery::retry(&state.store, app.now(), &id).await.unwrap();
    assert_eq!(again, Retried::NotRetryable("delivered".to_owned()));
}

#[tokio::test]
async fn a_wrong_address_fails_three_deliveries_only() {
    let mut app = owing_many(8, &[]).await;
    app.leave_things_undone();
    app.anytrack.answers([404; 6]);
    app.deliver_due().await;
    let (pending, _, given_up) = states(&app).await;
    assert!(given_up <= 4 && pending >= 4, "{given_up} given up");
    app.advance(Duration::from_secs(31));
    assert_eq!(app.deliver_due().await, 1);
    assert_eq!(states(&app).await.2, given_up, "a refused probe is not final");
}

#[tokio::test]
async fn a_pause_that_is_asked_for_holds_for_the_whole_destination() {
    let mut app = owing_many(6, &[]).await;
    app.leave_things_undone();
    for _ in 0..2 {
        app.anytrack.answer(429, "", Some("90"));
    }
    assert!(app.deliver_due().await <= 2);
    app.advance(Duration::from_secs(80));
    assert_eq!(app.deliver_due().await, 0);
    app.advance(Duration::from_secs(30));
    app.deliver_due().await;
    assert_eq!(states(&app).await, (0, 6, 0));
}

#[tokio::test]
async fn a_late_acceptance_still_settles_and_a_late_failure_changes_nothing() {
    let rows = [
        (200, 500, "delivered", "accepted, retry"),
        (500, 200, "delivered", "retry, accepted"),
        (400, 200, "delivered", "refused, accepted"),
        (400, 500, "pending", "refused, retry"),
    ];
    for (late, second, state, outcomes) in rows {
        let (app, _) = owing(&[]).await;
        app.anytrack.answers([second, late]);
        let letting_go = app.anytrack.hold();
        let first_worker = app.deliver_due();
        let second_worker = async {
            app.anytrack.asked().await;
            app.advance(Duration::from_secs(61));
            assert_eq!(app.deliver_due().await, 1, "the lease has ended");
            letting_go.notify_one();
        };
        tokio::join!(first_worker, second_worker);
        let delivery = app.delivery().await;
        assert_eq!((delivery.state.as_str(), delivery.attempts), (state, 2), "{late}");
        let attempts = "select outcome from attempts order by n";
        assert_eq!(app.database.texts(attempts).await.join(", "), outcomes);
        let received = app.anytrack.received();
        assert!(received.len() == 2 && received[0] == received[1]);
    }
}

#[tokio::test]
async fn two_workers_send_each_message_once() {
    let app = owing_many(30, &[]).await;
    let (one, two) = tokio::join!(app.deliver_due(), app.deliver_due());
    assert_eq!(one + two, 30);
    let mut received = app.anytrack.received();
    received.sort();
    received.dedup();
    assert_eq!((received.len(), states(&app).await), (30, (0, 30, 0)));
}

/// Leases the first of them, as another worker would.
async fn lease(app: &TestApp, count: i64) {
    let pool = app.database.look().await;
    sqlx::query(
        "update deliveries set claimed_until_ms = $1, attempts = 1
          where id in (select id from deliveries order by transaction_id limit $2)",
    )
    .bind(app.now().as_ms() + 60_000)
    .bind(count)
    .execute(&pool)
    .await
    .expect("leases can be written");
    pool.close().await;
}

#[tokio::test]
async fn deliveries_leased_by_another_worker_are_left_alone() {
    let app = owing_many(3, &[]).await;
    lease(&app, 1).await;
    assert_eq!(app.deliver_due().await, 2);
    assert!(!app.anytrack.received().iter().any(|body| body.contains("cs_live_000")));
    app.advance(Duration::from_secs(61));
    assert_eq!(app.deliver_due().await, 1);
    assert_eq!(states(&app).await, (0, 3, 0));
}

#[tokio::test]
async fn slots_that_other_workers_use_are_not_free() {
    let app = owing_many(3, &[]).await;
    lease(&app, 2).await;
    assert_eq!(app.deliver_due().await, 0, "AnyTrack takes two at a time");
    app.advance(Duration::from_secs(61));
    assert_eq!(app.deliver_due().await, 3);
}

#[tokio::test]
async fn a_message_that_is_too_old_fails_without_being_sent() {
    let (app, _) = owing(&[]).await;
    let pool = app.database.look().await;
    sqlx::query("update deliveries set expires_at_ms = due_at_ms + 1000")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    app.advance(Duration::from_secs(1));
    assert_eq!(app.deliver_due().await, 0);
    let delivery = app.delivery().await;
    assert_eq!(
        (delivery.state.as_str(), delivery.reason.as_deref()),
        ("given_up", Some("expired"))
    );
    assert_eq!((delivery.attempts, app.anytrack.received().len()), (0, 0));
}

#[tokio::test]
async fn a_restart_ends_the_leases_of_a_process_that_was_alone() {
    let (app, _) = owing(&[]).await;
    let is_alone = app.database.url.starts_with("sqlite");
    lease(&app, 1).await;
    let app = app.restart(&[]).await;
    assert_eq!(app.deliver_due().await, usize::from(is_alone), "other replicas may hold leases");
    app.advance(Duration::from_secs(61));
    app.deliver_due().await;
    assert_eq!(app.delivery().await.state, "delivered");
}

#[tokio::test]
async fn a_clock_that_jumps_loses_and_repeats_nothing() {
    let app = TestApp::start_with(&[("CLICKSTAMP_RETRY_SCHEDULE", "10s,1m")]).await;
    app.advance(Duration::from_secs(86_400)); // The destination is older than any jump.
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.anytrack.answers([503]);
    assert_eq!(app.deliver_due().await, 1);
    // An hour back, as after a correction: new messages are sent at once, scheduled ones at most
    // that hour later.
    app.set_back(Duration::from_secs(3600));
    app.stripe_processed(&Session::paid("cs_live_2").reference(&click_id).completed()).await;
    assert_eq!(app.deliver_due().await, 1);
    assert!(app.anytrack.received()[1].contains("cs_live_2"));
    app.advance(Duration::from_secs(3600 + 12));
    assert_eq!(app.deliver_due().await, 1);
    // A day forward: leases end, and nothing fails because of it.
    app.stripe_processed(&Session::paid("cs_live_3").reference(&click_id).completed()).await;
    lease(&app, 3).await;
    app.advance(Duration::from_secs(86_400));
    assert_eq!(app.deliver_due().await, 1);
    assert_eq!(states(&app).await, (0, 3, 0));
    let mut received = app.anytrack.received();
    assert_eq!(received.len(), 4);
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 3, "the same bytes each time");
}

/// The destination was added while the clock was an hour ahead.
#[tokio::test]
async fn sales_after_a_clock_was_set_back_are_not_older_than_their_destination() {
    let app = TestApp::start().await;
    app.set_back(Duration::from_secs(3600));
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    assert_eq!(app.deliver_due().await, 1);
    assert_eq!(app.delivery().await.state, "delivered");
}

/// The clock was a day ahead while deliveries failed, arrived and were sent.
#[tokio::test]
async fn work_scheduled_by_a_clock_that_was_ahead_is_rescheduled() {
    let app = TestApp::start_with(&[("CLICKSTAMP_RETRY_SCHEDULE", "1m,2h")]).await;
    let notice = async || app.app().notice_clock().await.expect("the database answers");
    assert_eq!(notice().await, 0, "there is nothing after the start");
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid("cs_live_0").reference(&click_id).completed()).await;
    app.anytrack.answers([503]);
    app.deliver_due().await;
    app.set_back(Duration::from_secs(30));
    assert_eq!(notice().await, 0, "an ordinary pause is left alone");
    app.advance(Duration::from_secs(102));
    app.deliver_due().await;

    let day = Duration::from_secs(86_400);
    app.advance(day);
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.anytrack.answers([503]);
    app.deliver_due().await;
    // As if the process had died while it sent it again.
    app.database
        .change("update deliveries set claimed_until_ms = due_at_ms where state = 'pending'")
        .await;
    let stored = app.stripe(&Session::paid("cs_live_2").reference(&click_id).completed()).await;
    assert!(stored.status.is_success());
    notice().await;
    app.set_back(day);
    assert_eq!(app.process_events().await, 0, "it waits for tomorrow");
    assert_eq!(notice().await, 2, "a delivery and an event");
    assert_eq!(notice().await, 0, "once");
    assert_eq!(app.process_events().await, 1);
    app.deliver_due().await;
    let states = "select transaction_id || ' ' || state from deliveries order by 1";
    let expected = ["cs_live_0 delivered", "cs_live_1 delivered", "cs_live_2 delivered"];
    assert_eq!(app.database.texts(states).await, expected);
}
