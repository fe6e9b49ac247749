//! Requests to Stripe's API: for missed events, and for the objects of thin events.

use std::time::Duration;

use axum::http::StatusCode;
use clickstamp::stripe::backfill::{Backfilled, Wanted};
use clickstamp::stripe::{ApiError, replay};
use serde_json::{Value, json};

use crate::harness::{FakeStripe, KEY, Session, TestApp, Trouble};

const DAY: i64 = 86_400;

fn days(days: u32) -> Wanted {
    Wanted { days, source: "main".to_owned(), account: String::new(), undelivered: false }
}

async fn backfill(app: &TestApp, wanted: &Wanted) -> Backfilled {
    app.app().backfill(wanted).await.expect("Stripe answers")
}

async fn refusal(app: &TestApp, wanted: &Wanted) -> ApiError {
    let error = app.app().backfill(wanted).await.expect_err("Stripe does not answer");
    error.downcast_ref::<ApiError>().unwrap_or_else(|| panic!("{error:#}")).clone()
}

/// Paid sessions, one an hour, the last one an hour ago; and their events.
fn events(app: &TestApp, count: i64) -> Vec<Value> {
    let now = app.now().as_seconds();
    (1..=count)
        .map(|n| Session::paid(&format!("cs_live_{n}")).at(now - n * 3600).completed())
        .collect()
}

#[tokio::test]
async fn missed_events_are_fetched_page_by_page_and_repeats_change_nothing() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    app.advance(Duration::from_secs(86_400));
    let click_id = app.visit("https://shop.example/?gclid=abc").await;
    let missed = events(&app, 7);
    let mut first = missed[0].clone();
    first["data"]["object"]["client_reference_id"] = click_id.as_str().into();
    app.stripe_processed(&missed[3]).await;
    stripe.has("/v1/events", missed[1..].iter().cloned().chain([first]));
    stripe.has(
        "/v1/events",
        [json!({"id": "evt_other", "type": "price.created", "created": app.now().as_seconds()})],
    );
    stripe.pages_of(3);
    let done = backfill(&app, &days(30)).await;
    assert_eq!((done.events, done.stored, done.resumed), (7, 6, false));
    assert_eq!(stripe.calls().len(), 3, "three pages of three");
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 7);
    assert_eq!(
        app.conversions().await.iter().filter(|found| found.matched_by.is_some()).count(),
        1
    );
    for _ in 0..2 {
        let again = backfill(&app, &days(30)).await;
        assert_eq!((again.events, again.stored), (7, 0));
    }
    assert_eq!((app.conversions().await.len(), app.anytrack.received().len()), (7, 7));
    let origins = app.database.texts("select origin from stripe_events order by origin").await;
    assert_eq!(origins.iter().filter(|origin| *origin == "backfill").count(), 6);
    // The webhook that comes after all is a repeat.
    assert_eq!(app.stripe(&missed[1]).await.status, StatusCode::OK);
    assert_eq!(app.process_events().await, 0);
}

#[tokio::test]
async fn conversions_of_an_outage_are_sent_and_older_ones_only_on_request() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::owned(&stripe.settings()).await;
    app.advance(Duration::from_secs(20 * 86_400));
    let now = app.now().as_seconds();
    let click_id = app.visit("https://shop.example/?gclid=abc").await;
    let sale = |id: &str, days: i64| {
        Session::paid(id).reference(&click_id).at(now - days * DAY).completed()
    };
    let missed = [("night", 1), ("week", 6), ("late", 8), ("before", 25)];
    stripe.has("/v1/events", missed.map(|(id, days)| sale(&format!("cs_live_{id}"), days)));
    assert_eq!(backfill(&app, &days(30)).await.stored, 4);
    app.deliver_due().await;
    let reasons = "select c.transaction_id || ' ' || d.state || ' ' || coalesce(d.reason, '-')
                     from deliveries d join conversions c on c.id = d.conversion_id order by 1";
    let expected = [
        "cs_live_before skipped before_destination",
        "cs_live_late skipped too_old",
        "cs_live_night delivered -",
        "cs_live_week delivered -",
    ];
    assert_eq!(app.database.texts(reasons).await, expected);
    // A webhook counts from when it came, whatever Stripe's clock says; a repeat of an old one is
    // no news.
    app.stripe_processed(&sale("cs_live_resent", 900)).await;
    app.stripe_processed(
        &Session::paid("cs_live_late")
            .at(now - 8 * DAY)
            .event("checkout.session.async_payment_succeeded"),
    )
    .await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 3);
    let wanted = replay::Wanted { apply: true, ..replay::Wanted::default() };
    let replayed = app.app().replay(&wanted).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 3, "a replay sends nothing");
    // One by one from its page, or all of a period from the destination's.
    let owner = app.owner().await;
    let late = "select d.id from deliveries d where d.reason = 'too_old'";
    let late = format!("/deliveries/{}", app.database.texts(late).await[0]);
    let page = owner.page(&late).await;
    assert!(page.contains("older than the maximum age") && page.contains("Send anyway"), "{page}");
    owner.save(&format!("{late}/rebuild"), &[]).await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 4);
    let here = "/settings/destinations/anytrack";
    let page = owner.page(here).await;
    assert!(page.contains("1 matched conversion ($102.60) of the last 30 days"), "{page}");
    owner.save(&format!("{here}/past"), &[("days", "30")]).await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 5);
}

