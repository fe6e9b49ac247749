//! Limits how slowly a response may be read. hyper limits only how slowly a request may arrive.
//! Takes a connection; returns it with writes that fail if the client reads next to nothing for too
//! long.
//! Guarantees that a client that reads a byte a second keeps its task and its response's memory for
//! a limited time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::limit::places::Place;

/// How long to wait for a client to read a part of its response. Far longer than a phone loses its
/// network in a tunnel.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much a client must read in that time. The slowest networks are a hundred times as fast.
const LEAST_BYTES: usize = 4 * 1024;

/// A connection whose client must read. Costs nothing as long as it does.
pub(super) struct Patient<S> {
    inner: S,
    /// Notified when the client does something.
    place: Arc<Place>,
    /// The end of the current wait, which started when a write could not be done at once.
    wait: Option<Pin<Box<Sleep>>>,
    /// Bytes written since then.
    taken: usize,
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    pub(super) fn new(inner: S, place: Arc<Place>) -> Self {
        Self { inner, place, wait: None, taken: 0 }
    }

    /// Passes on a write; one that has to wait fails when the time is over.
    fn limit(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.taken += count;
                self.place.client_acted();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(self.wait_longer(context));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "it did not read its response",
                )))
            }
        }
    }

    /// Ready when the time is over.
    fn wait_longer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let wait = self.wait.get_or_insert_with(|| {
                self.taken = 0;
                Box::pin(sleep(PATIENCE))
            });
            ready!(wait.as_mut().poll(context));
            if self.taken < LEAST_BYTES {
                return Poll::Ready(());
            }
            self.wait = None;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.limit(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.limit(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write, so the wait has ended.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wait = None;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.place.client_acted();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::watch;
    use tokio::time::Instant;

    use super::*;
    use crate::client::Peer;
    use crate::limit::places::{Places, Rules};
    use crate::server::{Connection, Stage, serve};

    const ANSWER_BYTES: usize = 64 * 1024;

    /// How much of a response a client gets that reads this many bytes a second, and how many
    /// seconds pass until the connection ends.
    async fn read_at(bytes_a_second: usize) -> (usize, u64) {
        let (ours, mut theirs) = tokio::io::duplex(256);
        let router = Router::new().route("/", get(async || "x".repeat(ANSWER_BYTES)));
        let connection = Connection { router, peer: Peer(None), prefix: "".into() };
        let client = async {
            theirs.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
            let begun = Instant::now();
            let (mut read, mut buffer) = (0, vec![0; bytes_a_second]);
            loop {
                match theirs.read(&mut buffer).await.unwrap() {
                    0 => return (read, begun.elapsed().as_secs()),
                    count => read += count,
                }
                sleep(Duration::from_secs(1)).await;
            }
        };
        let (_going_on, stage) = watch::channel(Stage::Serving);
        let places = Places::new(Rules { total: 1, share: 1, patience: PATIENCE });
        let place = places.enter_at_once(None, 1).unwrap();
        let served = serve(Box::new(ours), place, connection, stage);
        let (read, ()) = tokio::join!(client, served);
        read
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_a_byte_a_second_is_cut_off() {
        let (read, seconds) = read_at(1).await;
        assert!(read < 1024, "{read}");
        // What was in the pipe by then can still be read.
        assert!((30..30 + 300).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_on_a_slow_line_gets_all_of_it() {
        let (read, seconds) = read_at(200).await;
        assert!(read > ANSWER_BYTES && seconds > 300, "{read} bytes in {seconds} s");
    }
}
