//! Connections to a PostgreSQL server that several copies of the program share.
//! Takes the server's URL; returns a pool and transactions on it, and runs the migrations.
//! Guarantees that no frozen or disconnected copy blocks others for longer than [`SESSION`] allows,
//! that a connection that is dead, read-only or inside an old transaction is replaced before it is
//! used, and that every wait has a time limit.

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

/// The settings of every session, whatever the server's defaults are.
///
/// - A copy that is frozen inside a transaction (a paused machine, swapping, SIGSTOP) loses it and
///   its locks after eight seconds. Others wait ten seconds for a lock, so they still get it. A
///   copy that can't be reached anymore is noticed within fourteen.
/// - No statement runs for longer than a minute, because its client has given up by then.
///   Migrations and replays have their own sessions.
/// - JIT is off: compiling a report's statement takes a second, running it a few milliseconds
///   (PostgreSQL 15, with a hundred thousand rows).
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
/// The settings of the session at start: migrations have no time limit.
const START_SESSION: &str = "set client_min_messages = warning";

/// Time limit for getting a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for the check whether a connection is alive.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection that was used this recently is not checked.
const FRESH: Duration = Duration::from_secs(1);
/// How long sessions are examined after a write failed.
const SUSPICION: Duration = Duration::from_secs(30);
/// Time limit for a commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a start waits for a server that can't be reached yet, or has no free connection.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two tries of a start.
const START_PAUSE: Duration = Duration::from_secs(2);
/// How long a start waits for another copy's migrations before it logs that.
const QUIET_MIGRATION: Duration = Duration::from_secs(5);

/// Returns `whole` unless the session can't write, or is inside an old transaction. Must be sent as
/// a simple query: in the extended protocol a statement begins later than its transaction.
const EXAMINE: &str = "
    select case when current_setting('transaction_read_only') = 'off' and now() = statement_timestamp()
                then 'whole' else 'spoiled' end";

/// Reasons to check connections before they are used.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Connections opened before this time are replaced, because one of them was dead.
    dead_before: Mutex<Option<Instant>>,
    /// Sessions are examined until this time, because a write failed.
    until: Mutex<Option<Instant>>,
}

impl Suspicion {
    /// Something could not be written: the next users of a connection have its session examined
    /// first.
    pub(super) fn raise(&self) {
        set(&self.until, Clock::stopwatch() + SUSPICION);
    }

    /// Called when a connection was dead: others of its age probably are too.
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

/// A pool of this many connections, which are opened when they are needed.
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

/// Returns false for a connection that must be replaced.
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
            // The session is in a failed transaction.
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
    tracing::warn!("a connection to PostgreSQL is dead; replacing all connections of its age");
    suspicion.bury();
    false
}

/// Waits for the end of running statements, and for the server's response.
async fn is_alive(connection: &mut AnyConnection) -> bool {
    tokio::time::timeout(CHECK_TIMEOUT, connection.ping()).await.is_ok_and(|answer| answer.is_ok())
}

/// A transaction. Dropping it rolls everything back, even before the server has confirmed its
/// beginning; the driver's own type would leave an open transaction in the pool then.
pub(super) struct Transaction {
    /// `None` once it has ended.
    connection: Option<PoolConnection<Any>>,
    suspicion: Arc<Suspicion>,
}

impl Transaction {
    /// Begins a transaction with the statement `begin`.
    pub(super) async fn begin(
        pool: &AnyPool,
        suspicion: &Arc<Suspicion>,
        begin: &'static str,
    ) -> Result<Self> {
        let connection = Some(pool.acquire().await.context("could not get a connection")?);
        // Created before the statement is sent, so that dropping this future rolls back what has
        // begun.
        let mut begun = Self { connection, suspicion: suspicion.clone() };
        if let Err(error) = in_time(CHECK_TIMEOUT, begun.execute(begin)).await {
            suspicion.bury(); // `begin` can't fail otherwise, so the connection is dead.
            return Err(error).context("could not begin a transaction");
        }
        Ok(begun)
    }

    /// Commits.
    pub(super) async fn commit(mut self) -> Result<()> {
        in_time(COMMIT_TIMEOUT, self.execute("commit")).await.context("could not commit")?;
        self.connection = None; // Returns it to its pool.
        Ok(())
    }
}

async fn in_time<T>(
    longest: Duration,
    answer: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let answer = tokio::time::timeout(longest, answer).await;
    answer.unwrap_or(Err(Error::PoolTimedOut))
}

impl Drop for Transaction {
    #[expect(
        clippy::disallowed_methods,
        reason = "a drop can't wait; the task ends with the connection's next response, or after seconds without one"
    )]
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        self.suspicion.raise();
        if tokio::runtime::Handle::try_current().is_err() {
            return connection.close_on_drop(); // The process is ending.
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

/// Only `commit` and `drop` take the connection, and after both the transaction is gone.
const OPEN: &str = "an open transaction has its connection";

/// Waits for the server, runs the migrations, and warns if it has too few connections for this
/// copy.
pub(super) async fn prepare(url: &str, connections: u32, migrations: &Migrator) -> Result<()> {
    let mut connection = connect_in_time(url).await?;
    connection.execute(START_SESSION).await?;
    warn_of_scarcity(&mut connection, connections).await?;
    migrate(&mut connection, migrations).await.map_err(super::migrations::not_migrated)?;
    connection.close().await.context("could not close the connection of the start")
}

async fn migrate(connection: &mut PgConnection, migrations: &Migrator) -> Result<(), MigrateError> {
    let mut migrated = std::pin::pin!(migrations.run(connection));
    if let Ok(done) = tokio::time::timeout(QUIET_MIGRATION, &mut migrated).await {
        return done;
    }
    tracing::info!("running the migrations, or waiting for a copy that runs them");
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
            Err(_) => "no response".to_owned(),
        };
        if begun.elapsed() >= START_TIMEOUT {
            bail!("{UNREACHABLE} within {} seconds: {error}", START_TIMEOUT.as_secs());
        }
        tracing::warn!(error, "waiting for a connection to PostgreSQL");
        tokio::time::sleep(START_PAUSE).await;
    }
}

/// True for errors of a server that can't be reached yet, is starting, or has no free connection.
fn may_pass(error: &Error) -> bool {
    const PASSING: [&str; 4] = ["53300", "57P01", "57P02", "57P03"];
    let code = error.as_database_error().and_then(|error| error.code());
    // A server that disconnects during the TLS handshake is a protocol error for the driver.
    matches!(error, Error::Io(_) | Error::Protocol(_))
        || code.is_some_and(|code| PASSING.contains(&&*code))
}

async fn warn_of_scarcity(connection: &mut PgConnection, wanted: u32) -> Result<()> {
    let row = sqlx::query(
        "select cast(current_setting('max_connections') as bigint)
              - cast(current_setting('superuser_reserved_connections') as bigint),
                (select count(*) from pg_stat_activity where backend_type = 'client backend')",
    )
    .fetch_one(connection)
    .await
    .context("could not read PostgreSQL's connection limits")?;
    let (all, used): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let free = all - used + 1; // This connection is closed after the start.
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
