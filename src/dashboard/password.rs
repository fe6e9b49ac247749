//! Passwords: argon2id, made and checked off the async threads.
//! Takes a password, a stored hash or none, and a turn where requests compete for it. Returns a new hash, or whether it fits.
//! Guarantees that an unknown user costs the same time as a wrong password, and that a turn lasts as long as its work, also when
//! the client has gone.

use anyhow::{Context as _, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

use super::turns::{Turn, Turns, Who};
use crate::config::Secret;
use crate::error::AppError;

/// Fewest characters of a password.
pub(super) const MIN_CHARS: usize = 10;
/// Most bytes read; argon2 takes more, but nobody remembers more.
pub(super) const MAX_BYTES: usize = 1024;
/// What a client is asked to wait when too many passwords are being checked, in seconds.
pub(super) const BUSY_SECONDS: u32 = 5;
/// The hash of a password nobody has; checked when there is no such user, so that the answer takes as long.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$c29tZWJvZHllbHNlc3NhbHQ$Zl2nhOOE0mJpR3xTtLcFUvDP3wSyXHZzVH7cOoM6kqM";

/// Why a new password is not taken; `None` when it is.
pub(super) fn fault(password: &str) -> Option<&'static str> {
    if password.chars().count() < MIN_CHARS {
        Some("That is too short: a password has at least 10 characters.")
    } else if password.len() > MAX_BYTES {
        Some("That is too long: a password has at most 1,024 bytes.")
    } else {
        None
    }
}

/// A turn to check or hash a password for a page.
///
/// # Errors
/// 503 when too many wait.
pub(super) async fn turn(turns: &Turns, who: Who) -> Result<Turn, AppError> {
    turns.wait(who).await.ok_or_else(|| {
        AppError::busy(
            "Too many passwords are being checked right now. Try again in a few seconds.",
            BUSY_SECONDS,
        )
    })
}

/// The PHC text to store for a new password. Commands need no turn.
pub(super) async fn hash(password: &Secret, turn: Option<Turn>) -> Result<String> {
    let password = password.clone();
    off_the_async_threads(turn, move || {
        let hash: PasswordHash = Argon2::default()
            .hash_password(password.expose().as_bytes())
            .map_err(|error| anyhow!("could not hash a password: {error}"))?;
        Ok(hash.to_string())
    })
    .await
}

/// True when the password fits the stored hash. Without one it takes the same time and says no.
pub(super) async fn fits(password: &Secret, stored: Option<&str>, turn: Turn) -> Result<bool> {
    let password = password.clone();
    let is_known = stored.is_some();
    let stored = stored.unwrap_or(NOBODY).to_owned();
    off_the_async_threads(Some(turn), move || {
        let hash = PasswordHash::new(&stored)
            .map_err(|error| anyhow!("a stored password hash is damaged: {error}"))?;
        let fits = Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok();
        Ok(fits && is_known)
    })
    .await
}

async fn off_the_async_threads<T: Send + 'static>(
    turn: Option<Turn>,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    done.await.context("hashing a password stopped")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let password = Secret::new("correct horse battery");
        let stored = hash(&password, None).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "as costly as NOBODY");
        let turns = Turns::default();
        for (password, stored, expected) in [
            ("correct horse battery", Some(stored.as_str()), true),
            ("correct horse batterz", Some(stored.as_str()), false),
            ("correct horse battery", None, false),
        ] {
            let turn = turn(&turns, Who::Known).await.unwrap();
            assert_eq!(fits(&Secret::new(password), stored, turn).await.unwrap(), expected);
        }
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(fault("123456789").is_some());
        assert!(fault(&"x".repeat(1025)).is_some());
        assert_eq!(fault("ääääääääää"), None);
    }
}
