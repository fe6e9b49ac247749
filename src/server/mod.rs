//! Connections: where the server listens, and how it serves them.
//! Takes an address and a router; passes requests with their peer to the router, without the public
//! path prefix.
//! Guarantees that a client that sends its head or reads its response too slowly is cut off, and
//! that running requests survive an orderly stop.

mod connection;
mod descriptors;
mod patience;
mod stage;

use std::os::unix::fs::FileTypeExt as _;

use anyhow::{Context as _, Result, bail};
use tokio::net::{TcpListener, UnixListener};

pub(crate) use connection::{Connection, serve};
pub(crate) use descriptors::most_connections;
pub(crate) use stage::{Stage, reached};

use crate::client::Peer;
use crate::config::Listen;

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
    /// Names the address that can't be bound.
    pub async fn bind(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await;
                Ok(Self::Tcp(listener.with_context(|| {
                    format!("could not listen on {address} (CLICKSTAMP_LISTEN)")
                })?))
            }
            Listen::Unix(path) => {
                // A socket of a dead process does not respond; a running one holds the data
                // directory's lock.
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    bail!(
                        "another program already listens on {} (CLICKSTAMP_LISTEN)",
                        path.display()
                    );
                }
                match std::fs::symlink_metadata(path) {
                    Err(_) => {} // There is no file; binding reports any other error.
                    Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)
                        .with_context(|| format!("could not replace {}", path.display()))?,
                    Ok(_) => bail!("{} is not a socket (CLICKSTAMP_LISTEN)", path.display()),
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

/// A stream of bytes in both directions.
pub(crate) trait Duplex:
    tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin
{
}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Duplex for T {}

/// Accepts the next connection. Dropping this future loses no connection.
pub(crate) async fn accept(listener: &Listener) -> Result<(Stream, Peer)> {
    Ok(match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            stream.set_nodelay(true)?;
            (Box::new(stream) as Stream, Peer(Some(address.ip())))
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            (Box::new(stream) as Stream, Peer(None))
        }
    })
}
