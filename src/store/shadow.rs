//! Scratch tables: a store that reads everything and writes nothing real.
//! Takes the names of tables; returns a `Store` in which they are empty scratch tables, which
//! vanish with it. All other tables are the real ones, and the real `visits` behind scratch
//! `visits` can be read as `real_visits`.
//! Guarantees that the database itself refuses every write to a real table, on both engines.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sqlx::any::{AnyPoolOptions, AnyRow};
use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, Column as _, Executor as _, Row as _, TypeInfo as _,
};
use tokio::sync::Mutex;

use super::sqlite_file::{self, Access};
use super::{Engine, Store, Tx, postgres};

/// Scratch tables refer to real ones, which SQLite can't check. Rows of events are large; with its
/// default cache of 2 MB their pages would be read again and again.
const SQLITE_SESSION: &[&str] = &[
    "pragma busy_timeout = 10000",
    "pragma foreign_keys = off",
    "pragma temp_store = file",
    "pragma temp.cache_size = -16384",
];
/// A replay reads and writes whole tables.
const POSTGRES_SESSION: &[&str] = &[postgres::SESSION, "set statement_timeout = 0"];
/// How long a statement waits for the only connection; a longer wait means that the same task holds
/// it already.
const ONLY_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// A store with scratch tables. It has one connection, because scratch tables belong to a
/// connection.
pub(crate) struct Shadow(Store);

impl Deref for Shadow {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.0
    }
}

/// A column's value on its way from a scratch table to the real one.
enum Value {
    Number(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Store {
    /// Opens a store in which `tables` are empty scratch tables, plus the tables that `further`
    /// creates.
    pub(crate) async fn shadow(
        &self,
        tables: &[&'static str],
        further: &[&'static str],
    ) -> Result<Shadow> {
        let pool = self.shadow_pool().await?;
        let mut connection = pool.acquire().await?;
        let real = match self.engine {
            Engine::Sqlite => "main".to_owned(),
            Engine::Postgres => {
                let row = sqlx::query("select cast(current_schema() as text)")
                    .fetch_one(&mut *connection);
                row.await?.try_get(0)?
            }
        };
        for table in tables {
            let view = format!("create temp view real_{table} as select * from {real}.{table}");
            for statement in self.statements_for(table).await?.into_iter().chain([view]) {
                connection
                    .execute(AssertSqlSafe(statement))
                    .await
                    .with_context(|| format!("could not create a scratch table for {table}"))?;
            }
        }
        for statement in further {
            connection.execute(*statement).await.context("could not create a scratch table")?;
        }
        if self.engine == Engine::Postgres {
            // Scratch tables stay writable.
            connection.execute("set session characteristics as transaction read only").await?;
        }
        drop(connection);
        Ok(Shadow(Self {
            writes: pool.clone(),
            pool,
            begin: "begin",
            gate: Arc::new(Mutex::new(())),
            _lock: None,
            ..self.clone()
        }))
    }

    /// A pool of one connection, which keeps its scratch tables.
    async fn shadow_pool(&self) -> Result<AnyPool> {
        let path = self.url.strip_prefix("sqlite://").unwrap_or(&self.url);
        let (url, session) = match self.engine {
            Engine::Sqlite => (sqlite_file::url(Path::new(path), Access::Read)?, SQLITE_SESSION),
            Engine::Postgres => (self.url.to_string(), POSTGRES_SESSION),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ONLY_CONNECTION_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for statement in session {
                        connection.execute(*statement).await?;
                    }
                    Ok(())
                })
            });
        pool.connect(&url).await.context("could not open a second connection to the database")
    }

    /// Statements that create an empty scratch table with its indexes.
    async fn statements_for(&self, table: &'static str) -> Result<Vec<String>> {
        if self.engine == Engine::Postgres {
            return Ok(vec![format!("create temp table {table} (like {table} including all)")]);
        }
        let rows = sqlx::query(
            "select type, sql from sqlite_master where tbl_name = $1 and sql is not null order by type desc",
        )
        .bind(table)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let (kind, sql): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                if kind == "index" {
                    return Ok(sql.replacen("INDEX ", "INDEX temp.", 1));
                }
                let columns = sql.find('(').context("a table has columns")?;
                Ok(format!("create temp table {table} {}", &sql[columns..]))
            })
            .collect()
    }
}

impl Shadow {
    /// Runs statements that copy from real tables, all as of one moment, whatever is written
    /// meanwhile.
    pub(crate) async fn take_picture(&self, statements: &[&'static str]) -> Result<()> {
        let mut tx = self.begin().await?;
        if self.engine == Engine::Postgres {
            // A SQLite transaction always sees one moment.
            tx.execute("set transaction isolation level repeatable read").await?;
        }
        for statement in statements {
            tx.execute(*statement).await.context("could not copy the tables")?;
        }
        tx.commit().await
    }

    /// Writes the rows whose `key` is `from` into the real table with the key `to`. Updates an
    /// existing row if `key` is its primary key.
    pub(crate) async fn copy_out(
        &self,
        tx: &mut Tx,
        table: &'static str,
        key: &'static str,
        from: &str,
        to: &str,
    ) -> Result<()> {
        let rows = sqlx::query(AssertSqlSafe(format!("select * from {table} where {key} = $1")))
            .bind(from)
            .fetch_all(&self.pool)
            .await
            .with_context(|| format!("could not read the rebuilt {table}"))?;
        for row in &rows {
            insert(tx, table, key, row, to)
                .await
                .with_context(|| format!("could not write the rebuilt {table}"))?;
        }
        Ok(())
    }

    /// Closes the store and drops its scratch tables.
    pub(crate) async fn end(self) {
        self.0.pool.close().await;
    }
}

async fn insert(
    tx: &mut AnyConnection,
    table: &str,
    key: &str,
    row: &AnyRow,
    to: &str,
) -> Result<()> {
    let names: Vec<&str> = row.columns().iter().map(|column| column.name()).collect();
    let places: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
    let (names_text, places) = (names.join(", "), places.join(", "));
    let mut text = format!("insert into {table} ({names_text}) values ({places})");
    if key == "id" {
        // The time of a row's first write does not change.
        let corrected = names.iter().filter(|name| **name != key && **name != "recorded_at_ms");
        let corrected: Vec<String> =
            corrected.map(|name| format!("{name} = excluded.{name}")).collect();
        text.push_str(&format!(" on conflict (id) do update set {}", corrected.join(", ")));
    }
    let mut query = sqlx::query(AssertSqlSafe(text));
    for (at, name) in names.iter().enumerate() {
        query = match value(row, at)? {
            _ if *name == key => query.bind(to.to_owned()),
            Value::Number(number) => query.bind(number),
            Value::Text(text) => query.bind(text),
            Value::Bytes(bytes) => query.bind(bytes),
        };
    }
    query.execute(tx).await?;
    Ok(())
}

fn value(row: &AnyRow, at: usize) -> Result<Value> {
    Ok(match row.column(at).type_info().name() {
        "TEXT" => Value::Text(row.try_get(at)?),
        "BLOB" => Value::Bytes(row.try_get(at)?),
        _ => match row.try_get::<Option<i64>, _>(at) {
            Ok(number) => Value::Number(number),
            // SQLite reports the type of a value, not always that of its column.
            Err(_) => Value::Text(row.try_get(at)?),
        },
    })
}
