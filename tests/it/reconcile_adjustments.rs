//! Compares refunds, disputes and payments without a checkout with Stripe's records.

use clickstamp::stripe::ApiError;
use clickstamp::stripe::reconcile::{Kind, Reconciled, Wanted};
use serde_json::{Value, json};

use crate::harness::{FakeStripe, Session, TEST_KEY, TestApp};

const SESSIONS: &str = "/v1/checkout/sessions";
const REFUNDS: &str = "/v1/refunds";
const DISPUTES: &str = "/v1/disputes";
const INTENTS: &str = "/v1/payment_intents";

fn all() -> Wanted {
    let (source, account) = ("main".to_owned(), String::new());
    Wanted { source, account, from: None, until: None, repair: false }
}

async fn reconcile(app: &TestApp, wanted: &Wanted) -> Reconciled {
    app.app().reconcile(wanted).await.expect("Stripe answers")
}

/// Repairs, and checks that a second repair stores nothing more.
async fn repair(app: &TestApp) -> Reconciled {
    let wanted = Wanted { repair: true, ..all() };
    let repaired = reconcile(app, &wanted).await;
    let again = reconcile(app, &wanted).await;
    assert_eq!((again.repaired, again.gap), (0, repaired.gap), "{again:#?}");
    repaired
}

fn seconds(app: &TestApp, minutes: i64) -> i64 {
    app.now().as_seconds() - minutes * 60
}

/// A session of 102.60 USD, paid an hour ago by `pi_{id}`.
fn session(app: &TestApp, id: &str) -> Session {
    let created = seconds(app, 60);
    Session::paid(id).with(json!({"status": "complete", "created": created})).at(created)
}

/// Paid sessions that Stripe lists and whose events arrived here.
async fn sold(app: &TestApp, stripe: &FakeStripe, ids: &[&str]) {
    for id in ids {
        let event = session(app, id).completed();
        stripe.has(SESSIONS, [event["data"]["object"].clone()]);
        app.stripe_processed(&event).await;
    }
}

fn with(mut object: Value, values: Value) -> Value {
    for (key, value) in values.as_object().expect("an object of values") {
        object[key] = value.clone();
    }
    object
}

/// A refund of 5.00 USD of a session's payment, with its charge expanded.
fn refund(app: &TestApp, id: &str, session: &str) -> Value {
    json!({"id": id, "object": "refund", "amount": 500, "currency": "usd", "status": "succeeded", "created": seconds(app, 50),
           "charge": {"id": format!("ch_{session}"), "object": "charge", "amount": 10_260, "amount_captured": 10_260,
                      "amount_refunded": 500, "captured": true, "payment_intent": format!("pi_{session}")},
           "payment_intent": format!("pi_{session}"), "balance_transaction": format!("txn_{id}")})
}

/// A dispute of all of a session's payment.
fn dispute(app: &TestApp, id: &str, session: &str, status: &str) -> Value {
    json!({"id": id, "object": "dispute", "amount": 10_260, "currency": "usd", "status": status, "created": seconds(app, 40),
           "charge": format!("ch_{session}"), "payment_intent": format!("pi_{session}"), "reason": "fraudulent"})
}

/// The event about an object, as a webhook reports it.
fn event(kind: &str, object: &Value) -> Value {
    let mut object = object.clone();
    if object["charge"]["id"].is_string() {
        object["charge"] = object["charge"]["id"].clone();
    }
    let id = format!("evt_{}_{}", kind, object["id"].as_str().expect("an ID"));
    json!({"id": id, "object": "event", "type": kind, "created": object["created"], "livemode": true, "data": {"object": object}})
}

/// The differences, each with both sides.
fn differences(found: &Reconciled) -> Vec<(String, Option<&str>, Option<&str>)> {
    let line =
        |it: &clickstamp::stripe::reconcile::Difference| format!("{} {}", it.kind, it.stripe_id);
    let found = found.differences.iter();
    found.map(|it| (line(it), it.stripe.as_deref(), it.here.as_deref())).collect()
}

