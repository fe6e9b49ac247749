//! The ledger: every payment is one conversion, matched or with a reason, in any order of events.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::harness::{Conversion, Session, TestApp};

const PAGE: &str = "https://www.shop.localhost/offer?utm_source=google&utm_campaign=spring";

async fn settle(app: &TestApp) {
    app.process_events().await;
    app.rejoin().await;
    app.advance(Duration::from_secs(121)); // Deliveries that wait for a visit are due then.
    app.deliver_due().await;
}

fn matched_by(conversion: &Conversion) -> (Option<&str>, Option<&str>) {
    (conversion.matched_by.as_deref(), conversion.click_id.as_deref())
}

#[tokio::test]
async fn a_returned_click_id_matches_its_visit() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    settle(&app).await;
    let conversion = app.conversion().await;
    assert_eq!(matched_by(&conversion), (Some("click_id"), Some(click_id.as_str())));
    assert_eq!(conversion.touches, [click_id]);
}

#[tokio::test]
async fn the_customer_journey_is_stored_from_first_to_last_touch() {
    let app = TestApp::start().await;
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..3 {
        let id = app.mint().await;
        app.visit_as(&id, PAGE, ids.last().map(String::as_str)).await;
        app.advance(Duration::from_secs(60));
        ids.push(id);
    }
    let last = ids.last().expect("three visits").clone();
    app.visit_as(&last, PAGE, Some(&last)).await; // A plain return is not a touchpoint.
    app.stripe_processed(&Session::paid("cs_live_1").reference(&last).completed()).await;
    settle(&app).await;
    assert_eq!(app.conversion().await.touches, ids);
}

#[tokio::test]
async fn every_unmatched_reference_has_its_reason() {
    let app = TestApp::start().await;
    let unknown = app.mint().await;
    let mut forged = unknown.clone();
    let end = if forged.ends_with('0') { '1' } else { '0' };
    forged.pop();
    forged.push(end);
    let rows = [
        ("cs_live_a", Value::Null, "no_reference"),
        ("cs_live_b", json!(""), "no_reference"),
        ("cs_live_c", json!("--CLICK-ID--"), "placeholder_not_replaced"),
        ("cs_live_d", json!("%2D%2Dclick-id%2D%2D"), "placeholder_not_replaced"),
        ("cs_live_e", json!("order-2291"), "foreign_reference"),
        ("cs_live_f", json!("ck_REPLACE_WITH_A_REAL_CLICK_ID"), "foreign_reference"),
        ("cs_live_g", json!(unknown), "unknown_click_id"),
        ("cs_live_h", json!(forged), "forged_click_id"),
    ];
    for (id, reference, _) in &rows {
        app.stripe_processed(
            &Session::paid(id).with(json!({"client_reference_id": reference})).completed(),
        )
        .await;
    }
    settle(&app).await;
    let found: Vec<_> = app
        .conversions()
        .await
        .into_iter()
        .map(|c| (c.transaction_id, c.reason.unwrap_or_default()))
        .collect();
    let expected: Vec<_> =
        rows.iter().map(|(id, _, reason)| ((*id).to_owned(), (*reason).to_owned())).collect();
    assert_eq!(found, expected);
    for body in app.anytrack.received() {
        let body: Value = serde_json::from_str(&body).unwrap();
        let sent = body.get("clickid").and_then(Value::as_str).unwrap_or_default();
        assert!(sent.is_empty() || sent == unknown, "{sent} must not leave");
    }
}

#[tokio::test]
async fn weaker_rules_match_when_the_reference_does_not() {
    let app = TestApp::start().await;
    let (one, two) = (app.visit(PAGE).await, app.visit(PAGE).await);
    let note = json!({"s": "main", "i": two, "t": 1, "a": "p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys"})
        .to_string();
    assert_eq!(app.post_visit(note).await.status.as_u16(), 204);
    let metadata = Session::paid("cs_live_m")
        .with(json!({"client_reference_id": "order-1", "metadata": {"click_id": one}}));
    let anytrack = Session::paid("cs_live_n").reference("p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys");
    app.stripe_processed(&metadata.completed()).await;
    app.stripe_processed(&anytrack.completed()).await;
    settle(&app).await;
    let found = app.conversions().await;
    assert_eq!(matched_by(&found[0]), (Some("metadata"), Some(one.as_str())));
    assert_eq!(matched_by(&found[1]), (Some("anytrack_click_id"), Some(two.as_str())));
}

