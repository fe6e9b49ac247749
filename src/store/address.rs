//! Which database: its kind and its address.
//! Takes the text of a URL; the rest of this module opens what it names.
//! Contains no behavior.

/// Default number of connections to PostgreSQL: one writes visits, the others serve requests and
/// workers.
const POSTGRES_CONNECTIONS: u32 = 13;

/// The kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One file in the data directory; this process owns it.
    Sqlite,
    /// A server, shared by any number of replicas.
    Postgres,
}

/// The address of a database.
#[derive(Clone, Copy)]
pub(crate) struct Address<'a> {
    /// `sqlite://path` or `postgres://…`.
    pub(crate) url: &'a str,
    /// Maximum number of connections to PostgreSQL, at least 2.
    pub(crate) connections: u32,
}

impl<'a> From<&'a str> for Address<'a> {
    fn from(url: &'a str) -> Self {
        Self { url, connections: POSTGRES_CONNECTIONS }
    }
}

impl<'a> From<&'a String> for Address<'a> {
    fn from(url: &'a String) -> Self {
        url.as_str().into()
    }
}