/// The totals of a kind.
fn totals(found: &Reconciled, kind: Kind) -> Vec<String> {
    let totals = found.totals.iter().filter(|sums| sums.kind == kind);
    totals.map(ToString::to_string).collect()
}

#[tokio::test]
async fn refunds_that_are_missing_different_or_unknown_at_stripe_are_named_and_repaired() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.pages_of(1);
    sold(&app, &stripe, &["cs_1", "cs_2", "cs_3", "cs_4", "cs_5"]).await;
    let missing = [refund(&app, "re_1", "cs_1"), refund(&app, "re_2", "cs_2")];
    let (other, same) = (refund(&app, "re_3", "cs_3"), refund(&app, "re_4", "cs_4"));
    stripe.has(REFUNDS, missing.iter().chain([&other, &same]).cloned());
    let other_here = with(other, json!({"amount": 400}));
    for object in [&other_here, &same, &refund(&app, "re_5", "cs_5")] {
        app.stripe_processed(&event("refund.created", object)).await;
    }
    let found = reconcile(&app, &all()).await;
    assert_eq!(
        totals(&found, Kind::Payment),
        ["Stripe: 5 paid, 513.00 USD; here: 5, 513.00; gap 0"]
    );
    let refunds = ["Stripe: 4 refunded, 20.00 USD; here: 3, 14.00; gap 4"];
    assert_eq!(totals(&found, Kind::Refund), refunds);
    let (usd, none) = (Some("5.00 USD"), None);
    assert_eq!(
        differences(&found),
        [
            ("refund re_1".to_owned(), usd, none),
            ("refund re_2".to_owned(), usd, none),
            ("refund re_3".to_owned(), usd, Some("4.00 USD")),
            ("refund re_5".to_owned(), none, usd),
        ]
    );
    let fixes = ["never arrived", "--repair", "clickstamp replay", "lists no such refund"];
    for (found, expected) in found.differences.iter().zip(fixes) {
        assert!(found.fix.contains(expected) && found.conversion_id.is_some(), "{found:?}");
    }
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (2, 2), "{repaired:#?}");
    let refunded: Vec<i64> = app.conversions().await.iter().map(|it| it.refunded_minor).collect();
    assert_eq!(refunded, [500, 500, 400, 500, 500]);
    app.deliver_due().await;
}

#[tokio::test]
async fn a_refund_that_failed_counts_nothing_and_a_pending_one_counts() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    sold(&app, &stripe, &["cs_1", "cs_2", "cs_3", "cs_4"]).await;
    let failed =
        |id, session, status: &str| with(refund(&app, id, session), json!({"status": status}));
    let pending = with(refund(&app, "re_2", "cs_2"), json!({"status": "pending"}));
    let records = [
        failed("re_1", "cs_1", "failed"),
        pending.clone(),
        failed("re_3", "cs_3", "canceled"),
        failed("re_4", "cs_4", "failed"),
    ];
    stripe.has(REFUNDS, records);
    // The first failed after its event; of the third nothing ever arrived; the fourth is known by its charge only.
    app.stripe_processed(&event("refund.created", &refund(&app, "re_1", "cs_1"))).await;
    app.stripe_processed(&event("refund.created", &pending)).await;
    let charge = with(
        refund(&app, "re_4", "cs_4")["charge"].clone(),
        json!({"currency": "usd", "created": seconds(&app, 50)}),
    );
    app.stripe_processed(&event("charge.refunded", &charge)).await;
    let found = reconcile(&app, &all()).await;
    let failed = (Some("5.00 USD, failed"), Some("5.00 USD"));
    assert_eq!(
        differences(&found),
        [
            ("refund re_1".to_owned(), failed.0, failed.1),
            ("refund re_4".to_owned(), failed.0, failed.1)
        ]
    );
    assert_eq!(
        totals(&found, Kind::Refund),
        ["Stripe: 1 refunded, 5.00 USD; here: 3, 15.00; gap 2"]
    );
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (2, 0), "{repaired:#?}");
    let refunded: Vec<i64> = app.conversions().await.iter().map(|it| it.refunded_minor).collect();
    assert_eq!(refunded, [0, 500, 0, 0]);
    app.deliver_due().await;
}

