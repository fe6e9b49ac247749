//! What a start makes of the files it finds.

use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;
use std::time::Duration;

use clickstamp::clock::Clock;

use crate::command::run;
use crate::harness::{Database, FakeDestination, Server, program};

/// A stopped installation with one sale; `None` on PostgreSQL.
async fn stopped() -> Option<(Database, FakeDestination)> {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    if database.url.starts_with("postgres") {
        return None;
    }
    let mut server = Server::start(&database, &anytrack).await;
    server.sale("cs_live_1").await;
    server.says("tried a delivery").await;
    assert!(server.stop().await);
    Some((database, anytrack))
}

#[tokio::test]
async fn a_damaged_file_is_named_at_once_with_what_to_do() {
    let Some((database, _anytrack)) = stopped().await else { return };
    let file = database.directory.join("clickstamp.db");
    let whole = std::fs::read(&file).unwrap();
    let header = [&[0; 100], &whole[100..]].concat();
    let mut random = whole.clone();
    let pages = random.len() / 4096;
    for page in (2..pages).step_by(3) {
        random[page * 4096..(page + 1) * 4096].fill(0x5a);
    }
    let rows: [(&str, &[u8], &str); 5] = [
        ("a text", b"what somebody wrote into the wrong window, and more than a hundred bytes of it, so that it could be a header", "is not a SQLite database"),
        ("the header", &header, "is not a SQLite database"),
        ("half", &whole[..whole.len() / 2], "is damaged"),
        ("random pages", &random, "is damaged"),
        ("nothing", b"", "is empty (0 bytes)"),
    ];
    for (name, bytes, expected) in rows {
        std::fs::write(&file, bytes).unwrap();
        for arguments in [&["serve"][..], &["prune", "--retention-days", "9"]] {
            if arguments[0] == "prune" && name == "random pages" {
                continue; // Commands look at the first page only.
            }
            let watch = Clock::stopwatch();
            let (succeeded, said) =
                run(arguments, &[("CLICKSTAMP_DATABASE_URL", &database.url)], "").await;
            assert!(!succeeded && said.contains(expected), "{name}: {said}");
            assert!(said.contains("clickstamp restore FILE"), "{name}: {said}");
            assert_eq!(said.lines().count(), 1, "{name}: {said}");
            assert!(watch.elapsed() < Duration::from_secs(10), "{name}");
            assert!(std::fs::read(&file).unwrap() == bytes, "{name}: it was changed");
        }
    }
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_a_new_installation() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    if database.url.starts_with("postgres") {
        return;
    }
    let mut server = Server::start(&database, &anytrack).await;
    server.sale("cs_live_1").await;
    server.kill().await;
    std::fs::remove_file(database.directory.join("clickstamp.db")).unwrap();
    let environment = [("CLICKSTAMP_DATABASE_URL", database.url.as_str())];
    let (succeeded, said) = run(&[], &environment, "").await;
    assert!(!succeeded && said.contains("is missing, but its log"), "{said}");
    assert!(!database.directory.join("clickstamp.db").exists());
}

#[tokio::test]
async fn a_directory_may_have_any_name_that_is_text() {
    for name in ["a b", "what?mode=ro", "50%20off", "a#b", "ü", "..%2f"] {
        let (mut database, anytrack) = (Database::create().await, FakeDestination::start().await);
        if database.url.starts_with("postgres") {
            return;
        }
        let directory = database.directory.join(name);
        let file = directory.join("clickstamp.db");
        database.url = format!("sqlite://{}", file.display());
        let mut server = Server::start(&database, &anytrack).await;
        server.sale("cs_live_1").await;
        server.says("tried a delivery").await;
        let copy = directory.join("copy.db");
        let environment = [("CLICKSTAMP_DATABASE_URL", database.url.as_str())];
        let copied = run(&["backup", copy.to_str().unwrap()], &environment, "").await;
        assert!(copied.0, "{name}: {}", copied.1);
        let (succeeded, said) = run(&["replay"], &environment, "").await;
        assert!(succeeded && said.contains("no differences"), "{name}: {said}");
        assert!(server.stop().await);
        for file in [file, copy] {
            let connection = rusqlite::Connection::open(&file).unwrap();
            let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(count("select count(*) from visits"), 1, "{name}: the writer's");
            assert_eq!(count("select count(*) from conversions"), 1, "{name}: the pool's");
        }
        let others = std::fs::read_dir(&database.directory).unwrap().count();
        assert_eq!(others, 1, "{name}: nothing was made beside it");
    }
}

