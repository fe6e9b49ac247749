//! `/readyz`: 503 with the reason while this copy cannot do its work, and 200 again without a restart.

use std::time::Duration;

use axum::http::StatusCode;
use sqlx::AssertSqlSafe;

use crate::harness::{Session, TestApp};

impl TestApp {
    /// The status of `/readyz`, and its sentence. A second later than the last time: a good answer is given again for that long.
    async fn ready(&self) -> (u16, String) {
        self.advance(Duration::from_secs(1));
        let reply = self.get("/readyz").await;
        (reply.status.as_u16(), reply.text().to_owned())
    }

    async fn is_not_ready_because(&self, text: &str) {
        let (status, sentence) = self.ready().await;
        assert!(status == 503 && sentence.contains(text), "{status} {sentence}");
        assert_eq!(self.get("/healthz").await.status, StatusCode::OK, "the process is alive");
    }

    fn is_on_postgres(&self) -> bool {
        self.database.url.starts_with("postgres")
    }
}

#[tokio::test]
async fn it_writes_one_row() {
    let app = TestApp::start().await;
    for _ in 0..3 {
        assert_eq!(app.ready().await, (200, "ok\n".to_owned()));
    }
    app.get("/readyz").await; // Within the same second: nothing is written.
    assert_eq!(app.database.texts("select cast(probes as text) from readiness").await, ["3"]);
}

#[tokio::test]
async fn a_ledger_that_has_come_to_a_halt_is_not_ready_until_it_goes_on() {
    let app = TestApp::start().await;
    assert_eq!(app.stripe(&Session::paid("cs_live_1").completed()).await.status, StatusCode::OK);
    assert_eq!(app.ready().await.0, 200, "it was stored just now");
    app.advance(Duration::from_secs(200));
    app.is_not_ready_because("none was processed").await;
    app.process_events().await;
    assert_eq!(app.ready().await.0, 200);
    app.deliver_due().await;
}

#[tokio::test]
async fn a_data_file_that_was_taken_away_is_noticed() {
    let app = TestApp::start().await;
    if app.is_on_postgres() {
        return;
    }
    assert_eq!(app.ready().await.0, 200);
    let file = app.database.directory.join("clickstamp.db");
    let away = app.database.directory.join("away.db");
    std::fs::rename(&file, &away).expect("a file");
    app.is_not_ready_because("the data file was deleted or replaced").await;
    std::fs::copy(&away, &file).expect("a file");
    app.is_not_ready_because("the data file was deleted or replaced").await;
    std::fs::rename(&away, &file).expect("a file");
    assert_eq!(app.ready().await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_became_read_only_serves_again_without_a_restart() {
    let mut app = TestApp::start().await;
    app.leave_things_undone();
    if !app.is_on_postgres() {
        return;
    }
    assert_eq!(app.ready().await.0, 200);
    let name = app.database.url.rsplit('/').next().expect("a name").to_owned();
    let set = async |to: &str| {
        let pool = app.database.look().await;
        let text = format!("alter database {name} {to}");
        sqlx::query(AssertSqlSafe(text)).execute(&pool).await.expect("it is ours");
        // The app's sessions keep what they began with; these are new ones.
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
            .execute(&pool)
            .await
            .expect("they are ours");
        pool.close().await;
    };
    set("set default_transaction_read_only = on").await;
    app.is_not_ready_because("the database is read-only").await;
    let event = Session::paid("cs_live_1").completed();
    assert_eq!(app.stripe(&event).await.status, StatusCode::SERVICE_UNAVAILABLE);
    // From here on nobody ends the app's sessions.
    let pool = app.database.look().await;
    let texts = [
        "set default_transaction_read_only = off".to_owned(),
        format!("alter database {name} reset default_transaction_read_only"),
    ];
    for text in texts {
        sqlx::query(AssertSqlSafe(text)).execute(&pool).await.expect("it is ours");
    }
    pool.close().await;
    assert_eq!(app.ready().await, (200, "ok\n".to_owned()));
    assert_eq!(app.stripe(&event).await.status, StatusCode::OK);
    app.visit("https://www.shop.localhost/").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_database_is_noticed_and_so_is_the_return_of_the_right_one() {
    let app = TestApp::start().await;
    if !app.is_on_postgres() {
        return;
    }
    assert_eq!(app.ready().await.0, 200);
    app.database.change("alter schema public rename to away").await;
    app.database.change("create schema public").await;
    app.is_not_ready_because("the database has no tables of this program").await;
    app.database.change("drop schema public").await;
    app.database.change("alter schema away rename to public").await;
    assert_eq!(app.ready().await, (200, "ok\n".to_owned()));
    app.database
        .change("update settings set value = '00' || substr(value, 3) where name = 'click_id_key'")
        .await;
    app.is_not_ready_because("the database was replaced since the start").await;
}