#[tokio::test]
async fn a_refund_may_be_known_by_the_sum_of_its_charge_alone() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    sold(&app, &stripe, &["cs_1"]).await;
    let first = refund(&app, "re_1", "cs_1");
    let charge =
        with(first["charge"].clone(), json!({"currency": "usd", "created": seconds(&app, 50)}));
    app.stripe_processed(&event("charge.refunded", &charge)).await;
    stripe.has(REFUNDS, [first.clone()]);
    let found = reconcile(&app, &all()).await;
    assert_eq!(
        totals(&found, Kind::Refund),
        ["Stripe: 1 refunded, 5.00 USD; here: 1, 5.00; gap 0"]
    );
    // Of a second one nothing arrived; both have the charge as it is now.
    stripe.has_no(REFUNDS);
    let both = ["re_1", "re_2"].map(|id| {
        let mut refund = refund(&app, id, "cs_1");
        refund["charge"]["amount_refunded"] = json!(1_000);
        refund
    });
    stripe.has(REFUNDS, both);
    assert!(reconcile(&app, &all()).await.gap > 0);
    let repaired = repair(&app).await;
    assert_eq!(repaired.gap, 0, "{repaired:#?}");
    assert_eq!(app.conversion().await.refunded_minor, 1_000);
    app.deliver_due().await;
}

#[tokio::test]
async fn refunds_and_disputes_of_payments_outside_the_ledger_are_counted_and_no_difference() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.has(REFUNDS, [refund(&app, "re_1", "cs_old"), refund(&app, "re_2", "cs_older")]);
    stripe.has(DISPUTES, [dispute(&app, "du_1", "cs_old", "lost")]);
    app.stripe_processed(&event("refund.created", &refund(&app, "re_2", "cs_older"))).await;
    // A released authorization is no refund.
    sold(&app, &stripe, &["cs_1"]).await;
    let mut released = refund(&app, "re_3", "cs_1");
    released["charge"]["amount_captured"] = json!(0);
    stripe.has(REFUNDS, [released]);
    let found = repair(&app).await;
    assert_eq!((found.gap, found.repaired), (0, 0), "{found:#?}");
    assert!(totals(&found, Kind::Refund).is_empty() && totals(&found, Kind::Dispute).is_empty());
    let said = found.left_out();
    assert!(said.contains("2 refunds (of payments that are not in the ledger)"), "{said}");
    assert!(said.contains("1 dispute (of payments that are not in the ledger)"), "{said}");
    app.deliver_due().await;
}

#[tokio::test]
async fn a_payment_that_is_missing_with_its_refund_and_dispute_comes_back_with_both() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.has(
        SESSIONS,
        ["cs_1", "cs_2"].map(|id| session(&app, id).completed()["data"]["object"].clone()),
    );
    stripe.has(REFUNDS, [refund(&app, "re_1", "cs_1")]);
    stripe.has(DISPUTES, [dispute(&app, "du_1", "cs_2", "needs_response")]);
    let found = reconcile(&app, &all()).await;
    let ids: Vec<&str> = found.differences.iter().map(|it| it.stripe_id.as_str()).collect();
    assert_eq!(ids, ["cs_1", "cs_2", "re_1", "du_1"]);
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (4, 0), "{repaired:#?}");
    let found = app.conversions().await;
    let sums: Vec<_> = found.iter().map(|it| (it.refunded_minor, it.disputed_minor)).collect();
    assert_eq!(sums, [(500, 0), (0, 10_260)]);
    app.deliver_due().await;
}

