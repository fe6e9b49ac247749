//! `clickstamp restore`, run as an operator would.

use std::path::{Path, PathBuf};

use crate::command::run;
use crate::harness::{Database, FakeDestination, Server};

/// A stopped installation with one sale, and a backup from before a second one. `None` on PostgreSQL.
struct Installation {
    database: Database,
    anytrack: FakeDestination,
    file: PathBuf,
    backup: String,
}

const SALES: &str = "select transaction_id from conversions order by 1";

impl Installation {
    async fn make() -> Option<Self> {
        let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
        if database.url.starts_with("postgres") {
            return None;
        }
        let mut server = Server::start(&database, &anytrack).await;
        server.sale("cs_live_1").await;
        server.says("tried a delivery").await;
        let backup = database.directory.join("copy.db").display().to_string();
        let (succeeded, said) = run(&["backup", &backup], &environment(&database), "").await;
        assert!(succeeded, "{said}");
        server.sale("cs_live_2").await;
        server.says("tried a delivery").await;
        // Killed, so that the newest rows are in the log only.
        server.kill().await;
        let file = database.directory.join("clickstamp.db");
        Some(Self { database, anytrack, file, backup })
    }

    async fn run(&self, arguments: &[&str], input: &str) -> (bool, String) {
        run(arguments, &environment(&self.database), input).await
    }
}

fn environment(database: &Database) -> [(&str, &str); 1] {
    [("CLICKSTAMP_DATABASE_URL", database.url.as_str())]
}

