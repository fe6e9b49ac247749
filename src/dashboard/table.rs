//! SQL of the dashboard: `users`, `sessions` and `login_tries`. Takes emails (lower case) and hashes; returns users.
//! Private to this module. Only hashes of passwords and cookies reach the database.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::clock::Timestamp;
use crate::ids;
use crate::store::{Store, from_row, insert_into, sql};

/// A user who may sign in.
pub(super) struct StoredUser {
    pub(super) id: String,
    pub(super) email: String,
    /// Argon2id, PHC text.
    pub(super) password_hash: String,
}

from_row!(StoredUser { id, email, password_hash });

pub(super) async fn has_users(store: &Store) -> Result<bool> {
    let users: i64 = sql("select count(*) from users")
        .value(store.pool())
        .await
        .context("could not count the users")?;
    Ok(users > 0)
}

pub(super) async fn find_user(store: &Store, email: &str) -> Result<Option<StoredUser>> {
    if email.contains('\0') {
        return Ok(None); // PostgreSQL refuses to compare it.
    }
    sql("select id, email, password_hash from users where email = :email")
        .set("email", email)
        .optional(store.pool())
        .await
        .context("could not look up a user")
}

/// Returns whether the user is new; an existing user is not changed.
pub(super) async fn add_user(
    store: &Store,
    now: Timestamp,
    email: &str,
    password_hash: &str,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = insert_into("users")
        .set("id", ids::new_record_id("usr_", now))
        .set("email", email)
        .set("password_hash", password_hash)
        .set("created_at_ms", now)
        .or_ignore()
        .execute(&mut *tx)
        .await
        .context("could not add a user")?;
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// A user in the list of all.
pub(super) struct ListedUser {
    pub(super) email: String,
    pub(super) created_at: Timestamp,
    /// Sessions that have not expired.
    pub(super) sessions: i64,
}

from_row!(ListedUser { email, created_at, sessions });

/// All users in the order in which they were added.
pub(super) async fn users(store: &Store, now: Timestamp) -> Result<Vec<ListedUser>> {
    sql("select email, created_at_ms as created_at,
                (select count(*) from sessions s where s.user_id = users.id and s.expires_at_ms > :now) as sessions
           from users
          order by created_at_ms, id")
    .set("now", now)
    .all(store.pool())
    .await
    .context("could not list the users")
}

/// What became of a user who was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removed {
    Done,
    Unknown,
    Last,
}

/// Deletes a user, their sessions and the count of their tries; not the last user.
pub(super) async fn remove_user(store: &Store, email: &str) -> Result<Removed> {
    let mut tx = store.begin().await?;
    // Two owners who remove each other at the same time must not leave nobody: PostgreSQL locks the
    // rows, SQLite has one writer.
    sql("update users set email = email")
        .execute(&mut *tx)
        .await
        .context("could not lock the users")?;
    let emails: Vec<String> = sql("select email from users")
        .values(&mut *tx)
        .await
        .context("could not read the users")?;
    if !emails.iter().any(|known| known == email) {
        return Ok(Removed::Unknown);
    }
    if emails.len() == 1 {
        return Ok(Removed::Last);
    }
    for statement in [
        "delete from sessions where user_id in (select id from users where email = :email)",
        "delete from login_tries where user_id in (select id from users where email = :email)",
        "delete from users where email = :email",
    ] {
        sql(statement)
            .set("email", email)
            .execute(&mut *tx)
            .await
            .context("could not remove a user")?;
    }
    tx.commit().await?;
    Ok(Removed::Done)
}

/// The ID of the first user, or `None` if another request was faster. Two owners of the setup URL may both get in
/// at the same millisecond on PostgreSQL; both hold the secret, so neither gains anything.
pub(super) async fn add_first_user(
    store: &Store,
    now: Timestamp,
    email: &str,
    password_hash: &str,
) -> Result<Option<String>> {
    let id = ids::new_record_id("usr_", now);
    let mut tx = store.begin().await?;
    let done = sql("insert into users (id, email, password_hash, created_at_ms)
         select :id, :email, :password_hash, :created_at_ms
          where not exists (select 1 from users)")
    .set("id", &id)
    .set("email", email)
    .set("password_hash", password_hash)
    .set("created_at_ms", now)
    .execute(&mut *tx)
    .await
    .context("could not add the first user")?;
    tx.commit().await?;
    Ok((done.rows_affected() == 1).then_some(id))
}

/// Returns `false` if there is no such user. Signs the user out everywhere except in the session that is kept.
pub(super) async fn set_password(
    store: &Store,
    email: &str,
    password_hash: &str,
    kept_session: &str,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = sql("update users set password_hash = :password_hash where email = :email")
        .set("password_hash", password_hash)
        .set("email", email)
        .execute(&mut *tx)
        .await
        .context("could not change a password")?;
    sql("delete from sessions
          where user_id in (select id from users where email = :email)
            and token_hash <> :kept_session")
    .set("email", email)
    .set("kept_session", kept_session)
    .execute(&mut *tx)
    .await
    .context("could not end the other sessions")?;
    sql("delete from login_tries where user_id in (select id from users where email = :email)")
        .set("email", email)
        .execute(&mut *tx)
        .await
        .context("could not forget the tries to sign in")?;
    tx.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// Counts an attempt to sign in as a user. Returns the number of attempts in the window, including this one.
pub(super) async fn note_try(
    store: &Store,
    now: Timestamp,
    window: Duration,
    user_id: &str,
) -> Result<i64> {
    let mut tx = store.begin().await?;
    // A window in the future was started by a clock that was ahead.
    let tries = sql("insert into login_tries (user_id, began_at_ms, tries) values (:user_id, :began_at_ms, 1)
             on conflict (user_id) do update
            set tries = case when login_tries.began_at_ms > :window_start and login_tries.began_at_ms <= :began_at_ms then login_tries.tries + 1 else 1 end,
                began_at_ms = case when login_tries.began_at_ms > :window_start and login_tries.began_at_ms <= :began_at_ms
                                   then login_tries.began_at_ms else :began_at_ms end
         returning tries")
    .set("user_id", user_id)
    .set("began_at_ms", now)
    .set("window_start", now.minus(window))
    .value(&mut *tx)
    .await
    .context("could not count a try to sign in")?;
    tx.commit().await?;
    Ok(tries)
}

/// Undoes the count of an attempt with the correct password.
pub(super) async fn take_back_try(store: &Store, user_id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("update login_tries set tries = tries - 1 where user_id = :user_id and tries > 0")
        .set("user_id", user_id)
        .execute(&mut *tx)
        .await
        .context("could not take back a try to sign in")?;
    tx.commit().await
}

/// Also deletes expired sessions, so that the table stays small.
pub(super) async fn start_session(
    store: &Store,
    now: Timestamp,
    expires: Timestamp,
    user_id: &str,
    token_hash: &str,
) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("delete from sessions where expires_at_ms <= :now")
        .set("now", now)
        .execute(&mut *tx)
        .await
        .context("could not clear expired sessions")?;
    insert_into("sessions")
        .set("token_hash", token_hash)
        .set("user_id", user_id)
        .set("created_at_ms", now)
        .set("expires_at_ms", expires)
        .execute(&mut *tx)
        .await
        .context("could not start a session")?;
    tx.commit().await
}

/// The user of a session that has not expired.
pub(super) async fn find_session(
    store: &Store,
    now: Timestamp,
    token_hash: &str,
) -> Result<Option<StoredUser>> {
    sql("select users.id, users.email, users.password_hash
           from sessions
           join users on users.id = sessions.user_id
          where sessions.token_hash = :token_hash and sessions.expires_at_ms > :now")
    .set("token_hash", token_hash)
    .set("now", now)
    .optional(store.pool())
    .await
    .context("could not look up a session")
}

pub(super) async fn end_session(store: &Store, token_hash: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    sql("delete from sessions where token_hash = :token_hash")
        .set("token_hash", token_hash)
        .execute(&mut *tx)
        .await
        .context("could not end a session")?;
    tx.commit().await
}
