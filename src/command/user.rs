//! `clickstamp user list|add|remove|passwd`: who may sign in. Takes an email address, and a password
//! from the terminal or standard input; writes the user to the database, and prints what was done.
//! The server may run meanwhile. Guarantees that the password is not an argument, which other users
//! of the machine could read.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};

use super::print;
use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::dashboard;
use crate::store::Store;
use crate::visit;

/// What to do. The text is the user's email address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Print all users.
    List,
    /// Add a user.
    Add(String),
    /// Delete a user and end their sessions.
    Remove(String),
    /// Change a user's password and sign them out everywhere.
    ChangePassword(String),
}

/// Asks for the password if one is needed, runs the action, and prints what was done.
///
/// # Errors
/// With a message for the operator: what is wrong with the email address, the password or the
/// database.
pub async fn run(config: &Config, action: &Action) -> Result<()> {
    let password = match action {
        Action::Add(_) | Action::ChangePassword(_) => {
            read_password().context("could not read the password")?
        }
        Action::List | Action::Remove(_) => Secret::new(""),
    };
    let store =
        Store::open_beside(config.database_url.expose(), &visit::VISITS, &visit::COUNTS).await?;
    let done = act(&store, action, &password).await;
    store.close().await;
    print(&done?)
}

async fn act(store: &Store, action: &Action, password: &Secret) -> Result<String> {
    let now = Clock::system().now();
    match action {
        Action::List => dashboard::list_users(store, now).await,
        Action::Add(email) => dashboard::add_user(store, now, email, password).await,
        Action::Remove(email) => dashboard::remove_user(store, email).await,
        Action::ChangePassword(email) => dashboard::set_password(store, email, password).await,
    }
}

fn read_password() -> Result<Secret> {
    if std::io::stdin().is_terminal() {
        return Ok(Secret::new(rpassword::prompt_password("Password, at least 10 characters: ")?));
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(Secret::new(line.trim_end_matches(['\r', '\n'])))
}
