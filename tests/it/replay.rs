//! A replay of the ledger: what it finds, what it corrects, and what it leaves alone.

use clickstamp::app::App;
use clickstamp::clock::Timestamp;
use clickstamp::stripe::replay::{Replayed, Wanted, What};
use serde_json::json;

use crate::harness::{Session, TestApp};

async fn replay(app: &App, apply: bool) -> Replayed {
    let wanted = Wanted { apply, ..Wanted::default() };
    app.replay(&wanted).await.expect("it can be rebuilt")
}

/// A visit and its sale, a sale without one, a sale that came twice, a checkout of a known
/// customer, an event of no interest, a broken one.
async fn story(app: &TestApp) {
    let click_id = app.visit("https://shop.example/?gclid=abc").await;
    let returning = Session::paid("cs_live_3").with(json!({"customer": "cus_1"}));
    let events = [
        Session::paid("cs_live_1")
            .reference(&click_id)
            .with(json!({"customer": "cus_1"}))
            .completed(),
        Session::paid("cs_live_2").completed(),
        Session::paid("cs_live_2").event("checkout.session.async_payment_succeeded"),
        returning.at(1_790_000_900).completed(),
        json!({"id": "evt_other", "type": "price.created"}),
        Session::paid("cs_live_4").with(json!({"amount_total": "ten"})).completed(),
    ];
    for event in &events {
        app.stripe_processed(event).await;
    }
    app.deliver_due().await;
}

/// Changes the database behind the app's back.
async fn meddle(app: &TestApp, statement: &'static str) {
    let pool = app.database.look().await;
    sqlx::query(statement)
        .execute(&pool)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    pool.close().await;
}

#[tokio::test]
async fn a_ledger_that_is_right_differs_in_nothing_however_often_it_is_rebuilt() {
    let app = TestApp::start().await;
    story(&app).await;
    let before = app.conversions().await;
    let sent = app.anytrack.received().len();
    for apply in [false, true, false] {
        let replayed = replay(app.app(), apply).await;
        assert_eq!((replayed.events, replayed.conversions), (6, 3));
        assert!(replayed.differences.is_empty(), "{replayed:#?}");
        assert!(replayed.events_changed.is_empty() && !replayed.applied, "{replayed:#?}");
    }
    app.deliver_due().await;
    assert_eq!((app.conversions().await, app.anytrack.received().len()), (before, sent));
}

#[tokio::test]
async fn what_was_changed_is_found_shown_and_corrected_and_nothing_is_sent_again() {
    let app = TestApp::start().await;
    story(&app).await;
    let (before, ids) = (
        app.conversions().await,
        app.database.texts("select id from conversions order by id").await,
    );
    let sent = app.anytrack.received().len();
    meddle(&app, "update conversions set amount_minor = 5, match_state = 'unmatched', match_by = null, match_reason = 'no_reference', click_id = null where transaction_id = 'cs_live_1'").await;
    meddle(&app, "delete from touches").await;
    let found = replay(app.app(), false).await;
    let first = &found.differences[0];
    assert_eq!((first.transaction_id.as_str(), first.what), ("cs_live_1", What::Changed));
    assert!(
        first.fields.contains(&("amount_minor".to_owned(), "5".to_owned(), "10260".to_owned())),
        "{first:#?}"
    );
    assert_eq!(found.differences.len(), 2, "the touches of the other one too: {found:#?}");
    assert_ne!(app.conversions().await, before, "nothing is written without --apply");
    assert!(replay(app.app(), true).await.applied);
    assert_eq!(app.conversions().await, before);
    assert_eq!(
        app.database.texts("select id from conversions order by id").await,
        ids,
        "the same rows"
    );
    assert!(replay(app.app(), true).await.differences.is_empty());
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), sent, "nothing is sent again");
    // The ledger goes on from there.
    app.stripe_processed(
        &Session::paid("cs_live_1").event("checkout.session.async_payment_succeeded"),
    )
    .await;
    app.deliver_due().await;
    assert_eq!((app.conversions().await.len(), app.anytrack.received().len()), (3, sent));
}

