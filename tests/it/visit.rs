//! Visits: what `POST /v` takes, refuses, and makes durable.

use axum::http::StatusCode;
use serde_json::json;

use crate::harness::TestApp;

#[tokio::test]
async fn a_visit_is_a_row_before_the_answer() {
    let app = TestApp::start().await;
    let click_id = app
        .visit("https://www.shop.localhost/offer?utm_source=google&utm_medium=cpc&gclid=AbC")
        .await;
    let rows = app
        .database
        .texts(
            "select click_id from visits where channel = 'paid search' and landing_path = '/offer'",
        )
        .await;
    assert_eq!(rows, [click_id]);
    assert_eq!(
        app.database.number("select visits from visit_counts where source = 'google'").await,
        1
    );
}

#[tokio::test]
async fn a_repeat_records_nothing_new() {
    let app = TestApp::start().await;
    let body = json!({"s": "main", "i": app.mint().await, "t": 1_790_000_000_000_i64, "u": "https://www.shop.localhost/"}).to_string();
    for _ in 0..3 {
        assert_eq!(app.post_visit(body.clone()).await.status, StatusCode::NO_CONTENT);
    }
    assert_eq!(app.database.number("select count(*) from visits").await, 1);
    assert_eq!(
        app.database.number("select cast(sum(visits) as bigint) from visit_counts").await,
        1
    );
}