#[tokio::test]
async fn a_name_that_is_no_text_is_refused_and_others_variables_may_hold_anything() {
    let database = Database::create().await;
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9");
    let started = async |variable: &str, value: &std::ffi::OsStr| {
        let output = program().arg("config").env(variable, value).stdin(Stdio::null()).output();
        let output = output.await.expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let directory = database.directory.join(name);
    let (succeeded, said) = started("CLICKSTAMP_DATA_DIR", directory.as_os_str()).await;
    assert!(!succeeded && said.contains("CLICKSTAMP_DATA_DIR: it is not UTF-8"), "{said}");
    let (succeeded, said) = started("SOMEBODY_ELSES", name).await;
    assert!(succeeded, "{said}");
}

#[tokio::test]
async fn a_second_server_does_not_start_when_the_lock_file_was_removed() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    if database.url.starts_with("postgres") {
        return;
    }
    let mut server = Server::start(&database, &anytrack).await;
    std::fs::remove_file(database.directory.join("clickstamp.lock")).unwrap();
    let environment =
        [("CLICKSTAMP_DATABASE_URL", database.url.as_str()), ("CLICKSTAMP_LISTEN", "127.0.0.1:0")];
    let (succeeded, said) = run(&[], &environment, "").await;
    assert!(!succeeded && said.contains("is in use by another clickstamp process"), "{said}");
    server.sale("cs_live_1").await;
    assert!(server.stop().await);
}

#[tokio::test]
async fn what_a_killed_backup_left_is_removed_and_a_living_one_is_not_disturbed() {
    let Some((database, anytrack)) = stopped().await else { return };
    let backups = database.directory.join("backups");
    std::fs::create_dir_all(&backups).unwrap();
    let (left, living) = (backups.join("a.db.unfinished"), backups.join("b.db.unfinished"));
    let other = backups.join("notes.unfinished.txt");
    for path in [&left, &living, &other] {
        std::fs::write(path, "half").unwrap();
    }
    let held = std::fs::File::open(&living).unwrap();
    held.lock().unwrap();
    let data = database.directory.display().to_string();
    let environment = [("CLICKSTAMP_DATA_DIR", data.as_str())];
    let (succeeded, said) = run(&["backup"], &environment, "").await;
    assert!(succeeded, "{said}");
    assert!(!left.exists() && living.exists() && other.exists());
    std::fs::write(&left, "half").unwrap();
    let mut server = Server::start(&database, &anytrack).await;
    assert_eq!(server.status("/healthz").await, 200);
    assert!(!left.exists() && living.exists() && other.exists(), "at a start too");
    assert!(server.stop().await);
    let path = living.display().to_string();
    let (succeeded, said) =
        run(&["backup", path.trim_end_matches(".unfinished")], &environment, "").await;
    assert!(!succeeded && said.contains("another backup is writing"), "{said}");
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_in_words() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let mut server = Server::start(&database, &anytrack).await;
    assert_eq!(server.status("/healthz").await, 200);
    assert!(server.stop().await);
    database
        .change(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
             select 9999, 'later', success, checksum, 0 from _sqlx_migrations where version = 1",
        )
        .await;
    let environment = [("CLICKSTAMP_DATABASE_URL", database.url.as_str())];
    for arguments in [&["serve"][..], &["replay"], &["prune", "--retention-days", "9"]] {
        let (succeeded, said) = run(arguments, &environment, "").await;
        assert!(!succeeded && said.contains("an older program"), "{said}");
    }
}

/// A limit on the size of files is a full disk, not the end of the process.
#[tokio::test]
async fn a_file_size_limit_refuses_visits_and_kills_nobody() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    if database.url.starts_with("postgres") {
        return;
    }
    let mut server = Server::limited(&database, &anytrack, "ulimit -f 4000").await;
    let mut recorded = 0;
    loop {
        match server.land().await {
            204 => recorded += 1,
            status => {
                assert_eq!(status, 503);
                break;
            }
        }
        assert!(recorded < 20_000, "the limit is reached before");
    }
    assert_eq!(server.status("/healthz").await, 200);
    assert!(server.child.try_wait().expect("it can be asked").is_none(), "it lives");
    server.kill().await;
    assert_eq!(database.number("select count(*) from visits").await, recorded);
}
