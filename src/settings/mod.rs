//! What the owner configures: sites, sources, destinations, as records.
//! In: the first start, the environment, the dashboard. Out: one `Snapshot` in memory that every door reads without a query.
//! Promise: a change is in the database before it is in memory, and no page or log ever shows a secret of these records.

mod destination;
mod door;
mod link;
mod table;

pub use destination::{
    Discretion, Encoding, Header, MAX_DESTINATIONS, NewDestination, Revision, Row, RowKind,
    SigningSecret, add_destination, revisions, rotate_signing_secret, save_destination,
};
pub(crate) use destination::{delete as delete_destination, set_enabled};

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::{Config, Secret};
use crate::ids::{self, ClickIdKey};
use crate::money::Currency;
use crate::store::Store;

pub use door::{Door, MAX_CUSTOM_SOURCES, OldToken, add_custom_source, rotate_token, save_door};
pub use link::{
    Link, STRIPE_LINK_HOSTS, check_target, is_payment_host, placeholders, shows_existing_checkout,
};

/// One website.
#[derive(Clone, Debug)]
pub struct Site {
    /// `site_…`.
    pub id: String,
    /// Stands inside every click ID of this site.
    pub number: i64,
    /// Stands in the URL of its tag: `/t/{key}.js`.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// IANA name, checked; reports use its days.
    pub timezone: String,
    /// The currency that charts show first.
    pub currency: Currency,
    /// Host names of its pages; empty accepts all.
    pub domains: Vec<String>,
    /// What its tag does beyond the usual.
    pub tag: TagSettings,
}

impl Site {
    /// True for the site that was there from the start; addresses of pages need not name it.
    pub fn is_first(&self) -> bool {
        self.number == 1
    }
}

/// What a site asks of its tag. Host names are checked: lower-case letters, digits, dots and dashes, IDN as punycode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagSettings {
    /// Whether the visitor is asked first, and by whom.
    pub consent: Consent,
    /// Payment links without a reference get one.
    pub auto_stamp: bool,
    /// Hosts of payment links beside Stripe's own: custom Stripe domains.
    pub payment_hosts: Vec<String>,
    /// Domains of other pages of the owner: their links get the click ID handed over. Each covers all below it.
    pub linked_domains: Vec<String>,
    /// AnyTrack's click IDs are noted beside ours, where the site has AnyTrack as a destination.
    pub capture_anytrack: bool,
    /// Where AnyTrack's tag is on the page too, it replaces the placeholder first.
    pub yield_to_anytrack: bool,
}

impl Default for TagSettings {
    fn default() -> Self {
        Self {
            consent: Consent::Off,
            auto_stamp: false,
            payment_hosts: Vec::new(),
            linked_domains: Vec::new(),
            capture_anytrack: true,
            yield_to_anytrack: false,
        }
    }
}

/// Whether a visitor must agree before anything is stored, stamped or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Nobody is asked.
    Off,
    /// The page tells the tag, by `clickstamp("consent", …)`.
    Required,
    /// Google's consent mode tells it.
    Google,
    /// A consent tool with the TCF interface tells it.
    Tcf,
}

impl Consent {
    /// All of them, the usual one first.
    pub const ALL: [Self; 4] = [Self::Off, Self::Required, Self::Google, Self::Tcf];

    /// The word as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Required => "required",
            Self::Google => "google",
            Self::Tcf => "tcf",
        }
    }

    /// Reads the word as stored.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|consent| consent.word() == word)
    }
}

#[cfg(test)]
impl Site {
    /// One that accepts every host.
    pub(crate) fn example() -> Self {
        Self {
            id: "site_1".to_owned(),
            number: 1,
            key: "main".to_owned(),
            name: "Shop".to_owned(),
            timezone: "UTC".to_owned(),
            currency: Currency::parse("usd").expect("a currency"),
            domains: Vec::new(),
            tag: TagSettings::default(),
        }
    }
}

/// Kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A Stripe webhook endpoint.
    Stripe,
    /// The custom conversion endpoint.
    Custom,
    /// What the pages of a site report by themselves.
    Page,
}

impl SourceKind {
    /// As the database and the API have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Custom => "custom",
            Self::Page => "page",
        }
    }

    /// Reads such a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Stripe, Self::Custom, Self::Page].into_iter().find(|kind| kind.word() == word)
    }
}

