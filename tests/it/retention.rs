//! Retention: which visits are deleted, which are kept, and how often this happens.

use std::time::Duration;

use clickstamp::command::prune::{Prune, Pruned};
use clickstamp::stripe::replay::Wanted;

use crate::harness::{Session, TestApp, fixture};

const DAY: Duration = Duration::from_secs(86_400);
const KEEP_30: [(&str, &str); 1] = [("CLICKSTAMP_RETENTION_DAYS", "30")];

async fn pruned(app: &TestApp, wanted: Prune) -> Option<Pruned> {
    let mut pruned = app.app().prune(wanted).await.expect("it can be pruned");
    assert!(pruned.len() <= 1, "there is one site: {pruned:?}");
    pruned.remove("main")
}

async fn click_ids(app: &TestApp) -> Vec<String> {
    app.database.texts("select distinct click_id from visits order by click_id").await
}

async fn assert_replay_agrees(app: &TestApp) {
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn visits_that_are_not_needed_are_deleted_and_others_kept() {
    let app = TestApp::owned(&KEEP_30).await;
    let (page, started) = ("https://shop.example/?gclid=a", app.now());
    let mut kept = Vec::new();

    // A customer journey of two touchpoints that ends in a payment.
    let first = app.visit(page).await;
    let last = app.mint().await;
    app.visit_as(&last, page, Some(&first)).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&last).completed()).await;
    kept.extend([first, last]);
    // An abandoned checkout, which a later one may recover.
    let abandoned = app.visit(page).await;
    app.stripe_processed(&fixture("checkout.session.expired.dahlia", &abandoned)).await;
    kept.push(abandoned);
    // A manual match.
    let by_hand = app.visit(page).await;
    app.stripe_processed(&Session::paid("cs_live_2").completed()).await;
    let unmatched = "select id from conversions where match_state = 'unmatched'";
    let id = app.database.texts(unmatched).await.remove(0);
    let owner = app.owner().await;
    owner.save(&format!("/conversions/{id}/match"), &[("click_id", &by_hand)]).await;
    kept.push(by_hand);
    // A provisional visit with a payment, whose own visit may still arrive.
    let unreported = app.load_tag("/t/main.js", &[("referer", page)]).await;
    app.advance(DAY / 24);
    assert_eq!(app.keep_landings().await, 1);
    app.stripe_processed(&Session::paid("cs_live_3").reference(&unreported).completed()).await;
    app.rejoin().await;
    kept.push(unreported);
    // A click ID with a later visit, and one with a note, which is deleted with it.
    let again = app.visit(page).await;
    kept.push(again.clone());
    let noted = app.visit(page).await;
    let note =
        format!(r#"{{"s":"main","i":"{noted}","t":1,"a":"p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys"}}"#);
    assert!(app.post_visit(note).await.status.is_success());
    for _ in 0..3 {
        app.visit(page).await;
    }
    app.advance(DAY * 20);
    app.visit_as(&again, page, Some(&again)).await;
    kept.push(app.visit(page).await);
    app.advance(DAY * 15);
    app.deliver_due().await;
    let (all, counted) =
        (click_ids(&app).await, app.api("/api/v1/overview?from=2026-01-01T00:00:00Z").await);
    assert_eq!(all.len(), kept.len() + 4);

    let expected =
        Pruned { visits: 4, oldest: started.plus(DAY / 24), newest: started.plus(DAY / 24) };
    assert_eq!(pruned(&app, Prune::Count).await, Some(expected));
    assert_eq!(click_ids(&app).await, all, "a count deletes nothing");
    assert_eq!(pruned(&app, Prune::Delete).await, Some(expected));
    kept.sort();
    assert_eq!(click_ids(&app).await, kept);
    assert_eq!(app.database.number("select count(*) from visit_notes").await, 0);
    for wanted in [Prune::Count, Prune::Delete] {
        assert_eq!(pruned(&app, wanted).await, None, "there is nothing left to do");
    }
    let still = app.api("/api/v1/overview?from=2026-01-01T00:00:00Z").await;
    assert_eq!(still["visits"], counted["visits"], "what was counted stays counted");
    assert_replay_agrees(&app).await;
}

