//! Writes groups to PostgreSQL on its own connection: rows and counters of a group are one
//! statement, with `unnest`.
//! Takes a group of rows; returns a result for each, after the commit.
//! Guarantees that a frozen process holds no lock, because a single statement is a whole
//! transaction; that a server that does not respond delays nobody for longer than the time limit;
//! and that one invalid row does not fail others.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Error, Executor as _, Row as _};
use tokio::sync::Mutex;

use super::row::{Batch, Cell, Inserted, Kind, NewRow, Tally, names};
use crate::store::postgres::SESSION;

/// Time limit for a group. Its rows are never locked for longer than a statement, so a longer time
/// means that the server is gone.
const WAIT_FOR_SERVER: Duration = Duration::from_secs(8);
/// Classes of error codes about a row: invalid data, a violated constraint. All others are about
/// the server.
const ABOUT_A_ROW: [&str; 2] = ["22", "23"];

/// The writer's own connection, which is reopened after an error.
pub(super) struct Connection {
    server: PgConnectOptions,
    /// `None` until the first group, and after an error.
    open: Mutex<Option<PgConnection>>,
    batch: &'static Batch,
    tally: &'static Tally,
    statement: String,
}

impl Connection {
    /// Connects to the server when the first group is written.
    pub(super) fn new(url: &str, batch: &'static Batch, tally: &'static Tally) -> Result<Self> {
        let server = PgConnectOptions::from_str(url)
            .context("CLICKSTAMP_DATABASE_URL is not the address of a PostgreSQL server")?;
        let (open, statement) = (Mutex::default(), statement(batch, tally));
        Ok(Self { server, open, batch, tally, statement })
    }

    /// Writes a group.
    pub(super) async fn write(&self, rows: &[NewRow]) -> Vec<Result<Inserted>> {
        match self.write_in_time(rows).await {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) if is_about_a_row(&error) => {
                let mut answers = Vec::with_capacity(rows.len());
                for row in rows {
                    let written = self.write_in_time(std::slice::from_ref(row)).await;
                    answers.push(written.context("could not write a visit").and_then(|written| {
                        written.first().copied().context("a written row has an answer")
                    }));
                }
                answers
            }
            // Writing each row separately would wait as long for each of them.
            Err(error) => {
                let text = error.to_string();
                rows.iter().map(|_| Err(anyhow!("could not write a visit: {text}"))).collect()
            }
        }
    }

    /// Closes the connection.
    pub(super) async fn close(self) {
        if let Some(connection) = self.open.into_inner() {
            // An error means that it was closed already.
            let _ = tokio::time::timeout(WAIT_FOR_SERVER, connection.close()).await;
        }
    }

    /// Writes a group, on a new connection if the open one is dead or read-only. A row that the old
    /// one wrote anyway is stored only once, because its key is unique. Without the time limit, a
    /// server that vanished would block the writer, and every visit, until TCP gives up after a
    /// quarter of an hour.
    async fn write_in_time(&self, rows: &[NewRow]) -> sqlx::Result<Vec<Inserted>> {
        let mut open = self.open.lock().await;
        loop {
            let (mut connection, is_new) = match open.take() {
                Some(connection) => (connection, false),
                None => (self.connect().await?, true),
            };
            let written = in_time(self.write_group(&mut connection, rows)).await;
            if written.as_ref().map_or_else(is_about_a_row, |_| true) {
                *open = Some(connection);
                return written;
            }
            if is_new {
                return written;
            }
        }
    }

    async fn connect(&self) -> sqlx::Result<PgConnection> {
        in_time(async {
            let mut connection = self.server.connect().await?;
            connection.execute(SESSION).await?;
            Ok(connection)
        })
        .await
    }

    async fn write_group(
        &self,
        connection: &mut PgConnection,
        rows: &[NewRow],
    ) -> sqlx::Result<Vec<Inserted>> {
        let mut query = sqlx::query(AssertSqlSafe(self.statement.as_str()));
        for (at, (_, kind)) in self.batch.columns.iter().enumerate() {
            let cells = rows.iter().map(|row| row.cells.get(at));
            query = match kind {
                Kind::Int => query.bind(cells.map(int).collect::<Vec<_>>()),
                Kind::Text => query.bind(cells.map(text).collect::<Vec<_>>()),
            };
        }
        for (at, (_, kind)) in self.tally.columns.iter().enumerate() {
            let cells = rows.iter().map(|row| row.tally.as_ref().and_then(|tally| tally.get(at)));
            query = match kind {
                Kind::Int => query.bind(cells.map(int).collect::<Vec<_>>()),
                Kind::Text => query.bind(cells.map(text).collect::<Vec<_>>()),
            };
        }
        query = query.bind(rows.iter().map(|row| row.tally.is_some()).collect::<Vec<_>>());
        // Each returned key was new. Two equal rows in one group share a key, and only the first of
        // them counts as new.
        let mut fresh = HashMap::<Vec<Cell>, usize>::new();
        for returned in query.fetch_all(connection).await? {
            let key = key_columns(self.batch).enumerate().map(|(position, (_, kind))| match kind {
                Kind::Int => returned.try_get::<Option<i64>, _>(position).map(Cell::from),
                Kind::Text => returned.try_get::<Option<String>, _>(position).map(Cell::from),
            });
            *fresh.entry(key.collect::<sqlx::Result<_>>()?).or_default() += 1;
        }
        let answers = rows.iter().map(|row| {
            let key: Vec<Cell> =
                key_columns(self.batch).map(|(at, _)| row.cells[at].clone()).collect();
            match fresh.get_mut(&key).filter(|left| **left > 0) {
                Some(left) => {
                    *left -= 1;
                    Inserted::New
                }
                None => Inserted::Duplicate,
            }
        });
        Ok(answers.collect())
    }
}

