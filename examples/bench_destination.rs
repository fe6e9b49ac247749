//! A destination that is as fast as possible, one that never responds, and a sender that stores
//! nothing; `tests/bench/deliveries` runs them. In: `serve`, or `send URL COUNT AT_A_TIME BYTES`.
//! Out: its address on the first line of standard output; or the messages a second that were sent.
//! Promise: the sender has the same HTTP client, settings and kind of message as the deliveries it
//! is the baseline of.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use futures_util::stream::{self, StreamExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What came since somebody began to wait for it.
#[derive(Default)]
struct Arrivals {
    count: usize,
    first: Option<Instant>,
    last: Option<Instant>,
    wanted: usize,
}

#[derive(Clone, Default)]
struct Seen {
    arrivals: Arc<Mutex<Arrivals>>,
    complete: Arc<Notify>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve"] => serve().await,
        ["send", url, count, at_a_time, bytes] => {
            send(url, count.parse()?, at_a_time.parse()?, bytes.parse()?).await
        }
        _ => bail!("usage: bench_destination serve | send URL COUNT AT_A_TIME BYTES"),
    }
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/fast", post(take))
        .route("/hang", post(async || std::future::pending::<StatusCode>().await))
        .route("/expect/{count}", post(expect))
        .route("/seconds", get(seconds))
        .with_state(Seen::default());
    axum::serve(listener, router).await.context("it serves until it is killed")
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
async fn take(State(seen): State<Seen>, _body: bytes::Bytes) -> &'static str {
    let mut arrivals = seen.arrivals.lock().expect("nobody panics holding it");
    let now = Instant::now();
    arrivals.count += 1;
    arrivals.first.get_or_insert(now);
    if arrivals.count == arrivals.wanted {
        arrivals.last = Some(now);
        seen.complete.notify_one();
    }
    "ok"
}

/// Forgets what came, and from now on waits for so many.
async fn expect(State(seen): State<Seen>, Path(wanted): Path<usize>) {
    *seen.arrivals.lock().expect("nobody panics holding it") =
        Arrivals { wanted, ..Arrivals::default() };
}

/// Waits until all of them have come; answers the seconds from the first to the last.
async fn seconds(State(seen): State<Seen>) -> String {
    seen.complete.notified().await;
    let arrivals = seen.arrivals.lock().expect("nobody panics holding it");
    let (Some(first), Some(last)) = (arrivals.first, arrivals.last) else { return String::new() };
    format!("{:.6}", (last - first).as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's own time")]
async fn send(url: &str, count: usize, at_a_time: usize, bytes: usize) -> Result<()> {
    // An error means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?;
    let body = bytes::Bytes::from(vec![b'x'; bytes]);
    let begun = Instant::now();
    let sent = stream::iter(0..count).map(|_| {
        let post = client.post(url).header("content-type", "application/json").body(body.clone());
        async move { post.send().await?.error_for_status()?.bytes().await }
    });
    let mut sent = sent.buffer_unordered(at_a_time);
    while let Some(answer) = sent.next().await {
        answer?;
    }
    let per_second = Duration::from_secs(1).as_nanos() * count as u128 / begun.elapsed().as_nanos();
    println!("{per_second}");
    Ok(())
}
