//! All settings as of one moment, in memory.
//! Takes the database's rows; returns what every handler needs, without a query.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context as _, Result};

use super::{Destination, Link, Postback, Site, Source, SourceKind, table};
use crate::store::{Store, Tx};

/// All settings as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The revision of the settings; increases with every change.
    pub(crate) revision: i64,
    /// In the order they were added; never empty after the first start.
    pub sites: Vec<Site>,
    /// In the order they were added.
    pub sources: Vec<Source>,
    /// In the order they were added.
    pub destinations: Vec<Arc<Destination>>,
    /// Redirect links, newest first.
    pub links: Vec<Link>,
    /// One for each postback source.
    pub postbacks: Vec<Postback>,
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

    /// The site with the number in a click ID.
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

    /// The Stripe source of a site; the first if there are several.
    pub fn stripe_source_of(&self, site_id: &str) -> Option<&Source> {
        self.stripe_sources().find(|source| source.site_id == site_id)
    }

    /// The source for events of a site's pages; `None` before the first event.
    pub fn page_source(&self, site_id: &str) -> Option<&Source> {
        self.sources
            .iter()
            .find(|source| source.site_id == site_id && source.kind == SourceKind::Page)
    }

    /// The account as the ledger stores it: the account of a source has no name there, whichever
    /// way its event arrived.
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

    /// The AnyTrack destination of a site; the first if there are several.
    pub fn anytrack_of<'a>(&'a self, site_id: &'a str) -> Option<&'a Destination> {
        self.destinations_of(site_id).find(|found| found.is_anytrack())
    }

    /// True if the server registers visits of a site with a destination: only then is the browser's
    /// whole user agent stored.
    pub fn registers_visits(&self, site_id: &str) -> bool {
        self.destinations_of(site_id).any(|found| found.options.anytrack.registers_visits)
    }

    /// The destinations for a site's conversions: its own, and those of other sites that ask for
    /// them.
    pub fn destinations_about<'a>(
        &'a self,
        site: &'a Site,
    ) -> impl Iterator<Item = &'a Destination> {
        let all = self.destinations.iter().map(Arc::as_ref);
        all.filter(|found| {
            found.site_id == site.id || found.options.events.sites.contains(&site.key)
        })
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

/// The current snapshot, shared by all handlers and workers.
#[derive(Clone, Debug, Default)]
pub struct Settings(Arc<RwLock<Arc<Snapshot>>>);

impl Settings {
    /// Reads all records.
    ///
    /// # Errors
    /// Fails if the database does not answer, or has a record that this version can't read.
    pub async fn load(store: &Store) -> Result<Self> {
        let settings = Self::default();
        settings.reload(store).await?;
        Ok(settings)
    }

    /// The records as of the last reload.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads all records again, as of one moment. Called after a change by this process.
    ///
    /// # Errors
    /// As [`Settings::load`]; the old records stay in use.
    pub async fn reload(&self, store: &Store) -> Result<()> {
        let mut reading = store.begin_reading().await?;
        let snapshot = table::load(&mut reading).await.context("could not read the settings")?;
        reading.end().await?;
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another task may have read a later state meanwhile.
        if snapshot.revision >= current.revision {
            *current = Arc::new(snapshot);
        }
        Ok(())
    }

    /// Reads all records again if another copy of the program or a command changed them.
    ///
    /// # Errors
    /// As [`Settings::reload`].
    pub async fn refresh(&self, store: &Store) -> Result<()> {
        let revision = table::revision(&mut *store.connection().await?).await?;
        if revision == self.current().revision { Ok(()) } else { self.reload(store).await }
    }

    /// Begins a transaction that writes what depends on the settings, and returns the settings as
    /// of that moment. No other copy of the program can change them before it ends. The transaction
    /// must not wait for [`super::begin_change`].
    ///
    /// # Errors
    /// Fails if the database does not answer.
    pub(crate) async fn begin(&self, store: &Store) -> Result<(Tx, Arc<Snapshot>)> {
        let mut tx = store.begin().await?;
        tx.keep_settings().await?;
        let current = self.current();
        if table::revision(&mut tx).await? == current.revision {
            return Ok((tx, current));
        }
        let loaded = table::load(&mut tx).await.context("could not read the settings")?;
        let loaded = Arc::new(loaded);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = loaded.clone();
        Ok((tx, loaded))
    }
}
