//! Payments from start to end, stated by several events: in order, in any order, and repeated.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{PAGE, of_account};
use crate::harness::{Conversion, TestApp, fixture};

/// The files of a history, in the order in which they happened.
struct Story {
    name: &'static str,
    events: &'static [&'static str],
    /// Conversions, sorted: kind, status, amount, refunded, lost, match.
    ends: &'static [(&'static str, &'static str, i64, i64, i64, &'static str)],
    /// Number of messages to AnyTrack.
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
            ("purchase", "disputed", 10_260, 2_600, 10_260, "click_id"),
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

/// Processes events in an order, each account on its own, and answers what is in the ledger and
/// what was sent.
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
    // A message sent before its refund says "paid"; one sent after it does not. Both are correct.
    let sent = sent.iter().map(|body| body.replace(r#""status":"paid","#, "")).collect();
    (found, sent)
}

#[test]
fn every_history_ends_as_documented() {
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
fn any_order_and_any_repetition_of_whole_histories_ends_the_same() {
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
