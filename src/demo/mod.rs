//! `clickstamp demo`: a temporary server with sample data, and a shop with simulated Stripe and
//! AnyTrack to try it with. Takes the address to listen on, the time and a time zone; returns a
//! running server whose data was written by the real code. Guarantees that it uses only a temporary
//! directory, which it deletes at the end, and that it reads no setting of a real installation.

mod anytrack;
mod checkout;
mod history;
mod story;
mod world;

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use jiff::tz::TimeZone;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::world::World;
use crate::app::App;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Listen, Secret, Sources};
use crate::ids;
use crate::money::Currency;
use crate::server::Listener;
use crate::settings::{self, LinkDraft};

/// The email address of the demo's user.
const EMAIL: &str = "demo@northlight.example";
/// The site's name in the dashboard. It says that the numbers are not real.
const SITE_NAME: &str = "Northlight (demo data)";

/// A demo that is ready to be served.
pub struct Demo {
    app: App,
    listener: Listener,
    world: World,
    world_listener: TcpListener,
    password: Secret,
    api_token: Secret,
    /// How long the history took to write.
    took: Duration,
    /// Must be the last field: dropping it deletes the directory.
    _directory: TemporaryDirectory,
}

impl Demo {
    /// Binds the ports and writes eight weeks of sample data that end at `now`. Days are those of
    /// `zone`, or of UTC if `zone` has no name.
    ///
    /// # Errors
    /// If a port is in use or the temporary directory cannot be written.
    pub async fn prepare(listen: &Listen, now: Timestamp, zone: &TimeZone) -> Result<Self> {
        let stopwatch = Clock::stopwatch();
        let Listen::Tcp(address) = listen else {
            bail!(
                "the demo listens on an address such as 127.0.0.1:8080; browsers cannot open a Unix socket"
            );
        };
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("could not listen on {address}; --listen 127.0.0.1:0 uses a free port")
        })?;
        let clickstamp = listener.local_addr().context("a bound port has an address")?;
        let free = SocketAddr::new(clickstamp.ip(), 0);
        let world_listener = TcpListener::bind(free)
            .await
            .with_context(|| format!("could not listen on a free port of {}", free.ip()))?;
        let own = world_listener.local_addr().context("a bound port has an address")?;

        let zone = if zone.iana_name().is_some() { zone.clone() } else { TimeZone::UTC };
        let secret = Secret::new(format!("whsec_{}", ids::new_secret()));
        let world = World::new(own, clickstamp, secret.clone(), zone.clone());
        let directory = TemporaryDirectory::create()?;
        let password = Secret::new(format!("north-{}", &ids::new_secret()[..8]));
        let api_token = Secret::new(ids::new_secret());
        let config = config(&directory.0, &password, &api_token)?;

        let story = story::tell(now, &zone);
        let past = App::build(config.clone(), Clock::manual(story.begins)).await?;
        configure(&past, &world, &zone, &secret).await?;
        let router = world.router();
        tokio::select! {
            played = history::play(&past, &story, now, world.anytrack(), &secret) => played?,
            served = world::serve(&world_listener, &router) => served?,
        }
        past.close().await;
        drop(past);

        let app = App::build(config, Clock::system()).await?;
        world.open(app.state().store.clone());
        Ok(Self {
            app,
            listener: Listener::Tcp(listener),
            world,
            world_listener,
            password,
            api_token,
            took: stopwatch.elapsed(),
            _directory: directory,
        })
    }

    /// The steps to try, as text to print.
    pub fn walk_through(&self) -> String {
        let (ad, anytrack) = (self.world.ad_url(), self.world.anytrack_url());
        let clickstamp = self.world.clickstamp_url();
        let (password, token) = (self.password.expose(), self.api_token.expose());
        let (tenths, link) = (self.took.as_millis() / 100, story::LINK);
        let took = format!("{}.{} s", tenths / 10, tenths % 10);
        format!(
            "\
Clickstamp demo. Eight weeks of sample data, written in {took}.

  1  Come from an ad: open the shop's landing page
     {ad}
  2  Click Buy. The payment link passes your click ID to a simulated Stripe checkout
  3  Pay. The webhook is signed like Stripe's and sent to Clickstamp
  4  See what AnyTrack received
     {anytrack}
  5  Open the dashboard. Your payment is the newest conversion
     {clickstamp}/
     email     {EMAIL}
     password  {password}
  6  Pay without a page: a redirect link, for example in a QR code, adds a click ID
     {clickstamp}{link}

JSON API: curl -H 'Authorization: Bearer {token}' {clickstamp}/api/v1/overview
All data is in a temporary directory, which is deleted when this process ends (Ctrl-C)."
        )
    }

    /// The app, for tests.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// The pages of the shop and the simulated services, for tests.
    pub fn pages(&self) -> Router {
        self.world.router()
    }

    /// The number of conversions that the simulated AnyTrack has accepted.
    pub fn taken_by_anytrack(&self) -> watch::Receiver<usize> {
        self.world.anytrack().count()
    }

    /// The temporary directory.
    pub fn directory(&self) -> &Path {
        &self._directory.0
    }

    /// Runs Clickstamp, the shop and the simulated services until `stop` resolves, then shuts down
    /// and deletes the directory.
    ///
    /// # Errors
    /// If a worker ends unexpectedly.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let router = self.world.router();
        tokio::select! {
            ended = self.app.run(self.listener, stop) => ended,
            served = world::serve(&self.world_listener, &router) => served,
        }
    }
}

