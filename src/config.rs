//! Configuration: every variable, its default, its check.
//! In: flags, environment, a file (in this order of precedence). Out: one `Config`, or one message that names every bad value.
//! Promise: nothing else reads the environment, and no secret is ever printed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use tracing_subscriber::filter::Targets;
use url::Url;

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
    plain("CLICKSTAMP_LOG", "info", "what is logged, as a tracing filter"),
    plain("CLICKSTAMP_LOG_FORMAT", "text", "text or json"),
];

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

    /// Its last four characters, by which its owner tells it from another one.
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
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

/// Everything the operator decides. What users change in the dashboard is a record in `settings` instead.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the server listens.
    pub listen: Listen,
    /// Directory of the SQLite file.
    pub data_dir: PathBuf,
    /// `sqlite://…` or `postgres://…`; may hold a password.
    pub database_url: Secret,
    /// How browsers reach us, without a trailing slash; `None` means: as each request says.
    pub public_url: Option<Url>,
    /// The first user's address and password.
    pub admin: Option<(String, Secret)>,
    /// Bearer token with read and retry rights.
    pub api_token: Option<Secret>,
    /// Signing secrets of source `main`; empty when the dashboard sets them.
    pub stripe_webhook_secrets: Vec<Secret>,
    /// Restricted key of Stripe's API, for backfill, reconciliation and thin events.
    pub stripe_api_key: Option<Secret>,
    /// Where Stripe's API is.
    pub stripe_api_base: Url,
    /// URL of destination `anytrack`.
    pub anytrack_url: Option<Secret>,
    /// Pauses between attempts: n pauses, n+1 attempts.
    pub retry_schedule: Vec<Duration>,
    /// Deliveries per second and destination; 0 is no limit.
    pub delivery_rate: u32,
    /// Visits per minute and address; 0 is no limit.
    pub visit_rate: u32,
    /// Networks whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether deliveries may go to loopback and private addresses.
    pub allow_private_destinations: bool,
    /// Certificates in PEM form that a mail server's may be signed by, beside the system's.
    pub smtp_ca: Option<String>,
    /// Days after which visits that led to nothing go; `None` keeps them.
    pub retention_days: Option<u32>,
    /// Tracing filter.
    pub log: String,
    /// Form of the log.
    pub log_format: LogFormat,
}

/// Every fault of a configuration, for one message.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<String>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not right:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigFaults {}

/// Where values come from; earlier beats later. Keys are variable names.
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
    /// The process's environment; only variables of ours.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn environment() -> BTreeMap<String, String> {
        std::env::vars().filter(|(name, _)| name.starts_with("CLICKSTAMP_")).collect()
    }

    /// Reads a TOML file of `name = "value"` lines (`data_dir = "/var/lib/clickstamp"`); lists become comma-separated text.
    ///
    /// # Errors
    /// Names the line that is no TOML, or the value that is neither text, number, flag nor a list of text.
    pub fn parse_file(text: &str) -> Result<BTreeMap<String, String>, String> {
        let table = text.parse::<toml::Table>().map_err(|error| error.to_string())?;
        table
            .into_iter()
            .map(|(key, value)| Ok((variable_name(&key), text_of(&key, value)?)))
            .collect()
    }

    /// Where this machine keeps what need not last (`TMPDIR`).
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
    /// Reads and checks everything. `read_file` opens the file a `NAME_FILE` variable points at.
    ///
    /// # Errors
    /// All faults at once; values of secrets are not repeated in them.
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

struct Reader<'a, F> {
    sources: &'a Sources,
    read_file: F,
    faults: Vec<String>,
}

