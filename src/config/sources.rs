//! Where values come from: flags, environment and a file.
//! Takes texts by the names of variables; returns the one that wins.
//! Guarantees that only our own variables are read from the environment.

use std::collections::BTreeMap;
use std::path::PathBuf;

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

    pub(super) fn get(&self, name: &str) -> Option<&str> {
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
