//! Strangers who use up what there is of connections, memory and log: the server goes on for everybody else.

use std::time::Duration;

use clickstamp::clock::Clock;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt as _;

use super::{LATEST, raw};
use crate::harness::{Database, FakeDestination, SECRET, Server, Session, sign};

/// For the shell that starts the server.
const FEW_FILES: &str = "ulimit -S -n 64 && ulimit -H -n 64";
const MEGABYTE: u64 = 1024 * 1024;

/// A server for strangers.
async fn start(settings: &[(&str, &str)]) -> (Server, Database, FakeDestination) {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let server = Server::start_with(&database, &anytrack, settings).await;
    (server, database, anytrack)
}

/// Asserts that `/healthz` is answered soon.
async fn assert_healthy(server: &Server) {
    let begun = Clock::stopwatch();
    let asked = server.client.get(format!("{}/healthz", server.url)).send();
    let answer = tokio::time::timeout(Duration::from_secs(30), asked).await.expect("an answer");
    assert_eq!(answer.expect("an answer").status().as_u16(), 200);
    assert!(begun.elapsed() < LATEST * 2, "it took {:?}", begun.elapsed());
}

/// A field of `/proc/…/status`, in bytes.
fn memory(server: &Server, field: &str) -> u64 {
    let path = format!("/proc/{}/status", server.child.id().expect("it runs"));
    let text = std::fs::read_to_string(path).expect("Linux says it");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim_matches([':', ' ', '\t', 'k', 'B']).parse::<u64>().expect("a number") * 1024
}

/// A signed event of about so many bytes.
fn large_event(id: &str, bytes: usize) -> (String, String) {
    let padding = "x".repeat(bytes);
    let session = Session::paid(id).with(serde_json::json!({"metadata": {"note": padding}}));
    let body = session.completed().to_string();
    let signature = sign(SECRET, Clock::system().now().as_seconds(), body.as_bytes());
    (body, signature)
}

async fn post_event(server: &Server, (body, signature): (String, String)) -> u16 {
    let post = server.client.post(format!("{}/webhooks/stripe/main", server.url));
    let sent = post.header("stripe-signature", signature).body(body).send();
    sent.await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_give_way_when_descriptors_are_short() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let server = Server::limited(&database, &anytrack, FEW_FILES).await;
    let silent = join_all((0..200).map(|_| raw::connect(&server))).await;
    assert_healthy(&server).await;
    server.sale("cs_live_meanwhile").await;
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_of_open_files_is_raised() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let server = Server::limited(&database, &anytrack, "ulimit -S -n 64").await;
    let mut silent = join_all((0..200).map(|_| raw::connect(&server))).await;
    assert_healthy(&server).await;
    let mut open = 0;
    for stream in &mut silent {
        open += usize::from(raw::is_open(stream).await);
    }
    assert_eq!(open, 200, "none of them had to leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_passes_while_strangers_hold_theirs() {
    let (server, _database, _anytrack) = start(&[]).await;
    let head = b"POST /webhooks/stripe/main HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n";
    let half: Vec<u8> = head.iter().copied().chain([b'x'; 80_000]).collect();
    let strangers = join_all((0..64).map(|_| raw::with(&server, &half))).await;
    let begun = Clock::stopwatch();
    assert_eq!(post_event(&server, large_event("cs_live_large", 100_000)).await, 200);
    assert!(begun.elapsed() < LATEST * 2, "it took {:?}", begun.elapsed());
    drop(strangers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_large_events_is_stored_in_bounded_memory() {
    let (server, _database, _anytrack) = start(&[]).await;
    server.sale("cs_live_first").await;
    let before = memory(&server, "VmRSS");
    let events: Vec<_> =
        (0..120).map(|n| large_event(&format!("cs_live_{n:03}"), 900_000)).collect();
    let statuses = join_all(events.into_iter().map(|event| post_event(&server, event))).await;
    let stored = statuses.iter().filter(|status| **status == 200).count();
    let grown = memory(&server, "VmHWM").saturating_sub(before) / MEGABYTE;
    println!("{stored} of 120 stored, {grown} MB more than {} MB", before / MEGABYTE);
    // On a slow disk some are asked to come again; none is lost.
    assert!(statuses.iter().all(|status| [200, 503].contains(status)) && stored >= 40, "{stored}");
    assert!(grown < 200, "{grown} MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_heads_do_not_fill_the_memory() {
    let settings = [("CLICKSTAMP_TRUSTED_PROXIES", "127.0.0.0/8")];
    let (server, _database, _anytrack) = start(&settings).await;
    server.sale("cs_live_first").await;
    let ask = |n: usize, bytes: usize| {
        let request = server.client.get(format!("{}/t/main.js", server.url));
        let request = request.header("referer", "https://www.shop.localhost/?gclid=1");
        let request = request.header("x-forwarded-for", format!("2001:db8:{:x}:{n:x}::1", n % 7));
        request.header("user-agent", "x".repeat(bytes)).send()
    };
    assert_eq!(ask(0, 370_000).await.expect("an answer").status().as_u16(), 431);
    let before = memory(&server, "VmRSS");
    for chunk in (0..1500).collect::<Vec<_>>().chunks(50) {
        let answers = join_all(chunk.iter().map(|n| ask(*n, 30_000))).await;
        for answer in answers {
            assert_eq!(answer.expect("an answer").status().as_u16(), 200);
        }
    }
    let grown = memory(&server, "VmHWM").saturating_sub(before) / MEGABYTE;
    println!("{grown} MB more than {} MB", before / MEGABYTE);
    assert!(grown <= 20, "{grown} MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_signatures_is_a_few_lines_and_a_number() {
    let (mut server, _database, _anytrack) = start(&[]).await;
    let url = format!("{}/webhooks/stripe/main", server.url);
    for _ in 0..60 {
        let posts = (0..10).map(|_| {
            server.client.post(&url).header("stripe-signature", "t=1,v1=00").body("{}").send()
        });
        for answer in join_all(posts).await {
            assert_eq!(answer.expect("an answer").status().as_u16(), 400);
        }
    }
    let lines = server.said("rejected a webhook").len();
    // Ten in ten seconds, on a machine where this takes a minute.
    assert!((1..=70).contains(&lines), "{lines} lines");
    let left_out = server.says("further lines like the last ones were left out").await;
    assert!(left_out.contains("left_out=") && left_out.contains("main"), "{left_out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_speaks_is_not_closed_for_others() {
    let (database, anytrack) = (Database::create().await, FakeDestination::start().await);
    let server = Server::limited(&database, &anytrack, FEW_FILES).await;
    let get = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut speaking = raw::with(&server, get).await;
    assert!(raw::read_ok(&mut speaking).await.starts_with("HTTP/1.1 200"));
    let silent = join_all((0..100).map(|_| raw::connect(&server))).await;
    for _ in 0..20 {
        speaking.write_all(get).await.expect("it is open");
        assert!(raw::read_ok(&mut speaking).await.starts_with("HTTP/1.1 200"), "it was closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(silent);
}
