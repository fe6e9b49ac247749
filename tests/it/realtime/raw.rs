//! Connections below HTTP: what clients do that no HTTP library does.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::Server;

/// A connection to the server.
pub(super) async fn connect(server: &Server) -> TcpStream {
    let address = server.url.strip_prefix("http://").expect("an address");
    TcpStream::connect(address).await.expect("it accepts")
}

/// A connection on which these bytes were sent.
pub(super) async fn with(server: &Server, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(server).await;
    stream.write_all(bytes).await.expect("it takes them");
    stream
}

/// Everything that comes until the other side closes.
pub(super) async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it too; what came before it counts.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer whose body is `ok\n`.
pub(super) async fn read_ok(stream: &mut TcpStream) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while !text.ends_with("ok\n") {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    text
}

/// True when the other side has not closed within a moment.
pub(super) async fn is_open(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(1), stream.read(&mut [0])).await.is_err()
}
