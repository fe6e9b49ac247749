//! Visits from before the current rules for sources and channels: read again in the background, so
//! that every source has one name in all reports.

use std::time::Duration;

use clickstamp::clock::Clock;
use clickstamp::stripe::replay::Wanted;
use serde_json::{Value, json};

use crate::harness::{Database, FakeDestination, Server, Session, TestApp};

const DAY: Duration = Duration::from_secs(86_400);
/// As Meta's ads spell it; the older rules read it as the source `fb` and the channel `paid`.
const OLD: &str = "https://shop.example/offer?utm_source=fb&utm_medium=paid&utm_campaign=old";
const NEW: &str = "https://shop.example/offer?utm_source=facebook&utm_medium=paid&utm_campaign=new";

/// Visits of both spellings, some with payments and one with an abandoned checkout.
async fn story(app: &TestApp, part: usize) {
    for at in 0..3 {
        let (old, new) = (app.visit(OLD).await, app.visit(NEW).await);
        let again = app.mint().await;
        app.visit_as(&again, NEW, Some(&old)).await;
        for (name, click_id) in [("old", &old), ("new", &new), ("again", &again)] {
            let session = Session::paid(&format!("cs_live_{part}_{at}_{name}"));
            let session = session.reference(click_id).at(app.now().as_seconds());
            app.stripe_processed(&session.completed()).await;
        }
    }
    let left = app.visit(OLD).await;
    let expired = Session::paid(&format!("cs_live_{part}_left")).reference(&left);
    let expired = expired.with(json!({"payment_status": "unpaid", "status": "expired"}));
    app.stripe_processed(&expired.event("checkout.session.expired")).await;
    // The visitor comes back: another visit of the same click ID.
    app.visit_as(&left, OLD, Some(&left)).await;
    app.deliver_due().await;
}

/// Gives everything that came from the old spelling the names of the older rules.
async fn make_old(app: &TestApp) {
    for table in [
        "update visits set source = 'fb', channel = 'paid' where campaign = 'old'",
        "update visit_counts set source = 'fb', channel = 'paid' where campaign = 'old'",
        "update touches set source = 'fb', channel = 'paid' where campaign = 'old'",
        "update abandoned set source = 'fb', channel = 'paid' where campaign = 'old'",
        "delete from settings where name = 'visits_read_again'",
    ] {
        app.database.change(table).await;
    }
}

async fn roll_up(app: &TestApp) {
    app.app().fold_counts().await.expect("visits can be rolled up");
    app.app().sum_days().await.expect("days can be rolled up");
}

/// What the API says by source, campaign and channel, and all names that are stored.
async fn reports(app: &TestApp) -> (Value, Vec<String>) {
    let names = "select 'visit ' || channel || ' ' || source || ' ' || campaign from visits
        union all select 'touch ' || channel || ' ' || source || ' ' || campaign from touches
        union all select 'abandoned ' || channel || ' ' || source || ' ' || campaign from abandoned order by 1";
    let found = app.api("/api/v1/overview?from=2026-01-01T00:00:00Z").await;
    (found, app.database.texts(names).await)
}

const SOURCES: &str = "select name || ' ' || sum(visits) from visit_sums
    where dimension in (1, 2) and width = 96 group by dimension, name having sum(visits) <> 0 order by 1";