#[tokio::test]
async fn an_invoices_refund_is_connected_with_its_payment() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let payment = json!({"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": "paid", "created": seconds(&app, 60),
                         "payment": {"type": "payment_intent", "payment_intent": "pi_renewal"}});
    let mut invoice = json!({"id": "in_1", "object": "invoice", "status": "paid", "created": seconds(&app, 60), "amount_paid": 10_260,
                             "currency": "usd", "billing_reason": "subscription_cycle", "subscription": "sub_1"});
    app.stripe_processed(&event("invoice.paid", &invoice)).await;
    invoice["payments"] = json!({"object": "list", "data": [payment]});
    stripe.has("/v1/invoices", [invoice]);
    stripe.has(REFUNDS, [refund(&app, "re_1", "renewal")]);
    app.stripe_processed(&event("refund.created", &refund(&app, "re_1", "renewal"))).await;
    let found = reconcile(&app, &all()).await;
    assert_eq!(
        differences(&found),
        [("refund re_1".to_owned(), Some("5.00 USD"), Some("5.00 USD"))]
    );
    assert!(found.differences[0].fix.contains("no event connected the two"), "{found:#?}");
    assert_eq!(
        totals(&found, Kind::Refund),
        ["Stripe: 1 refunded, 5.00 USD; here: 0, 0.00; gap 1"]
    );
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (1, 0), "{repaired:#?}");
    assert_eq!(app.conversion().await.refunded_minor, 500);
    app.deliver_due().await;
}

#[tokio::test]
async fn disputes_are_compared_by_what_they_take() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    sold(&app, &stripe, &["cs_1", "cs_2", "cs_3", "cs_4", "cs_5", "cs_6", "cs_7"]).await;
    let yen =
        with(dispute(&app, "du_4", "cs_4", "lost"), json!({"amount": 15_000, "currency": "jpy"}));
    stripe.has(
        DISPUTES,
        [
            dispute(&app, "du_1", "cs_1", "needs_response"),
            dispute(&app, "du_2", "cs_2", "lost"),
            dispute(&app, "du_3", "cs_3", "won"),
            yen,
            dispute(&app, "du_6", "cs_6", "warning_closed"),
            dispute(&app, "du_7", "cs_7", "won"),
        ],
    );
    for (id, session) in [("du_2", "cs_2"), ("du_3", "cs_3"), ("du_5", "cs_5")] {
        let open = dispute(&app, id, session, "needs_response");
        app.stripe_processed(&event("charge.dispute.created", &open)).await;
    }
    let found = reconcile(&app, &all()).await;
    let usd = |status: &str| format!("102.60 USD, {status}");
    let (open, lost, won) = (usd("needs response"), usd("lost"), usd("won"));
    let here = usd("open");
    assert_eq!(
        differences(&found),
        [
            ("dispute du_1".to_owned(), Some(open.as_str()), None),
            ("dispute du_2".to_owned(), Some(lost.as_str()), Some(here.as_str())),
            ("dispute du_3".to_owned(), Some(won.as_str()), Some(here.as_str())),
            ("dispute du_4".to_owned(), Some("15000 JPY, lost"), None),
            ("dispute du_5".to_owned(), None, Some("102.60 USD")),
        ]
    );
    assert_eq!(
        totals(&found, Kind::Dispute),
        [
            "Stripe: 1 disputed, 15000 JPY; here: 0, 0; gap 1",
            "Stripe: 2 disputed, 205.20 USD; here: 3, 307.80; gap 4"
        ]
    );
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (4, 1), "{repaired:#?}");
    assert!(repaired.differences[0].fix.contains("lists no such dispute"), "{repaired:#?}");
    let found = app.conversions().await;
    let sums: Vec<_> = found.iter().map(|it| (it.disputed_minor, it.lost_minor)).collect();
    let whole = 10_260;
    assert_eq!(sums, [(whole, 0), (0, whole), (0, 0), (0, whole), (whole, 0), (0, 0), (0, 0)]);
    // One that is decided later is repaired again, though an earlier status of it was fetched.
    stripe.has_no(DISPUTES);
    stripe.has(
        DISPUTES,
        [dispute(&app, "du_1", "cs_1", "lost"), dispute(&app, "du_5", "cs_5", "lost")],
    );
    let repaired = reconcile(&app, &Wanted { repair: true, ..all() }).await;
    assert_eq!(repaired.repaired, 2, "{repaired:#?}");
    assert_eq!(app.conversions().await[0].lost_minor, whole);
    app.deliver_due().await;
}

