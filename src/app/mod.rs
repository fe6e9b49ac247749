//! The whole: the route table, the layers, the workers, and the ordered stop.
//! In: a configuration and a clock. Out: a running process, or a router and workers that a test drives by hand.
//! Promise: it stops in reverse — no new connections, requests finished, attempts finished, the writer flushed, the store closed.

mod loops;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use hyper_util::server::graceful::GracefulShutdown;
use jiff::tz::TimeZone;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use crate::alert::Alerts;
use crate::api;
use crate::clock::Clock;
use crate::config::Config;
use crate::conversion::{self, Ledger, Prune, Pruned};
use crate::custom::{self, RequestLimit};
use crate::dashboard::{self, LoginLimit};
use crate::delivery::worker::Worker;
use crate::destination::Sender;
use crate::error::{AppError, Fault};
use crate::ids::ClickIdKey;
use crate::redirect;
use crate::registration::Registrations;
use crate::server::{Connection, Listener, accept, serve};
use crate::settings::{self, Settings};
use crate::state::{AppState, Bells, Handles};
use crate::store::Store;
use crate::stripe::backfill::{Backfilled, Wanted as Backfill};
use crate::stripe::reconcile::{Reconciled, Wanted as Reconcile};
use crate::stripe::replay::{Replayed, Wanted as Replay};
use crate::stripe::{self, Rejections};
use crate::tag;
use crate::visit::{self, Landings, VisitLimit};

/// The longest a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Open connections; beyond it, new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 8192;
/// How long an ordered stop waits for requests, then for attempts under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// Everything built, nothing running.
pub struct App {
    state: AppState,
    worker: Worker,
    rejections: Rejections,
    limit: VisitLimit,
    /// What only requests for the tag's script told of.
    landings: Landings,
    logins: LoginLimit,
    requests: RequestLimit,
    /// Stripe's own API, by the key of each source.
    apis: stripe::Apis,
}

impl App {
    /// Opens the database and reads the settings.
    ///
    /// # Errors
    /// When the database cannot be opened; the text is for the operator.
    pub async fn build(config: Config, clock: Clock) -> Result<Self> {
        let store =
            Store::open(config.database_url.expose(), &visit::VISITS, &visit::COUNTS).await?;
        let click_ids = settings::prepare(&store, &config, clock.now()).await?;
        let settings = Settings::load(&store).await?;
        if let Some((email, password)) = &config.admin {
            dashboard::ensure_admin(&store, clock.now(), email, password).await?;
        }
        let app = Self::assemble(config, clock, store, click_ids, settings)?;
        if app.apis.any(&app.state.settings.current()) {
            stripe::thin::put_back_all(&app.state.store, app.state.clock.now()).await?;
        }
        app.worker.begin().await?;
        Ok(app)
    }

    /// The same beside a running server, or without one: for commands. It owns nothing and changes no setting.
    ///
    /// # Errors
    /// When the database cannot be opened, or no server has ever been started on it.
    pub async fn beside(config: Config, clock: Clock) -> Result<Self> {
        let url = config.database_url.expose();
        let store = Store::open_beside(url, &visit::VISITS, &visit::COUNTS).await?;
        let settings = Settings::load(&store).await?;
        if settings.current().sites.is_empty() {
            bail!("this database is new: start the server once, then run the command again");
        }
        let click_ids = settings::click_id_key(&store).await?;
        Self::assemble(config, clock, store, click_ids, settings)
    }

    fn assemble(
        config: Config,
        clock: Clock,
        store: Store,
        click_ids: ClickIdKey,
        settings: Settings,
    ) -> Result<Self> {
        let mut sender = Sender::new(config.allow_private_destinations)?;
        if let Some(authorities) = &config.smtp_ca {
            sender = sender.trusting_in_mail(authorities)?;
        }
        let worker = Worker {
            store: store.clone(),
            settings: settings.clone(),
            clock: clock.clone(),
            sender,
            schedule: config.retry_schedule.clone().into(),
            rate: config.delivery_rate,
        };
        let (key, base) = (config.stripe_api_key.clone(), config.stripe_api_base.clone());
        let apis = stripe::Apis::new(key, base, clock.clone());
        let limit = VisitLimit::new(config.visit_rate);
        let landings = Landings::new(VisitLimit::new(config.visit_rate));
        let bells = Bells::default();
        let state = AppState::new(Handles { config, store, settings, clock, click_ids, bells });
        Ok(Self {
            state,
            worker,
            rejections: Rejections::default(),
            limit,
            landings,
            logins: LoginLimit::default(),
            requests: RequestLimit::default(),
            apis,
        })
    }