#[tokio::test]
async fn a_sale_that_was_lost_comes_back_and_one_that_no_event_makes_goes() {
    let app = TestApp::start().await;
    story(&app).await;
    let before = app.conversions().await;
    for statement in [
        "delete from attempts where delivery_id in (select d.id from deliveries d join conversions c on c.id = d.conversion_id where c.transaction_id = 'cs_live_2')",
        "delete from deliveries where conversion_id in (select id from conversions where transaction_id = 'cs_live_2')",
        "delete from touches where conversion_id in (select id from conversions where transaction_id = 'cs_live_2')",
        "delete from waits where conversion_id in (select id from conversions where transaction_id = 'cs_live_2')",
        "delete from stripe_objects where conversion_id in (select id from conversions where transaction_id = 'cs_live_2')",
        "delete from conversions where transaction_id = 'cs_live_2'",
        "delete from payments where facts like '%cs_live_2%'",
        "insert into conversions (id, account, site_id, source_id, livemode, kind, status, occurred_at_ms, paid_at_ms, amount_minor, currency, refunded_minor, transaction_id, match_state, match_by, click_id, recorded_at_ms, updated_at_ms) select 'cnv_invented', account, site_id, source_id, livemode, kind, status, occurred_at_ms, paid_at_ms, amount_minor, currency, refunded_minor, 'cs_invented', match_state, match_by, click_id, recorded_at_ms, updated_at_ms from conversions where transaction_id = 'cs_live_1'",
    ] {
        meddle(&app, statement).await;
    }
    let found = replay(app.app(), false).await;
    let told: Vec<_> =
        found.differences.iter().map(|found| (found.transaction_id.as_str(), found.what)).collect();
    assert_eq!(told, [("cs_invented", What::Unfounded), ("cs_live_2", What::Missing)]);
    replay(app.app(), true).await;
    assert_eq!(app.conversions().await, before);
    assert!(replay(app.app(), false).await.differences.is_empty());
    app.deliver_due().await;
}

#[tokio::test]
async fn an_event_that_an_older_version_ignored_is_read_again() {
    let app = TestApp::start().await;
    let click_id = app.visit("https://shop.example/").await;
    app.stripe_processed(
        &Session::paid("cs_live_1").reference(&click_id).event("type.of.tomorrow"),
    )
    .await;
    meddle(&app, "update stripe_events set type = 'checkout.session.completed'").await;
    meddle(&app, if app.database.url.starts_with("postgres") {
        "update stripe_events set body = convert_to(replace(convert_from(body, 'UTF8'), 'type.of.tomorrow', 'checkout.session.completed'), 'UTF8')"
    } else {
        "update stripe_events set body = cast(replace(cast(body as text), 'type.of.tomorrow', 'checkout.session.completed') as blob)"
    }).await;
    let found = replay(app.app(), true).await;
    let told = "checkout.session.completed: ignored (unsupported_type) → processed";
    assert_eq!(found.events_changed.get(told), Some(&1), "{found:#?}");
    app.deliver_due().await;
    assert_eq!(app.conversion().await.matched_by.as_deref(), Some("click_id"));
    assert_eq!(app.anytrack.received().len(), 1, "it is queued like any other");
    assert_eq!(app.database.texts("select state from stripe_events").await, ["processed"]);
    assert!(replay(app.app(), false).await.events_changed.is_empty());
}

#[tokio::test]
async fn only_the_days_that_were_asked_for_are_corrected() {
    let app = TestApp::start().await;
    story(&app).await;
    meddle(&app, "update conversions set amount_minor = 5 where transaction_id <> 'cs_live_1'")
        .await;
    let until = Some(Timestamp::from_seconds(1_790_000_500));
    let wanted = Wanted { from: None, until, apply: true };
    let found = app.app().replay(&wanted).await.expect("it can be rebuilt");
    assert_eq!(found.differences.len(), 1);
    let amounts: Vec<_> = app.conversions().await.iter().map(|found| found.amount_minor).collect();
    assert_eq!(amounts, [Some(10_260), Some(10_260), Some(5)]);
}

