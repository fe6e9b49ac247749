//! The database migrations, compiled into the program.
//! Takes the files of `migrations/`; returns the migrator.
//! Guarantees that no file is forgotten: a test compares the list with the directory. sqlx's own
//! macro does the same, but its feature compiles both drivers a second time on the build machine.

use std::sync::LazyLock;

use anyhow::anyhow;
use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

macro_rules! files {
    ($($name:literal,)+) => {
        [$(($name, include_str!(concat!("../../migrations/", $name, ".sql")))),+]
    };
}

/// All files by name, in order. A released one never changes.
static FILES: [(&str, &str); 28] = files! {
    "0001_first",
    "0002_tag_settings",
    "0003_payments",
    "0004_destinations",
    "0005_stripe_api",
    "0006_custom",
    "0007_links",
    "0008_page_events",
    "0009_provisional_visits",
    "0010_visits",
    "0011_source_api_keys",
    "0012_stripe_lookups",
    "0013_alerts",
    "0014_registrations",
    "0015_visit_sums",
    "0016_expiring",
    "0017_conversion_sums",
    "0020_captures_and_receipts",
    "0024_lookups",
    "0025_held_events",
    "0028_renewals_apart",
    "0032_settings_revision",
    "0033_messages_apart",
    "0036_copies",
    "0042_login_tries",
    "0043_no_api_tokens",
    "0044_events_apart",
    "0045_cookieless",
};

/// All migrations, for both databases.
pub(super) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| Migrator::with_migrations(FILES.into_iter().map(read).collect()));

/// The file `0001_first` is version 1 with the description `first`.
fn read((name, text): (&'static str, &'static str)) -> Migration {
    let (version, description) = name.split_once('_').expect("a number, then a name");
    Migration::new(
        version.parse().expect("a number"),
        description.replace('_', " ").into(),
        MigrationType::Simple,
        text.into_sql_str(),
        false,
    )
}

/// Explains why the migrations failed.
pub(super) fn not_migrated(error: MigrateError) -> anyhow::Error {
    if let MigrateError::VersionMissing(version) = error {
        return anyhow!(
            "the database was written by a newer version of clickstamp (its tables are at {version}), and this is an older \
             program. Nothing was changed. Start the newer version again, or restore a backup from before the update"
        );
    }
    anyhow::Error::new(error).context("could not run the migrations")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::FILES;

    #[test]
    fn every_file_of_the_directory_is_listed_in_order() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let files = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let listed: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.sql")).collect();
        assert_eq!(listed, names);
    }
}