#[tokio::test]
async fn a_visit_that_arrives_after_its_payment_is_matched_automatically() {
    let app = TestApp::start().await;
    let click_id = app.mint().await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    assert_eq!(app.conversion().await.reason.as_deref(), Some("unknown_click_id"));
    assert_eq!(app.deliver_due().await, 0, "the first attempt waits for the visit");
    app.visit_as(&click_id, PAGE, None).await;
    assert_eq!(app.rejoin().await, 1);
    assert_eq!(app.rejoin().await, 0, "matched once");
    assert_eq!(matched_by(&app.conversion().await), (Some("click_id"), Some(click_id.as_str())));
    assert_eq!(app.deliver_due().await, 1, "the waiting delivery is due now");
    assert_eq!(app.anytrack.received().len(), 1);
}

#[tokio::test]
async fn a_late_visit_queues_a_message_that_had_no_identity() {
    let app = TestApp::start().await;
    let made = format!("ck_z{}", "7".repeat(32));
    let session = Session::paid("cs_live_1")
        .reference(&made)
        .with(json!({"customer_details": null, "customer_email": null}));
    app.stripe_processed(&session.completed()).await;
    let skipped = app.delivery().await;
    assert_eq!(
        (skipped.state.as_str(), skipped.reason.as_deref()),
        ("skipped", Some("no_identity"))
    );
    app.visit_as(&made, PAGE, None).await;
    settle(&app).await;
    assert_eq!(app.conversion().await.matched_by.as_deref(), Some("click_id"));
    assert_eq!(app.delivery().await.state, "delivered");
}

#[tokio::test]
async fn delayed_methods_pay_once_whatever_comes_first() {
    for order in [[0, 1], [1, 0]] {
        let app = TestApp::start().await;
        let click_id = app.visit(PAGE).await;
        let session = Session::paid("cs_live_1")
            .reference(&click_id)
            .with(json!({"payment_status": "unpaid"}));
        let events = [
            session.completed(),
            session
                .with(json!({"payment_status": "paid"}))
                .at(1_790_300_000)
                .event("checkout.session.async_payment_succeeded"),
        ];
        for at in order {
            app.stripe_processed(&events[at]).await;
            app.deliver_due().await;
        }
        let conversion = app.conversion().await;
        assert_eq!(
            (conversion.status.as_str(), conversion.kind.as_str()),
            ("paid", "purchase"),
            "{order:?}"
        );
        assert_eq!(app.anytrack.received().len(), 1, "{order:?}");
    }
}

#[tokio::test]
async fn a_delayed_method_that_fails_is_never_delivered() {
    let app = TestApp::start().await;
    let session = Session::paid("cs_live_1").with(json!({"payment_status": "unpaid"}));
    app.stripe_processed(&session.completed()).await;
    assert_eq!(app.conversion().await.status, "pending");
    app.stripe_processed(&session.event("checkout.session.async_payment_failed")).await;
    settle(&app).await;
    assert_eq!(app.conversion().await.status, "failed");
    assert!(app.deliveries().await.is_empty());
}

#[tokio::test]
async fn a_payment_is_matched_through_an_earlier_payment_of_the_same_customer() {
    for first_comes_first in [true, false] {
        let app = TestApp::start().await;
        let click_id = app.visit(PAGE).await;
        let first = Session::paid("cs_live_1")
            .reference(&click_id)
            .with(json!({"customer": "cus_1"}))
            .completed();
        let second = Session::paid("cs_live_2")
            .with(json!({"customer": {"id": "cus_1"}}))
            .at(1_790_900_000)
            .completed();
        let third = Session::paid("cs_live_0")
            .with(json!({"customer": "cus_1"}))
            .at(1_789_000_000)
            .completed();
        let mut events = vec![&first, &second, &third];
        if !first_comes_first {
            events.reverse();
        }
        for event in events {
            app.stripe_processed(event).await;
        }
        settle(&app).await;
        let found = app.conversions().await;
        assert_eq!(
            found[0].reason.as_deref(),
            Some("no_reference"),
            "a later payment matches no earlier one"
        );
        assert_eq!(
            matched_by(&found[2]),
            (Some("stripe_object"), Some(click_id.as_str())),
            "{first_comes_first}"
        );
    }
}

