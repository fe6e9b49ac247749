//! The ledger over whole payment histories: every kind of event, both generations of Stripe's API,
//! in any order, with repetitions.

mod kinds;
mod money;
mod shared;
mod stories;

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Conversion, TestApp, fixture};

const PAGE: &str = "https://shop.example/offer?gclid=abc";

/// An event of another account, under another ID.
fn of_account(event: &Value, account: &str) -> Value {
    let mut event = event.clone();
    event["account"] = account.into();
    event
}

const SUBSCRIPTION: [&str; 3] = [
    "customer.subscription.created.basil",
    "invoice.paid.first.basil",
    "checkout.session.completed.subscription.dahlia",
];

/// Puts another value wherever an object has this key.
fn with_everywhere(value: &mut Value, key: &str, other: &Value) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object.iter_mut() {
                if name == key {
                    *inner = other.clone();
                } else {
                    with_everywhere(inner, key, other);
                }
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| with_everywhere(item, key, other));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test]
async fn a_renewal_without_a_customer_is_matched_through_its_subscription() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    for name in SUBSCRIPTION.into_iter().chain(["invoice.paid.renewal.basil"]) {
        let mut event = fixture(name, &click_id);
        with_everywhere(&mut event, "customer", &Value::Null);
        app.stripe_processed(&event).await;
    }
    app.deliver_due().await;
    let found = app.conversions().await;
    let renewal = found.iter().find(|c| c.kind == "renewal").expect("a renewal");
    assert_eq!(renewal.matched_by.as_deref(), Some("stripe_object"), "{found:?}");
}

#[tokio::test]
async fn test_payments_are_not_matched_through_live_ones() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    for name in SUBSCRIPTION {
        app.stripe_processed(&fixture(name, &click_id)).await;
    }
    let mut event = fixture("invoice.paid.renewal.basil", &click_id);
    with_everywhere(&mut event, "livemode", &json!(false));
    app.stripe_processed(&event).await;
    app.deliver_due().await;
    let found = app.conversions().await;
    let renewal = found.iter().find(|c| c.kind == "renewal").expect("a renewal");
    assert_eq!((renewal.livemode, renewal.matched_by.as_deref()), (0, None));
    assert_eq!(renewal.reason.as_deref(), Some("first_payment_not_seen"));
}

#[tokio::test]
async fn a_late_checkout_within_its_time_makes_one_delivery_under_its_own_id() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&fixture("invoice.paid.first.basil", &click_id)).await;
    assert_eq!(app.conversion().await.transaction_id, "in_1RtSubInv0001Kx");
    assert!(app.deliveries().await.is_empty(), "its checkout may still come");
    app.advance(Duration::from_secs(30));
    app.rejoin().await;
    assert!(app.deliveries().await.is_empty());
    app.stripe_processed(&fixture("checkout.session.completed.subscription.dahlia", &click_id))
        .await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 1);
    assert!(app.anytrack.received()[0].contains(r#""transaction_id":"cs_live_a1Subscr"#));
    app.advance(Duration::from_secs(120));
    app.rejoin().await;
    assert_eq!(app.deliver_due().await, 0);
}

#[tokio::test]
async fn a_checkout_that_arrives_too_late_keeps_the_id_that_was_sent() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&fixture("invoice.paid.first.basil", &click_id)).await;
    app.advance(Duration::from_secs(3_601));
    app.rejoin().await;
    app.deliver_due().await;
    assert!(app.anytrack.received()[0].contains(r#""transaction_id":"in_1RtSubInv0001Kx""#));
    app.stripe_processed(&fixture("checkout.session.completed.subscription.dahlia", &click_id))
        .await;
    app.advance(Duration::from_secs(121));
    app.rejoin().await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 1, "it is one payment, sent once");
    assert!(app.conversion().await.transaction_id.starts_with("cs_live_a1Subscr"));
}

#[tokio::test]
async fn two_checkouts_of_one_payment_intent_are_one_payment() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    let first = fixture("checkout.session.completed.dahlia", &click_id);
    let mut second = first.clone();
    second["id"] = json!("evt_second");
    second["data"]["object"]["id"] = json!("cs_live_b2Second");
    second["data"]["object"]["client_reference_id"] = Value::Null;
    app.stripe_processed(&second).await;
    app.stripe_processed(&first).await;
    app.deliver_due().await;
    assert_eq!(app.conversion().await.matched_by.as_deref(), Some("click_id"));
    assert_eq!(app.anytrack.received().len(), 1);
}