/// Where payments come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// `src_…`.
    pub id: String,
    /// Stands in the webhook's URL.
    pub key: String,
    /// The site its conversions belong to when the click ID does not say.
    pub site_id: String,
    /// Stripe, custom or page.
    pub kind: SourceKind,
    /// Signing secrets, newest last; empty until somebody sets one.
    pub secrets: Vec<Secret>,
    /// Key of Stripe's metadata that may hold a click ID.
    pub metadata_key: String,
    /// True when the environment sets its secrets.
    pub from_environment: bool,
    /// Payment intents without our metadata are recorded too: the seller takes payments without a checkout.
    pub record_bare_payment_intents: bool,
    /// Its own `acct_…`, where the owner told it: events that name it are this account's own. Empty if unknown.
    pub account: String,
    /// Which mode the endpoint was made for.
    pub mode: SourceMode,
    /// Its account's restricted API key; without one that of `main` serves it too.
    pub api_key: Option<Secret>,
    /// When its secrets last changed; the positions of secrets that events name count from here.
    pub secrets_changed_at: Timestamp,
    /// Destinations that its conversions never go to, because they came from there: `dst_…`.
    pub never_to: Vec<String>,
}

#[cfg(test)]
impl Source {
    /// One for tests of what is pure.
    pub(crate) fn sample(metadata_key: &str) -> Self {
        Self {
            id: "src_1".to_owned(),
            key: "main".to_owned(),
            site_id: "site_1".to_owned(),
            kind: SourceKind::Stripe,
            secrets: Vec::new(),
            metadata_key: metadata_key.to_owned(),
            from_environment: false,
            record_bare_payment_intents: false,
            account: String::new(),
            mode: SourceMode::Any,
            api_key: None,
            secrets_changed_at: Timestamp::default(),
            never_to: Vec::new(),
        }
    }
}

/// Which of Stripe's modes an endpoint was made for. What comes is recorded by its own mode all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceMode {
    /// Nobody said.
    Any,
    /// Real money.
    Live,
    /// Stripe's test mode or a sandbox.
    Test,
}

impl SourceMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Any, Self::Live, Self::Test];

    /// The word as stored.
    pub fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Reads the word as stored.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.word() == word)
    }
}

/// Kind of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// An AnyTrack custom integration.
    AnyTrack,
    /// Any URL: Zapier, Make, n8n, Slack, a program of the owner's.
    Webhook,
}

/// Where conversions go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `dst_…`.
    pub id: String,
    /// Short name in URLs and the API: `anytrack`.
    pub key: String,
    /// The site whose conversions it gets.
    pub site_id: String,
    /// Which room builds its messages.
    pub kind: DestinationKind,
    /// What people call it.
    pub name: String,
    /// Where to send; a secret, since AnyTrack asks for no other credential.
    pub url: Secret,
    /// What signs a webhook's messages, the present one first.
    pub secrets: Vec<SigningSecret>,
    /// False holds everything owed to it; nothing is lost.
    pub enabled: bool,
    /// True sends test-mode conversions too.
    pub accepts_test: bool,
    /// What it wants to hear.
    pub options: DestinationOptions,
    /// Grows with every change of what is sent.
    pub revision: i64,
    /// True when the environment sets its URL.
    pub from_environment: bool,
    /// Conversions before it owe it nothing by themselves.
    pub created_at: Timestamp,
}

/// What of a payment's amount a destination is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueOption {
    /// All that was paid.
    #[default]
    Total,
    /// Without tax.
    Net,
    /// Before discount, tax and shipping.
    Subtotal,
}

/// AnyTrack documents no limit, so we stay modest.
const ANYTRACK_AT_A_TIME: i64 = 2;
/// Webhook receivers are made for several at once.
const WEBHOOK_AT_A_TIME: i64 = 4;

impl Destination {
    /// How many deliveries to it may be under way at a time.
    pub fn at_a_time(&self) -> i64 {
        match (self.options.at_a_time, self.kind) {
            (0, DestinationKind::AnyTrack) => ANYTRACK_AT_A_TIME,
            (0, DestinationKind::Webhook) => WEBHOOK_AT_A_TIME,
            (chosen, _) => chosen.max(1),
        }
    }
}

