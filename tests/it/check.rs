//! `clickstamp check`, run as a process against a page on loopback.

use std::process::Stdio;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::harness::program;

/// Serves the same response to every request and never returns.
async fn serve(listener: &TcpListener, answer: &str) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { break };
            head.push(byte);
        }
        // The client may close early, for example when the page is too long.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

/// Runs `check` on a page with this response. Returns its exit code and its output.
async fn check(answer: &str, environment: &[(&str, &str)]) -> (i32, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/offer", listener.local_addr().expect("an address"));
    let arguments = ["check", url.as_str()];
    tokio::select! {
        () = serve(&listener, answer) => unreachable!("it never returns"),
        done = run(&arguments, environment) => done,
    }
}

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let output = program()
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the binary runs");
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("an exit code");
    (code, String::from_utf8_lossy(&said).into_owned())
}

fn page(headers: &str, html: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n{headers}\r\n{html}"
    )
}

const GOOD: &str = r#"<!doctype html><script async src="https://go.shop.com/t/main.js"></script>
    <a href="https://buy.stripe.com/a?client_reference_id=--CLICK-ID--">Buy</a>"#;

#[tokio::test]
async fn a_correct_page_exits_with_0() {
    let (code, said) = check(&page("", GOOD), &[]).await;
    assert_eq!(code, 0, "{said}");
    for part in ["The tag is on the page, once", "Has the placeholder", "No problems found."] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn problems_exit_with_1() {
    let header = "content-security-policy: default-src 'self'\r\n";
    let (code, said) = check(&page(header, GOOD), &[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("add https://go.shop.com to script-src"), "{said}");
    assert!(said.contains("2 problems found."), "{said}");
    let ours = [("CLICKSTAMP_PUBLIC_URL", "https://clicks.other.com")];
    let (code, said) = check(&page("", GOOD), &ours).await;
    assert!(code == 1 && said.contains("The tag is not on this page"), "{said}");
}

#[tokio::test]
async fn a_copy_of_the_tag_is_found_in_another_script() {
    // The server returns the same text for every URL, so the page is its own script.
    let tag = include_str!("../../static/tag.min.js");
    let id = "0".repeat(34);
    let html = format!(
        "<script async src='/cache/all.js'></script><script>{tag}({{\"i\":\"ck_{id}\",\"e\":\"http://go.shop.com/v\"}})</script>"
    );
    let (code, said) = check(&page("", &html), &[]).await;
    assert!(code == 1 && said.contains("keeps a copy of the tag of go.shop.com: http"), "{said}");
}

#[tokio::test]
async fn a_page_that_cannot_be_read_exits_with_2() {
    let close = "connection: close\r\n";
    let rows = [
        (format!("HTTP/1.1 404 Not Found\r\n{close}\r\n"), "returned status 404"),
        (
            format!("HTTP/1.1 302 Found\r\nlocation: /offer\r\n{close}\r\n"),
            "redirects too many times",
        ),
        (format!("HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n{close}\r\n"), "not a page but"),
        (page("", &"x".repeat(4 * 1024 * 1024 + 1)), "longer than 4 MiB"),
        ("nonsense".to_owned(), "could not read"),
    ];
    for (answer, expected) in rows {
        let (code, said) = check(&answer, &[]).await;
        assert!(code == 2 && said.contains(expected), "{expected}: {code} {said}");
    }
    for arguments in [&["check", "ftp://x"][..], &["check", "http://"], &["check"]] {
        let (code, said) = run(arguments, &[]).await;
        assert_eq!(code, 2, "{arguments:?}: {said}");
    }
}
