//! The whole path: page → visit → payment → match → AnyTrack → API. Short enough to serve as
//! documentation.

use serde_json::json;

use crate::harness::{Session, TestApp};

#[tokio::test]
async fn a_click_becomes_a_matched_conversion_that_anytrack_receives_once() {
    let app = TestApp::start().await;

    // A visitor clicks an ad. The tag on the page has a click ID and reports the visit.
    let click_id = app.visit("https://www.shop.localhost/offer?utm_source=google&utm_medium=cpc&utm_campaign=spring&gclid=AbC").await;

    // They pay; the payment link passed the click ID to Stripe, and Stripe sends a webhook.
    app.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;

    // AnyTrack receives it, once.
    app.deliver_due().await;
    assert_eq!(app.anytrack.received().len(), 1);

    // And the API explains it.
    let list = app.api("/api/v1/conversions").await;
    let id = list["data"][0]["id"].as_str().expect("one conversion").to_owned();
    let conversion = app.api(&format!("/api/v1/conversions/{id}")).await;
    assert_eq!(
        conversion["match"],
        json!({"state": "matched", "by": "click_id", "reason": null, "click_id": click_id})
    );
    assert_eq!(
        (&conversion["amount"], &conversion["currency"], &conversion["status"]),
        (&json!("102.60"), &json!("USD"), &json!("paid"))
    );
    assert_eq!(
        (&conversion["site"], &conversion["source"], &conversion["kind"]),
        (&json!("main"), &json!("main"), &json!("purchase"))
    );
    assert_eq!(conversion["occurred_at"], "2026-09-21T14:13:20Z");
    let touch = &conversion["touches"][0];
    assert_eq!(
        (&touch["source"], &touch["medium"], &touch["campaign"]),
        (&json!("google"), &json!("cpc"), &json!("spring"))
    );
    assert_eq!(touch["landing_path"], "/offer");
    let delivery = &conversion["deliveries"][0];
    assert_eq!(
        (&delivery["destination"], &delivery["state"]),
        (&json!("anytrack"), &json!("delivered"))
    );
    assert_eq!((&delivery["attempts"], &delivery["last_status"]), (&json!(1), &json!(200)));

    let overview = app.api("/api/v1/overview").await;
    assert_eq!((&overview["visits"], &overview["conversions"]), (&json!(1), &json!(1)));
    assert_eq!(overview["revenue"], json!([{"currency": "USD", "amount": "102.60"}]));
    assert_eq!(app.api(&format!("/api/v1/visits/{click_id}")).await["click_id"], click_id.as_str());
    assert_eq!(
        app.api("/api/v1/stripe-events?state=processed").await["data"].as_array().map(Vec::len),
        Some(1)
    );
}
