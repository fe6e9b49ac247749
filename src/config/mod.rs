//! Configuration: every variable, its default and its validation.
//! Takes flags, environment and a file (in this order of precedence); returns one `Config`, or one
//! message that lists every invalid value.
//! Guarantees that nothing else reads the environment, and that no secret is ever printed.

mod parse;
mod reader;
mod variables;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub use parse::{parse_api_key, parse_webhook_secrets};
use reader::Reader;
pub use variables::{VARIABLES, Variable, describe};

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

/// All errors of a configuration, as one message.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<String>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is invalid:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}

/// The sources of values; an earlier one wins. Keys are variable names.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Command line.
    pub flags: BTreeMap<String, String>,
    /// Environment.
    pub environment: BTreeMap<String, String>,
    /// File.
    pub file: BTreeMap<String, String>,
}

impl Sources {
    /// The process's environment, limited to our variables.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn environment() -> BTreeMap<String, String> {
        // Variables may contain any bytes. Invalid UTF-8 in ours is replaced, and rejected where it
        // names a file.
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .filter(|(name, _)| name.starts_with("CLICKSTAMP_"))
            .collect()
    }

    /// Reads a TOML file of `name = "value"` lines (`data_dir = "/var/lib/clickstamp"`); lists
    /// become comma-separated text.
    ///
    /// # Errors
    /// Names the line that is not TOML, or the value that is not a text, number, flag or list of
    /// texts.
    pub fn parse_file(text: &str) -> Result<BTreeMap<String, String>, String> {
        let table = text.parse::<toml::Table>().map_err(|error| error.to_string())?;
        table
            .into_iter()
            .map(|(key, value)| Ok((variable_name(&key), text_of(&key, value)?)))
            .collect()
    }

    /// The machine's directory for temporary files (`TMPDIR`).
    pub fn temporary_directory() -> PathBuf {
        std::env::temp_dir()
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .flags
            .get(name)
            .or_else(|| self.environment.get(name))
            .or_else(|| self.file.get(name));
        found.map(|text| text.trim()).filter(|text| !text.is_empty())
    }
}

fn variable_name(key: &str) -> String {
    format!("CLICKSTAMP_{}", key.to_ascii_uppercase())
}