    /// What the doors share.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// THE route table.
    pub fn router(&self) -> Router {
        self.router_beside(Router::new())
    }

    /// The same with further routes, below the same layers.
    fn router_beside(&self, further: Router) -> Router {
        Router::new()
            .merge(further.with_state(()))
            // For browsers of visitors.
            .merge(tag::routes(self.landings.clone()))
            .merge(visit::endpoint::routes(self.limit.clone()))
            .merge(redirect::routes(self.limit.clone()))
            // For Stripe.
            .merge(stripe::endpoint::routes(self.rejections.clone()))
            // For Zaps, shops and affiliate networks.
            .merge(custom::endpoint::routes(self.requests.clone()))
            // For the owner.
            .merge(dashboard::routes(&self.state, self.logins.clone(), self.worker.sender.clone()))
            // For programs of the owner.
            .merge(api::routes())
            // For whoever watches over us.
            .route("/healthz", get(answer_alive))
            .route("/readyz", get(answer_ready))
            .fallback(dashboard::answer_unknown)
            .layer(middleware::from_fn(log_faults))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
            .layer(CatchPanicLayer::new())
            .with_state(self.state.clone())
    }

    fn ledger<'a>(&'a self, snapshot: &'a settings::Snapshot) -> Ledger<'a> {
        Ledger { keys: &self.state.click_ids, settings: snapshot, now: self.state.clock.now() }
    }

    /// Processes stored events of Stripe and of pages until none is due. Answers how many it ended.
    ///
    /// # Errors
    /// When the database does not answer; nothing is lost, the next call goes on.
    pub async fn process_events(&self) -> Result<usize> {
        let (of_stripe, of_pages) =
            (self.process_stripe_events().await, self.process_page_events().await);
        Ok(of_stripe? + of_pages?)
    }

    async fn process_page_events(&self) -> Result<usize> {
        let (state, mut all) = (&self.state, 0);
        loop {
            let now = state.clock.now();
            let ended =
                custom::page::round(&state.store, &state.settings, &state.click_ids, now).await?;
            if ended == 0 {
                return Ok(all);
            }
            state.bells.delivery_owed.notify_one();
            all += ended;
        }
    }

    async fn process_stripe_events(&self) -> Result<usize> {
        let snapshot = self.state.settings.current();
        let mut all = 0;
        loop {
            let ended = stripe::worker::round(&self.state.store, self.ledger(&snapshot)).await?;
            if ended == 0 {
                return Ok(all);
            }
            self.state.bells.delivery_owed.notify_one();
            all += ended;
        }
    }