/// Choices of a destination, stored as JSON; a missing one has its default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationOptions {
    /// Whether our own click ID goes out as `clickid` where AnyTrack's is not known.
    pub falls_back_to_our_click_id: bool,
    /// AnyTrack's property ID: IDs that begin with it are AnyTrack's own.
    pub anytrack_property: Option<String>,
    /// Experimental: AnyTrack is told of visits by the server, under its property ID.
    pub registers_visits: bool,
    /// Where AnyTrack collects visits.
    pub anytrack_collect_base: String,
    /// Whether unmatched conversions with another key (e-mail) are sent.
    pub sends_unmatched: bool,
    /// Whether purchases are told.
    pub sends_purchases: bool,
    /// Whether renewals are told.
    pub sends_renewals: bool,
    /// Whether events of a name of their own are told.
    pub sends_custom: bool,
    /// Keys of the sites whose conversions are told; empty is its own site.
    pub sites: Vec<String>,
    /// Conversions of less are not told: decimal text, in whatever currency they have.
    pub minimum_value: Option<String>,
    /// Conversions that are no news any more after so many days are not told by themselves; `None` tells all.
    pub max_age_days: Option<u32>,
    /// What happens when the visitor asked for privacy.
    pub gpc: Discretion,
    /// What happens when the visitor is not known to have agreed.
    pub consent: Discretion,
    /// A delivery that was not accepted so many days after it was news is given up; `None` never is.
    pub expires_days: Option<u32>,
    /// The rows of the message; without them it is the kind's own.
    pub rows: Option<Vec<Row>>,
    /// The form of the message.
    pub encoding: Encoding,
    /// Sent with every message.
    pub headers: Vec<Header>,
    /// Whether trials are told, as `Lead`.
    pub sends_trials: bool,
    /// Whether leads are told, as `Lead`.
    pub sends_leads: bool,
    /// Whether money given back is told, as `Refund`.
    pub sends_refunds: bool,
    /// Whether a lost dispute is told, as `Chargeback`.
    pub sends_disputes: bool,
    /// What of the amount is told.
    pub value: ValueOption,
    /// Texts that turn a 2xx answer into a refusal, case ignored.
    pub refuse_if_body_contains: Vec<String>,
    /// Further statuses after which it is tried again.
    pub retry_also: Vec<u16>,
    /// Deliveries under way at a time; 0 is the kind's own number.
    pub at_a_time: i64,
    /// Deliveries per second instead of `CLICKSTAMP_DELIVERY_RATE`; 0 is no limit.
    pub rate: Option<u32>,
}

impl DestinationOptions {
    /// What is told, in words.
    pub fn kinds(&self) -> Vec<&'static str> {
        let all = [
            ("purchase", self.sends_purchases),
            ("renewal", self.sends_renewals),
            ("trial", self.sends_trials),
            ("lead", self.sends_leads),
            ("custom", self.sends_custom),
            ("refund", self.sends_refunds),
            ("dispute", self.sends_disputes),
        ];
        all.into_iter().filter(|(_, is_told)| *is_told).map(|(word, _)| word).collect()
    }

    /// After what time a conversion is no longer told by itself.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }

    /// After what time a message is not worth sending any more.
    pub fn expires_after(&self) -> Option<Duration> {
        self.expires_days.map(|days| Duration::from_secs(u64::from(days) * 86_400))
    }
}

impl Default for DestinationOptions {
    fn default() -> Self {
        let refusals =
            ["Missing click_id, ref_id and email", "No match found", "not exists anymore"];
        Self {
            falls_back_to_our_click_id: true,
            anytrack_property: None,
            registers_visits: false,
            anytrack_collect_base: "https://t1.anytrack.io".to_owned(),
            sends_unmatched: true,
            sends_purchases: true,
            sends_renewals: true,
            sends_custom: false,
            sites: Vec::new(),
            minimum_value: None,
            // Ad platforms refuse what is older, and a destination that stamps on arrival would count it on the wrong day.
            max_age_days: Some(7),
            gpc: Discretion::Send,
            consent: Discretion::Send,
            expires_days: None,
            rows: None,
            encoding: Encoding::Json,
            headers: Vec::new(),
            sends_trials: false,
            sends_leads: false,
            sends_refunds: false,
            sends_disputes: false,
            value: ValueOption::Total,
            refuse_if_body_contains: refusals.map(str::to_owned).to_vec(),
            retry_also: Vec::new(),
            at_a_time: 0,
            rate: None,
        }
    }
}