#[tokio::test]
async fn money_and_kinds_follow_stripes_tables() {
    let app = TestApp::start().await;
    let sessions = [
        Session::paid("cs_live_a").with(json!({"currency": "jpy", "amount_total": 12_800})),
        Session::paid("cs_live_b").with(json!({"currency": "kwd", "amount_total": 7_250})),
        Session::paid("cs_live_c").with(json!({"amount_total": 0, "payment_status": "no_payment_required"})),
        Session::paid("cs_live_d").with(json!({"amount_total": 0, "payment_status": "no_payment_required", "mode": "subscription", "subscription": "sub_1"})),
        Session::paid("cs_live_e").with(json!({"amount_total": null, "currency": null, "mode": "setup", "payment_status": "no_payment_required"})),
    ];
    for session in &sessions {
        app.stripe_processed(&session.completed()).await;
    }
    settle(&app).await;
    let kinds: Vec<_> = app.conversions().await.into_iter().map(|c| c.kind).collect();
    assert_eq!(kinds, ["purchase", "purchase", "lead", "trial", "lead"]);
    let mut values: Vec<String> = app.anytrack.received();
    values.sort();
    assert!(
        values[0].contains(r#""value":12800,"currency":"JPY""#)
            || values[1].contains(r#""value":12800,"currency":"JPY""#)
    );
    assert_eq!(values.len(), 2, "leads and trials are not sent by default");
    let skipped = app
        .deliveries()
        .await
        .into_iter()
        .filter(|d| d.reason.as_deref() == Some("kind_off"))
        .count();
    assert_eq!(skipped, 3);
}

#[tokio::test]
async fn test_mode_is_recorded_apart_and_never_sent() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(
        &Session::paid("cs_test_1")
            .reference(&click_id)
            .with(json!({"livemode": false}))
            .completed(),
    )
    .await;
    settle(&app).await;
    assert_eq!(app.conversion().await.livemode, 0);
    assert_eq!(app.delivery().await.reason.as_deref(), Some("test_mode"));
    assert!(app.anytrack.received().is_empty());
}

#[tokio::test]
async fn connected_accounts_do_not_mix() {
    let app = TestApp::start().await;
    let mut other = Session::paid("cs_live_1").completed();
    other["account"] = json!("acct_2");
    app.stripe_processed(&Session::paid("cs_live_1").completed()).await;
    app.stripe_processed(&other).await;
    settle(&app).await;
    assert_eq!(app.conversions().await.len(), 2);
}

/// A few events whose order and repetition must not matter.
fn world(click_id: &str, unseen: &str) -> Vec<Value> {
    let one = Session::paid("cs_live_1")
        .reference(click_id)
        .with(json!({"customer": "cus_1", "payment_status": "unpaid"}));
    let two = Session::paid("cs_live_2")
        .with(json!({"customer": "cus_1", "amount_total": 500}))
        .at(1_790_400_000);
    let three = Session::paid("cs_live_3").reference(unseen).with(json!({"currency": "eur"}));
    let four = Session::paid("cs_live_4")
        .reference("--CLICK-ID--")
        .with(json!({"metadata": {"click_id": click_id}}));
    let mut again = four.completed();
    again["id"] = json!("evt_another_object_for_the_same_fact");
    vec![
        one.completed(),
        one.clone()
            .with(json!({"payment_status": "paid"}))
            .at(1_790_300_000)
            .event("checkout.session.async_payment_succeeded"),
        one.at(1_790_200_000).event("checkout.session.async_payment_failed"),
        two.completed(),
        three.completed(),
        four.completed(),
        again,
    ]
}

/// Processes events in an order (positions may repeat), and the visit of `unseen` after `visit_at`
/// of them. Replaces click IDs, which are random.
async fn outcome(order: &[usize], visit_at: usize) -> String {
    let app = TestApp::start().await;
    let (seen, unseen) = (app.visit(PAGE).await, app.mint().await);
    let events = world(&seen, &unseen);
    let in_order: Vec<usize> =
        order.iter().map(|at| at % events.len()).chain(0..events.len()).collect();
    for (position, at) in in_order.iter().enumerate() {
        if position == visit_at.min(in_order.len() - 1) {
            app.visit_as(&unseen, PAGE, Some(&seen)).await;
            app.rejoin().await;
        }
        app.stripe_processed(&events[*at]).await;
    }
    settle(&app).await;
    let received = app.anytrack.received();
    assert_eq!(received.len(), 4, "each conversion is delivered once");
    format!("{:#?}", app.conversions().await).replace(&seen, "SEEN").replace(&unseen, "UNSEEN")
}

#[test]
fn any_order_and_any_repetition_of_events_gives_the_same_conversions() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let expected = runtime.block_on(outcome(&[], 0));
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = (proptest::collection::vec(0_usize..7, 0..14), 0_usize..20);
    runner
        .run(&strategy, |(order, visit_at)| {
            prop_assert_eq!(&runtime.block_on(outcome(&order, visit_at)), &expected);
            Ok(())
        })
        .unwrap();
}