#[tokio::test]
async fn a_delayed_payment_is_news_when_the_money_comes() {
    let app = TestApp::start().await;
    let unpaid = Session::paid("cs_live_1").with(json!({"payment_status": "unpaid"}));
    app.stripe_processed(&unpaid.completed()).await;
    app.advance(Duration::from_secs(14 * 86_400));
    app.stripe_processed(
        &Session::paid("cs_live_1").event("checkout.session.async_payment_succeeded"),
    )
    .await;
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 1);
}

#[tokio::test]
async fn only_what_stripe_still_has_is_asked_for_as_events_and_older_sales_as_sessions() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let now = app.now().as_seconds();
    let session = |id: &str, age_days: i64, status: &str| {
        let mut object = Session::paid(id).completed()["data"]["object"].clone();
        object["created"] = (now - age_days * DAY).into();
        object["status"] = status.into();
        object
    };
    stripe.has("/v1/events", [Session::paid("cs_live_new").at(now - 2 * DAY).completed()]);
    stripe.has(
        "/v1/checkout/sessions",
        [
            session("cs_live_new", 2, "complete"),
            session("cs_live_old", 40, "complete"),
            session("cs_live_left", 41, "expired"),
            session("cs_live_ancient", 70, "complete"),
        ],
    );
    let done = backfill(&app, &days(60)).await;
    assert_eq!((done.events, done.sessions, done.stored), (1, 1, 2));
    app.deliver_due().await;
    let ids: Vec<String> =
        app.conversions().await.into_iter().map(|found| found.transaction_id).collect();
    assert_eq!(ids, ["cs_live_new", "cs_live_old"]);
    // Its real event, resent by hand, is the same sale.
    app.stripe_processed(&Session::paid("cs_live_old").at(now - 40 * DAY).completed()).await;
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 2);
    let calls = stripe.calls();
    assert!(
        calls[0].contains("types%5B%5D=checkout.session.completed")
            && calls[0].contains("limit=100"),
        "{calls:?}"
    );
}

#[tokio::test]
async fn failed_requests_are_retried_with_pauses() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.has("/v1/events", events(&app, 4));
    stripe.pages_of(2);
    stripe.troubles([
        Some(Trouble::SlowDown(20)),
        Some(Trouble::Status(500)),
        Some(Trouble::Truncated),
        None,
        Some(Trouble::Cut),
        Some(Trouble::Status(503)),
    ]);
    let before = app.now();
    let done = backfill(&app, &days(30)).await;
    assert_eq!((done.events, done.stored), (4, 4));
    assert_eq!(stripe.calls().len(), 7);
    assert!(app.now().since(before).as_secs() >= 20, "Retry-After is honoured");
    app.deliver_due().await;
}

#[tokio::test]
async fn an_interrupted_run_continues_where_it_stopped() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.has("/v1/events", events(&app, 6));
    stripe.pages_of(2);
    stripe.troubles([None].into_iter().chain([Some(Trouble::Status(500)); 8]));
    let error = refusal(&app, &days(30)).await;
    assert!(
        matches!(&error, ApiError::NoAnswer(text) if text.contains("500") && text.contains("8 times")),
        "{error}"
    );
    assert_eq!(app.conversions().await.len(), 2, "what was fetched counts");
    stripe.calls();
    stripe
        .has("/v1/events", [Session::paid("cs_live_late").at(app.now().as_seconds()).completed()]);
    let done = backfill(&app, &days(30)).await;
    assert!(done.resumed);
    assert_eq!(done.stored, 5);
    assert!(stripe.calls()[0].contains("starting_after=evt_checkout_session_completed_cs_live_2"));
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 7);
    assert!(!backfill(&app, &days(30)).await.resumed);
}