/// Run by hand: `cargo test --release --test it -- --ignored ten_thousand --nocapture`. In a debug
/// build it takes a few times longer.
#[tokio::test]
#[ignore = "a measurement, in a release build"]
async fn ten_thousand_events_are_replayed_in_twenty_seconds() {
    let mut app =
        TestApp::start_with(&[("CLICKSTAMP_ANYTRACK_URL", ""), ("CLICKSTAMP_VISIT_RATE", "0")])
            .await;
    let mut clicks = Vec::new();
    for _ in 0..500 {
        clicks.push(app.visit("https://shop.example/?gclid=abc").await);
    }
    for n in 0..10_000 {
        let session = Session::paid(&format!("cs_live_{n}")).reference(&clicks[n % 500]);
        let session = session.with(json!({"customer": format!("cus_{}", n / 3)}));
        app.stripe(&session.completed()).await;
    }
    app.process_events().await;
    let started = clickstamp::clock::Clock::stopwatch();
    let replayed = replay(app.app(), false).await;
    let took = started.elapsed();
    println!("{} events replayed in {took:?}", replayed.events);
    assert!(replayed.differences.is_empty() && replayed.events == 10_000);
    assert!(took.as_secs() < 20, "{took:?}");
    app.leave_things_undone();
}

/// The conversions of these transactions, each with its match.
async fn matches(app: &TestApp) -> Vec<(String, Option<String>)> {
    app.conversions().await.into_iter().map(|it| (it.transaction_id, it.matched_by)).collect()
}

#[tokio::test]
async fn a_visit_whose_payment_is_not_matched_again_yet_is_no_difference_of_it_or_its_customer() {
    let app = TestApp::start().await;
    let late = app.mint().await;
    let of_customer = |id| Session::paid(id).with(json!({"customer": "cus_1"}));
    app.stripe_processed(&of_customer("cs_live_1").reference(&late).completed()).await;
    app.stripe_processed(&of_customer("cs_live_2").at(1_790_000_900).completed()).await;
    app.stripe_processed(&Session::paid("cs_live_3").completed()).await;
    meddle(&app, "update conversions set amount_minor = 5 where transaction_id = 'cs_live_3'")
        .await;
    let before = matches(&app).await;
    app.visit_as(&late, "https://shop.example/", None).await;
    for (apply, expected) in [(false, vec!["cs_live_3"]), (true, vec!["cs_live_3"]), (true, vec![])]
    {
        let found = replay(app.app(), apply).await;
        let differing: Vec<&str> =
            found.differences.iter().map(|it| it.transaction_id.as_str()).collect();
        assert_eq!((differing, found.moved), (expected, 2), "{found:#?}");
        assert_eq!(matches(&app).await, before, "matching them is the server's work");
    }
    assert_eq!(app.rejoin().await, 1);
    let matched = |by: &str| Some(by.to_owned());
    let after: Vec<_> = matches(&app).await.into_iter().map(|(_, by)| by).collect();
    assert_eq!(after, [matched("click_id"), matched("stripe_object"), None]);
    let found = replay(app.app(), true).await;
    assert!(found.differences.is_empty() && found.moved == 0, "{found:#?}");
    app.deliver_due().await;
}

#[tokio::test]
async fn what_the_server_has_stored_and_not_processed_yet_is_no_difference() {
    let app = TestApp::start().await;
    story(&app).await;
    let browser = app.visit("https://shop.example/").await;
    let no_difference = async |what: &str, moved: usize| {
        let found = replay(app.app(), true).await;
        assert!(found.differences.is_empty() && !found.applied, "{what}: {found:#?}");
        assert!(found.events_changed.is_empty(), "{what}: {found:#?}");
        assert_eq!(found.moved, moved, "{what}: {found:#?}");
    };
    let thanks = "https://shop.example/thanks?session_id=cs_live_2";
    app.visit_as(&browser, thanks, Some(&browser)).await;
    no_difference("a visit of the thank-you page", 1).await;
    app.rejoin().await;
    no_difference("the same, matched", 0).await;
    app.stripe(&Session::paid("cs_live_2").event("checkout.session.async_payment_failed")).await;
    app.stripe(&Session::paid("cs_live_5").reference(&browser).completed()).await;
    app.stripe(&refund("cs_live_1")).await;
    let event =
        json!({"s": "main", "i": browser, "t": 1_790_000_000_000_i64, "u": thanks, "e": "Lead"});
    app.post_visit(event.to_string()).await;
    no_difference("events of Stripe and of a page", 0).await;
    app.process_events().await;
    no_difference("the same, processed", 0).await;
    assert_eq!(app.conversions().await.len(), 5);
    app.advance(std::time::Duration::from_secs(180));
    app.deliver_due().await;
}

