//! The table of all settings: names, defaults, meanings.
//! In: nothing. Out: what the README, `--help` and `clickstamp config` print.

use super::Sources;

/// One setting: what README's table, `--help` and `clickstamp config` say of it.
pub struct Variable {
    /// Name in the environment. The flag is the same without the prefix: `CLICKSTAMP_DATA_DIR` → `--data-dir`;
    /// in the file it is `data_dir`.
    pub name: &'static str,
    /// Text used when nobody sets it; empty for "not set".
    pub default: &'static str,
    /// One line for people.
    pub meaning: &'static str,
    /// Secrets are masked, and may stand in a file named by `NAME_FILE`.
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
        "CLICKSTAMP_PUBLIC_URL",
        "",
        "how browsers reach this server, with a path prefix if there is one; else taken from each request",
    ),
    plain("CLICKSTAMP_ADMIN_EMAIL", "", "creates the first user, together with the password"),
    secret("CLICKSTAMP_ADMIN_PASSWORD", "its password, at least 10 characters"),
    secret("CLICKSTAMP_API_TOKEN", "bearer token for the JSON API, at least 16 characters"),
    secret(
        "CLICKSTAMP_STRIPE_WEBHOOK_SECRET",
        "signing secret of source main (whsec_…); two, comma-separated, while rotating",
    ),
    secret(
        "CLICKSTAMP_STRIPE_API_KEY",
        "restricted key (rk_…) of the webhook `main`, for backfill, reconcile and thin events; read rights are enough; further webhooks have theirs under Settings",
    ),
    plain(
        "CLICKSTAMP_STRIPE_API_BASE",
        "https://api.stripe.com",
        "where Stripe's API is; for tests",
    ),
    secret(
        "CLICKSTAMP_ANYTRACK_URL",
        "the whole URL of your custom integration, as AnyTrack shows it",
    ),
    plain(
        "CLICKSTAMP_RETRY_SCHEDULE",
        "5s,30s,5m,30m,2h,5h,10h,10h,10h,12h,12h",
        "pauses between attempts of a delivery (ms, s, m, h)",
    ),
    plain(
        "CLICKSTAMP_DELIVERY_RATE",
        "10",
        "deliveries per second and destination; 0 lifts the limit",
    ),
    plain(
        "CLICKSTAMP_VISIT_RATE",
        "300",
        "visits per minute and address before 429; 0 lifts the limit",
    ),
    plain(
        "CLICKSTAMP_STOP_TIMEOUT",
        "8s",
        "the longest that an ordered stop may take (1s to 10m); keep it below the time after which your supervisor kills, 10 s with Docker",
    ),
    plain(
        "CLICKSTAMP_TRUSTED_PROXIES",
        "",
        "networks (CIDR, comma-separated) whose forwarded headers are believed",
    ),
    plain(
        "CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS",
        "false",
        "true allows delivery to loopback and private addresses, and plain http",
    ),
    plain(
        "CLICKSTAMP_SMTP_CA",
        "",
        "PEM file of certificates that the mail server of alerts may be signed by, beside the system’s own",
    ),
    plain(
        "CLICKSTAMP_RETENTION_DAYS",
        "keep",
        "days after which visits that led to no conversion are deleted; keep deletes none",
    ),
    plain(
        "CLICKSTAMP_METRICS",
        "false",
        "true serves /metrics for Prometheus, to whoever sends the API token",
    ),
    plain("CLICKSTAMP_LOG", "info", "what is logged, as a tracing filter"),
    plain("CLICKSTAMP_LOG_FORMAT", "text", "text or json"),
];

/// Every setting with its effective value and where it came from; secrets masked. For `clickstamp config`.
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