#[tokio::test]
async fn a_cursor_that_stripe_no_longer_lists_restarts_the_list() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let missed = events(&app, 4);
    stripe.has("/v1/events", missed.clone());
    stripe.pages_of(2);
    stripe.troubles([None].into_iter().chain([Some(Trouble::Status(500)); 8]));
    refusal(&app, &days(30)).await;
    stripe.has_no("/v1/events");
    stripe.has("/v1/events", missed[2..].to_vec());
    assert_eq!(backfill(&app, &days(30)).await.stored, 2);
    app.deliver_due().await;
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_explained_without_showing_it() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    stripe.denies("/v1/events");
    let denied = refusal(&app, &days(1)).await.to_string();
    assert!(denied.contains("add “Events: Read” (rak_event_read)"), "{denied}");
    stripe.key_expires();
    let expired = refusal(&app, &days(1)).await.to_string();
    assert!(
        expired.contains("has expired") && expired.contains("CLICKSTAMP_STRIPE_API_KEY"),
        "{expired}"
    );
    assert!(!denied.contains(KEY) && !expired.contains(KEY));
    assert_eq!(stripe.calls().len(), 2, "asking again would not help");
    let app = TestApp::start().await;
    assert_eq!(refusal(&app, &days(1)).await, ApiError::NoKey);
    let nowhere = Wanted { source: "other".to_owned(), ..days(1) };
    let error = app.app().backfill(&nowhere).await.expect_err("no such source");
    assert_eq!(error.to_string(), "there is no Stripe source “other”; there is: main");
}

#[tokio::test]
async fn a_connected_accounts_events_are_those_its_webhooks_bring() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let event = Session::paid("cs_live_1").at(app.now().as_seconds() - 60).completed();
    stripe.has("/v1/events", [event.clone()]);
    let wanted = Wanted { account: "acct_shop".to_owned(), ..days(1) };
    assert_eq!(backfill(&app, &wanted).await.stored, 1);
    let mut webhook = event;
    webhook["account"] = "acct_shop".into();
    app.stripe_processed(&webhook).await;
    app.deliver_due().await;
    assert_eq!(app.database.texts("select account from conversions").await, ["acct_shop"]);
    assert_eq!(app.database.number("select repeats from stripe_events").await, 1);
}

fn thin(id: &str, session: &str) -> Value {
    json!({"id": id, "object": "v2.core.event", "type": "v1.checkout.session.completed", "livemode": true,
           "created": "2026-09-21T14:13:20.000Z",
           "related_object": {"id": session, "type": "checkout.session", "url": format!("/v1/checkout/sessions/{session}")}})
}

#[tokio::test]
async fn a_thin_event_is_fetched_and_read_like_any_other() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    let click_id = app.visit("https://shop.example/").await;
    let session = Session::paid("cs_live_1").reference(&click_id);
    stripe.object("/v1/checkout/sessions/cs_live_1", session.completed()["data"]["object"].clone());
    stripe.troubles([Some(Trouble::Status(500)), Some(Trouble::Truncated)]);
    app.stripe_processed(&thin("evt_thin", "cs_live_1")).await;
    assert_eq!(app.fetch_thin_events().await, 1);
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.conversion().await.matched_by.as_deref(), Some("click_id"));
    let notes =
        app.database.texts("select coalesce(note, '') from stripe_events order by event_id").await;
    assert_eq!(notes[0], "fetched as fetched_evt_thin");
    assert!(notes[1].starts_with("Recorded a new purchase of 102.60 USD."), "{}", notes[1]);
    // Once more after the work is done, and the ordinary event of the same fact.
    app.stripe_processed(&thin("evt_thin", "cs_live_1")).await;
    assert_eq!(app.fetch_thin_events().await, 0);
    app.stripe_processed(&session.completed()).await;
    app.deliver_due().await;
    assert_eq!((app.conversions().await.len(), app.anytrack.received().len()), (1, 1));
}

