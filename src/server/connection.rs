//! Serves one connection. Takes a stream, a place and a router; returns when the connection has
//! ended.
//! Guarantees that a request that was sent gets a response, even while the server stops, and that a
//! slow client does not keep a place that another client needs.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::Stream;
use super::patience::Patient;
use super::stage::{Stage, reached};
use crate::client::{BelowPrefix, Peer};
use crate::limit::places::Place;

/// A client that has not sent its head by then is gone or hostile.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest head read; browsers send a few kilobytes, proxies usually refuse more than 16 or 32.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// During a stop, a client that does nothing for this long is disconnected.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What is needed to respond to a connection's requests.
#[derive(Clone)]
pub(crate) struct Connection {
    pub(crate) router: Router,
    pub(crate) peer: Peer,
    /// Public path prefix: `/k`, or empty.
    pub(crate) prefix: Arc<str>,
}

/// Serves a connection's requests until it ends, another client needs its place, or the server
/// stops.
pub(crate) async fn serve(
    stream: Stream,
    place: Place,
    connection: Connection,
    mut stage: watch::Receiver<Stage>,
) {
    let place = Arc::new(place);
    let (of_requests, stages) = (place.clone(), stage.clone());
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let place = of_requests.clone();
        let mut request = request.map(|body| Body::new(Received::new(body, place.clone())));
        request.extensions_mut().insert(connection.peer);
        if strip_prefix(request.uri_mut(), &connection.prefix) {
            request.extensions_mut().insert(BelowPrefix);
        }
        let (router, stages) = (connection.router.clone(), stages.clone());
        async move {
            if request.headers().get_all(header::HOST).iter().count() > 1 {
                place.set_busy(false);
                return Ok(StatusCode::BAD_REQUEST.into_response());
            }
            let answer = router.oneshot(request).await;
            place.set_busy(false);
            let mut answer: Response = answer.unwrap_or_else(|never| match never {});
            if *stages.borrow() != Stage::Serving {
                // hyper closes the connection after the response, and tells the client so.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD_BYTES);
    let stream = TokioIo::new(Patient::new(stream, place.clone()));
    let mut served = pin!(server.serve_connection(stream, service));
    let ended = tokio::select! {
        biased; // Read what has arrived before anything else.
        ended = served.as_mut() => ended,
        () = place.must_leave() => return,
        () = reached(&mut stage, Stage::Closing) => {
            served.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = served.as_mut() => ended,
                () = idle_for(&place, STOP_PATIENCE) => return,
                () = reached(&mut stage, Stage::Cutting) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = error.to_string(), "a connection broke");
    }
}

/// Resolves when a client has done nothing for this long.
async fn idle_for(place: &Place, patience: Duration) {
    while place.idle_for() < patience {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A request's body. Once it was read completely, the server has the next move.
struct Received {
    body: Incoming,
    place: Arc<Place>,
}

impl Received {
    fn new(body: Incoming, place: Arc<Place>) -> Self {
        let received = Self { body, place };
        received.note_end();
        received
    }

    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.place.set_busy(true);
        }
    }
}

impl hyper::body::Body for Received {
    type Data = <Incoming as hyper::body::Body>::Data;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            None => self.place.set_busy(true),
            Some(_) => self.note_end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A proxy may pass on the public path with or without its prefix; handlers see it without. Returns
/// whether it was there.
fn strip_prefix(uri: &mut Uri, prefix: &str) -> bool {
    if prefix.is_empty() {
        return false;
    }
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    let stripped = match rest.chars().next() {
        None => "/".to_owned(),
        Some('?') => format!("/{rest}"),
        Some('/') => rest.to_owned(),
        Some(_) => return false, // `/known` does not begin with the prefix `/k`.
    };
    let Ok(stripped) = stripped.parse() else { return false };
    *uri = stripped;
    true
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
            assert_eq!(strip_prefix(&mut uri, prefix), path != expected, "{prefix} {path}");
            assert_eq!(uri.to_string(), expected, "{prefix} {path}");
        }
    }
}