async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = tokio::time::timeout(WAIT_FOR_SERVER, answer).await;
    answer.unwrap_or(Err(Error::PoolTimedOut))
}

fn is_about_a_row(error: &Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ABOUT_A_ROW.iter().any(|class| code.starts_with(class)))
}

fn int(cell: Option<&Cell>) -> Option<i64> {
    if let Some(Cell::Int(value)) = cell { Some(*value) } else { None }
}

fn text(cell: Option<&Cell>) -> Option<&str> {
    if let Some(Cell::Text(value)) = cell { Some(value) } else { None }
}

/// The columns of the unique key: their positions among all columns, and their types.
fn key_columns(batch: &Batch) -> impl Iterator<Item = (usize, Kind)> {
    batch.key.iter().filter_map(|name| {
        let at = batch.columns.iter().position(|(column, _)| column == name)?;
        Some((at, batch.columns[at].1))
    })
}

/// Inserts new rows and counts them. Rows and counters are locked in the order of their keys, so
/// that replicas never wait for each other.
fn statement(batch: &Batch, tally: &Tally) -> String {
    let (columns, key) = (names(batch.columns), batch.key.join(", "));
    let counted: Vec<String> = (0..tally.columns.len()).map(|at| format!("counted_{at}")).collect();
    let counted = counted.join(", ");
    let (table, counts, counters, count) =
        (batch.table, tally.table, names(tally.columns), tally.count);
    let arrays = arrays(batch.columns.iter().chain(tally.columns));
    let is_counted = batch.columns.len() + tally.columns.len() + 1;
    format!(
        "with given as (select * from unnest({arrays}, ${is_counted}::boolean[]) with ordinality
                            as given ({columns}, {counted}, is_counted, place)),
              fresh as (insert into {table} ({columns}) select {columns} from given order by {key}, place
                            on conflict do nothing returning {key}),
              firsts as (select distinct on ({key}) * from given order by {key}, place),
              counted as (insert into {counts} ({counters}, {count})
                          select {counted}, count(*) from firsts join fresh using ({key}) where is_counted
                           group by {counted} order by {counted}
                              on conflict ({counters}) do update set {count} = {counts}.{count} + excluded.{count})
         select {key} from fresh"
    )
}

fn arrays<'a>(columns: impl Iterator<Item = &'a (&'a str, Kind)>) -> String {
    let casts = columns.enumerate().map(|(at, (_, kind))| match kind {
        Kind::Int => format!("${}::bigint[]", at + 1),
        Kind::Text => format!("${}::text[]", at + 1),
    });
    casts.collect::<Vec<_>>().join(", ")
}
