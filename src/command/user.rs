//! `clickstamp user add|passwd`: adds a user or changes a password. Takes an email address, and a
//! password from the terminal or standard input; writes the user to the database. The server may
//! run meanwhile. Guarantees that the password is not an argument, which other users of the machine
//! could read.

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
    /// Add a user.
    Add,
    /// Change a user's password and sign them out everywhere.
    ChangePassword,
}

/// Asks for the password and runs the action.
///
/// # Errors
/// With a message for the operator: what is wrong with the email address, the password or the
/// database.
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
