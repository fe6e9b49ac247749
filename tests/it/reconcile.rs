//! The ledger compared with Stripe's records.

use std::time::Duration;

use clickstamp::clock::Timestamp;
use clickstamp::stripe::ApiError;
use clickstamp::stripe::reconcile::{Reconciled, Wanted};
use serde_json::{Value, json};

use crate::harness::{FakeStripe, Session, TestApp, Trouble};

const SESSIONS: &str = "/v1/checkout/sessions";

fn all() -> Wanted {
    let (source, account) = ("main".to_owned(), String::new());
    Wanted { source, account, from: None, until: None, repair: false }
}

/// A completed session as Stripe's list has it, made some minutes ago.
fn listed(app: &TestApp, id: &str, minutes: i64, values: Value) -> Value {
    let session = Session::paid(id)
        .with(json!({"status": "complete", "created": app.now().as_seconds() - minutes * 60}));
    session.with(values).completed()["data"]["object"].clone()
}

/// The webhook of a listed session.
fn webhook(object: &Value) -> Value {
    let id = object["id"].as_str().expect("an ID");
    Session::paid(id)
        .with(object.clone())
        .at(object["created"].as_i64().expect("a time") + 30)
        .completed()
}

async fn reconcile(app: &TestApp, wanted: &Wanted) -> Reconciled {
    app.app().reconcile(wanted).await.expect("Stripe answers")
}

fn lines(found: &Reconciled) -> Vec<String> {
    let line = |sums: &clickstamp::stripe::reconcile::Sums| {
        format!(
            "{} {} {}/{} {}/{} gap {}",
            sums.day,
            sums.currency,
            sums.stripe_count,
            sums.here_count,
            sums.stripe_amount,
            sums.here_amount,
            sums.gap
        )
    };
    found.days.iter().chain(&found.totals).map(line).collect()
}

#[tokio::test]
async fn books_that_agree_close_to_zero_per_day_and_currency() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let paid = [
        listed(&app, "cs_live_1", 60, json!({})),
        listed(&app, "cs_live_2", 90, json!({"currency": "jpy", "amount_total": 12_800})),
        listed(
            &app,
            "cs_live_3",
            60 * 24,
            json!({"amount_total": 0, "payment_status": "no_payment_required"}),
        ),
    ];
    let unpaid = listed(&app, "cs_live_4", 70, json!({"payment_status": "unpaid"}));
    let young = listed(&app, "cs_live_5", 2, json!({}));
    stripe.pages_of(2);
    stripe.has(SESSIONS, paid.iter().chain([&unpaid, &young]).cloned());
    for object in paid.iter().chain([&unpaid]) {
        app.stripe_processed(&webhook(object)).await;
    }
    app.deliver_due().await;
    let found = reconcile(&app, &all()).await;
    assert_eq!(
        lines(&found),
        [
            "2026-09-20 USD 1/1 0.00/0.00 gap 0",
            "2026-09-21 JPY 1/1 12800/12800 gap 0",
            "2026-09-21 USD 1/1 102.60/102.60 gap 0",
            " JPY 1/1 12800/12800 gap 0",
            " USD 2/2 102.60/102.60 gap 0",
        ]
    );
    assert!(found.gap == 0 && found.livemode);
    // A range leaves the other day out.
    let today = Wanted { from: Some(Timestamp::parse("2026-09-21").expect("a day")), ..all() };
    assert_eq!(reconcile(&app, &today).await.days.len(), 2);
}

#[tokio::test]
async fn every_difference_is_named_with_both_ids_and_what_to_do() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let missing = listed(&app, "cs_live_1", 60, json!({}));
    let other_amount = listed(&app, "cs_live_2", 61, json!({}));
    let pending = listed(&app, "cs_live_3", 62, json!({}));
    let unreadable = listed(&app, "cs_live_4", 63, json!({}));
    let ours_alone = listed(&app, "cs_live_5", 64, json!({}));
    stripe.has(SESSIONS, [&missing, &other_amount, &pending, &unreadable].into_iter().cloned());
    let with = |object: &Value, key: &str, value: Value| {
        let mut event = webhook(object);
        event["data"]["object"][key] = value;
        event
    };
    for event in [
        with(&other_amount, "amount_total", json!(5)),
        with(&pending, "payment_status", json!("unpaid")),
        with(&unreadable, "amount_total", json!("ten")),
        webhook(&ours_alone),
    ] {
        app.stripe_processed(&event).await;
    }
    app.deliver_due().await;
    let found = reconcile(&app, &all()).await;
    assert_eq!(
        lines(&found),
        ["2026-09-21 USD 4/2 410.40/102.65 gap 5", " USD 4/2 410.40/102.65 gap 5"]
    );
    let told: Vec<_> = found
        .differences
        .iter()
        .map(|found| {
            (
                found.stripe_id.as_str(),
                found.stripe.as_deref(),
                found.here.as_deref(),
                found.conversion_id.is_some(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("cs_live_1", Some("102.60 USD"), None, false),
            ("cs_live_2", Some("102.60 USD"), Some("0.05 USD"), true),
            ("cs_live_3", Some("102.60 USD"), Some("102.60 USD, pending"), true),
            ("cs_live_4", Some("102.60 USD"), None, false),
            ("cs_live_5", None, Some("102.60 USD"), true),
        ]
    );
    let fixes = [
        "never arrived",
        "clickstamp replay",
        "--repair",
        "could not be read: data.object.amount_total is text",
        "another account's",
    ];
    for (found, expected) in found.differences.iter().zip(fixes) {
        assert!(found.fix.contains(expected), "{found:?}");
    }
    assert_eq!(
        app.database.number("select count(*) from stripe_events").await,
        4,
        "it changes nothing"
    );
    // Repairing fetches what is missing; what is read wrongly stays named.
    let repaired = reconcile(&app, &Wanted { repair: true, ..all() }).await;
    assert_eq!((repaired.repaired, repaired.gap), (3, 2));
    app.deliver_due().await;
    assert_eq!(reconcile(&app, &Wanted { repair: true, ..all() }).await.gap, 2);
    assert_eq!(app.conversions().await.len(), 5);
}

#[tokio::test]
async fn an_invoice_of_a_checkout_is_not_counted_twice() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let session = listed(
        &app,
        "cs_live_1",
        60,
        json!({"mode": "subscription", "invoice": "in_1", "subscription": "sub_1"}),
    );
    let invoice = |id: &str, amount: i64| json!({"id": id, "object": "invoice", "status": "paid", "created": app.now().as_seconds() - 3600, "amount_paid": amount, "currency": "usd"});
    stripe.has(SESSIONS, [session.clone()]);
    stripe.has("/v1/invoices", [invoice("in_1", 10_260), invoice("in_free", 0)]);
    app.stripe_processed(&webhook(&session)).await;
    app.deliver_due().await;
    let found = reconcile(&app, &all()).await;
    assert_eq!((found.totals[0].stripe_count, found.gap), (1, 0), "{found:#?}");
    stripe.has("/v1/invoices", [invoice("in_2", 4_900)]);
    let found = reconcile(&app, &all()).await;
    assert_eq!(found.differences[0].stripe_id, "in_2");
}