/// What a server does while somebody replays, one thing after the other: a refund of an old sale, a
/// visit that comes late, a new sale; and later it matches the payment of the visit.
struct Busy {
    late: Vec<String>,
    at: std::cell::Cell<usize>,
    is_over: std::cell::Cell<bool>,
}

impl Busy {
    /// Goes on until the replay is over, and does each of the four at least once. In the end no
    /// visit waits for its match.
    async fn go_on(&self, app: &TestApp) {
        self.is_over.set(false);
        let begin = self.at.get();
        while !self.is_over.get() || self.at.get() < begin + 4 {
            let at = self.at.replace(self.at.get() + 1);
            match at % 4 {
                0 => app.stripe_processed(&refund(&format!("cs_old_{at}"))).await,
                1 => {
                    if let Some(click_id) = self.late.get(at / 4) {
                        app.visit_as(click_id, "https://shop.example/", None).await;
                    }
                }
                2 => {
                    app.stripe_processed(&Session::paid(&format!("cs_new_{at}")).completed()).await
                }
                _ => {
                    app.rejoin().await;
                }
            }
        }
        app.rejoin().await;
    }
}

fn refund(session: &str) -> serde_json::Value {
    json!({"id": format!("evt_refund_{session}"), "object": "event", "type": "charge.refunded", "created": 1_790_001_000, "livemode": true,
        "data": {"object": {"id": format!("ch_{session}"), "amount": 10_260, "amount_captured": 10_260, "amount_refunded": 260, "captured": true,
                            "currency": "usd", "payment_intent": format!("pi_{session}")}}})
}

#[tokio::test]
async fn it_succeeds_beside_a_server_that_is_paid_and_corrects_what_stood_still() {
    let app =
        TestApp::start_with(&[("CLICKSTAMP_ANYTRACK_URL", ""), ("CLICKSTAMP_VISIT_RATE", "0")])
            .await;
    let mut late = Vec::new();
    for at in 0..60 {
        let click_id = app.mint().await;
        let session = Session::paid(&format!("cs_old_{at}")).reference(&click_id);
        app.stripe_processed(
            &session.with(json!({"customer": format!("cus_{}", at / 4)})).completed(),
        )
        .await;
        if (20..50).contains(&at) {
            late.push(click_id);
        }
    }
    meddle(&app, "update conversions set amount_minor = 5 where transaction_id in ('cs_old_58', 'cs_old_59')").await;
    let busy = Busy { late, at: Default::default(), is_over: Default::default() };
    for (apply, expected) in [(false, 2), (true, 2), (true, 0)] {
        let rebuild = async {
            let found = replay(app.app(), apply).await;
            busy.is_over.set(true);
            found
        };
        let (found, ()) = tokio::join!(rebuild, busy.go_on(&app));
        assert_eq!(found.differences.len(), expected, "{found:#?}");
        assert!(found.events_changed.is_empty(), "{found:#?}");
    }
    let amounts = "select count(*) from conversions where amount_minor <> 10260";
    assert_eq!(app.database.number(amounts).await, 0);
    let refunded = "select count(*) from conversions where refunded_minor = 260";
    assert!(app.database.number(refunded).await >= 3, "nothing that came meanwhile is undone");
    let quiet = replay(app.app(), false).await;
    assert!(quiet.differences.is_empty() && quiet.moved == 0, "{quiet:#?}");
}
