//! `clickstamp healthcheck`: checks whether the server is ready, for containers and supervisors.
//! Takes the address on which the server listens; returns success, or an error with the server's
//! response.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Config, Listen};

/// A server that takes longer counts as not ready.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Requests `/readyz`.
///
/// # Errors
/// If the server cannot be reached, does not respond in time, or is not ready.
pub async fn run(config: &Config) -> Result<()> {
    let answer = async {
        match &config.listen {
            Listen::Tcp(address) => ask(TcpStream::connect(reachable(*address)).await?).await,
            Listen::Unix(path) => ask(UnixStream::connect(path).await?).await,
        }
    };
    let answer = tokio::time::timeout(TIMEOUT, answer).await;
    let answer =
        answer.context("no answer within 5 seconds")?.context("could not reach the server")?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("the server is not ready: {status}");
    }
    Ok(())
}

/// Replaces "all addresses" (`0.0.0.0`, `::`) by loopback, since one cannot connect to it.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<String> {
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
