//! The thank-you page: a payment whose checkout session the tag sends from there is matched to the
//! browser's visit, if no better match exists.

use clickstamp::stripe::replay::Wanted;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::harness::{Session, TestApp};

const LANDING: &str = "https://shop.example/?utm_source=google&gclid=a";
const THANKS: &str = "https://shop.example/thanks?session_id=cs_live_1";

/// A sale with a reference that is not a click ID.
fn sale(reference: &str) -> serde_json::Value {
    let session = Session::paid("cs_live_1").with(serde_json::json!({"customer": null}));
    if reference.is_empty() {
        session.completed()
    } else {
        session.reference(reference).completed()
    }
}

async fn settle(app: &TestApp) {
    app.rejoin().await;
    assert_eq!(app.rejoin().await, 0, "it comes to rest");
    app.advance(std::time::Duration::from_secs(180));
    app.deliver_due().await;
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn a_payment_without_a_usable_reference_is_matched_by_the_thank_you_page_before_and_after_it()
{
    for reference in ["", "--CLICK-ID--", "order-17"] {
        for visit_first in [true, false] {
            let app = TestApp::owned(&[]).await;
            let click_id = app.visit(LANDING).await;
            if !visit_first {
                app.stripe_processed(&sale(reference)).await;
                assert_eq!(app.conversion().await.matched_by, None);
            }
            for _ in 0..2 {
                app.visit_as(&click_id, THANKS, Some(&click_id)).await;
            }
            if visit_first {
                app.stripe_processed(&sale(reference)).await;
            }
            app.rejoin().await;
            let conversion = app.conversion().await;
            let name = format!("{reference:?}, visit first: {visit_first}");
            assert_eq!(conversion.matched_by.as_deref(), Some("stripe_object"), "{name}");
            assert_eq!(conversion.touches.join(" "), click_id, "{name}");
            let channel = app.database.texts("select channel from touches").await;
            assert_eq!(channel, ["paid search"], "the landing, not the thank-you page; {name}");
            settle(&app).await;
            let id = app.database.texts("select id from conversions").await.remove(0);
            let page = app.owner().await.page(&format!("/conversions/{id}")).await;
            assert!(page.contains("Matched by your thank-you page"), "{name}");
        }
    }
}

#[tokio::test]
async fn the_payments_own_click_id_takes_precedence_over_the_thank_you_page() {
    let app = TestApp::start().await;
    let (own, other) = (app.visit(LANDING).await, app.visit(LANDING).await);
    app.visit_as(&other, THANKS, Some(&other)).await;
    app.stripe_processed(&sale(&own)).await;
    let conversion = app.conversion().await;
    assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
    assert_eq!(conversion.click_id.as_deref(), Some(own.as_str()));
    settle(&app).await;
}

#[tokio::test]
async fn a_browser_whose_first_visit_is_the_thank_you_page_gives_no_match() {
    let app = TestApp::start().await;
    let fresh = app.mint().await;
    app.visit_as(&fresh, THANKS, None).await;
    app.stripe_processed(&sale("")).await;
    app.rejoin().await;
    assert_eq!(app.conversion().await.reason.as_deref(), Some("no_reference"));
    settle(&app).await;
}

#[tokio::test]
async fn only_checkout_sessions_are_stored() {
    let app = TestApp::start().await;
    let click_id = app.visit(LANDING).await;
    for url in [
        "https://shop.example/thanks?session_id=",
        "https://shop.example/thanks?session_id={CHECKOUT_SESSION_ID}",
        "https://shop.example/thanks?session_id=sess_1",
        "https://shop.example/thanks?session_id=cs_live%201",
        "https://shop.example/thanks?id=cs_live_1",
        "https://shop.example/session_id=cs_live_1",
    ] {
        app.visit_as(&click_id, url, Some(&click_id)).await;
    }
    let long = format!("https://shop.example/?session_id=cs_{}", "a".repeat(300));
    app.visit_as(&click_id, &long, Some(&click_id)).await;
    assert_eq!(app.database.number("select count(*) from visit_sessions").await, 0);
    let named = "https://shop.example/?a=b&checkout_session_id=cs_test_a1B2#x";
    app.visit_as(&click_id, named, Some(&click_id)).await;
    let kept = app.database.texts("select session_id from visit_sessions").await;
    assert_eq!(kept, ["cs_test_a1B2"]);
}

/// Steps: 0 and 1 a browser's landing and its thank-you page, 2 the sale, 3 an earlier sale of the
/// same customer with a click ID of its own, 4 and 5 matching again.
async fn outcome(order: &[usize]) -> String {
    let app = TestApp::start().await;
    let (browser, customer) = (app.mint().await, app.visit(LANDING).await);
    let of_customer = |session: Session| session.with(serde_json::json!({"customer": "cus_1"}));
    for step in order {
        match step {
            0 => app.visit_as(&browser, LANDING, None).await,
            1 => app.visit_as(&browser, THANKS, Some(&browser)).await,
            2 => {
                let late = of_customer(Session::paid("cs_live_1")).at(1_790_000_900);
                app.stripe_processed(&late.completed()).await;
            }
            3 => {
                let early = of_customer(Session::paid("cs_live_0")).reference(&customer);
                app.stripe_processed(&early.completed()).await;
            }
            _ => drop(app.rejoin().await),
        }
    }
    settle(&app).await;
    format!("{:#?}", app.conversions().await)
        .replace(&browser, "BROWSER")
        .replace(&customer, "CUSTOMER")
}

#[test]
fn in_any_order_of_steps_the_match_is_the_same() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let expected = runtime.block_on(outcome(&[0, 1, 2, 3, 4]));
    assert!(expected.contains("stripe_object") && expected.contains("BROWSER"), "{expected}");
    let steps = Just((0..6).collect::<Vec<usize>>()).prop_shuffle();
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() };
    TestRunner::new(config)
        .run(&steps, |order| {
            prop_assert_eq!(&runtime.block_on(outcome(&order)), &expected, "{:?}", order);
            Ok(())
        })
        .unwrap();
}