/// A payment intent that succeeded.
fn intent(app: &TestApp, id: &str) -> Value {
    json!({"id": id, "object": "payment_intent", "status": "succeeded", "amount": 2_500, "amount_received": 2_500, "currency": "usd",
           "capture_method": "automatic", "created": seconds(app, 30), "metadata": {}})
}

#[tokio::test]
async fn payment_intents_without_a_checkout_are_compared_where_they_are_recorded() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    sold(&app, &stripe, &["cs_1"]).await;
    let here = intent(&app, "pi_here");
    let unpaid = with(
        intent(&app, "pi_unpaid"),
        json!({"status": "requires_capture", "amount_received": 0}),
    );
    let named = with(intent(&app, "pi_named"), json!({"metadata": {"click_id": "ck_1"}}));
    let bare = ["pi_cs_1", "pi_missing", "pi_of_older_session", "pi_of_invoice"];
    stripe.has(INTENTS, bare.map(|id| intent(&app, id)));
    stripe.has(INTENTS, [unpaid, here.clone(), named]);
    let day = 86_400;
    let older = json!({"id": "cs_old", "status": "open", "created": app.now().as_seconds() - 20 * day, "payment_intent": "pi_of_older_session"});
    stripe.has(SESSIONS, [older]);
    stripe.has(
        "/v1/invoice_payments",
        [json!({"id": "inpay_1", "status": "paid", "payment": {"payment_intent": "pi_of_invoice"}})],
    );
    app.stripe_processed(&event("payment_intent.succeeded", &here)).await;
    // The source records only those that name a click ID, and the result says so.
    let found = reconcile(&app, &all()).await;
    assert_eq!(differences(&found), [("payment pi_named".to_owned(), Some("25.00 USD"), None)]);
    let said = "payments without a checkout or an invoice (the webhook “main” records only those with the metadata “click_id”)";
    assert_eq!(found.left_out(), format!("Not compared: {said}."));
    // Now it records all of them.
    app.database
        .change("update sources set record_bare_payment_intents = 1 where key = 'main'")
        .await;
    let app = app.restart(&stripe.settings()).await;
    app.stripe_processed(&event("payment_intent.succeeded", &intent(&app, "pi_surplus"))).await;
    let found = reconcile(&app, &all()).await;
    assert_eq!(found.left_out(), "");
    let (amount, none) = (Some("25.00 USD"), None);
    assert_eq!(
        differences(&found),
        [
            ("payment pi_here".to_owned(), amount, none),
            ("payment pi_missing".to_owned(), amount, none),
            ("payment pi_named".to_owned(), amount, none),
            ("payment pi_surplus".to_owned(), none, amount),
        ]
    );
    assert!(found.differences[0].fix.contains("made no conversion"), "{found:#?}");
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (3, 1), "{repaired:#?}");
    let mut ids: Vec<String> =
        app.conversions().await.into_iter().map(|it| it.transaction_id).collect();
    ids.sort();
    assert_eq!(ids, ["cs_1", "pi_here", "pi_missing", "pi_named", "pi_surplus"]);
    app.deliver_due().await;
}