/// Names and bytes of everything in a directory, to see that nothing was changed. The lock file holds nothing.
fn content(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .expect("a readable directory")
        .map(|entry| entry.expect("a readable directory"))
        .filter(|entry| entry.path().is_file() && !entry.path().ends_with("clickstamp.lock"))
        .map(|entry| {
            (
                entry.file_name().display().to_string(),
                std::fs::read(entry.path()).expect("a readable directory"),
            )
        })
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn a_backup_takes_the_place_of_the_database_which_is_kept() {
    let Some(made) = Installation::make().await else { return };
    let before = content(&made.database.directory);
    let (succeeded, said) = made.run(&["restore", &made.backup], "n\n").await;
    assert!(!succeeded && said.contains("nothing was changed"), "{said}");
    for expected in ["1 visits", "1 conversions, the newest of 20", "is moved to"] {
        assert!(said.contains(expected), "{expected} is missing in {said}");
    }
    let (succeeded, _) = made.run(&["restore", &made.backup], "").await;
    assert!(!succeeded && content(&made.database.directory) == before, "without an answer");

    let (succeeded, said) = made.run(&["restore", &made.backup, "--yes"], "").await;
    assert!(succeeded && said.contains("Start the server now."), "{said}");
    assert_eq!(made.database.texts(SALES).await, ["cs_live_1"]);
    let kept: Vec<String> = said
        .lines()
        .filter_map(|line| {
            line.strip_prefix("Moved ")?.split_once(" to ").map(|two| two.1.to_owned())
        })
        .collect();
    assert!(kept.iter().any(|path| path.ends_with("-wal")), "its log goes with it: {kept:?}");
    let aside =
        Database { url: format!("sqlite://{}", kept[0]), directory: PathBuf::from("/nowhere") };
    assert_eq!(aside.texts(SALES).await, ["cs_live_1", "cs_live_2"]);
    let mut server = Server::start(&made.database, &made.anytrack).await;
    server.sale("cs_live_3").await;
    server.says("tried a delivery").await;
    assert!(server.stop().await);
    assert_eq!(made.database.texts(SALES).await, ["cs_live_1", "cs_live_3"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&made.file).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");
}

#[tokio::test]
async fn nothing_is_restored_below_a_running_server() {
    let Some(made) = Installation::make().await else { return };
    let mut server = Server::start(&made.database, &made.anytrack).await;
    let (succeeded, said) = made.run(&["restore", &made.backup, "--yes"], "").await;
    assert!(!succeeded && said.contains("is in use by another clickstamp process"), "{said}");
    server.sale("cs_live_3").await;
    assert!(server.stop().await);
    assert_eq!(made.database.number("select count(*) from stripe_events").await, 3);
}

#[tokio::test]
async fn a_copy_that_is_none_changes_nothing() {
    let Some(made) = Installation::make().await else { return };
    let whole = std::fs::read(&made.backup).unwrap();
    let mut random = whole.clone();
    random[8192..].fill(7);
    let newer = made.database.directory.join("newer.db");
    std::fs::write(&newer, &whole).unwrap();
    let connection = rusqlite::Connection::open(&newer).unwrap();
    let row = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, '', 1, x'', 0)";
    connection.execute(row, []).unwrap();
    drop(connection);
    let newer = std::fs::read(&newer).unwrap();
    let other = made.database.directory.join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute("create table t (a text)", []).unwrap();
    let other = std::fs::read(&other).unwrap();
    let rows: [(&str, &[u8], &str); 6] = [
        ("text", b"a text, and no database, though it is of more than a hundred bytes, which is as long as the header of one would be", "is not a SQLite database"),
        ("empty", b"", "is empty (0 bytes)"),
        ("half", &whole[..whole.len() / 2], "is damaged"),
        ("random", &random, "is damaged"),
        ("newer", &newer, "an older program"),
        ("other", &other, "not a database of Clickstamp"),
    ];
    for (name, bytes, expected) in rows {
        let copy = made.database.directory.join(format!("{name}.copy"));
        std::fs::write(&copy, bytes).unwrap();
        let before = content(&made.database.directory);
        let path = copy.display().to_string();
        let (succeeded, said) = made.run(&["restore", &path, "--yes"], "").await;
        assert!(!succeeded && said.contains(expected), "{name}: {said}");
        assert!(content(&made.database.directory) == before, "{name}: something was changed");
    }
    for (path, expected) in [
        ("/no/such/copy.db", "there is no file"),
        (made.file.to_str().unwrap(), "is the database itself"),
    ] {
        let (succeeded, said) = made.run(&["restore", path, "--yes"], "").await;
        assert!(!succeeded && said.contains(expected), "{said}");
    }
}

/// The trap: the copy is put over the file by hand, and the old log is left beside it.
#[tokio::test]
async fn a_log_of_another_database_is_found_before_anything_is_written() {
    let Some(made) = Installation::make().await else { return };
    std::fs::copy(&made.backup, &made.file).unwrap();
    let before = content(&made.database.directory);
    let (succeeded, said) = made.run(&[], "").await;
    assert!(!succeeded && said.contains("belongs to another database"), "{said}");
    let (succeeded, said) = made.run(&["user", "passwd", "ada@example.com"], "watercolor\n").await;
    assert!(!succeeded && said.contains("belongs to another database"), "{said}");
    assert!(content(&made.database.directory) == before);
    let (succeeded, said) = made.run(&["restore", &made.backup, "--yes"], "").await;
    assert!(succeeded, "{said}");
    assert_eq!(made.database.texts(SALES).await, ["cs_live_1"]);
    let mut server = Server::start(&made.database, &made.anytrack).await;
    assert_eq!(server.status("/readyz").await, 200);
    assert!(server.stop().await);
}

#[tokio::test]
async fn a_restore_that_was_killed_in_between_does_not_look_like_a_new_installation() {
    let Some(made) = Installation::make().await else { return };
    std::fs::copy(&made.backup, made.file.with_extension("db.restoring")).unwrap();
    for ending in ["db", "db-wal", "db-shm"] {
        std::fs::remove_file(made.file.with_extension(ending)).unwrap();
    }
    let (succeeded, said) = made.run(&[], "").await;
    assert!(!succeeded && said.contains("did not finish"), "{said}");
    let (succeeded, said) = made.run(&["restore", &made.backup, "--yes"], "").await;
    assert!(succeeded, "{said}");
    assert_eq!(made.database.texts(SALES).await, ["cs_live_1"]);
}

#[tokio::test]
async fn postgres_has_a_tool_of_its_own() {
    let environment = [("CLICKSTAMP_DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")];
    let (succeeded, said) = run(&["restore", "copy.db"], &environment, "").await;
    assert!(!succeeded && said.contains("pg_restore"), "{said}");
}
