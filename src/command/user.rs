//! `clickstamp user add|passwd`: who may sign in, from the server's own command line.
//! In: an e-mail, and a password from the terminal or standard input. Out: a row changed, beside a running server or without one.
//! Promise: the password never stands in the arguments, where other users of the machine could read it.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::dashboard;
use crate::store::Store;
use crate::visit;

/// What to do with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add one.
    Add,
    /// Change the password of one, and sign him out everywhere.
    ChangePassword,
}

/// Asks for the password and does it.
///
/// # Errors
/// A sentence for the operator: what is wrong with the e-mail, the password or the database.
pub async fn run(config: &Config, action: Action, email: &str) -> Result<()> {
    let password = read_password().context("could not read the password")?;
    let store =
        Store::open_beside(config.database_url.expose(), &visit::VISITS, &visit::COUNTS).await?;
    let done = match action {
        Action::Add => dashboard::add_user(&store, Clock::system().now(), email, &password).await,
        Action::ChangePassword => dashboard::set_password(&store, email, &password).await,
    };
    store.close().await;
    done
}

fn read_password() -> Result<Secret> {
    if std::io::stdin().is_terminal() {
        return Ok(Secret::new(rpassword::prompt_password("Password, at least 10 characters: ")?));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}
