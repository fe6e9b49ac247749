//! The ledger over whole stories: every kind of event, both generations of Stripe's API, any order, any repetition.

use std::time::Duration;

use clickstamp::stripe::EVENT_TYPES;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::harness::{Conversion, TestApp, fixture};

const PAGE: &str = "https://shop.example/offer?gclid=abc";

/// An event of another account, under another ID.
fn of_account(event: &Value, account: &str) -> Value {
    let mut event = event.clone();
    event["account"] = account.into();
    event
}

/// What one event alone comes to.
#[derive(Debug, PartialEq, Eq)]
enum Alone {
    /// Kind, status, decimal amount with currency (`-` for unknown), transaction ID's beginning, match or reason.
    Conversion(&'static str, &'static str, i64, &'static str, &'static str, &'static str),
    /// It teaches, or counts as abandoned.
    Nothing,
}

use Alone::{Conversion as Makes, Nothing};

/// Every row of the contract's table, in both generations where both exist.
const TABLE: &[(&str, Alone)] = &[
    (
        "checkout.session.completed.dahlia",
        Makes("purchase", "paid", 10_260, "USD", "cs_live_a1PaidUsd", "click_id"),
    ),
    (
        "checkout.session.completed.acacia",
        Makes("purchase", "paid", 10_260, "USD", "cs_live_a1PaidUsd", "click_id"),
    ),
    (
        "checkout.session.completed.adaptive.dahlia",
        Makes("purchase", "paid", 5_000, "USD", "cs_live_a1AdaptNew", "click_id"),
    ),
    (
        "checkout.session.completed.adaptive.acacia",
        Makes("purchase", "paid", 5_000, "USD", "cs_live_a1AdaptOld", "click_id"),
    ),
    (
        "checkout.session.completed.jpy.dahlia",
        Makes("purchase", "paid", 12_800, "JPY", "cs_live_a1PaidJpy", "click_id"),
    ),
    (
        "checkout.session.completed.kwd.dahlia",
        Makes("purchase", "paid", 5_120, "KWD", "cs_live_a1PaidKwd", "click_id"),
    ),
    (
        "checkout.session.completed.unpaid.dahlia",
        Makes("purchase", "pending", 4_900, "EUR", "cs_live_a1Async", "click_id"),
    ),
    (
        "checkout.session.completed.subscription.dahlia",
        Makes("purchase", "paid", 3_451, "EUR", "cs_live_a1Subscr", "click_id"),
    ),
    (
        "checkout.session.completed.trial.dahlia",
        Makes("trial", "paid", 0, "EUR", "cs_live_Trial", "click_id"),
    ),
    (
        "checkout.session.completed.setup.dahlia",
        Makes("lead", "paid", -1, "-", "cs_live_Setup", "click_id"),
    ),
    (
        "checkout.session.completed.no_reference.dahlia",
        Makes("purchase", "paid", 1_500, "USD", "cs_live_a1NoRef", "no_reference"),
    ),
    (
        "checkout.session.completed.connect.dahlia",
        Makes("purchase", "paid", 1_000, "USD", "cs_test_a1Connect", "click_id"),
    ),
    (
        "checkout.session.async_payment_succeeded.dahlia",
        Makes("purchase", "paid", 4_900, "EUR", "cs_live_a1Async", "click_id"),
    ),
    (
        "checkout.session.async_payment_succeeded.acacia",
        Makes("purchase", "paid", 4_900, "EUR", "cs_live_a1Async", "click_id"),
    ),
    (
        "checkout.session.async_payment_failed.dahlia",
        Makes("purchase", "failed", 4_900, "EUR", "cs_live_a1Async", "click_id"),
    ),
    (
        "checkout.session.async_payment_failed.acacia",
        Makes("purchase", "failed", 4_900, "EUR", "cs_live_a1Async", "click_id"),
    ),
    ("checkout.session.expired.dahlia", Nothing),
    ("checkout.session.expired.acacia", Nothing),
    (
        "invoice.paid.first.acacia",
        Makes("purchase", "paid", 3_451, "EUR", "in_1RtSubInv0001", "first_payment_not_seen"),
    ),
    (
        "invoice.paid.first.basil",
        Makes("purchase", "paid", 3_451, "EUR", "in_1RtSubInv0001", "first_payment_not_seen"),
    ),
    (
        "invoice.paid.renewal.acacia",
        Makes("renewal", "paid", 3_451, "EUR", "in_1RtSubInv0002", "first_payment_not_seen"),
    ),
    (
        "invoice.paid.renewal.basil",
        Makes("renewal", "paid", 3_451, "EUR", "in_1RtSubInv0002", "first_payment_not_seen"),
    ),
    ("invoice_payment.paid.basil", Nothing),
    (
        "payment_intent.succeeded.metadata.dahlia",
        Makes("purchase", "paid", 1_500, "USD", "pi_3RtMeta", "metadata"),
    ),
    (
        "payment_intent.succeeded.metadata.acacia",
        Makes("purchase", "paid", 1_500, "USD", "pi_3RtMeta", "metadata"),
    ),
    ("payment_intent.succeeded.renewal.acacia", Nothing),
    ("payment_intent.succeeded.renewal.basil", Nothing),
    ("charge.succeeded.dahlia", Nothing),
    ("charge.succeeded.renewal.acacia", Nothing),
    ("charge.succeeded.renewal.basil", Nothing),
    (
        "charge.refunded.partial.dahlia",
        Makes(
            "purchase",
            "partially_refunded",
            10_260,
            "USD",
            "pi_3RtLamp",
            "first_payment_not_seen",
        ),
    ),
    (
        "charge.refunded.full.dahlia",
        Makes("purchase", "refunded", 10_260, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.refunded.renewal.acacia",
        Makes(
            "purchase",
            "partially_refunded",
            3_451,
            "EUR",
            "in_1RtSubInv0002",
            "first_payment_not_seen",
        ),
    ),
    (
        "charge.refunded.renewal.basil",
        Makes(
            "purchase",
            "partially_refunded",
            3_451,
            "EUR",
            "pi_3RtPlanB",
            "first_payment_not_seen",
        ),
    ),
    (
        "refund.created.dahlia",
        Makes("purchase", "partially_refunded", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "refund.created.acacia",
        Makes("purchase", "partially_refunded", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "refund.updated.dahlia",
        Makes("purchase", "partially_refunded", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "refund.updated.acacia",
        Makes("purchase", "partially_refunded", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "refund.failed.dahlia",
        Makes("purchase", "pending", -1, "-", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "refund.failed.acacia",
        Makes("purchase", "pending", -1, "-", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.refund.updated.acacia",
        Makes("purchase", "partially_refunded", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.created.dahlia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.created.acacia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.created.inquiry.dahlia",
        Makes("purchase", "pending", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.updated.dahlia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.updated.acacia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.closed.lost.dahlia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.closed.lost.acacia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.closed.won.dahlia",
        Makes("purchase", "pending", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.closed.won.acacia",
        Makes("purchase", "pending", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.funds_withdrawn.dahlia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.funds_withdrawn.acacia",
        Makes("purchase", "disputed", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.funds_reinstated.dahlia",
        Makes("purchase", "pending", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.funds_reinstated.acacia",
        Makes("purchase", "pending", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    ("customer.subscription.created.acacia", Nothing),
    ("customer.subscription.created.basil", Nothing),
];

#[tokio::test]
async fn every_kind_of_event_means_the_same_in_both_generations() {
    let mut app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    for (at, (name, _)) in TABLE.iter().enumerate() {
        // An account each, so that none knows of another.
        let event = of_account(&fixture(name, &click_id), &format!("acct_{at}"));
        assert_eq!(app.stripe(&event).await.status.as_u16(), 200, "{name}");
    }
    app.process_events().await;
    let failed = app.database.texts("select type || ': ' || coalesce(error, '') || coalesce(reason, '') from stripe_events where state <> 'processed'").await;
    assert!(failed.is_empty(), "{failed:?}");
    let silent = app.database.number("select count(*) from stripe_events where coalesce(summary, '') = '' or coalesce(note, '') = ''").await;
    assert_eq!(silent, 0, "every event says what was read and what it changed");
    let found = app.conversions().await;
    for (at, (name, expected)) in TABLE.iter().enumerate() {
        let account = format!("acct_{at}");
        let mine: Vec<&Conversion> = found.iter().filter(|c| c.account == account).collect();
        match expected {
            Nothing => assert!(mine.is_empty(), "{name}: {mine:?}"),
            Makes(kind, status, minor, currency, transaction, joined) => {
                let [found] = mine[..] else { panic!("{name}: {mine:?}") };
                let told = (
                    found.kind.as_str(),
                    found.status.as_str(),
                    found.amount_minor.unwrap_or(-1),
                    found.currency.as_deref().unwrap_or("-"),
                );
                assert_eq!(told, (*kind, *status, *minor, *currency), "{name}");
                assert!(found.transaction_id.starts_with(transaction), "{name}: {found:?}");
                let by = found.matched_by.as_deref().or(found.reason.as_deref());
                assert_eq!(by, Some(*joined), "{name}");
            }
        }
    }
    app.leave_things_undone();
}

#[test]
fn the_table_has_every_kind_of_event_in_every_generation_that_has_it() {
    let is_old = |name: &str| name.ends_with(".acacia");
    for kind in EVENT_TYPES {
        let of_kind = TABLE.iter().map(|(name, _)| *name);
        let of_kind: Vec<&str> =
            of_kind.filter(|name| name.starts_with(&format!("{kind}."))).collect();
        // The object is new with basil; the name is old.
        let (old, new) = (kind != "invoice_payment.paid", kind != "charge.refund.updated");
        assert_eq!(of_kind.iter().any(|name| is_old(name)), old, "{kind}: {of_kind:?}");
        assert_eq!(of_kind.iter().any(|name| !is_old(name)), new, "{kind}: {of_kind:?}");
    }
}

/// The files of a story, in the order in which they happened.
struct Story {
    name: &'static str,
    events: &'static [&'static str],
    /// Conversions, sorted: kind, status, amount, given back, lost, match.
    ends: &'static [(&'static str, &'static str, i64, i64, i64, &'static str)],
    /// Messages that AnyTrack gets.
    delivered: usize,
}

const STORIES: &[Story] = &[
    Story {
        name: "a sale, given back bit by bit, then disputed and lost",
        events: &[
            "payment_intent.succeeded.metadata.dahlia",
            "charge.succeeded.dahlia",
            "checkout.session.completed.dahlia",
            "charge.refunded.partial.dahlia",
            "refund.created.dahlia",
            "refund.updated.dahlia",
            "charge.dispute.created.inquiry.dahlia",
            "charge.dispute.created.dahlia",
            "charge.dispute.funds_withdrawn.dahlia",
            "charge.dispute.closed.lost.dahlia",
        ],
        ends: &[
            ("purchase", "disputed", 10_260, 2_600, 7_660, "click_id"),
            ("purchase", "paid", 1_500, 0, 0, "metadata"),
        ],
        delivered: 2,
    },
    Story {
        name: "a refund that failed after all, a dispute that was won, in the old shape",
        events: &[
            "checkout.session.completed.acacia",
            "refund.created.acacia",
            "charge.refunded.partial.dahlia",
            "refund.failed.dahlia",
            "charge.dispute.created.acacia",
            "charge.dispute.closed.won.dahlia",
            "charge.dispute.funds_reinstated.dahlia",
        ],
        ends: &[("purchase", "paid", 10_260, 0, 0, "click_id")],
        delivered: 1,
    },
    Story {
        name: "a delayed method that pays",
        events: &[
            "checkout.session.completed.unpaid.dahlia",
            "checkout.session.async_payment_succeeded.acacia",
        ],
        ends: &[("purchase", "paid", 4_900, 0, 0, "click_id")],
        delivered: 1,
    },
    Story {
        name: "a delayed method that fails",
        events: &[
            "checkout.session.completed.unpaid.dahlia",
            "checkout.session.async_payment_failed.dahlia",
        ],
        ends: &[("purchase", "failed", 4_900, 0, 0, "click_id")],
        delivered: 0,
    },
    Story {
        name: "a subscription, its renewal and a refund of it, from basil on",
        events: &[
            "customer.subscription.created.basil",
            "invoice.paid.first.basil",
            "checkout.session.completed.subscription.dahlia",
            "payment_intent.succeeded.renewal.basil",
            "charge.succeeded.renewal.basil",
            "invoice.paid.renewal.basil",
            "invoice_payment.paid.basil",
            "charge.refunded.renewal.basil",
        ],
        ends: &[
            ("purchase", "paid", 3_451, 0, 0, "click_id"),
            ("renewal", "partially_refunded", 3_451, 1_000, 0, "stripe_object"),
        ],
        delivered: 2,
    },
    Story {
        name: "the same up to acacia",
        events: &[
            "customer.subscription.created.acacia",
            "invoice.paid.first.acacia",
            "checkout.session.completed.subscription.dahlia",
            "payment_intent.succeeded.renewal.acacia",
            "charge.succeeded.renewal.acacia",
            "invoice.paid.renewal.acacia",
            "charge.refunded.renewal.acacia",
        ],
        ends: &[
            ("purchase", "paid", 3_451, 0, 0, "click_id"),
            ("renewal", "partially_refunded", 3_451, 1_000, 0, "stripe_object"),
        ],
        delivered: 2,
    },
    Story {
        name: "a checkout left alone, then recovered without its reference",
        events: &["checkout.session.expired.dahlia", "checkout.session.completed.recovered.dahlia"],
        ends: &[("purchase", "paid", 10_260, 0, 0, "stripe_object")],
        delivered: 1,
    },
];

/// Processes events in an order, each account on its own, and answers what is in the ledger and what was sent.
async fn outcome(stories: &[&Story], order: &[usize]) -> (Vec<Conversion>, Vec<String>) {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    let mut events = Vec::new();
    for (at, story) in stories.iter().enumerate() {
        let of_story = story.events.iter().map(|name| fixture(name, &click_id));
        events.extend(of_story.map(|event| of_account(&event, &format!("acct_{at}"))));
    }
    for at in order.iter().map(|at| at % events.len()) {
        app.stripe(&events[at]).await;
        // Every third event finds the others processed already.
        if at % 3 == 0 {
            app.process_events().await;
        }
    }
    for event in &events {
        app.stripe(event).await;
    }
    app.process_events().await;
    app.advance(Duration::from_secs(121));
    app.rejoin().await;
    app.deliver_due().await;
    let blind = |text: &str| text.replace(&click_id, "CLICK_ID");
    let mut found = app.conversions().await;
    for conversion in &mut found {
        conversion.click_id = conversion.click_id.as_deref().map(blind);
        conversion.touches = conversion.touches.iter().map(|id| blind(id)).collect();
    }
    let mut sent: Vec<String> = app.anytrack.received().iter().map(|body| blind(body)).collect();
    sent.sort();
    // A message that left before its refund says "paid", one after it says nothing of it: both are true.
    let sent = sent.iter().map(|body| body.replace(r#""status":"paid","#, "")).collect();
    (found, sent)
}

#[test]
fn every_story_ends_as_the_contract_says() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for story in STORIES {
        let (found, sent) = runtime.block_on(outcome(&[story], &[]));
        let mut ends: Vec<_> = found
            .iter()
            .map(|c| {
                let by = c.matched_by.as_deref().or(c.reason.as_deref()).unwrap_or_default();
                let amount = c.amount_minor.unwrap_or(-1);
                (c.kind.as_str(), c.status.as_str(), amount, c.refunded_minor, c.lost_minor, by)
            })
            .collect();
        ends.sort();
        assert_eq!(ends, story.ends, "{}", story.name);
        assert_eq!(sent.len(), story.delivered, "{}: {sent:?}", story.name);
        let mut ids: Vec<&str> =
            sent.iter().filter_map(|b| b.split("\"transaction_id\":\"").nth(1)).collect();
        ids.dedup();
        assert_eq!(ids.len(), story.delivered, "each under its own transaction");
    }
}

#[test]
fn any_order_and_any_repetition_of_whole_stories_ends_the_same() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stories: Vec<&Story> = STORIES.iter().collect();
    let expected = runtime.block_on(outcome(&stories, &[]));
    let count: usize = STORIES.iter().map(|story| story.events.len()).sum();
    let config =
        ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() };
    let all: Vec<usize> = (0..count).collect();
    let shuffled = (Just(all).prop_shuffle(), proptest::collection::vec(0..count, 0..20));
    TestRunner::new(config)
        .run(&shuffled, |(mut order, again)| {
            order.extend(again);
            prop_assert_eq!(&runtime.block_on(outcome(&stories, &order)), &expected);
            Ok(())
        })
        .unwrap();
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
async fn a_renewal_without_a_customer_is_joined_by_its_subscription() {
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
async fn live_payments_lend_nothing_to_test_payments() {
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
async fn a_checkout_that_comes_too_late_keeps_the_id_under_which_it_was_told() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&fixture("invoice.paid.first.basil", &click_id)).await;
    app.advance(Duration::from_secs(61));
    app.rejoin().await;
    app.deliver_due().await;
    assert!(app.anytrack.received()[0].contains(r#""transaction_id":"in_1RtSubInv0001Kx""#));
    app.stripe_processed(&fixture("checkout.session.completed.subscription.dahlia", &click_id))
        .await;
    app.advance(Duration::from_secs(121));
    app.rejoin().await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 1, "it is one payment, told once");
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
        ["Counted as an abandoned checkout; it is no conversion."]
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
            "currency is no currency code",
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
            json!({"id": "du_1", "charge": {"id": "ch_9"}, "status": "word_of_tomorrow"}),
            "processed",
            "Recorded",
        ),
        (
            "customer.subscription.created",
            json!({"id": "sub_1", "metadata": "none"}),
            "processed",
            "Learned",
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
        ("type.of.tomorrow", json!({"id": 7}), "ignored", "unsupported_type"),
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
async fn a_match_by_hand_holds_is_lent_survives_a_replay_and_can_be_taken_back() {
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
    // Whatever comes later, and a ledger written anew, say the same.
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
    assert!(owner.page("/leaks").await.contains("There is no paid payment in this period"));
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
    assert!(page.contains("Lost to disputes") && page.contains("$76.60"), "{page}");
    assert!(
        page.contains("<span class=\"count\">1<span"),
        "one payment, unmatched and undelivered: {page}"
    );
}
