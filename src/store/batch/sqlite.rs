//! The group-commit writer on SQLite: a prepared statement per row on a connection of its own.
//! In: queued rows. Out: an answer per row, after the commit.
//! Promise: the turn of `Store::begin` is respected, and one bad row never fails its neighbours.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use rusqlite::ErrorCode;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use tokio::sync::{Mutex, mpsc};

use super::{Batch, Cell, GROUP_ROWS, Inserted, Job, Row, Tally, names};

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(value) => ValueRef::Text(value.as_bytes()),
        }))
    }
}

pub(super) fn write(
    connection: &rusqlite::Connection,
    mut jobs: mpsc::Receiver<Job>,
    gate: &Mutex<()>,
    batch: &Batch,
    tally: &Tally,
) -> Result<()> {
    let mut insert =
        connection.prepare(&sqlite_insert(batch)).context("the batch's table does not fit")?;
    let mut count =
        connection.prepare(&sqlite_count(tally)).context("the tally's table does not fit")?;
    let mut group = Vec::with_capacity(GROUP_ROWS);
    while let Some(first) = jobs.blocking_recv() {
        group.push(first);
        while let Some(next) = (group.len() < GROUP_ROWS).then(|| jobs.try_recv().ok()).flatten() {
            group.push(next);
        }
        let turn = gate.blocking_lock();
        let mut write = |rows: &[&Row]| -> rusqlite::Result<Vec<Inserted>> {
            connection.execute_batch("begin immediate")?;
            let written = write_group(rows, &mut insert, &mut count)
                .and_then(|written| connection.execute_batch("commit").map(|()| written));
            if written.is_err() && !connection.is_autocommit() {
                connection.execute_batch("rollback")?;
            }
            written
        };
        let rows: Vec<&Row> = group.iter().map(|job| &job.row).collect();
        let answers: Vec<Result<Inserted>> = match write(&rows) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            // Somebody else holds the file. Trying each for itself would wait as long for each of them.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                rows.iter().map(|_| Err(anyhow!("the database is held by somebody else"))).collect()
            }
            // One of them cannot be written, or the disk is full: each for itself, so that the good ones are kept.
            Err(_) => rows
                .iter()
                .map(|row| {
                    let written = write(&[row]).context("could not write a visit")?;
                    written.first().copied().context("a written row has an answer")
                })
                .collect(),
        };
        drop(turn);
        for (job, answer) in group.drain(..).zip(answers) {
            let _ = job.done.send(answer); // The client may have gone; the row stays.
        }
    }
    Ok(())
}

fn write_group(
    rows: &[&Row],
    insert: &mut rusqlite::Statement<'_>,
    count: &mut rusqlite::Statement<'_>,
) -> rusqlite::Result<Vec<Inserted>> {
    let mut counts = BTreeMap::<&[Cell], i64>::new();
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let changed = insert.execute(rusqlite::params_from_iter(&row.cells))?;
        if let Some(tally) = row.tally.as_deref().filter(|_| changed == 1) {
            *counts.entry(tally).or_default() += 1;
        }
        answers.push(if changed == 1 { Inserted::New } else { Inserted::Duplicate });
    }
    for (key, visits) in counts {
        count.execute(rusqlite::params_from_iter(key.iter().chain([&Cell::Int(visits)])))?;
    }
    Ok(answers)
}

fn sqlite_insert(batch: &Batch) -> String {
    let marks = vec!["?"; batch.columns.len()].join(", ");
    let (table, columns) = (batch.table, names(batch.columns));
    format!("insert into {table} ({columns}) values ({marks}) on conflict do nothing")
}

fn sqlite_count(tally: &Tally) -> String {
    let marks = vec!["?"; tally.columns.len() + 1].join(", ");
    let (table, key, count) = (tally.table, names(tally.columns), tally.count);
    format!(
        "insert into {table} ({key}, {count}) values ({marks}) \
         on conflict ({key}) do update set {count} = {table}.{count} + excluded.{count}"
    )
}
