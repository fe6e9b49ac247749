//! Connections: where the server listens, and how bytes become requests.
//! In: an address, a router. Out: requests with their peer, below the public prefix.
//! Promise: a client that is slow with its head, or that does not read its answer, is cut off; requests under way survive an ordered stop.

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

/// The next connection. Nothing is lost when it is dropped while it waits.
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