/// All records at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// In the order they were added; never empty after the first start.
    pub sites: Vec<Site>,
    /// In the order they were added.
    pub sources: Vec<Source>,
    /// In the order they were added.
    pub destinations: Vec<Arc<Destination>>,
    /// Redirect links, newest first.
    pub links: Vec<Link>,
    /// One per custom source.
    pub doors: Vec<Door>,
}

impl Snapshot {
    /// The redirect link with this alias.
    pub fn link_by_alias(&self, alias: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.alias == alias)
    }

    /// The site whose tag has this key.
    pub fn site_by_key(&self, key: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.key == key)
    }

    /// The site with this record ID.
    pub fn site(&self, id: &str) -> Option<&Site> {
        self.sites.iter().find(|site| site.id == id)
    }

    /// The site whose number stands in a click ID.
    pub fn site_by_number(&self, number: i64) -> Option<&Site> {
        self.sites.iter().find(|site| site.number == number)
    }

    /// Stripe's webhooks, in the order they were added.
    pub fn stripe_sources(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.kind == SourceKind::Stripe)
    }

    /// The Stripe source with this key.
    pub fn stripe_source(&self, key: &str) -> Option<&Source> {
        self.stripe_sources().find(|source| source.key == key)
    }

    /// The Stripe source whose payments belong to a site; the first, should there be several.
    pub fn stripe_source_of(&self, site_id: &str) -> Option<&Source> {
        self.stripe_sources().find(|source| source.site_id == site_id)
    }

    /// The source of what the pages of a site report; there is none before the first report.
    pub fn page_source(&self, site_id: &str) -> Option<&Source> {
        self.sources
            .iter()
            .find(|source| source.site_id == site_id && source.kind == SourceKind::Page)
    }

    /// The account as the ledger knows it: an account that is a source's own has no name there, however its event reached us.
    pub fn ledger_account(&self, account: String) -> String {
        let is_own = !account.is_empty() && self.sources.iter().any(|own| own.account == account);
        if is_own { String::new() } else { account }
    }

    /// The source with this record ID.
    pub fn source(&self, id: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.id == id)
    }

    /// The destination with this record ID.
    pub fn destination(&self, id: &str) -> Option<&Arc<Destination>> {
        self.destinations.iter().find(|destination| destination.id == id)
    }

    /// The AnyTrack destination of a site; the first, should there be several.
    pub fn anytrack_of<'a>(&'a self, site_id: &'a str) -> Option<&'a Destination> {
        self.destinations_of(site_id).find(|found| found.kind == DestinationKind::AnyTrack)
    }

    /// Whether some destination of a site is told of visits by the server: only then the browser's whole name is kept.
    pub fn registers_visits(&self, site_id: &str) -> bool {
        self.destinations_of(site_id).any(|found| found.options.registers_visits)
    }

    /// The destinations that must say what becomes of a site's conversions: its own, and those of other sites that want to hear of it.
    pub fn destinations_about<'a>(
        &'a self,
        site: &'a Site,
    ) -> impl Iterator<Item = &'a Destination> {
        let all = self.destinations.iter().map(Arc::as_ref);
        all.filter(|found| found.site_id == site.id || found.options.sites.contains(&site.key))
    }

    /// The destinations of a site.
    pub fn destinations_of<'a>(
        &'a self,
        site_id: &'a str,
    ) -> impl Iterator<Item = &'a Destination> {
        let all = self.destinations.iter().map(Arc::as_ref);
        all.filter(move |destination| destination.site_id == site_id)
    }
}

/// The snapshot in memory, shared by all doors and workers.
#[derive(Clone, Debug, Default)]
pub struct Settings(Arc<RwLock<Arc<Snapshot>>>);

impl Settings {
    /// Reads all records.
    ///
    /// # Errors
    /// When the database does not answer or holds a record this version cannot read.
    pub async fn load(store: &Store) -> Result<Self> {
        let settings = Self::default();
        settings.reload(store).await?;
        Ok(settings)
    }

    /// The records as of the last reload.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads all records again: after a change here, and now and then for other replicas' changes.
    ///
    /// # Errors
    /// As [`Settings::load`]; the old records stay in use.
    pub async fn reload(&self, store: &Store) -> Result<()> {
        let snapshot = table::load(store).await.context("could not read the settings")?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
        Ok(())
    }
}

