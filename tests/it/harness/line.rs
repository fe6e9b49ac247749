//! A line to the PostgreSQL server that is slow, or goes dead.
//! Takes a test's database; returns the same database behind a port of its own.
//! A line that is cut keeps its connections open and passes nothing on, as a network does that loses its packets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Database;

/// The way to a database.
pub(crate) struct Line {
    /// The database at the other end, under the line's own address.
    pub(crate) database: Database,
    state: Arc<State>,
    /// Counts the cuts; connections that were open at one are dead.
    cuts: watch::Sender<usize>,
}

struct State {
    server: String,
    delay: Duration,
    is_closed: AtomicBool,
    /// Connections that are refused before one is taken.
    refusals: AtomicUsize,
}

impl Line {
    /// A line on which everything takes `delay` each way. `None` for a database that is a file.
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    pub(crate) async fn to(database: &Database, delay: Duration) -> Option<Self> {
        let mut url = url::Url::parse(&database.url).expect("a URL");
        let (host, port) = (url.host_str()?.to_owned(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("bound").port();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(own)).expect("a port");
        let state = Arc::new(State {
            server: format!("{host}:{port}"),
            delay,
            is_closed: AtomicBool::new(false),
            refusals: AtomicUsize::new(0),
        });
        let (cuts, cut) = watch::channel(0);
        tokio::spawn(accept(listener, state.clone(), cut));
        let database = Database { url: url.into(), directory: database.directory.clone() };
        Some(Self { database, state, cuts })
    }

    /// Everything that is open is dead from now on; new connections work.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The same, and new connections hang as well.
    pub(crate) fn close(&self) {
        self.state.is_closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Refuses the next connections.
    pub(crate) fn refuse(&self, connections: usize) {
        self.state.refusals.store(connections, Ordering::SeqCst);
    }
}

#[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
async fn accept(listener: TcpListener, state: Arc<State>, cut: watch::Receiver<usize>) {
    let mut hanging = Vec::new();
    while let Ok((client, _)) = listener.accept().await {
        let one_less = |left: usize| left.checked_sub(1);
        if state.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
            continue;
        }
        if state.is_closed.load(Ordering::SeqCst) {
            hanging.push(client);
            continue;
        }
        let server = TcpStream::connect(&state.server).await.expect("the server answers");
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a socket");
        }
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        tokio::spawn(pass(from_client, to_server, state.delay, cut.clone()));
        tokio::spawn(pass(from_server, to_client, state.delay, cut.clone()));
    }
}

/// Passes on until one side ends, or the line is cut: then it holds both ends and does nothing.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut cut: watch::Receiver<usize>,
) {
    cut.mark_unchanged();
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            _ = cut.changed() => return std::future::pending().await,
            read = from.read(&mut bytes) => read,
        };
        let Ok(read @ 1..) = read else { return };
        tokio::time::sleep(delay).await;
        if cut.has_changed().unwrap_or(true) {
            return std::future::pending().await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
