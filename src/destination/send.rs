//! One attempt over the wire.
//! In: a URL and frozen bytes. Out: an `Answer`, whatever happens.
//! Promise: bounded in time and memory; no redirects, no proxies, no retries of its own; the URL never stands in an error text.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header;
use reqwest::redirect::Policy;

use super::guard::{self, BlockedAddress, GuardedResolver, Lookup};
use super::mail::Authorities;
use super::{IN_THE_URL, webhook};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::settings::{Destination, DestinationKind, SigningSecret};

/// Until the connection stands, name resolution included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the whole attempt. The lease of a claim is three times as long.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Most of an answer that is read; the connection is closed after it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most of an answer that is kept with the attempt.
const KEPT_ANSWER_BYTES: usize = 4 * 1024;

/// What came of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// An HTTP answer; its body cut to what is kept.
    Http { status: u16, body: String, location: Option<String>, retry_after: Option<String> },
    /// No answer: a sentence about the connection, the certificate or the time.
    Nothing(String),
    /// We did not send: a sentence about the address.
    Blocked(String),
}

/// What is sent in one attempt.
pub(crate) struct Parcel<'a> {
    /// The delivery's ID, the same at every attempt.
    pub(crate) id: &'a str,
    /// When this attempt begins.
    pub(crate) at: Timestamp,
    pub(crate) content_type: &'a str,
    /// The frozen bytes.
    pub(crate) body: &'a str,
}

/// Sends messages. One per process, so that connections are kept.
#[derive(Clone)]
pub(crate) struct Sender {
    client: reqwest::Client,
    pub(super) allow_private: bool,
    pub(super) lookup: Lookup,
    /// Who may vouch for a mail server, beside those whom the system trusts.
    pub(super) mail_authorities: Option<Authorities>,
}

impl Sender {
    /// Builds the one client.
    pub(crate) fn new(allow_private: bool) -> Result<Self> {
        Self::with(allow_private, guard::system_lookup(), CONNECT_TIMEOUT, ATTEMPT_TIMEOUT)
    }

    /// The same, and mail servers may be vouched for by these certificates (PEM).
    pub(crate) fn trusting_in_mail(self, pem: &str) -> Result<Self> {
        Ok(Self { mail_authorities: Some(Authorities::read(pem)?), ..self })
    }

    fn with(
        allow_private: bool,
        lookup: Lookup,
        connect_timeout: Duration,
        attempt_timeout: Duration,
    ) -> Result<Self> {
        // An error means that somebody installed it before us, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("Clickstamp/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .https_only(!allow_private)
            .connect_timeout(connect_timeout)
            .timeout(attempt_timeout)
            .dns_resolver(Arc::new(GuardedResolver { allow_private, lookup: lookup.clone() }))
            .build()
            .context("could not build the HTTP client")?;
        Ok(Self { client, allow_private, lookup, mail_authorities: None })
    }

    /// Asks for an address as a visitor's browser would: nothing goes along but its name.
    pub(crate) async fn visit(&self, url: &str, user_agent: &str) -> Answer {
        match guard::check_url(url, self.allow_private) {
            Ok(url) => answer_to(self.client.get(url).header(header::USER_AGENT, user_agent)).await,
            Err(why) => Answer::Blocked(why),
        }
    }

    /// Posts JSON that is about no conversion, signed where there is a secret.
    pub(crate) async fn post(&self, url: &Secret, secret: &Secret, parcel: Parcel<'_>) -> Answer {
        let url = match guard::check_url(url.expose(), self.allow_private) {
            Ok(url) => url,
            Err(why) => return Answer::Blocked(why),
        };
        let mut request = self.client.post(url).header(header::CONTENT_TYPE, parcel.content_type);
        if !secret.expose().is_empty() {
            let secrets = [SigningSecret { secret: secret.clone(), until: None }];
            for (name, value) in webhook::headers(&secrets, parcel.id, parcel.at, parcel.body) {
                request = request.header(name, value);
            }
        }
        answer_to(request.body(parcel.body.to_owned())).await
    }

