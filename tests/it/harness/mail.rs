//! A fake mail server that responds as configured, and records what it received.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Its self-signed certificate, for `localhost` and 127.0.0.1.
pub(crate) const MAIL_CERTIFICATE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/self-signed.pem");

/// How its connections are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailTls {
    Never,
    OnDemand,
    FromTheStart,
}

#[derive(Clone, Default)]
struct Shared {
    /// Responses to the next emails, instead of 250.
    answers: Arc<Mutex<VecDeque<String>>>,
    /// Everything that clients sent, commands and emails: unencrypted, and over TLS.
    heard: Arc<Mutex<[Vec<String>; 2]>>,
}

impl Shared {
    fn hear(&self, is_private: bool, line: String) {
        self.heard.lock().expect("nobody panics holding it")[usize::from(is_private)].push(line);
    }
}

/// A fake mail server on a port of its own.
pub(crate) struct FakeMail {
    pub(crate) port: u16,
    shared: Shared,
    server: JoinHandle<()>,
}

impl FakeMail {
    /// Starts one that speaks no TLS.
    pub(crate) async fn start() -> Self {
        Self::speaking(MailTls::Never).await
    }

    /// Starts one, on every address of this machine.
    #[expect(clippy::disallowed_methods, reason = "the harness stops its own server on drop")]
    pub(crate) async fn speaking(tls: MailTls) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Shared::default();
        let (state, acceptor) = (shared.clone(), acceptor());
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One connection at a time is enough. A failed handshake is not an email.
                let stream = BufReader::new(stream);
                if tls == MailTls::FromTheStart {
                    if let Ok(private) = acceptor.accept(stream).await {
                        talk(BufReader::new(private), &state, true, false, true).await;
                    }
                } else if let Some(stream) =
                    talk(stream, &state, false, tls == MailTls::OnDemand, true).await
                    && let Ok(private) = acceptor.accept(stream).await
                {
                    talk(BufReader::new(private), &state, true, false, false).await;
                }
            }
        });
        Self { port, shared, server }
    }

    /// Sets the response to the next email.
    pub(crate) fn answer(&self, line: &str) {
        self.shared.answers.lock().expect("nobody panics holding it").push_back(line.to_owned());
    }

    /// Everything that clients sent unencrypted, line by line.
    pub(crate) fn heard(&self) -> String {
        self.shared.heard.lock().expect("nobody panics holding it")[0].join("\n")
    }

    /// Everything that clients sent over TLS.
    pub(crate) fn heard_in_private(&self) -> String {
        self.shared.heard.lock().expect("nobody panics holding it")[1].join("\n")
    }
}

fn acceptor() -> TlsAcceptor {
    let _ = rustls::crypto::ring::default_provider().install_default(); // Another test may have been faster.
    let certificate = CertificateDer::from_pem_file(MAIL_CERTIFICATE).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(MAIL_CERTIFICATE).expect("its key");
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key).expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// Serves a connection until the client disconnects or starts TLS.
async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    shared: &Shared,
    is_private: bool,
    offers_tls: bool,
    greets: bool,
) -> Option<BufReader<S>> {
    if greets {
        stream.write_all(b"220 mail.localhost ESMTP\r\n").await.ok()?;
        stream.flush().await.ok()?;
    }
    while let Some(line) = read_line(&mut stream).await {
        shared.hear(is_private, line.clone());
        let answer = match line.split(' ').next().unwrap_or_default() {
            "EHLO" if offers_tls => "250-mail.localhost\r\n250 STARTTLS".to_owned(),
            "EHLO" => "250-mail.localhost\r\n250 AUTH PLAIN LOGIN".to_owned(),
            "STARTTLS" if offers_tls => {
                stream.write_all(b"220 go ahead\r\n").await.ok()?;
                stream.flush().await.ok()?;
                return Some(stream);
            }
            "AUTH" => "235 come in".to_owned(),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                stream.flush().await.ok()?;
                while let Some(line) = read_line(&mut stream).await {
                    if line == "." {
                        break;
                    }
                    shared.hear(is_private, line);
                }
                let next = shared.answers.lock().expect("nobody panics holding it").pop_front();
                next.unwrap_or_else(|| "250 queued as 7".to_owned())
            }
            "QUIT" => "221 bye".to_owned(),
            _ => "250 fine".to_owned(),
        };
        stream.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
    }
    None
}

async fn read_line<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = String::new();
    let bytes = stream.read_line(&mut line).await.ok()?;
    (bytes > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

impl Drop for FakeMail {
    fn drop(&mut self) {
        self.server.abort();
    }
}
