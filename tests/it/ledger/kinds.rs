//! What each kind of event comes to when nothing else is known, in every generation of Stripe's API that has it.

use clickstamp::stripe::EVENT_TYPES;

use super::{PAGE, of_account};
use crate::harness::{Conversion, TestApp, fixture};

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
        Makes("lead", "paid", 0, "USD", "cs_live_Setup", "click_id"),
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
    ("payment_intent.amount_capturable_updated.acacia", Nothing),
    ("payment_intent.amount_capturable_updated.dahlia", Nothing),
    ("payment_intent.canceled.acacia", Nothing),
    ("payment_intent.canceled.dahlia", Nothing),
    ("payment_intent.succeeded.captured.acacia", Nothing),
    ("payment_intent.succeeded.captured.dahlia", Nothing),
    ("charge.succeeded.uncaptured.acacia", Nothing),
    ("charge.succeeded.uncaptured.dahlia", Nothing),
    ("charge.captured.acacia", Nothing),
    ("charge.captured.dahlia", Nothing),
    ("charge.refunded.released.acacia", Nothing),
    ("charge.refunded.released.dahlia", Nothing),
    (
        "checkout.session.completed.manual_capture.acacia",
        Makes("purchase", "pending", 10_000, "USD", "cs_live_a1Hold", "click_id"),
    ),
    (
        "checkout.session.completed.manual_capture.dahlia",
        Makes("purchase", "pending", 10_000, "USD", "cs_live_a1Hold", "click_id"),
    ),
    ("charge.succeeded.dahlia", Nothing),
    ("charge.succeeded.renewal.acacia", Nothing),
    ("charge.succeeded.renewal.basil", Nothing),
    (
        "charge.refunded.partial.dahlia",
        Makes(
            "purchase", "partially_refunded", 10_260, "USD", "pi_3RtLamp", "first_payment_not_seen",
        ),
    ),
    (
        "charge.refunded.full.dahlia",
        Makes("purchase", "refunded", 10_260, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.refunded.renewal.acacia",
        Makes(
            "purchase", "partially_refunded", 3_451, "EUR", "in_1RtSubInv0002",
            "first_payment_not_seen",
        ),
    ),
    (
        "charge.refunded.renewal.basil",
        Makes(
            "purchase", "partially_refunded", 3_451, "EUR", "pi_3RtPlanB", "first_payment_not_seen",
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
        Makes("purchase", "paid", -1, "-", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "refund.failed.acacia",
        Makes("purchase", "paid", -1, "-", "pi_3RtLamp", "first_payment_not_seen"),
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
        Makes("purchase", "paid", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
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
        Makes("purchase", "paid", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.closed.won.acacia",
        Makes("purchase", "paid", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
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
        Makes("purchase", "paid", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
    ),
    (
        "charge.dispute.funds_reinstated.acacia",
        Makes("purchase", "paid", -1, "USD", "pi_3RtLamp", "first_payment_not_seen"),
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
