//! Passwords: argon2id, made and checked off the async threads.
//! In: a password, a stored hash or none. Out: a new hash, or whether it fits.
//! Promise: an unknown user costs the same time as a wrong password, and at most two hashes are computed at once.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

use crate::config::Secret;

/// Fewest characters of a password.
pub(super) const MIN_CHARS: usize = 10;
/// Most bytes read; argon2 takes more, but nobody remembers more.
pub(super) const MAX_BYTES: usize = 1024;
/// Hashing takes 19 MiB and a core for tens of milliseconds: two at a time leave room for visits and webhooks.
static TURNS: Semaphore = Semaphore::const_new(2);
/// How long somebody waits for a turn before the answer is "busy".
const PATIENCE: Duration = Duration::from_secs(10);
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

/// The PHC text to store for a new password.
pub(super) async fn hash(password: &Secret) -> Result<String> {
    let password = password.clone();
    in_turn(move || {
        let hash: PasswordHash = Argon2::default()
            .hash_password(password.expose().as_bytes())
            .map_err(|error| anyhow!("could not hash a password: {error}"))?;
        Ok(hash.to_string())
    })
    .await
}

/// True when the password fits the stored hash. Without one it takes the same time and says no.
pub(super) async fn fits(password: &Secret, stored: Option<&str>) -> Result<bool> {
    let password = password.clone();
    let is_known = stored.is_some();
    let stored = stored.unwrap_or(NOBODY).to_owned();
    in_turn(move || {
        let hash = PasswordHash::new(&stored)
            .map_err(|error| anyhow!("a stored password hash is damaged: {error}"))?;
        let fits = Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok();
        Ok(fits && is_known)
    })
    .await
}

async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let turn = tokio::time::timeout(PATIENCE, TURNS.acquire())
        .await
        .context("too many passwords are being checked at once")??;
    let done = tokio::task::spawn_blocking(work).await.context("hashing a password stopped")?;
    drop(turn);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let password = Secret::new("correct horse battery");
        let stored = hash(&password).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "as costly as NOBODY");
        assert!(fits(&password, Some(&stored)).await.unwrap());
        assert!(!fits(&Secret::new("correct horse batterz"), Some(&stored)).await.unwrap());
        assert!(!fits(&password, None).await.unwrap());
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert!(fault("123456789").is_some());
        assert!(fault(&"x".repeat(1025)).is_some());
        assert_eq!(fault("ääääääääää"), None);
    }
}
