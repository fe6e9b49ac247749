//! Payments that are matched through one another: any order of events and visits gives one result.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::{PAGE, of_account};
use crate::harness::TestApp;

/// One step of a history.
enum Step {
    /// An event of Stripe's; `CLICK_0` in it is the first visitor's click ID.
    Event(Value),
    /// The visit with this number is recorded.
    Visit(usize),
}

fn event(id: &str, kind: &str, seconds: i64, object: Value) -> Step {
    let mut object = object;
    object["livemode"] = true.into();
    Step::Event(
        json!({"id": id, "object": "event", "type": kind, "created": 1_790_000_000 + seconds, "livemode": true, "data": {"object": object}}),
    )
}

fn extend(object: &mut Value, more: Value) {
    let Value::Object(more) = more else { panic!("no object: {more}") };
    object.as_object_mut().expect("an object").extend(more);
}

fn session(id: &str, seconds: i64, more: Value) -> Step {
    let mut object = json!({"id": id, "amount_total": 1000, "currency": "usd", "payment_status": "paid", "mode": "payment"});
    extend(&mut object, more);
    event(&format!("evt_{id}"), "checkout.session.completed", seconds, object)
}

fn invoice(id: &str, seconds: i64, more: Value) -> Step {
    let mut object =
        json!({"id": id, "amount_paid": 700, "currency": "usd", "billing_reason": "manual"});
    extend(&mut object, more);
    event(&format!("evt_{id}"), "invoice.paid", seconds, object)
}

/// Two checkouts of a customer, then an invoice that names nothing else.
fn two_checkouts() -> Vec<Step> {
    vec![
        session("cs_0", 100, json!({"customer": "cus_1", "client_reference_id": "CLICK_0"})),
        session("cs_1", 200, json!({"customer": "cus_1", "client_reference_id": "CLICK_1"})),
        invoice("in_2", 300, json!({"customer": "cus_1"})),
        Step::Visit(0),
        Step::Visit(1),
    ]
}

/// The same with the seller's own code instead of checkouts.
fn two_intents() -> Vec<Step> {
    let intent = |id: &str, seconds: i64, click: &str| {
        event(
            &format!("evt_{id}"),
            "payment_intent.succeeded",
            seconds,
            json!({"id": id, "amount_received": 500, "currency": "usd", "customer": "cus_1", "metadata": {"click_id": click}}),
        )
    };
    vec![
        intent("pi_0", 100, "CLICK_0"),
        intent("pi_1", 200, "CLICK_1"),
        invoice("in_2", 300, json!({"customer": "cus_1"})),
        Step::Visit(0),
        Step::Visit(1),
    ]
}

/// A subscription whose customer is named only by its own event, a checkout that turns out to be
/// the payment of an invoice that other payments were matched through, an expired checkout that is
/// recovered, renewals, and refunds of both customers.
fn a_tangle() -> Vec<Step> {
    vec![
        session(
            "cs_sub",
            100,
            json!({"mode": "subscription", "subscription": "sub_1", "client_reference_id": "CLICK_0"}),
        ),
        event(
            "evt_sub",
            "customer.subscription.created",
            90,
            json!({"id": "sub_1", "customer": "cus_1"}),
        ),
        invoice(
            "in_renewal",
            400,
            json!({"subscription": "sub_1", "billing_reason": "subscription_cycle"}),
        ),
        invoice("in_of_customer", 500, json!({"customer": "cus_1"})),
        invoice(
            "in_tagged",
            600,
            json!({"customer": "cus_1", "metadata": {"click_id": "CLICK_1"}}),
        ),
        invoice("in_last", 700, json!({"customer": "cus_1"})),
        session(
            "cs_tagged",
            590,
            json!({"invoice": "in_tagged", "client_reference_id": "CLICK_2"}),
        ),
        event(
            "evt_expired",
            "checkout.session.expired",
            800,
            json!({"id": "cs_old", "client_reference_id": "CLICK_1"}),
        ),
        session("cs_recovered", 900, json!({"recovered_from": "cs_old", "customer": "cus_2"})),
        event(
            "evt_refund",
            "refund.created",
            950,
            json!({"id": "re_1", "amount": 100, "currency": "usd", "status": "succeeded", "charge": "ch_1"}),
        ),
        event(
            "evt_charge",
            "charge.succeeded",
            940,
            json!({"id": "ch_1", "amount": 700, "currency": "usd", "customer": "cus_1", "payment_intent": "pi_9"}),
        ),
        Step::Visit(0),
        Step::Visit(1),
        Step::Visit(2),
    ]
}