impl<F: Fn(&str) -> std::io::Result<String>> Reader<'_, F> {
    fn check_name(&mut self, name: &str) {
        let base = name.strip_suffix("_FILE").unwrap_or(name);
        let known = |name: &str| VARIABLES.iter().find(|variable| variable.name == name);
        let fits = name == "CLICKSTAMP_CONFIG"
            || known(name).is_some()
            || known(base).is_some_and(|v| v.is_secret);
        if !fits {
            tracing::warn!(variable = name, "there is no such setting; it is ignored");
        }
    }

    fn config(&mut self) -> Config {
        let data_dir = PathBuf::from(self.text("CLICKSTAMP_DATA_DIR"));
        let sqlite = format!("sqlite://{}", data_dir.join("clickstamp.db").display());
        Config {
            listen: self
                .parse("CLICKSTAMP_LISTEN", "write 127.0.0.1:8080 or unix:/path", parse_listen)
                .unwrap_or(Listen::Unix(PathBuf::new())),
            database_url: self.database_url().unwrap_or(Secret(sqlite)),
            data_dir,
            public_url: self.parse(
                "CLICKSTAMP_PUBLIC_URL",
                "write https://go.example.com, with a path prefix if there is one, without a query",
                parse_public_url,
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
            retry_schedule: self
                .parse(
                    "CLICKSTAMP_RETRY_SCHEDULE",
                    "write pauses like 5s,30s,5m,2h; at most 50, each at most 30 days",
                    parse_schedule,
                )
                .unwrap_or_default(),
            delivery_rate: self.number("CLICKSTAMP_DELIVERY_RATE"),
            visit_rate: self.number("CLICKSTAMP_VISIT_RATE"),
            trusted_proxies: self
                .parse(
                    "CLICKSTAMP_TRUSTED_PROXIES",
                    "write networks like 10.0.0.0/8,127.0.0.1/32",
                    parse_networks,
                )
                .unwrap_or_default(),
            allow_private_destinations: self
                .parse("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "write true or false", |text| {
                    bool::from_str(text).ok()
                })
                .unwrap_or_default(),
            smtp_ca: self.smtp_ca(),
            retention_days: self
                .parse(
                    "CLICKSTAMP_RETENTION_DAYS",
                    "write a whole number of days from 1 to 36500, or keep",
                    parse_retention,
                )
                .unwrap_or_default(),
            log: self
                .parse(
                    "CLICKSTAMP_LOG",
                    "write a tracing filter like info or clickstamp=debug",
                    parse_log,
                )
                .unwrap_or_default(),
            log_format: self
                .parse("CLICKSTAMP_LOG_FORMAT", "write text or json", parse_log_format)
                .unwrap_or(LogFormat::Text),
        }
    }

    /// The value as set, from a file for `NAME_FILE`, or the default; `None` when that is empty.
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

    fn number(&mut self, name: &str) -> u32 {
        self.parse(name, "write a whole number from 0 to 1000000", |text| {
            text.parse().ok().filter(|number| *number <= 1_000_000)
        })
        .unwrap_or_default()
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
        Some(Secret(url))
    }

    fn admin(&mut self) -> Option<(String, Secret)> {
        let email = self.value("CLICKSTAMP_ADMIN_EMAIL");
        let password = self.value("CLICKSTAMP_ADMIN_PASSWORD");
        if email
            .as_deref()
            .is_some_and(|email| !email.contains('@') || email.contains(char::is_whitespace))
        {
            self.refuse("CLICKSTAMP_ADMIN_EMAIL", "it is not an e-mail address");
        }
        match (email, password) {
            (Some(_), Some(password)) if password.chars().count() < 10 => {
                self.refuse("CLICKSTAMP_ADMIN_PASSWORD", "it must have at least 10 characters");
                None
            }
            (Some(email), Some(password)) => Some((email.to_lowercase(), Secret(password))),
            (Some(_), None) => {
                self.refuse(
                    "CLICKSTAMP_ADMIN_PASSWORD",
                    "it must be set together with CLICKSTAMP_ADMIN_EMAIL",
                );
                None
            }
            (None, Some(_)) => {
                self.refuse(
                    "CLICKSTAMP_ADMIN_EMAIL",
                    "it must be set together with CLICKSTAMP_ADMIN_PASSWORD",
                );
                None
            }
            (None, None) => None,
        }
    }

    fn api_token(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_API_TOKEN";
        let token = self.value(NAME)?;
        if token.len() < 16 || !token.bytes().all(|b| b.is_ascii_graphic()) {
            self.refuse(NAME, "it must have at least 16 visible ASCII characters");
        }
        Some(Secret(token))
    }

    fn webhook_secrets(&mut self) -> Vec<Secret> {
        const NAME: &str = "CLICKSTAMP_STRIPE_WEBHOOK_SECRET";
        let text = self.text(NAME);
        match parse_webhook_secrets(&text) {
            Ok(secrets) => secrets,
            Err(fault) => {
                self.refuse(NAME, &fault);
                Vec::new()
            }
        }
    }

    fn stripe_api_key(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_STRIPE_API_KEY";
        let key = self.value(NAME)?;
        match parse_api_key(&key) {
            Ok(key) => Some(key),
            Err(fault) => {
                self.refuse(NAME, fault);
                None
            }
        }
    }

    fn anytrack_url(&mut self) -> Option<Secret> {
        const NAME: &str = "CLICKSTAMP_ANYTRACK_URL";
        let url = self.value(NAME)?;
        let fits = Url::parse(&url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !fits {
            self.refuse(NAME, "it is not a URL; paste it whole, as AnyTrack shows it");
        }
        Some(Secret(url))
    }
}