#[tokio::test]
async fn without_a_key_a_thin_event_fails_visibly_and_a_key_retries_it() {
    let stripe = FakeStripe::start().await;
    stripe.object(
        "/v1/checkout/sessions/cs_live_1",
        Session::paid("cs_live_1").completed()["data"]["object"].clone(),
    );
    let app = TestApp::start().await;
    app.stripe_processed(&thin("evt_thin", "cs_live_1")).await;
    assert_eq!(app.fetch_thin_events().await, 1);
    let errors = app.database.texts("select error from stripe_events where state = 'failed'").await;
    assert!(errors[0].starts_with("thin_event_needs_api_key: "), "{errors:?}");
    assert_eq!(app.fetch_thin_events().await, 0);
    let app = app.restart(&stripe.settings()).await;
    assert_eq!(app.fetch_thin_events().await, 1);
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.conversion().await.transaction_id, "cs_live_1");
}

#[tokio::test]
async fn a_thin_event_that_cannot_be_fetched_says_why() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start_with(&stripe.settings()).await;
    app.stripe_processed(&thin("evt_gone", "cs_gone")).await;
    let mut elsewhere = thin("evt_elsewhere", "cs_1");
    elsewhere["related_object"]["url"] = "https://evil.example/v1/checkout/sessions/cs_1".into();
    app.stripe_processed(&elsewhere).await;
    app.fetch_thin_events().await;
    let mut errors =
        app.database.texts("select error from stripe_events where state = 'failed'").await;
    errors.sort();
    assert_eq!(
        errors,
        [
            "related_object.url is not a path of Stripe's API",
            "thin_event_not_fetched: Stripe has no object at /v1/checkout/sessions/cs_gone; it may have been deleted"
        ]
    );
    assert!(stripe.calls().iter().all(|call| call.starts_with("/v1/checkout/sessions/cs_gone")));
    // An outage is waited out with growing pauses, then shown.
    stripe.object(
        "/v1/checkout/sessions/cs_late",
        Session::paid("cs_late").completed()["data"]["object"].clone(),
    );
    stripe.troubles([Some(Trouble::Status(503)); 8]);
    app.stripe_processed(&thin("evt_late", "cs_late")).await;
    assert_eq!(app.fetch_thin_events().await, 1, "given back");
    assert_eq!(app.fetch_thin_events().await, 0, "not yet");
    app.advance(std::time::Duration::from_secs(600));
    assert_eq!(app.fetch_thin_events().await, 1);
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.conversion().await.transaction_id, "cs_late");
}

#[tokio::test]
async fn a_thin_event_beside_its_ordinary_one_adds_nothing_in_either_order() {
    for thin_first in [true, false] {
        let app = TestApp::start().await;
        let ordinary = Session::paid("cs_live_1").completed();
        let mut thin = thin("evt_thin", "cs_live_1");
        thin["snapshot_event"] = ordinary["id"].clone();
        let order = if thin_first { [&thin, &ordinary] } else { [&ordinary, &thin] };
        for event in order {
            app.stripe_processed(event).await;
            app.fetch_thin_events().await;
        }
        let reasons = app
            .database
            .texts("select reason from stripe_events where event_id = 'evt_thin'")
            .await;
        assert_eq!(reasons, ["covered_by_snapshot"], "thin first: {thin_first}");
        app.deliver_due().await;
        assert_eq!(app.conversions().await.len(), 1);
    }
}

#[tokio::test]
async fn a_ping_and_thin_events_of_other_kinds_are_ignored() {
    let app = TestApp::start().await;
    app.stripe_processed(&json!({"id": "evt_ping", "object": "v2.core.event", "type": "v2.core.event_destination.ping"})).await;
    app.stripe_processed(
        &json!({"id": "evt_x", "object": "v2.core.event", "type": "v1.price.created",
                                 "related_object": {"id": "price_1", "url": "/v1/prices/price_1"}}),
    )
    .await;
    let reasons = app.database.texts("select reason from stripe_events order by event_id").await;
    assert_eq!(reasons, ["ping", "unsupported_type"]);
}

/// A refund of a payment whose checkout never arrived.
fn refund_of(payment_intent: &str, at: i64) -> Value {
    json!({"id": format!("evt_{payment_intent}"), "type": "charge.refunded", "livemode": true, "created": at, "data": {"object": {
        "id": format!("ch_{payment_intent}"), "payment_intent": payment_intent, "amount": 10_260, "amount_refunded": 260,
        "refunded": false, "currency": "usd"}}})
}