#[tokio::test]
async fn a_checkout_counts_what_was_captured_or_what_its_invoice_says_on_both_sides() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let captured = listed(&app, "cs_live_1", 60, json!({"payment_intent": "pi_1"}));
    let balance = listed(
        &app,
        "cs_live_2",
        60,
        json!({"mode": "subscription", "invoice": "in_1", "subscription": "sub_1", "payment_intent": null}),
    );
    let intent = json!({"id": "pi_1", "object": "payment_intent", "capture_method": "manual", "amount": 10_260,
                        "amount_received": 6_000, "currency": "usd"});
    let invoice = json!({"id": "in_1", "object": "invoice", "billing_reason": "subscription_create", "subscription": "sub_1",
                         "amount_paid": 3_000, "total": 10_260, "currency": "usd"});
    app.stripe_processed(&webhook(&captured)).await;
    app.stripe_processed(&webhook(&balance)).await;
    let event = |id: &str, kind: &str, object: &Value| {
        let created = app.now().as_seconds() - 3_500;
        json!({"id": id, "object": "event", "type": kind, "created": created, "livemode": true, "data": {"object": object}})
    };
    app.stripe_processed(&event("evt_pi", "payment_intent.succeeded", &intent)).await;
    app.stripe_processed(&event("evt_in", "invoice.paid", &invoice)).await;
    app.deliver_due().await;
    let expanded = |mut session: Value, key: &str, object: &Value| {
        session[key] = object.clone();
        session
    };
    let sessions =
        [expanded(captured, "payment_intent", &intent), expanded(balance, "invoice", &invoice)];
    stripe.has(SESSIONS, sessions);
    let found = reconcile(&app, &all()).await;
    assert_eq!(
        lines(&found),
        ["2026-09-21 USD 2/2 90.00/90.00 gap 0", " USD 2/2 90.00/90.00 gap 0"],
        "{found:#?}"
    );
    let asked = stripe.calls();
    assert!(asked.iter().any(|call| call.contains("data.payment_intent")), "{asked:?}");
}

#[tokio::test]
async fn every_night_one_replica_compares_and_the_result_is_kept() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.has(SESSIONS, [listed(&app, "cs_live_1", 60, json!({}))]);
    assert!(app.app().reconcile_daily().await.expect("it can be kept"));
    assert!(!app.app().reconcile_daily().await.expect("it is not due"));
    let kept: Reconciled = serde_json::from_str(
        &app.database.texts("select result from stripe_reconciliations").await[0],
    )
    .expect("JSON");
    assert_eq!(kept.gap, 1);
    // At night Stripe does not answer: the old result stays, with the reason, and an hour later it is tried again.
    app.advance(Duration::from_secs(14 * 3600));
    stripe.troubles([Some(Trouble::Status(500)); 8]);
    assert!(app.app().reconcile_daily().await.expect("it can be kept"));
    let errors = app
        .database
        .texts("select error from stripe_reconciliations where result is not null")
        .await;
    assert!(errors[0].contains("Stripe responded 500"), "{errors:?}");
    assert!(!app.app().reconcile_daily().await.expect("it is not due"));
    app.advance(Duration::from_secs(3601));
    assert!(app.app().reconcile_daily().await.expect("it can be kept"));
    assert_eq!(
        app.database
            .number("select count(*) from stripe_reconciliations where error is null")
            .await,
        1
    );
    // Without a key there is nothing to ask with.
    let app = TestApp::start().await;
    assert!(!app.app().reconcile_daily().await.expect("it is no trouble"));
    let error = app.app().reconcile(&all()).await.expect_err("there is no key");
    assert_eq!(error.downcast_ref::<ApiError>(), Some(&ApiError::NoKey));
}

#[tokio::test]
async fn two_replicas_compare_once() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let Some(replica) = app.replica().await else { return };
    // The replica has no key of its own, so the first one is asked twice at the same time.
    let both = tokio::join!(app.app().reconcile_daily(), app.app().reconcile_daily());
    let done = [both.0.expect("it can be kept"), both.1.expect("it can be kept")];
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert!(!replica.reconcile_daily().await.expect("it is no trouble"));
    replica.close().await;
}
