//! Settings that change while conversions arrive: the very next conversion follows them, on every copy of the program.

use axum::http::StatusCode;
use clickstamp::app::App;
use futures_util::future::join_all;
use serde_json::json;
use tower::ServiceExt as _;

use crate::harness::{FakeDestination, SECRET, Session, TestApp, request, sign};

const PAGE: &str = "https://www.shop.localhost/?utm_source=x";
const LIST: &str = "/settings/destinations";
const HERE: &str = "/settings/destinations/my-hook";

/// Every conversion has a delivery row of every destination that is not deleted.
const WITHOUT_A_ROW: &str = "select count(*) from conversions c join destinations t on t.deleted_at_ms is null
      where not exists (select 1 from deliveries d where d.conversion_id = c.id and d.destination_id = t.id)";
/// What waits for a destination that is gone.
const ORPHANS: &str =
    "select count(*) from deliveries d join destinations t on t.id = d.destination_id
      where t.deleted_at_ms is not null and d.state in ('pending', 'held')";

async fn post_paid(app: &App, session: &str, seconds: i64) {
    let body = Session::paid(session).completed().to_string();
    let signature = sign(SECRET, seconds, body.as_bytes());
    let headers = [("stripe-signature", signature.as_str())];
    let request = request("POST", "/webhooks/stripe/main", &headers, body);
    let answer = app.router().oneshot(request).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

async fn report(app: &App, token: &str, transaction: &str) {
    let path = format!(
        "/webhooks/custom/{token}?email=a@example.com&value=10&transaction_id={transaction}"
    );
    let answer = app.router().oneshot(request("GET", &path, &[], "")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

async fn token(app: &TestApp) -> String {
    app.database.texts("select token from sources where key = 'custom'").await.remove(0)
}

/// States of the hook's deliveries, in the order in which they were written.
async fn states(app: &TestApp) -> Vec<String> {
    app.database
        .texts("select d.state || coalesce(' ' || d.reason, '') from deliveries d join destinations t on t.id = d.destination_id where t.key = 'my-hook' order by d.id")
        .await
}

/// State and reason of the hook's delivery for the conversion whose transaction ID begins so.
async fn state_of(app: &TestApp, transaction: &str) -> String {
    let all = app.database
        .texts("select c.transaction_id || ' ' || d.state || coalesce(' ' || d.reason, '') from deliveries d join conversions c on c.id = d.conversion_id join destinations t on t.id = d.destination_id where t.key = 'my-hook'")
        .await;
    let found = all.into_iter().find(|text| text.starts_with(transaction));
    found
        .and_then(|text| text.split_once(' ').map(|(_, state)| state.to_owned()))
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_copy_follows_a_change_with_its_very_next_conversion() {
    let mut app = TestApp::owned(&[]).await;
    app.leave_things_undone();
    let Some(two) = app.replica().await else { return };
    let (owner, hook, token) =
        (app.owner().await, FakeDestination::start().await, token(&app).await);
    let now = app.now().as_seconds();
    owner.save(LIST, &[("name", "My Hook"), ("url", &hook.url), ("preset", "zapier")]).await;
    for number in 0..15 {
        post_paid(&two, &format!("cs_live_a{number}"), now).await;
    }
    two.process_events().await.unwrap();
    assert_eq!(app.database.number("select count(*) from conversions").await, 15);
    assert_eq!(app.database.number(WITHOUT_A_ROW).await, 0, "Stripe's events");

    owner.save(&format!("{HERE}/disable"), &[]).await;
    report(&two, &token, "t1").await;
    assert_eq!(state_of(&app, "t1").await, "held", "the custom endpoint");

    owner.save(&format!("{HERE}/enable"), &[]).await;
    owner.save(HERE, &[("name", "My Hook"), ("sends_renewals", "1")]).await;
    let click_id = app.visit(PAGE).await;
    let event = json!({"s": "main", "i": click_id, "t": 1, "e": "Signup", "p": {}}).to_string();
    let posted = two.router().oneshot(request("POST", "/v", &[], event)).await.unwrap();
    assert_eq!(posted.status(), StatusCode::NO_CONTENT);
    two.process_events().await.unwrap();
    assert_eq!(state_of(&app, "page_").await, "skipped kind_off", "pages");
    post_paid(&two, "cs_live_b", now).await;
    two.process_events().await.unwrap();
    assert_eq!(state_of(&app, "cs_live_b").await, "skipped kind_off", "its conditions");

    let written = states(&app).await.len();
    owner.save(&format!("{HERE}/delete"), &[("sure", "1")]).await;
    report(&two, &token, "t2").await;
    assert_eq!(states(&app).await.len(), written, "a deleted one gets nothing new");
    assert_eq!(app.database.number(ORPHANS).await, 0);
    assert_eq!(app.database.number(WITHOUT_A_ROW).await, 0);
    two.close().await;
}

#[tokio::test]
async fn a_change_that_another_process_wrote_is_followed_by_every_way_into_the_ledger() {
    let mut app = TestApp::owned(&[]).await;
    app.leave_things_undone();
    let (owner, hook, token) =
        (app.owner().await, FakeDestination::start().await, token(&app).await);
    owner.save(LIST, &[("name", "My Hook"), ("url", &hook.url), ("preset", "zapier")]).await;
    let click_id = app.mint().await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    app.stripe_processed(&Session::paid("cs_live_2").completed()).await;
    app.database.change("delete from deliveries where destination_id in (select id from destinations where key = 'my-hook')").await;
    let rounds = ["Stripe's events", "the custom endpoint", "late visits", "by hand", "taken back"];
    for (number, way) in rounds.into_iter().enumerate() {
        // The app knows a destination that is enabled; code that used this would write `pending`.
        app.database.change("update destinations set enabled = 1 where key = 'my-hook'").await;
        app.app().state().settings.reload(&app.app().state().store).await.unwrap();
        app.database.change("update destinations set enabled = 0 where key = 'my-hook'").await;
        app.database.change("update settings_revision set revision = revision + 1").await;
        let id = app
            .database
            .texts("select id from conversions where transaction_id = 'cs_live_2'")
            .await
            .remove(0);
        match number {
            0 => app.stripe_processed(&Session::paid("cs_live_3").completed()).await,
            1 => report(app.app(), &token, "t1").await,
            2 => {
                app.visit_as(&click_id, PAGE, None).await;
                app.rejoin().await;
            }
            3 => drop(
                owner.save(&format!("/conversions/{id}/match"), &[("click_id", &click_id)]).await,
            ),
            _ => drop(owner.save(&format!("/conversions/{id}/unmatch"), &[]).await),
        }
        let states = states(&app).await;
        assert!(
            !states.is_empty() && states.iter().all(|state| state == "held"),
            "{way}: {states:?}"
        );
    }
}

/// Posts payments while destinations come and go; then nothing is left that nobody will ever send, and nothing is missing.
#[tokio::test(flavor = "multi_thread")]
async fn destinations_come_and_go_while_payments_arrive() {
    let mut app = TestApp::owned(&[]).await;
    app.leave_things_undone();
    let two = app.replica().await;
    let (owner, token, now) = (app.owner().await, token(&app).await, app.now().as_seconds());
    let copies: Vec<&App> = [app.app()].into_iter().chain(&two).collect();
    let paid = async {
        for round in 0..12 {
            let posts = copies.iter().enumerate().flat_map(|(copy, app)| {
                let token = &token;
                (0..3).map(move |number| async move {
                    let name = format!("{round}_{copy}_{number}");
                    post_paid(app, &format!("cs_live_{name}"), now).await;
                    report(app, token, &name).await;
                })
            });
            join_all(posts).await;
            for ended in join_all(copies.iter().map(|app| app.process_events())).await {
                ended.unwrap();
            }
        }
    };
    let changed = async {
        for number in 0..8 {
            let name = format!("Hook {number}");
            let path = format!("{LIST}/hook-{number}");
            let fields =
                [("name", name.as_str()), ("url", "http://127.0.0.1:9/x"), ("preset", "zapier")];
            owner.save(LIST, &fields).await;
            owner.save(&format!("{path}/disable"), &[]).await;
            owner.save(&format!("{path}/enable"), &[]).await;
            owner.save(&format!("{path}/delete"), &[("sure", "1")]).await;
        }
    };
    tokio::join!(paid, changed);
    assert_eq!(app.database.number(ORPHANS).await, 0);
    assert_eq!(app.database.number(WITHOUT_A_ROW).await, 0);
    let expected = i64::try_from(copies.len() * 12 * 3 * 2).unwrap();
    assert_eq!(app.database.number("select count(*) from conversions").await, expected);
    if let Some(two) = two {
        two.close().await;
    }
}

#[tokio::test]
async fn what_an_earlier_version_left_for_deleted_destinations_is_given_up_at_start() {
    let mut app = TestApp::owned(&[]).await;
    let (owner, hook) = (app.owner().await, FakeDestination::start().await);
    owner.save(LIST, &[("name", "My Hook"), ("url", &hook.url), ("preset", "zapier")]).await;
    app.stripe_processed(&Session::paid("cs_live_1").completed()).await;
    owner.save(&format!("{HERE}/delete"), &[("sure", "1")]).await;
    app.database.change("update deliveries set state = 'pending', reason = null, settled_at_ms = null where reason = 'destination_deleted'").await;
    assert_eq!(app.database.number(ORPHANS).await, 1);
    app.leave_things_undone();
    let app = app.restart(&[]).await;
    assert_eq!(states(&app).await, ["given_up destination_deleted"]);
    app.deliver_due().await;
}

#[tokio::test]
async fn what_was_given_up_with_its_destination_cannot_be_sent_again() {
    let app = TestApp::owned(&[]).await;
    let (owner, hook) = (app.owner().await, FakeDestination::start().await);
    owner.save(LIST, &[("name", "My Hook"), ("url", &hook.url), ("preset", "zapier")]).await;
    app.stripe_processed(&Session::paid("cs_live_1").completed()).await;
    owner.save(&format!("{HERE}/delete"), &[("sure", "1")]).await;
    let id = app
        .database
        .texts("select id from deliveries where reason = 'destination_deleted'")
        .await
        .remove(0);
    for verb in ["retry", "rebuild"] {
        let reply = owner.post(&format!("/deliveries/{id}/{verb}"), &[]).await;
        assert_eq!(reply.status, StatusCode::CONFLICT, "{verb}: {}", reply.text());
    }
    assert_eq!(states(&app).await, ["given_up destination_deleted"]);
    app.deliver_due().await;
}