    /// Sends frozen bytes.
    pub(crate) async fn send(&self, destination: &Destination, parcel: Parcel<'_>) -> Answer {
        let url = match guard::check_url(destination.url.expose(), self.allow_private) {
            Ok(url) => url,
            Err(why) => return Answer::Blocked(why),
        };
        let mut request = if parcel.content_type == IN_THE_URL {
            self.client.get(with_query(url, parcel.body))
        } else {
            let request = self.client.post(url).header(header::CONTENT_TYPE, parcel.content_type);
            request.body(parcel.body.to_owned())
        };
        for header in &destination.options.headers {
            request = request.header(&header.name, &header.value);
        }
        if destination.kind == DestinationKind::Webhook {
            let secrets = &destination.secrets;
            for (name, value) in webhook::headers(secrets, parcel.id, parcel.at, parcel.body) {
                request = request.header(name, value);
            }
        }
        answer_to(request).await
    }
}

async fn answer_to(request: reqwest::RequestBuilder) -> Answer {
    match request.send().await {
        Ok(response) => read(response).await,
        Err(error) => explain(&error.without_url()),
    }
}

/// The URL's own query stays; ours follows it.
fn with_query(mut url: url::Url, query: &str) -> url::Url {
    let whole = match url.query() {
        Some(own) if !own.is_empty() => format!("{own}&{query}"),
        _ => query.to_owned(),
    };
    url.set_query(Some(&whole));
    url
}

/// A body that breaks off changes nothing: the status has been said.
async fn read(mut response: reqwest::Response) -> Answer {
    let text = |name| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (location, retry_after) = (text(header::LOCATION), text(header::RETRY_AFTER));
    let status = response.status().as_u16();
    let (mut kept, mut seen) = (Vec::new(), 0);
    while let Ok(Some(chunk)) = response.chunk().await {
        seen += chunk.len();
        let room = KEPT_ANSWER_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if seen >= MAX_ANSWER_BYTES {
            break;
        }
    }
    let body = String::from_utf8_lossy(&kept).replace('\0', "\u{fffd}");
    Answer::Http { status, body, location, retry_after }
}

