//! Reads every setting and collects every error.
//! Takes the sources of values; returns a configuration, which is valid only if there was no error.
//! Guarantees that all errors are found in one go, and that none contains a secret.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::parse::{
    parse_api_base, parse_api_key, parse_dashboard_url, parse_listen, parse_log, parse_log_format,
    parse_networks, parse_public_url, parse_retention, parse_schedule, parse_stop_timeout,
    parse_webhook_secrets,
};
use super::sources::Sources;
use super::values::{Config, Listen, LogFormat, Secret};
use super::variables::VARIABLES;

pub(super) struct Reader<'a, F> {
    pub(super) sources: &'a Sources,
    pub(super) read_file: F,
    pub(super) faults: Vec<String>,
}

impl<F: Fn(&str) -> std::io::Result<String>> Reader<'_, F> {
    pub(super) fn check_name(&mut self, name: &str) {
        let base = name.strip_suffix("_FILE").unwrap_or(name);
        let known = |name: &str| VARIABLES.iter().find(|variable| variable.name == name);
        let fits = name == "CLICKSTAMP_CONFIG"
            || known(name).is_some()
            || known(base).is_some_and(|v| v.is_secret);
        if !fits {
            tracing::warn!(variable = name, "unknown setting; it is ignored");
        }
    }

    pub(super) fn config(&mut self) -> Config {
        let data_dir = PathBuf::from(self.text("CLICKSTAMP_DATA_DIR"));
        // Invalid UTF-8 in the environment was replaced; never create a directory under another
        // name.
        for name in ["CLICKSTAMP_DATA_DIR", "CLICKSTAMP_DATABASE_URL"] {
            if self.value(name).is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER)) {
                self.refuse(name, "it is not UTF-8; choose a directory with another name");
            }
        }
        let sqlite = format!("sqlite://{}", data_dir.join("clickstamp.db").display());
        Config {
            listen: self
                .parse("CLICKSTAMP_LISTEN", "write 127.0.0.1:8080 or unix:/path", parse_listen)
                .unwrap_or(Listen::Unix(PathBuf::new())),
            database_url: self.database_url().unwrap_or(Secret::new(sqlite)),
            data_dir,
            database_connections: self.read(
                "CLICKSTAMP_DATABASE_CONNECTIONS",
                "write a whole number from 4 to 1000",
                |text| text.parse().ok().filter(|number| (4..=1000).contains(number)),
            ),
            public_url: self.parse(
                "CLICKSTAMP_PUBLIC_URL",
                "write https://go.example.com, with a path prefix if there is one, without a query",
                parse_public_url,
            ),
            dashboard_url: self.parse(
                "CLICKSTAMP_DASHBOARD_URL",
                "write https://admin.example.com, without a path",
                parse_dashboard_url,
            ),
            admin: self.admin(),
            api_token: self.api_token(),
            stripe_webhook_secrets: self.webhook_secrets(),
            stripe_api_key: self.stripe_api_key(),
            stripe_api_base: self
                .parse(
                    "CLICKSTAMP_STRIPE_API_BASE",
                    "write https://api.stripe.com; plain http only for this machine itself",
                    parse_api_base,
                )
                .unwrap_or_else(|| Url::parse("https://api.stripe.com").expect("a URL")),
            anytrack_url: self.anytrack_url(),
            retry_schedule: self.read(
                "CLICKSTAMP_RETRY_SCHEDULE",
                "write pauses like 5s,30s,5m,2h; at most 50, each at most 30 days",
                parse_schedule,
            ),
            delivery_rate: self.number("CLICKSTAMP_DELIVERY_RATE"),
            visit_rate: self.number("CLICKSTAMP_VISIT_RATE"),
            stop_timeout: self.read(
                "CLICKSTAMP_STOP_TIMEOUT",
                "write one time like 8s, from 1s to 10m",
                parse_stop_timeout,
            ),
            trusted_proxies: self.read(
                "CLICKSTAMP_TRUSTED_PROXIES",
                "write networks like 10.0.0.0/8,127.0.0.1/32",
                parse_networks,
            ),
            allow_private_destinations: self.flag("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS"),
            smtp_ca: self.smtp_ca(),
            serves_metrics: self.serves_metrics(),
            retention_days: self.read(
                "CLICKSTAMP_RETENTION_DAYS",
                "write a whole number of days from 1 to 36500, or keep",
                parse_retention,
            ),
            log: self.read(
                "CLICKSTAMP_LOG",
                "write a tracing filter like info or clickstamp=debug",
                parse_log,
            ),
            log_format: self
                .parse("CLICKSTAMP_LOG_FORMAT", "write text or json", parse_log_format)
                .unwrap_or(LogFormat::Text),
        }
    }

    /// The configured value, read from a file for `NAME_FILE`, or the default; `None` if that is
    /// empty.
    fn value(&mut self, name: &str) -> Option<String> {
        let variable =
            VARIABLES.iter().find(|variable| variable.name == name).expect("a known name");
        if let Some(text) = self.sources.get(name) {
            return Some(text.to_owned());
        }
        if variable.is_secret
            && let Some(path) = self.sources.get(&format!("{name}_FILE"))
        {
            match (self.read_file)(path) {
                Ok(text) => return Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
                Err(error) => {
                    self.faults.push(format!("{name}_FILE: could not read {path}: {error}"))
                }
            }
        }
        Some(variable.default.to_owned()).filter(|text| !text.is_empty())
    }

    fn text(&mut self, name: &str) -> String {
        self.value(name).unwrap_or_default()
    }

    fn parse<T>(&mut self, name: &str, hint: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.value(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.faults.push(format!("{name}: {text:?} is not right; {hint}"));
        }
        parsed
    }

    /// The same, with a value to go on with when it is invalid.
    fn read<T: Default>(&mut self, name: &str, hint: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        self.parse(name, hint, parse).unwrap_or_default()
    }

    fn smtp_ca(&mut self) -> Option<String> {
        const NAME: &str = "CLICKSTAMP_SMTP_CA";
        let path = self.value(NAME)?;
        match (self.read_file)(&path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return Some(text),
            Ok(_) => self.faults.push(format!("{NAME}: {path} holds no certificate in PEM form")),
            Err(error) => self.faults.push(format!("{NAME}: could not read {path}: {error}")),
        }
        None
    }

    fn flag(&mut self, name: &str) -> bool {
        self.read(name, "write true or false", |text| bool::from_str(text).ok())
    }

    fn serves_metrics(&mut self) -> bool {
        const NAME: &str = "CLICKSTAMP_METRICS";
        let serves = self.flag(NAME);
        if serves && self.value("CLICKSTAMP_API_TOKEN").is_none() {
            self.refuse(NAME, "set CLICKSTAMP_API_TOKEN too: requests must send it");
        }
        serves
    }

    fn number(&mut self, name: &str) -> u32 {
        self.read(name, "write a whole number from 0 to 1000000", |text| {
            text.parse().ok().filter(|number| *number <= 1_000_000)
        })
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.faults.push(format!("{name}: {why}"));
    }

    fn database_url(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_DATABASE_URL";
        let url = self.value(NAME)?;
        let known = ["sqlite://", "postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !known {
            self.refuse(NAME, "it must start with sqlite:// or postgres://");
        }
        Some(Secret::new(url))
    }

    fn admin(&mut self) -> Option<(String, Secret)> {
        const EMAIL: &str = "CLICKSTAMP_ADMIN_EMAIL";
        const PASSWORD: &str = "CLICKSTAMP_ADMIN_PASSWORD";
        let (email, password) = (self.value(EMAIL), self.value(PASSWORD));
        let is_odd = |email: &str| !email.contains('@') || email.contains(char::is_whitespace);
        if email.as_deref().is_some_and(is_odd) {
            self.refuse(EMAIL, "it is not an email address");
        }
        match (email, password) {
            (Some(_), Some(password)) if password.chars().count() < 10 => {
                self.refuse(PASSWORD, "it must have at least 10 characters");
            }
            (Some(email), Some(password)) => {
                return Some((email.to_lowercase(), Secret::new(password)));
            }
            (Some(_), None) => {
                self.refuse(PASSWORD, &format!("it must be set together with {EMAIL}"))
            }
            (None, Some(_)) => {
                self.refuse(EMAIL, &format!("it must be set together with {PASSWORD}"))
            }
            (None, None) => {}
        }
        None
    }

    fn api_token(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_API_TOKEN";
        let token = self.value(NAME)?;
        if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            self.refuse(NAME, "it must have at least 16 visible ASCII characters");
        }
        Some(Secret::new(token))
    }

    fn webhook_secrets(&mut self) -> Vec<Secret> {
        const NAME: &str = "CLICKSTAMP_STRIPE_WEBHOOK_SECRET";
        let text = self.text(NAME);
        parse_webhook_secrets(&text).unwrap_or_else(|fault| {
            self.refuse(NAME, &fault);
            Vec::new()
        })
    }

    fn stripe_api_key(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_STRIPE_API_KEY";
        let key = self.value(NAME)?;
        parse_api_key(&key).map_err(|fault| self.refuse(NAME, fault)).ok()
    }

    fn anytrack_url(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_ANYTRACK_URL";
        let url = self.value(NAME)?;
        let fits = Url::parse(&url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !fits {
            self.refuse(NAME, "it is not a URL; paste it whole, as AnyTrack shows it");
        }
        Some(Secret::new(url))
    }
}