/// Who learns a click ID, from a payment link or a browser extension, cannot choose whom AnyTrack
/// credits.
#[tokio::test]
async fn the_first_note_of_a_click_id_counts_also_of_one_that_a_browser_made() {
    let app = TestApp::start().await;
    let made = format!("ck_z{}", "7".repeat(32));
    let note = |a: &str, t: i64| json!({"s": "main", "i": made, "t": t, "a": a}).to_string();
    let (other, first) =
        ("p8qkMansHXKGTX9GmPTbMJ6GmSjTf4mUys", "p8qkMansHXKGAAAAmPTbMJ6GmSjTf4mUys");
    assert_eq!(app.post_visit(note(first, 1)).await.status.as_u16(), 204);
    app.advance(Duration::from_secs(1));
    app.visit_as(&made, PAGE, None).await;
    assert_eq!(app.post_visit(note(other, 2)).await.status.as_u16(), 204);
    app.stripe_processed(&Session::paid("cs_live_1").reference(&made).completed()).await;
    app.stripe_processed(&Session::paid("cs_live_2").reference(first).completed()).await;
    settle(&app).await;
    let found = app.conversions().await;
    assert_eq!(found[0].matched_by.as_deref(), Some("click_id"));
    assert_eq!(found[1].matched_by.as_deref(), Some("anytrack_click_id"));
    assert!(
        app.anytrack
            .received()
            .iter()
            .any(|body| body.contains(&format!(r#""clickid":"{first}""#))),
        "{:?}",
        app.anytrack.received()
    );
}

#[tokio::test]
async fn a_touchpoint_that_arrives_after_the_payment_takes_its_place() {
    let app = TestApp::start().await;
    let ids = [app.mint().await, app.mint().await, app.mint().await];
    app.visit_as(&ids[2], PAGE, Some(&ids[1])).await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&ids[2]).completed()).await;
    app.deliver_due().await;
    assert_eq!(app.conversion().await.touches, ids[2..]);
    app.visit_as(&ids[0], PAGE, None).await;
    assert_eq!(app.rejoin().await, 0, "still a gap");
    app.visit_as(&ids[1], PAGE, Some(&ids[0])).await;
    assert_eq!(app.rejoin().await, 1);
    assert_eq!(app.conversion().await.touches, ids);
    assert_eq!(app.rejoin().await, 0, "nothing is awaited any more");
    settle(&app).await;
    assert_eq!(app.anytrack.received().len(), 1, "what was sent is not sent again");
}

#[tokio::test]
async fn one_conversion_that_cannot_be_matched_again_does_not_block_the_others() {
    let app = TestApp::start().await;
    let ids = [app.mint().await, app.mint().await];
    for (at, id) in ids.iter().enumerate() {
        let session = Session::paid(&format!("cs_live_{at}")).reference(id);
        app.stripe_processed(&session.completed()).await;
    }
    let pool = app.database.look().await;
    sqlx::query("update payments set facts = 'damaged' where id in (select id from conversions where transaction_id = 'cs_live_0')")
        .execute(&pool)
        .await
        .expect("a damage");
    pool.close().await;
    for id in &ids {
        app.visit_as(id, PAGE, None).await;
    }
    let _ = app.app().rejoin_late_visits().await; // It may fail.
    let found = app.conversions().await;
    assert_eq!(found[1].matched_by.as_deref(), Some("click_id"));
    app.advance(Duration::from_secs(121));
    app.deliver_due().await;
}
