//! One empty database per test: a SQLite file, or a database on the PostgreSQL server of this run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe, Connection as _, Executor as _, Row as _};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// An empty database and the directory that goes with it.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) directory: PathBuf,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one variable that chooses the engine of a test run"
)]
fn server() -> Option<String> {
    std::env::var("CLICKSTAMP_TEST_POSTGRES").ok().filter(|url| !url.is_empty())
}

impl Database {
    /// Creates it.
    pub(crate) async fn create() -> Self {
        let name =
            format!("clickstamp_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        // A test of an earlier process with the same number may have failed here.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).expect("the test's directory can be made");
        let url = match server() {
            None => format!("sqlite://{}", directory.join("clickstamp.db").display()),
            Some(server) => {
                let mut admin = sqlx::PgConnection::connect(&format!("{server}/postgres"))
                    .await
                    .expect("the server answers");
                admin
                    .execute(AssertSqlSafe(format!("create database {name}")))
                    .await
                    .expect("a database can be made");
                admin.close().await.expect("the server lets go");
                format!("{server}/{name}")
            }
        };
        Self { url, directory }
    }

    /// A connection of the test's own, to look at what the app wrote.
    pub(crate) async fn look(&self) -> AnyPool {
        sqlx::any::install_default_drivers();
        AnyPoolOptions::new()
            .max_connections(1)
            .connect(&self.url)
            .await
            .expect("the database can be looked at")
    }

    /// Changes rows behind the app's back.
    pub(crate) async fn change(&self, query: &'static str) {
        let pool = self.look().await;
        let done = sqlx::query(query).execute(&pool).await;
        done.unwrap_or_else(|error| panic!("{query}: {error}"));
        pool.close().await;
    }

    /// The single number that a query answers.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        let pool = self.look().await;
        let row = sqlx::query(query)
            .fetch_one(&pool)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        pool.close().await;
        row.try_get(0).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The texts of a query's first column; NULL reads as empty.
    pub(crate) async fn texts(&self, query: &'static str) -> Vec<String> {
        let pool = self.look().await;
        let rows = sqlx::query(query)
            .fetch_all(&pool)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"));
        pool.close().await;
        rows.iter()
            .map(|row| {
                row.try_get::<Option<String>, _>(0).expect("a text column").unwrap_or_default()
            })
            .collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Kept when the test failed, so that it can be looked at.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory); // A leftover directory harms nobody.
        }
    }
}
