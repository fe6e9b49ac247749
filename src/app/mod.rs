//! The application: the route table, the layers, the workers, and the orderly stop.
//! Takes a configuration and a clock; returns a running process, or a router and workers that tests
//! drive step by step.
//! Guarantees that an orderly stop ends within its time limit, after requests and attempts were
//! finished, queued visits were written, and the store was closed.

mod edge;
mod loops;
mod origin;
mod readiness;
mod rounds;
mod running;
mod stripe_api;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use anyhow::{Result, bail};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::TimeoutLayer;

use self::readiness::Pulse;
use crate::api;
use crate::clock::Clock;
use crate::config::Config;
use crate::custom::{self, RequestLimit};
use crate::dashboard::{self, LoginLimit};
use crate::delivery::{self, worker::Worker};
use crate::destination::{Network, Sender};
use crate::error::{AppError, Fault};
use crate::ids::ClickIdKey;
use crate::limit::log;
use crate::redirect;
use crate::server::Stage;
use crate::settings::{self, Settings};
use crate::state::{AppState, Handles, Wakeups};
use crate::store::{self, Address, Store};
use crate::stripe::{self, Rejections};
use crate::tag;
use crate::visit::{self, Landings, VisitLimit};

/// Time limit for a request, including its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The built application, not running yet.
pub struct App {
    state: AppState,
    worker: Worker,
    rejections: Rejections,
    limit: VisitLimit,
    /// Visits that are known only from the request for the tag's script.
    landings: Landings,
    logins: LoginLimit,
    requests: RequestLimit,
    /// Clients of Stripe's API, by the key of each source.
    apis: stripe::Apis,
    /// When the workers last completed work.
    pulse: Arc<Pulse>,
    /// The latest time that was seen, in milliseconds, to notice a clock that was set back.
    latest_ms: AtomicI64,
    /// When page events of all ages were last searched for those whose visit has arrived.
    searched_ms: AtomicI64,
    /// The stage of an orderly stop.
    stage: watch::Sender<Stage>,
}

impl App {
    /// Opens the database and reads the settings.
    ///
    /// # Errors
    /// Fails if the database can't be opened; the text is for the operator.
    pub async fn build(config: Config, clock: Clock) -> Result<Self> {
        let store = Store::open(address(&config), &visit::VISITS, &visit::COUNTS).await?;
        if let Err(error) = store::clear_unfinished(&config.data_dir.join("backups")) {
            tracing::warn!(
                error = format!("{error:#}"),
                "could not remove the files of a killed backup"
            );
        }
        let settings::Prepared { click_ids, corrected } =
            settings::prepare(&store, &config, clock.now()).await?;
        if let Some(id) = corrected {
            // A new URL must not wait for the probe interval of the old one.
            delivery::reset_breaker(&store, &id).await?;
        }
        let settings = Settings::load(&store).await?;
        if let Some((email, password)) = &config.admin {
            dashboard::ensure_admin(&store, clock.now(), email, password).await?;
        }
        let app = Self::assemble(config, clock, store, click_ids, settings)?;
        if app.apis.any(&app.state.settings.current()) {
            stripe::thin::put_back_all(&app.state.store, app.state.clock.now()).await?;
        }
        app.worker.begin().await?;
        delivery::give_up_for_deleted(&app.state.store, app.state.clock.now()).await?;
        Ok(app)
    }

    /// The same beside a running server, or without one, for commands. It takes no lock and changes
    /// no setting.
    ///
    /// # Errors
    /// Fails if the database can't be opened, or no server was ever started on it.
    pub async fn beside(config: Config, clock: Clock) -> Result<Self> {
        let store = Store::open_beside(address(&config), &visit::VISITS, &visit::COUNTS).await?;
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
        let sender = sender(&config, Network::default())?;
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
        let wakeups = Wakeups::default();
        let state = AppState::new(Handles { config, store, settings, clock, click_ids, wakeups });
        Ok(Self {
            state,
            worker,
            rejections: Rejections::default(),
            limit,
            landings,
            logins: LoginLimit::default(),
            requests: RequestLimit::default(),
            apis,
            pulse: Arc::default(),
            // Treat the clock as if it had been ahead before the start, because that is unknown.
            latest_ms: AtomicI64::new(i64::MAX),
            searched_ms: AtomicI64::new(i64::MIN),
            stage: watch::Sender::new(Stage::Serving),
        })
    }

