//! Connections: where the server listens, and how bytes become requests.
//! In: an address, a router. Out: requests with their peer, below the public prefix.
//! Promise: a client that is slow with its head, or that does not read its answer, is cut off; requests under way survive an ordered stop.

mod patience;

use std::convert::Infallible;
use std::future::Future;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::http::Uri;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt as _;

use self::patience::Patient;
use crate::client::Peer;
use crate::config::Listen;

/// A client that has not sent its head by then is gone or hostile.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that accepts connections.
pub enum Listener {
    /// An address and port.
    Tcp(TcpListener),
    /// A socket in the file system.
    Unix(UnixListener),
}

impl Listener {
    /// Binds the configured address.
    ///
    /// # Errors
    /// Names the address that cannot be had.
    pub async fn bind(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                Ok(Self::Tcp(listener.with_context(|| {
                    format!("could not listen on {address} (CLICKSTAMP_LISTEN)")
                })?))
            }
            Listen::Unix(path) => {
                // A socket left by a dead process answers nobody; a living one holds the data directory's lock.
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    bail!("something listens on {} already (CLICKSTAMP_LISTEN)", path.display());
                }
                match std::fs::symlink_metadata(path) {
                    Err(_) => {} // There is nothing; if it is something worse, binding says so.
                    Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)
                        .with_context(|| format!("could not replace {}", path.display()))?,
                    Ok(_) => bail!("{} is no socket (CLICKSTAMP_LISTEN)", path.display()),
                }
                let listener = UnixListener::bind(path);
                Ok(Self::Unix(listener.with_context(|| {
                    format!("could not listen on {} (CLICKSTAMP_LISTEN)", path.display())
                })?))
            }
        }
    }

    /// Where it listens, for people: `http://127.0.0.1:8080`.
    pub fn describe(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(
                |_| "an unknown address".to_owned(),
                |address| format!("http://{address}"),
            ),
            Self::Unix(_) => "its Unix socket".to_owned(),
        }
    }
}

pub(crate) type Stream = Box<dyn Duplex>;

/// Bytes both ways.
pub(crate) trait Duplex:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin
{
}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// The next connection, once there is room for one more.
pub(crate) async fn accept(
    listener: &Listener,
    connections: &Arc<Semaphore>,
) -> Result<(Stream, Peer, OwnedSemaphorePermit)> {
    let permit = connections
        .clone()
        .acquire_owned()
        .await
        .context("the connections are counted as long as we run")?;
    Ok(match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            (Box::new(stream) as Stream, Peer(Some(address.ip())), permit)
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            (Box::new(stream) as Stream, Peer(None), permit)
        }
    })
}

/// What a connection's requests are answered by.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) router: Router,
    pub(crate) peer: Peer,
    /// Public path prefix: `/k`, or empty.
    pub(crate) prefix: Arc<str>,
}

/// Answers a connection's requests until it ends, or an ordered stop asks it to.
pub(crate) fn serve(
    stream: Stream,
    connection: Connection,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connection.peer);
        strip_prefix(request.uri_mut(), &connection.prefix);
        let answer = connection.router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let served =
        graceful.watch(server.serve_connection(TokioIo::new(Patient::new(stream)), service));
    async move {
        if let Err(error) = served.await {
            tracing::debug!(error = error.to_string(), "a connection broke");
        }
    }
}

/// A proxy may hand us the public path with or without its prefix; inside there is none.
fn strip_prefix(uri: &mut Uri, prefix: &str) {
    if prefix.is_empty() {
        return;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let Some(rest) = path.strip_prefix(prefix) else { return };
    let stripped = match rest.chars().next() {
        None => "/".to_owned(),
        Some('?') => format!("/{rest}"),
        Some('/') => rest.to_owned(),
        Some(_) => return, // `/known` does not begin with the prefix `/k`.
    };
    if let Ok(stripped) = stripped.parse() {
        *uri = stripped;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_prefix_is_cut_where_it_stands_alone() {
        let rows = [
            ("/k", "/k/t/main.js", "/t/main.js"),
            ("/k", "/k", "/"),
            ("/k", "/k?a=b", "/?a=b"),
            ("/k", "/known", "/known"),
            ("/k", "/t/main.js", "/t/main.js"),
            ("", "/k/t/main.js", "/k/t/main.js"),
        ];
        for (prefix, path, expected) in rows {
            let mut uri: Uri = path.parse().unwrap();
            strip_prefix(&mut uri, prefix);
            assert_eq!(uri.to_string(), expected, "{prefix} {path}");
        }
    }
}