#[tokio::test]
async fn the_checkout_of_a_payment_without_one_is_requested() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::owned(&stripe.settings()).await;
    app.advance(Duration::from_secs(86_400));
    let click_id = app.visit("https://shop.example/?gclid=abc").await;
    let now = app.now().as_seconds();
    let checkout = |id: &str, status: &str| {
        let values = json!({"payment_intent": "pi_1", "status": status, "created": now - 60});
        Session::paid(id).reference(&click_id).with(values).completed()["data"]["object"].clone()
    };
    app.stripe_processed(&refund_of("pi_1", now)).await;
    assert_eq!(app.conversion().await.matched_by, None);
    let owner = app.owner().await;
    let event = app.database.texts("select id from stripe_events").await;
    let page = owner.page(&format!("/events/{}", event[0])).await;
    assert!(page.contains("It came without its checkout"), "{page}");
    // First it may arrive on its own.
    assert_eq!((app.look_up_checkouts().await, stripe.calls().len()), (0, 0));
    stripe.has(
        "/v1/checkout/sessions",
        [checkout("cs_live_open", "open"), checkout("cs_live_1", "complete")],
    );
    app.advance(Duration::from_secs(121));
    assert_eq!(app.look_up_checkouts().await, 1);
    assert!(stripe.calls()[0].contains("payment_intent=pi_1"), "and nothing else is asked");
    app.process_events().await;
    app.deliver_due().await;
    let conversion = app.conversion().await;
    assert_eq!(conversion.matched_by.as_deref(), Some("click_id"));
    assert_eq!((conversion.transaction_id.as_str(), conversion.refunded_minor), ("cs_live_1", 260));
    assert_eq!(app.anytrack.received().len(), 1, "it is news: it was made a minute ago");
    let page = owner.page(&format!("/events/{}", event[0])).await;
    assert!(page.contains("Stripe was asked for its checkout: it is cs_live_1."), "{page}");
    app.advance(Duration::from_secs(10 * 86_400));
    app.look_up_checkouts().await;
    assert_eq!(stripe.calls(), Vec::<String>::new(), "requested only once");
    let replayed = app.app().replay(&replay::Wanted::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn a_checkout_that_stripe_does_not_know_is_asked_for_daily_for_a_week() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::owned(&stripe.settings()).await;
    app.stripe_processed(&refund_of("pi_1", app.now().as_seconds())).await;
    app.stripe_processed(&refund_of("pi_2", app.now().as_seconds())).await;
    // One arrives on its own.
    let own = Session::paid("cs_live_2").with(json!({"payment_intent": "pi_2"}));
    app.stripe_processed(&own.completed()).await;
    stripe.troubles([Some(Trouble::Status(500)); 8]);
    app.advance(Duration::from_secs(121));
    app.look_up_checkouts().await;
    assert_eq!(
        stripe.calls().into_iter().filter(|call| call.contains("/sessions")).count(),
        8,
        "only one is asked for, until Stripe is given up for today"
    );
    let said =
        "select said from stripe_lookups where subject = 'checkout_of_intent' order by object_id";
    let texts = app.database.texts(said).await;
    assert!(texts[0].contains("500, 8 times") && texts[0].ends_with("asked again tomorrow."));
    assert!(texts[1].starts_with("Its checkout arrived"), "{texts:?}");
    for day in 2..=8 {
        stripe.calls();
        app.advance(Duration::from_secs(86_400));
        app.look_up_checkouts().await;
        let asked = stripe.calls().into_iter().filter(|call| call.contains("/sessions"));
        assert_eq!(asked.count(), 1, "day {day}");
    }
    let texts = app.database.texts(said).await;
    assert!(texts[0].ends_with("there is none."), "{texts:?}");
    app.advance(Duration::from_secs(2 * 86_400));
    app.look_up_checkouts().await;
    app.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(app.look_up_checkouts().await, 0, "no more after a week");
    app.deliver_due().await;
}

#[tokio::test]
async fn without_a_key_nothing_is_requested() {
    let stripe = FakeStripe::start().await;
    let app = TestApp::start().await;
    app.stripe_processed(&refund_of("pi_1", app.now().as_seconds())).await;
    app.advance(Duration::from_secs(86_400));
    assert_eq!((app.look_up_checkouts().await, stripe.calls().len()), (0, 0));
}