/// What a start must find: the server's key, a site, its sources, and what the environment sets.
///
/// # Errors
/// When the database cannot be read or written.
pub async fn prepare(store: &Store, config: &Config, now: Timestamp) -> Result<ClickIdKey> {
    let mut tx = store.begin().await?;
    let key = table::get_or_set(&mut tx, "click_id_key", &ids::hex(&ids::new_key())).await?;
    let site_id = table::ensure_first_site(&mut tx, now).await?;
    table::ensure_source(&mut tx, now, &site_id, "main", SourceKind::Stripe).await?;
    table::ensure_custom_source(&mut tx, now, &site_id, &ids::new_secret()).await?;
    if !config.stripe_webhook_secrets.is_empty() {
        table::set_secrets(&mut tx, now, "main", &config.stripe_webhook_secrets, true).await?;
    } else {
        table::release_from_environment(&mut tx, "main").await?;
    }
    match &config.anytrack_url {
        Some(url) => table::set_anytrack(&mut tx, now, &site_id, url, true).await?,
        None => table::release_anytrack_from_environment(&mut tx).await?,
    }
    tx.commit().await?;
    read_key(&key)
}

/// Adds the source of what the pages of a site report. Its key has a colon, so that no source of the owner's can have the same.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_page_source(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    site: &Site,
) -> Result<()> {
    let mut tx = store.begin().await?;
    let key = format!("page:{}", site.key);
    table::ensure_source(&mut tx, now, &site.id, &key, SourceKind::Page).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// The server's key for click IDs, of an installation that was prepared.
///
/// # Errors
/// When the database does not answer, or holds none.
pub async fn click_id_key(store: &Store) -> Result<ClickIdKey> {
    let key = table::value(store, "click_id_key").await?;
    read_key(&key.context("this database has no key of click IDs: start the server once")?)
}

fn read_key(key: &str) -> Result<ClickIdKey> {
    let key = ids::unhex(key).context("the stored key of the click IDs is damaged")?;
    Ok(ClickIdKey::new(&key))
}

/// Claims what is done once a day (UTC), by its name; false when it was done, or is being done by another copy of the program.
pub(crate) async fn claim_day(store: &Store, name: &str, now: Timestamp) -> Result<bool> {
    table::raise(store, name, now.as_ms().div_euclid(86_400_000)).await
}

/// Saves the signing secrets of a Stripe source.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_webhook_secrets(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    source: &Source,
    secrets: &[Secret],
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set_secrets(&mut tx, now, &source.key, secrets, false).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves the AnyTrack URL of a site: creates its destination, or corrects it, which heals everything still owed.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_anytrack_url(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    site_id: &str,
    url: &Secret,
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set_anytrack(&mut tx, now, site_id, url, false).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Most sites of an installation. A site's number has fifteen bits in a click ID; every page lists all of them.
pub const MAX_SITES: usize = 200;
/// Most sources.
pub const MAX_SOURCES: usize = 200;

/// What became of a new site.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there, with a Stripe source of the same key.
    Done,
    /// Another site, or another source, has this key.
    KeyTaken,
    /// There are [`MAX_SITES`] already.
    TooMany,
}

/// Adds a site under a key (checked by the caller: `[a-z0-9-]`, 1–32) and the Stripe source its payments come from.
/// Timezone and currency are the first site's until somebody changes them.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_site(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    key: &str,
    name: &str,
) -> Result<Added> {
    let snapshot = settings.current();
    if snapshot.sites.len() >= MAX_SITES {
        return Ok(Added::TooMany);
    }
    if snapshot.sources.iter().any(|source| source.key == key) {
        return Ok(Added::KeyTaken);
    }
    let first = snapshot.sites.first().context("there is no first site")?;
    let mut tx = store.begin().await?;
    let Some(site_id) = table::insert_site(&mut tx, now, key, name, first).await? else {
        return Ok(Added::KeyTaken);
    };
    table::ensure_source(&mut tx, now, &site_id, key, SourceKind::Stripe).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(Added::Done)
}

