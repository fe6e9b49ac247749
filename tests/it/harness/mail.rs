//! A mail server that does as it is told, and remembers what it got.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

#[derive(Clone, Default)]
struct Shared {
    /// Answers to the next letters, instead of 250.
    answers: Arc<Mutex<VecDeque<String>>>,
    /// Everything that clients said, commands and letters.
    heard: Arc<Mutex<Vec<String>>>,
}

/// A fake mail server on a port of its own. It speaks no TLS.
pub(crate) struct FakeMail {
    pub(crate) port: u16,
    shared: Shared,
    server: JoinHandle<()>,
}

impl FakeMail {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "the harness stops its own server on drop")]
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Shared::default();
        let state = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One after the other: nobody sends two letters at once to it.
                talk(stream, &state).await;
            }
        });
        Self { port, shared, server }
    }

    /// What it answers to the next letter.
    pub(crate) fn answer(&self, line: &str) {
        self.shared.answers.lock().expect("nobody panics holding it").push_back(line.to_owned());
    }

    /// Everything that clients said, line by line.
    pub(crate) fn heard(&self) -> String {
        self.shared.heard.lock().expect("nobody panics holding it").join("\n")
    }
}

async fn talk(stream: TcpStream, shared: &Shared) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 mail.localhost ESMTP\r\n").await.ok()?;
    while let Some(line) = lines.next_line().await.ok()? {
        shared.heard.lock().expect("nobody panics holding it").push(line.clone());
        let answer = match line.split(' ').next().unwrap_or_default() {
            "EHLO" => "250-mail.localhost\r\n250 AUTH PLAIN LOGIN".to_owned(),
            "AUTH" => "235 come in".to_owned(),
            "DATA" => {
                write.write_all(b"354 go on\r\n").await.ok()?;
                while let Some(line) = lines.next_line().await.ok()? {
                    if line == "." {
                        break;
                    }
                    shared.heard.lock().expect("nobody panics holding it").push(line);
                }
                let next = shared.answers.lock().expect("nobody panics holding it").pop_front();
                next.unwrap_or_else(|| "250 queued as 7".to_owned())
            }
            "QUIT" => "221 bye".to_owned(),
            _ => "250 fine".to_owned(),
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
    Some(())
}

impl Drop for FakeMail {
    fn drop(&mut self) {
        self.server.abort();
    }
}