#[tokio::test]
async fn an_abandoned_checkout_is_counted_by_its_campaign_and_is_no_conversion() {
    let app = TestApp::start().await;
    let click_id = app.visit("https://shop.example/?utm_source=news&utm_campaign=spring").await;
    app.stripe_processed(&fixture("checkout.session.expired.dahlia", &click_id)).await;
    assert!(app.conversions().await.is_empty());
    assert_eq!(app.database.texts("select campaign from abandoned").await, ["spring"]);
    assert_eq!(
        app.database.texts("select note from stripe_events").await,
        ["Counted as an abandoned checkout, not as a conversion."]
    );
}

#[tokio::test]
async fn what_cannot_be_understood_is_kept_shown_and_explained() {
    let mut app = TestApp::start().await;
    let event = |at: usize, kind: &str, object: Value| json!({"id": format!("evt_{at}"), "object": "event", "type": kind, "api_version": "2031-01-01.zinfandel", "data": {"object": object}});
    let huge: serde_json::Map<String, Value> =
        (0..2_000).map(|n| (format!("key{n}"), json!("x".repeat(200)))).collect();
    let charge = |more: Value| {
        let mut charge =
            json!({"id": "ch_1", "amount": 100, "currency": "usd", "amount_refunded": 5});
        charge.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        charge
    };
    let rows = [
        ("invoice.paid", json!({}), "failed", "data.object.currency"),
        (
            "invoice.paid",
            json!({"id": "in_1", "currency": "usd", "amount_paid": -5}),
            "failed",
            "amount_paid is -5",
        ),
        (
            "invoice.paid",
            json!({"id": "in_1", "currency": "usd"}),
            "failed",
            "data.object.amount_paid is missing",
        ),
        (
            "invoice.paid",
            json!({"id": "in_2", "currency": "usd", "amount_paid": 0, "billing_reason": "subscription_cycle"}),
            "ignored",
            "zero_amount",
        ),
        (
            "invoice.paid",
            json!({"id": "in_3", "currency": "usd", "amount_paid": 5, "lines": "none", "parent": 7, "customer": []}),
            "processed",
            "Recorded",
        ),
        (
            "invoice_payment.paid",
            json!({"id": "inpay_1"}),
            "failed",
            "data.object.invoice is missing",
        ),
        (
            "payment_intent.succeeded",
            json!({"id": "pi_1", "currency": "usd", "amount_received": 1e300}),
            "failed",
            "amount_received",
        ),
        ("charge.succeeded", json!([]), "failed", "data.object.id is missing"),
        (
            "charge.refunded",
            charge(json!({"amount_refunded": "5"})),
            "failed",
            "amount_refunded is text",
        ),
        (
            "charge.refunded",
            charge(json!({"currency": "dollars"})),
            "failed",
            "currency is not a currency code",
        ),
        (
            "charge.refunded",
            charge(json!({"currency": "zzz", "metadata": huge})),
            "processed",
            "Recorded",
        ),
        (
            "refund.created",
            json!({"id": "re_1", "amount": 5, "currency": "usd"}),
            "failed",
            "data.object.charge and",
        ),
        (
            "refund.created",
            json!({"id": "re_1", "amount": u64::MAX, "currency": "usd", "charge": "ch_9"}),
            "failed",
            "amount is 18446744073709551615",
        ),
        (
            "charge.dispute.created",
            json!({"id": "du_1", "charge": {"id": "ch_9"}, "status": "status_of_a_later_version"}),
            "processed",
            "Recorded",
        ),
        (
            "customer.subscription.created",
            json!({"id": "sub_1", "metadata": "none"}),
            "processed",
            "Recorded the subscription",
        ),
        (
            "checkout.session.expired",
            json!({"id": "cs_1", "amount_total": -1}),
            "processed",
            "abandoned",
        ),
        (
            "checkout.session.completed",
            json!({"id": "cs_2\u{0}", "amount_total": 5, "currency": "usd", "client_reference_id": "a\u{0}b"}),
            "processed",
            "Recorded",
        ),
        ("type.of.a.later.version", json!({"id": 7}), "ignored", "unsupported_type"),
    ];
    for (at, (kind, object, _, _)) in rows.iter().enumerate() {
        let event = event(at, kind, object.clone());
        assert_eq!(app.stripe(&event).await.status.as_u16(), 200, "{kind} {at}");
    }
    app.process_events().await;
    let found = app.database.texts("select event_id || '|' || state || '|' || coalesce(error, '') || coalesce(reason, '') || coalesce(note, '') from stripe_events").await;
    for (at, (kind, _, state, said)) in rows.iter().enumerate() {
        let start = format!("evt_{at}|{state}|");
        let row = found.iter().find(|row| row.starts_with(&format!("evt_{at}|"))).unwrap();
        assert!(row.starts_with(&start) && row.contains(said), "{kind}: {row}");
    }
    app.leave_things_undone();
}

