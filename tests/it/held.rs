//! Events that do not fit their webhook are held until somebody accepts them; a webhook that moves to another site takes its payments along.

use axum::http::StatusCode;
use clickstamp::stripe::replay::Wanted;
use serde_json::json;

use crate::harness::{Owner, Session, TestApp};

async fn save(owner: &Owner<'_>, site: &str, mode: &str, account: &str) {
    let fields = [
        ("source_site", site),
        ("metadata_key", "click_id"),
        ("source_mode", mode),
        ("account", account),
    ];
    owner.save("/settings/sources/main", &fields).await;
}

async fn replay_agrees(app: &TestApp) {
    let replayed = app.app().replay(&Wanted::default()).await.expect("it can be rebuilt");
    assert!(replayed.differences.is_empty() && replayed.events_changed.is_empty(), "{replayed:#?}");
}

#[tokio::test]
async fn live_money_on_a_webhook_of_test_mode_is_held_until_it_is_accepted() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    app.stripe_processed(&Session::paid("cs_live_before").completed()).await;
    save(&owner, "main", "test", "").await;
    app.stripe_processed(&Session::paid("cs_live_1").completed()).await;
    app.stripe_processed(&Session::paid("cs_test_1").with(json!({"livemode": false})).completed())
        .await;
    app.deliver_due().await;
    let states = app
        .database
        .texts("select state || coalesce(reason, '') from stripe_events order by object_id")
        .await;
    assert_eq!(states, ["heldlive_on_test", "processed", "processed"]);
    assert_eq!(app.conversions().await.len(), 2, "test money, and what came before");
    replay_agrees(&app).await;
    for (path, text) in [
        ("/settings/sources/main", "1 event is on hold"),
        ("/leaks", "1 event is on hold"),
        ("/", "1 event on hold"),
        ("/events?state=held", "a live payment was sent to a test-mode webhook"),
    ] {
        assert!(owner.page(path).await.contains(text), "{path}");
    }
    let held = app.api("/api/v1/stripe-events?state=held").await;
    assert_eq!(held["data"][0]["reason"], "live_on_test");
    // What came after the page was made is not accepted with it.
    let early = (app.now().as_ms() - 1).to_string();
    owner.save("/settings/sources/main/accept", &[("until_ms", &early)]).await;
    assert_eq!(app.process_events().await, 0);
    let now = app.now().as_ms().to_string();
    owner.save("/settings/sources/main/accept", &[("until_ms", &now)]).await;
    assert_eq!(app.process_events().await, 1);
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 3);
    replay_agrees(&app).await;
    // The next one is held again, and counts when the webhook is for both modes.
    app.stripe_processed(&Session::paid("cs_live_2").completed()).await;
    assert_eq!(app.conversions().await.len(), 3);
    save(&owner, "main", "any", "").await;
    app.process_events().await;
    app.deliver_due().await;
    assert_eq!(app.conversions().await.len(), 4);
    replay_agrees(&app).await;
}

#[tokio::test]
async fn another_accounts_events_are_held_and_the_own_ones_are_not() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    save(&owner, "main", "any", "acct_own").await;
    for (at, account) in [None, Some("acct_own"), Some("acct_other")].into_iter().enumerate() {
        let mut event = Session::paid(&format!("cs_live_{at}")).completed();
        if let Some(account) = account {
            event["account"] = account.into();
        }
        assert_eq!(app.stripe(&event).await.status, StatusCode::OK);
    }
    app.process_events().await;
    app.deliver_due().await;
    let states = app
        .database
        .texts("select state || coalesce(reason, '') from stripe_events order by object_id")
        .await;
    assert_eq!(states, ["processed", "processed", "heldother_account"]);
    assert_eq!(app.conversions().await.len(), 2);
}

#[tokio::test]
async fn a_webhook_that_moves_to_another_site_takes_its_payments_along() {
    let app = TestApp::owned(&[]).await;
    let owner = app.owner().await;
    owner.save("/settings/sites", &[("key", "shop"), ("name", "Shop")]).await;
    let click_id = app.visit("https://shop.example/").await;
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    for at in 2..5 {
        app.stripe_processed(&Session::paid(&format!("cs_live_{at}")).completed()).await;
    }
    save(&owner, "shop", "any", "").await;
    while app.rejoin().await > 0 {}
    app.deliver_due().await;
    let sites = "select s.key from conversions c join sites s on s.id = c.site_id order by c.transaction_id";
    assert_eq!(
        app.database.texts(sites).await,
        ["main", "shop", "shop", "shop"],
        "a visit keeps its site"
    );
    replay_agrees(&app).await;
}