/// The steps in an order, in an account of their own; what becomes of them, the visits named by
/// their numbers.
async fn outcome(
    app: &TestApp,
    account: &str,
    steps: &[Step],
    order: &[usize],
    rejoins: u32,
) -> Vec<String> {
    let mut clicks = Vec::new();
    for _ in 0..3 {
        clicks.push(app.mint().await);
    }
    for (at, step) in order.iter().map(|step| &steps[*step]).enumerate() {
        match step {
            Step::Visit(number) => app.visit_as(&clicks[*number], PAGE, None).await,
            Step::Event(event) => {
                let mut text = of_account(event, account).to_string();
                for (number, click) in clicks.iter().enumerate() {
                    text = text.replace(&format!("CLICK_{number}"), click);
                }
                app.stripe_processed(&serde_json::from_str(&text).expect("JSON")).await;
            }
        }
        if rejoins & (1 << at) != 0 {
            app.rejoin().await;
        }
    }
    while app.rejoin().await > 0 {}
    let name = |click: Option<String>| {
        let at = clicks.iter().position(|known| Some(known) == click.as_ref());
        at.map_or_else(|| format!("{click:?}"), |at| format!("click {at}"))
    };
    let found = app.conversions().await.into_iter().filter(|found| found.account == account);
    found
        .map(|found| {
            format!(
                "{} {} {:?} {:?} {:?} {}",
                found.transaction_id,
                found.status,
                found.amount_minor,
                found.matched_by,
                found.reason,
                name(found.click_id)
            )
        })
        .collect()
}

async fn quiet_app() -> TestApp {
    let mut app =
        TestApp::start_with(&[("CLICKSTAMP_ANYTRACK_URL", ""), ("CLICKSTAMP_VISIT_RATE", "0")])
            .await;
    app.leave_things_undone();
    app
}

async fn replay_agrees(app: &TestApp) {
    let wanted = clickstamp::stripe::replay::Wanted::default();
    let replayed = app.app().replay(&wanted).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{:#?}", replayed.differences);
}

#[tokio::test]
async fn visits_that_come_late_and_together_match_everything_that_depends_on_them() {
    let app = quiet_app().await;
    // The invoice first, then the payments that it may be matched through, then both visits before
    // any re-match.
    let order = [2, 0, 1, 3, 4];
    for (at, steps) in [two_checkouts(), two_intents()].iter().enumerate() {
        for again in 0..4 {
            let found = outcome(&app, &format!("acct_{at}x{again}"), steps, &order, 0).await;
            let invoice = found.iter().find(|line| line.starts_with("in_2")).unwrap();
            assert!(
                invoice.ends_with("click 1"),
                "the customer's latest earlier payment: {found:#?}"
            );
        }
    }
    replay_agrees(&app).await;
}

#[test]
fn any_order_of_events_and_late_visits_gives_one_result() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, steps, cases) in [
        ("two checkouts", two_checkouts(), 12),
        ("two intents", two_intents(), 8),
        ("a tangle", a_tangle(), 20),
    ] {
        let all: Vec<usize> = (0..steps.len()).collect();
        let (app, expected) = runtime.block_on(async {
            let app = quiet_app().await;
            let expected = outcome(&app, "acct_first", &steps, &all, u32::MAX).await;
            (app, expected)
        });
        let config =
            ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
        let count = std::cell::Cell::new(0);
        TestRunner::new(config)
            .run(
                &(Just(all).prop_shuffle(), any::<u32>(), any::<bool>()),
                |(order, rejoins, waits)| {
                    count.set(count.get() + 1);
                    let account = format!("acct_{}", count.get());
                    let rejoins = if waits { rejoins } else { 0 };
                    let found = runtime.block_on(outcome(&app, &account, &steps, &order, rejoins));
                    prop_assert_eq!(&found, &expected, "{}: {:?}", name, order);
                    Ok(())
                },
            )
            .unwrap();
        runtime.block_on(replay_agrees(&app));
    }
}

#[tokio::test]
async fn more_dependents_than_one_transaction_takes_are_matched_in_the_next_ones() {
    let app = quiet_app().await;
    for at in 0..210 {
        let Step::Event(event) =
            invoice(&format!("in_{at}"), 300 + at, json!({"customer": "cus_1"}))
        else {
            unreachable!("an invoice is an event")
        };
        assert_eq!(app.stripe(&event).await.status.as_u16(), 200);
    }
    app.process_events().await;
    let steps =
        [session("cs_0", 100, json!({"customer": "cus_1", "client_reference_id": "CLICK_0"}))];
    let click_id = app.visit(PAGE).await;
    let Step::Event(event) = &steps[0] else { unreachable!("a session is an event") };
    let text = event.to_string().replace("CLICK_0", &click_id);
    app.stripe_processed(&serde_json::from_str(&text).expect("JSON")).await;
    let unmatched = "select count(*) from conversions where match_state = 'unmatched'";
    assert_eq!(app.database.number(unmatched).await, 210, "noted, and not done in one transaction");
    while app.rejoin().await > 0 {}
    assert_eq!(app.database.number(unmatched).await, 0);
    assert_eq!(app.database.number("select count(*) from waits where awaited = 'again:'").await, 0);
    replay_agrees(&app).await;
}