    /// Fetches what thin events name, until none is due. Answers how many it ended.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn fetch_thin_events(&self) -> Result<u64> {
        let snapshot = self.state.settings.current();
        let (store, apis, mut all) = (&self.state.store, &self.apis, 0);
        loop {
            let ended = stripe::thin::round(store, apis, &snapshot, &self.state.clock).await?;
            if ended == 0 {
                return Ok(all);
            }
            self.state.bells.event_stored.notify_one();
            all += ended;
        }
    }

    /// Asks Stripe for the checkouts of payments that came without one, until none is due. Answers how many it asked about.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn look_up_checkouts(&self) -> Result<u64> {
        let snapshot = self.state.settings.current();
        let (store, mut all) = (&self.state.store, 0);
        loop {
            let asked =
                stripe::lookup::round(store, &self.apis, &snapshot, &self.state.clock).await?;
            if asked == 0 {
                return Ok(all);
            }
            self.state.bells.event_stored.notify_one();
            all += asked;
        }
    }

    /// Asks Stripe for what we missed, and processes it.
    ///
    /// # Errors
    /// An [`stripe::ApiError`] when Stripe gives no answer that helps; a sentence when there is no such source.
    pub async fn backfill(&self, wanted: &Backfill) -> Result<Backfilled> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let source = self.source(&snapshot, &wanted.source)?;
        let api = self.apis.of(&snapshot, source)?;
        let done = stripe::backfill::run(&state.store, &api, &state.clock, source, wanted).await;
        // Also what came before Stripe stopped to answer.
        self.process_events().await?;
        done
    }

    /// Writes the ledger anew from the raw events and compares it with the one that is here; corrects it if wanted.
    ///
    /// # Errors
    /// When the database does not answer, or events keep arriving meanwhile; nothing was changed then.
    pub async fn replay(&self, wanted: &Replay) -> Result<Replayed> {
        let snapshot = self.state.settings.current();
        let (store, ledger) = (&self.state.store, self.ledger(&snapshot));
        let replayed = stripe::replay::run(store, ledger, wanted, custom::replay).await?;
        if replayed.applied {
            self.process_events().await?;
            self.state.bells.delivery_owed.notify_one();
        }
        Ok(replayed)
    }

    /// Compares the ledger with Stripe's own books, and fetches what is missing if wanted.
    ///
    /// # Errors
    /// As [`App::backfill`].
    pub async fn reconcile(&self, wanted: &Reconcile) -> Result<Reconciled> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let source = self.source(&snapshot, &wanted.source)?;
        let books = self.books(&snapshot, source)?;
        let store = &state.store;
        let mut found = stripe::reconcile::run(store, &books, wanted).await?;
        if wanted.repair && found.repaired > 0 {
            self.process_events().await?;
            let repaired = found.repaired;
            let again = Reconcile { repair: false, ..wanted.clone() };
            found = stripe::reconcile::run(store, &books, &again).await?;
            found.repaired = repaired;
        }
        if wanted.from.is_none() && wanted.until.is_none() && wanted.account.is_empty() {
            stripe::reconcile::keep(store, &books, Ok(found.clone())).await?;
        }
        Ok(found)
    }

    /// The daily comparison with Stripe's books, when it is due. True when it was done.
    ///
    /// # Errors
    /// When the database does not answer; that Stripe does not is kept as the result.
    pub async fn reconcile_daily(&self) -> Result<bool> {
        let snapshot = self.state.settings.current();
        let mut any = false;
        for source in self.apis.one_per_key(&snapshot) {
            let books = self.books(&snapshot, source)?;
            any |= stripe::reconcile::daily(&self.state.store, &books).await?;
        }
        Ok(any)
    }

    /// What a comparison with the books of a source's account goes by.
    fn books<'a>(
        &'a self,
        snapshot: &settings::Snapshot,
        source: &'a settings::Source,
    ) -> Result<stripe::reconcile::Books<'a>> {
        Ok(stripe::reconcile::Books {
            api: self.apis.of(snapshot, source)?,
            sources: self.apis.sharing(snapshot, source),
            source,
            clock: &self.state.clock,
            zone: zone_of(snapshot, source),
        })
    }

    fn source<'a>(
        &self,
        snapshot: &'a settings::Snapshot,
        key: &str,
    ) -> Result<&'a settings::Source> {
        snapshot.stripe_source(key).ok_or_else(|| {
            let known: Vec<&str> =
                snapshot.stripe_sources().map(|source| source.key.as_str()).collect();
            anyhow!("there is no Stripe source “{key}”; there is: {}", known.join(", "))
        })
    }

    /// Joins again what waited for a visit that has arrived; visits that nobody reported count once a payment names them. Answers how many conversions it looked at.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn rejoin_late_visits(&self) -> Result<usize> {
        conversion::promote_named(&self.state.store).await?;
        let snapshot = self.state.settings.current();
        let rejoined = conversion::rejoin(&self.state.store, self.ledger(&snapshot)).await?;
        if rejoined > 0 {
            self.state.bells.delivery_owed.notify_one();
        }
        Ok(rejoined)
    }

    /// Writes the landings whose page did not report them in time. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; the landings taken so far are lost then.
    pub async fn keep_landings(&self) -> Result<usize> {
        let (state, settings) = (&self.state, self.state.settings.current());
        let now = state.clock.now();
        let kept = self.landings.write_due(&state.store, &state.click_ids, &settings, now).await?;
        if kept > 0 {
            state.bells.visit_recorded.notify_one();
        }
        Ok(kept)
    }

    /// Forgets landings that no report and no payment named within seven days. Answers how many.
    ///
    /// # Errors
    /// When the database does not answer; nothing was forgotten then.
    pub async fn forget_landings(&self) -> Result<u64> {
        conversion::forget_unnamed(&self.state.store, self.state.clock.now()).await
    }

    /// Lets visits that led to no conversion go when they are older than the configuration keeps them, or only says which those are; by
    /// the site's key. Nothing when they are kept.
    ///
    /// # Errors
    /// When the database does not answer; what went so far is gone.
    pub async fn prune(&self, wanted: Prune) -> Result<BTreeMap<String, Pruned>> {
        let (state, snapshot) = (&self.state, self.state.settings.current());
        let Some(days) = state.config.retention_days else { return Ok(BTreeMap::new()) };
        let until = state.clock.now().minus(Duration::from_secs(u64::from(days) * 86_400));
        let pruned = conversion::prune(&state.store, until, wanted).await?;
        let key = |id: String| snapshot.site(&id).map_or(id, |site| site.key.clone());
        Ok(pruned.into_iter().map(|(id, pruned)| (key(id), pruned)).collect())
    }

    /// The same once a day, by one copy of the program. True when this one did it.
    ///
    /// # Errors
    /// As [`App::prune`]; the next day does the rest.
    pub async fn prune_daily(&self) -> Result<bool> {
        let state = &self.state;
        if state.config.retention_days.is_none()
            || !settings::claim_day(&state.store, "pruned_day", state.clock.now()).await?
        {
            return Ok(false);
        }
        for (site, pruned) in self.prune(Prune::Delete).await? {
            tracing::info!(
                site,
                visits = pruned.visits,
                "deleted old visits that led to no conversion"
            );
        }
        Ok(true)
    }

    /// Folds what visits were counted into the sums that reports read. Answers how many counters went.
    ///
    /// # Errors
    /// When the database does not answer; what was folded so far stays so.
    pub async fn fold_counts(&self) -> Result<usize> {
        let (state, mut folded) = (&self.state, 0);
        for site in &self.state.settings.current().sites {
            folded += visit::fold(&state.store, (&site.id, site.number), state.clock.now()).await?;
        }
        Ok(folded)
    }

    /// Sums the conversions of days that are over, which reports read. Answers how many days.
    ///
    /// # Errors
    /// When the database does not answer; what was summed so far stays so.
    pub async fn sum_days(&self) -> Result<usize> {
        let (state, mut days) = (&self.state, 0);
        for site in &self.state.settings.current().sites {
            days += conversion::sum_days(&state.store, site, state.clock.now()).await?;
        }
        Ok(days)
    }

    /// Sends deliveries until none is due now. Answers how many attempts it made. For tests; the server's own loop keeps its pace.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn deliver_due(&self) -> Result<usize> {
        let mut shift = Worker { rate: 0, ..self.worker.clone() }.shift();
        let mut all = 0;
        loop {
            all += shift.turn().await?;
            if shift.is_busy() {
                shift.attempt_ended().await;
            } else if !shift.rest().is_zero() {
                return Ok(all);
            }
        }
    }

    /// Tells AnyTrack of visits where its destination asks for it (experimental). Answers how many tries it made.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn register_visits(&self) -> Result<usize> {
        let state = &self.state;
        let registrations = Registrations {
            store: state.store.clone(),
            settings: state.settings.clone(),
            clock: state.clock.clone(),
            keys: state.click_ids.clone(),
            sender: self.worker.sender.clone(),
        };
        registrations.round().await
    }

    /// Looks what is wrong, and tells whoever is to be told. Answers how many messages went out.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn tell_of_trouble(&self) -> Result<usize> {
        let state = &self.state;
        let base = state.config.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/'));
        let alerts = Alerts {
            store: state.store.clone(),
            settings: state.settings.clone(),
            clock: state.clock.clone(),
            sender: self.worker.sender.clone(),
            base: base.map(str::to_owned),
        };
        alerts.round().await
    }

    /// Writes the counts of rejected webhooks.
    ///
    /// # Errors
    /// As [`App::process_events`].
    pub async fn flush_counts(&self) -> Result<()> {
        self.rejections.flush(&self.state.store).await
    }

    /// How the engine is told to make commits durable: `2` (SQLite's FULL) or `on` (PostgreSQL).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn durability(&self) -> Result<String> {
        self.state.store.durability().await
    }

    /// Flushes the writer and closes the database.
    pub async fn close(&self) {
        self.state.store.close().await;
    }

    /// Serves until `stop` resolves, then stops in order.
    ///
    /// # Errors
    /// When a worker ends by itself, which names it.
    pub async fn run(self, listener: Listener, stop: impl Future<Output = ()>) -> Result<()> {
        self.run_beside(Router::new(), listener, stop).await
    }

    /// Serves further routes beside its own. For what measures this server against itself.
    ///
    /// # Errors
    /// As [`App::run`].
    pub async fn run_beside(
        self,
        further: Router,
        listener: Listener,
        stop: impl Future<Output = ()>,
    ) -> Result<()> {
        let app = Arc::new(self);
        let (stopping, stopped) = watch::channel(false);
        let mut workers = app.start_workers(&stopped);
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (graceful, router) = (GracefulShutdown::new(), app.router_beside(further));
        let mut requests = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        let ended = loop {
            tokio::select! {
                () = &mut stop => break Ok(()),
                Some(ended) = workers.join_next() => break ended.context("a worker panicked").and_then(|ended| ended),
                () = app.state.store.writer_ended() => break Err(anyhow!("the visit writer ended")),
                Some(_) = requests.join_next() => {}
                accepted = accept(&listener, &connections) => match accepted {
                    Ok((stream, peer, permit)) => {
                        let service = Connection { router: router.clone(), peer, prefix: app.prefix() };
                        let served = serve(stream, service, &graceful);
                        requests.spawn(async move {
                            served.await;
                            drop(permit);
                        });
                    }
                    // Too many open files, say: others will close theirs.
                    Err(error) => {
                        tracing::warn!(error = format!("{error:#}"), "could not accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        };
        tracing::info!("stopping: no new connections, finishing what is under way");
        drop(listener);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("some requests did not finish in time and were cut off");
        }
        requests.shutdown().await;
        // The receivers live as long as the workers; if all are gone, there is nobody to tell.
        let _ = stopping.send(true);
        let finish = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIMEOUT, finish).await.is_err() {
            tracing::warn!(
                "a delivery did not finish in time; its lease runs out and it is tried again"
            );
            workers.shutdown().await;
        }
        app.flush_counts().await.context("could not write the counts of rejected webhooks")?;
        app.close().await;
        tracing::info!("stopped");
        ended
    }

    /// The public URL's path prefix: `/k`, or empty.
    fn prefix(&self) -> Arc<str> {
        let path = self.state.config.public_url.as_ref().map_or("", |url| url.path());
        Arc::from(path.trim_end_matches('/'))
    }
}

/// The time zone of a source's site.
fn zone_of(snapshot: &settings::Snapshot, source: &settings::Source) -> TimeZone {
    let site = snapshot.site(&source.site_id);
    site.and_then(|site| TimeZone::get(&site.timezone).ok()).unwrap_or(TimeZone::UTC)
}

/// Logs a fault's cause once: ours at error, the client's at debug.
async fn log_faults(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    if let Some(fault) = response.extensions().get::<Fault>() {
        let path = custom::hide_token(uri.path());
        let status = response.status().as_u16();
        let cause = fault.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause:#}"));
        if response.status().is_server_error() {
            tracing::error!(%method, path, status, "{}{cause}", fault.line);
        } else {
            tracing::debug!(%method, path, status, "{}{cause}", fault.line);
        }
    }
    response
}

/// `GET /healthz`: the process is alive.
async fn answer_alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: the database answers and takes what is written. Workers that end stop the process, so they need no question.
async fn answer_ready(State(state): State<AppState>) -> Result<&'static str, AppError> {
    if state.store.is_ready().await {
        Ok("ok\n")
    } else {
        Err(AppError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the database does not answer, or its disk is full",
        ))
    }
}
