//! A fake destination that responds as configured, and records what it received.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What it does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reaction {
    /// Status, body, and the value of the header that goes with the status.
    Answer(u16, String, Option<String>),
    /// Reads the request and closes the connection.
    Cut,
    /// Reads the request and never responds.
    Stall,
}

#[derive(Clone, Default)]
struct Shared {
    reactions: Arc<Mutex<VecDeque<Reaction>>>,
    received: Arc<Mutex<Vec<String>>>,
    /// Bodies that were answered, with the answer's status and text.
    answered: Arc<Mutex<Vec<(String, u16, String)>>>,
    stalled: Arc<Notify>,
    /// Requests that wait until they are released.
    holds: Arc<Mutex<VecDeque<Arc<Notify>>>>,
    came: Arc<Notify>,
    heads: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    arrivals: Arc<Mutex<Vec<std::time::Instant>>>,
}

/// A fake AnyTrack on its own port. Responds 200 unless configured otherwise.
pub(crate) struct FakeDestination {
    pub(crate) url: String,
    shared: Shared,
    server: JoinHandle<()>,
}

impl FakeDestination {
    /// Starts it.
    #[expect(clippy::disallowed_methods, reason = "the harness stops its own server on drop")]
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/acc/collect/slug-k7Qe", listener.local_addr().expect("bound"));
        let shared = Shared::default();
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, shared, server }
    }

    /// The next answers, in order; afterwards 200 again.
    pub(crate) fn answers(&self, statuses: impl IntoIterator<Item = u16>) {
        statuses.into_iter().for_each(|status| self.answer(status, "", None));
    }

    /// One answer with a body and a `Retry-After` or `Location`.
    pub(crate) fn answer(&self, status: u16, body: &str, header: Option<&str>) {
        self.reacts([Reaction::Answer(status, body.to_owned(), header.map(str::to_owned))]);
    }

    /// What it does with the next requests, in order; afterwards it answers 200 again.
    pub(crate) fn reacts(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.shared.reactions.lock().expect("nobody panics holding it").extend(reactions);
    }

    /// Waits until a request has come that it will never answer.
    pub(crate) async fn stalled(&self) {
        self.shared.stalled.notified().await;
    }

    /// Bodies that were answered, with the answer's status and text, oldest first.
    pub(crate) fn answered(&self) -> Vec<(String, u16, String)> {
        self.shared.answered.lock().expect("nobody panics holding it").clone()
    }

    /// The next request gets no response until the returned notifier is notified.
    pub(crate) fn hold(&self) -> Arc<Notify> {
        let wakeup = Arc::new(Notify::new());
        self.shared.holds.lock().expect("nobody panics holding it").push_back(wakeup.clone());
        wakeup
    }

    /// Waits until a request has come, one for each call.
    pub(crate) async fn asked(&self) {
        self.shared.came.notified().await;
    }

    /// Headers received so far, oldest first.
    pub(crate) fn headers(&self) -> Vec<HeaderMap> {
        let heads = self.shared.heads.lock().expect("nobody panics holding it");
        heads.iter().map(|(headers, _)| headers.clone()).collect()
    }

    /// Queries received so far, oldest first.
    pub(crate) fn queries(&self) -> Vec<String> {
        let heads = self.shared.heads.lock().expect("nobody panics holding it");
        heads.iter().map(|(_, query)| query.clone()).collect()
    }

    /// When requests arrived, oldest first.
    pub(crate) fn arrivals(&self) -> Vec<std::time::Instant> {
        self.shared.arrivals.lock().expect("nobody panics holding it").clone()
    }

    /// Bodies received so far, oldest first.
    pub(crate) fn received(&self) -> Vec<String> {
        self.shared.received.lock().expect("nobody panics holding it").clone()
    }
}

async fn receive(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let arrived = clickstamp::clock::Clock::stopwatch();
    shared.arrivals.lock().expect("nobody panics holding it").push(arrived);
    let query = uri.query().unwrap_or_default().to_owned();
    // What is not in the URL says what it is.
    let forms = ["application/json", "application/x-www-form-urlencoded"];
    assert!(!query.is_empty() || forms.iter().any(|form| headers[header::CONTENT_TYPE] == form));
    shared.heads.lock().expect("nobody panics holding it").push((headers, query));
    shared.received.lock().expect("nobody panics holding it").push(body.clone());
    let held = shared.holds.lock().expect("nobody panics holding it").pop_front();
    shared.came.notify_one();
    if let Some(wakeup) = held {
        wakeup.notified().await;
    }
    let reaction = shared.reactions.lock().expect("nobody panics holding it").pop_front();
    let (status, text, value) = match reaction {
        None => (200, String::new(), None),
        Some(Reaction::Answer(status, text, value)) => (status, text, value),
        // Ends the connection's task as a panic would, without a message among the test's own.
        Some(Reaction::Cut) => std::panic::resume_unwind(Box::new("cut")),
        Some(Reaction::Stall) => {
            shared.stalled.notify_one();
            std::future::pending().await
        }
    };
    shared.answered.lock().expect("nobody panics holding it").push((body, status, text.clone()));
    let mut response = (StatusCode::from_u16(status).expect("a status"), text).into_response();
    if let Some(value) = value {
        let name =
            if (300..400).contains(&status) { header::LOCATION } else { header::RETRY_AFTER };
        response.headers_mut().insert(name, value.parse().expect("a header value"));
    }
    response
}

impl Drop for FakeDestination {
    fn drop(&mut self) {
        self.server.abort();
    }
}
