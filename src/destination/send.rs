//! Sends one HTTP request.
//! Takes a URL and the bytes of a message; returns an `Answer` in every case.
//! Guarantees limits on time and memory, no redirects, no proxies and no hidden retries, and that
//! no error text contains the URL.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header;

use super::guard::{self, BlockedAddress, GuardedResolver, Lookup};
use super::tls::{Authorities, tls_error, tls_words};
use super::{IN_THE_URL, kind, webhook};
use crate::clock::Timestamp;
use crate::config::Secret;
use crate::outbound;
use crate::settings::{Destination, SigningSecret};

/// Time limit for the connection, including name resolution.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for the whole attempt. The lease of a claim is three times as long.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit for the body once the status is known, as a share of the whole attempt: two seconds.
/// A destination that sends its response slowly must not block others.
const BODY_SHARE: u32 = 10;
/// Maximum number of response bytes to read; the connection is closed after that.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Maximum number of response bytes to store with the attempt.
const KEPT_ANSWER_BYTES: usize = 4 * 1024;

/// The result of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// An HTTP response; its body is truncated to what is stored.
    Http { status: u16, body: String, location: Option<String>, retry_after: Option<String> },
    /// No response: an error text about the connection, the certificate or the timeout.
    Nothing(String),
    /// Not sent: an error text about the address.
    Blocked(String),
}

/// The content of one attempt.
pub(crate) struct Parcel<'a> {
    /// The delivery's ID, the same for every attempt.
    pub(crate) id: &'a str,
    /// When this attempt starts.
    pub(crate) at: Timestamp,
    pub(crate) content_type: &'a str,
    /// The final bytes.
    pub(crate) body: &'a str,
}

/// Network settings of a sender. Tests replace the resolver and the timeouts.
#[derive(Clone)]
pub struct Network {
    /// Resolves a host name to addresses.
    pub lookup: Lookup,
    /// Time limit for the connection, including name resolution.
    pub connect_timeout: Duration,
    /// Time limit for the whole attempt. The lease of a claim is three times as long.
    pub attempt_timeout: Duration,
}

impl Default for Network {
    /// The settings for production.
    fn default() -> Self {
        Self {
            lookup: guard::system_lookup(),
            connect_timeout: CONNECT_TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
        }
    }
}

/// Sends messages. There is one per process, so that connections are reused.
#[derive(Clone)]
pub(crate) struct Sender {
    client: reqwest::Client,
    /// Time limit for the body of a response.
    body_timeout: Duration,
    pub(super) allow_private: bool,
    pub(super) lookup: Lookup,
    /// Certificates of additional authorities to trust for mail servers.
    pub(super) mail_authorities: Option<Authorities>,
}

impl Sender {
    /// Builds the HTTP client.
    pub(crate) fn new(allow_private: bool, network: Network) -> Result<Self> {
        let client = outbound::for_endpoints()
            .https_only(!allow_private)
            .connect_timeout(network.connect_timeout)
            .timeout(network.attempt_timeout)
            .dns_resolver(Arc::new(GuardedResolver {
                allow_private,
                lookup: network.lookup.clone(),
            }))
            .build()
            .context("could not build the HTTP client")?;
        Ok(Self {
            client,
            body_timeout: network.attempt_timeout / BODY_SHARE,
            allow_private,
            lookup: network.lookup,
            mail_authorities: None,
        })
    }

    /// Returns a sender that also trusts these certificates (PEM) of mail servers.
    pub(crate) fn trusting_in_mail(self, pem: &str) -> Result<Self> {
        Ok(Self { mail_authorities: Some(Authorities::read(pem)?), ..self })
    }

    /// Requests a page as a visitor's browser would; sends only the user agent.
    pub(crate) async fn visit(&self, url: &str, user_agent: &str) -> Answer {
        match guard::check_url(url, self.allow_private) {
            Ok(url) => {
                self.answer_to(self.client.get(url).header(header::USER_AGENT, user_agent)).await
            }
            Err(why) => Answer::Blocked(why),
        }
    }

