//! Everything that the operator decides, as values.
//! Takes what the reader read and checked; everybody else reads it.
//! Guarantees that no secret is ever printed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

/// Text that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; call it only where the secret is used.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Its last four characters, by which users recognize it.
    pub fn tail(&self) -> &str {
        let start = self.0.char_indices().rev().nth(3).map_or(0, |(start, _)| start);
        &self.0[start..]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port; port 0 uses a free one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// The format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// JSON, one object per line.
    Json,
}

/// Everything that the operator decides. What users change in the dashboard is a record in
/// `settings` instead.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server listens.
    pub listen: Listen,
    /// Directory of the SQLite file.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`; may contain a password.
    pub database_url: Secret,
    /// Maximum number of connections to PostgreSQL. For a SQLite file it is fixed.
    pub database_connections: u32,
    /// The URL under which browsers reach this server, without a trailing slash; `None` takes it
    /// from each request.
    pub public_url: Option<Url>,
    /// The origin of the dashboard and the API, if they have one of their own; without a path.
    pub dashboard_url: Option<Url>,
    /// The first user's email address and password.
    pub admin: Option<(String, Secret)>,
    /// Bearer token for reading and resending.
    pub api_token: Option<Secret>,
    /// Signing secrets of source `main`; empty if the dashboard sets them.
    pub stripe_webhook_secrets: Vec<Secret>,
    /// Restricted API key for Stripe, for backfill, reconciliation and thin events.
    pub stripe_api_key: Option<Secret>,
    /// The URL of Stripe's API.
    pub stripe_api_base: Url,
    /// URL of destination `anytrack`.
    pub anytrack_url: Option<Secret>,
    /// The retry schedule: n pauses make n+1 attempts.
    pub retry_schedule: Vec<Duration>,
    /// Deliveries per second and destination; 0 means no limit.
    pub delivery_rate: u32,
    /// Visits per minute and address; 0 means no limit.
    pub visit_rate: u32,
    /// Time limit of an orderly stop.
    pub stop_timeout: Duration,
    /// Networks of proxies whose forwarded headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// True if deliveries may go to loopback and private addresses.
    pub allow_private_destinations: bool,
    /// Certificates (PEM) of authorities to trust for mail servers, in addition to the system's.
    pub smtp_ca: Option<String>,
    /// True if `/metrics` is served, which requires the API token.
    pub serves_metrics: bool,
    /// Days after which visits without a conversion are deleted; `None` keeps them.
    pub retention_days: Option<u32>,
    /// Tracing filter.
    pub log: String,
    /// The format of the log.
    pub log_format: LogFormat,
}
