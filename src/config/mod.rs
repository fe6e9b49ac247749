//! Configuration: every variable, its default and its validation.
//! Takes flags, environment and a file (in this order of precedence); returns one `Config`, or one
//! message that lists every invalid value.
//! Guarantees that nothing else reads the environment, and that no secret is ever printed.

mod parse;
mod reader;
mod sources;
mod values;
mod variables;

use std::fmt;

pub use parse::{parse_api_key, parse_webhook_secrets};
use reader::Reader;
pub use sources::Sources;
pub use values::{Config, Listen, LogFormat, Secret};
pub use variables::{VARIABLES, Variable, describe};

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

fn without_slash(url: &url::Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

impl Config {
    /// The base URL of the dashboard, without a trailing slash, if it has an origin of its own.
    pub(crate) fn pages_url(&self) -> Option<String> {
        self.dashboard_url.as_ref().map(without_slash)
    }

    /// The same, or else the public URL.
    pub fn configured_pages_url(&self) -> Option<String> {
        self.pages_url().or_else(|| self.public_url.as_ref().map(without_slash))
    }

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
    pub fn with(values: &[(&str, &str)]) -> Result<Self, ConfigFaults> {
        let flags =
            values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::read(&Sources { flags, ..Sources::default() }, |path| std::fs::read_to_string(path))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

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
            ("CLICKSTAMP_DASHBOARD_URL", "https://www.example.com/k"),
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