    /// Posts JSON that belongs to no delivery, signed if there is a secret.
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
        self.answer_to(request.body(parcel.body.to_owned())).await
    }

    /// Sends the bytes of a delivery.
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
        for header in &destination.options.message.headers {
            request = request.header(&header.name, &header.value);
        }
        if kind(destination.kind).is_signed {
            let secrets = &destination.secrets;
            for (name, value) in webhook::headers(secrets, parcel.id, parcel.at, parcel.body) {
                request = request.header(name, value);
            }
        }
        self.answer_to(request).await
    }

    async fn answer_to(&self, request: reqwest::RequestBuilder) -> Answer {
        match request.send().await {
            Ok(response) => read(response, self.body_timeout).await,
            Err(error) => explain(&error.without_url()),
        }
    }
}

/// Appends a query to the URL's own.
fn with_query(mut url: url::Url, query: &str) -> url::Url {
    let whole = match url.query() {
        Some(own) if !own.is_empty() => format!("{own}&{query}"),
        _ => query.to_owned(),
    };
    url.set_query(Some(&whole));
    url
}

/// Reads a response. A body that breaks off or takes too long is truncated: the status is what
/// counts.
async fn read(mut response: reqwest::Response, patience: Duration) -> Answer {
    let text = |name| {
        response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let (location, retry_after) = (text(header::LOCATION), text(header::RETRY_AFTER));
    let status = response.status().as_u16();
    let (mut kept, mut seen) = (Vec::new(), 0);
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            seen += chunk.len();
            let room = KEPT_ANSWER_BYTES.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if seen >= MAX_ANSWER_BYTES {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(patience, reading).await; // What arrived until then is the body.
    let body = String::from_utf8_lossy(&kept).replace('\0', "\u{fffd}");
    Answer::Http { status, body, location, retry_after }
}

/// Explains to users what went wrong.
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
        (Some(fault), _) => tls_words(fault),
        _ if said("dns error") => "its name was not found: is the URL spelled right?".to_owned(),
        _ if error.is_timeout() && error.is_connect() => {
            "it could not be reached within 5 seconds".to_owned()
        }
        _ if error.is_timeout() => "it did not respond within 20 seconds".to_owned(),
        (None, Some(io::ErrorKind::ConnectionRefused)) => {
            "it could not be reached: the connection was refused".to_owned()
        }
        (None, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)) => {
            "it closed the connection without a response".to_owned()
        }
        _ if error.is_connect() => "it could not be reached".to_owned(),
        _ if said("connection closed") || said("unexpected end of file") => {
            "it closed the connection without a response".to_owned()
        }
        _ => "its response could not be read".to_owned(),
    };
    Answer::Nothing(words)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::destination::tests::destination;

    /// A server for one connection; runs the closure after it has read the request's head.
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

    #[tokio::test]
    async fn a_slow_body_is_cut_off_and_the_status_counts() {
        let (hung_up, seen) = tokio::sync::oneshot::channel();
        let port = server(move |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nok");
            while stream.read(&mut [0]).is_ok_and(|read| read > 0) {}
            hung_up.send(()).unwrap();
        });
        let network = Network { attempt_timeout: Duration::from_secs(600), ..Network::default() };
        let sender = Sender {
            body_timeout: Duration::from_millis(50),
            ..Sender::new(true, network).unwrap()
        };
        let mut to = destination();
        to.url = crate::config::Secret::new(format!("http://127.0.0.1:{port}/"));
        let parcel =
            Parcel { id: "dlv_1", at: Timestamp::from_ms(0), content_type: "text/plain", body: "" };
        let answered = tokio::time::timeout(Duration::from_secs(60), sender.send(&to, parcel));
        match answered.await.expect("it waits no longer than the time limit") {
            Answer::Http { status, body, .. } => assert!(status == 200 && body.starts_with("ok")),
            other @ (Answer::Nothing(_) | Answer::Blocked(_)) => panic!("{other:?}"),
        }
        seen.await.expect("the connection was closed");
    }

    #[tokio::test]
    async fn only_the_beginning_of_an_endless_response_is_read() {
        let (announce, written) = tokio::sync::oneshot::channel();
        let port = server(move |mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            let mut bytes = 0;
            while stream.write_all(&[b'x'; 64 * 1024]).is_ok() && bytes < 512 * 1024 * 1024 {
                bytes += 64 * 1024;
            }
            announce.send(bytes).unwrap();
        });
        let sender = Sender::new(true, Network::default()).unwrap();
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
}
