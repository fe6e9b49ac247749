//! The command line, run as an operator would.

use std::process::Stdio;

use clickstamp::clock::Clock;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Database, FakeDestination, FakeStripe, Server, Session, TestApp, program};

/// Runs the binary with an environment and an input; answers its success and everything it said.
pub(crate) async fn run(
    arguments: &[&str],
    environment: &[(&str, &str)],
    input: &str,
) -> (bool, String) {
    let mut child = program()
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("an input");
    stdin.write_all(input.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn every_bad_variable_stops_the_start_in_one_message() {
    let bad = [
        ("CLICKSTAMP_LISTEN", "everywhere"),
        ("CLICKSTAMP_RETRY_SCHEDULE", "soon"),
        ("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", "sk_live_hunter2"),
    ];
    let (succeeded, said) = run(&[], &bad, "").await;
    assert!(!succeeded);
    assert!(bad.iter().all(|(name, _)| said.contains(name)) && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_config_file_that_cannot_be_read_is_named() {
    for (arguments, expected) in [
        (["--config", "/no/such/file"], "/no/such/file"),
        (["--visit-rate", "many"], "CLICKSTAMP_VISIT_RATE"),
    ] {
        let (succeeded, said) = run(&arguments, &[], "").await;
        assert!(!succeeded && said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn the_effective_settings_are_shown_without_secrets() {
    let environment =
        [("CLICKSTAMP_API_TOKEN", "hunter2-hunter2-hunter2"), ("CLICKSTAMP_VISIT_RATE", "7")];
    let (succeeded, said) = run(&["config", "--delivery-rate", "3"], &environment, "").await;
    assert!(succeeded && !said.contains("hunter2"), "{said}");
    for line in [
        "CLICKSTAMP_VISIT_RATE=7  # environment",
        "CLICKSTAMP_DELIVERY_RATE=3  # flag",
        "CLICKSTAMP_API_TOKEN=***  # environment",
    ] {
        assert!(said.contains(line), "{line} is missing in {said}");
    }
}

#[tokio::test]
async fn users_are_added_and_changed_beside_a_running_server() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let _server = Server::start(&database, &anytrack).await;
    let environment = [("CLICKSTAMP_DATABASE_URL", database.url.as_str())];
    let rows = [
        (["user", "add", "Ada@Example.com"], "correct horse battery\n", true),
        (["user", "add", "ada@example.com"], "correct horse battery\n", false),
        (["user", "passwd", "ada@example.com"], "another good one\n", true),
        (["user", "passwd", "ada@example.com"], "short\n", false),
        (["user", "passwd", "nobody@example.com"], "another good one\n", false),
        (["user", "add", "no address"], "another good one\n", false),
    ];
    for (arguments, password, expected) in rows {
        let (succeeded, said) = run(&arguments, &environment, password).await;
        assert_eq!(succeeded, expected, "{arguments:?}: {said}");
    }
    assert_eq!(database.texts("select email from users").await, ["ada@example.com"]);
}

#[tokio::test]
async fn prune_says_what_would_go_and_lets_it_go_when_told_so() {
    let clock =
        Clock::manual(Clock::system().now().minus(std::time::Duration::from_secs(90 * 86_400)));
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let url = database.url.clone();
    let app = TestApp::on(database, anytrack, clock).await;
    app.visit("https://shop.example/").await;
    let event = format!(r#"{{"s":"main","i":"{}","t":1,"e":"Lead"}}"#, app.mint().await);
    assert!(app.post_visit(event).await.status.is_success());
    let environment = [("CLICKSTAMP_DATABASE_URL", url.as_str())];
    let days = |days: &'static str| ["prune", "--retention-days", days];
    let (succeeded, said) = run(&["prune", "--dry-run"], &environment, "").await;
    assert!(succeeded && said.contains("kept forever; set CLICKSTAMP_RETENTION_DAYS"), "{said}");
    let event = "main: 1 page event without a counted visit";
    assert!(said.contains(&format!("{event} would be deleted")), "{said}");
    let (succeeded, said) = run(&days("0"), &environment, "").await;
    assert!(!succeeded && said.contains("CLICKSTAMP_RETENTION_DAYS"), "{said}");
    let (succeeded, said) = run(&days("400"), &environment, "").await;
    assert!(succeeded && said.contains("No visit"), "{said}");
    assert!(said.contains(&format!("{event} deleted")), "{said}");
    let count = "select count(*) from visits";
    let dry = ["prune", "--dry-run", "--retention-days", "30"];
    let (succeeded, said) = run(&dry, &environment, "").await;
    assert!(succeeded && said.contains("main: 1 visit would be deleted, 20"), "{said}");
    assert_eq!(app.database.number(count).await, 1);
    let (succeeded, said) = run(&days("30"), &environment, "").await;
    assert!(succeeded && said.contains("main: 1 visit deleted, 20"), "{said}");
    assert_eq!(app.database.number(count).await, 0);
}

#[tokio::test]
async fn a_backup_of_a_running_server_is_whole_and_replaces_nothing() {
    let app = TestApp::start().await;
    let click_id = app.visit("https://shop.example/").await;
    let copy = app.database.directory.join("kept").join("copy.db");
    let file = copy.display().to_string();
    let environment = [("CLICKSTAMP_DATABASE_URL", app.database.url.as_str())];
    let (succeeded, said) = run(&["backup", &file], &environment, "").await;
    if app.database.url.starts_with("postgres") {
        assert!(!succeeded && said.contains("pg_dump"), "{said}");
        return;
    }
    assert!(succeeded && said.contains(&file), "{said}");
    let left: Vec<_> = std::fs::read_dir(copy.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing unfinished stays: {left:?}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&copy).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "it holds secrets");
    let before = std::fs::read(&copy).unwrap();
    app.visit("https://shop.example/later").await;
    let (succeeded, said) = run(&["backup", &file], &environment, "").await;
    assert!(!succeeded && said.contains("is there already"), "{said}");
    assert_eq!(std::fs::read(&copy).unwrap(), before);

    // The copy serves: same visit, same key, so a payment with the old click ID matches there.
    let mut database = Database::create().await;
    database.url = format!("sqlite://{file}");
    let restored =
        TestApp::on(database, FakeDestination::start().await, Clock::manual(app.now())).await;
    assert_eq!(restored.database.number("select count(*) from visits").await, 1);
    restored.stripe_processed(&Session::paid("cs_live_1").reference(&click_id).completed()).await;
    assert_eq!(restored.conversion().await.matched_by.as_deref(), Some("click_id"));
    restored.deliver_due().await;
}

#[tokio::test]
async fn a_backup_says_what_is_wrong_and_names_its_file_by_default() {
    let directory = Database::create().await.directory.clone();
    std::fs::create_dir_all(&directory).unwrap();
    let data = directory.display().to_string();
    let environment = [("CLICKSTAMP_DATA_DIR", data.as_str())];
    let (succeeded, said) = run(&["backup"], &environment, "").await;
    assert!(!succeeded && said.contains("there is no database at"), "{said}");
    let not_ours = directory.join("clickstamp.db");
    std::fs::write(&not_ours, "a text, not a database, of more than sixteen bytes").unwrap();
    let (succeeded, said) = run(&["backup"], &environment, "").await;
    assert!(!succeeded && said.contains("could not copy the database"), "{said}");
    assert_eq!(std::fs::read_dir(directory.join("backups")).unwrap().count(), 0);
    std::fs::remove_file(&not_ours).unwrap();
    make_sqlite(&not_ours).await;
    let (succeeded, said) = run(&["backup"], &environment, "").await;
    assert!(succeeded && said.contains("/backups/clickstamp-20"), "{said}");
    let (succeeded, said) = run(&["backup", "/proc/nowhere/copy.db"], &environment, "").await;
    assert!(!succeeded && said.contains("/proc/nowhere"), "{said}");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Any SQLite database at all.
async fn make_sqlite(path: &std::path::Path) {
    sqlx::any::install_default_drivers();
    let url = format!("sqlite://{}?mode=rwc", path.display());
    let pool = sqlx::any::AnyPoolOptions::new().connect(&url).await.expect("a file");
    sqlx::query("create table things (name text)").execute(&pool).await.expect("a table");
    pool.close().await;
}

#[tokio::test]
async fn healthcheck_tells_a_living_server_from_none() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let server = Server::start(&database, &anytrack).await;
    let listen = server.url.trim_start_matches("http://");
    assert!(run(&["healthcheck"], &[("CLICKSTAMP_LISTEN", listen)], "").await.0);
    assert!(!run(&["healthcheck"], &[("CLICKSTAMP_LISTEN", "127.0.0.1:1")], "").await.0);
}

#[tokio::test]
async fn what_is_no_socket_is_never_replaced_by_one() {
    let database = Database::create().await;
    let path = database.directory.join("precious");
    std::fs::write(&path, "precious").expect("the directory is writable");
    let listen = format!("unix:{}", path.display());
    let environment = [
        ("CLICKSTAMP_LISTEN", listen.as_str()),
        ("CLICKSTAMP_DATABASE_URL", "sqlite:///proc/nowhere/clickstamp.db"), // It ends, but only after it listened.
    ];
    let (succeeded, said) = run(&[], &environment, "").await;
    assert!(!succeeded);
    assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("precious"), "{said}");
}

#[tokio::test]
async fn nobody_else_on_the_machine_can_read_the_database() {
    use std::os::unix::fs::PermissionsExt as _;
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let _server = Server::start(&database, &anytrack).await;
    for entry in std::fs::read_dir(&database.directory).expect("the directory is there") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.file_name());
    }
}

#[tokio::test]
async fn a_backfill_runs_beside_a_server_and_says_what_it_did() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let stripe = FakeStripe::start().await;
    let [key, base] = stripe.settings();
    let environment = [("CLICKSTAMP_DATABASE_URL", database.url.as_str()), key, base];
    let (succeeded, said) = run(&["backfill"], &environment, "").await;
    assert!(!succeeded && said.contains("start the server once"), "{said}");
    let _server = Server::start(&database, &anytrack).await;
    let yesterday = Clock::system().now().as_seconds() - 86_400;
    stripe.has("/v1/events", [Session::paid("cs_live_1").at(yesterday).completed()]);
    let (succeeded, said) = run(&["backfill", "--days", "2"], &environment, "").await;
    assert!(
        succeeded && said.contains("1 were missing here and are processed, 0 were known."),
        "{said}"
    );
    let (succeeded, said) = run(&["backfill", "--json"], &environment, "").await;
    assert!(succeeded && said.contains(r#""stored":0"#), "{said}");
    assert_eq!(database.texts("select transaction_id from conversions").await, ["cs_live_1"]);
    stripe.key_expires();
    let rows: [(&[&str], &str); 4] = [
        (&["backfill"], "has expired"),
        (&["backfill", "--days", "0"], "--days"),
        (&["backfill", "--account", "somebody"], "acct_"),
        (&["backfill", "--source", "other"], "there is no Stripe source “other”"),
    ];
    for (arguments, expected) in rows {
        let (succeeded, said) = run(arguments, &environment, "").await;
        assert!(!succeeded && said.contains(expected) && !said.contains("hunter2"), "{said}");
    }
    let without = [("CLICKSTAMP_DATABASE_URL", database.url.as_str())];
    let (succeeded, said) = run(&["backfill"], &without, "").await;
    assert!(!succeeded && said.contains("set CLICKSTAMP_STRIPE_API_KEY"), "{said}");
}

#[tokio::test]
async fn a_replay_prints_what_differs_and_corrects_it_on_request() {
    let app = TestApp::start().await;
    for event in
        [Session::paid("cs_live_1").completed(), json!({"id": "evt_1", "type": "price.created"})]
    {
        app.stripe_processed(&event).await;
    }
    app.deliver_due().await;
    let environment = [("CLICKSTAMP_DATABASE_URL", app.database.url.as_str())];
    let (succeeded, said) = run(&["replay"], &environment, "").await;
    assert!(
        succeeded
            && said.contains("2 events make 1 conversions.")
            && said.contains("no differences"),
        "{said}"
    );
    let pool = app.database.look().await;
    let changed = sqlx::query("update conversions set status = 'pending'").execute(&pool).await;
    changed.expect("it can be changed behind everybody's back");
    pool.close().await;
    let (succeeded, said) = run(&["replay", "--from", "2026-09-21"], &environment, "").await;
    assert!(succeeded && said.contains("1 conversion differs; --apply corrects it."), "{said}");
    let row = said.lines().find(|line| line.contains("cs_live_1")).expect("a row");
    assert!(row.contains("status") && row.contains("pending") && row.contains("paid"), "{row}");
    let (succeeded, said) = run(&["replay", "--apply", "--json"], &environment, "").await;
    assert!(succeeded && said.contains(r#""applied":true"#), "{said}");
    assert_eq!(app.conversion().await.status, "paid");
    for arguments in [["replay", "--from=soon"], ["replay", "--to=2026-02-30"]] {
        assert!(!run(&arguments, &environment, "").await.0, "{arguments:?}");
    }
    let (succeeded, said) =
        run(&["replay", "--from=2026-02-02", "--to=2026-02-01"], &environment, "").await;
    assert!(!succeeded && said.contains("--from is after --to"), "{said}");
}

#[tokio::test]
async fn a_reconciliation_tells_its_gap_by_its_exit_code_too() {
    let app = TestApp::start().await;
    let stripe = FakeStripe::start().await;
    let [key, base] = stripe.settings();
    let environment = [("CLICKSTAMP_DATABASE_URL", app.database.url.as_str()), key, base];
    let made = Clock::system().now().as_seconds() - 3600;
    let paid =
        Session::paid("cs_live_1").with(json!({"status": "complete", "created": made})).at(made);
    stripe.has("/v1/checkout/sessions", [paid.completed()["data"]["object"].clone()]);
    let code = async |arguments: &[&str]| {
        let status = program()
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.await.expect("it runs").code()
    };
    let (succeeded, said) = run(&["reconcile"], &environment, "").await;
    assert!(
        !succeeded && said.contains("Stripe: 1 paid, 102.60 USD; here: 0, 0.00; gap 1"),
        "{said}"
    );
    assert!(said.contains("cs_live_1 · Stripe: 102.60 USD · here: nothing"), "{said}");
    assert_eq!(code(&["reconcile"]).await, Some(1));
    assert_eq!(code(&["reconcile", "--repair"]).await, Some(0));
    let refund = json!({"id": "re_1", "amount": 500, "currency": "usd", "status": "succeeded", "created": made,
                        "charge": "ch_1", "payment_intent": "pi_cs_live_1"});
    stripe.has("/v1/refunds", [refund]);
    stripe.denies("/v1/disputes");
    let (succeeded, said) = run(&["reconcile"], &environment, "").await;
    for expected in [
        "Stripe: 1 paid, 102.60 USD; here: 1, 102.60; gap 0",
        "Stripe: 1 refunded, 5.00 USD; here: 0, 0.00; gap 1",
        "refund re_1 · Stripe: 5.00 USD · here: nothing",
        "; disputes (the key may not read them: add “Disputes: Read” to it in Stripe).",
    ] {
        assert!(!succeeded && said.contains(expected), "{expected} is missing in {said}");
    }
    assert_eq!(code(&["reconcile", "--repair"]).await, Some(0));
    let (succeeded, said) = run(&["reconcile", "--json"], &environment, "").await;
    assert!(succeeded && said.contains(r#""gap":0"#), "{said}");
    stripe.key_expires();
    assert_eq!(code(&["reconcile"]).await, Some(2));
    assert_eq!(
        code(&["reconcile", "--from", "yesterday"]).await,
        Some(2),
        "as all wrong arguments"
    );
    app.deliver_due().await;
}
