//! Connections to a PostgreSQL server that several copies of the program share.
//! Takes the server's URL; returns a pool, transactions on it, and brings the tables up to date.
//! No copy that is frozen or cut off holds the others for longer than [`SESSION`] allows, a connection that is dead, read-only or inside
//! somebody's transaction is replaced before it is used, and nothing here waits without a bound.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _};
use sqlx::{Error, Row as _};

use crate::clock::Clock;

/// What every session is told, whatever the server's own defaults are.
///
/// - A copy that is frozen inside a transaction (a paused machine, swapping, SIGSTOP) loses it, and its locks, after eight seconds; others
///   wait ten for a lock, so they still get it. A copy that can no longer be reached is noticed within fourteen.
/// - No statement runs for longer than a minute: who asked has gone by then. Migrations and replays have sessions of their own.
/// - Compiling a report's statement takes a second, running it a few milliseconds (PostgreSQL 15, seen with a hundred thousand rows).
pub(super) const SESSION: &str = "
    set synchronous_commit = on;
    set default_transaction_isolation = 'read committed';
    set idle_in_transaction_session_timeout = '8s';
    set lock_timeout = '10s';
    set statement_timeout = '60s';
    set tcp_keepalives_idle = 5;
    set tcp_keepalives_interval = 3;
    set tcp_keepalives_count = 3;
    set tcp_user_timeout = '12s';
    set client_min_messages = warning;
    set jit = off";
/// What the session of the start is told: migrations take as long as they take.
const START_SESSION: &str = "set client_min_messages = warning";

/// How long a connection is waited for.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to say that it is alive.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that was used this recently is not asked whether it is alive.
const FRESH: Duration = Duration::from_secs(1);
/// How long sessions are examined after something could not be written.
const SUSPICION: Duration = Duration::from_secs(30);
/// How long the server may take to begin or end a transaction; longer than a lock may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a start waits for a server that is not there yet, or has no connection left.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two tries of a start.
const START_PAUSE: Duration = Duration::from_secs(2);
/// How long a start waits for another copy's migrations before it says so.
const QUIET_MIGRATION: Duration = Duration::from_secs(5);

/// `whole` unless the session cannot write, or is inside a transaction that somebody left behind. Has to go as a simple query: in the
/// extended protocol a statement begins later than its transaction.
const EXAMINE: &str = "
    select case when current_setting('transaction_read_only') = 'off' and now() = statement_timestamp()
                then 'whole' else 'spoiled' end";

/// What makes the pool look twice at its connections.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Connections opened before this are replaced: one of them was dead.
    dead_before: Mutex<Option<Instant>>,
    /// Sessions are examined until then: something could not be written.
    until: Mutex<Option<Instant>>,
}

impl Suspicion {
    /// Something could not be written: the next users of a connection have its session examined first.
    pub(super) fn raise(&self) {
        set(&self.until, Clock::stopwatch() + SUSPICION);
    }

    /// A connection was dead: others of its age most likely are too.
    fn bury(&self) {
        set(&self.dead_before, Clock::stopwatch());
    }

    fn is_raised(&self) -> bool {
        get(&self.until).is_some_and(|until| Clock::stopwatch() < until)
    }

    fn has_buried(&self, age: Duration) -> bool {
        get(&self.dead_before).is_some_and(|dead| age > dead.elapsed())
    }
}

fn set(place: &Mutex<Option<Instant>>, at: Instant) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
}

