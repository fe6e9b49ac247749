//! Groups on PostgreSQL: one statement each, by `unnest`, on a connection of their own.
//! In: a group of rows. Out: an answer per row, after the commit.
//! Promise: a server that vanished holds nobody longer than the wait for it, and one bad row never fails its neighbours.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::{Batch, Cell, Inserted, Kind, POSTGRES_SETTINGS, Row, Tally, names};

/// How long the writer waits for a server that does not answer; longer than a lock may take, shorter than a request may.
const WAIT_FOR_SERVER: Duration = Duration::from_secs(15);

/// The writer's own connection, opened again when it broke.
pub(super) struct Connection {
    pool: PgPool,
    batch: &'static Batch,
    tally: &'static Tally,
    insert: String,
    count: String,
}

impl Connection {
    /// Connects to the server.
    pub(super) async fn open(
        url: &str,
        batch: &'static Batch,
        tally: &'static Tally,
    ) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(WAIT_FOR_SERVER)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for setting in POSTGRES_SETTINGS {
                        connection.execute(*setting).await?;
                    }
                    Ok(())
                })
            })
            .connect(url)
            .await
            .context("could not open the visit writer's connection")?;
        let (insert, count) = (postgres_insert(batch), postgres_count(tally));
        Ok(Self { pool, batch, tally, insert, count })
    }

    /// Writes a group.
    pub(super) async fn write(&self, rows: &[Row]) -> Vec<Result<Inserted>> {
        match self.write_in_time(rows).await {
            Ok(written) => written.into_iter().map(Ok).collect(),
            // The server is away. Trying each for itself would wait as long for each of them.
            Err(error) if error.as_database_error().is_none() => {
                let text = error.to_string();
                rows.iter().map(|_| Err(anyhow!("could not write a visit: {text}"))).collect()
            }
            Err(_) => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in rows {
                    let written = self.write_in_time(std::slice::from_ref(row)).await;
                    answers.push(written.context("could not write a visit").and_then(|written| {
                        written.first().copied().context("a written row has an answer")
                    }));
                }
                answers
            }
        }
    }

    /// Closes the connection.
    pub(super) async fn close(self) {
        self.pool.close().await;
    }

    /// A server that vanished without a word would hold the writer, and with it every visit, until TCP gives up after a quarter of an hour.
    async fn write_in_time(&self, rows: &[Row]) -> sqlx::Result<Vec<Inserted>> {
        let written = self.write_group(rows);
        tokio::time::timeout(WAIT_FOR_SERVER, written)
            .await
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn write_group(&self, rows: &[Row]) -> sqlx::Result<Vec<Inserted>> {
        let (batch, tally) = (self.batch, self.tally);
        let mut tx = self.pool.begin().await?;
        let mut query = sqlx::query(AssertSqlSafe(self.insert.as_str()));
        for (at, (_, kind)) in batch.columns.iter().enumerate() {
            query = match kind {
                Kind::Int => {
                    query.bind(rows.iter().map(|row| int(&row.cells[at])).collect::<Vec<_>>())
                }
                Kind::Text => {
                    query.bind(rows.iter().map(|row| text(&row.cells[at])).collect::<Vec<_>>())
                }
            };
        }
        // Each returned key was new; two equal rows in one group share a key, and only the first of them takes it.
        let mut fresh = HashMap::<Vec<Cell>, usize>::new();
        for returned in query.fetch_all(&mut *tx).await? {
            let key = key_columns(batch).enumerate().map(|(position, (_, kind))| match kind {
                Kind::Int => returned.try_get::<Option<i64>, _>(position).map(Cell::from),
                Kind::Text => returned.try_get::<Option<String>, _>(position).map(Cell::from),
            });
            *fresh.entry(key.collect::<sqlx::Result<_>>()?).or_default() += 1;
        }
        let mut counts = BTreeMap::<&[Cell], i64>::new();
        let mut answers = Vec::with_capacity(rows.len());
        for row in rows {
            let key: Vec<Cell> = key_columns(batch).map(|(at, _)| row.cells[at].clone()).collect();
            let left = fresh.get_mut(&key).filter(|left| **left > 0);
            answers.push(if let Some(left) = left {
                *left -= 1;
                if let Some(tally) = row.tally.as_deref() {
                    *counts.entry(tally).or_default() += 1;
                }
                Inserted::New
            } else {
                Inserted::Duplicate
            });
        }
        if !counts.is_empty() {
            // In the order of their keys, so that two replicas lock the same counters in the same order.
            let mut query = sqlx::query(AssertSqlSafe(self.count.as_str()));
            for (at, (_, kind)) in tally.columns.iter().enumerate() {
                query = match kind {
                    Kind::Int => {
                        query.bind(counts.keys().map(|key| int(&key[at])).collect::<Vec<_>>())
                    }
                    Kind::Text => {
                        query.bind(counts.keys().map(|key| text(&key[at])).collect::<Vec<_>>())
                    }
                };
            }
            query.bind(counts.values().copied().collect::<Vec<_>>()).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(answers)
    }
}

fn int(cell: &Cell) -> Option<i64> {
    if let Cell::Int(value) = cell { Some(*value) } else { None }
}

fn text(cell: &Cell) -> Option<&str> {
    if let Cell::Text(value) = cell { Some(value) } else { None }
}

/// The unique key's columns: position among all columns, and type.
fn key_columns(batch: &Batch) -> impl Iterator<Item = (usize, Kind)> {
    batch.key.iter().filter_map(|name| {
        let at = batch.columns.iter().position(|(column, _)| column == name)?;
        Some((at, batch.columns[at].1))
    })
}

fn postgres_insert(batch: &Batch) -> String {
    let (table, columns, key) = (batch.table, names(batch.columns), batch.key.join(", "));
    format!(
        "insert into {table} ({columns}) select * from unnest({}) on conflict do nothing returning {key}",
        arrays(batch.columns)
    )
}

fn postgres_count(tally: &Tally) -> String {
    let (table, key, count) = (tally.table, names(tally.columns), tally.count);
    format!(
        "insert into {table} ({key}, {count}) select * from unnest({}, ${}::bigint[]) \
         on conflict ({key}) do update set {count} = {table}.{count} + excluded.{count}",
        arrays(tally.columns),
        tally.columns.len() + 1
    )
}

fn arrays(columns: &[(&str, Kind)]) -> String {
    let casts = columns.iter().enumerate().map(|(at, (_, kind))| match kind {
        Kind::Int => format!("${}::bigint[]", at + 1),
        Kind::Text => format!("${}::text[]", at + 1),
    });
    casts.collect::<Vec<_>>().join(", ")
}
