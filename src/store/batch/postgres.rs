//! The group-commit writer on PostgreSQL: one statement per group, by `unnest`.
//! In: queued rows. Out: an answer per row, after the commit.
//! Promise: a server that vanished holds nobody longer than the wait for it, and one bad row never fails its neighbours.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, anyhow};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::mpsc;

use super::{Batch, Cell, GROUP_ROWS, Inserted, Job, Kind, Row, Tally, WAIT_FOR_SERVER, names};

pub(super) async fn write(
    pool: &PgPool,
    mut jobs: mpsc::Receiver<Job>,
    batch: &Batch,
    tally: &Tally,
) {
    let texts = PostgresTexts { insert: postgres_insert(batch), count: postgres_count(tally) };
    let mut group = Vec::with_capacity(GROUP_ROWS);
    while jobs.recv_many(&mut group, GROUP_ROWS).await > 0 {
        let rows: Vec<&Row> = group.iter().map(|job: &Job| &job.row).collect();
        let answers: Vec<Result<Inserted>> = match write_in_time(pool, &texts, batch, tally, &rows)
            .await
        {
            Ok(written) => written.into_iter().map(Ok).collect(),
            // The server is away. Trying each for itself would wait as long for each of them.
            Err(error) if error.as_database_error().is_none() => {
                let text = error.to_string();
                rows.iter().map(|_| Err(anyhow!("could not write a visit: {text}"))).collect()
            }
            Err(_) => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in &rows {
                    let written = write_in_time(pool, &texts, batch, tally, &[row]).await;
                    answers.push(written.context("could not write a visit").and_then(|written| {
                        written.first().copied().context("a written row has an answer")
                    }));
                }
                answers
            }
        };
        for (job, answer) in group.drain(..).zip(answers) {
            let _ = job.done.send(answer); // As above.
        }
    }
}

struct PostgresTexts {
    insert: String,
    count: String,
}

/// A server that vanished without a word would hold the writer, and with it every visit, until TCP gives up after a quarter of an hour.
async fn write_in_time(
    pool: &PgPool,
    texts: &PostgresTexts,
    batch: &Batch,
    tally: &Tally,
    rows: &[&Row],
) -> sqlx::Result<Vec<Inserted>> {
    let written = write_postgres_group(pool, texts, batch, tally, rows);
    tokio::time::timeout(WAIT_FOR_SERVER, written).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

async fn write_postgres_group(
    pool: &PgPool,
    texts: &PostgresTexts,
    batch: &Batch,
    tally: &Tally,
    rows: &[&Row],
) -> sqlx::Result<Vec<Inserted>> {
    let mut tx = pool.begin().await?;
    let mut query = sqlx::query(AssertSqlSafe(texts.insert.as_str()));
    for (at, (_, kind)) in batch.columns.iter().enumerate() {
        query = match kind {
            Kind::Int => query.bind(rows.iter().map(|row| int(&row.cells[at])).collect::<Vec<_>>()),
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
        let mut query = sqlx::query(AssertSqlSafe(texts.count.as_str()));
        for (at, (_, kind)) in tally.columns.iter().enumerate() {
            query = match kind {
                Kind::Int => query.bind(counts.keys().map(|key| int(&key[at])).collect::<Vec<_>>()),
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