    /// Uses another network from now on. For tests of network failures.
    pub fn move_to(&mut self, network: Network) -> Result<()> {
        self.worker.sender = sender(&self.state.config, network)?;
        Ok(())
    }

    /// The state that all handlers share.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// The route table.
    pub fn router(&self) -> Router {
        self.router_beside(Router::new())
    }

    /// The same with additional routes, under the same layers.
    fn router_beside(&self, further: Router) -> Router {
        Router::new()
            .merge(further.with_state(()))
            // For the browsers of visitors.
            .merge(tag::routes(self.landings.clone()))
            .merge(visit::endpoint::routes(self.limit.clone()))
            .merge(redirect::routes(self.limit.clone()))
            // For Stripe.
            .merge(stripe::endpoint::routes(self.rejections.clone()))
            // For Zaps, shops and affiliate networks.
            .merge(custom::endpoint::routes(self.requests.clone()))
            // For users of the dashboard.
            .merge(dashboard::routes(&self.state, self.logins.clone(), self.worker.sender.clone()))
            // For other programs of the users.
            .merge(api::routes())
            // For monitoring.
            .merge(self.metrics())
            .route("/healthz", get(answer_alive))
            .route("/readyz", get(answer_ready))
            .fallback(dashboard::answer_unknown)
            .layer(middleware::from_fn(edge::refuse_nul))
            .layer(middleware::from_fn_with_state(self.state.clone(), origin::keep_apart))
            .layer(middleware::from_fn(log_faults))
            .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, REQUEST_TIMEOUT))
            .layer(CatchPanicLayer::new())
            .layer(Extension(self.pulse.clone()))
            .with_state(self.state.clone())
    }

    /// How durable the engine says a commit is: `2` (SQLite's FULL) or `on` (PostgreSQL).
    pub async fn durability(&self) -> Result<String> {
        self.state.store.durability().await
    }

    /// The metrics for Prometheus, if the operator enabled them.
    fn metrics(&self) -> Router<AppState> {
        if self.state.config.serves_metrics {
            Router::new().route("/metrics", get(api::read_metrics))
        } else {
            Router::new()
        }
    }

    /// Writes queued visits and closes the database.
    pub async fn close(&self) {
        self.state.store.close().await;
    }

    /// The path prefix of the public URL: `/k`, or empty.
    fn prefix(&self) -> Arc<str> {
        let path = self.state.config.public_url.as_ref().map_or("", |url| url.path());
        Arc::from(path.trim_end_matches('/'))
    }
}

fn address(config: &Config) -> Address<'_> {
    Address { url: config.database_url.expose(), connections: config.database_connections }
}

/// The sender of everything that leaves the server.
fn sender(config: &Config, network: Network) -> Result<Sender> {
    let sender = Sender::new(config.allow_private_destinations, network)?;
    match &config.smtp_ca {
        Some(authorities) => sender.trusting_in_mail(authorities),
        None => Ok(sender),
    }
}

/// Logs the cause of an error response once: our errors at error, the client's at debug.
async fn log_faults(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    if let Some(fault) = response.extensions().get::<Fault>() {
        let path = custom::hide_token(uri.path());
        let status = response.status().as_u16();
        let cause = fault.cause.as_ref().map_or_else(String::new, |cause| format!(": {cause:#}"));
        // A response that asks to retry is not an error, and there may be hundreds of them.
        let is_busy = fault.cause.is_none() && response.headers().contains_key(header::RETRY_AFTER);
        if response.status().is_server_error() && !is_busy {
            // A full disk makes every request fail; logging each would fill the log's disk next.
            let about = route.as_ref().map_or("no route", MatchedPath::as_str);
            if !log::admits("failed requests", about) {
                return response;
            }
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

/// `GET /readyz`: the database accepts writes, and the workers make progress.
async fn answer_ready(
    State(state): State<AppState>,
    Extension(pulse): Extension<Arc<Pulse>>,
) -> Result<&'static str, AppError> {
    readiness::answer(&state, &pulse).await
}
