//! The table of all settings: names, defaults, meanings.
//! The table in docs/reference.md, `--help` and `clickstamp config` print it; a test compares the
//! documentation with it.

use super::sources::Sources;

/// One setting, as docs/reference.md, `--help` and `clickstamp config` describe it.
pub struct Variable {
    /// Name in the environment. The flag is the same without the prefix: `CLICKSTAMP_DATA_DIR` →
    /// `--data-dir`; in the file it is `data_dir`.
    pub name: &'static str,
    /// Text used when nobody sets it; empty for "not set".
    pub default: &'static str,
    /// One line for people.
    pub meaning: &'static str,
    /// Secrets are masked, and can be read from a file that `NAME_FILE` names.
    pub is_secret: bool,
}

const fn plain(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default, meaning, is_secret: false }
}

const fn secret(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, default: "", meaning, is_secret: true }
}

/// Every setting there is, in the order people meet them.
pub const VARIABLES: &[Variable] = &[
    plain("CLICKSTAMP_LISTEN", "127.0.0.1:8080", "address to listen on; unix:/path for a socket"),
    plain("CLICKSTAMP_DATA_DIR", "./data", "directory of the SQLite file"),
    secret(
        "CLICKSTAMP_DATABASE_URL",
        "postgres://… instead of the SQLite file in the data directory",
    ),
    plain(
        "CLICKSTAMP_DATABASE_CONNECTIONS",
        "13",
        "maximum number of connections to PostgreSQL per copy, at least 4",
    ),
    plain(
        "CLICKSTAMP_PUBLIC_URL",
        "",
        "URL under which browsers reach this server, with its path prefix if there is one; by default taken from each request",
    ),
    plain(
        "CLICKSTAMP_DASHBOARD_URL",
        "",
        "URL of the dashboard and the API, on a host of its own; they then answer nowhere else",
    ),
    plain("CLICKSTAMP_ADMIN_EMAIL", "", "creates the first user, together with the password"),
    secret("CLICKSTAMP_ADMIN_PASSWORD", "the first user's password, at least 10 characters"),
    secret("CLICKSTAMP_API_TOKEN", "bearer token for the JSON API, at least 16 characters"),
    secret(
        "CLICKSTAMP_STRIPE_WEBHOOK_SECRET",
        "signing secret of the webhook endpoint `main` (whsec_…); two, comma-separated, during rotation",
    ),
    secret(
        "CLICKSTAMP_STRIPE_API_KEY",
        "restricted key (rk_…) of the webhook endpoint `main`, for backfill, reconcile and thin events; read rights are enough; other endpoints have theirs under Settings",
    ),
    plain(
        "CLICKSTAMP_STRIPE_API_BASE",
        "https://api.stripe.com",
        "base URL of Stripe's API; for tests",
    ),
    secret(
        "CLICKSTAMP_ANYTRACK_URL",
        "the whole URL of your custom integration, as AnyTrack shows it",
    ),
    plain(
        "CLICKSTAMP_RETRY_SCHEDULE",
        "5s,30s,5m,30m,2h,5h,10h,10h,10h,12h,12h",
        "delays between the attempts of a delivery (ms, s, m, h)",
    ),
    plain(
        "CLICKSTAMP_DELIVERY_RATE",
        "10",
        "maximum deliveries per second and destination; 0 for no limit",
    ),
    plain(
        "CLICKSTAMP_VISIT_RATE",
        "300",
        "maximum visits per minute and IP address, then 429; 0 for no limit",
    ),
    plain(
        "CLICKSTAMP_STOP_TIMEOUT",
        "8s",
        "maximum duration of a graceful stop (1s to 10m); keep it below the time after which your supervisor kills the process, 10 s with Docker",
    ),
    plain(
        "CLICKSTAMP_TRUSTED_PROXIES",
        "",
        "networks (CIDR, comma-separated) of reverse proxies whose X-Forwarded headers are used",
    ),
    plain(
        "CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS",
        "false",
        "true allows destinations on loopback and private addresses, and plain http",
    ),
    plain(
        "CLICKSTAMP_SMTP_CA",
        "",
        "PEM file of certificate authorities for the mail server of alerts, in addition to those of the system",
    ),
    plain(
        "CLICKSTAMP_RETENTION_DAYS",
        "keep",
        "days after which visits without a conversion are deleted; keep deletes none",
    ),
    plain(
        "CLICKSTAMP_METRICS",
        "false",
        "true serves /metrics for Prometheus; requests need the API token",
    ),
    plain("CLICKSTAMP_LOG", "info", "log filter, in the syntax of Rust's tracing"),
    plain("CLICKSTAMP_LOG_FORMAT", "text", "text or json"),
];

/// Every setting with its effective value and where it came from; secrets masked. For `clickstamp
/// config`.
pub fn describe(sources: &Sources) -> Vec<(&'static str, String, &'static str)> {
    let describe = |variable: &'static Variable| {
        let file_name = format!("{}_FILE", variable.name);
        let (text, origin) = if let Some(text) = sources.flags.get(variable.name) {
            (text.clone(), "flag")
        } else if let Some(text) = sources.environment.get(variable.name) {
            (text.clone(), "environment")
        } else if let Some(text) = sources.file.get(variable.name) {
            (text.clone(), "file")
        } else if sources.get(&file_name).is_some() {
            ("***".to_owned(), "secret file")
        } else {
            (variable.default.to_owned(), "default")
        };
        let shown = if variable.is_secret && !text.is_empty() { "***".to_owned() } else { text };
        (variable.name, shown, origin)
    };
    VARIABLES.iter().map(describe).collect()
}