fn config(directory: &Path, password: &Secret, api_token: &Secret) -> Result<Config> {
    let directory = directory.to_str().context("the temporary directory's name is not text")?;
    let values = [
        ("CLICKSTAMP_DATA_DIR", directory),
        ("CLICKSTAMP_ADMIN_EMAIL", EMAIL),
        ("CLICKSTAMP_ADMIN_PASSWORD", password.expose()),
        ("CLICKSTAMP_API_TOKEN", api_token.expose()),
        // The simulated AnyTrack is on a loopback address.
        ("CLICKSTAMP_ALLOW_PRIVATE_DESTINATIONS", "true"),
        ("CLICKSTAMP_VISIT_RATE", "0"),
    ];
    Ok(Config::with(&values)?)
}

/// Changes the settings as an owner would on the first day.
async fn configure(app: &App, world: &World, zone: &TimeZone, secret: &Secret) -> Result<()> {
    let state = app.state();
    let current = state.settings.current();
    let mut site = current.sites.first().context("a new database has a site")?.clone();
    site.name = SITE_NAME.to_owned();
    site.timezone = zone.iana_name().unwrap_or("UTC").to_owned();
    site.currency = Currency::parse("usd").context("a currency code")?;
    let own_host =
        crate::hosts::without_port(world.clickstamp_url().trim_start_matches("http://")).to_owned();
    site.tag.is_consent_chosen = true;
    site.domains = vec!["northlight.example".to_owned(), own_host];
    settings::save_site(&state.store, &state.settings, &site).await?;
    let (now, url) = (state.clock.now(), world.collect_url());
    let link = LinkDraft {
        alias: story::LINK_ALIAS.to_owned(),
        site_id: site.id.clone(),
        name: "Card in every parcel".to_owned(),
        target: world.payment_link(),
    };
    settings::add_link(&state.store, &state.settings, now, &link).await?;
    let source = current.stripe_source("main").context("a new database has a source")?;
    let secrets = std::slice::from_ref(secret);
    settings::save_webhook_secrets(&state.store, &state.settings, now, source, secrets).await?;
    settings::save_anytrack_url(&state.store, &state.settings, now, &site.id, &url).await
}

/// A temporary directory that is deleted on drop.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn create() -> Result<Self> {
        let path = Sources::temporary_directory()
            .join(format!("clickstamp-demo-{}", &ids::new_secret()[..12]));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("could not create the directory {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, directory = %self.0.display(), "could not delete the demo's directory");
        }
    }
}