/// Reads one to four signing secrets, comma-separated. Blanks and repeats are dropped.
///
/// # Errors
/// A sentence for the owner: an API key instead of a secret, or too many. The value is not repeated.
pub fn parse_webhook_secrets(text: &str) -> Result<Vec<Secret>, String> {
    let mut secrets: Vec<Secret> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if let Some(kind) = ["sk_", "rk_", "pk_"].into_iter().find(|kind| part.starts_with(kind)) {
            return Err(format!(
                "That was an API key: it started with {kind}. The signing secret starts with whsec_ and stands on the \
                 endpoint's own page in Stripe."
            ));
        }
        if !part.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                "A signing secret has no blanks or letters outside ASCII inside.".to_owned()
            );
        }
        if !secrets.iter().any(|known| known.expose() == part) {
            secrets.push(Secret::new(part));
        }
    }
    if secrets.len() > 4 {
        return Err("At most four signing secrets can be in use at a time.".to_owned());
    }
    Ok(secrets)
}

/// A key of Stripe's API.
///
/// # Errors
/// What is wrong with it, for a sentence that begins with its name. The value is not repeated.
pub fn parse_api_key(text: &str) -> Result<Secret, &'static str> {
    const STARTS: [&str; 4] = ["rk_live_", "rk_test_", "sk_live_", "sk_test_"];
    if text.starts_with("whsec_") {
        return Err("that is a signing secret; an API key starts with rk_");
    }
    let is_key = STARTS.iter().any(|start| text.starts_with(start))
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match is_key {
        true => Ok(Secret::new(text)),
        false => {
            Err("an API key starts with rk_live_ or rk_test_ and has letters, digits and _ only")
        }
    }
}

fn parse_listen(text: &str) -> Option<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Listen::Unix(PathBuf::from(path)));
    }
    let address = text.parse().ok().or_else(|| {
        let port = text.strip_prefix("localhost:")?;
        format!("127.0.0.1:{port}").parse().ok()
    });
    address.map(Listen::Tcp)
}

fn parse_public_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim_end_matches('/')).ok()?;
    let fits = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    fits.then_some(url)
}

fn parse_api_base(text: &str) -> Option<Url> {
    let url = parse_public_url(text)?;
    let is_local = url.host().is_some_and(|host| match host {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    });
    (url.scheme() == "https" || is_local).then_some(url)
}

fn parse_schedule(text: &str) -> Option<Vec<Duration>> {
    let pauses: Vec<Duration> =
        text.split(',').map(|part| parse_duration(part.trim())).collect::<Option<_>>()?;
    (pauses.len() <= 50).then_some(pauses)
}

/// Reads `250ms`, `5s`, `30m`, `2h`; `None` for anything else, and for more than 30 days.
fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let pause = Duration::from_millis(number.checked_mul(ms)?);
    (pause <= Duration::from_secs(30 * 86_400)).then_some(pause)
}

fn parse_networks(text: &str) -> Option<Vec<IpNet>> {
    let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let network =
        |part: &str| part.parse().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from));
    networks.map(network).collect()
}

fn parse_retention(text: &str) -> Option<Option<u32>> {
    if text == "keep" {
        return Some(None);
    }
    text.parse().ok().filter(|days| (1..=36_500).contains(days)).map(Some)
}

fn parse_log(text: &str) -> Option<String> {
    text.parse::<Targets>().ok().map(|_| text.to_owned())
}

fn parse_log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

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
    fn every_bad_value_is_named_in_one_message_and_no_secret_is_repeated() {
        let bad = [
            ("CLICKSTAMP_LISTEN", "everywhere"),
            ("CLICKSTAMP_DATABASE_URL", "mysql://user:hunter2@host"),
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
            ("CLICKSTAMP_TRUSTED_PROXIES", "10.0.0.0/33"),
            ("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "yes"),
            ("CLICKSTAMP_RETENTION_DAYS", "0"),
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
