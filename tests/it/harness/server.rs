//! The real binary as a process, for tests of what only a process can do.

use std::process::Stdio;
use std::time::Duration;

use clickstamp::clock::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::{Database, FakeDestination, SECRET, Session, sign};

/// The program with no setting but a free port: the default one may be in use, by another test or
/// by anything else on the machine.
pub(crate) fn program() -> Command {
    isolated(env!("CARGO_BIN_EXE_clickstamp"))
}

fn isolated(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("CLICKSTAMP_LISTEN", "127.0.0.1:0");
    command
}

/// How long a process may be silent before the wait for its next line fails.
const PATIENCE: Duration = Duration::from_secs(180);

/// A process of the real binary.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url: String,
    /// The log lines that a test has waited for so far.
    pub(crate) heard: Vec<String>,
    log: mpsc::UnboundedReceiver<String>,
    pub(crate) client: reqwest::Client,
}

impl Server {
    /// Starts the binary and reads from its log where it listens.
    pub(crate) async fn start(database: &Database, anytrack: &FakeDestination) -> Self {
        Self::start_with(database, anytrack, &[]).await
    }

    /// The same, but a task that reaches this place of the program stops there.
    pub(crate) async fn halting_at(
        place: &str,
        database: &Database,
        anytrack: &FakeDestination,
    ) -> Self {
        Self::start_with(database, anytrack, &[("HALT_AT", place)]).await
    }

    /// The same below a limit that the shell sets before it becomes the server.
    pub(crate) async fn limited(
        database: &Database,
        anytrack: &FakeDestination,
        limit: &str,
    ) -> Self {
        let mut program = isolated("bash");
        let script = format!("{limit} && exec \"$0\"");
        program.args(["-c", &script, env!("CARGO_BIN_EXE_clickstamp")]);
        Self::start_by(program, database, anytrack, &[]).await
    }

    /// With further settings, which win.
    pub(crate) async fn start_with(
        database: &Database,
        anytrack: &FakeDestination,
        settings: &[(&str, &str)],
    ) -> Self {
        Self::start_by(program(), database, anytrack, settings).await
    }

    #[expect(clippy::disallowed_methods, reason = "the reader of the log ends with the process")]
    async fn start_by(
        mut program: Command,
        database: &Database,
        anytrack: &FakeDestination,
        settings: &[(&str, &str)],
    ) -> Self {
        let mut child = program
            .env("CLICKSTAMP_DATA_DIR", &database.directory)
            .env("CLICKSTAMP_DATABASE_URL", &database.url)
            .env("CLICKSTAMP_STRIPE_WEBHOOK_SECRET", SECRET)
            .env("CLICKSTAMP_ANYTRACK_URL", &anytrack.url)
            .env("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "true")
            .env("CLICKSTAMP_DELIVERY_RATE", "0")
            .env("CLICKSTAMP_VISIT_RATE", "0")
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a log")).lines();
        let (heard, log) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = heard.send(line); // The test may have ended.
            }
        });
        let _ = rustls::crypto::ring::default_provider().install_default(); // Another test may have been faster.
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let mut server = Self { child, url: String::new(), heard: Vec::new(), log, client };
        let line = server.says("listening on ").await;
        server.url = line.rsplit(' ').next().expect("an address").to_owned();
        server
    }

    /// Waits for the log's next line with this text. What never comes is a failure, not a run
    /// without an end.
    pub(crate) async fn says(&mut self, text: &str) -> String {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.log.recv()).await;
            let line = line.unwrap_or_else(|_| panic!("it says nothing more, not even “{text}”"));
            let line = line
                .unwrap_or_else(|| panic!("it ended before it said “{text}”: {:#?}", self.heard));
            self.heard.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The status that a page of the server answers.
    pub(crate) async fn status(&self, path: &str) -> u16 {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await;
        answer.expect("an answer").status().as_u16()
    }

    /// The lines of the log that were not read yet and contain this text.
    pub(crate) fn said(&mut self, text: &str) -> Vec<String> {
        let lines = std::iter::from_fn(|| self.log.try_recv().ok());
        lines.filter(|line| line.contains(text)).collect()
    }

    /// A visitor lands and pays; both are acknowledged.
    pub(crate) async fn sale(&self, session: &str) {
        let click_id = self.mint().await;
        self.visit(&click_id).await;
        self.pay(session, &click_id).await;
    }

    /// A visitor lands; answers the status.
    pub(crate) async fn land(&self) -> u16 {
        self.post_visit(&self.mint().await).await
    }

    /// A click ID as the tag's script carries it.
    pub(crate) async fn mint(&self) -> String {
        let script = self.client.get(format!("{}/t/main.js", self.url)).send();
        let script = script.await.expect("an answer").text().await.expect("a script");
        let config = &script[script.rfind("({").expect("a config") + 1..script.len() - 1];
        let config: Value = serde_json::from_str(config).expect("JSON");
        config["i"].as_str().expect("a click ID").to_owned()
    }

    /// The page of a click ID reports its visit.
    pub(crate) async fn visit(&self, click_id: &str) {
        assert_eq!(self.post_visit(click_id).await, 204);
    }

    /// The page of a click ID reports its visit; answers the status.
    pub(crate) async fn post_visit(&self, click_id: &str) -> u16 {
        let visit = json!({"s": "main", "i": click_id, "t": 1, "u": "https://www.shop.localhost/"});
        let answer = self.client.post(format!("{}/v", self.url)).body(visit.to_string()).send();
        answer.await.expect("an answer").status().as_u16()
    }

    /// Stripe reports a paid checkout that names the click ID.
    pub(crate) async fn pay(&self, session: &str, click_id: &str) {
        let body = Session::paid(session).reference(click_id).completed().to_string();
        let signature = sign(SECRET, Clock::system().now().as_seconds(), body.as_bytes());
        let post = self.client.post(format!("{}/webhooks/stripe/main", self.url));
        let answer = post.header("stripe-signature", signature).body(body).send();
        assert_eq!(answer.await.expect("an answer").status().as_u16(), 200);
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it is ours");
    }

    /// SIGSTOP: it neither works nor ends, as when its machine is paused.
    pub(crate) async fn freeze(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-STOP", &pid]).status().await;
        assert!(sent.expect("kill runs").success());
    }

    /// SIGTERM; answers whether it stopped in order.
    pub(crate) async fn stop(&mut self) -> bool {
        self.terminate().await;
        self.ended().await
    }

    /// SIGTERM.
    pub(crate) async fn terminate(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end; answers whether it was in order.
    pub(crate) async fn ended(&mut self) -> bool {
        self.child.wait().await.expect("it ends").success()
    }
}