#[tokio::test]
async fn a_match_by_hand_matches_other_payments_survives_a_replay_and_can_be_undone() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let click_id = app.visit(PAGE).await;
    let lost = "--CLICK-ID--";
    app.stripe_processed(&fixture("checkout.session.completed.subscription.dahlia", lost)).await;
    app.stripe_processed(&fixture("invoice.paid.renewal.basil", lost)).await;
    let path = app
        .database
        .texts("select '/conversions/' || id from conversions where kind = 'purchase'")
        .await
        .remove(0);
    let by = |found: &[Conversion]| -> Vec<Option<String>> {
        found.iter().map(|c| c.matched_by.clone()).collect()
    };
    assert_eq!(by(&app.conversions().await), [None, None]);
    for (typed, wrong) in [
        ("order-1", "wrong=no_click_id"),
        (app.mint().await.as_str(), "wrong=no_visit"),
        ("", "wrong=no_click_id"),
    ] {
        let led = owner.save(&format!("{path}/match"), &[("click_id", typed)]).await;
        assert!(led.contains(wrong), "{typed}: {led}");
        assert!(owner.page(led.split('#').next().unwrap()).await.contains("aria-invalid"));
    }
    assert_eq!(
        owner.post("/conversions/cnv_none/match", &[("click_id", &click_id)]).await.status.as_u16(),
        404
    );
    assert_eq!(owner.post(&format!("{path}/unmatch"), &[]).await.status.as_u16(), 404);
    for _ in 0..2 {
        owner.save(&format!("{path}/match"), &[("click_id", &format!(" {click_id} "))]).await;
        let found = by(&app.conversions().await);
        assert_eq!(
            found,
            [Some("manual".to_owned()), Some("stripe_object".to_owned())],
            "its renewal follows"
        );
    }
    assert!(owner.page(&path).await.contains("ada@example.com matched it by hand"));
    // Whatever arrives later, and a replay, change nothing.
    app.stripe_processed(&fixture("invoice.paid.first.basil", lost)).await;
    app.rejoin().await;
    let wanted = clickstamp::stripe::replay::Wanted { apply: true, ..Default::default() };
    let replayed = app.app().replay(&wanted).await.unwrap();
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
    assert_eq!(by(&app.conversions().await)[0].as_deref(), Some("manual"));
    owner.save(&format!("{path}/unmatch"), &[]).await;
    assert_eq!(by(&app.conversions().await), [None, None], "the rules decide again");
    app.deliver_due().await;
    let matched = app.send("POST", &format!("{path}/match"), &[], "click_id=x").await;
    assert_eq!(matched.status.as_u16(), 303, "only who is signed in");
    assert!(matched.header("location").contains("/login"));
}

#[tokio::test]
async fn leaks_count_a_payment_once_and_say_what_disputes_and_abandoned_checkouts_took() {
    let mut app = TestApp::owned(&[("CLICKSTAMP_ANYTRACK_URL", "http://127.0.0.1:9/x")]).await;
    app.leave_things_undone();
    let owner = app.owner().await;
    assert!(owner.page("/leaks").await.contains("No payments in this period."));
    for name in [
        "checkout.session.completed.dahlia",
        "charge.refunded.partial.dahlia",
        "charge.dispute.closed.lost.dahlia",
        "checkout.session.expired.dahlia",
    ] {
        let mut event = fixture(name, "--CLICK-ID--");
        event["created"] = (app.now().as_seconds() - 60).into();
        app.stripe_processed(&event).await;
    }
    let page = owner.page("/leaks").await;
    assert!(page.contains("Abandoned checkouts: 1") && page.contains("No visit known"), "{page}");
    assert!(page.contains("Lost to disputes") && page.contains("$102.60"), "{page}");
    assert!(
        page.contains("<span class=\"count\">1<span"),
        "one payment, unmatched and undelivered: {page}"
    );
}
