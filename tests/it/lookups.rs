//! What Stripe is asked for when an event never came: checkouts of subscriptions and customers, invoices of refunds.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Conversion, FakeStripe, Session, TestApp};

const PAGE: &str = "https://shop.example/?gclid=abc";

fn invoice(id: &str, seconds: i64, more: Value) -> Value {
    let mut object = json!({"id": id, "object": "invoice", "amount_paid": 3_000, "currency": "usd", "billing_reason": "subscription_cycle",
        "customer_email": "jenny@example.com"});
    object.as_object_mut().expect("an object").extend(more.as_object().expect("more").clone());
    json!({"id": format!("evt_{id}"), "object": "event", "type": "invoice.paid", "created": seconds, "livemode": true, "data": {"object": object}})
}

fn refund(charge: &str, payment_intent: &str, seconds: i64) -> Value {
    json!({"id": format!("evt_{charge}"), "object": "event", "type": "charge.refunded", "created": seconds, "livemode": true, "data": {"object": {
        "id": charge, "payment_intent": payment_intent, "amount": 3_000, "amount_captured": 3_000, "amount_refunded": 1_000,
        "captured": true, "currency": "usd"}}})
}

/// A session as Stripe's list has it.
fn listed(app: &TestApp, id: &str, click_id: &str, more: Value) -> Value {
    let made = json!({"status": "complete", "created": app.now().as_seconds() - 3600});
    Session::paid(id).reference(click_id).with(made).with(more).completed()["data"]["object"]
        .clone()
}

async fn look_up_after(app: &TestApp, seconds: u64) {
    app.advance(Duration::from_secs(seconds));
    app.look_up_checkouts().await;
    app.process_events().await;
    app.rejoin().await;
    app.deliver_due().await;
}

fn of<'a>(found: &'a [Conversion], id: &str) -> &'a Conversion {
    found
        .iter()
        .find(|found| found.transaction_id == id)
        .unwrap_or_else(|| panic!("{id}: {found:#?}"))
}

#[tokio::test]
async fn a_renewal_whose_checkout_was_lost_gets_it_and_its_refund_joins_it() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let click_id = app.visit(PAGE).await;
    let now = app.now().as_seconds();
    app.stripe_processed(&invoice(
        "in_2",
        now,
        json!({"subscription": "sub_1", "customer": "cus_1"}),
    ))
    .await;
    app.stripe_processed(&refund("ch_2", "pi_2", now)).await;
    assert_eq!(app.conversions().await.len(), 2, "nothing ties them yet");
    let subscription = json!({"subscription": "sub_1", "mode": "subscription", "payment_intent": null, "customer": "cus_1"});
    stripe.has("/v1/checkout/sessions", [listed(&app, "cs_1", &click_id, subscription)]);
    stripe.has(
        "/v1/invoice_payments",
        [json!({"id": "inpay_2", "status": "paid", "invoice": "in_2", "payment": {"type": "payment_intent", "payment_intent": "pi_2"}})],
    );
    look_up_after(&app, 61).await;
    let found = app.conversions().await;
    assert_eq!(of(&found, "in_2").click_id.as_deref(), Some(click_id.as_str()));
    look_up_after(&app, 120).await;
    let found = app.conversions().await;
    assert_eq!(found.len(), 2, "the checkout, and the renewal with its refund: {found:#?}");
    assert_eq!(
        (of(&found, "in_2").refunded_minor, of(&found, "in_2").status.as_str()),
        (1_000, "partially_refunded")
    );
    let calls = stripe.calls().join(" ");
    assert!(calls.contains("subscription=sub_1"), "{calls}");
    assert!(
        calls.contains("payment%5Btype%5D=payment_intent&payment%5Bpayment_intent%5D=pi_2"),
        "{calls}"
    );
    look_up_after(&app, 86_400).await;
    assert!(!stripe.calls().join(" ").contains("customer="), "it is matched by now");
    let replayed = app.app().replay(&Default::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn an_invoice_without_a_subscription_is_matched_through_the_customers_checkouts() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let click_id = app.visit(PAGE).await;
    let now = app.now().as_seconds();
    app.stripe_processed(&invoice(
        "in_1",
        now,
        json!({"billing_reason": "manual", "customer": "cus_1"}),
    ))
    .await;
    let nameless = listed(
        &app,
        "cs_nameless",
        &click_id,
        json!({"customer": "cus_1", "client_reference_id": null, "metadata": {}}),
    );
    let earlier = listed(&app, "cs_1", &click_id, json!({"customer": "cus_1"}));
    stripe.has("/v1/checkout/sessions", [earlier, nameless]);
    stripe.pages_of(1);
    look_up_after(&app, 241).await;
    let found = app.conversions().await;
    assert_eq!(of(&found, "in_1").click_id.as_deref(), Some(click_id.as_str()));
    assert_eq!(found.len(), 2, "a checkout that names no visit is not fetched: {found:#?}");
}

fn first_invoice(seconds: i64) -> Value {
    invoice(
        "in_1",
        seconds,
        json!({"billing_reason": "subscription_create", "subscription": "sub_1", "customer": "cus_1"}),
    )
}

#[tokio::test]
async fn a_first_invoice_waits_for_its_checkout_before_it_is_sent_without_a_click_id() {
    let app = TestApp::start().await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&first_invoice(app.now().as_seconds())).await;
    look_up_after(&app, 50 * 60).await;
    assert!(app.anytrack.received().is_empty(), "Stripe may try its webhook again");
    let session = Session::paid("cs_1").reference(&click_id);
    let session = session.with(json!({"subscription": "sub_1", "invoice": "in_1", "mode": "subscription", "payment_intent": null}));
    app.stripe_processed(&session.completed()).await;
    look_up_after(&app, 1).await;
    let sent = app.anytrack.received();
    assert!(sent.len() == 1 && sent[0].contains(&click_id) && sent[0].contains("cs_1"), "{sent:?}");
}

#[tokio::test]
async fn a_first_invoice_is_sent_after_an_hour_even_if_its_checkout_never_comes() {
    let app = TestApp::start().await;
    app.stripe_processed(&first_invoice(app.now().as_seconds())).await;
    look_up_after(&app, 3_599).await;
    assert!(app.anytrack.received().is_empty());
    look_up_after(&app, 2).await;
    assert!(app.anytrack.received()[0].contains("in_1"));
}

#[tokio::test]
async fn with_a_key_the_answer_of_stripe_ends_the_wait_for_a_checkout() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    app.stripe_processed(&first_invoice(app.now().as_seconds())).await;
    look_up_after(&app, 59).await;
    assert!(app.anytrack.received().is_empty());
    look_up_after(&app, 2).await;
    assert_eq!(app.anytrack.received().len(), 1, "there is no checkout: {:?}", stripe.calls());
    // What comes later does not hold it again.
    app.stripe_processed(&refund("ch_1", "pi_1", app.now().as_seconds())).await;
    let tie = json!({"id": "evt_tie", "object": "event", "type": "invoice_payment.paid", "livemode": true, "data": {"object": {
        "id": "inpay_1", "invoice": "in_1", "payment": {"type": "payment_intent", "payment_intent": "pi_1"}}}});
    app.stripe_processed(&tie).await;
    let held = "select count(*) from conversions where owed_from_ms is not null";
    assert_eq!(app.database.number(held).await, 0);
    assert_eq!(app.anytrack.received().len(), 1);
}
