//! The running server and its orderly stop. Takes an app and a listener; returns when it was asked
//! to stop and everything has ended.
//! Guarantees that the stop ends within the configured time, even if a client, a destination or the
//! database hangs. What was acknowledged is durable before it begins; what is cut off is continued
//! by the next start or by another copy.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::App;
use crate::client::{self, Peer};
use crate::clock::Clock;
use crate::limit::log;
use crate::limit::places::{Places, Rules};
use crate::server::{Connection, Listener, Stage, Stream, accept, most_connections, serve};

/// How long a connection may be idle before it is closed when all connections are in use. A request
/// that was sent with it has arrived by then.
const IDLE_PATIENCE: Duration = Duration::from_millis(250);
/// How long idle connections stay open during a stop, because a request may be on its way.
const STOP_GRACE: Duration = Duration::from_millis(300);

impl App {
    /// Serves until `stop` resolves, then stops in order.
    ///
    /// # Errors
    /// Fails if a worker ends on its own; the error names it.
    pub async fn run(self, listener: Listener, stop: impl Future<Output = ()>) -> Result<()> {
        self.run_beside(Router::new(), listener, stop).await
    }

    /// Serves additional routes beside its own, for measurements of the server.
    pub async fn run_beside(
        self,
        further: Router,
        listener: Listener,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let app = Arc::new(self);
        let mut running = Running::start(app, further, listener);
        let ended = running.until(stop).await;
        let stopped = running.stop().await;
        ended.and(stopped)
    }
}

/// An app that is serving.
struct Running {
    app: Arc<App>,
    listener: Listener,
    places: Places,
    router: Router,
    connections: JoinSet<()>,
    workers: JoinSet<Result<()>>,
}

impl Running {
    fn start(app: Arc<App>, further: Router, listener: Listener) -> Self {
        let total = most_connections();
        // One public address may have an office behind it, but not the whole internet.
        let share = (total / 16).max(64).min(total.div_ceil(2));
        Self {
            workers: app.start_workers(),
            router: app.router_beside(further),
            places: Places::new(Rules { total, share, patience: IDLE_PATIENCE }),
            connections: JoinSet::new(),
            app,
            listener,
        }
    }

    /// Serves until `stop` resolves.
    ///
    /// # Errors
    /// Fails if a worker ends on its own; the error names it.
    async fn until(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let app = self.app.clone();
        loop {
            let next = async {
                self.places.room().await;
                accept(&self.listener).await
            };
            tokio::select! {
                () = &mut stop => return Ok(()),
                Some(ended) = self.workers.join_next() => {
                    return ended.context("a worker panicked").and_then(|ended| ended);
                }
                () = app.state.store.writer_ended() => return Err(anyhow!("the visit writer ended")),
                Some(_) = self.connections.join_next() => {}
                accepted = next => match accepted {
                    Ok((stream, peer)) => self.serve(stream, peer),
                    // For example too many open files: other connections will close.
                    Err(error) => {
                        if log::admits("could not accept a connection", "") {
                            let error = format!("{error:#}");
                            tracing::warn!(error, "could not accept a connection");
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
    }

    /// Serves a connection, unless its address has more than its share.
    fn serve(&mut self, stream: Stream, peer: Peer) {
        let Some(place) = self.places.enter_at_once(self.counted(peer), 1) else {
            if log::admits("too many connections of one address", "") {
                let address = peer.0.map(tracing::field::display);
                tracing::warn!(address, "closed a connection: its address has too many");
            }
            return;
        };
        let (router, prefix) = (self.router.clone(), self.app.prefix());
        let connection = Connection { router, peer, prefix };
        self.connections.spawn(serve(stream, place, connection, self.app.stage.subscribe()));
    }

    /// The address that a connection counts for. A trusted proxy has many clients, so it has none.
    fn counted(&self, peer: Peer) -> Option<IpAddr> {
        let address = peer.0?.to_canonical();
        (!client::is_trusted(&self.app.state.config, address)).then_some(address)
    }

    /// Stops in order, within the configured time.
    ///
    /// # Errors
    /// Fails if the last provisional visits or counts could not be written.
    async fn stop(mut self) -> Result<()> {
        tracing::info!("stopping: no new connections, finishing running requests");
        let (began, all) = (Clock::stopwatch(), self.app.state.config.stop_timeout);
        let left = |share: u32| (all * share / 8).saturating_sub(began.elapsed());
        self.app.stage.send_replace(Stage::Draining);
        self.take_waiting();
        let Self { app, listener, connections: mut requests, mut workers, .. } = self;
        drop(listener);
        let connections = async { while requests.join_next().await.is_some() {} };
        let mut connections = std::pin::pin!(connections);
        let workers = async { while workers.join_next().await.is_some() {} };
        let mut workers = std::pin::pin!(workers);
        let are_done = timeout(STOP_GRACE, connections.as_mut()).await.is_ok();
        app.stage.send_replace(Stage::Closing);
        let are_done = are_done || timeout(left(6), connections.as_mut()).await.is_ok();
        if !are_done {
            tracing::warn!("some requests did not finish in time and were cut off");
        }
        let have_ended = timeout(left(6), workers.as_mut()).await.is_ok();
        app.stage.send_replace(Stage::Cutting);
        // The delivery worker releases the deliveries that it has claimed.
        if !have_ended && timeout(left(7), workers.as_mut()).await.is_err() {
            tracing::warn!(
                "the database does not respond; running deliveries are sent again when their leases end in a minute"
            );
        }
        let finished = timeout(left(8), async {
            let (kept, flushed) = (app.keep_last_landings().await, app.flush_counts().await);
            app.close().await;
            (kept, flushed)
        });
        let finished = finished.await;
        log::report_all_left_out();
        let Ok((kept, flushed)) = finished else {
            tracing::warn!("stopped without closing the database, which does not respond");
            return Ok(());
        };
        tracing::info!("stopped");
        kept.context("could not write the last provisional visits")?;
        flushed.context("could not write the counts of rejected webhooks")
    }

    /// Serves the connections that the kernel has already accepted: their requests may have been
    /// sent.
    fn take_waiting(&mut self) {
        while let Some(Ok((stream, peer))) = accept(&self.listener).now_or_never() {
            self.serve(stream, peer);
        }
    }
}