#[tokio::test]
async fn the_notes_of_a_browser_made_click_id_are_deleted_with_its_visit() {
    let app = TestApp::start_with(&KEEP_30).await;
    let made = format!("ck_z{}", "0123456789".repeat(3));
    app.visit_as(&made, "https://shop.example/", None).await;
    let note =
        format!(r#"{{"s":"main","i":"{made}","t":1,"a":"p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys"}}"#);
    assert!(app.post_visit(note).await.status.is_success());
    app.advance(DAY * 31);
    assert_eq!(pruned(&app, Prune::Delete).await.map(|pruned| pruned.visits), Some(1));
    assert_eq!(app.database.number("select count(*) from visit_notes").await, 0);
}

#[tokio::test]
async fn more_visits_than_one_batch_are_all_deleted() {
    let app = TestApp::start_with(&KEEP_30).await;
    let mut paid = Vec::new();
    for at in 0..3 {
        let click_id = app.visit("https://shop.example/").await;
        let session = Session::paid(&format!("cs_live_{at}"));
        app.stripe_processed(&session.reference(&click_id).completed()).await;
        paid.push(click_id);
        app.advance(Duration::from_secs(60));
    }
    app.deliver_due().await;
    // Around each of them, in the order of the key, are 36 * 12 visits that are not needed.
    let pool = app.database.look().await;
    let copied = sqlx::query(
        "insert into visits (click_id, sent_at_ms, site_id, at_ms, received_at_ms, channel, device, flags, visitor, details)
         with recursive n (i) as (select 0 union all select i + 1 from n where i < 35),
                        m (j) as (select 0 union all select j + 1 from m where j < 11)
         select substr(v.click_id, 1, 12) || substr('0123456789abcdefghijklmnopqrstuvwxyz', i + 1, 1)
                  || '0000000000000000000000' || cast(10 + j as text), 1, v.site_id, v.at_ms, v.received_at_ms, v.channel,
                v.device, v.flags, v.visitor, v.details
           from visits v, n, m",
    );
    copied.execute(&pool).await.expect("visits can be copied");
    pool.close().await;
    app.advance(DAY * 31);
    for wanted in [Prune::Count, Prune::Delete] {
        assert_eq!(pruned(&app, wanted).await.map(|pruned| pruned.visits), Some(3 * 36 * 12));
    }
    paid.sort();
    assert_eq!(click_ids(&app).await, paid);
    assert_replay_agrees(&app).await;
}

#[tokio::test]
async fn retention_runs_once_a_day_over_all_replicas_and_only_if_set() {
    let app = TestApp::start_with(&KEEP_30).await;
    let other = app.replica_with(&KEEP_30).await;
    app.visit("https://shop.example/").await;
    app.advance(DAY * 31);
    let mut done = 0;
    for _ in 0..3 {
        done += i32::from(app.app().prune_daily().await.expect("it can be asked"));
        if let Some(other) = &other {
            done += i32::from(other.prune_daily().await.expect("it can be asked"));
        }
    }
    assert_eq!((done, click_ids(&app).await.len()), (1, 0));
    app.visit("https://shop.example/").await;
    app.advance(DAY);
    assert!(app.app().prune_daily().await.expect("it can be asked"), "another day");
    assert_eq!(click_ids(&app).await.len(), 1, "it is not old enough");

    let app = TestApp::start().await;
    app.visit("https://shop.example/").await;
    app.advance(DAY * 4_000);
    assert!(app.app().prune_daily().await.expect("it can be asked"), "page events");
    assert_eq!(pruned(&app, Prune::Delete).await, None, "kept is the default");
    assert_eq!(click_ids(&app).await.len(), 1);
}