#[tokio::test]
async fn a_list_that_the_key_may_not_read_is_named_and_the_rest_is_compared() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.has(SESSIONS, [session(&app, "cs_1").completed()["data"]["object"].clone()]);
    stripe.denies(REFUNDS);
    let found = reconcile(&app, &all()).await;
    assert_eq!(differences(&found), [("payment cs_1".to_owned(), Some("102.60 USD"), None)]);
    let said = found.left_out();
    let refunds =
        "refunds (the key may not read them: add “Charges and Refunds: Read” to it in Stripe)";
    assert!(said.contains(refunds) && !said.contains("disputes"), "{said}");
    // Here, and not listed: that says nothing where the list may not be read.
    assert_eq!(repair(&app).await.gap, 0);
    app.stripe_processed(&event("refund.created", &refund(&app, "re_1", "cs_1"))).await;
    assert_eq!(reconcile(&app, &all()).await.gap, 0);
    stripe.denies(SESSIONS);
    let found = reconcile(&app, &all()).await;
    assert_eq!((found.gap, found.totals.len()), (0, 0), "{found:#?}");
    assert!(found.left_out().contains("without checkouts and invoices"), "{}", found.left_out());
    for path in ["/v1/invoices", DISPUTES, INTENTS] {
        stripe.denies(path);
    }
    let error = app.app().reconcile(&all()).await.expect_err("nothing can be compared");
    assert!(matches!(error.downcast_ref(), Some(ApiError::Denied(_))), "{error:#}");
    app.deliver_due().await;
}

#[tokio::test]
async fn connected_accounts_and_test_mode_are_compared_and_repaired_apart() {
    let stripe = FakeStripe::start().await;
    let [_, base] = stripe.settings();
    let app = TestApp::start_with(&[("CLICKSTAMP_STRIPE_API_KEY", TEST_KEY), base]).await;
    let of_test = |object: Value| with(object, json!({"livemode": false}));
    stripe.has(SESSIONS, [of_test(session(&app, "cs_1").completed()["data"]["object"].clone())]);
    stripe.has(REFUNDS, [of_test(refund(&app, "re_1", "cs_1"))]);
    stripe.has(DISPUTES, [of_test(dispute(&app, "du_1", "cs_1", "lost"))]);
    // The same refund in live mode and of the key's own account is another one.
    app.stripe_processed(&session(&app, "cs_live").completed()).await;
    app.stripe_processed(&event("refund.created", &refund(&app, "re_live", "cs_live"))).await;
    let wanted = Wanted { account: "acct_1".to_owned(), repair: true, ..all() };
    let repaired = reconcile(&app, &wanted).await;
    assert_eq!(
        (repaired.repaired, repaired.gap, repaired.livemode),
        (3, 0, false),
        "{repaired:#?}"
    );
    let again = reconcile(&app, &wanted).await;
    assert_eq!((again.repaired, again.gap), (0, 0));
    let found = app.conversions().await;
    let sums: Vec<_> = found
        .iter()
        .map(|it| (it.account.as_str(), it.livemode, it.refunded_minor, it.lost_minor))
        .collect();
    assert!(sums.contains(&("acct_1", 0, 500, 10_260)) && sums.len() == 2, "{sums:?}");
    app.deliver_due().await;
}

#[tokio::test]
async fn the_page_shows_refunds_and_disputes_and_what_was_not_compared() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::owned(&stripe.settings()).await;
    sold(&app, &stripe, &["cs_1"]).await;
    stripe.has(REFUNDS, [refund(&app, "re_1", "cs_1")]);
    stripe.has(DISPUTES, [dispute(&app, "du_1", "cs_1", "lost")]);
    stripe.denies("/v1/invoices");
    app.app().reconcile_daily().await.expect("it can be kept");
    let owner = app.owner().await;
    assert!(owner.page("/").await.contains("2 differences from Stripe’s records"));
    let page = owner.page("/settings/sources").await;
    for expected in [
        "Stripe: 1 paid, 102.60 USD; here: 1, 102.60; gap 0",
        "Stripe: 1 refunded, 5.00 USD; here: 0, 0.00; gap 1",
        "Stripe: 1 disputed, 102.60 USD; here: 0, 0.00; gap 1",
        "<td>Refund</td><th scope=\"row\">re_1</th><td>5.00 USD</td>",
        "<td>Dispute</td><th scope=\"row\">du_1</th><td>102.60 USD, lost</td>",
        "Not compared: invoices (the key may not read them: add “Invoices: Read” to it in Stripe)",
    ] {
        assert!(page.contains(expected), "{expected} is missing in {page}");
    }
    repair(&app).await;
    let overview = owner.page("/").await;
    assert!(overview.contains("Matches Stripe’s records") && overview.contains("partly compared"));
    assert!(owner.page("/settings/sources").await.contains("Matches Stripe’s records"));
    app.deliver_due().await;
}

