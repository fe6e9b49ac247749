//! What counts as money: authorizations, captures, releases, credit balances, disputes in other currencies, in any order.

use serde_json::{Value, json};

use super::{PAGE, of_account};
use crate::harness::{Conversion, TestApp, fixture};

/// Kind, status, amount, refunded, in open disputes, lost, and how it was matched or why not.
type End = (&'static str, &'static str, i64, i64, i64, i64, &'static str);

/// Events of one payment, in the order in which they happened.
struct Story {
    name: &'static str,
    /// Fixture without its generation, and what differs in its object.
    events: Vec<(&'static str, Value)>,
    ends: Vec<End>,
}

/// A generation of Stripe's API: which file of a fixture has its shape, the best first.
#[derive(Clone, Copy, Debug)]
enum Generation {
    Acacia,
    Basil,
}

impl Generation {
    fn event(self, name: &str, click_id: &str) -> Value {
        let endings = match self {
            Self::Acacia => ["acacia", "dahlia"],
            Self::Basil => ["basil", "dahlia"],
        };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/stripe");
        let files = endings.map(|ending| format!("{name}.{ending}"));
        let is_there =
            |file: &&String| std::path::Path::new(&format!("{folder}/{file}.json")).exists();
        let file = files.iter().find(is_there).unwrap_or_else(|| panic!("no fixture {name}"));
        fixture(file, click_id)
    }
}

const HOLD: &str = "pi_3RtHoldKx";
const HELD: &str = "ch_3RtHoldKx";
const SESSION: &str = "checkout.session.completed.manual_capture";
const AUTHORIZED: &str = "payment_intent.amount_capturable_updated";
const UNCAPTURED: &str = "charge.succeeded.uncaptured";
const CAPTURED: &str = "charge.captured";
const SUCCEEDED: &str = "payment_intent.succeeded.captured";
const CANCELED: &str = "payment_intent.canceled";
const RELEASED: &str = "charge.refunded.released";
const REFUNDED: &str = "charge.refunded.full";
const SOLD: &str = "checkout.session.completed";
const DISPUTED: &str = "charge.dispute.created";
const LOST: &str = "charge.dispute.closed.lost";

fn nothing() -> Value {
    json!({})
}

/// All of the 100.00 captured.
fn all() -> (Value, Value) {
    (json!({"amount_captured": 10_000, "amount_refunded": 0}), json!({"amount_received": 10_000}))
}

/// Metadata of the seller's own code.
fn tagged() -> Value {
    json!({"metadata": {"click_id": "CLICK_ID"}})
}

fn with(mut values: Value, more: Value) -> Value {
    for (key, value) in more.as_object().expect("an object of values") {
        values[key] = value.clone();
    }
    values
}

/// A manual invoice over 50.00 that a customer paid by card, and its charge.
fn by_hand(more: Value) -> Value {
    let values = json!({"id": "in_hand", "billing_reason": "manual", "customer": "cus_hand", "subscription": null,
                        "parent": null, "lines": {"data": []}, "amount_paid": 5_000, "amount_due": 5_000, "total": 5_000,
                        "total_excluding_tax": 5_000, "subtotal": 5_000, "payment_intent": HOLD, "charge": HELD});
    with(values, more)
}

fn stories() -> Vec<Story> {
    let sale = |events: Vec<(&'static str, Value)>| [vec![(SOLD, nothing())], events].concat();
    let (captured, received) = all();
    let eur = |more: Value| with(json!({"amount": 10_800, "currency": "eur"}), more);
    vec![
        Story {
            name: "a payment link with manual capture",
            events: vec![
                (AUTHORIZED, nothing()),
                (UNCAPTURED, nothing()),
                (SESSION, nothing()),
                (CAPTURED, captured),
                (SUCCEEDED, received.clone()),
            ],
            ends: vec![("purchase", "paid", 10_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "the same, where only the events of old setups are subscribed",
            events: vec![(UNCAPTURED, nothing()), (SESSION, nothing()), (SUCCEEDED, received)],
            ends: vec![("purchase", "paid", 10_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "an open authorization",
            events: vec![(AUTHORIZED, nothing()), (SESSION, nothing())],
            ends: vec![("purchase", "authorized", 10_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "an open authorization known only by its charge",
            events: vec![(UNCAPTURED, nothing()), (SESSION, nothing())],
            ends: vec![("purchase", "authorized", 10_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a checkout captured in part",
            events: vec![
                (AUTHORIZED, nothing()),
                (SESSION, nothing()),
                (CAPTURED, nothing()),
                (SUCCEEDED, nothing()),
            ],
            ends: vec![("purchase", "paid", 6_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a checkout captured in part, with the click ID in the intent's metadata too",
            events: vec![
                (AUTHORIZED, tagged()),
                (SESSION, nothing()),
                (CAPTURED, tagged()),
                (SUCCEEDED, tagged()),
            ],
            ends: vec![("purchase", "paid", 6_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a checkout captured in part, where only the card's own setting says manual",
            events: vec![(SESSION, nothing()), (SUCCEEDED, json!({"capture_method": "automatic"}))],
            ends: vec![("purchase", "paid", 6_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a checkout captured in part that Stripe's list calls paid",
            events: vec![(SESSION, json!({"payment_status": "paid"})), (CAPTURED, nothing())],
            ends: vec![("purchase", "paid", 6_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "own code, captured in part, then given back in part",
            events: vec![
                (AUTHORIZED, tagged()),
                (CAPTURED, tagged()),
                (SUCCEEDED, tagged()),
                (CAPTURED_REFUNDED, tagged()),
                (
                    "refund.created",
                    json!({"charge": HELD, "payment_intent": HOLD, "amount": 1_000}),
                ),
            ],
            ends: vec![("purchase", "partially_refunded", 6_000, 1_000, 0, 0, "metadata")],
        },
        Story {
            name: "own code, captured in part, where the release is a refund too",
            events: vec![
                (CAPTURED, tagged()),
                (SUCCEEDED, tagged()),
                (
                    "refund.created",
                    json!({"charge": HELD, "payment_intent": HOLD, "amount": 4_000, "balance_transaction": null}),
                ),
            ],
            ends: vec![("purchase", "paid", 6_000, 0, 0, 0, "metadata")],
        },
        Story {
            name: "own code, authorized and not captured yet",
            events: vec![(AUTHORIZED, tagged()), (UNCAPTURED, tagged())],
            ends: vec![("purchase", "authorized", 10_000, 0, 0, 0, "metadata")],
        },
        Story {
            name: "a released authorization of a checkout",
            events: vec![
                (AUTHORIZED, nothing()),
                (UNCAPTURED, nothing()),
                (SESSION, nothing()),
                (RELEASED, nothing()),
                (CANCELED, nothing()),
            ],
            ends: vec![("purchase", "failed", 10_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a released authorization of a checkout known only by its charge",
            events: vec![(SESSION, nothing()), (RELEASED, nothing())],
            ends: vec![("purchase", "failed", 10_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a released authorization of another shop's",
            events: vec![(UNCAPTURED, nothing()), (RELEASED, nothing()), (CANCELED, nothing())],
            ends: vec![],
        },
        Story {
            name: "a released authorization with a refund",
            events: vec![
                (RELEASED, nothing()),
                (
                    "refund.created",
                    json!({"charge": HELD, "payment_intent": HOLD, "amount": 10_000, "balance_transaction": null}),
                ),
            ],
            ends: vec![],
        },
        Story {
            name: "a downgrade",
            events: vec![(
                "invoice.paid.renewal",
                json!({"billing_reason": "subscription_update", "amount_paid": 0, "amount_due": 0, "total": -800, "subtotal": -800}),
            )],
            ends: vec![],
        },
        Story {
            name: "a sale with side fields that cannot be read",
            events: vec![(
                SOLD,
                json!({"amount_subtotal": -5, "total_details": {"amount_tax": -7, "amount_discount": "none"}, "amount_total": 1000.0}),
            )],
            ends: vec![("purchase", "paid", 1_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a dispute lost in another currency",
            events: sale(vec![(DISPUTED, eur(nothing())), (LOST, eur(nothing()))]),
            ends: vec![("purchase", "disputed", 10_260, 0, 0, 10_260, "click_id")],
        },
        Story {
            name: "a dispute open in another currency, after a refund",
            events: sale(vec![("charge.refunded.partial", nothing()), (DISPUTED, eur(nothing()))]),
            ends: vec![("purchase", "disputed", 10_260, 2_600, 7_660, 0, "click_id")],
        },
        Story {
            name: "a subscription paid in part from the customer's credit balance",
            events: vec![
                ("invoice.paid.first", json!({"amount_paid": 3_000, "amount_due": 3_000})),
                ("checkout.session.completed.subscription", nothing()),
            ],
            ends: vec![("purchase", "paid", 3_000, 0, 0, 0, "click_id")],
        },
        Story {
            name: "a manual invoice, given back in part",
            events: vec![
                ("invoice.paid.first", by_hand(nothing())),
                (
                    "charge.refunded.partial",
                    json!({"id": HELD, "payment_intent": HOLD, "invoice": "in_hand", "amount": 5_000, "amount_captured": 5_000,
                           "amount_refunded": 1_000, "currency": "eur"}),
                ),
                (
                    "invoice_payment.paid",
                    json!({"invoice": "in_hand", "payment": {"type": "payment_intent", "payment_intent": HOLD}}),
                ),
            ],
            ends: vec![("purchase", "partially_refunded", 5_000, 1_000, 0, 0, "no_object")],
        },
        Story {
            name: "an inquiry about a payment from before",
            events: vec![("charge.dispute.created.inquiry", nothing())],
            ends: vec![("purchase", "paid", -1, 0, 0, 0, "first_payment_not_seen")],
        },
        Story {
            name: "a refund that failed, of a payment from before",
            events: vec![("refund.failed", nothing())],
            ends: vec![("purchase", "paid", -1, 0, 0, 0, "first_payment_not_seen")],
        },
        Story {
            name: "a card saved",
            events: vec![("checkout.session.completed.setup", nothing())],
            ends: vec![("lead", "paid", 0, 0, 0, 0, "click_id")],
        },
        Story {
            name: "an invoice paid outside Stripe after part of it came from the balance",
            events: vec![(
                "invoice.paid.first",
                by_hand(
                    json!({"paid_out_of_band": true, "amount_paid": 5_000, "amount_due": 5_000, "total": 8_000,
                               "payment_intent": null, "charge": null}),
                ),
            )],
            ends: vec![("purchase", "paid", 5_000, 0, 0, 0, "no_object")],
        },
        Story {
            name: "a dispute that ended because the charge had been given back",
            events: sale(vec![
                (DISPUTED, nothing()),
                (REFUNDED, nothing()),
                ("charge.dispute.closed.won", json!({"status": "charge_refunded"})),
            ]),
            ends: vec![("purchase", "refunded", 10_260, 10_260, 0, 0, "click_id")],
        },
        Story {
            name: "given back in full, and the dispute lost as well",
            events: sale(vec![(REFUNDED, nothing()), (DISPUTED, nothing()), (LOST, nothing())]),
            ends: vec![("purchase", "disputed", 10_260, 10_260, 0, 10_260, "click_id")],
        },
        Story {
            name: "a checkout whose total was lowered",
            events: vec![
                (SOLD, nothing()),
                (SOLD, json!({"amount_total": 9_000, "created_later": 60})),
            ],
            ends: vec![("purchase", "paid", 9_000, 0, 0, 0, "click_id")],
        },
    ]
}

/// `charge.refunded` of the charge that was captured in part: 40.00 were released, 10.00 given back.
const CAPTURED_REFUNDED: &str = "charge.captured#refunded";

/// The events of a story in one generation, each with an ID of its own.
fn events_of(story: &Story, generation: Generation, click_id: &str) -> Vec<Value> {
    let is_there = |(_, (name, _)): &(usize, &(&str, Value))| {
        matches!(generation, Generation::Basil) || *name != "invoice_payment.paid"
    };
    let build = |(at, (name, values)): (usize, &(&str, Value))| {
        let is_refund = *name == CAPTURED_REFUNDED;
        let mut event = generation.event(name.split('#').next().unwrap_or(name), click_id);
        event["id"] = format!("evt_{at}").into();
        if is_refund {
            event["type"] = "charge.refunded".into();
            event["data"]["object"]["amount_refunded"] = 5_000.into();
        }
        for (key, value) in values.as_object().expect("an object of values") {
            if key == "created_later" {
                let created = event["created"].as_i64().unwrap_or_default();
                event["created"] = (created + value.as_i64().unwrap_or_default()).into();
                continue;
            }
            let text = value.to_string().replace("CLICK_ID", click_id);
            let object = event["data"]["object"].as_object_mut().expect("an object");
            object.insert(key.clone(), serde_json::from_str(&text).expect("JSON"));
            // Nothing of a story may stay that its generation does not have.
            if matches!(generation, Generation::Basil)
                && matches!(
                    key.as_str(),
                    "charge" | "payment_intent" | "subscription" | "paid_out_of_band"
                )
                && name.starts_with("invoice.paid")
            {
                object.remove(key);
            }
        }
        event
    };
    story.events.iter().enumerate().filter(is_there).map(build).collect()
}

/// Some orders of so many things: as they are, backwards, and shuffled.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let as_is: Vec<usize> = (0..count).collect();
    let mut orders = vec![as_is.clone(), as_is.iter().rev().copied().collect()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..4 {
        let mut order = as_is.clone();
        for at in (1..count).rev() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            order.swap(at, usize::try_from(state >> 33).unwrap_or(0) % (at + 1));
        }
        orders.push(order);
    }
    orders
}

fn end(found: &Conversion) -> (String, String, i64, i64, i64, i64, String) {
    let by = found.matched_by.clone().or(found.reason.clone()).unwrap_or_default();
    (
        found.kind.clone(),
        found.status.clone(),
        found.amount_minor.unwrap_or(-1),
        found.refunded_minor,
        found.disputed_minor,
        found.lost_minor,
        by,
    )
}

#[tokio::test]
async fn money_is_the_same_in_any_order_in_both_generations_and_after_a_replay() {
    let stories = stories();
    let generations = [Generation::Acacia, Generation::Basil];
    let of = |generation| stories.iter().map(move |it| events_of(it, generation, "").len());
    let count = generations.into_iter().flat_map(of).sum();
    for (number, order) in orders(count).into_iter().enumerate() {
        let mut app = TestApp::start().await;
        let click_id = app.visit(PAGE).await;
        let mut events = Vec::new();
        for (at, story) in stories.iter().enumerate() {
            for (g, generation) in generations.into_iter().enumerate() {
                let account = format!("acct_{at}_{g}");
                let of_story = events_of(story, generation, &click_id);
                events.extend(of_story.iter().map(|event| of_account(event, &account)));
            }
        }
        for (step, at) in order.into_iter().enumerate() {
            assert_eq!(app.stripe(&events[at]).await.status.as_u16(), 200);
            // Every other time an event finds the ones before processed already.
            if step % 2 == number % 2 {
                app.process_events().await;
            }
        }
        app.process_events().await;
        let failed = app
            .database
            .texts("select account || ' ' || type || ': ' || coalesce(error, '') from stripe_events where state = 'failed'")
            .await;
        assert!(failed.is_empty(), "{failed:?}");
        let found = app.conversions().await;
        for (at, story) in stories.iter().enumerate() {
            for (g, generation) in generations.iter().enumerate() {
                let account = format!("acct_{at}_{g}");
                let mine = found.iter().filter(|found| found.account == account);
                let ends: Vec<_> = mine.map(end).collect();
                let expected: Vec<_> = story
                    .ends
                    .iter()
                    .map(|(kind, status, amount, refunded, disputed, lost, by)| {
                        let text = |text: &&str| (*text).to_owned();
                        (text(kind), text(status), *amount, *refunded, *disputed, *lost, text(by))
                    })
                    .collect();
                assert_eq!(ends, expected, "{}, {generation:?}, order {number}", story.name);
            }
        }
        let replayed = app.app().replay(&Default::default()).await.expect("a replay");
        assert!(replayed.differences.is_empty(), "order {number}: {:#?}", replayed.differences);
        app.leave_things_undone();
    }
}

#[tokio::test]
async fn only_what_was_captured_is_sent_and_counted() {
    let app = TestApp::owned(&[]).await;
    let click_id = app.visit(PAGE).await;
    let events = |names: &[&'static str]| -> Vec<Value> {
        names.iter().map(|name| Generation::Basil.event(name, &click_id)).collect()
    };
    for event in events(&[AUTHORIZED, UNCAPTURED, SESSION]) {
        app.stripe_processed(&event).await;
    }
    assert!(app.deliveries().await.is_empty(), "nobody paid yet");
    let owner = app.owner().await;
    let path = app.database.texts("select '/conversions/' || id from conversions").await.remove(0);
    let page = owner.page(&path).await;
    assert!(page.contains("Authorized") && page.contains("not captured yet"), "{page}");
    assert!(owner.page("/conversions?status=authorized").await.contains("not captured yet"));
    for event in events(&[CAPTURED, SUCCEEDED]) {
        app.stripe_processed(&event).await;
    }
    app.deliver_due().await;
    let [message] = &app.anytrack.received()[..] else { panic!("one message") };
    assert!(message.contains(r#""value":60.00"#), "{message}");
    assert!(owner.page(&path).await.contains("$60.00"));
}

#[tokio::test]
async fn a_dispute_is_shown_as_stripe_states_it() {
    let app = TestApp::owned(&[]).await;
    let click_id = app.visit(PAGE).await;
    app.stripe_processed(&Generation::Basil.event(SOLD, &click_id)).await;
    let mut lost = Generation::Basil.event(LOST, &click_id);
    lost["data"]["object"]["amount"] = 9_999.into();
    lost["data"]["object"]["currency"] = "eur".into();
    app.stripe_processed(&lost).await;
    app.deliver_due().await;
    let owner = app.owner().await;
    let path = app.database.texts("select '/conversions/' || id from conversions").await.remove(0);
    let page = owner.page(&path).await;
    assert!(page.contains("€99.99") && page.contains("$102.60"), "{page}");
}

/// A checkout over 34.51 and its receipt: an invoice by hand to the same customer, paid outside Stripe.
fn checkout_and_receipt(generation: Generation, click_id: &str) -> [Value; 2] {
    let mut checkout = generation.event("checkout.session.completed", click_id);
    let mut receipt = generation.event("invoice.paid.first", click_id);
    checkout["data"]["object"]["customer"] = "cus_receipt".into();
    checkout["data"]["object"]["amount_total"] = 3_451.into();
    checkout["data"]["object"]["currency"] = "eur".into();
    let of_receipt = json!({"id": "in_receipt", "customer": "cus_receipt", "billing_reason": "manual", "attempt_count": 0,
                            "collection_method": "send_invoice", "parent": null, "lines": {"data": []}});
    for (key, value) in of_receipt.as_object().expect("an object") {
        receipt["data"]["object"][key] = value.clone();
    }
    for key in ["payment_intent", "charge", "subscription"] {
        receipt["data"]["object"].as_object_mut().expect("an object").remove(key);
    }
    [checkout, receipt]
}

#[tokio::test]
async fn a_receipt_is_asked_about_and_counted_once_when_its_owner_says_so() {
    for (generation, is_first) in [(Generation::Acacia, false), (Generation::Basil, true)] {
        let app = TestApp::owned(&[]).await;
        let owner = app.owner().await;
        let click_id = app.visit(PAGE).await;
        let [checkout, receipt] = checkout_and_receipt(generation, &click_id);
        for event in if is_first { [&receipt, &checkout] } else { [&checkout, &receipt] } {
            app.stripe_processed(event).await;
        }
        let paths = app
            .database
            .texts("select transaction_id || ' /conversions/' || id from conversions")
            .await;
        let path_of = |id: &str| {
            let found = paths.iter().find(|path| path.starts_with(id)).expect("a conversion");
            found.split(' ').nth(1).expect("a path").to_owned()
        };
        let (path, other) = (path_of("in_receipt"), path_of("cs_live"));
        let paid =
            async || app.conversions().await.iter().filter(|it| it.paid_at_ms.is_some()).count();
        let question = "Possible duplicate (receipt)";
        assert_eq!(paid().await, 2, "never silently");
        assert!(owner.page(&path).await.contains(question));
        assert!(owner.page("/conversions").await.contains("possible duplicate (receipt)"));
        assert!(!owner.page(&other).await.contains(question));
        assert_eq!(owner.post(&format!("{other}/count-once"), &[]).await.status.as_u16(), 404);
        assert_eq!(owner.post(&format!("{path}/count-again"), &[]).await.status.as_u16(), 404);
        for _ in 0..2 {
            owner.save(&format!("{path}/count-once"), &[]).await;
            assert_eq!(paid().await, 1);
        }
        let page = owner.page(&path).await;
        assert!(
            page.contains("ada@example.com marked it") && page.contains("Count it again"),
            "{page}"
        );
        assert!(owner.page("/conversions").await.contains("duplicate, not counted"));
        // Events that come again, and a ledger written again, say the same.
        app.stripe_processed(&receipt).await;
        app.advance(std::time::Duration::from_secs(121));
        app.rejoin().await;
        let wanted = clickstamp::stripe::replay::Wanted { apply: true, ..Default::default() };
        let replayed = app.app().replay(&wanted).await.expect("a replay");
        assert!(replayed.differences.is_empty(), "{replayed:#?}");
        app.deliver_due().await;
        assert_eq!(
            (paid().await, app.anytrack.received().len()),
            (1, 1),
            "its receipt is not sent"
        );
        owner.save(&format!("{path}/count-again"), &[]).await;
        assert_eq!(paid().await, 2);
        assert!(owner.page(&path).await.contains(question));
        app.deliver_due().await;
        assert_eq!(app.anytrack.received().len(), 2);
    }
}

#[tokio::test]
async fn what_differs_from_a_receipt_is_not_asked_about() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    let click_id = app.visit(PAGE).await;
    let other_values = [
        json!({"customer": "cus_other"}),
        json!({"amount_paid": 3_450}),
        json!({"currency": "usd"}),
        json!({"attempt_count": 1}),
        json!({"billing_reason": "subscription_cycle"}),
    ];
    for (at, values) in other_values.into_iter().enumerate() {
        for mut event in checkout_and_receipt(Generation::Basil, &click_id) {
            for (key, value) in values.as_object().expect("an object") {
                if event["type"] == "invoice.paid" {
                    event["data"]["object"][key] = value.clone();
                }
            }
            app.stripe_processed(&of_account(&event, &format!("acct_{at}"))).await;
        }
    }
    let mut late =
        checkout_and_receipt(Generation::Basil, &click_id).map(|it| of_account(&it, "acct_late"));
    late[1]["created"] = (late[1]["created"].as_i64().expect("a time") + 86_401).into();
    for event in &late {
        app.stripe_processed(event).await;
    }
    for path in app.database.texts("select '/conversions/' || id from conversions").await {
        assert!(!owner.page(&path).await.contains("Possible duplicate"), "{path}");
    }
    app.advance(std::time::Duration::from_secs(121));
    app.rejoin().await;
    app.deliver_due().await;
}