/// The fault of the TLS handshake, which comes wrapped in one or more I/O errors.
pub(super) fn tls_error<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => tls_error(io.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// What went wrong, in words for the owner.
fn explain(error: &reqwest::Error) -> Answer {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(blocked) = cause.downcast_ref::<BlockedAddress>() {
            return Answer::Blocked(blocked.to_string());
        }
        causes.push(cause);
        source = cause.source();
    }
    let said = |text: &str| causes.iter().any(|cause| cause.to_string().contains(text));
    let io = causes.iter().rev().find_map(|cause| cause.downcast_ref::<io::Error>());
    let tls = causes.iter().find_map(|cause| tls_error(*cause));
    let words = match (tls, io.map(io::Error::kind)) {
        (Some(rustls::Error::InvalidCertificate(why)), _) => {
            format!("its certificate is not valid: {why}")
        }
        (Some(_), _) => {
            "it does not speak TLS there: is the URL's port right, and is it https?".to_owned()
        }
        _ if said("dns error") => "its name was not found: is the URL spelled right?".to_owned(),
        _ if error.is_timeout() && error.is_connect() => {
            "it could not be reached within 5 seconds".to_owned()
        }
        _ if error.is_timeout() => "it gave no answer within 20 seconds".to_owned(),
        (None, Some(io::ErrorKind::ConnectionRefused)) => {
            "it could not be reached: nothing listens there".to_owned()
        }
        (None, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)) => {
            "it closed the connection without an answer".to_owned()
        }
        _ if error.is_connect() => "it could not be reached".to_owned(),
        _ if said("connection closed") || said("unexpected end of file") => {
            "it closed the connection without an answer".to_owned()
        }
        _ => "it gave no answer that can be read".to_owned(),
    };
    Answer::Nothing(words)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{IpAddr, TcpListener, TcpStream};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::destination::tests::destination;
    use crate::destination::{Outcome, judge};

    /// A server of one connection, which does as the closure says after it has read the request's head.
    fn server(behave: impl FnOnce(TcpStream) + Send + 'static) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).unwrap();
            behave(stream);
        });
        port
    }

    /// A server whose certificate nobody vouches for.
    fn self_signed() -> u16 {
        use rustls::pki_types::pem::PemObject as _;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};

        let _ = rustls::crypto::ring::default_provider().install_default(); // The sender may have been faster.
        let pem = include_bytes!("../../tests/fixtures/self-signed.pem");
        let certificate = CertificateDer::from_pem_slice(pem).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pem).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut session = rustls::ServerConnection::new(config).unwrap();
            while session.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
        });
        port
    }

    fn says(text: &'static str) -> impl FnOnce(TcpStream) + Send {
        move |mut stream| {
            // The other side may have seen enough and gone.
            let _ = stream.write_all(text.as_bytes());
        }
    }

    fn hasty(allow_private: bool, lookup: Lookup) -> Sender {
        let soon = Duration::from_millis(400);
        Sender::with(allow_private, lookup, soon, soon).unwrap()
    }

    async fn answer(sender: &Sender, url: String) -> (Outcome, String) {
        let mut to = destination();
        to.url = crate::config::Secret::new(url);
        let parcel = Parcel {
            id: "dlv_1",
            at: Timestamp::from_ms(0),
            content_type: "application/json",
            body: "{}",
        };
        let (outcome, error) = judge(&to, &sender.send(&to, parcel).await);
        (outcome, error.unwrap_or_default())
    }

    #[tokio::test]
    async fn every_way_to_answer_badly_has_its_outcome_and_its_words() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let closed = nobody.local_addr().unwrap().port();
        drop(nobody);
        let rows: Vec<(&str, String, Outcome, &str)> = vec![
            (
                "nobody",
                format!("http://127.0.0.1:{closed}/"),
                Outcome::Retry,
                "it could not be reached: nothing listens there",
            ),
            (
                "hangs",
                format!(
                    "http://127.0.0.1:{}/",
                    server(|mut stream| {
                        let _ = stream.read(&mut [0]);
                    })
                ),
                Outcome::Retry,
                "it gave no answer within 20 seconds",
            ),
            (
                "closes at once",
                format!("http://127.0.0.1:{}/", server(drop)),
                Outcome::Retry,
                "it closed the connection without an answer",
            ),
            (
                "garbage",
                format!("http://127.0.0.1:{}/", server(says("SSH-2.0-nothing\r\n\r\n"))),
                Outcome::Retry,
                "it gave no answer that can be read",
            ),
            (
                "cut head",
                format!("http://127.0.0.1:{}/", server(says("HTTP/1.1 200 OK\r\ncontent-le"))),
                Outcome::Retry,
                "it closed the connection without an answer",
            ),
            (
                "cut body",
                format!(
                    "http://127.0.0.1:{}/",
                    server(says("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf"))
                ),
                Outcome::Accepted,
                "",
            ),
            (
                "slow body",
                format!(
                    "http://127.0.0.1:{}/",
                    server(|mut stream| {
                        let _ =
                            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhalf");
                        let _ = stream.read(&mut [0]);
                    })
                ),
                Outcome::Accepted,
                "",
            ),
            (
                "redirect inside",
                format!(
                    "http://127.0.0.1:{}/",
                    server(says(
                        "HTTP/1.1 307 Go\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n"
                    ))
                ),
                Outcome::Refused,
                "it moved to http://169.254.169.254/latest: put the new URL in",
            ),
            (
                "no TLS",
                format!("https://127.0.0.1:{}/", server(says("HTTP/1.1 400 Bad Request\r\n\r\n"))),
                Outcome::Retry,
                "it does not speak TLS there: is the URL's port right, and is it https?",
            ),
            (
                "stalls in its head",
                format!(
                    "http://127.0.0.1:{}/",
                    server(|mut stream| {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le");
                        let _ = stream.read(&mut [0]);
                    })
                ),
                Outcome::Retry,
                "it gave no answer within 20 seconds",
            ),
            (
                "huge body",
                format!(
                    "http://127.0.0.1:{}/",
                    server(|mut stream| {
                        let _ = stream
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10485760\r\n\r\n");
                        let _ = stream.write_all(&vec![b'x'; 10 * 1024 * 1024]);
                    })
                ),
                Outcome::Accepted,
                "",
            ),
            (
                "huge body of a refusal",
                format!(
                    "http://127.0.0.1:{}/",
                    server(|mut stream| {
                        let _ = stream
                            .write_all(b"HTTP/1.1 413 No\r\ncontent-length: 10485760\r\n\r\n");
                        let _ = stream.write_all(&vec![b'x'; 10 * 1024 * 1024]);
                    })
                ),
                Outcome::Refused,
                "it answered 413",
            ),
            (
                "endless head",
                format!(
                    "http://127.0.0.1:{}/",
                    server(|mut stream| {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
                        let mut line = [b'x'; 1024];
                        line[0..3].copy_from_slice(b"x: ");
                        line[1022..].copy_from_slice(b"\r\n");
                        while stream.write_all(&line).is_ok() {}
                    })
                ),
                Outcome::Retry,
                "it gave no answer that can be read",
            ),
            (
                "of its own making",
                format!("https://127.0.0.1:{}/", self_signed()),
                Outcome::Retry,
                "its certificate is not valid: UnknownIssuer",
            ),
            (
                "no such name",
                "http://no-such-host.invalid/".to_owned(),
                Outcome::Retry,
                "its name was not found: is the URL spelled right?",
            ),
        ];
        let lookup: Lookup = Arc::new(|_| {
            Box::pin(async { Err(io::Error::other("failed to lookup address information")) })
        });
        let sender = hasty(true, lookup);
        for (name, url, outcome, words) in rows {
            assert_eq!(answer(&sender, url).await, (outcome, words.to_owned()), "{name}");
        }
    }

    #[tokio::test]
    async fn of_an_endless_answer_only_the_beginning_is_read() {
        let (told, written) = tokio::sync::oneshot::channel();
        let port = server(move |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let mut bytes = 0;
            while stream.write_all(&[b'x'; 64 * 1024]).is_ok() && bytes < 512 * 1024 * 1024 {
                bytes += 64 * 1024;
            }
            told.send(bytes).unwrap();
        });
        let sender = Sender::new(true).unwrap();
        let mut to = destination();
        to.url = crate::config::Secret::new(format!("http://127.0.0.1:{port}/"));
        let parcel = Parcel {
            id: "dlv_1",
            at: Timestamp::from_ms(0),
            content_type: "application/json",
            body: "{}",
        };
        match sender.send(&to, parcel).await {
            Answer::Http { status, body, .. } => {
                assert_eq!((status, body.len()), (200, KEPT_ANSWER_BYTES));
            }
            other @ (Answer::Nothing(_) | Answer::Blocked(_)) => panic!("{other:?}"),
        }
        assert!(written.await.unwrap() < 64 * 1024 * 1024, "the connection was closed");
    }

    #[tokio::test]
    async fn a_name_that_turns_to_a_private_address_is_not_followed_there() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        // The first look-up gives a public address where nobody answers, every later one this machine.
        let rebinding: Lookup = Arc::new(move |_| {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            let address: IpAddr = [[192, 88, 98, 1], [127, 0, 0, 1]][turn.min(1)].into();
            Box::pin(async move { Ok(vec![address]) })
        });
        let sender = hasty(false, rebinding);
        let (first, _) = answer(&sender, "https://rebind.example:9/".to_owned()).await;
        assert_eq!(first, Outcome::Retry, "nobody there, or no way there");
        assert_eq!(
            asked.load(Ordering::SeqCst),
            1,
            "the address that was checked is the one that is used"
        );
        let (second, why) = answer(&sender, "https://rebind.example:9/".to_owned()).await;
        assert_eq!(second, Outcome::Blocked);
        assert!(why.starts_with("127.0.0.1 is a private or local address"), "{why}");
    }

    #[tokio::test]
    async fn private_addresses_beside_a_public_one_are_dropped() {
        let mixed: Lookup = Arc::new(|_| {
            Box::pin(async {
                Ok(vec![[127, 0, 0, 1].into(), [10, 0, 0, 1].into(), [192, 88, 98, 1].into()])
            })
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (outcome, _) =
            answer(&hasty(false, mixed), format!("https://mixed.example:{port}/")).await;
        assert_eq!(outcome, Outcome::Retry);
        assert!(listener.accept().is_err(), "nobody knocked at home");
    }
}