fn get(place: &Mutex<Option<Instant>>) -> Option<Instant> {
    *place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pool of so many connections, none of which is opened before it is needed.
pub(super) fn pool(url: &str, connections: u32, suspicion: &Arc<Suspicion>) -> Result<AnyPool> {
    let suspicion = suspicion.clone();
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .after_connect(|connection, _| {
            Box::pin(async move { connection.execute(SESSION).await.map(drop) })
        })
        .before_acquire(move |connection, seen| {
            let suspicion = suspicion.clone();
            Box::pin(async move { Ok(is_usable(connection, &seen, &suspicion).await) })
        })
        .after_release(|connection, _| Box::pin(async move { Ok(is_alive(connection).await) }))
        .connect_lazy(url)
        .context("CLICKSTAMP_DATABASE_URL is not the address of a PostgreSQL server")
}

/// False for a connection that is to be replaced.
async fn is_usable(
    connection: &mut AnyConnection,
    seen: &PoolConnectionMetadata,
    suspicion: &Suspicion,
) -> bool {
    if suspicion.has_buried(seen.age) {
        return false;
    }
    if suspicion.is_raised() {
        return match tokio::time::timeout(CHECK_TIMEOUT, connection.fetch_one(EXAMINE)).await {
            Ok(Ok(row)) => row.try_get::<String, _>(0).is_ok_and(|state| state == "whole"),
            // In a transaction that failed.
            Ok(Err(Error::Database(_))) => false,
            Ok(Err(_)) | Err(_) => {
                suspicion.bury();
                false
            }
        };
    }
    if seen.idle_for < FRESH || is_alive(connection).await {
        return true;
    }
    tracing::warn!("a connection to PostgreSQL is dead; it and those of its age are replaced");
    suspicion.bury();
    false
}

/// Waits for what is still under way on a connection, and for the server's answer.
pub(super) async fn is_alive<C: sqlx::Connection>(connection: &mut C) -> bool {
    tokio::time::timeout(CHECK_TIMEOUT, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
}

/// A transaction. Dropping it undoes everything, also when that happens before the server has said that it began: the driver's own would
/// leave a transaction open in the pool then.
pub(super) struct Transaction {
    /// `None` once it has ended.
    connection: Option<PoolConnection<Any>>,
    suspicion: Arc<Suspicion>,
}

impl Transaction {
    /// Begins one by the statement `begin`.
    pub(super) async fn begin(
        pool: &AnyPool,
        suspicion: &Arc<Suspicion>,
        begin: &'static str,
    ) -> Result<Self> {
        let connection = Some(pool.acquire().await.context("could not get a connection")?);
        // There before the server is asked, so that it undoes what a dropped future has begun.
        let mut begun = Self { connection, suspicion: suspicion.clone() };
        in_time(begun.execute(begin)).await.context("could not begin a transaction")?;
        Ok(begun)
    }

    /// Makes everything durable.
    pub(super) async fn commit(mut self) -> Result<()> {
        in_time(self.execute("commit")).await.context("could not commit")?;
        self.connection = None; // It goes back to its pool.
        Ok(())
    }
}

async fn in_time<T>(answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = tokio::time::timeout(TRANSACTION_TIMEOUT, answer).await;
    answer.unwrap_or(Err(Error::PoolTimedOut))
}

impl Drop for Transaction {
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody can wait in a drop; the task ends with the connection's next answer, or without one in seconds"
    )]
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        self.suspicion.raise();
        if tokio::runtime::Handle::try_current().is_err() {
            return connection.close_on_drop(); // The process ends.
        }
        tokio::spawn(async move {
            let undone = tokio::time::timeout(CHECK_TIMEOUT, connection.execute("rollback")).await;
            if !undone.is_ok_and(|answer| answer.is_ok()) {
                connection.close_on_drop();
            }
        });
    }
}

impl Deref for Transaction {
    type Target = AnyConnection;
    fn deref(&self) -> &AnyConnection {
        self.connection.as_ref().expect(OPEN)
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.connection.as_mut().expect(OPEN)
    }
}

/// Only `commit` and `drop` take the connection, and both take the transaction too.
const OPEN: &str = "an open transaction has its connection";

/// Waits for the server, brings the tables up to date, and warns when it has too few connections for this copy.
pub(super) async fn prepare(url: &str, connections: u32, migrations: &Migrator) -> Result<()> {
    let mut connection = connect_in_time(url).await?;
    connection.execute(START_SESSION).await?;
    warn_of_scarcity(&mut connection, connections).await?;
    migrate(&mut connection, migrations).await.map_err(super::not_migrated)?;
    connection.close().await.context("could not close the connection of the start")
}

async fn migrate(connection: &mut PgConnection, migrations: &Migrator) -> Result<(), MigrateError> {
    let mut migrated = std::pin::pin!(migrations.run(connection));
    if let Ok(done) = tokio::time::timeout(QUIET_MIGRATION, &mut migrated).await {
        return done;
    }
    tracing::info!("bringing the tables up to date, or waiting for a copy that does");
    migrated.await
}

async fn connect_in_time(url: &str) -> Result<PgConnection> {
    const UNREACHABLE: &str = "could not reach the PostgreSQL server of CLICKSTAMP_DATABASE_URL";
    let options = PgConnectOptions::from_str(url).context(UNREACHABLE)?;
    let begun = Clock::stopwatch();
    loop {
        let error = match tokio::time::timeout(ACQUIRE_TIMEOUT, options.connect()).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) if may_pass(&error) => error.to_string(),
            Ok(Err(error)) => return Err(error).context(UNREACHABLE),
            Err(_) => "no answer".to_owned(),
        };
        if begun.elapsed() >= START_TIMEOUT {
            bail!("{UNREACHABLE} within {} seconds: {error}", START_TIMEOUT.as_secs());
        }
        tracing::warn!(error, "waiting for a connection to PostgreSQL");
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// A server that is not there yet, is starting, or has no connection left may have one in a moment.
fn may_pass(error: &Error) -> bool {
    const PASSING: [&str; 4] = ["53300", "57P01", "57P02", "57P03"];
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(error, Error::Io(_)) || code.is_some_and(|code| PASSING.contains(&&*code))
}

async fn warn_of_scarcity(connection: &mut PgConnection, wanted: u32) -> Result<()> {
    let row = sqlx::query(
        "select cast(current_setting('max_connections') as bigint)
              - cast(current_setting('superuser_reserved_connections') as bigint),
                (select count(*) from pg_stat_activity where backend_type = 'client backend')",
    )
    .fetch_one(connection)
    .await
    .context("could not ask PostgreSQL for its connections")?;
    let (all, used): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let free = all - used + 1; // Ours is closed after the start.
    if free < i64::from(wanted) {
        tracing::warn!(
            free,
            wanted,
            "PostgreSQL has fewer connections left than this copy may need: raise its max_connections, or lower \
             CLICKSTAMP_DATABASE_CONNECTIONS of every copy"
        );
    }
    Ok(())
}
