//! Provisional visits, recorded from the request for the tag's script: when they are stored, used
//! and deleted.

use std::time::Duration;

use clickstamp::stripe::replay::Wanted;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::harness::{Session, TestApp};

const LANDING: &str = "https://www.shop.example/offer?utm_source=google&utm_medium=cpc&gclid=AbC";
type Headers<'a> = &'a [(&'a str, &'a str)];
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Requests the script from an ad's landing page and lets the time pass in which the tag would send
/// the visit.
async fn land(app: &TestApp) -> String {
    let click_id = app.load_tag("/t/main.js", &[("referer", LANDING)]).await;
    app.advance(MINUTE);
    assert_eq!(app.keep_landings().await, 1);
    click_id
}

async fn counted(app: &TestApp) -> (i64, i64, i64) {
    let api = app.api("/api/v1/overview").await;
    let rows = app.database.number("select count(*) from visits").await;
    let waiting = app.database.number("select count(*) from provisional_visits").await;
    (api["visits"].as_i64().expect("a count"), rows, waiting)
}

async fn assert_replay_agrees(app: &TestApp) {
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn only_landings_with_an_ad_click_are_stored_and_only_if_allowed() {
    let app = TestApp::start().await;
    let plain = "https://www.shop.example/offer?color=red";
    let empty = "https://www.shop.example/offer?gclid=&utm_source=";
    let rows: [(&str, Headers<'_>, usize); 9] = [
        ("/t/main.js", &[], 0),
        ("/t/main.js", &[("referer", "https://www.shop.example/")], 0),
        ("/t/main.js", &[("referer", plain)], 0),
        ("/t/main.js", &[("referer", empty)], 0),
        ("/t/main.js?nc=1", &[("referer", LANDING)], 0),
        ("/t/main.js", &[("referer", LANDING), ("sec-purpose", "prefetch;prerender")], 0),
        ("/t/main.js", &[("referer", LANDING)], 1),
        ("/t/main.js", &[("referer", "https://www.shop.example/?UTM_Campaign=x")], 1),
        ("/t/main.js", &[("referer", "https://www.shop.example/?a=b&fbclid=y")], 1),
    ];
    for (path, headers, kept) in rows {
        app.load_tag(path, headers).await;
        assert_eq!(app.keep_landings().await, 0, "its report may still come");
        app.advance(MINUTE);
        assert_eq!(app.keep_landings().await, kept, "{path} {headers:?}");
    }
    app.send("HEAD", "/t/main.js", &[("referer", LANDING)], "").await;
    app.send("GET", "/t/main.static.js", &[("referer", LANDING)], "").await;
    app.advance(MINUTE);
    assert_eq!(app.keep_landings().await, 0);
    assert_eq!(counted(&app).await, (0, 0, 3));
}

#[tokio::test]
async fn a_site_that_requires_consent_stores_no_provisional_visits() {
    let app = TestApp::owned(&[]).await;
    let form =
        [("name", "Shop"), ("timezone", "UTC"), ("currency", "usd"), ("consent", "required")];
    app.owner().await.save("/settings/sites/main", &form).await;
    app.load_tag("/t/main.js", &[("referer", LANDING)]).await;
    app.advance(MINUTE);
    assert_eq!(app.keep_landings().await, 0);
}

#[tokio::test]
async fn a_landing_whose_visit_arrives_in_time_is_not_stored() {
    let app = TestApp::start().await;
    let click_id = app.load_tag("/t/main.js", &[("referer", LANDING)]).await;
    app.visit_as(&click_id, LANDING, None).await;
    app.advance(MINUTE);
    assert_eq!(app.keep_landings().await, 0);
    assert_eq!(counted(&app).await, (1, 1, 0));
}

#[tokio::test]
async fn a_payment_matches_a_provisional_visit_and_its_page_explains_it() {
    let app = TestApp::owned(&[]).await;
    let click_id = land(&app).await;
    assert_eq!(counted(&app).await, (0, 0, 1), "it counts for nothing yet");
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    let conversion = app.conversion().await;
    assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
    assert_eq!(conversion.touches.join(" "), click_id);
    assert_replay_agrees(&app).await;

    for _ in 0..3 {
        assert_eq!(app.rejoin().await, 0, "there is nothing to join again");
        assert_eq!(counted(&app).await, (1, 1, 0), "a payment names it, so it counts, once");
    }
    assert_replay_agrees(&app).await;
    app.deliver_due().await;
    let visit = app.api(&format!("/api/v1/visits/{click_id}")).await;
    assert_eq!((&visit["source"], &visit["is_reported"]), (&json!("google"), &json!(false)));

    let id = app.database.texts("select id from conversions").await.remove(0);
    let page = app.owner().await.page(&format!("/conversions/{id}")).await;
    assert!(page.contains("The visit was not reported"), "{page}");
    assert!(page.contains("to connect-src in the page’s Content-Security-Policy"), "{page}");
}

#[tokio::test]
async fn a_payment_before_its_provisional_visit_is_matched_automatically() {
    let app = TestApp::start().await;
    let click_id = app.load_tag("/t/main.js", &[("referer", LANDING)]).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    assert_eq!(app.conversion().await.reason.as_deref(), Some("unknown_click_id"));
    app.advance(MINUTE);
    assert_eq!(app.keep_landings().await, 1);
    assert_eq!([app.rejoin().await, app.rejoin().await], [1, 0]);
    assert_eq!(app.conversion().await.touches, [click_id]);
    assert_eq!(counted(&app).await, (1, 1, 0));
    assert_replay_agrees(&app).await;
    app.deliver_due().await;
}

#[tokio::test]
async fn a_destination_receives_the_landings_ad_data() {
    let app = TestApp::start().await;
    let click_id = land(&app).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.deliver_due().await;
    assert!(app.delivery().await.request.contains(&click_id));
    let found = app.database.texts("select details from provisional_visits").await;
    assert!(found[0].contains(r#""gclid":"AbC""#), "byte-exact: {found:?}");
}

#[tokio::test]
async fn the_tags_visit_replaces_the_provisional_one_before_and_after_the_payment() {
    for payment_first in [false, true] {
        for promoted in [false, true] {
            let app = TestApp::start().await;
            let click_id = land(&app).await;
            let paid = Session::paid("cs_live_1").reference(&click_id).completed();
            if payment_first {
                app.stripe_processed(&paid).await;
                if promoted {
                    app.rejoin().await;
                }
            }
            let before = app.visit("https://www.shop.example/?utm_source=news").await;
            let body = json!({"s": "main", "i": click_id, "t": 7, "u": LANDING, "p": before, "r": "https://www.google.com/"});
            for _ in 0..2 {
                assert!(app.post_visit(body.to_string()).await.status.is_success());
            }
            if !payment_first {
                app.stripe_processed(&paid).await;
            }
            app.rejoin().await;
            app.rejoin().await;
            let name = format!("payment first: {payment_first}, promoted: {promoted}");
            assert_eq!(counted(&app).await, (2, 2, 0), "{name}");
            let touches = app.conversion().await.touches;
            assert_eq!(touches, [before, click_id], "the report knows what was before; {name}");
            assert_eq!(app.database.number("select count(*) from waits").await, 0, "{name}");
            assert_replay_agrees(&app).await;
            app.deliver_due().await;
        }
    }
}

#[tokio::test]
async fn a_later_visit_with_the_same_click_id_does_not_replace_the_landing() {
    let app = TestApp::start().await;
    let click_id = land(&app).await;
    app.advance(Duration::from_secs(7_200));
    app.visit_as(&click_id, "https://www.shop.example/", Some(&click_id)).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    for _ in 0..2 {
        assert_eq!(app.rejoin().await, 0);
        assert_eq!(counted(&app).await, (2, 2, 0), "the landing and the return");
    }
    let channel = app.database.texts("select channel from touches").await;
    assert_eq!(channel, ["paid search"], "the ad keeps the credit");
    assert_replay_agrees(&app).await;
    app.deliver_due().await;
}

#[tokio::test]
async fn a_provisional_visit_is_part_of_the_customer_journey() {
    let app = TestApp::start().await;
    let first = land(&app).await;
    let last = app.mint().await;
    app.visit_as(&last, "https://www.shop.example/?utm_source=mail", Some(&first)).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&last).completed()).await;
    assert_eq!(app.rejoin().await, 0);
    assert_eq!(app.conversion().await.touches, [first, last]);
    assert_eq!(counted(&app).await, (2, 2, 0));
    assert_replay_agrees(&app).await;
    app.deliver_due().await;
}

#[tokio::test]
async fn provisional_visits_without_a_payment_are_deleted_after_seven_days() {
    let app = TestApp::start().await;
    let named = land(&app).await;
    land(&app).await;
    app.advance(DAY * 6);
    assert_eq!(app.app().forget_landings().await.expect("it can be asked"), 0);
    app.stripe_processed(&Session::paid("cs_live_1").reference(&named).completed()).await;
    app.advance(DAY + MINUTE * 2);
    // Without running the workers in between: a visit with a payment is kept.
    assert_eq!(app.app().forget_landings().await.expect("they can be forgotten"), 1);
    assert_eq!(counted(&app).await, (1, 1, 0));
    app.rejoin().await;
    assert_eq!(app.conversion().await.matched_by.as_deref(), Some("click_id"));
    assert_replay_agrees(&app).await;
    app.deliver_due().await;
}

/// In every order of steps, the landing is one visit and the payment is matched to it.
#[test]
fn in_any_order_it_is_one_visit() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
    let steps = proptest::sample::subsequence((0..6).collect::<Vec<usize>>(), 6);
    let mut runner =
        TestRunner::new(Config { cases: 12, failure_persistence: None, ..Config::default() });
    let shuffled = proptest::strategy::Strategy::prop_shuffle(steps);
    let run = |order: Vec<usize>| {
        runtime.block_on(async {
            let app = TestApp::start().await;
            let click_id = app.load_tag("/t/main.js", &[("referer", LANDING)]).await;
            app.advance(MINUTE);
            let body = json!({"s": "main", "i": click_id, "t": 7, "u": LANDING});
            for step in &order {
                match step {
                    0 => drop(app.keep_landings().await),
                    1 => drop(app.post_visit(body.to_string()).await),
                    2 => {
                        let paid = Session::paid("cs_live_1").reference(&click_id).completed();
                        app.stripe_processed(&paid).await;
                    }
                    3 | 4 => drop(app.rejoin().await),
                    _ => drop(app.app().forget_landings().await),
                }
            }
            app.rejoin().await;
            app.rejoin().await;
            let (visits, rows, _) = counted(&app).await;
            assert_eq!((visits, rows), (1, 1), "{order:?}");
            assert_eq!(app.conversion().await.touches, [click_id], "{order:?}");
            assert_replay_agrees(&app).await;
            app.deliver_due().await;
        });
        Ok(())
    };
    runner.run(&shuffled, run).expect("every order");
}