#[tokio::test]
async fn refunds_of_a_receipt_that_is_counted_once_are_no_difference() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let intent = |object: Value| with(object, json!({"payment_intent": "pi_receipt"}));
    let invoice = intent(
        json!({"id": "in_1", "object": "invoice", "status": "paid", "created": seconds(&app, 60), "amount_paid": 10_260,
                                "currency": "usd", "billing_reason": "manual"}),
    );
    stripe.has("/v1/invoices", [invoice.clone()]);
    stripe.has(REFUNDS, [refund(&app, "re_1", "receipt")]);
    app.stripe_processed(&event("invoice.paid", &invoice)).await;
    assert_eq!(reconcile(&app, &all()).await.gap, 1);
    app.database.change("update conversions set status = 'duplicate'").await;
    let found = reconcile(&app, &all()).await;
    assert_eq!((found.gap, found.totals.len()), (0, 0), "{found:#?}");
    app.deliver_due().await;
}

#[tokio::test]
async fn refunds_that_cannot_be_read_are_counted_as_not_compared() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    sold(&app, &stripe, &["cs_1"]).await;
    let unreadable = with(refund(&app, "re_1", "cs_1"), json!({"amount": "five"}));
    stripe.has(REFUNDS, [unreadable, refund(&app, "re_2", "cs_1")]);
    let found = reconcile(&app, &all()).await;
    assert_eq!(found.gap, 1, "{found:#?}");
    assert!(
        found.left_out().contains("1 refund (no amount could be read)"),
        "{}",
        found.left_out()
    );
    let asked = stripe.calls();
    assert!(asked.iter().any(|call| call.contains("data.charge")), "{asked:?}");
    app.deliver_due().await;
}

#[tokio::test]
async fn an_invoice_and_its_payment_intent_that_are_counted_twice_are_found_and_connected() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    app.database
        .change("update sources set record_bare_payment_intents = 1 where key = 'main'")
        .await;
    let app = app.restart(&stripe.settings()).await;
    let payment = json!({"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": "paid", "created": seconds(&app, 60),
                         "payment": {"type": "payment_intent", "payment_intent": "pi_1"}});
    let mut invoice = json!({"id": "in_1", "object": "invoice", "status": "paid", "created": seconds(&app, 60), "amount_paid": 2_500,
                             "currency": "usd", "billing_reason": "subscription_cycle", "subscription": "sub_1"});
    let intent = intent(&app, "pi_1");
    app.stripe_processed(&event("invoice.paid", &invoice)).await;
    app.stripe_processed(&event("payment_intent.succeeded", &intent)).await;
    invoice["payments"] = json!({"object": "list", "data": [payment]});
    stripe.has("/v1/invoices", [invoice]);
    stripe.has(INTENTS, [intent]);
    let found = reconcile(&app, &all()).await;
    assert_eq!(differences(&found), [("payment pi_1".to_owned(), None, Some("25.00 USD"))]);
    assert_eq!(totals(&found, Kind::Payment), ["Stripe: 1 paid, 25.00 USD; here: 2, 50.00; gap 1"]);
    assert!(found.differences[0].fix.contains("counted twice"), "{found:#?}");
    let repaired = repair(&app).await;
    assert_eq!((repaired.repaired, repaired.gap), (1, 0), "{repaired:#?}");
    assert_eq!(app.conversion().await.transaction_id, "in_1");
    app.deliver_due().await;
}
