//! An ordered stop has an end, answers what was asked before it, and leaves nothing leased.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clickstamp::clock::Clock;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::{LATEST, Running, SCHEDULE, raw, wait_for_arrivals};
use crate::harness::{Database, FakeDestination, Reaction, Server};

/// The default of CLICKSTAMP_STOP_TIMEOUT.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);
const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";

/// Stops a server; answers how long that took. It must end in order.
async fn stop(server: &mut Server) -> Duration {
    let begun = Clock::stopwatch();
    server.terminate().await;
    let ended = tokio::time::timeout(Duration::from_secs(60), server.ended()).await;
    assert!(ended.expect("the stop has an end"), "it ends in order");
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_written_before_the_stop_are_answered() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    for _ in 0..2 {
        let mut server = Server::start(&database, &anytrack).await;
        // A shell that is ready to kill, so that the signal comes right behind the requests.
        let pid = server.child.id().expect("it runs").to_string();
        let mut killer = Command::new("/bin/sh")
            .args(["-c", "read line; kill -TERM \"$0\"", &pid])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut connections = Vec::new();
        for _ in 0..180 {
            let mut stream = raw::with(&server, GET).await;
            assert!(raw::read_ok(&mut stream).await.starts_with("HTTP/1.1 200"));
            connections.push(stream);
        }
        for stream in &mut connections {
            stream.write_all(GET).await.expect("it is open");
        }
        let mut signal = killer.stdin.take().expect("its input");
        signal.write_all(b"now\n").await.expect("it reads");
        let answers = join_all(connections.iter_mut().map(raw::until_closed)).await;
        let cut = answers.iter().filter(|answer| !answer.ends_with("\r\n\r\nok\n")).count();
        assert_eq!(cut, 0, "requests that got no answer");
        assert!(server.ended().await);
        killer.wait().await.expect("it ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_clients_nor_destinations_hold_up_the_stop_and_nothing_stays_leased() {
    let mut running = Running::start(&[]).await;
    running.anytrack.reacts([Reaction::Stall]);
    running.server.sale("cs_live_hangs").await;
    running.anytrack.stalled().await;
    let server = &running.server;
    let head = b"POST /v HTTP/1.1\r\nhost: a\r\ncontent-length: 300\r\n\r\nhalf a body";
    let _slow = [
        raw::with(server, head).await,
        raw::with(server, b"GET /healthz HTTP/1.1\r\nho").await,
        raw::connect(server).await,
    ];
    let took = stop(&mut running.server).await;
    assert!(took < STOP_TIMEOUT + running.slack(), "it took {took:?}");
    // The next start sends at once what was cut off.
    let before = running.anytrack.arrivals().len();
    let _next = Server::start_with(&running.database, &running.anytrack, &[SCHEDULE]).await;
    let begun = Clock::stopwatch();
    wait_for_arrivals(&running.anytrack, before + 1).await;
    assert!(begun.elapsed() < LATEST, "it took {:?}", begun.elapsed());
    let cut_off =
        "select count(*) from attempts where outcome = 'unknown' and error like '%stopped%'";
    assert_eq!(running.database.number(cut_off).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stops_at_once() {
    let mut running = Running::start(&[]).await;
    let took = stop(&mut running.server).await;
    assert!(took < LATEST, "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configured_time_bounds_the_stop() {
    let mut running = Running::start(&[("CLICKSTAMP_STOP_TIMEOUT", "2s")]).await;
    running.anytrack.reacts([Reaction::Stall]);
    running.server.sale("cs_live_hangs").await;
    running.anytrack.stalled().await;
    let took = stop(&mut running.server).await;
    assert!(took < Duration::from_secs(2) + running.slack(), "it took {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_silent_does_not_hold_up_the_stop() {
    let database = Database::create().await;
    let Some(tunnel) = Tunnel::to(&database.url).await else { return };
    let url = tunnel.url.clone();
    let anytrack = FakeDestination::start().await;
    let settings = [("CLICKSTAMP_DATABASE_URL", url.as_str())];
    let mut server = Server::start_with(&database, &anytrack, &settings).await;
    server.sale("cs_live_first").await;
    wait_for_arrivals(&anytrack, 1).await;
    tunnel.is_silent.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let took = stop(&mut server).await;
    assert!(took < STOP_TIMEOUT + Duration::from_secs(3), "it took {took:?}");
}

/// The way to a PostgreSQL server, which can go silent without closing a connection.
struct Tunnel {
    url: String,
    is_silent: Arc<AtomicBool>,
    server: tokio::task::JoinHandle<()>,
}

impl Tunnel {
    #[expect(clippy::disallowed_methods, reason = "the tunnel stops its own tasks on drop")]
    async fn to(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("postgres://")?;
        let (user, rest) = rest.split_once('@').unwrap_or(("postgres", rest));
        let (there, name) = rest.split_once('/').expect("a database");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = listener.local_addr().expect("bound");
        let is_silent = Arc::new(AtomicBool::new(false));
        let (there, silent) = (there.to_owned(), is_silent.clone());
        let server = tokio::spawn(async move {
            let mut pairs = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&there).await.expect("the database accepts");
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                pairs.spawn(pass(from_client, to_server, silent.clone()));
                pairs.spawn(pass(from_server, to_client, silent.clone()));
            }
        });
        Some(Self { url: format!("postgres://{user}@{here}/{name}"), is_silent, server })
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    is_silent: Arc<AtomicBool>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        if is_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.server.abort();
    }
}