fn text_of(key: &str, value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Array(list) => {
            let texts: Result<Vec<_>, _> =
                list.into_iter().map(|item| text_of(key, item)).collect();
            Ok(texts?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => {
            Err(format!("{key}: write text, a number, true or false, or a list of text"))
        }
    }
}

impl Config {
    /// Reads and validates everything. `read_file` reads the file that a `NAME_FILE` variable
    /// names.
    ///
    /// # Errors
    /// All errors at once; they do not contain the values of secrets.
    pub fn read(
        sources: &Sources,
        read_file: impl Fn(&str) -> std::io::Result<String>,
    ) -> Result<Self, ConfigFaults> {
        let mut reader = Reader { sources, read_file, faults: Vec::new() };
        for name in
            sources.flags.keys().chain(sources.environment.keys()).chain(sources.file.keys())
        {
            reader.check_name(name);
        }
        let config = reader.config();
        if reader.faults.is_empty() { Ok(config) } else { Err(ConfigFaults(reader.faults)) }
    }

    /// A configuration with only defaults and the given values, for tests and the demo.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn with(values: &[(&str, &str)]) -> Result<Self, ConfigFaults> {
        let flags =
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::read(&Sources { flags, ..Sources::default() }, |path| std::fs::read_to_string(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(values: &[(&str, &str)]) -> Vec<String> {
        Config::with(values).err().map(|faults| faults.0).unwrap_or_default()
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        let config = Config::with(&[]).unwrap();
        assert_eq!(config.listen, Listen::Tcp("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(config.database_url.expose(), "sqlite://./data/clickstamp.db");
        assert_eq!(config.retry_schedule.len(), 11);
        assert_eq!(config.retry_schedule[2], Duration::from_secs(300));
        assert_eq!((config.delivery_rate, config.visit_rate), (10, 300));
        assert_eq!(config.stop_timeout, Duration::from_secs(8));
        assert!(!config.allow_private_destinations);
        assert_eq!(config.retention_days, None);
    }

    #[test]
    fn retention_is_a_number_of_days_or_keep() {
        let read = |text| {
            let config = Config::with(&[("CLICKSTAMP_RETENTION_DAYS", text)]);
            config.ok().map(|config| config.retention_days)
        };
        let good = [("keep", None), ("1", Some(1)), ("36500", Some(36_500)), ("", None)];
        for (text, expected) in good {
            assert_eq!(read(text), Some(expected), "{text}");
        }
        for text in ["0", "-1", "36501", "90d", "Keep", "1.5"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_directory_whose_name_was_not_utf_8_is_refused() {
        let found = faults(&[("CLICKSTAMP_DATA_DIR", "/var/caf\u{fffd}")]);
        assert!(found[0].starts_with("CLICKSTAMP_DATA_DIR: it is not UTF-8"), "{found:?}");
    }

    #[test]
    fn every_bad_value_is_named_in_one_message_and_no_secret_is_repeated() {
        let bad = [
            ("CLICKSTAMP_LISTEN", "everywhere"),
            ("CLICKSTAMP_DATABASE_URL", "mysql://user:hunter2@host"),
            ("CLICKSTAMP_DATABASE_CONNECTIONS", "3"),
            ("CLICKSTAMP_PUBLIC_URL", "go.example.com"),
            ("CLICKSTAMP_ADMIN_EMAIL", "nobody"),
            ("CLICKSTAMP_API_TOKEN", "hunter2"),
            ("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "sk_live_hunter2"),
            ("CLICKSTAMP_STRIPE_API_KEY", "whsec_hunter2"),
            ("CLICKSTAMP_STRIPE_API_BASE", "http://api.stripe.com"),
            ("CLICKSTAMP_ANYTRACK_URL", "hunter2"),
            ("CLICKSTAMP_RETRY_SCHEDULE", "5s,soon"),
            ("CLICKSTAMP_DELIVERY_RATE", "-1"),
            ("CLICKSTAMP_VISIT_RATE", "many"),
            ("CLICKSTAMP_STOP_TIMEOUT", "8s,9s"),
            ("CLICKSTAMP_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "yes"),
            ("CLICKSTAMP_RETENTION_DAYS", "0"),
            ("CLICKSTAMP_METRICS", "on"),
            ("CLICKSTAMP_LOG", "clickstamp=loud"),
            ("CLICKSTAMP_LOG_FORMAT", "xml"),
        ];
        let found = faults(&bad);
        for (name, _) in bad {
            assert!(
                found.iter().any(|fault| fault.starts_with(name)),
                "{name} is missing in {found:#?}"
            );
        }
        assert!(found.iter().any(|fault| fault.starts_with("CLICKSTAMP_ADMIN_PASSWORD")));
        assert!(!format!("{found:?}").contains("hunter2"));
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let one =
            |value: &str| BTreeMap::from([("CLICKSTAMP_VISIT_RATE".to_owned(), value.to_owned())]);
        let mut sources = Sources { flags: one("1"), environment: one("2"), file: one("3") };
        let rate =
            |sources: &Sources| Config::read(sources, |_| unreachable!()).unwrap().visit_rate;
        assert_eq!(rate(&sources), 1);
        sources.flags.clear();
        assert_eq!(rate(&sources), 2);
        sources.environment.clear();
        assert_eq!(rate(&sources), 3);
    }

    #[test]
    fn a_secret_may_stand_in_a_file() {
        let environment =
            BTreeMap::from([("CLICKSTAMP_API_TOKEN_FILE".to_owned(), "/run/token".to_owned())]);
        let sources = Sources { environment, ..Sources::default() };
        let config = Config::read(&sources, |path| Ok(format!("{path}-0123456789\n"))).unwrap();
        assert_eq!(config.api_token.unwrap().expose(), "/run/token-0123456789");
        let missing =
            Config::read(&sources, |_| Err(std::io::ErrorKind::NotFound.into())).unwrap_err();
        assert!(missing.0[0].starts_with("CLICKSTAMP_API_TOKEN_FILE"));
    }

    #[test]
    fn debug_and_describe_hide_secrets() {
        let values = [
            ("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "whsec_hunter2"),
            ("CLICKSTAMP_ANYTRACK_URL", "https://t/hunter2"),
        ];
        assert!(!format!("{:?}", Config::with(&values).unwrap()).contains("hunter2"));
        let flags =
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let described = describe(&Sources { flags, ..Sources::default() });
        assert!(!format!("{described:?}").contains("hunter2"));
        assert_eq!(described.len(), VARIABLES.len());
    }

    #[test]
    fn metrics_want_a_token_to_ask_for() {
        let alone = faults(&[("CLICKSTAMP_METRICS", "true")]);
        assert!(alone[0].starts_with("CLICKSTAMP_METRICS: set CLICKSTAMP_API_TOKEN"), "{alone:?}");
        let both = [("CLICKSTAMP_METRICS", "true"), ("CLICKSTAMP_API_TOKEN", "0123456789abcdef")];
        assert!(Config::with(&both).unwrap().serves_metrics);
        assert!(!Config::with(&[("CLICKSTAMP_METRICS", "false")]).unwrap().serves_metrics);
    }

    #[test]
    fn a_file_of_settings_is_toml() {
        let file = Sources::parse_file(
            "listen = \"127.0.0.1:9\"\nvisit_rate = 5\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]",
        );
        let config = Config::read(
            &Sources { file: file.unwrap(), ..Sources::default() },
            |_| unreachable!(),
        )
        .unwrap();
        assert_eq!((config.visit_rate, config.trusted_proxies.len()), (5, 2));
        assert!(Sources::parse_file("listen: nowhere").is_err());
        assert!(Sources::parse_file("[listen]").is_err());
    }

    #[test]
    fn webhook_secrets_are_trimmed_and_counted() {
        let exposed = |text: &str| {
            parse_webhook_secrets(text)
                .map(|s| s.iter().map(|s| s.expose().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(exposed(" whsec_a , ,whsec_b,whsec_a").unwrap(), ["whsec_a", "whsec_b"]);
        assert!(exposed("a,b,c,d,e").is_err());
        assert!(exposed("pk_live_1").unwrap_err().contains("pk_"));
    }
}