#[tokio::test]
async fn after_it_every_report_is_as_if_all_visits_had_come_today() {
    let (fresh, mut app) = (TestApp::owned(&[]).await, TestApp::owned(&[]).await);
    for part in 0..2 {
        for app in [&fresh, &app] {
            story(app, part).await;
        }
        make_old(&app).await;
        if part == 0 {
            // The first part is rolled up under its old names.
            for app in [&fresh, &app] {
                app.advance(DAY * 3);
                roll_up(app).await;
            }
        }
    }
    let sources = |found: &Value| found["by_source"]["rows"].as_array().map(Vec::len);
    let (expected, before) = (reports(&fresh).await, reports(&app).await);
    assert_eq!((sources(&expected.0), sources(&before.0)), (Some(1), Some(2)));
    let other = app.replica().await;
    while app.app().read_some_visits_again().await.expect("a step") {
        if let Some(other) = &other {
            other.read_some_visits_again().await.expect("a step of another copy");
        }
    }
    assert_eq!(reports(&app).await, expected);
    app.app().read_visits_again().await.expect("there is nothing left");
    for app in [&fresh, &app] {
        app.advance(DAY * 3);
        roll_up(app).await;
    }
    assert_eq!(reports(&app).await, reports(&fresh).await, "rolled up again");
    assert_eq!(app.database.texts(SOURCES).await, fresh.database.texts(SOURCES).await);
    let left = "select count(*) from visits v, touches t, abandoned a
                 where v.source = 'fb' or t.source = 'fb' or a.source = 'fb'";
    assert_eq!(app.database.number(left).await, 0);
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be replayed");
    assert!(replayed.differences.is_empty(), "{replayed:?}");
    if let Some(other) = other {
        other.close().await;
    }
    app.leave_things_undone();
}

#[tokio::test]
async fn it_continues_where_it_stopped_and_ends() {
    let app = TestApp::owned(&[]).await;
    for _ in 0..5 {
        app.visit(OLD).await;
    }
    app.database
        .change(
            "insert into visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, url, channel, source, medium, campaign, device, flags, visitor, details)
             with recursive n (i) as (select 1 union all select i + 1 from n where i < 100)
             select v.click_id, v.sent_at_ms + i, v.site_id, v.at_ms, v.received_at_ms, v.url, v.channel, v.source, v.medium,
                    v.campaign, v.device, v.flags, v.visitor, v.details
               from visits v, n",
        )
        .await;
    make_old(&app).await;
    let old = "select count(*) from visits where source = 'fb'";
    assert!(app.app().read_some_visits_again().await.expect("a step"));
    assert_eq!(app.database.number(old).await, 305, "two hundred of them");
    let page = app.owner().await.page("/").await;
    assert!(page.contains("Reading older visits again: 200 so far"), "{page}");
    let app = app.restart(&[]).await;
    let mut steps = 0;
    while app.app().read_some_visits_again().await.expect("a step") {
        steps += 1;
    }
    assert_eq!((steps, app.database.number(old).await), (1, 0), "200, and the last 105");
    assert!(!app.app().read_some_visits_again().await.expect("nothing"), "it is done");
    let done = app.database.texts("select value from settings where name = 'visits_read_again'");
    assert!(done.await[0].contains("\"renamed\":505"));
    let older = "update settings set value = '{\"rules\":1,\"click_id\":\"\",\"sent_at_ms\":0,\"visits\":505,\"renamed\":0,\"is_done\":true}'
                  where name = 'visits_read_again'";
    app.database.change(older).await;
    assert!(app.app().read_some_visits_again().await.expect("a step"), "the rules are newer");
}

#[tokio::test]
async fn killed_in_the_middle_of_a_step_nothing_of_the_step_happened() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let mut server = Server::start(&database, &anytrack).await;
    server.sale("cs_live_1").await;
    assert!(server.stop().await);
    let old = [
        "update visits set url = 'https://shop.example/?utm_source=fb&utm_medium=paid', source = 'fb', medium = 'paid', channel = 'paid'",
        "update visit_counts set source = 'fb', medium = 'paid', channel = 'paid'",
        "delete from settings where name = 'visits_read_again'",
    ];
    for change in old {
        database.change(change).await;
    }
    let mut server = Server::halting_at("reading_again", &database, &anytrack).await;
    server.says("halted at reading_again").await;
    server.kill().await;
    let names = "select source || ' ' || channel from visits";
    assert_eq!(database.texts(names).await, ["fb paid"]);
    let mut app = TestApp::on(database, anytrack, Clock::system()).await;
    app.leave_things_undone(); // The clock is real: a delivery may become due at any time.
    app.app().read_visits_again().await.expect("it can be read again");
    assert_eq!(app.database.texts(names).await, ["facebook paid social"]);
    let counted = "select source || ' ' || visits from visit_counts where visits <> 0";
    assert_eq!(app.database.texts(counted).await, ["facebook 1"]);
    app.process_events().await;
    app.rejoin().await;
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 1);
}
