//! The real binary as a process of its own, for what only a process can show.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Database, FakeDestination, SECRET};

/// The real binary, as a process.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts the binary and reads from its log where it listens.
    #[expect(clippy::disallowed_methods, reason = "the reader of the log ends with the process")]
    pub(crate) async fn start(database: &Database, anytrack: &FakeDestination) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_clickstamp"))
            .env_clear()
            .env("CLICKSTAMP_LISTEN", "127.0.0.1:0")
            .env("CLICKSTAMP_DATA_DIR", &database.directory)
            .env("CLICKSTAMP_DATABASE_URL", &database.url)
            .env("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", SECRET)
            .env("CLICKSTAMP_ANYTRACK_URL", &anytrack.url)
            .env("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "true")
            .env("CLICKSTAMP_DELIVERY_RATE", "0")
            .env("CLICKSTAMP_VISIT_RATE", "0")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut log = BufReader::new(child.stderr.take().expect("a log")).lines();
        let url = loop {
            let line = log
                .next_line()
                .await
                .expect("a readable log")
                .expect("it says where it listens before it ends");
            if let Some((_, url)) = line.split_once("listening on ") {
                break url.trim().to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { child, url }
    }
}