/// Adds a Stripe source of a site.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_source(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    key: &str,
    site_id: &str,
) -> Result<Added> {
    let snapshot = settings.current();
    if snapshot.sources.len() >= MAX_SOURCES {
        return Ok(Added::TooMany);
    }
    // A site brings a source of its key, so its key is taken too.
    if snapshot.sources.iter().any(|source| source.key == key)
        || snapshot.site_by_key(key).is_some()
    {
        return Ok(Added::KeyTaken);
    }
    let mut tx = store.begin().await?;
    table::ensure_source(&mut tx, now, site_id, key, SourceKind::Stripe).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(Added::Done)
}

/// Saves what an owner says of a source: its site, metadata key, mode, account, and whether bare payment intents count.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_source(store: &Store, settings: &Settings, source: &Source) -> Result<()> {
    let mut tx = store.begin().await?;
    table::update_source(&mut tx, source).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves the restricted API key of a source, or removes it.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_api_key(
    store: &Store,
    settings: &Settings,
    source: &Source,
    key: Option<&Secret>,
) -> Result<()> {
    let mut tx = store.begin().await?;
    table::set_api_key(&mut tx, &source.id, key).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Saves a site: its name, its timezone (IANA, checked by the caller), its first currency, its domains, its tag.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_site(store: &Store, settings: &Settings, site: &Site) -> Result<()> {
    let mut tx = store.begin().await?;
    table::update_site(&mut tx, site).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Most redirect links of an installation: all of them are in memory.
pub const MAX_LINKS: usize = 2000;

/// What a redirect link is made of; its values were checked by the caller.
#[derive(Clone, Debug)]
pub struct LinkDraft {
    /// `[a-z0-9-]`, 1–64.
    pub alias: String,
    /// The site whose visits it makes.
    pub site_id: String,
    /// What the owner calls it.
    pub name: String,
    /// See [`check_target`].
    pub target: String,
}

/// Adds a redirect link. False when another link has this alias.
///
/// # Errors
/// When the database cannot be written.
pub async fn add_link(
    store: &Store,
    settings: &Settings,
    now: Timestamp,
    draft: &LinkDraft,
) -> Result<bool> {
    let mut tx = store.begin().await?;
    let is_new = table::insert_link(&mut tx, now, draft).await?;
    tx.commit().await?;
    settings.reload(store).await?;
    Ok(is_new)
}

/// Saves a redirect link's name, target and pause. Its alias stays: it may be printed on paper.
///
/// # Errors
/// When the database cannot be written.
pub async fn save_link(store: &Store, settings: &Settings, link: &Link) -> Result<()> {
    let mut tx = store.begin().await?;
    table::update_link(&mut tx, link).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// Deletes a redirect link; its visits stay.
///
/// # Errors
/// When the database cannot be written.
pub async fn delete_link(store: &Store, settings: &Settings, id: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    table::delete_link(&mut tx, id).await?;
    tx.commit().await?;
    settings.reload(store).await
}

/// A value that exists once per installation (setup token, …): the stored one, or `value` now stored.
///
/// # Errors
/// When the database cannot be written.
pub async fn get_or_set(store: &Store, name: &str, value: &str) -> Result<String> {
    let mut tx = store.begin().await?;
    let stored = table::get_or_set(&mut tx, name, value).await?;
    tx.commit().await?;
    Ok(stored)
}

/// True for the token of a record in `api_tokens`; only hashes are stored.
///
/// # Errors
/// When the database does not answer.
pub async fn is_api_token(store: &Store, token: &str) -> Result<bool> {
    table::has_api_token(store, &ids::sha256_hex(token.as_bytes())).await
}

/// What may be shown of a secret URL: scheme, host and the last four characters.
pub fn mask_url(url: &Secret) -> String {
    let text = url.expose();
    let shown = url::Url::parse(text).ok().and_then(|url| {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
    });
    format!("{}/…{}", shown.unwrap_or_default(), url.tail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_url_shows_host_and_tail_only() {
        let url = Secret::new("https://t1.anytrack.io/abc123/collect/secret-slug-k7Qe");
        assert_eq!(mask_url(&url), "https://t1.anytrack.io/…k7Qe");
    }

    #[test]
    fn options_read_from_an_empty_object() {
        let options: DestinationOptions = serde_json::from_str("{}").unwrap();
        assert!(
            options.falls_back_to_our_click_id && options.sends_unmatched && !options.sends_trials
        );
        assert_eq!(options.refuse_if_body_contains.len(), 3);
    }
}
